// error: no matching (function|constructor)
#include "tl/nn/layers.hpp"
#include "tl/nn/linear.hpp"
#include "tl/nn/sequential.hpp"

tl::nn::Sequential make() {
#if MISTAKE
  return tl::nn::Sequential(tl::nn::Linear(4, 3), 7);
#endif
  return tl::nn::Sequential(tl::nn::Linear(4, 3), tl::nn::ReLU());
}
