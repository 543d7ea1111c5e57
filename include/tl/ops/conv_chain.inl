// Definitions of ops/conv_chain.hpp.
#pragma once
#include <cmath>

#include "tl/autograd/function.hpp"
#include "tl/ops/conv.inl"
#include "tl/ops/conv_chain.hpp"
#include "tl/ops/norm.inl"

namespace tl::inline TL_ABI {
namespace detail {

/// Inputs: x, residual, then weight, gamma and beta of each unit.
struct ConvChain {
  static constexpr std::string_view kName = "conv_bn_chain";

  struct Unit {
    ConvGeometry geometry;
    BatchNormOptions norm;
    Tensor running_mean, running_var;  // until forward has moved them
    Kept weight, gamma;
    Tensor z, mean;
    ChannelAffine affine;
    bool needed = false;  // something in this unit, or below it, wants a gradient

    int64_t rows() const { return geometry.n * geometry.oh * geometry.ow; }
  };
  std::vector<Unit> units;
  bool adds_x;  // the residual is x
  Kept x, y;

  static size_t input(size_t unit) { return 2 + 3 * unit; }

  Tensor forward(const Needs& needs, std::span<const Tensor> inputs) {
    bool needed = needs[0];
    for (size_t i = 0; i < units.size(); ++i) {
      Unit& unit = units[i];
      needed = needed || needs[input(i)] || needs[input(i) + 1] || needs[input(i) + 2];
      unit.needed = needed;
      run(unit, i == 0 ? nullptr : &units[i - 1], inputs[0], inputs.subspan(input(i), 3));
      if (needed) unit.weight.keep(inputs[input(i)]), unit.gamma.keep(inputs[input(i) + 1]);
      else if (i > 0) units[i - 1].z = Tensor();
    }
    Unit& last = units.back();
    const Tensor& residual = adds_x ? inputs[0] : inputs[1];
    Tensor out = Tensor::empty(last.z.shape());
    kernel::channel_affine(out.device(),
                           ChannelAffineArgs<float>{.x = last.z.data<float>(),
                                                    .scale = last.affine.scale.data<float>(),
                                                    .shift = last.affine.shift.data<float>(),
                                                    .residual = residual ? residual.data<float>() : nullptr,
                                                    .y = out.mutable_data<float>(),
                                                    .rows = last.rows(),
                                                    .channels = last.geometry.cout,
                                                    .activation = last.norm.activation});
    if (units.front().needed) x.keep(inputs[0]);
    if (needs.any() && last.norm.activation != Activation::none) y.keep(out);
    return out;
  }

