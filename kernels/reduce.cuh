// Reductions over one axis of [outer, axis, inner]: sum, mean, max, min with the place. Bound by memory: x is read
// once.
//
//   rung               what it adds
//   reduce_rows_v1     inner = 1, one thread per row: neighbouring threads read far apart; only for very short rows
//   reduce_rows_v2     a warp per row: its lanes read neighbours, shuffles combine
//   reduce_rows_v3     a block per row: enough threads for long rows
//   reduce_columns_v1  inner > 1, one thread per column: neighbours read neighbours, but one thread walks the axis
//   reduce_columns_v2  32 columns by 8 threads along the axis, combined in shared memory
//   cut axis           few long rows or columns: each is cut into chunks that go over the whole GPU, and a second
//                      launch reduces their results. No atomics: the order of additions is fixed, and so are the bits.
//
// Also here: the backward pass of max and min, and top-k.
#pragma once
#include <climits>

#include "device/execution.cuh"
#include "device/grid.cuh"
#include "device/reduce.cuh"

namespace tl::device {

// ---- what is computed: a state, what an element is as a state, and how two states combine

struct SumOf {
  using State = float;
  static TL_DEVICE State identity() { return 0; }
  static TL_DEVICE State of(float x, int64_t) { return x; }
  TL_DEVICE State operator()(State a, State b) const { return a + b; }
};

/// A value and its place on the axis.
struct Best {
  float value;
  int32_t index;
};

TL_DEVICE Best shuffle_xor(Best best, int bits, unsigned mask, Where where) {
  return {shuffle_xor(best.value, bits, mask, where.inside()), shuffle_xor(best.index, bits, mask, where.inside())};
}

/// Whether a comes before b when the larger value goes first, NaN before everything, and equals by their index.
TL_DEVICE bool comes_before(Best a, Best b) {
  const bool a_nan = a.value != a.value, b_nan = b.value != b.value;
  if (a_nan != b_nan) return a_nan;
  if (a.value > b.value) return true;
  return !(b.value > a.value) && a.index < b.index;
}

/// The first of the largest; of the smallest with kSign = -1, as the largest of -x.
template <int kSign>
struct BestOf {
  using State = Best;
  static TL_DEVICE State identity() { return {-INFINITY, INT_MAX}; }
  static TL_DEVICE State of(float x, int64_t index) { return {kSign * x, static_cast<int32_t>(index)}; }
  static TL_DEVICE State of(State state, int64_t) { return state; }
  TL_DEVICE State operator()(State a, State b) const { return comes_before(a, b) ? a : b; }
};

// ---- where results go

template <class State>
struct KeepState {
  State* states;
  TL_DEVICE void put(int64_t i, State state) const { states[i] = state; }
};

struct StoreSum {
  float* y;
  float scale;
  TL_DEVICE void put(int64_t i, float sum) const { y[i] = sum * scale; }
};

template <int kSign>
struct StoreBest {
  float* y;
  int32_t* index;  // or null
  TL_DEVICE void put(int64_t i, Best best) const {
    y[i] = kSign * best.value;
    if (index != nullptr) index[i] = best.index == INT_MAX ? 0 : best.index;
  }
};

/// An axis in chunks. A slice is one chunk of one row (or, with inner > 1, of the columns of one outer place).
struct CutAxis {
  int64_t outer, axis, inner, chunk, chunks;

