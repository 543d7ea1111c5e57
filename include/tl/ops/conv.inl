// Definitions of ops/conv.hpp.
#pragma once
#include <atomic>
#include <cstdlib>

#include "tl/autograd/function.hpp"
#include "tl/ops/conv.hpp"
#include "tl/ops/elementwise.hpp"
#include "tl/ops/window.hpp"

namespace tl::inline TL_ABI {
namespace detail {

TL_INLINE int64_t checked_winograd_tile(std::string_view source, std::string_view side) {
  require<UsageError>(side == "0" || side == "2" || side == "4", source, ": expected 0, 2 or 4, got ", side);
  return side[0] - '0';
}

TL_INLINE std::atomic<int64_t>& winograd_setting() {
  static std::atomic<int64_t> setting = [] {
    const char* const given = std::getenv("TL_WINOGRAD");
    return given && *given ? checked_winograd_tile("TL_WINOGRAD", given) : 4;
  }();
  return setting;
}

/// The largest of Winograd's tiles that pays and that numbers of the type are precise enough for. AMX multiplies so
/// fast that no transform pays.
inline int64_t largest_winograd_tile(DType dtype) {
  if (dtype != DType::bf16) return 4;
  const Bf16Path path = active_bf16_path();
  return path == Bf16Path::amx || path == Bf16Path::amx_reference ? 0 : 2;
}

TL_INLINE ConvGeometry conv_geometry(const Shape& x, DType dtype, const Tensor& weight, const Conv2dOptions& options) {
  const auto& [stride, padding, dilation, groups] = options;
  require<ShapeError>(x.rank() == 4, "conv2d: x must be [N, H, W, C]; got ", x);
  require<ShapeError>(weight.rank() == 4, "conv2d: weight must be [Cout, kH, kW, Cin/groups]; got ", weight.shape());
  require<UsageError>(groups >= 1 && x[3] % groups == 0 && weight.size(0) % groups == 0,
                      "conv2d: groups must divide Cin = ", x[3], " and Cout = ", weight.size(0), "; got ", groups);
  require<ShapeError>(weight.size(3) == x[3] / groups,
                      "conv2d: weight must be [Cout, kH, kW, Cin/groups] with "
                      "Cin/groups = ",
                      x[3] / groups, "; got ", weight.shape(), ". Hint: x is ", x, ", groups = ", groups, ".");
  const WindowAxis rows("conv2d", x[1], weight.size(1), stride.h, dilation.h, padding.top, padding.bottom,
                        padding.same);
  const WindowAxis cols("conv2d", x[2], weight.size(2), stride.w, dilation.w, padding.left, padding.right,
                        padding.same);
  return {.n = x[0],
          .h = x[1],
          .w = x[2],
          .cin = x[3],
          .cout = weight.size(0),
          .kh = weight.size(1),
          .kw = weight.size(2),
          .groups = groups,
          .oh = rows.out,
          .ow = cols.out,
          .stride_h = stride.h,
          .stride_w = stride.w,
          .dilation_h = dilation.h,
          .dilation_w = dilation.w,
          .pad_top = rows.before,
          .pad_left = cols.before,
          .winograd_tile = std::min(winograd_tile(), largest_winograd_tile(dtype))};
}

TL_INLINE ConvGeometry conv_geometry(const Tensor& x, const Tensor& weight, const Tensor& bias,
                                     const Conv2dOptions& options) {
  const ConvGeometry geometry = conv_geometry(x.shape(), x.dtype(), weight, options);
  require<ShapeError>(!bias.defined() || bias.shape() == Shape{weight.size(0)},
                      "conv2d: bias must be [Cout] with Cout = ", weight.size(0), "; got ",
                      bias.defined() ? bias.shape() : Shape());
  require<DTypeError>(wide(x.dtype()) == weight.dtype(), "conv2d: x is ", x.dtype(), ", weight is ", weight.dtype(),
                      "; expected ", wide(x.dtype()));
  require<DeviceError>(x.device() == weight.device(), "conv2d: x is on ", x.device(), ", weight on ", weight.device());
  return geometry;
}

struct Conv2d {
  static constexpr std::string_view kName = "conv2d";
  ConvGeometry geometry;
  Kept x, weight;

  Tensor forward(const Needs& needs, const Tensor& in, const Tensor& w, const Tensor& bias) {
    Tensor y = run(geometry, in, w, bias, {}, Activation::none);
    if (needs[1]) x.keep(in);
    if (needs[0]) weight.keep(w);
    return y;
  }

