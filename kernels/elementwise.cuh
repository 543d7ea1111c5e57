// Element by element: unary functions, broadcast arithmetic, copies between layouts, dropout. All of it is bound by
// memory.
//
//   rung                     what it adds
//   unary_v1                 one thread per element
//   unary_v2                 16-byte loads and stores: a quarter of the memory instructions, enough bytes in flight
//   binary_v1                any broadcast: the place of each operand from the element's number, by divisions
//   binary_v2                operands of one shape, or one number: no divisions, 16-byte accesses
//   copy_strided_v1          any layout: coalesced on y, whatever comes on x
//   copy_transposed_v2       tiles through shared memory, coalesced on both sides; padded against bank conflicts
//   dropout_v1               one thread and one call of the random function per element
//   dropout_v2               one call for four elements, where each has a draw of its own
//
// The launchers in elementwise.cu pick the last rung that fits.
#pragma once
#include "device/execution.cuh"
#include "device/functions.cuh"
#include "device/grid.cuh"
#include "device/pack.cuh"
#include "tl/core/random.hpp"
#include "tl/core/shape.hpp"

namespace tl::device {

// ---- y = f(x), grad_x = grad_y f'(x)

template <class Function>
TL_KERNEL TL_LAUNCH_BOUNDS(kElementThreads) void unary_v1(const float* x, float* y, int64_t n) {
  for_each_in_grid(n, 1, [&](int64_t i) { y[i] = Function::value(x[i]); });
}

/// Calls body(i) for what a quarter of the elements leaves over.
template <class Body>
TL_DEVICE void for_each_remaining(int64_t n, const Body& body) {
  const int64_t first = n / 4 * 4;
  if (block_idx().x == 0 && first + thread_idx().x < n) body(first + thread_idx().x);
}

template <class Function>
TL_KERNEL TL_LAUNCH_BOUNDS(kElementThreads) void unary_v2(const float* x, float* y, int64_t n) {
  for_each_in_grid(n / 4 * 4, 4, [&](int64_t i) {
    auto pack = load_pack<4>(x + i);
    TL_UNROLLED for (int k = 0; k < 4; ++k) pack[k] = Function::value(pack[k]);
    store_pack(y + i, pack);
  });
  for_each_remaining(n, [&](int64_t i) { y[i] = Function::value(x[i]); });
}

template <class Function>
TL_KERNEL TL_LAUNCH_BOUNDS(kElementThreads) void unary_backward_v1(const float* kept, const float* grad_y,
                                                                   float* grad_x, int64_t n) {
  for_each_in_grid(n, 1, [&](int64_t i) { grad_x[i] = Function::gradient(kept[i], grad_y[i]); });
}

template <class Function>
TL_KERNEL TL_LAUNCH_BOUNDS(kElementThreads) void unary_backward_v2(const float* kept, const float* grad_y,
                                                                   float* grad_x, int64_t n) {
  for_each_in_grid(n / 4 * 4, 4, [&](int64_t i) {
    const auto k = load_pack<4>(kept + i);
    auto g = load_pack<4>(grad_y + i);
    TL_UNROLLED for (int j = 0; j < 4; ++j) g[j] = Function::gradient(k[j], g[j]);
    store_pack(grad_x + i, g);
  });
  for_each_remaining(n, [&](int64_t i) { grad_x[i] = Function::gradient(kept[i], grad_y[i]); });
}

// ---- y = f(a, b) over a broadcast

/// A loop nest over two strided operands; passed to kernels by value.
struct Nest {
  int rank = 0;
  int64_t numel = 1;
  int64_t shape[kMaxRank], stride_a[kMaxRank], stride_b[kMaxRank];

