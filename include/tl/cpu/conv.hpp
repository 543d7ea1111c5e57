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

/// How a convolution is computed.
enum class ConvPath : int {
  depthwise,  // each channel by itself
  direct,     // a matrix product of patches and kernels
  winograd2,  // Winograd's tiles of 2 x 2 results
  winograd4,  // and of 4 x 4
};

/// The path that costs least: for each pair of channels there are products and weights to be read, more of them the
/// larger the tile. Transforms pay where there are channels enough to share them.
constexpr ConvPath conv_path(const ConvGeometry& g) {
  if (g.groups == g.cin && g.cin == g.cout && g.groups > 1) return ConvPath::depthwise;
  const bool plain = g.kh == 3 && g.kw == 3 && g.stride_h == 1 && g.stride_w == 1 && g.dilation_h == 1 &&
                     g.dilation_w == 1 && g.groups == 1;
  if (!plain || g.cin < 16 || g.cout < 16) return ConvPath::direct;

  constexpr int64_t kReadWeight = 20;  // in products, from memory
  const auto cost = [&g](int64_t points, int64_t side) {
    return points * (g.n * ((g.oh + side - 1) / side) * ((g.ow + side - 1) / side) + kReadWeight);
  };
  ConvPath best = ConvPath::direct;
  int64_t least = cost(9, 1);
  if (g.winograd_tile >= 2 && cost(16, 2) < least) best = ConvPath::winograd2, least = cost(16, 2);
  if (g.winograd_tile >= 4 && cost(36, 4) < least) best = ConvPath::winograd4;
  return best;
}

/// y = activation(conv(x, weight) + bias + residual); bias [cout] and residual (like y) may be null.
template <class T>
struct ConvForwardArgs {
  ConvGeometry geometry;
  const T* x;
  const Wide<T>*weight, *bias;
  const T* residual;
  T* y;
  Activation activation;
  const T* packed = nullptr;  // the weight as conv_pack left it; then `weight` is not read
};

/// Brings a weight [cout, kh, kw, cin/groups] into the order in which conv_forward reads it, for weights that serve
/// many times. The order is the instruction set's own and the path's: pictures may differ between here and there as
/// long as conv_path is the same. `packed` holds conv_packed_size(geometry) numbers, aligned to 64 bytes.
template <class T>
struct ConvPackArgs {
  ConvGeometry geometry;
  const Wide<T>* weight;
  T* packed;
};

constexpr int64_t conv_packed_size(const ConvGeometry& g) {
  switch (conv_path(g)) {
    case ConvPath::depthwise:
      return (g.kh * g.kw + 1) * g.cin;
    case ConvPath::winograd2:
      return 16 * gemm_packed_size(g.cout, g.cin) + g.cin;
    case ConvPath::winograd4:
      return 36 * gemm_packed_size(g.cout, g.cin) + g.cin;
    case ConvPath::direct:
      break;
  }
  return g.groups * gemm_packed_size(g.cout / g.groups, g.kh * g.kw * (g.cin / g.groups));
}

/// grad_x = d loss / d x (assigned, not accumulated)
template <class T>
struct ConvBackwardDataArgs {
  ConvGeometry geometry;
  const T* grad_y;
  const Wide<T>* weight;
  T* grad_x;
};

/// grad_weight and grad_bias (may be null), assigned. Partial sums are combined in a fixed order.
template <class T>
struct ConvBackwardWeightArgs {
  ConvGeometry geometry;
  const T *grad_y, *x;
  Wide<T>*grad_weight, *grad_bias;
};

}  // namespace tl
