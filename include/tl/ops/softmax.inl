// Definitions of ops/softmax.hpp.
#pragma once
#include "tl/autograd/function.hpp"
#include "tl/ops/softmax.hpp"

namespace tl::inline TL_ABI {
namespace detail {

struct Softmax {
  static constexpr std::string_view kName = "softmax";
  bool logarithm;
  Kept y;

  Tensor forward(const Needs& needs, const Tensor& x) {
    Tensor out = Tensor::empty(x.shape(), x.dtype(), x.device());
    visit_activation(x.dtype(), kName, [&](auto type) {
      using T = typename decltype(type)::type;
      kernel::softmax(x.device(), SoftmaxArgs<T>{.x = x.data<T>(),
                                                 .y = out.mutable_data<T>(),
                                                 .rows = rows(x),
                                                 .cols = x.size(-1),
                                                 .logarithm = logarithm});
    });
    if (needs.any()) y.keep(out);
    return out;
  }

  Gradients backward(const Needs&, const Tensor& grad_y) const {
    Tensor grad_x = Tensor::empty(grad_y.shape(), grad_y.dtype(), grad_y.device());
    visit_activation(grad_y.dtype(), kName, [&](auto type) {
      using T = typename decltype(type)::type;
      kernel::softmax_backward(grad_y.device(), SoftmaxBackwardArgs<T>{.y = y.get(kName).data<T>(),
                                                                       .grad_y = grad_y.data<T>(),
                                                                       .grad_x = grad_x.mutable_data<T>(),
                                                                       .rows = rows(grad_y),
                                                                       .cols = grad_y.size(-1),
                                                                       .logarithm = logarithm});
    });
    return {grad_x};
  }

 private:
  static int64_t rows(const Tensor& x) { return x.numel() / std::max<int64_t>(x.size(-1), 1); }
};

}  // namespace detail

TL_INLINE Tensor softmax(const Tensor& x) {
  require<ShapeError>(x.rank() >= 1, "softmax: x must be [..., C]; got ", x.shape());
  return apply(detail::Softmax{false, {}}, x);
}

TL_INLINE Tensor log_softmax(const Tensor& x) {
  require<ShapeError>(x.rank() >= 1, "log_softmax: x must be [..., C]; got ", x.shape());
  return apply(detail::Softmax{true, {}}, x);
}

}  // namespace tl::inline TL_ABI