  /// The same places without dimensions of size 1 and with neighbours merged where both operands allow it, so that
  /// equal shapes become one dimension.
  static Nest merged(int rank, const int64_t* shape, const int64_t* stride_a, const int64_t* stride_b) {
    Nest nest;
    for (int d = 0; d < rank; ++d) {
      nest.numel *= shape[d];
      if (shape[d] == 1) continue;
      const int last = nest.rank - 1;
      if (last >= 0 && nest.stride_a[last] == stride_a[d] * shape[d] && nest.stride_b[last] == stride_b[d] * shape[d]) {
        nest.shape[last] *= shape[d];
        nest.stride_a[last] = stride_a[d];
        nest.stride_b[last] = stride_b[d];
      } else {
        nest.append(shape[d], stride_a[d], stride_b[d]);
      }
    }
    return nest;
  }

  void append(int64_t size, int64_t step_a, int64_t step_b) {
    shape[rank] = size;
    stride_a[rank] = step_a;
    stride_b[rank++] = step_b;
  }

  /// Whether each operand is one run of elements or one number.
  bool is_flat() const {
    return rank == 0 || (rank == 1 && (stride_a[0] == 0 || stride_a[0] == 1) && (stride_b[0] == 0 || stride_b[0] == 1));
  }

  /// Where element i of the nest is in either operand.
  TL_DEVICE void offsets(int64_t i, int64_t* a, int64_t* b) const {
    *a = *b = 0;
    for (int d = rank - 1; d >= 0; --d) {
      const int64_t index = i % shape[d];
      i /= shape[d];
      *a += index * stride_a[d];
      *b += index * stride_b[d];
    }
  }
};

template <class Function>
TL_KERNEL TL_LAUNCH_BOUNDS(kElementThreads) void binary_v1(const float* a, const float* b, float* y, Nest nest) {
  for_each_in_grid(nest.numel, 1, [&](int64_t i) {
    int64_t at_a, at_b;
    nest.offsets(i, &at_a, &at_b);
    y[i] = Function::value(a[at_a], b[at_b]);
  });
}

/// Four elements, or four times the one number.
template <bool kOne>
TL_DEVICE Pack<float, 4> load_four(const float* x, int64_t i) {
  if constexpr (kOne) return {{x[0], x[0], x[0], x[0]}};
  else return load_pack<4>(x + i);
}

template <class Function, bool kOneA, bool kOneB>
TL_KERNEL TL_LAUNCH_BOUNDS(kElementThreads) void binary_v2(const float* a, const float* b, float* y, int64_t n) {
  for_each_in_grid(n / 4 * 4, 4, [&](int64_t i) {
    auto p = load_four<kOneA>(a, i);
    const auto q = load_four<kOneB>(b, i);
    TL_UNROLLED for (int k = 0; k < 4; ++k) p[k] = Function::value(p[k], q[k]);
    store_pack(y + i, p);
  });
  for_each_remaining(n, [&](int64_t i) { y[i] = Function::value(a[kOneA ? 0 : i], b[kOneB ? 0 : i]); });
}

template <class Function>
TL_KERNEL TL_LAUNCH_BOUNDS(kElementThreads) void binary_backward_v1(const float* a, const float* b, const float* grad_y,
                                                                    float* grad_a, float* grad_b, Nest nest) {
  for_each_in_grid(nest.numel, 1, [&](int64_t i) {
    int64_t at_a, at_b;
    nest.offsets(i, &at_a, &at_b);
    if (grad_a != nullptr) grad_a[i] = Function::gradient_a(a[at_a], b[at_b], grad_y[i]);
    if (grad_b != nullptr) grad_b[i] = Function::gradient_b(a[at_a], b[at_b], grad_y[i]);
  });
}

// ---- y = alpha x + beta y + gamma: fill, scale, copy, axpy

template <bool kReadX, bool kReadY>
TL_KERNEL TL_LAUNCH_BOUNDS(kElementThreads) void affine_v1(const float* x, float* y, int64_t n, float alpha, float beta,
                                                           float gamma) {
  for_each_in_grid(n, 1, [&](int64_t i) {
    float value = gamma;
    if (kReadY) value = fmaf(beta, y[i], value);
    if (kReadX) value = fmaf(alpha, x[i], value);
    y[i] = value;
  });
}

// ---- copies between layouts

/// y (= or +=) x over the parallel dimensions of `outer`, one thread each; the thread takes `inner` in order, so that
/// places of y that overlap there are summed in order.
TL_KERNEL TL_LAUNCH_BOUNDS(kElementThreads) void copy_strided_v1(const float* x, float* y, Nest outer, Nest inner,
                                                                 bool accumulate) {
  for_each_in_grid(outer.numel, 1, [&](int64_t i) {
    int64_t first_x, first_y;
    outer.offsets(i, &first_x, &first_y);
    for (int64_t j = 0; j < inner.numel; ++j) {
      int64_t at_x, at_y;
      inner.offsets(j, &at_x, &at_y);
      const float value = x[first_x + at_x];
      float& place = y[first_y + at_y];
      place = accumulate ? place + value : value;
    }
  });
}

inline constexpr int kTile = 32;
inline constexpr int kTileRows = 8;

/// y[m][i, j] (= or +=) x[m][j, i] for each place m of `matrices`: x is contiguous along i (row stride stride_x), y
/// along j.
TL_KERNEL TL_LAUNCH_BOUNDS(kTile* kTileRows) void copy_transposed_v2(const float* x, float* y, int64_t rows,
                                                                     int64_t cols, int64_t stride_x, int64_t stride_y,
                                                                     Nest matrices, bool accumulate) {
  TL_SHARED(tile, float[kTile][kTile + 1]);
  const int tx = static_cast<int>(thread_idx().x), ty = static_cast<int>(thread_idx().y);
  const int64_t i0 = int64_t{block_idx().y} * kTile, j0 = int64_t{block_idx().x} * kTile;
  for (int64_t m = block_idx().z; m < matrices.numel; m += grid_dim().z) {
    int64_t at_x, at_y;
    matrices.offsets(m, &at_x, &at_y);
    for (int k = ty; k < kTile; k += kTileRows) {
      if (j0 + k < cols && i0 + tx < rows) tile[k][tx] = x[at_x + (j0 + k) * stride_x + i0 + tx];
    }
    sync_block();
    for (int k = ty; k < kTile; k += kTileRows) {
      if (i0 + k < rows && j0 + tx < cols) {
        float& place = y[at_y + (i0 + k) * stride_y + j0 + tx];
        place = accumulate ? place + tile[tx][k] : tile[tx][k];
      }
    }
    sync_block();  // before the next matrix overwrites the tile
  }
}

// ---- dropout

/// `group` neighbours share a draw. One thread per element; each draws for itself.
TL_KERNEL TL_LAUNCH_BOUNDS(kElementThreads) void dropout_v1(const float* x, float* y, int64_t n, int64_t group,
                                                            float probability, float scale, uint64_t seed,
                                                            uint64_t counter) {
  for_each_in_grid(n, 1, [&](int64_t i) {
    const int64_t draw = i / group;
    const auto words = Philox::at(seed, counter, static_cast<uint64_t>(draw / 4));
    y[i] = Philox::uniform(words.w[draw % 4]) >= probability ? x[i] * scale : 0.0f;
  });
}

/// A draw per element: the four words of one Philox call serve four elements.
TL_KERNEL TL_LAUNCH_BOUNDS(kElementThreads) void dropout_v2(const float* x, float* y, int64_t n, float probability,
                                                            float scale, uint64_t seed, uint64_t counter) {
  for_each_in_grid(n, 4, [&](int64_t first) {
    const auto words = Philox::at(seed, counter, static_cast<uint64_t>(first / 4));
    TL_UNROLLED for (int k = 0; k < 4; ++k) {
      const int64_t i = first + k;
      if (i < n) y[i] = Philox::uniform(words.w[k]) >= probability ? x[i] * scale : 0.0f;
    }
  });
}

}  // namespace tl::device
