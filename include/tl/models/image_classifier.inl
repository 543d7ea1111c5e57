// Definitions of models/image_classifier.hpp.
#pragma once
#include "tl/models/image_classifier.hpp"

namespace tl::inline TL_ABI {
namespace models {

TL_INLINE Tensor features_at(nn::Module& net, const Tensor& x, std::string_view layer) {
  const nn::Module& wanted = nn::find_module(net, layer);
  Tensor found;
  const auto keep = [&](nn::Module& module, const Tensor& result) {
    if (&module == &wanted) found = result;
  };
  const nn::Observe observe(keep);
  const Tensor y = net(x);
  require<UsageError>(found.defined(), "features_at: \"", layer,
                      "\" took no part in the forward pass. "
                      "Hint: a convolution followed by a BatchNorm is seen at the BatchNorm.");
  return found;
}

}  // namespace models
}  // namespace tl::inline TL_ABI