  Gradients backward(const Needs& needs, const Tensor& grad_y) {
    Gradients out(input(units.size()));
    Tensor grad = grad_y, sum, sum_centered;
    mask_last(grad, sum, sum_centered);
    if (needs[1]) out[1] = grad;
    const Tensor grad_sum = adds_x && needs[0] ? grad : Tensor();
    for (size_t i = units.size(); i-- > 0 && units[i].needed;) {
      Unit& unit = units[i];
      Unit* const before = i > 0 ? &units[i - 1] : nullptr;
      const bool wants_x = before ? before->needed : needs[0];
      const bool wants_weight = needs[input(i)];
      out[input(i) + 1] = needs[input(i) + 1] ? scaled(sum_centered, unit.affine.rstd) : Tensor();
      out[input(i) + 2] = needs[input(i) + 2] ? sum : Tensor();
      if (!wants_x && !wants_weight) break;
      const auto coefficients = grad_z_coefficients(unit, sum, sum_centered);
      const Shape channels{unit.geometry.cin};
      Tensor grad_x =
          wants_x ? Tensor::empty({unit.geometry.n, unit.geometry.h, unit.geometry.w, unit.geometry.cin}) : Tensor();
      Tensor grad_weight = wants_weight ? Tensor::empty(unit.weight.get(kName).shape()) : Tensor();
      sum = before && wants_x ? Tensor::empty(channels) : Tensor();
      sum_centered = before && wants_x ? Tensor::empty(channels) : Tensor();
      const auto write = [](Tensor& tensor) { return tensor ? tensor.mutable_data<float>() : nullptr; };
      kernel::chain_backward(
          grad.device(), ChainBackwardArgs<float>{.geometry = unit.geometry,
                                                  .grad = grad.data<float>(),
                                                  .z = unit.norm.training ? unit.z.data<float>() : nullptr,
                                                  .mean = unit.mean.data<float>(),
                                                  .of_grad = coefficients.data<float>(),
                                                  .of_z = coefficients.data<float>() + unit.geometry.cout,
                                                  .of_1 = coefficients.data<float>() + 2 * unit.geometry.cout,
                                                  .x = before ? before->z.data<float>() : x.get(kName).data<float>(),
                                                  .weight = unit.weight.get(kName).data<float>(),
                                                  .before = map_of(before),
                                                  .x_mean = before ? before->mean.data<float>() : nullptr,
                                                  .residual = !before && grad_sum ? grad_sum.data<float>() : nullptr,
                                                  .grad_weight = write(grad_weight),
                                                  .grad_x = write(grad_x),
                                                  .sum = write(sum),
                                                  .sum_centered = write(sum_centered)});
      out[input(i)] = std::move(grad_weight);
      grad = std::move(grad_x);
      unit.z = Tensor();
    }
    if (needs[0]) out[0] = std::move(grad);
    return out;
  }

 private:
  static ChannelMap<float> map_of(const Unit* before) {
    if (!before) return {};
    return {before->affine.scale.data<float>(), before->affine.shift.data<float>(), before->norm.activation};
  }

  /// z of one unit, and scale and shift of its BatchNorm.
  static void run(Unit& unit, const Unit* before, const Tensor& x, std::span<const Tensor> parameters) {
    const auto& g = unit.geometry;
    const Shape channels{g.cout};
    unit.z = Tensor::empty({g.n, g.oh, g.ow, g.cout});
    Tensor variance = unit.norm.training ? Tensor::empty(channels) : unit.running_var;
    unit.mean = unit.norm.training ? Tensor::empty(channels) : unit.running_mean.clone();
    kernel::chain_forward(x.device(), ChainForwardArgs<float>{
                                          .geometry = g,
                                          .x = before ? before->z.data<float>() : x.data<float>(),
                                          .weight = parameters[0].data<float>(),
                                          .before = map_of(before),
                                          .z = unit.z.mutable_data<float>(),
                                          .mean = unit.norm.training ? unit.mean.mutable_data<float>() : nullptr,
                                          .variance = unit.norm.training ? variance.mutable_data<float>() : nullptr,
                                      });
    if (unit.norm.training) {
      move_running<float>(unit.running_mean, unit.mean, 1.0, unit.norm.momentum);
      move_running<float>(unit.running_var, variance, unbias(unit.rows()), unit.norm.momentum);
    }
    unit.affine = normalising_affine<float>(unit.mean, variance, parameters[1], parameters[2], unit.norm.eps);
    unit.running_mean = unit.running_var = Tensor();
  }

