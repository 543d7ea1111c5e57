// Convolution layer, and convolution with BatchNorm and activation as one step.
#pragma once
#include "tl/nn/init.hpp"
#include "tl/nn/module.hpp"
#include "tl/nn/norm.hpp"
#include "tl/ops/conv.hpp"
#include "tl/ops/conv_chain.hpp"

namespace tl::inline TL_ABI {
namespace nn {

struct Conv2dConfig {
  Pair kernel = 3;
  Pair stride = 1;
  Padding padding = 0;
  Pair dilation = 1;
  int64_t groups = 1;
  bool bias = true;
};

/// Convolution of pictures [N, H, W, Cin] with weight [Cout, kH, kW, Cin/groups] (in files OIHW); see tl::conv2d.
/// At first uniform within +-1 / sqrt(fan_in), as in PyTorch.
struct Conv2d : Module {
  Parameter weight, bias;
  Conv2dConfig config;
  TL_MEMBERS(weight, bias)

  Conv2d() = default;
  Conv2d(int64_t in, int64_t out, const Conv2dConfig& c = {});

  Conv2dOptions options() const {
    return {.stride = config.stride, .padding = config.padding, .dilation = config.dilation, .groups = config.groups};
  }

  /// The weight that it computes with: its own, or what an adapter makes of that.
  Tensor acting_weight() const;

  TL_INLINE Tensor forward(const Tensor& x) override;
  TL_INLINE std::string describe() const override;

  /// The weight packed (see pack_conv2d) and the bias, a BatchNorm folded into both where there is one, and what they
  /// were made from.
  struct Packed {
    Tensor weight, bias;
    std::vector<std::pair<const void*, uint64_t>> origin;
  };
  Packed packed;
};

/// activation(conv(x) + residual) in one pass. With nothing to learn here the weight is packed once, and again after it
/// changed.
Tensor conv_activation(Conv2d& conv, const Tensor& x, Activation activation, const Tensor& residual = {});

/// activation(bn(conv(x)) + residual), in as few passes as the state of the layers allows:
/// training, the convolution and one fused normalisation; evaluation with nothing to learn here, the BatchNorm folded
/// into the convolution and all in one kernel. The folded weights are made and packed once, and again after any of
/// their sources changed.
Tensor conv_bn(Conv2d& conv, BatchNorm2d& bn, const Tensor& x, Activation activation = Activation::none,
               const Tensor& residual = {});

/// A convolution, its BatchNorm and the activation that follows, as a unit of a chain.
struct ConvBn {
  Conv2d& conv;
  BatchNorm2d& bn;
  Activation activation = Activation::none;
};

/// The units one after the other, `residual` added before the last activation: the same as conv_bn for each of them.
/// Where the device has kernels for it (see tl::conv_bn_chain) nothing but the convolutions' raw results is stored
/// between the units.
Tensor conv_bn_chain(const std::vector<ConvBn>& units, const Tensor& x, const Tensor& residual = {});

}  // namespace nn
}  // namespace tl::inline TL_ABI

#if TL_HEADER_ONLY
#include "tl/nn/conv.inl"
#endif
