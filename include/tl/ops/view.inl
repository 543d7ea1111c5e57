// Definitions of ops/view.hpp.
#pragma once
#include <array>

#include "tl/autograd/function.hpp"
#include "tl/ops/elementwise.hpp"
#include "tl/ops/reduce.hpp"
#include "tl/ops/view.hpp"

namespace tl::inline TL_ABI {
namespace detail {

using Strides = std::array<int64_t, kMaxRank>;

TL_INLINE Strides contiguous_strides(const Shape& shape) {
  Strides strides{};
  int64_t step = 1;
  for (int d = shape.rank() - 1; d >= 0; --d) {
    strides[static_cast<size_t>(d)] = step;
    step *= shape[d];
  }
  return strides;
}

/// y[offset_y + i . stride_y] (= or +=) x[offset_x + i . stride_x] for all i within `shape`.
TL_INLINE void copy_strided(const Tensor& x, int64_t offset_x, const Strides& stride_x, Tensor& y, int64_t offset_y,
                            const Strides& stride_y, const Shape& shape) {
  if (shape.numel() == 0) return;
  visit_activation(x.dtype(), "copy", [&](auto type) {
    using T = typename decltype(type)::type;
    CopyStridedArgs<T> args{.x = x.data<T>() + offset_x,
                            .y = y.mutable_data<T>() + offset_y,
                            .rank = shape.rank(),
                            .shape = {},
                            .stride_x = {},
                            .stride_y = {},
                            .accumulate = false};
    for (int d = 0; d < shape.rank(); ++d) {
      args.shape[d] = shape[d];
      args.stride_x[d] = stride_x[static_cast<size_t>(d)];
      args.stride_y[d] = stride_y[static_cast<size_t>(d)];
    }
    kernel::copy_strided(x.device(), args);
  });
}

struct Reshape {
  static constexpr std::string_view kName = "reshape";
  Shape target, input;

  Tensor forward(const Needs&, const Tensor& x) {
    input = x.shape();
    return x.alias(target);
  }
  Gradients backward(const Needs&, const Tensor& grad_y) const { return {grad_y.alias(input)}; }
};

struct Permute {
  static constexpr std::string_view kName = "permute";
  std::vector<int> order;

  Tensor forward(const Needs&, const Tensor& x) const { return run(x, order); }
  Gradients backward(const Needs&, const Tensor& grad_y) const {
    std::vector<int> inverse(order.size());
    for (size_t i = 0; i < order.size(); ++i) inverse[static_cast<size_t>(order[i])] = static_cast<int>(i);
    return {run(grad_y, inverse)};
  }

 private:
  static Tensor run(const Tensor& x, const std::vector<int>& order) {
    const Strides strides = contiguous_strides(x.shape());
    Shape shape;
    Strides from{};
    for (size_t i = 0; i < order.size(); ++i) {
      shape.push_back(x.size(order[i]));
      from[i] = strides[static_cast<size_t>(order[i])];
    }
    Tensor y = Tensor::empty(shape, x.dtype(), x.device());
    copy_strided(x, 0, from, y, 0, contiguous_strides(shape), shape);
    return y;
  }
};

/// A window of x, `step` apart along one axis (-1: backwards from `first`); also the gradient of concat and pad.
struct Slice {
  static constexpr std::string_view kName = "slice";
  int axis;
  int64_t first, count, step;
  Shape input;

  Tensor forward(const Needs&, const Tensor& x) {
    input = x.shape();
    Tensor y = Tensor::empty(input.with(axis, count), x.dtype(), x.device());
    copy_strided(x, offset(), window(), y, 0, contiguous_strides(y.shape()), y.shape());
    return y;
  }

  Gradients backward(const Needs&, const Tensor& grad_y) const {
    Tensor grad_x = Tensor::zeros(input, grad_y.dtype(), grad_y.device());
    copy_strided(grad_y, 0, contiguous_strides(grad_y.shape()), grad_x, offset(), window(), grad_y.shape());
    return {grad_x};
  }

 private:
  int64_t offset() const { return first * input.product(axis + 1, input.rank()); }
  Strides window() const {
    Strides strides = contiguous_strides(input);
    strides[static_cast<size_t>(axis)] *= step;
    return strides;
  }
};

struct Concat {
  static constexpr std::string_view kName = "concat";
  int axis;
  std::vector<int64_t> sizes;