  /// Masks the gradient of the result by the last activation, and takes the sums that its BatchNorm needs.
  void mask_last(Tensor& grad, Tensor& sum, Tensor& sum_centered) const {
    const Unit& last = units.back();
    const bool masked = last.norm.activation != Activation::none;
    if (!masked && !last.needed) return;
    const Shape channels{last.geometry.cout};
    Tensor through = masked ? Tensor::empty(grad.shape()) : Tensor();
    sum = last.needed ? Tensor::empty(channels) : Tensor();
    sum_centered = last.needed ? Tensor::empty(channels) : Tensor();
    const Tensor ones = Tensor::ones(channels);  // for rstd: the sums as they are
    kernel::batch_norm_backward(
        grad.device(), BatchNormBackwardArgs<float>{.grad_y = grad.data<float>(),
                                                    .x = last.needed ? last.z.data<float>() : nullptr,
                                                    .y = masked ? y.get(kName).data<float>() : nullptr,
                                                    .gamma = nullptr,
                                                    .mean = last.mean.data<float>(),
                                                    .rstd = ones.data<float>(),
                                                    .grad_x = nullptr,
                                                    .grad_gamma = sum ? sum_centered.mutable_data<float>() : nullptr,
                                                    .grad_beta = sum ? sum.mutable_data<float>() : nullptr,
                                                    .grad_residual = masked ? through.mutable_data<float>() : nullptr,
                                                    .rows = last.rows(),
                                                    .channels = last.geometry.cout,
                                                    .activation = last.norm.activation,
                                                    .frozen_statistics = true});
    if (masked) grad = through;
  }

  static Tensor scaled(const Tensor& sums, const Tensor& factors) {
    Tensor out = sums.clone();
    perform("scaled", [to = out.mutable_data<float>(), by = factors.data<float>(), n = out.numel()] {
      for (int64_t c = 0; c < n; ++c) to[c] *= by[c];
    });
    return out;
  }

