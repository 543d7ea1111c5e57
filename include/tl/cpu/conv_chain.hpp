// Chains of [convolution, BatchNorm, activation] in which only the raw results z of the convolutions are stored.
#pragma once
#include <cstdint>
#include <numeric>

#include "tl/cpu/conv.hpp"

namespace tl {

/// What lies between two convolutions of a chain: a = activation(scale * z + shift) for each channel, computed from z
/// wherever it is read. Without a scale a = z.
template <class T>
struct ChannelMap {
  const T *scale = nullptr, *shift = nullptr;  // [channels]
  Activation activation = Activation::none;    // none, relu or relu6
};

/// z = conv(before(x), weight), and the mean and biased variance of each channel of z, which are taken while a block of
/// z is still in the cache. Null mean: not wanted. Any number of threads gives the same bits.
template <class T>
struct ChainForwardArgs {
  ConvGeometry geometry;  // one that chain_fits
  const T *x, *weight;
  ChannelMap<T> before;
  T* z;
  T *mean, *variance;  // [cout]
};

/// Backward of one convolution of a chain together with the BatchNorm that follows it and the activation before it.
///
/// With the gradient `grad` of that BatchNorm's result, already masked by its activation:
///   grad_z = of_grad * grad + of_z * (z - mean) + of_1,
///   grad_weight = grad_z^T before(x), and
///   grad_x = conv^T(grad_z, weight) + residual, masked by the activation of `before`: the gradient of scale * x +
///   shift.
/// Null outputs are skipped; grad_z is never stored. Any number of threads gives the same bits.
template <class T>
struct ChainBackwardArgs {
  ConvGeometry geometry;
  const T *grad, *z;                      // [n, oh, ow, cout]; z null where of_z is 0
  const T *mean, *of_grad, *of_z, *of_1;  // [cout]
  const T *x, *weight;
  ChannelMap<T> before;
  const T* x_mean;    // [cin]; null where the sums are not wanted
  const T* residual;  // like x, or null
  T *grad_weight, *grad_x;
  T *sum, *sum_centered;  // [cin], of grad_x and of grad_x * (x - x_mean)
};

/// An inverted residual with its BatchNorms folded in:
///   y = project(act(depthwise(act(expand(x))))) + residual, each with its bias.
///
/// Computed for a few lines at a time, so that what lies between x and y never leaves the second cache.
/// Paper: Sandler et al., "MobileNetV2", 2018.
template <class T>
struct InvertedResidualArgs {
  ConvGeometry depthwise;  // one that chain_fits; x is [n, h, w, cin], y [n, oh, ow, cout]
  int64_t cin, cout;
  const T* x;
  const T* expand;   // [cin, width] as conv_pack leaves it; null: the depthwise convolution reads x
  const T* kernel;   // [taps, width]
  const T* project;  // [width, cout] as conv_pack leaves it
  const Wide<T>*expand_bias, *kernel_bias, *project_bias;
  const T* residual;  // like y, or null
  T* y;
  Activation expand_activation, depthwise_activation;  // none, relu or relu6
};

/// How many bands of lines inverted_residual cuts each picture into, so that few pictures keep all threads busy.
inline int64_t bands_of(const ConvGeometry& depthwise, int64_t threads) {
  return depthwise.n < 4 * threads ? threads / std::gcd(depthwise.n, threads) : 1;
}

/// Whether so many lines would be expanded by two bands that the three convolutions are faster one by one.
inline bool repeats_much(const ConvGeometry& depthwise, int64_t threads) {
  const int64_t repeated = (bands_of(depthwise, threads) - 1) * (depthwise.kh - depthwise.stride_h);
  return 6 * repeated > depthwise.h;
}

/// Whether the chain's kernels know this convolution: 1x1, or depthwise with a square kernel of 3 or 5.
inline bool chain_fits(const ConvGeometry& g) {
  const bool plain = g.dilation_h == 1 && g.dilation_w == 1 && g.stride_h == g.stride_w && g.kh == g.kw;
  if (!plain || g.n * g.oh * g.ow == 0) return false;
  if (g.groups == 1) return g.kh == 1 && g.stride_h == 1 && g.oh == g.h && g.ow == g.w && g.pad_top == 0;
  return g.groups == g.cin && g.cin == g.cout && (g.kh == 3 || g.kh == 5) && g.stride_h <= 2 && g.pad_top < g.kh &&
         g.pad_left < g.kw;
}

}  // namespace tl
