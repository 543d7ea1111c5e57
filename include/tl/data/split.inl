// Definitions of split.hpp.
#pragma once
#include <regex.h>

#include <algorithm>
#include <cmath>
#include <functional>
#include <map>
#include <optional>
#include <string_view>
#include <unordered_map>

#include "tl/core/error.hpp"
#include "tl/core/random.hpp"
#include "tl/data/split.hpp"
#include "tl/io/file.hpp"

namespace tl::inline TL_ABI {
namespace detail {

TL_INLINE void check_fraction(double fraction) {
  require<UsageError>(fraction > 0 && fraction < 1, "split: expected a val_fraction between 0 and 1, got ", fraction);
}

/// The indices of each class, in random order that depends on the seed and on the class.
TL_INLINE std::map<int64_t, std::vector<int64_t>> shuffled_classes(std::span<const int64_t> labels, uint64_t seed) {
  std::map<int64_t, std::vector<int64_t>> classes;
  for (size_t i = 0; i < labels.size(); ++i) classes[labels[i]].push_back(static_cast<int64_t>(i));
  for (auto& [label, indices] : classes) Generator(seed, static_cast<uint64_t>(label)).shuffle(indices);
  return classes;
}

/// A compiled POSIX regular expression.
class Regex {
 public:
  explicit Regex(const std::string& pattern) {
    const int status = ::regcomp(&compiled_, pattern.c_str(), REG_EXTENDED);
    if (status == 0) return;
    char reason[256];
    ::regerror(status, &compiled_, reason, sizeof reason);
    fail<UsageError>("group regex ", pattern, ": ", std::string_view(reason));
  }
  ~Regex() { ::regfree(&compiled_); }
  Regex(const Regex&) = delete;
  Regex& operator=(const Regex&) = delete;

  /// Sets `group` to the first subexpression, or to the whole match if there is none; false without a match.
  bool match(const std::string& text, std::string& group) const {
    regmatch_t matches[2];
    if (::regexec(&compiled_, text.c_str(), 2, matches, 0) != 0) return false;
    const regmatch_t& found = matches[matches[1].rm_so >= 0 ? 1 : 0];
    group = text.substr(static_cast<size_t>(found.rm_so), static_cast<size_t>(found.rm_eo - found.rm_so));
    return true;
  }

