// error: 'backward'|backward\(needs|op\.backward
#include "tl/autograd/function.hpp"

struct Identity {
  static constexpr std::string_view kName = "identity";
  tl::Tensor forward(const tl::Needs&, const tl::Tensor& x) { return x.clone(); }
#if !MISTAKE
  tl::Gradients backward(const tl::Needs&, const tl::Tensor& grad_y) { return {grad_y}; }
#endif
};

tl::Tensor identity(const tl::Tensor& x) { return tl::apply(Identity{}, x); }
