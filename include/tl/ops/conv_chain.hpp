// Chains of convolution, BatchNorm and activation as one operation.
#pragma once
#include <vector>

#include "tl/cpu/conv_chain.hpp"
#include "tl/ops/conv.hpp"
#include "tl/ops/norm.hpp"

namespace tl::inline TL_ABI {

/// One unit of a chain: activation(batch_norm(conv2d(x, weight))).
struct ChainUnit {
  Tensor weight, gamma, beta, running_mean, running_var;  // all defined; the running ones are moved in training
  Conv2dOptions conv = {};
  BatchNormOptions norm = {};  // its activation is none, relu or relu6
};

/// Whether conv_bn_chain has kernels for these units: f32 on the CPU with AVX2, 1x1 convolutions and depthwise ones of
/// 3x3 and 5x5.
bool has_chain_kernels(const Tensor& x, const std::vector<ChainUnit>& units);

/// The units one after the other, and `residual` added before the last activation.
///
/// What is kept for backward is x and the raw results of the convolutions; normalised and activated values are computed
/// again wherever they are read, so that each tensor between the units is written once and read once forward, and its
/// gradient likewise backward. x [N, H, W, C]; residual is like the result, undefined, or x itself. Differentiable in
/// x, residual, and weight, gamma and beta of the units. Errors: those of conv2d and batch_norm; UsageError unless
/// has_chain_kernels. PyTorch: the same as a sequence of modules.
Tensor conv_bn_chain(const Tensor& x, const std::vector<ChainUnit>& units, const Tensor& residual = {});

/// A convolution with its BatchNorm folded in, its weight from pack_conv2d.
struct PackedConv {
  Tensor weight, bias;
  Activation activation = Activation::none;  // none, relu or relu6
};

/// Whether there is a kernel of inverted_residual for x, f32 or bf16.
bool has_inverted_residual(const Tensor& x);

/// project(depthwise(expand(x))) + residual, a few lines at a time; an `expand` without weight is left out.
///
/// x [N, H, W, Cin], result [N, OH, OW, Cout]; `geometry` is the depthwise convolution's, one that chain_fits. The
/// projection's activation is none. For use without gradients, where has_inverted_residual(x).
Tensor inverted_residual(const Tensor& x, const PackedConv& expand, const PackedConv& depthwise,
                         const PackedConv& project, const ConvGeometry& geometry, const Tensor& residual = {});

}  // namespace tl::inline TL_ABI

#if TL_HEADER_ONLY
#include "tl/ops/conv_chain.inl"
#endif
