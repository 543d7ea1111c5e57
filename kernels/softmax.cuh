// Softmax, log-softmax and cross-entropy over the rows of [rows, cols]. Bound by memory: one read and one write of the
// logits.
//
//   rung                   what it adds
//   softmax_v1<threads>    a warp or a block per row; x is read three times (largest, sum, result), mostly from caches
//   softmax_v2<items>      a warp per row that keeps the row in registers: x is read once. Up to 32 * items columns
//   softmax_v3             a block per row that keeps the row in shared memory: x is read once, up to 12,288 columns
//   cross_entropy_v1       softmax is never written: a row gives its loss and log-sum-exp, from which backward makes
//                          the gradient in one pass
#pragma once
#include <type_traits>

#include "device/execution.cuh"
#include "device/grid.cuh"
#include "device/reduce.cuh"
#include "tl/cpu/softmax.hpp"

namespace tl::device {

inline constexpr int kSoftmaxThreads = 256;  // of a block that works on one row
inline constexpr int kSoftmaxWarps = 4;      // of a block that works on four rows

/// Reduces over the threads of a warp as BlockReducer does over those of a block.
struct WarpReducer {
  template <class Op>
  TL_DEVICE float operator()(float value, float, Op op, Where where = {}) {
    return warp_reduce(value, op, where.inside());
  }
};

/// The threads that share a row: one warp of four in the block, or the whole block.
template <int kThreads>
struct RowTeam {
  static constexpr int kRows = kThreads == kWarpSize ? kSoftmaxWarps : 1;  // in a block at a time
  std::conditional_t<kThreads == kWarpSize, WarpReducer, BlockReducer<kThreads>> reduce;

  static TL_DEVICE int thread() { return static_cast<int>(thread_idx().x) % kThreads; }
  static TL_DEVICE int64_t first_row() { return int64_t{block_idx().x} * kRows + thread_idx().x / kThreads; }
  static TL_DEVICE int64_t row_step() { return int64_t{grid_dim().x} * kRows; }

  /// The sum of term(c) over the columns, in every thread.
  template <class Term>
  TL_DEVICE float sum(int64_t cols, const Term& term, Where where = {}) {
    float total = 0;
    for (int64_t c = thread(); c < cols; c += kThreads) total += term(c);
    return reduce(total, 0.0f, Sum{}, where.inside());
  }

  template <class Term>
  TL_DEVICE float largest(int64_t cols, const Term& term, Where where = {}) {
    float best = -INFINITY;
    for (int64_t c = thread(); c < cols; c += kThreads) best = Max{}(best, term(c));
    return reduce(best, -INFINITY, Max{}, where.inside());
  }
};

/// What a row's largest value and sum of exponentials make of its elements.
struct SoftmaxRow {
  float largest, log_sum, scale;
  bool logarithm;

  TL_DEVICE SoftmaxRow(float row_largest, float sum, bool log_wanted)
      : largest(row_largest), log_sum(logf(sum)), scale(1.0f / sum), logarithm(log_wanted) {}

