// Where buffers of known lifetimes lie in one block of memory.
#pragma once
#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <vector>

#include "tl/core/config.hpp"

namespace tl::inline TL_ABI {
namespace detail {

struct PlannedBuffer {
  static constexpr int64_t kEnd = std::numeric_limits<int64_t>::max();

  size_t bytes;
  int64_t first, last = kEnd;  ///< it is needed from `first` on, and before `last`
  size_t offset = 0;           ///< what the plan says

  bool meets(const PlannedBuffer& other) const { return first < other.last && other.first < last; }
};

/// Gives each buffer an offset, so that no two share a byte while both are needed; returns the bytes of the whole.
///
/// Largest first, each into the smallest sufficient gap between those placed before that it meets in time.
/// Paper: Pisarchyk and Lee, "Efficient memory management for deep neural net inference", 2020.
inline size_t plan_memory(std::vector<PlannedBuffer>& buffers) {
  std::vector<PlannedBuffer*> order;
  for (PlannedBuffer& buffer : buffers) order.push_back(&buffer);
  std::stable_sort(order.begin(), order.end(), [](auto* a, auto* b) { return a->bytes > b->bytes; });

  std::vector<PlannedBuffer*> placed;  // by offset
  size_t total = 0;
  for (PlannedBuffer* const buffer : order) {
    constexpr size_t kNone = std::numeric_limits<size_t>::max();
    size_t best = kNone, least = kNone, end = 0;
    for (const PlannedBuffer* const other : placed) {
      if (!buffer->meets(*other)) continue;
      if (other->offset >= end + buffer->bytes && other->offset - end < least) best = end, least = other->offset - end;
      end = std::max(end, other->offset + other->bytes);
    }
    buffer->offset = best == kNone ? end : best;
    total = std::max(total, buffer->offset + buffer->bytes);
    placed.insert(
        std::upper_bound(placed.begin(), placed.end(), buffer, [](auto* a, auto* b) { return a->offset < b->offset; }),
        buffer);
  }
  return total;
}

}  // namespace detail
}  // namespace tl::inline TL_ABI
