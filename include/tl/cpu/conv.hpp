// Two-dimensional convolution, dense, grouped and depthwise.
#pragma once
#include <cstdint>

#include "tl/cpu/gemm.hpp"

namespace tl {

/// x [n, h, w, cin] * weight [cout, kh, kw, cin/groups] -> y [n, oh, ow, cout]; NHWC.
struct ConvGeometry {
  int64_t n, h, w, cin;
  int64_t cout, kh, kw, groups;
  int64_t oh, ow;
  int64_t stride_h, stride_w, dilation_h, dilation_w;
  int64_t pad_top, pad_left;  // what lies below and to the right follows from oh and ow
  int64_t winograd_tile = 4;  // the largest that 3x3 kernels of stride 1 may use: 4, 2 or 0 (direct sums)
};

/// y = activation(conv(x, weight) + bias + residual); bias [cout] and residual (like y) may be null.
template <class T>
struct ConvForwardArgs {
  ConvGeometry geometry;
  const T *x, *weight, *bias, *residual;
  T* y;
  Activation activation;
};

/// grad_x = d loss / d x (assigned, not accumulated)
template <class T>
struct ConvBackwardDataArgs {
  ConvGeometry geometry;
  const T *grad_y, *weight;
  T* grad_x;
};

/// grad_weight and grad_bias (may be null), assigned. Partial sums are combined in a fixed order.
template <class T>
struct ConvBackwardWeightArgs {
  ConvGeometry geometry;
  const T *grad_y, *x;
  T *grad_weight, *grad_bias;
};

}  // namespace tl