  TL_DEVICE int64_t slices() const { return outer * chunks; }
  TL_DEVICE int64_t begin(int64_t slice) const { return slice % chunks * chunk; }
  TL_DEVICE int64_t end(int64_t slice) const {
    const int64_t last = begin(slice) + chunk;
    return last < axis ? last : axis;
  }
  /// The first element of the slice's outer place.
  TL_DEVICE int64_t base(int64_t slice) const { return slice / chunks * axis * inner; }
};

// ---- inner = 1

/// One thread's part of a slice: every `threads`-th element from `first` on.
template <class Op, class In>
TL_DEVICE typename Op::State reduce_strided(const In* x, const CutAxis& cut, int64_t slice, int first, int threads) {
  auto state = Op::identity();
  const In* row = x + cut.base(slice);
  for (int64_t i = cut.begin(slice) + first; i < cut.end(slice); i += threads) state = Op{}(state, Op::of(row[i], i));
  return state;
}

template <class Op, class In, class Out>
TL_KERNEL TL_LAUNCH_BOUNDS(kElementThreads) void reduce_rows_v1(const In* x, Out out, CutAxis cut) {
  for_each_in_grid(cut.slices(), 1, [&](int64_t slice) { out.put(slice, reduce_strided<Op>(x, cut, slice, 0, 1)); });
}

inline constexpr int kRowWarps = 4;

template <class Op, class In, class Out>
TL_KERNEL TL_LAUNCH_BOUNDS(kRowWarps* kWarpSize) void reduce_rows_v2(const In* x, Out out, CutAxis cut) {
  const int warp = static_cast<int>(thread_idx().x) / kWarpSize;
  for (int64_t slice = int64_t{block_idx().x} * kRowWarps + warp; slice < cut.slices();
       slice += int64_t{grid_dim().x} * kRowWarps) {
    const auto state = warp_reduce(reduce_strided<Op>(x, cut, slice, lane(), kWarpSize), Op{});
    if (lane() == 0) out.put(slice, state);
  }
}

inline constexpr int kRowThreads = 256;

template <class Op, class In, class Out>
TL_KERNEL TL_LAUNCH_BOUNDS(kRowThreads) void reduce_rows_v3(const In* x, Out out, CutAxis cut) {
  BlockReducer<kRowThreads> reduce;
  const int thread = static_cast<int>(thread_idx().x);
  for (int64_t slice = block_idx().x; slice < cut.slices(); slice += grid_dim().x) {
    const auto mine = reduce_strided<Op>(x, cut, slice, thread, kRowThreads);
    const auto state = reduce(mine, Op::identity(), Op{});
    if (thread == 0) out.put(slice, state);
  }
}

// ---- inner > 1

template <class Op, class In, class Out>
TL_KERNEL TL_LAUNCH_BOUNDS(kElementThreads) void reduce_columns_v1(const In* x, Out out, CutAxis cut) {
  for_each_in_grid(cut.slices() * cut.inner, 1, [&](int64_t i) {
    const int64_t slice = i / cut.inner;
    const In* column = x + cut.base(slice) + i % cut.inner;
    auto state = Op::identity();
    for (int64_t a = cut.begin(slice); a < cut.end(slice); ++a) state = Op{}(state, Op::of(column[a * cut.inner], a));
    out.put(i, state);
  });
}

inline constexpr int kColumns = 32;
inline constexpr int kColumnThreads = 8;

template <class Op, class In, class Out>
TL_KERNEL TL_LAUNCH_BOUNDS(kColumns* kColumnThreads) void reduce_columns_v2(const In* x, Out out, CutAxis cut) {
  using State = typename Op::State;
  TL_SHARED(partial, State[kColumnThreads][kColumns]);
  const int tx = static_cast<int>(thread_idx().x), ty = static_cast<int>(thread_idx().y);
  const int64_t column = int64_t{block_idx().x} * kColumns + tx;
  for (int64_t slice = block_idx().y; slice < cut.slices(); slice += grid_dim().y) {
    State state = Op::identity();
    if (column < cut.inner) {
      const In* first = x + cut.base(slice) + column;
      for (int64_t a = cut.begin(slice) + ty; a < cut.end(slice); a += kColumnThreads) {
        state = Op{}(state, Op::of(first[a * cut.inner], a));
      }
    }
    partial[ty][tx] = state;
    sync_block();
    if (ty == 0 && column < cut.inner) {
      for (int k = 1; k < kColumnThreads; ++k) state = Op{}(state, partial[k][tx]);
      out.put(slice * cut.inner + column, state);
    }
    sync_block();  // before the next slice overwrites the partial results
  }
}

// ---- backward of max and min

/// grad_x[outer, axis, inner] = grad_y[outer, inner] at the index, 0 elsewhere
TL_KERNEL TL_LAUNCH_BOUNDS(kElementThreads) void scatter_axis_v1(const float* grad_y, const int32_t* index,
                                                                 float* grad_x, int64_t axis, int64_t inner,
                                                                 int64_t n) {
  for_each_in_grid(n, 1, [&](int64_t i) {
    const int64_t result = i / (axis * inner) * inner + i % inner;
    grad_x[i] = index[result] == i / inner % axis ? grad_y[result] : 0.0f;
  });
}

// ---- top-k

/// A block per row, one round per place: the best of what comes after the previous round's. For the few places that
/// accuracy and predictions ask for.
TL_KERNEL TL_LAUNCH_BOUNDS(kRowThreads) void top_k_v1(const float* x, float* values, int32_t* index, int64_t rows,
                                                      int64_t cols, int64_t k) {
  BlockReducer<kRowThreads> reduce;
  const int thread = static_cast<int>(thread_idx().x);
  for (int64_t row = block_idx().x; row < rows; row += grid_dim().x) {
    const float* values_of_row = x + row * cols;
    Best previous{0, -1};
    for (int64_t place = 0; place < k; ++place) {
      Best best = BestOf<1>::identity();
      for (int64_t c = thread; c < cols; c += kRowThreads) {
        const Best candidate{values_of_row[c], static_cast<int32_t>(c)};
        const bool still_there = previous.index < 0 || comes_before(previous, candidate);
        if (still_there && comes_before(candidate, best)) best = candidate;
      }
      previous = reduce(best, BestOf<1>::identity(), BestOf<1>{});
      if (thread == 0) {
        values[row * k + place] = previous.value;
        index[row * k + place] = previous.index;
      }
    }
  }
}

}  // namespace tl::device
