// error: deleted
#include "tl/nn/linear.hpp"

tl::nn::Linear twin(tl::nn::Linear& layer) {
#if MISTAKE
  return layer;  // a copy would share the weights, or double them: neither is what anybody means
#else
  return std::move(layer);
#endif
}
