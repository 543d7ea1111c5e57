// Update rules, one parameter tensor at a time, in place. PyTorch's arithmetic, rounding included.
#pragma once
#include <cstdint>

namespace tl {

/// g = grad * grad_scale + weight_decay * w;  m = first ? g : momentum * m + g;
/// w -= rate * (nesterov ? g + momentum * m : m)
template <class T>
struct SgdArgs {
  T* weight;
  const T* grad;
  T* velocity;  // null without momentum
  int64_t n;
  T rate, momentum, weight_decay, grad_scale;
  bool nesterov, first;
};

/// m = beta1 m + (1 - beta1) g;  v = beta2 v + (1 - beta2) g^2;
/// w -= rate / (1 - beta1^t) * m / (sqrt(v) / sqrt(1 - beta2^t) + eps)
/// Decay is added to g (Adam) or, decoupled, w *= 1 - rate * weight_decay before the step (AdamW).
/// Papers: Kingma and Ba 2015; Loshchilov and Hutter 2019.
template <class T>
struct AdamArgs {
  T* weight;
  const T* grad;
  T *first_moment, *second_moment;
  int64_t n, step;  // step counts from 1
  double rate, beta1, beta2, eps, weight_decay;
  T grad_scale;
  bool decoupled;
};

}  // namespace tl
