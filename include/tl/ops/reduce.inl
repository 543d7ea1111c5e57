// Definitions of ops/reduce.hpp.
#pragma once
#include <algorithm>

#include "tl/autograd/function.hpp"
#include "tl/ops/elementwise.hpp"
#include "tl/ops/reduce.hpp"
#include "tl/ops/view.hpp"

namespace tl::inline TL_ABI {
namespace detail {

/// Reduces the dimensions [first, last) of x; the result lacks them.
struct Reduce {
  static constexpr std::string_view kName = "reduce";
  Reduction reduction;
  int first, last;
  Shape input = {};
  Kept index = {};
  DType dtype = DType::f32;

  Tensor forward(const Needs& needs, const Tensor& x) {
    input = x.shape();
    Shape shape;
    for (int d = 0; d < input.rank(); ++d)
      if (d < first || d >= last) shape.push_back(input[d]);
    const bool extreme = reduction == Reduction::max || reduction == Reduction::min;
    require<ShapeError>(!extreme || axis() > 0, "max: a dimension of size 0 has no extreme, got ", input);
    dtype = x.dtype();
    Tensor y = Tensor::empty(shape, wide(dtype), x.device());
    Tensor places = extreme && needs.any() ? Tensor::empty(shape, DType::i32, x.device()) : Tensor();
    visit_activation(dtype, kName, [&](auto type) {
      using T = typename decltype(type)::type;
      kernel::reduce(x.device(), ReduceArgs<T>{.reduction = reduction,
                                               .x = x.data<T>(),
                                               .y = y.mutable_data<Wide<T>>(),
                                               .index = places ? places.mutable_data<int32_t>() : nullptr,
                                               .outer = outer(),
                                               .axis = axis(),
                                               .inner = inner()});
    });
    if (places) index.keep(places);
    return y;
  }

  Gradients backward(const Needs&, const Tensor& grad_y) {
    if (!index) {
      Shape kept = input;
      for (int d = first; d < last; ++d) kept = kept.with(d, 1);
      const double scale = reduction == Reduction::mean ? 1.0 / static_cast<double>(axis()) : 1.0;
      const Tensor grad = (scale == 1.0 ? grad_y : affine(grad_y, scale, 0)).to(dtype);
      return {expand(grad.alias(kept), input)};
    }
    Tensor grad_x = Tensor::empty(input, grad_y.dtype(), grad_y.device());
    visit_floating(grad_y.dtype(), kName, [&](auto type) {
      using T = typename decltype(type)::type;
      kernel::scatter_axis(grad_y.device(), ScatterAxisArgs<T>{.grad_y = grad_y.data<T>(),
                                                               .index = index.get(kName).data<int32_t>(),
                                                               .grad_x = grad_x.mutable_data<T>(),
                                                               .outer = outer(),
                                                               .axis = axis(),
                                                               .inner = inner()});
    });
    return {grad_x.to(dtype)};
  }

 private:
  int64_t outer() const { return input.product(0, first); }
  int64_t axis() const { return input.product(first, last); }
  int64_t inner() const { return input.product(last, input.rank()); }
};

/// Reduces any set of dimensions, run by run of neighbours, from the last one.
TL_INLINE Tensor reduce_axes(const Tensor& x, std::vector<int> axes, bool keep, Reduction reduction,
                             std::string_view name) {
  if (axes.empty())
    for (int d = 0; d < x.rank(); ++d) axes.push_back(d);
  for (int& axis : axes) axis = x.shape().axis(axis, name);
  std::sort(axes.begin(), axes.end());
  require<UsageError>(std::adjacent_find(axes.begin(), axes.end()) == axes.end(), name, ": a dimension is named twice");
  Shape kept = x.shape();
  for (const int axis : axes) kept = kept.with(axis, 1);
  Tensor out = x;
  while (!axes.empty()) {
    const int last = axes.back() + 1;
    int first = axes.back();
    axes.pop_back();
    while (!axes.empty() && axes.back() == first - 1) first = axes.back(), axes.pop_back();
    out = apply(Reduce{reduction, first, last}, out);
  }
  return keep ? reshape(out, kept) : out;
}

/// Values of x [rows, cols] at flat places; the gradient is scattered back.
struct TakePlaces {
  static constexpr std::string_view kName = "top_k";
  Tensor values, places;  // [rows * k], flat indices into x
  Shape input;

  Tensor forward(const Needs&, const Tensor& x) {
    input = x.shape();
    return std::move(values);
  }

