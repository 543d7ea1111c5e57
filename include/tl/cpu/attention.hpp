// Attention without its matrix of weights in memory.
#pragma once
#include <cstdint>

#include "tl/core/dtype.hpp"

namespace tl {

/// The rows of all heads where they lie: [N, H, T, D] or [N, T, H D] differ in strides alone. Rows are contiguous.
template <class T>
struct HeadRows {
  T* data = nullptr;
  int64_t sample_stride = 0, head_stride = 0, row_stride = 0;

  explicit operator bool() const { return data != nullptr; }
  T* at(int64_t sample, int64_t head) const { return data + sample * sample_stride + head * head_stride; }
};

struct AttentionSize {
  int64_t n, heads, queries, keys, width, value_width;
};

/// y = softmax(scale q k^T) v over the keys that key_mask [n, keys] does not hide (0) and, if causal, that are not
/// younger than the query; zero where there are none. q [queries, width], k [keys, width], v [keys, value_width].
template <class T>
struct AttentionForwardArgs {
  AttentionSize size;
  HeadRows<const T> q, k, v;
  HeadRows<T> y;
  const int32_t* key_mask;  // null: all count
  Wide<T>* log_sum_exp;     // [n, heads, queries], +infinity where nothing was seen; null: not kept
  Wide<T> scale;
  bool causal;
};

/// The weights are computed again from log_sum_exp. Null gradients are skipped.
template <class T>
struct AttentionBackwardArgs {
  AttentionSize size;
  HeadRows<const T> q, k, v, y, grad_y;
  HeadRows<T> grad_q, grad_k, grad_v;
  const int32_t* key_mask;
  const Wide<T>* log_sum_exp;
  Wide<T> scale;
  bool causal;
};

}  // namespace tl