  Tensor forward(const Needs&, std::span<const Tensor> parts) {
    int64_t total = 0;
    for (const Tensor& part : parts) sizes.push_back(part.size(axis)), total += part.size(axis);
    Tensor y = Tensor::empty(parts[0].shape().with(axis, total), parts[0].dtype(), parts[0].device());
    const Strides strides = contiguous_strides(y.shape());
    int64_t at = 0;
    for (const Tensor& part : parts) {
      copy_strided(part, 0, contiguous_strides(part.shape()), y, at * strides[static_cast<size_t>(axis)], strides,
                   part.shape());
      at += part.size(axis);
    }
    return y;
  }

  Gradients backward(const Needs& needs, const Tensor& grad_y) const {
    Gradients out(sizes.size());
    int64_t at = 0;
    for (size_t i = 0; i < sizes.size(); ++i) {
      if (needs[i]) out[i] = Slice{axis, at, sizes[i], 1, {}}.forward(Needs(), grad_y);
      at += sizes[i];
    }
    return out;
  }
};

struct Pad {
  static constexpr std::string_view kName = "pad";
  std::vector<PadWidth> widths;
  double value;
  Shape input;

  Tensor forward(const Needs&, const Tensor& x) {
    input = x.shape();
    Shape shape;
    for (int d = 0; d < x.rank(); ++d) {
      const auto& width = widths[static_cast<size_t>(d)];
      shape.push_back(x.size(d) + width.before + width.after);
    }
    Tensor y = Tensor::full(shape, value, x.dtype(), x.device());
    copy_strided(x, 0, contiguous_strides(input), y, offset(shape), contiguous_strides(shape), input);
    return y;
  }

  Gradients backward(const Needs&, const Tensor& grad_y) const {
    Tensor grad_x = Tensor::empty(input, grad_y.dtype(), grad_y.device());
    copy_strided(grad_y, offset(grad_y.shape()), contiguous_strides(grad_y.shape()), grad_x, 0,
                 contiguous_strides(input), input);
    return {grad_x};
  }

 private:
  int64_t offset(const Shape& padded) const {
    const Strides strides = contiguous_strides(padded);
    int64_t out = 0;
    for (size_t d = 0; d < widths.size(); ++d) out += widths[d].before * strides[d];
    return out;
  }
};

struct Expand {
  static constexpr std::string_view kName = "expand";
  Shape target, input;

  Tensor forward(const Needs&, const Tensor& x) {
    input = x.shape();
    Strides from{};
    const Strides strides = contiguous_strides(input);
    const int extra = target.rank() - input.rank();
    for (int d = extra; d < target.rank(); ++d)
      from[static_cast<size_t>(d)] = input[d - extra] == 1 ? 0 : strides[static_cast<size_t>(d - extra)];
    Tensor y = Tensor::empty(target, x.dtype(), x.device());
    copy_strided(x, 0, from, y, 0, contiguous_strides(target), target);
    return y;
  }

