// Definitions of nn/conv.hpp.
#pragma once
#include <cmath>

#include "tl/nn/conv.hpp"
#include "tl/ops/elementwise.hpp"

namespace tl::inline TL_ABI {
namespace nn {
namespace detail {

/// The weight and bias of conv followed by bn's running statistics.
TL_INLINE std::pair<Tensor, Tensor> fold(const Conv2d& conv, const BatchNorm2d& bn) {
  const Tensor w = conv.acting_weight();
  Tensor weight = Tensor::empty(w.shape(), w.dtype()), shift = Tensor::empty({w.size(0)}, w.dtype());
  visit_floating(w.dtype(), "fold", [&](auto type) {
    using T = typename decltype(type)::type;
    const T *from = w.data<T>(), *mean = bn.running_mean.value().data<T>(), *var = bn.running_var.value().data<T>();
    const T *gamma = bn.weight.value().data<T>(), *beta = bn.bias.value().data<T>();
    T *to = weight.mutable_data<T>(), *bias = shift.mutable_data<T>();
    const int64_t per_channel = w.numel() / std::max<int64_t>(w.size(0), 1);
    for (int64_t o = 0; o < w.size(0); ++o) {
      const double scale = static_cast<double>(gamma[o]) / std::sqrt(static_cast<double>(var[o]) + bn.config.eps);
      const double before = conv.bias.defined() ? static_cast<double>(conv.bias.value().data<T>()[o]) : 0.0;
      bias[o] = static_cast<T>((before - static_cast<double>(mean[o])) * scale + static_cast<double>(beta[o]));
      for (int64_t i = 0; i < per_channel; ++i)
        to[o * per_channel + i] = static_cast<T>(static_cast<double>(from[o * per_channel + i]) * scale);
    }
  });
  return {weight, shift};
}

/// Brings conv.packed up to date for inputs of this shape and type; bn may be null.
TL_INLINE void pack(Conv2d& conv, const BatchNorm2d* bn, const Shape& x, DType dtype) {
  const auto path = static_cast<uint64_t>(conv2d_path(x, dtype, conv.weight, conv.options()));
  std::vector<std::pair<const void*, uint64_t>> origin{{nullptr, path}, {nullptr, static_cast<uint64_t>(dtype)}};
  const auto add = [&](const Tensor& source) {
    if (source.defined()) origin.emplace_back(source.storage().get(), source.content_version());
  };
  add(conv.weight), add(conv.bias);
  if (Adapter* adapter = acting_adapter(conv, AdapterPlace::weight))
    for (const NamedParameter& p : named_parameters(*adapter)) add(*p.parameter);
  if (bn) add(bn->weight), add(bn->bias), add(bn->running_mean), add(bn->running_var);
  if (conv.packed.origin == origin) return;
  const tl::detail::Aside aside;
  auto [weight, bias] = bn ? fold(conv, *bn) : std::pair<Tensor, Tensor>(conv.acting_weight(), conv.bias);
  conv.packed = {pack_conv2d(x, dtype, weight, conv.options()), bias, std::move(origin)};
}

template <class... Tensors>
bool wants_gradient(const Tensors&... tensors) {
  const auto wants = [](const Tensor& tensor) { return tensor.defined() && tensor.requires_grad(); };
  return grad_enabled() && (wants(tensors) || ...);
}

/// Whether something of the convolution itself learns.
TL_INLINE bool learns(const Conv2d& conv) {
  return wants_gradient(conv.weight, conv.bias) || (conv.adapter() && conv.adapter()->learns());
}

/// Whether something acts on what the convolution itself gives, before a norm or an activation follows.
TL_INLINE bool is_cut(const Conv2d& conv) { return acting_adapter(conv, AdapterPlace::result) != nullptr; }

TL_INLINE Tensor forward(Conv2d& conv, const Tensor& x, Activation activation, const Tensor& residual) {
  const bool packs = conv.weight.value().device().is_cpu() && !wants_gradient(x, residual) && !learns(conv);
  if (packs) pack(conv, nullptr, x.shape(), x.dtype());
  else conv.packed = {};
  return conv2d_fused(x, packs ? conv.weight.value() : conv.acting_weight(), conv.bias, residual, activation,
                      conv.options(), conv.packed.weight);
}

inline bool is_fusible(Activation activation) {
  return activation == Activation::none || activation == Activation::relu || activation == Activation::relu6;
}

/// Whether some of the units learn, pass gradients on or move their statistics.
inline bool learns(const std::vector<ConvBn>& units, const Tensor& x, const Tensor& residual) {
  bool any = wants_gradient(x, residual);
  for (const auto& [conv, bn, activation] : units)
    any = any || bn.training() || learns(conv) || wants_gradient(bn.weight, bn.bias);
  return any;
}

/// The units as one operation that learns, undefined where there are no kernels for it.
inline Tensor learning_chain(const std::vector<ConvBn>& units, const Tensor& x, const Tensor& residual) {
  std::vector<ChainUnit> chain;
  for (const auto& [conv, bn, activation] : units) {
    if (conv.bias.defined() || !is_fusible(activation) || bn.stochastic()) return {};
    chain.push_back({.weight = conv.acting_weight(),
                     .gamma = bn.weight,
                     .beta = bn.bias,
                     .running_mean = bn.running_mean,
                     .running_var = bn.running_var,
                     .conv = conv.options(),
                     .norm = bn.options(activation)});
  }
  if (!has_chain_kernels(x, chain)) return {};
  for (const auto& [conv, bn, activation] : units) bn.count_batch();
  return tl::conv_bn_chain(x, chain, residual);
}

/// The units as one kernel with folded BatchNorms, undefined unless they are an inverted residual that it can compute.
inline Tensor folded_inverted_residual(const std::vector<ConvBn>& units, const Tensor& x, const Tensor& residual) {
  const size_t count = units.size();
  if (count < 2 || count > 3 || !has_inverted_residual(x)) return {};
  ConvGeometry depthwise{};
  std::vector<Shape> shapes{x.shape()};
  for (size_t i = 0; i < count; ++i) {
    const ConvGeometry g =
        tl::detail::conv_geometry(shapes[i], x.dtype(), units[i].conv.weight, units[i].conv.options());
    const bool middle = i + 2 == count;
    if (!chain_fits(g) || (g.groups > 1) != middle || !is_fusible(units[i].activation)) return {};
    if (middle && repeats_much(g, threads())) return {};
    if (middle) depthwise = g;
    shapes.push_back({g.n, g.oh, g.ow, g.cout});
  }
  if (units.back().activation != Activation::none) return {};
  std::vector<PackedConv> packed(3 - count);
  for (size_t i = 0; i < count; ++i) {
    const auto& [conv, bn, activation] = units[i];
    pack(conv, &bn, shapes[i], x.dtype());
    packed.push_back({conv.packed.weight, conv.packed.bias, activation});
  }
  return inverted_residual(x, packed[0], packed[1], packed[2], depthwise, residual);
}

}  // namespace detail

TL_INLINE Conv2d::Conv2d(int64_t in, int64_t out, const Conv2dConfig& c)
    : weight(Tensor::empty({out, c.kernel.h, c.kernel.w, in / std::max<int64_t>(c.groups, 1)}), FileLayout::oihw),
      config(c) {
  const double bound = 1 / std::sqrt(static_cast<double>(std::max<int64_t>(fan_of(weight).in, 1)));
  uniform_(weight.value(), -bound, bound);
  if (!c.bias) return;
  bias = Parameter(Tensor::empty({out}));
  uniform_(bias.value(), -bound, bound);
}

TL_INLINE std::string Conv2d::describe() const {
  const Shape& s = weight.value().shape();
  std::string out =
      text("Conv2d(", s[3] * config.groups, ", ", s[0], ", kernel = ", s[1], "x", s[2], ", stride = ", config.stride.h);
  if (config.padding.same) out += ", padding = same_tf";
  else if (config.padding.top > 0) out += text(", padding = ", config.padding.top);
  if (config.dilation.h > 1) out += text(", dilation = ", config.dilation.h);
  if (config.groups > 1) out += text(", groups = ", config.groups);
  return out + (bias.defined() ? ")" : ", no bias)");
}

TL_INLINE Tensor Conv2d::acting_weight() const {
  Adapter* const adapter = acting_adapter(*this, AdapterPlace::weight);
  return adapter ? adapter->weight(weight) : weight.value();
}

TL_INLINE Tensor Conv2d::forward(const Tensor& x) { return detail::forward(*this, x, Activation::none, {}); }

TL_INLINE Tensor conv_activation(Conv2d& conv, const Tensor& x, Activation activation, const Tensor& residual) {
  Tensor y;
  if (detail::is_cut(conv)) y = conv(x), y = activate(residual.defined() ? y + residual : y, activation);
  else y = detail::forward(conv, x, activation, residual);
  observed(conv, y);
  return y;
}

TL_INLINE Tensor conv_bn(Conv2d& conv, BatchNorm2d& bn, const Tensor& x, Activation activation,
                         const Tensor& residual) {
  const bool learns = detail::wants_gradient(x, residual, bn.weight, bn.bias) || detail::learns(conv);
  const bool fusible = detail::is_fusible(activation);
  if (learns || bn.training() || !x.device().is_cpu() || detail::is_cut(conv)) {
    Tensor y = bn.forward(conv(x), fusible ? activation : Activation::none, residual);
    if (!fusible) y = activate(y, activation);
    observed(bn, y);
    return y;
  }
  detail::pack(conv, &bn, x.shape(), x.dtype());
  Tensor y = conv2d_fused(x, conv.weight, conv.packed.bias, residual, activation, conv.options(), conv.packed.weight);
  observed(bn, y);
  return y;
}

TL_INLINE Tensor conv_bn_chain(const std::vector<ConvBn>& units, const Tensor& x, const Tensor& residual) {
  const bool is_cut =
      std::any_of(units.begin(), units.end(), [](const ConvBn& unit) { return detail::is_cut(unit.conv); });
  if (!is_cut && !Observe::current()) {  // who looks at the layers inside sees each
    const auto fused = detail::learns(units, x, residual) ? detail::learning_chain : detail::folded_inverted_residual;
    if (Tensor y = fused(units, x, residual)) return y;
  }
  Tensor y = x;
  for (const auto& [conv, bn, activation] : units)
    y = conv_bn(conv, bn, y, activation, &bn == &units.back().bn ? residual : Tensor());
  return y;
}

}  // namespace nn
}  // namespace tl::inline TL_ABI