  /// [3, C]: grad_z = gamma rstd (g - mean(g) - (z - mean) rstd^2 mean(g (z - mean))), or gamma rstd g with running
  /// statistics, as multiples of g, z - mean and 1.
  static Tensor grad_z_coefficients(const Unit& unit, const Tensor& sum, const Tensor& sum_centered) {
    const int64_t channels = unit.geometry.cout;
    Tensor out = Tensor::zeros({3, channels});
    const auto read = [&](const Tensor& tensor) { return unit.norm.training ? tensor.data<float>() : nullptr; };
    perform("grad_z_coefficients", [of_grad = out.mutable_data<float>(), scale = unit.affine.scale.data<float>(),
                                    rstds = read(unit.affine.rstd), sums = read(sum), centered = read(sum_centered),
                                    channels, count = static_cast<double>(unit.rows()), training = unit.norm.training] {
      for (int64_t c = 0; c < channels; ++c) {
        of_grad[c] = scale[c];
        if (!training) continue;
        const auto slope = static_cast<double>(scale[c]), rstd = static_cast<double>(rstds[c]);
        of_grad[channels + c] = static_cast<float>(-slope * rstd * rstd * static_cast<double>(centered[c]) / count);
        of_grad[2 * channels + c] = static_cast<float>(-slope * static_cast<double>(sums[c]) / count);
      }
    });
    return out;
  }
};

/// One geometry for each unit. Errors: those of conv2d.
TL_INLINE std::vector<ConvGeometry> chain_geometries(const Tensor& x, const std::vector<ChainUnit>& units) {
  std::vector<ConvGeometry> out;
  Shape shape = x.shape();
  for (const ChainUnit& unit : units) {
    out.push_back(conv_geometry(shape, x.dtype(), unit.weight, unit.conv));
    shape = {out.back().n, out.back().oh, out.back().ow, out.back().cout};
  }
  return out;
}

}  // namespace detail

TL_INLINE bool has_chain_kernels(const Tensor& x, const std::vector<ChainUnit>& units) {
  if (x.dtype() != DType::f32 || !x.device().is_cpu()) return false;
  if (!has_kernel<float>(x.device(), kernel_tag::chain_forward())) return false;
  if (!has_kernel<float>(x.device(), kernel_tag::chain_backward())) return false;
  const auto geometries = detail::chain_geometries(x, units);
  return std::all_of(geometries.begin(), geometries.end(), chain_fits);
}

TL_INLINE Tensor conv_bn_chain(const Tensor& x, const std::vector<ChainUnit>& units, const Tensor& residual) {
  require<UsageError>(!units.empty() && has_chain_kernels(x, units),
                      "conv_bn_chain: there are no kernels for these units. Hint: ask has_chain_kernels first.");
  const auto geometries = detail::chain_geometries(x, units);
  detail::ConvChain chain{.units = {}, .adds_x = residual.defined() && residual.is(x), .x = {}, .y = {}};
  std::vector<Tensor> inputs{x, chain.adds_x ? Tensor() : residual};
  for (size_t i = 0; i < units.size(); ++i) {
    const ChainUnit& unit = units[i];
    const ConvGeometry& g = geometries[i];
    const auto check = [&](const Tensor& tensor, std::string_view what) {
      require<ShapeError>(tensor.defined() && tensor.shape() == Shape{g.cout}, "conv_bn_chain: ", what,
                          " must be [C] with C = ", g.cout, "; got ", tensor.defined() ? tensor.shape() : Shape());
    };
    check(unit.gamma, "gamma"), check(unit.beta, "beta");
    check(unit.running_mean, "running_mean"), check(unit.running_var, "running_var");
    detail::check_batch_norm_options(unit.norm, Shape{g.n, g.oh, g.ow, g.cout});
    chain.units.push_back({.geometry = g,
                           .norm = unit.norm,
                           .running_mean = unit.running_mean,
                           .running_var = unit.running_var,
                           .weight = {},
                           .gamma = {},
                           .z = {},
                           .mean = {},
                           .affine = {}});
    inputs.insert(inputs.end(), {unit.weight, unit.gamma, unit.beta});
  }
  const ConvGeometry& last = geometries.back();
  require<ShapeError>(!residual.defined() || residual.shape() == Shape{last.n, last.oh, last.ow, last.cout},
                      "conv_bn_chain: residual must be like the result; got ",
                      residual.defined() ? residual.shape() : Shape());
  return apply(std::move(chain), std::span<const Tensor>(inputs));
}

TL_INLINE bool has_inverted_residual(const Tensor& x) {
  if (!x.device().is_cpu()) return false;
  if (x.dtype() == DType::bf16) return has_kernel<BFloat16>(x.device(), kernel_tag::inverted_residual());
  return x.dtype() == DType::f32 && has_kernel<float>(x.device(), kernel_tag::inverted_residual());
}

TL_INLINE Tensor inverted_residual(const Tensor& x, const PackedConv& expand, const PackedConv& depthwise,
                                   const PackedConv& project, const ConvGeometry& geometry, const Tensor& residual) {
  const ConvGeometry& g = geometry;
  Tensor y = Tensor::empty({g.n, g.oh, g.ow, project.bias.numel()}, x.dtype());
  require<ShapeError>(!residual.defined() || residual.shape() == y.shape(),
                      "inverted_residual: residual must be like the result, ", y.shape(), "; got ",
                      residual.defined() ? residual.shape() : Shape());
  const auto run = [&](auto type) {
    using T = typename decltype(type)::type;
    const auto read = [](const Tensor& tensor) { return tensor.defined() ? tensor.data<T>() : nullptr; };
    const auto bias = [](const PackedConv& conv) { return conv.bias.defined() ? conv.bias.data<Wide<T>>() : nullptr; };
    kernel::inverted_residual(x.device(), InvertedResidualArgs<T>{.depthwise = g,
                                                                  .cin = x.size(3),
                                                                  .cout = y.size(3),
                                                                  .x = x.data<T>(),
                                                                  .expand = read(expand.weight),
                                                                  .kernel = read(depthwise.weight),
                                                                  .project = read(project.weight),
                                                                  .expand_bias = bias(expand),
                                                                  .kernel_bias = bias(depthwise),
                                                                  .project_bias = bias(project),
                                                                  .residual = read(residual),
                                                                  .y = y.mutable_data<T>(),
                                                                  .expand_activation = expand.activation,
                                                                  .depthwise_activation = depthwise.activation});
  };
  if (x.dtype() == DType::bf16) run(Type<BFloat16>{});
  else run(Type<float>{});
  return y;
}

}  // namespace tl::inline TL_ABI
