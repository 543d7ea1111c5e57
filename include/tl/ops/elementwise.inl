// Definitions of ops/elementwise.hpp.
#pragma once
#include "tl/autograd/function.hpp"
#include "tl/ops/elementwise.hpp"
#include "tl/ops/reduce.hpp"

namespace tl::inline TL_ABI {
namespace detail {

/// Strides in elements of a contiguous `shape` seen as `target`; repeated dimensions have stride 0.
TL_INLINE void broadcast_strides(const Shape& shape, const Shape& target, int64_t (&strides)[kMaxRank]) {
  const int missing = target.rank() - shape.rank();
  int64_t step = 1;
  for (int d = target.rank() - 1; d >= 0; --d) {
    const int64_t size = d >= missing ? shape[d - missing] : 1;
    strides[d] = size == 1 ? 0 : step;
    step *= size;
  }
}

struct Binary {
  static constexpr std::string_view kName = "binary";
  BinaryFunction function;
  std::string_view symbol;
  Shape shape_a, shape_b;
  Kept a, b;

  Tensor forward(const Needs& needs, const Tensor& x, const Tensor& y) {
    require<DTypeError>(x.dtype() == y.dtype(), symbol, ": both sides must have one type, got ", x.dtype(), " and ",
                        y.dtype());
    require<DeviceError>(x.device() == y.device(), symbol, ": both sides must be on one device, got ", x.device(),
                         " and ", y.device());
    shape_a = x.shape(), shape_b = y.shape();
    Tensor out = Tensor::empty(broadcast_shape(shape_a, shape_b, symbol), x.dtype(), x.device());
    visit_activation(x.dtype(), symbol, [&](auto type) {
      using T = typename decltype(type)::type;
      BinaryArgs<T> args{.function = function,
                         .a = x.data<T>(),
                         .b = y.data<T>(),
                         .y = out.mutable_data<T>(),
                         .rank = out.rank(),
                         .shape = {},
                         .stride_a = {},
                         .stride_b = {}};
      describe(out.shape(), args);
      kernel::binary(x.device(), args);
    });
    const bool linear = function == BinaryFunction::add || function == BinaryFunction::sub;
    if (needs.any() && !linear) {
      a.keep(x);
      b.keep(y);
    }
    return out;
  }

  Gradients backward(const Needs& needs, const Tensor& grad_y) {
    if (function == BinaryFunction::add || function == BinaryFunction::sub) {
      Gradients out(2);
      if (needs[0]) out[0] = sum_to(grad_y, shape_a);
      if (needs[1]) {
        out[1] = sum_to(grad_y, shape_b);
        if (function == BinaryFunction::sub) out[1] = affine(out[1], -1, 0);
      }
      return out;
    }
    Tensor grad_a = needs[0] ? Tensor::empty(grad_y.shape(), grad_y.dtype(), grad_y.device()) : Tensor();
    Tensor grad_b = needs[1] ? Tensor::empty(grad_y.shape(), grad_y.dtype(), grad_y.device()) : Tensor();
    visit_activation(grad_y.dtype(), symbol, [&](auto type) {
      using T = typename decltype(type)::type;
      BinaryBackwardArgs<T> args{.function = function,
                                 .a = a.get(symbol).data<T>(),
                                 .b = b.get(symbol).data<T>(),
                                 .grad_y = grad_y.data<T>(),
                                 .grad_a = grad_a ? grad_a.mutable_data<T>() : nullptr,
                                 .grad_b = grad_b ? grad_b.mutable_data<T>() : nullptr,
                                 .rank = grad_y.rank(),
                                 .shape = {},
                                 .stride_a = {},
                                 .stride_b = {}};
      describe(grad_y.shape(), args);
      kernel::binary_backward(grad_y.device(), args);
    });
    return {grad_a ? sum_to(grad_a, shape_a) : Tensor(), grad_b ? sum_to(grad_b, shape_b) : Tensor()};
  }

 private:
  template <class Args>
  void describe(const Shape& shape, Args& args) const {
    for (int d = 0; d < shape.rank(); ++d) args.shape[d] = shape[d];
    broadcast_strides(shape_a, shape, args.stride_a);
    broadcast_strides(shape_b, shape, args.stride_b);
  }
};

struct Affine {
  static constexpr std::string_view kName = "affine";
  double alpha, gamma;

  Tensor forward(const Needs&, const Tensor& x) const {
    Tensor y = Tensor::empty(x.shape(), x.dtype(), x.device());
    run(x, y, gamma);
    return y;
  }

  Gradients backward(const Needs&, const Tensor& grad_y) const {
    if (alpha == 1) return {grad_y};
    Tensor grad_x = Tensor::empty(grad_y.shape(), grad_y.dtype(), grad_y.device());
    run(grad_y, grad_x, 0);
    return {grad_x};
  }

 private:
  void run(const Tensor& x, Tensor& y, double constant) const {
    visit_activation(x.dtype(), kName, [&](auto type) {
      using T = typename decltype(type)::type;
      kernel::affine(x.device(), AffineArgs<T>{.x = x.data<T>(),
                                               .y = y.mutable_data<T>(),
                                               .n = x.numel(),
                                               .alpha = static_cast<Wide<T>>(alpha),
                                               .beta = 0,
                                               .gamma = static_cast<Wide<T>>(constant)});
    });
  }
};

struct Unary {
  static constexpr std::string_view kName = "unary";
  UnaryFunction function;
  Kept kept;

