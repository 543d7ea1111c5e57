// Definitions of log.hpp.
#pragma once
#include <algorithm>
#include <charconv>
#include <cmath>
#include <limits>
#include <numeric>

#include "tl/core/error.hpp"
#include "tl/io/file.hpp"
#include "tl/train/log.hpp"
#include "tl/train/log_json.inl"

namespace tl::inline TL_ABI {
namespace detail {

/// Reads values by key; absent ones keep what they have.
class JsonReader {
 public:
  JsonReader(const Json& object, const std::string& source, const std::string& part)
      : object_(object), source_(source), part_(part) {
    if (!object.is_object()) refuse("expected an object");
  }

  void read(const char* key, double& out) const {
    if (const Json* value = find(key)) out = number(key, *value);
  }
  void read(const char* key, std::string& out) const {
    const Json* value = find(key);
    if (!value) return;
    if (!value->is_string()) refuse(text(key, " is no string"));
    out = value->get<std::string>();
  }
  template <class Integer>
  void read_integer(const char* key, Integer& out) const {
    const Json* value = find(key);
    if (!value) return;
    // A number beyond 64 bits is parsed as floating, a negative one as signed.
    const bool fits = value->is_number_unsigned() && value->get<uint64_t>() <= std::numeric_limits<Integer>::max();
    if (!fits) refuse(text(key, " is no whole number in range"));
    out = value->get<Integer>();
  }
  void read(const char* key, NamedValues& out) const {
    const Json* pairs = find(key);
    if (!pairs) return;
    if (!pairs->is_array()) refuse(text(key, " is no list of pairs"));
    out.clear();
    for (const Json& pair : *pairs) {
      if (!pair.is_array() || pair.size() != 2 || !pair[0].is_string()) refuse(text(key, " is no list of pairs"));
      out.emplace_back(pair[0].get<std::string>(), number(key, pair[1]));
    }
  }
  const Json* find(const char* key) const {
    const auto found = object_.find(key);
    return found == object_.end() ? nullptr : &*found;
  }
  [[noreturn]] void refuse(const std::string& what) const { throw FormatError(source_, part_, 0, what); }

 private:
  double number(const char* key, const Json& value) const {
    if (value.is_null()) return kNoValue;
    if (!value.is_number()) refuse(text(key, " is no number"));
    return value.get<double>();
  }

