// Dividing samples: for validation, by class, by group; and finding pictures that lie on both sides.
#pragma once
#include <cstdint>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "tl/core/config.hpp"
#include "tl/data/image_folder.hpp"

namespace tl::inline TL_ABI {

/// Indices of samples, ascending.
struct SplitIndices {
  std::vector<int64_t> train, val;
};

struct SplitOptions {
  double val_fraction = 0.2;
  uint64_t seed = 0;
};

/// Divides samples so that each class has `val_fraction` of its samples in validation, rounded, but at least one on
/// either side if it has two. Which ones depends on the seed alone.
/// Errors: UsageError unless 0 < val_fraction < 1.
/// scikit-learn: `train_test_split(stratify=labels)`.
SplitIndices split_indices(std::span<const int64_t> labels, const SplitOptions& options = {});

/// The same, but samples of equal `groups[i]` (a patient, a radiograph) stay on one side. Groups go to validation one
/// after the other, large ones first, whenever that brings its number of samples of each class nearer to the fraction.
/// Errors: UsageError also for fewer than two groups.
SplitIndices split_indices(std::span<const int64_t> labels, std::span<const std::string> groups,
                           const SplitOptions& options = {});

/// `count` random samples of each class (all of a class that has fewer), ascending.
std::vector<int64_t> subset_indices(std::span<const int64_t> labels, int64_t count, uint64_t seed);

/// The group of each path: the first (...) of the regular expression, or the whole match if it has none.
/// POSIX extended syntax, as grep -E: [0-9], not \d. Applied to the path as it is listed, folder included.
/// Errors: UsageError for a broken expression, and for paths that it does not match.
std::vector<std::string> groups_by_regex(const Samples& samples, const std::string& pattern);

/// The samples with these indices.
Samples select(const Samples& samples, std::span<const int64_t> indices);

struct TrainVal {
  Samples train, val;
};

/// Divides pictures into training and validation; an empty `group_regex` means that each stands for itself.
TrainVal split(const Samples& samples, const SplitOptions& options = {}, const std::string& group_regex = "");

/// Pairs (training, validation) of equal items, one for each validation item that is also trained on.
using EqualPairs = std::vector<std::pair<int64_t, int64_t>>;

/// Finds pictures whose files hold the same bytes; files are compared in full, not by a checksum alone.
/// Errors: IoError when a file cannot be read.
EqualPairs equal_pictures(const Samples& train, const Samples& val);

/// The same for rows of `row_bytes` in memory.
EqualPairs equal_rows(std::span<const uint8_t> train, std::span<const uint8_t> val, int64_t row_bytes);

}  // namespace tl::inline TL_ABI

#if TL_HEADER_ONLY
#include "tl/data/split.inl"
#endif
