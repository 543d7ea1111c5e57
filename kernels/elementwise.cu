#include "elementwise.cuh"

#include <algorithm>
#include <cstdlib>

#include "launchers.hpp"

namespace tl::cuda {

using namespace device;

namespace {

constexpr std::size_t kPackBytes = 16;

template <class Function>
void unary_of(const UnaryArgs<float>& args) {
  if (all_aligned(kPackBytes, args.x, args.y)) {
    launch(unary_v2<Function>, grid_for(args.n / 4), args.x, args.y, args.n);
  } else {
    launch(unary_v1<Function>, grid_for(args.n), args.x, args.y, args.n);
  }
}

template <class Function>
void unary_backward_of(const UnaryBackwardArgs<float>& args) {
  if (all_aligned(kPackBytes, args.kept, args.grad_y, args.grad_x)) {
    launch(unary_backward_v2<Function>, grid_for(args.n / 4), args.kept, args.grad_y, args.grad_x, args.n);
  } else {
    launch(unary_backward_v1<Function>, grid_for(args.n), args.kept, args.grad_y, args.grad_x, args.n);
  }
}

template <class Function>
void binary_of(const BinaryArgs<float>& args, const Nest& nest) {
  const bool one_a = nest.rank == 0 || nest.stride_a[0] == 0, one_b = nest.rank == 0 || nest.stride_b[0] == 0;
  const bool aligned = (one_a || all_aligned(kPackBytes, args.a)) && (one_b || all_aligned(kPackBytes, args.b)) &&
                       all_aligned(kPackBytes, args.y);
  if (!nest.is_flat() || !aligned) {
    launch(binary_v1<Function>, grid_for(nest.numel), args.a, args.b, args.y, nest);
    return;
  }
  const auto kernel = one_a ? (one_b ? binary_v2<Function, true, true> : binary_v2<Function, true, false>)
                            : (one_b ? binary_v2<Function, false, true> : binary_v2<Function, false, false>);
  launch(kernel, grid_for(nest.numel / 4), args.a, args.b, args.y, nest.numel);
}

}  // namespace

void unary(const UnaryArgs<float>& args) {
  if (args.n == 0) return;
  with_function(args.function, [&](auto function) { unary_of<decltype(function)>(args); });
}

void unary_backward(const UnaryBackwardArgs<float>& args) {
  if (args.n == 0) return;
  with_function(args.function, [&](auto function) { unary_backward_of<decltype(function)>(args); });
}

void binary(const BinaryArgs<float>& args) {
  const Nest nest = Nest::merged(args.rank, args.shape, args.stride_a, args.stride_b);
  if (nest.numel == 0) return;
  with_function(args.function, [&](auto function) { binary_of<decltype(function)>(args, nest); });
}

void binary_backward(const BinaryBackwardArgs<float>& args) {
  const Nest nest = Nest::merged(args.rank, args.shape, args.stride_a, args.stride_b);
  if (nest.numel == 0) return;
  with_function(args.function, [&](auto function) {
    launch(binary_backward_v1<decltype(function)>, grid_for(nest.numel), args.a, args.b, args.grad_y, args.grad_a,
           args.grad_b, nest);
  });
}

void affine(const AffineArgs<float>& args) {
  if (args.n == 0) return;
  const bool read_x = args.alpha != 0, read_y = args.beta != 0;
  const auto kernel = read_x ? (read_y ? affine_v1<true, true> : affine_v1<true, false>)
                             : (read_y ? affine_v1<false, true> : affine_v1<false, false>);
  launch(kernel, grid_for(args.n), args.x, args.y, args.n, args.alpha, args.beta, args.gamma);
}

namespace {

/// Whether two places of the nest may be the same in operand b. They are not if each step reaches beyond all that the
/// smaller ones cover.
bool overlaps_in_b(const Nest& nest) {
  for (int d = 0; d < nest.rank; ++d) {
    const int64_t step = std::abs(nest.stride_b[d]);
    int64_t covered = 0;
    for (int e = 0; e < nest.rank; ++e) {
      const int64_t other = std::abs(nest.stride_b[e]);
      if (e != d && (other < step || (other == step && e > d))) covered += (nest.shape[e] - 1) * other;
    }
    if (step <= covered) return true;
  }
  return false;
}

/// The dimension along which x is contiguous while y is along the last one; -1 if this is no transpose.
int transposed_dimension(const Nest& nest) {
  const int last = nest.rank - 1;
  if (nest.rank < 2 || nest.stride_b[last] != 1 || nest.stride_a[last] == 1) return -1;
  for (int d = 0; d < last; ++d) {
    if (nest.stride_a[d] == 1 && nest.shape[d] >= kTile / 2 && nest.shape[last] >= kTile / 2) return d;
  }
  return -1;
}

void copy_transposed(const CopyStridedArgs<float>& args, const Nest& nest, int along_x) {
  const int last = nest.rank - 1;
  Nest matrices;
  for (int d = 0; d < last; ++d) {
    if (d == along_x) continue;
    matrices.append(nest.shape[d], nest.stride_a[d], nest.stride_b[d]);
    matrices.numel *= nest.shape[d];
  }
  constexpr int64_t kMostInZ = 65535;
  const int64_t rows = nest.shape[along_x], cols = nest.shape[last];
  const LaunchShape shape{
      .grid = {static_cast<unsigned>(ceil_div(cols, kTile)), static_cast<unsigned>(ceil_div(rows, kTile)),
               static_cast<unsigned>(std::min(matrices.numel, kMostInZ))},
      .block = {kTile, kTileRows}};
  launch(copy_transposed_v2, shape, args.x, args.y, rows, cols, nest.stride_a[last], nest.stride_b[along_x], matrices,
         args.accumulate);
}

}  // namespace

void copy_strided(const CopyStridedArgs<float>& args) {
  const Nest nest = Nest::merged(args.rank, args.shape, args.stride_x, args.stride_y);
  if (nest.numel == 0) return;

  // Dimensions that y repeats are summed by one thread, in order.
  Nest parallel, in_order;
  for (int d = 0; d < nest.rank; ++d) {
    Nest& part = nest.stride_b[d] == 0 ? in_order : parallel;
    part.append(nest.shape[d], nest.stride_a[d], nest.stride_b[d]);
    part.numel *= nest.shape[d];
  }
  if (overlaps_in_b(parallel)) {
    in_order = nest;
    parallel = Nest{};
  }
  constexpr int64_t kMostTilesInY = 65535;
  const int along_x = transposed_dimension(nest);
  if (in_order.rank == 0 && along_x >= 0 && ceil_div(nest.shape[along_x], kTile) <= kMostTilesInY) {
    copy_transposed(args, nest, along_x);
  } else {
    launch(copy_strided_v1, grid_for(parallel.numel), args.x, args.y, parallel, in_order, args.accumulate);
  }
}

void dropout(const DropoutArgs<float>& args) {
  if (args.n == 0) return;
  const float scale = args.probability < 1 ? 1.0f / (1.0f - args.probability) : 0.0f;
  if (args.group == 1) {
    launch(dropout_v2, grid_for(ceil_div(args.n, 4)), args.x, args.y, args.n, args.probability, scale, args.seed,
           args.counter);
  } else {
    launch(dropout_v1, grid_for(args.n), args.x, args.y, args.n, args.group, args.probability, scale, args.seed,
           args.counter);
  }
}

}  // namespace tl::cuda
