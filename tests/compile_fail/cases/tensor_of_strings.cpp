// error: tl tensors hold float, double
#include <string>

#include "tl/autograd/node.hpp"

tl::Tensor make() {
#if MISTAKE
  return tl::Tensor::from<std::string>({"a", "b"}, {2});
#endif
  return tl::Tensor::from<float>({1, 2}, {2});
}
