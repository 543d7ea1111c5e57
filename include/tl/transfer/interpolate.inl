// Definitions of transfer/interpolate.hpp.
#pragma once
#include "tl/ops/elementwise.hpp"
#include "tl/transfer/interpolate.hpp"

namespace tl::inline TL_ABI {
TL_INLINE void interpolate_weights(nn::Module& net, const std::vector<NamedTensor>& start, double alpha) {
  require<UsageError>(alpha >= 0 && alpha <= 1, "interpolate_weights: alpha must be in [0, 1], got ", alpha);
  const NoGrad no_grad;
  for (auto& [value, copy] : matched_copies(net, start))
    if (is_floating(value.dtype())) Tensor(value).copy_from(copy * (1 - alpha) + value.detach() * alpha);
}

}  // namespace tl::inline TL_ABI
