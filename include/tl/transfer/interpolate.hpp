// Between two sets of weights.
#pragma once
#include "tl/io/state_dict.hpp"

namespace tl::inline TL_ABI {

/// WiSE-FT: sets the network's weights between `start` and its own, parameters and float buffers:
///   w = (1 - alpha) w_start + alpha w
/// alpha 0 gives the start, 1 leaves the network as it is. Whole numbers stay the network's. `start` are copies as
/// copy_weights makes them. Between the pretrained (or linearly probed) and the fine-tuned weights lie ones that do
/// better than either when the data shift. Paper: Wortsman et al., "Robust fine-tuning of zero-shot models", 2022.
/// Errors: UsageError unless alpha is in [0, 1]; StateDictError, before anything is changed, when names or shapes
/// differ.
void interpolate_weights(nn::Module& net, const std::vector<NamedTensor>& start, double alpha);

}  // namespace tl::inline TL_ABI

#if TL_HEADER_ONLY
#include "tl/transfer/interpolate.inl"
#endif