  Gradients backward(const Needs&, const Tensor& grad_y) const { return {sum_to(grad_y, input)}; }
};

}  // namespace detail

TL_INLINE Tensor reshape(const Tensor& x, const Shape& shape) {
  require<ShapeError>(shape.numel() == x.numel(), "reshape: ", x.shape(), " has ", x.numel(), " elements; ", shape,
                      " has ", shape.numel());
  return apply(detail::Reshape{shape, {}}, x);
}

TL_INLINE Tensor reshape(const Tensor& x, std::initializer_list<int64_t> sizes) {
  Shape known;
  int unknown = 0;
  for (const int64_t size : sizes) {
    require<ShapeError>(size >= -1, "reshape: a size is at least 0, or -1 for the one to work out; got ", size);
    if (size == -1) ++unknown;
    else known.push_back(size);
  }
  require<ShapeError>(unknown <= 1, "reshape: at most one size may be -1");
  require<ShapeError>(unknown == 0 || (known.numel() > 0 && x.numel() % known.numel() == 0), "reshape: ", x.shape(),
                      " cannot be divided by ", known.numel(), " for the size -1");
  Shape shape;
  for (const int64_t size : sizes) shape.push_back(size == -1 ? x.numel() / known.numel() : size);
  return reshape(x, shape);
}

TL_INLINE Tensor flatten(const Tensor& x, int first) {
  const int axis = x.shape().axis(first, "flatten");
  Shape shape;
  for (int d = 0; d < axis; ++d) shape.push_back(x.size(d));
  shape.push_back(x.shape().product(axis, x.rank()));
  return reshape(x, shape);
}

TL_INLINE Tensor permute(const Tensor& x, std::initializer_list<int> order) {
  std::vector<bool> seen(static_cast<size_t>(x.rank()), false);
  require<ShapeError>(static_cast<int>(order.size()) == x.rank(), "permute: ", x.shape(), " needs ", x.rank(),
                      " dimensions named, got ", order.size());
  for (const int d : order) {
    require<ShapeError>(d >= 0 && d < x.rank() && !seen[static_cast<size_t>(d)],
                        "permute: each dimension must be named once, from 0 to ", x.rank() - 1, "; got ", d);
    seen[static_cast<size_t>(d)] = true;
  }
  return apply(detail::Permute{order}, x);
}

TL_INLINE Tensor transpose(const Tensor& x) {
  require<ShapeError>(x.rank() >= 2, "transpose: expected at least two dimensions, got ", x.shape());
  std::vector<int> order;
  for (int d = 0; d < x.rank(); ++d) order.push_back(d);
  std::swap(order[order.size() - 1], order[order.size() - 2]);
  return apply(detail::Permute{order}, x);
}

TL_INLINE Tensor slice(const Tensor& x, int axis, int64_t first, int64_t last, int64_t step) {
  const int d = x.shape().axis(axis, "slice");
  const int64_t size = x.size(d);
  if (first < 0) first += size;
  if (last < 0) last += size;
  require<ShapeError>(0 <= first && first <= last && last <= size && step >= 1,
                      "slice: expected 0 <= first <= last <= ", size, " and step >= 1 along axis ", axis, " of ",
                      x.shape(), "; got ", first, ", ", last, ", ", step);
  return apply(detail::Slice{d, first, (last - first + step - 1) / step, step, {}}, x);
}

TL_INLINE Tensor flip(const Tensor& x, int axis) {
  const int d = x.shape().axis(axis, "flip");
  return apply(detail::Slice{d, x.size(d) - 1, x.size(d), -1, {}}, x);
}

TL_INLINE Tensor concat(std::span<const Tensor> parts, int axis) {
  require<UsageError>(!parts.empty(), "concat: expected at least one tensor");
  const int d = parts[0].shape().axis(axis, "concat");
  for (const Tensor& part : parts) {
    const bool fits = part.rank() == parts[0].rank() && part.shape().with(d, 0) == parts[0].shape().with(d, 0);
    require<ShapeError>(fits, "concat: shapes must agree outside of axis ", axis, "; got ", parts[0].shape(), " and ",
                        part.shape());
    require<DTypeError>(part.dtype() == parts[0].dtype(), "concat: expected ", parts[0].dtype(), ", got ",
                        part.dtype());
  }
  return apply(detail::Concat{d, {}}, parts);
}

TL_INLINE Tensor pad(const Tensor& x, std::initializer_list<PadWidth> widths, double value) {
  require<ShapeError>(static_cast<int>(widths.size()) == x.rank(), "pad: ", x.shape(), " needs ", x.rank(),
                      " widths, got ", widths.size());
  for (const PadWidth& width : widths)
    require<ShapeError>(width.before >= 0 && width.after >= 0, "pad: widths must not be negative, got ", width.before,
                        " and ", width.after);
  return apply(detail::Pad{widths, value, {}}, x);
}

TL_INLINE Tensor expand(const Tensor& x, const Shape& shape) {
  if (x.shape() == shape) return x;
  require<ShapeError>(broadcast_shape(x.shape(), shape, "expand") == shape, "expand: ", x.shape(), " cannot become ",
                      shape);
  return apply(detail::Expand{shape, {}}, x);
}

}  // namespace tl::inline TL_ABI