  const Json& object_;
  const std::string& source_;
  const std::string part_;
};

/// A cell of a table, quoted where RFC 4180 asks for it.
inline std::string csv_cell(std::string_view content) {
  if (content.find_first_of(",\"\r\n") == content.npos) return std::string(content);
  std::string out = "\"";
  for (const char c : content) out += c == '"' ? "\"\"" : std::string(1, c);
  return out + '"';
}

inline std::string csv_cell(double value) {
  char buffer[32];
  if (std::isnan(value)) return "nan";  // to_chars would write the sign of a NaN
  return std::string(buffer, std::to_chars(buffer, buffer + sizeof buffer, value).ptr);
}

/// The names that occur in a list of any epoch, in order of appearance.
inline std::vector<std::string> names_of(const std::vector<EpochRecord>& epochs, NamedValues EpochRecord::*list) {
  std::vector<std::string> names;
  for (const EpochRecord& epoch : epochs)
    for (const auto& [name, value] : epoch.*list)
      if (std::find(names.begin(), names.end(), name) == names.end()) names.push_back(name);
  return names;
}

inline void write_text(const std::string& path, const std::string& content) {
  write_atomically(path, [&](FileWriter& out) { out.write(content); });
}

}  // namespace detail

TL_INLINE double RunLog::final_accuracy() const {
  return std::isnan(accuracy) && !epochs.empty() ? epochs.back().val_accuracy : accuracy;
}

TL_INLINE double RunLog::total_seconds() const {
  if (!std::isnan(seconds) || epochs.empty()) return seconds;
  return std::accumulate(epochs.begin(), epochs.end(), 0.0, [](double sum, const auto& e) { return sum + e.seconds; });
}

TL_INLINE int64_t RunLog::peak_bytes() const {
  int64_t peak = 0;
  for (const EpochRecord& epoch : epochs) peak = std::max(peak, epoch.peak_bytes);
  return peak;
}

TL_INLINE int64_t RunLog::trainable_parameters() const {
  return epochs.empty() ? 0 : epochs.back().trainable_parameters;
}

TL_INLINE const EpochRecord* RunLog::best_epoch() const {
  const EpochRecord* best = nullptr;
  for (const EpochRecord& epoch : epochs)
    if (better(epoch.val_accuracy, best ? best->val_accuracy : kNoValue)) best = &epoch;
  return best;
}

TL_INLINE std::string RunLog::to_json() const { return detail::dump(detail::json_of(*this)); }

TL_INLINE RunLog RunLog::from_json(std::string_view json, const std::string& source) {
  detail::Json parsed;
  try {
    parsed = detail::Json::parse(json);
  } catch (const detail::Json::parse_error& error) {
    throw FormatError(source, "", error.byte, "this is no JSON");
  } catch (const detail::Json::exception& error) {
    throw FormatError(source, "", 0, error.what());  // a number that no double holds
  }
  RunLog log;
  const detail::JsonReader reader(parsed, source, "");
  reader.read("name", log.name);
  reader.read_integer("seed", log.seed);
  reader.read("accuracy", log.accuracy);
  reader.read("seconds", log.seconds);
  const detail::Json* epochs = reader.find("epochs");
  if (!epochs) return log;
  if (!epochs->is_array()) reader.refuse("epochs is no list");
  for (const detail::Json& item : *epochs) {
    const detail::JsonReader record(item, source, text("epochs[", log.epochs.size(), "]"));
    EpochRecord& epoch = log.epochs.emplace_back();
    record.read_integer("epoch", epoch.epoch);
    record.read("train_loss", epoch.train_loss);
    record.read("train_accuracy", epoch.train_accuracy);
    record.read("val_loss", epoch.val_loss);
    record.read("val_accuracy", epoch.val_accuracy);
    record.read("rates", epoch.rates);
    record.read("extras", epoch.extras);
    record.read("seconds", epoch.seconds);
    record.read_integer("peak_bytes", epoch.peak_bytes);
    record.read_integer("trainable_parameters", epoch.trainable_parameters);
  }
  return log;
}

TL_INLINE std::string RunLog::to_csv() const {
  const auto groups = detail::names_of(epochs, &EpochRecord::rates);
  const auto extra_names = detail::names_of(epochs, &EpochRecord::extras);
  std::string out = "epoch,train_loss,train_accuracy,val_loss,val_accuracy,seconds,peak_bytes,trainable_parameters";
  for (const auto& group : groups) out += ',' + detail::csv_cell("rate:" + group);
  for (const auto& extra : extra_names) out += ',' + detail::csv_cell("extra:" + extra);
  out += '\n';

  const auto append = [&out](const NamedValues& values, const std::vector<std::string>& names) {
    for (const auto& wanted : names) {
      const auto found =
          std::find_if(values.begin(), values.end(), [&](const auto& pair) { return pair.first == wanted; });
      out += ',' + (found == values.end() ? "" : detail::csv_cell(found->second));
    }
  };
  for (const EpochRecord& e : epochs) {
    out += std::to_string(e.epoch);
    for (const double value : {e.train_loss, e.train_accuracy, e.val_loss, e.val_accuracy, e.seconds})
      out += ',' + detail::csv_cell(value);
    for (const int64_t value : {e.peak_bytes, e.trainable_parameters}) out += ',' + std::to_string(value);
    append(e.rates, groups);
    append(e.extras, extra_names);
    out += '\n';
  }
  return out;
}

TL_INLINE void RunLog::write_json(const std::string& path) const { detail::write_text(path, to_json()); }
TL_INLINE void RunLog::write_csv(const std::string& path) const { detail::write_text(path, to_csv()); }

}  // namespace tl::inline TL_ABI
