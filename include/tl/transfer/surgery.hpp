// Surgical fine-tuning: how much each stage wants to change, from the gradients of a few batches.
#pragma once
#include <cmath>
#include <functional>
#include <string>
#include <vector>

#include "tl/nn/module.hpp"

namespace tl::inline TL_ABI {

/// The relative gradient norm of each stage, from the gradients that the network holds now:
///   rgn(stage) = mean over its trainable tensors w of |grad w| / |w|   (Euclidean norms; tensors of zeros are left
///   out)
/// 0 for a stage without gradients. stages: globs from the input to the head.
/// Paper: Lee et al., "Surgical fine-tuning improves adaptation to distribution shifts", 2023 (Auto-RGN).
std::vector<double> relative_gradient_norms(nn::Module& net, const std::vector<std::vector<std::string>>& stages);

}  // namespace tl::inline TL_ABI

#if TL_HEADER_ONLY
#include "tl/transfer/surgery.inl"
#endif
