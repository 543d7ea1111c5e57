// How elements are shared out over a grid.
#pragma once
#include <algorithm>
#include <cstdint>

#include "device/execution.cuh"
#include "tl/core/config.hpp"

namespace tl::device {

inline constexpr unsigned kElementThreads = 256;

/// Calls body(i) for i = 0, step, 2 step, ... below n, each in one thread of the grid.
template <class Body>
TL_DEVICE void for_each_in_grid(int64_t n, int64_t step, const Body& body) {
  const int64_t threads = int64_t{grid_dim().x} * block_dim().x;
  const int64_t first = int64_t{block_idx().x} * block_dim().x + thread_idx().x;
  for (int64_t i = first * step; i < n; i += threads * step) body(i);
}

/// For launchers: a grid that gives each thread one item, or a few if there are very many.
inline LaunchShape grid_for(int64_t items) {
  constexpr int64_t kMostBlocks = 1 << 20;
  const int64_t blocks = (items + kElementThreads - 1) / kElementThreads;
  return {.grid = {static_cast<unsigned>(std::clamp<int64_t>(blocks, 1, kMostBlocks))}, .block = {kElementThreads}};
}

TL_HD constexpr int64_t ceil_div(int64_t a, int64_t b) { return (a + b - 1) / b; }

}  // namespace tl::device