  Gradients backward(const Needs& needs, const Tensor& grad_y) const {
    const auto& g = geometry;
    Gradients out(3);
    visit_activation(grad_y.dtype(), kName, [&](auto type) {
      using T = typename decltype(type)::type;
      if (needs[0]) {
        out[0] = Tensor::empty({g.n, g.h, g.w, g.cin}, grad_y.dtype(), grad_y.device());
        kernel::conv_backward_data(grad_y.device(), ConvBackwardDataArgs<T>{.geometry = g,
                                                                            .grad_y = grad_y.data<T>(),
                                                                            .weight = weight.get(kName).data<Wide<T>>(),
                                                                            .grad_x = out[0].mutable_data<T>()});
      }
      if (needs[1]) {
        out[1] = Tensor::empty({g.cout, g.kh, g.kw, g.cin / g.groups}, wide(grad_y.dtype()), grad_y.device());
        if (needs[2]) out[2] = Tensor::empty({g.cout}, wide(grad_y.dtype()), grad_y.device());
        kernel::conv_backward_weight(
            grad_y.device(), ConvBackwardWeightArgs<T>{.geometry = g,
                                                       .grad_y = grad_y.data<T>(),
                                                       .x = x.get(kName).data<T>(),
                                                       .grad_weight = out[1].mutable_data<Wide<T>>(),
                                                       .grad_bias = out[2] ? out[2].mutable_data<Wide<T>>() : nullptr});
      } else if (needs[2]) {
        out[2] = Tensor::empty({g.cout}, wide(grad_y.dtype()), grad_y.device());
        kernel::reduce(grad_y.device(), ReduceArgs<T>{.reduction = Reduction::sum,
                                                      .x = grad_y.data<T>(),
                                                      .y = out[2].mutable_data<Wide<T>>(),
                                                      .index = nullptr,
                                                      .outer = 1,
                                                      .axis = g.n * g.oh * g.ow,
                                                      .inner = g.cout});
      }
    });
    return out;
  }

  static Tensor run(const ConvGeometry& g, const Tensor& x, const Tensor& weight, const Tensor& bias,
                    const Tensor& residual, Activation activation, const Tensor& packed = {}) {
    Tensor y = Tensor::empty({g.n, g.oh, g.ow, g.cout}, x.dtype(), x.device());
    visit_activation(x.dtype(), kName, [&](auto type) {
      using T = typename decltype(type)::type;
      kernel::conv_forward(x.device(), ConvForwardArgs<T>{.geometry = g,
                                                          .x = x.data<T>(),
                                                          .weight = weight.data<Wide<T>>(),
                                                          .bias = bias.defined() ? bias.data<Wide<T>>() : nullptr,
                                                          .residual = residual.defined() ? residual.data<T>() : nullptr,
                                                          .y = y.mutable_data<T>(),
                                                          .activation = activation,
                                                          .packed = packed.defined() ? packed.data<T>() : nullptr});
    });
    return y;
  }
};

}  // namespace detail

TL_INLINE int64_t winograd_tile() { return detail::winograd_setting().load(std::memory_order_relaxed); }
TL_INLINE void set_winograd_tile(int64_t side) {
  detail::winograd_setting() = detail::checked_winograd_tile("set_winograd_tile", std::to_string(side));
  detail::Configuration::changed();
}

TL_INLINE Tensor conv2d(const Tensor& x, const Tensor& weight, const Tensor& bias, const Conv2dOptions& options) {
  return apply(detail::Conv2d{detail::conv_geometry(x, weight, bias, options), {}, {}}, x, weight, bias);
}

TL_INLINE Tensor conv2d_fused(const Tensor& x, const Tensor& weight, const Tensor& bias, const Tensor& residual,
                              Activation activation, const Conv2dOptions& options, const Tensor& packed) {
  const auto wants = [](const Tensor& tensor) { return tensor.defined() && tensor.requires_grad(); };
  if (grad_enabled() && (wants(x) || wants(weight) || wants(bias) || wants(residual))) {
    const Tensor y = conv2d(x, weight, bias, options);
    return activate(residual.defined() ? y + residual : y, activation);
  }
  const ConvGeometry geometry = detail::conv_geometry(x, weight, bias, options);
  require<ShapeError>(
      !residual.defined() || residual.shape() == Shape{geometry.n, geometry.oh, geometry.ow, geometry.cout},
      "conv2d_fused: residual must be like y; got ", residual.defined() ? residual.shape() : Shape());
  require<ShapeError>(!packed.defined() || packed.shape() == Shape{conv_packed_size(geometry)},
                      "conv2d_fused: packed must be [", conv_packed_size(geometry), "], from pack_conv2d; got ",
                      packed.defined() ? packed.shape() : Shape());
  return detail::Conv2d::run(geometry, x, weight, bias, residual, activation, packed);
}

TL_INLINE ConvPath conv2d_path(const Shape& x, DType dtype, const Tensor& weight, const Conv2dOptions& options) {
  return conv_path(detail::conv_geometry(x, dtype, weight, options));
}

TL_INLINE Tensor pack_conv2d(const Shape& x, DType dtype, const Tensor& weight, const Conv2dOptions& options) {
  const ConvGeometry geometry = detail::conv_geometry(x, dtype, weight, options);
  Tensor packed = Tensor::empty({conv_packed_size(geometry)}, dtype, weight.device());
  visit_activation(dtype, detail::Conv2d::kName, [&](auto type) {
    using T = typename decltype(type)::type;
    kernel::conv_pack(weight.device(), ConvPackArgs<T>{geometry, weight.data<Wide<T>>(), packed.mutable_data<T>()});
  });
  return packed;
}

}  // namespace tl::inline TL_ABI