  /// `e` is exp(x - largest).
  TL_DEVICE float result(float x, float e) const {
    if (logarithm) return x - largest - log_sum;
    return largest == -INFINITY ? 0.0f : e * scale;
  }
};

template <int kThreads>
TL_KERNEL void softmax_v1(const float* x, float* y, int64_t rows, int64_t cols, bool logarithm) {
  RowTeam<kThreads> team;
  for (int64_t r = team.first_row(); r < rows; r += team.row_step()) {
    const float* in = x + r * cols;
    float* out = y + r * cols;
    const float largest = team.largest(cols, [&](int64_t c) { return in[c]; });
    const float sum = team.sum(cols, [&](int64_t c) { return expf(in[c] - largest); });
    const SoftmaxRow row(largest, sum, logarithm);
    for (int64_t c = team.thread(); c < cols; c += kThreads) out[c] = row.result(in[c], expf(in[c] - largest));
  }
}

template <int kItems>
TL_KERNEL void softmax_v2(const float* x, float* y, int64_t rows, int64_t cols, bool logarithm) {
  RowTeam<kWarpSize> team;
  for (int64_t r = team.first_row(); r < rows; r += team.row_step()) {
    float value[kItems];
    float largest = -INFINITY, sum = 0;
    TL_UNROLLED for (int i = 0; i < kItems; ++i) {
      const int c = lane() + i * kWarpSize;
      value[i] = c < cols ? x[r * cols + c] : -INFINITY;
      largest = Max{}(largest, value[i]);
    }
    largest = warp_reduce(largest, Max{});
    TL_UNROLLED for (int i = 0; i < kItems; ++i) {
      if (lane() + i * kWarpSize < cols) sum += expf(value[i] - largest);
    }
    const SoftmaxRow row(largest, warp_reduce(sum, Sum{}), logarithm);
    TL_UNROLLED for (int i = 0; i < kItems; ++i) {
      const int c = lane() + i * kWarpSize;
      if (c < cols) y[r * cols + c] = row.result(value[i], expf(value[i] - largest));
    }
  }
}

/// Launched with cols * sizeof(float) bytes of shared memory. Every thread reads only what it wrote there itself.
TL_KERNEL void TL_LAUNCH_BOUNDS(kSoftmaxThreads)
    softmax_v3(const float* x, float* y, int64_t rows, int64_t cols, bool logarithm) {
  RowTeam<kSoftmaxThreads> team;
  TL_DYNAMIC_SHARED(kept, float);
  for (int64_t r = team.first_row(); r < rows; r += team.row_step()) {
    const float largest = team.largest(cols, [&](int64_t c) { return kept[c] = x[r * cols + c]; });
    const float sum = team.sum(cols, [&](int64_t c) { return expf(kept[c] - largest); });
    const SoftmaxRow row(largest, sum, logarithm);
    for (int64_t c = team.thread(); c < cols; c += kSoftmaxThreads) {
      y[r * cols + c] = row.result(kept[c], expf(kept[c] - largest));
    }
  }
}

/// grad_x = y (grad_y - sum(grad_y y)), or of the logarithm: grad_y - exp(y) sum(grad_y)
template <int kThreads>
TL_KERNEL void softmax_backward_v1(const float* y, const float* grad_y, float* grad_x, int64_t rows, int64_t cols,
                                   bool logarithm) {
  RowTeam<kThreads> team;
  for (int64_t r = team.first_row(); r < rows; r += team.row_step()) {
    const float *value = y + r * cols, *grad = grad_y + r * cols;
    const float total = team.sum(cols, [&](int64_t c) { return logarithm ? grad[c] : grad[c] * value[c]; });
    for (int64_t c = team.thread(); c < cols; c += kThreads) {
      grad_x[r * cols + c] = logarithm ? grad[c] - expf(value[c]) * total : value[c] * (grad[c] - total);
    }
  }
}

/// See CrossEntropyArgs. x - largest comes first in every difference, so that large logits lose nothing.
template <int kThreads>
TL_KERNEL void cross_entropy_v1(CrossEntropyArgs<float> args) {
  RowTeam<kThreads> team;
  const float spread = args.smoothing / static_cast<float>(args.cols);
  for (int64_t r = team.first_row(); r < args.rows; r += team.row_step()) {
    const float* x = args.x + r * args.cols;
    const int32_t target = args.target[r];
    const bool ignored = target == args.ignore_index;
    float loss = 0, weight = 0, log_sum_exp = 0;
    if (!ignored) {  // the same branch for the whole team
      const float largest = team.largest(args.cols, [&](int64_t c) { return x[c]; });
      const float log_sum = logf(team.sum(args.cols, [&](int64_t c) { return expf(x[c] - largest); }));
      weight = args.class_weight != nullptr ? args.class_weight[target] : 1.0f;
      loss = (1 - args.smoothing) * weight * ((largest - x[target]) + log_sum);
      if (args.smoothing != 0) {
        loss += spread * team.sum(args.cols, [&](int64_t c) {
          const float term = (largest - x[c]) + log_sum;
          return args.class_weight != nullptr ? term * args.class_weight[c] : term;
        });
      }
      log_sum_exp = largest + log_sum;
    }
    if (team.thread() == 0) {
      args.loss[r] = loss;
      args.weight[r] = weight;
      if (args.log_sum_exp != nullptr) args.log_sum_exp[r] = log_sum_exp;
    }
  }
}

/// d loss / d x[c] = p[c] (sum of all weights) - (weight of class c); the target's weight is `hard` and its spread.
template <int kThreads>
TL_KERNEL void cross_entropy_backward_v1(CrossEntropyBackwardArgs<float> args) {
  RowTeam<kThreads> team;
  const float spread = args.smoothing / static_cast<float>(args.cols);
  for (int64_t r = team.first_row(); r < args.rows; r += team.row_step()) {
    const float* x = args.x + r * args.cols;
    float* grad_x = args.grad_x + r * args.cols;
    const int32_t target = args.target[r];
    const bool ignored = target == args.ignore_index;
    float hard = 0, sum_of_weights = static_cast<float>(args.cols);
    if (!ignored) {
      hard = (1 - args.smoothing) * (args.class_weight != nullptr ? args.class_weight[target] : 1.0f);
      if (args.smoothing != 0 && args.class_weight != nullptr) {
        sum_of_weights = team.sum(args.cols, [&](int64_t c) { return args.class_weight[c]; });
      }
    }
    const float all = hard + spread * sum_of_weights;
    for (int64_t c = team.thread(); c < args.cols; c += kThreads) {
      float g = 0;
      if (!ignored) {
        const float weight = args.class_weight != nullptr ? args.class_weight[c] : 1.0f;
        g = expf(x[c] - args.log_sum_exp[r]) * all - spread * weight - (c == target ? hard : 0.0f);
        g *= args.grad_loss[r];
      }
      grad_x[c] = g;
    }
  }
}

}  // namespace tl::device
