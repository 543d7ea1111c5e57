// Rows picked by index. Bound by memory.
#pragma once
#include "device/execution.cuh"
#include "device/grid.cuh"

namespace tl::device {

/// y[i, :] = x[index[i], :]
TL_KERNEL TL_LAUNCH_BOUNDS(kElementThreads) void gather_rows_v1(const float* x, const int32_t* index, float* y,
                                                                int64_t count, int64_t cols) {
  for_each_in_grid(count * cols, 1, [&](int64_t i) { y[i] = x[index[i / cols] * cols + i % cols]; });
}

/// x[index[i], :] += y[i, :]: one thread per column takes all i in order, so that rows that occur twice are summed in a
/// fixed order without atomics. Slow for many indices into few columns; sorting by index is the next rung.
TL_KERNEL TL_LAUNCH_BOUNDS(kElementThreads) void scatter_add_rows_v1(const float* y, const int32_t* index, float* x,
                                                                     int64_t count, int64_t cols, int32_t skip) {
  for_each_in_grid(cols, 1, [&](int64_t column) {
    for (int64_t i = 0; i < count; ++i) {
      if (index[i] != skip) x[index[i] * cols + column] += y[i * cols + column];
    }
  });
}

}  // namespace tl::device
