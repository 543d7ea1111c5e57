// Definitions of train/tensorboard.hpp.
#pragma once
#include <unistd.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <bit>
#include <chrono>
#include <cmath>
#include <filesystem>
#include <map>
#include <system_error>
#include <utility>

#include "tl/core/error.hpp"
#include "tl/core/utf8.hpp"
#include "tl/train/tensorboard.hpp"

namespace tl::inline TL_ABI {
namespace detail {

/// CRC-32C (polynomial 0x1edc6f41, reflected), as iSCSI and TFRecord use it.
inline uint32_t crc32c(std::string_view bytes) {
  static const auto table = [] {
    std::array<uint32_t, 256> out{};
    for (uint32_t byte = 0; byte < 256; ++byte) {
      uint32_t crc = byte;
      for (int bit = 0; bit < 8; ++bit) crc = (crc >> 1) ^ (crc & 1 ? 0x82f63b78u : 0u);
      out[byte] = crc;
    }
    return out;
  }();
  uint32_t crc = ~0u;
  for (const char c : bytes) crc = (crc >> 8) ^ table[(crc ^ static_cast<uint8_t>(c)) & 0xff];
  return ~crc;
}

/// The lowest `bytes` bytes of a number, the lowest first.
inline std::string little_endian(uint64_t value, int bytes) {
  std::string out;
  for (int i = 0; i < bytes; ++i) out += static_cast<char>(value >> (8 * i) & 0xff);
  return out;
}

/// A checksum of data that holds checksums would be weak; TFRecord rotates it and adds a constant.
inline std::string masked_checksum(std::string_view bytes) {
  return little_endian(std::rotr(crc32c(bytes), 15) + 0xa282ead8u, 4);
}

/// A message of protocol buffers: fields by number, in the order in which they are added.
class ProtoMessage {
 public:
  ProtoMessage& integer(int field, int64_t value) {
    key(field, 0);
    varint(static_cast<uint64_t>(value));
    return *this;
  }
  ProtoMessage& number(int field, double value) {
    key(field, 1);
    bytes_ += little_endian(std::bit_cast<uint64_t>(value), 8);
    return *this;
  }
  ProtoMessage& number(int field, float value) {
    key(field, 5);
    bytes_ += little_endian(std::bit_cast<uint32_t>(value), 4);
    return *this;
  }
  /// A text, bytes, another message, or packed numbers.
  ProtoMessage& bytes(int field, std::string_view content) {
    key(field, 2);
    varint(content.size());
    bytes_ += content;
    return *this;
  }
  ProtoMessage& message(int field, const ProtoMessage& content) { return bytes(field, content.bytes_); }
  ProtoMessage& numbers(int field, std::span<const double> values) {
    std::string packed;
    for (const double value : values) packed += little_endian(std::bit_cast<uint64_t>(value), 8);
    return bytes(field, packed);
  }
  const std::string& bytes() const { return bytes_; }

 private:
  void key(int field, int type) { varint(static_cast<uint64_t>(field) << 3 | static_cast<uint64_t>(type)); }
  void varint(uint64_t value) {
    for (; value >= 0x80; value >>= 7) bytes_ += static_cast<char>((value & 0x7f) | 0x80);
    bytes_ += static_cast<char>(value);
  }