  Tensor forward(const Needs& needs, const Tensor& x) {
    Tensor y = Tensor::empty(x.shape(), x.dtype(), x.device());
    visit_activation(x.dtype(), kName, [&](auto type) {
      using T = typename decltype(type)::type;
      kernel::unary(x.device(),
                    UnaryArgs<T>{.function = function, .x = x.data<T>(), .y = y.mutable_data<T>(), .n = x.numel()});
    });
    if (needs.any()) kept.keep(slope_from_y(function) ? y : x);
    return y;
  }

  Gradients backward(const Needs&, const Tensor& grad_y) {
    Tensor grad_x = Tensor::empty(grad_y.shape(), grad_y.dtype(), grad_y.device());
    visit_activation(grad_y.dtype(), kName, [&](auto type) {
      using T = typename decltype(type)::type;
      kernel::unary_backward(grad_y.device(), UnaryBackwardArgs<T>{.function = function,
                                                                   .kept = kept.get(kName).data<T>(),
                                                                   .grad_y = grad_y.data<T>(),
                                                                   .grad_x = grad_x.mutable_data<T>(),
                                                                   .n = grad_y.numel()});
    });
    return {grad_x};
  }
};

struct Cast {
  static constexpr std::string_view kName = "cast";
  DType to, from = to;

  Tensor forward(const Needs&, const Tensor& x) {
    from = x.dtype();
    return x.to(to);
  }
  Gradients backward(const Needs&, const Tensor& grad_y) const { return {grad_y.to(from)}; }
};

}  // namespace detail

TL_INLINE Shape broadcast_shape(const Shape& a, const Shape& b, std::string_view operation) {
  const int rank = std::max(a.rank(), b.rank());
  Shape out;
  for (int d = 0; d < rank; ++d) {
    const int64_t size_a = d < rank - a.rank() ? 1 : a[d - (rank - a.rank())];
    const int64_t size_b = d < rank - b.rank() ? 1 : b[d - (rank - b.rank())];
    require<ShapeError>(size_a == size_b || size_a == 1 || size_b == 1, operation, ": ", a, " and ", b,
                        " do not broadcast. Hint: sizes are aligned at the last dimension and must be equal or 1.");
    out.push_back(size_a == 1 ? size_b : size_a);
  }
  return out;
}

TL_INLINE Tensor operator+(const Tensor& a, const Tensor& b) {
  return apply(detail::Binary{BinaryFunction::add, "add", {}, {}, {}, {}}, a, b);
}
TL_INLINE Tensor operator-(const Tensor& a, const Tensor& b) {
  return apply(detail::Binary{BinaryFunction::sub, "subtract", {}, {}, {}, {}}, a, b);
}
TL_INLINE Tensor operator*(const Tensor& a, const Tensor& b) {
  return apply(detail::Binary{BinaryFunction::mul, "multiply", {}, {}, {}, {}}, a, b);
}
TL_INLINE Tensor operator/(const Tensor& a, const Tensor& b) {
  return apply(detail::Binary{BinaryFunction::div, "divide", {}, {}, {}, {}}, a, b);
}
TL_INLINE Tensor maximum(const Tensor& a, const Tensor& b) {
  return apply(detail::Binary{BinaryFunction::maximum, "maximum", {}, {}, {}, {}}, a, b);
}
TL_INLINE Tensor minimum(const Tensor& a, const Tensor& b) {
  return apply(detail::Binary{BinaryFunction::minimum, "minimum", {}, {}, {}, {}}, a, b);
}

TL_INLINE Tensor affine(const Tensor& x, double alpha, double gamma) { return apply(detail::Affine{alpha, gamma}, x); }

TL_INLINE Tensor unary(UnaryFunction function, const Tensor& x) { return apply(detail::Unary{function, {}}, x); }

TL_INLINE Tensor cast(const Tensor& x, DType dtype) {
  if (x.dtype() == dtype) return x;
  require<DTypeError>(is_floating(x.dtype()) && is_floating(dtype), "cast: expected floating types, got ", x.dtype(),
                      " to ", dtype);
  return apply(detail::Cast{dtype}, x);
}

TL_INLINE Tensor in_precision(const Tensor& x) {
  return x.dtype() == DType::f32 || x.dtype() == DType::bf16 ? cast(x, activation_dtype(precision())) : x;
}

TL_INLINE Tensor activate(const Tensor& x, Activation activation) {
  switch (activation) {
    case Activation::none:
      return x;
    case Activation::relu:
      return relu(x);
    case Activation::relu6:
      return relu6(x);
    case Activation::silu:
      return silu(x);
    case Activation::gelu:
      return gelu(x);
    case Activation::hardswish:
      return hardswish(x);
  }
  fail<UsageError>("activate: unknown activation ", static_cast<int>(activation));
}

}  // namespace tl::inline TL_ABI
