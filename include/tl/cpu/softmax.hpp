// Softmax, log-softmax and cross-entropy over rows.
#pragma once
#include <cstdint>

namespace tl {

/// y = softmax(x) or log softmax(x) over each row of [rows, cols]. A row of -inf alone gives zeros (softmax).
template <class T>
struct SoftmaxArgs {
  const T* x;
  T* y;
  int64_t rows, cols;
  bool logarithm;
};

template <class T>
struct SoftmaxBackwardArgs {
  const T *y, *grad_y;
  T* grad_x;
  int64_t rows, cols;
  bool logarithm;
};

/// Cross-entropy of logits x [rows, cols] against class indices, PyTorch's definition with smoothing s, K = cols:
///   loss_r   = (1 - s) * w[t_r] * -logp[r, t_r] + s / K * sum_c w[c] * -logp[r, c]
///   weight_r = w[t_r];   both 0 where t_r == ignore_index
/// The caller divides sum(loss) by sum(weight) for the mean.
template <class T>
struct CrossEntropyArgs {
  const T* x;
  const int32_t* target;  // [rows], each in [0, cols) or ignore_index
  const T* class_weight;  // [cols] or null for 1
  T *loss, *weight;       // [rows]
  T* log_sum_exp;         // [rows], for the backward pass, or null
  int64_t rows, cols;
  T smoothing;
  int32_t ignore_index;
};

/// grad_x[r, c] = grad_loss[r] * d loss_r / d x[r, c]
template <class T>
struct CrossEntropyBackwardArgs {
  const T* x;
  const int32_t* target;
  const T *class_weight, *log_sum_exp, *grad_loss;
  T* grad_x;
  int64_t rows, cols;
  T smoothing;
  int32_t ignore_index;
};

}  // namespace tl