  std::string bytes_;
};

/// tensorflow.Event, up to what differs.
inline ProtoMessage event() {
  const auto now = std::chrono::system_clock::now().time_since_epoch();
  return ProtoMessage().number(1, std::chrono::duration<double>(now).count());  // wall_time
}

/// tensorflow.Summary.Value with its tag alone.
inline ProtoMessage summary_value(std::string_view tag) {
  const std::string name = core_detail::clean_utf8(tag);
  return ProtoMessage().bytes(1, name.empty() ? "value" : name);
}

/// A Summary.Value of texts: a tensor [shape] of the text plug-in.
inline ProtoMessage text_value(std::string_view tag, std::initializer_list<int64_t> shape,
                               const std::vector<std::string_view>& texts) {
  constexpr int64_t kString = 7, kTensorClass = 2;  // DataType.DT_STRING, DataClass.DATA_CLASS_TENSOR
  ProtoMessage dims, tensor;
  for (const int64_t size : shape) dims.message(2, ProtoMessage().integer(1, size));
  tensor.integer(1, kString).message(2, dims);
  for (const std::string_view item : texts) tensor.bytes(8, core_detail::clean_utf8(item, "\n\t"));
  const auto plugin = ProtoMessage().bytes(1, "text");
  return summary_value(tag).message(9, ProtoMessage().message(1, plugin).integer(4, kTensorClass)).message(8, tensor);
}

/// tensorflow.HistogramProto: counts between limits +- 1e-12 * 1.1^k, of which those stay that touch a count.
inline ProtoMessage histogram_of(std::span<const float> values) {
  constexpr double kSmallest = 1e-12, kGrowth = 1.1;
  constexpr int kMost = 775;  // 1.1^775 * 1e-12 = 1.2e20; what is larger belongs there as well
  // Bucket 0 is (-smallest, smallest], k > 0 ends at smallest * growth^k, and -k begins at minus that.
  std::map<int, int64_t> counts;
  double low = 0, high = 0, sum = 0, squares = 0;
  int64_t count = 0;
  for (const float given : values) {
    const auto value = static_cast<double>(given);
    if (!std::isfinite(value)) continue;
    low = count == 0 ? value : std::min(low, value);
    high = count == 0 ? value : std::max(high, value);
    sum += value;
    squares += value * value;
    ++count;
    const double size = std::abs(value);
    const int bucket =
        size <= kSmallest ? 0 : static_cast<int>(std::ceil(std::log(size / kSmallest) / std::log(kGrowth)));
    counts[std::copysign(1.0, value) < 0 ? -std::min(bucket, kMost) : std::min(bucket, kMost)] += 1;
  }
  const auto upper_limit = [](int bucket) {
    if (bucket >= 0) return kSmallest * std::pow(kGrowth, bucket);
    return -kSmallest * std::pow(kGrowth, -bucket - 1);
  };
  std::vector<double> limits, sizes;
  int last = 0;
  for (const auto& [bucket, of_bucket] : counts) {
    if (limits.empty() || bucket > last + 1) {  // an empty bucket before says where this one begins
      limits.push_back(upper_limit(bucket - 1));
      sizes.push_back(0);
    }
    limits.push_back(upper_limit(bucket));
    sizes.push_back(static_cast<double>(of_bucket));
    last = bucket;
  }
  return ProtoMessage()
      .number(1, low)
      .number(2, high)
      .number(3, static_cast<double>(count))
      .number(4, sum)
      .number(5, squares)
      .numbers(6, limits)
      .numbers(7, sizes);
}

inline AppendedFile new_event_file(const std::string& folder) {
  static std::atomic<unsigned> counter{0};
  std::error_code error;
  std::filesystem::create_directories(folder, error);
  require<IoError>(!error, "cannot make the folder ", folder, ": ", error.message());
  const auto now = std::chrono::system_clock::now().time_since_epoch();
  return AppendedFile(text(folder, "/events.out.tfevents.", std::chrono::floor<std::chrono::seconds>(now).count(),
                           ".tl.", ::getpid(), ".", counter.fetch_add(1)));
}

}  // namespace detail

TL_INLINE EventWriter::EventWriter(const std::string& folder) : file_(detail::new_event_file(folder)) {
  add_record(detail::event().bytes(3, "brain.Event:2").bytes());  // file_version
  flush();
}

TL_INLINE EventWriter::~EventWriter() {
  try {
    flush();
  } catch (const IoError&) {  // a destructor has nobody to tell
  }
}

TL_INLINE void EventWriter::add_record(const std::string& event) {
  const std::string length = detail::little_endian(event.size(), 8);
  pending_ += length + detail::masked_checksum(length) + event + detail::masked_checksum(event);
}

TL_INLINE void EventWriter::add_value(const std::string& value, int64_t step) {
  const auto summary = detail::ProtoMessage().bytes(1, value);
  add_record(detail::event().integer(2, step).message(5, summary).bytes());
}

TL_INLINE void EventWriter::add_scalar(std::string_view tag, double value, int64_t step) {
  add_value(detail::summary_value(tag).number(2, static_cast<float>(value)).bytes(), step);
}

TL_INLINE void EventWriter::add_histogram(std::string_view tag, std::span<const float> values, int64_t step) {
  add_value(detail::summary_value(tag).message(5, detail::histogram_of(values)).bytes(), step);
}

TL_INLINE void EventWriter::add_text(std::string_view tag, std::string_view markdown, int64_t step) {
  add_value(detail::text_value(tag, {1}, {markdown}).bytes(), step);
}

TL_INLINE void EventWriter::add_table(std::string_view tag,
                                      const std::vector<std::pair<std::string, std::string>>& rows, int64_t step) {
  std::vector<std::string_view> texts;
  for (const auto& [name, value] : rows) texts.insert(texts.end(), {name, value});
  add_value(detail::text_value(tag, {static_cast<int64_t>(rows.size()), 2}, texts).bytes(), step);
}

TL_INLINE void EventWriter::flush() {
  if (pending_.empty()) return;
  file_.append(pending_);
  pending_.clear();
}

TL_INLINE void add_epoch(EventWriter& events, const EpochRecord& epoch) {
  const auto add = [&](const std::string& tag, double value) {
    if (!std::isnan(value)) events.add_scalar(tag, value, epoch.epoch);
  };
  add("loss/train", epoch.train_loss);
  add("loss/val", epoch.val_loss);
  add("accuracy/train", epoch.train_accuracy);
  add("accuracy/val", epoch.val_accuracy);
  for (const auto& [group, rate] : epoch.rates) add("rate/" + group, rate);
  for (const auto& [name, value] : epoch.extras) add(name, value);
  add("run/seconds", epoch.seconds);
  add("run/peak_bytes", static_cast<double>(epoch.peak_bytes));
  add("run/trainable_parameters", static_cast<double>(epoch.trainable_parameters));
}

}  // namespace tl::inline TL_ABI