 private:
  regex_t compiled_;
};

TL_INLINE std::string read_picture(const Sample& sample) {
  return read_file(sample.path, static_cast<uint64_t>(ImageOptions().max_file_bytes));
}

}  // namespace detail

TL_INLINE SplitIndices split_indices(std::span<const int64_t> labels, const SplitOptions& options) {
  detail::check_fraction(options.val_fraction);
  SplitIndices out;
  for (const auto& [label, indices] : detail::shuffled_classes(labels, options.seed)) {
    const auto size = static_cast<int64_t>(indices.size());
    auto val = static_cast<int64_t>(std::nearbyint(static_cast<double>(size) * options.val_fraction));
    val = size < 2 ? 0 : std::clamp(val, int64_t{1}, size - 1);
    out.val.insert(out.val.end(), indices.begin(), indices.begin() + val);
    out.train.insert(out.train.end(), indices.begin() + val, indices.end());
  }
  std::sort(out.train.begin(), out.train.end());
  std::sort(out.val.begin(), out.val.end());
  return out;
}

TL_INLINE SplitIndices split_indices(std::span<const int64_t> labels, std::span<const std::string> groups,
                                     const SplitOptions& options) {
  detail::check_fraction(options.val_fraction);
  require<UsageError>(labels.size() == groups.size(), "split: expected a group for each of ", labels.size(),
                      " samples, got ", groups.size());
  std::map<std::string_view, std::vector<int64_t>> by_group;
  for (size_t i = 0; i < groups.size(); ++i) by_group[groups[i]].push_back(static_cast<int64_t>(i));
  require<UsageError>(by_group.size() >= 2, "split: all ", labels.size(), " samples are of one group",
                      groups.empty() ? "" : ", ", groups.empty() ? "" : groups[0],
                      ". Hint: the group regex must tell groups apart.");
  std::vector<const std::vector<int64_t>*> order;
  for (const auto& [name, members] : by_group) order.push_back(&members);
  Generator generator(options.seed);
  generator.shuffle(order);
  std::stable_sort(order.begin(), order.end(), [](const auto* a, const auto* b) { return a->size() > b->size(); });

  std::map<int64_t, double> missing;  // validation samples of each class still wanted
  for (const int64_t label : labels) missing[label] += options.val_fraction;
  SplitIndices out;
  for (const auto* members : order) {
    std::map<int64_t, double> counts;
    for (const int64_t i : *members) counts[labels[static_cast<size_t>(i)]] += 1;
    double gain = 0;  // how much nearer the squared distance to the wish comes
    for (const auto& [label, count] : counts) gain += count * (2 * missing[label] - count);
    auto& side = gain > 0 ? out.val : out.train;
    side.insert(side.end(), members->begin(), members->end());
    if (gain <= 0) continue;
    for (const auto& [label, count] : counts) missing[label] -= count;
  }
  // With few groups all may have been too large, or (at a large fraction) all wanted: the last, smallest one decides.
  auto& last = *order.back();
  if (out.val.empty() || out.train.empty()) {
    auto& from = out.val.empty() ? out.train : out.val;
    (out.val.empty() ? out.val : out.train) = last;
    from.resize(from.size() - last.size());
  }
  std::sort(out.train.begin(), out.train.end());
  std::sort(out.val.begin(), out.val.end());
  return out;
}

TL_INLINE std::vector<int64_t> subset_indices(std::span<const int64_t> labels, int64_t count, uint64_t seed) {
  require<UsageError>(count >= 1, "subset: expected at least 1 sample a class, got ", count);
  std::vector<int64_t> out;
  for (const auto& [label, indices] : detail::shuffled_classes(labels, seed)) {
    const int64_t kept = std::min(count, static_cast<int64_t>(indices.size()));
    out.insert(out.end(), indices.begin(), indices.begin() + kept);
  }
  std::sort(out.begin(), out.end());
  return out;
}

TL_INLINE std::vector<std::string> groups_by_regex(const Samples& samples, const std::string& pattern) {
  require<UsageError>(pattern.find("\\d") == std::string::npos && pattern.find("(?") == std::string::npos,
                      "group regex ", pattern, ": expected POSIX extended syntax: [0-9] for \\d, (...) for (?:...)");
  const detail::Regex regex(pattern);
  std::vector<std::string> groups(samples.items.size());
  int64_t unmatched = 0;
  std::string example;
  for (size_t i = 0; i < groups.size(); ++i)
    if (!regex.match(samples.items[i].path, groups[i]) && unmatched++ == 0) example = samples.items[i].path;
  require<UsageError>(unmatched == 0, "group regex ", pattern, ": it does not match ", unmatched, " of ", groups.size(),
                      " paths, such as ", example);
  return groups;
}

TL_INLINE Samples select(const Samples& samples, std::span<const int64_t> indices) {
  Samples out;
  out.classes = samples.classes;
  for (const int64_t i : indices) {
    require<UsageError>(i >= 0 && i < samples.size(), "select: expected indices below ", samples.size(), ", got ", i);
    out.items.push_back(samples.items[static_cast<size_t>(i)]);
  }
  return out;
}

TL_INLINE TrainVal split(const Samples& samples, const SplitOptions& options, const std::string& group_regex) {
  const auto labels = samples.labels();
  const SplitIndices indices = group_regex.empty()
                                   ? split_indices(labels, options)
                                   : split_indices(labels, groups_by_regex(samples, group_regex), options);
  return {select(samples, indices.train), select(samples, indices.val)};
}

TL_INLINE EqualPairs equal_pictures(const Samples& train, const Samples& val) {
  // Only files of a size that occurs on both sides are read, and only those of equal hash are compared.
  const auto hash = [](const Sample& sample) { return std::hash<std::string>()(detail::read_picture(sample)); };
  std::unordered_map<uint64_t, std::vector<int64_t>> by_size;
  for (int64_t i = 0; i < train.size(); ++i) by_size[file_size(train.items[static_cast<size_t>(i)].path)].push_back(i);
  std::vector<std::optional<size_t>> hashes(train.items.size());
  EqualPairs pairs;
  for (int64_t j = 0; j < val.size(); ++j) {
    const Sample& picture = val.items[static_cast<size_t>(j)];
    const auto found = by_size.find(file_size(picture.path));
    if (found == by_size.end()) continue;
    const size_t picture_hash = hash(picture);
    for (const int64_t i : found->second) {
      const Sample& trained = train.items[static_cast<size_t>(i)];
      auto& trained_hash = hashes[static_cast<size_t>(i)];
      if (!trained_hash) trained_hash = hash(trained);
      if (*trained_hash != picture_hash || detail::read_picture(trained) != detail::read_picture(picture)) continue;
      pairs.emplace_back(i, j);
      break;
    }
  }
  return pairs;
}

TL_INLINE EqualPairs equal_rows(std::span<const uint8_t> train, std::span<const uint8_t> val, int64_t row_bytes) {
  require<UsageError>(row_bytes > 0 && train.size() % static_cast<size_t>(row_bytes) == 0 &&
                          val.size() % static_cast<size_t>(row_bytes) == 0,
                      "equal_rows: expected whole rows of ", row_bytes, " bytes, got ", train.size(), " and ",
                      val.size());
  const auto row = [&](std::span<const uint8_t> bytes, int64_t i) {
    return std::string_view(reinterpret_cast<const char*>(bytes.data()) + i * row_bytes,
                            static_cast<size_t>(row_bytes));
  };
  std::unordered_map<std::string_view, int64_t> trained;
  for (int64_t i = 0; i < static_cast<int64_t>(train.size()) / row_bytes; ++i) trained.emplace(row(train, i), i);
  EqualPairs pairs;
  for (int64_t j = 0; j < static_cast<int64_t>(val.size()) / row_bytes; ++j)
    if (const auto found = trained.find(row(val, j)); found != trained.end()) pairs.emplace_back(found->second, j);
  return pairs;
}

}  // namespace tl::inline TL_ABI
