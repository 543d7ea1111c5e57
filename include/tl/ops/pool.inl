// Definitions of ops/pool.hpp.
#pragma once
#include "tl/autograd/function.hpp"
#include "tl/ops/pool.hpp"
#include "tl/ops/reduce.hpp"
#include "tl/ops/window.hpp"

namespace tl::inline TL_ABI {
namespace detail {

TL_INLINE PoolGeometry pool_geometry(std::string_view operation, const Tensor& x, const PoolOptions& options) {
  const auto& [kernel, asked, padding, ceil_mode, count_include_pad] = options;
  require<ShapeError>(x.rank() == 4, operation, ": x must be [N, H, W, C]; got ", x.shape());
  const Pair stride(asked.h == 0 ? kernel.h : asked.h, asked.w == 0 ? kernel.w : asked.w);
  WindowAxis rows(operation, x.size(1), kernel.h, stride.h, 1, padding.top, padding.bottom, padding.same);
  WindowAxis cols(operation, x.size(2), kernel.w, stride.w, 1, padding.left, padding.right, padding.same);
  require<UsageError>(
      rows.before < kernel.h && cols.before < kernel.w && padding.bottom < kernel.h && padding.right < kernel.w,
      operation, ": padding must be smaller than the kernel, so that no window is empty");
  const auto hang_over = [](WindowAxis& axis, int64_t size, int64_t k, int64_t s, int64_t front, int64_t back) {
    if ((size + front + back - k) % s != 0 && axis.out * s < size + front) ++axis.out;
  };
  if (ceil_mode && !padding.same) {
    hang_over(rows, x.size(1), kernel.h, stride.h, padding.top, padding.bottom);
    hang_over(cols, x.size(2), kernel.w, stride.w, padding.left, padding.right);
  }
  return {.n = x.size(0),
          .h = x.size(1),
          .w = x.size(2),
          .c = x.size(3),
          .oh = rows.out,
          .ow = cols.out,
          .kh = kernel.h,
          .kw = kernel.w,
          .stride_h = stride.h,
          .stride_w = stride.w,
          .pad_top = rows.before,
          .pad_left = cols.before,
          .count_include_pad = count_include_pad};
}

struct MaxPool2d {
  static constexpr std::string_view kName = "max_pool2d";
  PoolGeometry geometry;
  Kept index;

  Tensor forward(const Needs& needs, const Tensor& x) {
    const auto& g = geometry;
    const Shape shape{g.n, g.oh, g.ow, g.c};
    Tensor y = Tensor::empty(shape, x.dtype(), x.device());
    Tensor places = needs.any() ? Tensor::empty(shape, DType::i32, x.device()) : Tensor();
    visit_activation(x.dtype(), kName, [&](auto type) {
      using T = typename decltype(type)::type;
      kernel::max_pool(x.device(), MaxPoolArgs<T>{.geometry = g,
                                                  .x = x.data<T>(),
                                                  .y = y.mutable_data<T>(),
                                                  .index = places ? places.mutable_data<int32_t>() : nullptr});
    });
    if (places) index.keep(places);
    return y;
  }

  Gradients backward(const Needs&, const Tensor& grad_y) const {
    const auto& g = geometry;
    Tensor grad_x = Tensor::empty({g.n, g.h, g.w, g.c}, grad_y.dtype(), grad_y.device());
    visit_activation(grad_y.dtype(), kName, [&](auto type) {
      using T = typename decltype(type)::type;
      kernel::max_pool_backward(grad_y.device(), MaxPoolBackwardArgs<T>{.geometry = g,
                                                                        .grad_y = grad_y.data<T>(),
                                                                        .index = index.get(kName).data<int32_t>(),
                                                                        .grad_x = grad_x.mutable_data<T>()});
    });
    return {grad_x};
  }
};

struct AvgPool2d {
  static constexpr std::string_view kName = "avg_pool2d";
  PoolGeometry geometry;

  Tensor forward(const Needs&, const Tensor& x) const {
    const auto& g = geometry;
    Tensor y = Tensor::empty({g.n, g.oh, g.ow, g.c}, x.dtype(), x.device());
    visit_activation(x.dtype(), kName, [&](auto type) {
      using T = typename decltype(type)::type;
      kernel::avg_pool(x.device(), AvgPoolArgs<T>{.geometry = g, .x = x.data<T>(), .y = y.mutable_data<T>()});
    });
    return y;
  }

  Gradients backward(const Needs&, const Tensor& grad_y) const {
    const auto& g = geometry;
    Tensor grad_x = Tensor::empty({g.n, g.h, g.w, g.c}, grad_y.dtype(), grad_y.device());
    visit_activation(grad_y.dtype(), kName, [&](auto type) {
      using T = typename decltype(type)::type;
      kernel::avg_pool_backward(
          grad_y.device(),
          AvgPoolBackwardArgs<T>{.geometry = g, .grad_y = grad_y.data<T>(), .grad_x = grad_x.mutable_data<T>()});
    });
    return {grad_x};
  }
};

}  // namespace detail

TL_INLINE Tensor max_pool2d(const Tensor& x, const PoolOptions& options) {
  return apply(detail::MaxPool2d{detail::pool_geometry("max_pool2d", x, options), {}}, x);
}

TL_INLINE Tensor avg_pool2d(const Tensor& x, const PoolOptions& options) {
  return apply(detail::AvgPool2d{detail::pool_geometry("avg_pool2d", x, options)}, x);
}

TL_INLINE Tensor global_avg_pool(const Tensor& x) {
  require<ShapeError>(x.rank() == 4, "global_avg_pool: x must be [N, H, W, C]; got ", x.shape());
  return mean(x, {1, 2});
}

}  // namespace tl::inline TL_ABI