  Gradients backward(const Needs&, const Tensor& grad_y) const {
    Tensor grad_x = Tensor::zeros(input, grad_y.dtype(), grad_y.device());
    visit_floating(grad_y.dtype(), kName, [&](auto type) {
      using T = typename decltype(type)::type;
      kernel::scatter_add_rows(grad_y.device(), ScatterAddRowsArgs<T>{.y = grad_y.data<T>(),
                                                                      .index = places.data<int32_t>(),
                                                                      .x = grad_x.mutable_data<T>(),
                                                                      .count = grad_y.numel(),
                                                                      .rows = grad_x.numel(),
                                                                      .cols = 1,
                                                                      .skip = -1});
    });
    return {grad_x};
  }
};

}  // namespace detail

TL_INLINE Tensor sum(const Tensor& x, std::initializer_list<int> axes, bool keep) {
  return detail::reduce_axes(x, axes, keep, Reduction::sum, "sum");
}
TL_INLINE Tensor mean(const Tensor& x, std::initializer_list<int> axes, bool keep) {
  return detail::reduce_axes(x, axes, keep, Reduction::mean, "mean");
}
TL_INLINE Tensor max(const Tensor& x, int axis, bool keep) {
  return detail::reduce_axes(x, {axis}, keep, Reduction::max, "max");
}
TL_INLINE Tensor min(const Tensor& x, int axis, bool keep) {
  return detail::reduce_axes(x, {axis}, keep, Reduction::min, "min");
}

TL_INLINE Tensor argmax(const Tensor& x, int axis) {
  const int d = x.shape().axis(axis, "argmax");
  require<ShapeError>(x.size(d) > 0, "argmax: a dimension of size 0 has no largest element, got ", x.shape());
  Tensor index = Tensor::empty(x.shape().without(d), DType::i32, x.device());
  Tensor values = Tensor::empty(index.shape(), x.dtype(), x.device());
  visit_floating(x.dtype(), "argmax", [&](auto type) {
    using T = typename decltype(type)::type;
    kernel::reduce(x.device(), ReduceArgs<T>{.reduction = Reduction::max,
                                             .x = x.data<T>(),
                                             .y = values.mutable_data<T>(),
                                             .index = index.mutable_data<int32_t>(),
                                             .outer = x.shape().product(0, d),
                                             .axis = x.size(d),
                                             .inner = x.shape().product(d + 1, x.rank())});
  });
  return index;
}

TL_INLINE Tensor sum_to(const Tensor& x, const Shape& shape) {
  if (x.shape() == shape) return x;
  const int extra = x.rank() - shape.rank();
  std::vector<int> axes;
  for (int d = 0; d < x.rank(); ++d)
    if (d < extra || (shape[d - extra] == 1 && x.size(d) != 1)) axes.push_back(d);
  if (axes.empty()) return reshape(x, shape);
  return cast(reshape(detail::reduce_axes(x, axes, false, Reduction::sum, "sum_to"), shape), x.dtype());
}

TL_INLINE TopK top_k(const Tensor& x, int64_t k) {
  require<ShapeError>(x.rank() >= 1 && k >= 0 && k <= x.size(-1), "top_k: k must be within the last dimension of ",
                      x.shape(), "; got ", k);
  require<DeviceError>(x.device().is_cpu(), "top_k: expected a tensor on the CPU, got ", x.device());
  const int64_t cols = x.size(-1), rows = cols == 0 ? 0 : x.numel() / cols;
  const Shape shape = x.shape().with(-1, k);
  Tensor values = Tensor::empty(shape, x.dtype()), indices = Tensor::empty(shape, DType::i32);
  visit_floating(x.dtype(), "top_k", [&](auto type) {
    using T = typename decltype(type)::type;
    kernel::top_k(x.device(), TopKArgs<T>{.x = x.data<T>(),
                                          .values = values.mutable_data<T>(),
                                          .index = indices.mutable_data<int32_t>(),
                                          .rows = rows,
                                          .cols = cols,
                                          .k = k});
  });
  Tensor places = indices.clone();
  require<ShapeError>(x.numel() <= std::numeric_limits<int32_t>::max(), "top_k: ", x.shape(), " has too many elements");
  detail::perform("places of top_k", [place = places.mutable_data<int32_t>(), n = places.numel(), k, cols] {
    for (int64_t i = 0; i < n; ++i) place[i] += static_cast<int32_t>(i / std::max<int64_t>(k, 1) * cols);
  });
  return {apply(detail::TakePlaces{values, places, {}}, x), indices};
}

}  // namespace tl::inline TL_ABI
