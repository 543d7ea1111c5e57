// A linear layer and a BatchNorm: the least network with parameters, float buffers and a counter.
#pragma once
#include <string>

#include "support.hpp"
#include "tl/nn/linear.hpp"
#include "tl/nn/norm.hpp"

namespace tl_test {

struct LinearNorm : tl::nn::Module {
  tl::nn::Linear fc{2, 2};
  tl::nn::BatchNorm2d bn{2};
  TL_MEMBERS(fc, bn)
};

inline tl::Tensor buffer(tl::nn::Module& net, const std::string& name) {
  for (const auto& b : tl::nn::named_buffers(net))
    if (b.name == name) return b.buffer->value();
  FAIL("no buffer " << name);
  return {};
}

}  // namespace tl_test
