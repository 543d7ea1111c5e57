// Random omission in training.
#pragma once
#include "tl/core/random.hpp"
#include "tl/tensor/tensor.hpp"

namespace tl::inline TL_ABI {

/// Each element becomes 0 with the given probability, else x / (1 - probability). The mask is drawn again in backward
/// from the generator's seed and one counter, so that nothing is kept. Differentiable. Errors: UsageError unless 0 <=
/// probability < 1. Paper: Srivastava et al., "Dropout", 2014. PyTorch: torch.nn.functional.dropout(training=True).
Tensor dropout(const Tensor& x, double probability, Generator& generator);

/// Each sample (first dimension) as a whole becomes 0 with the given probability, else x / (1 - probability):
/// stochastic depth for residual branches. Paper: Huang et al., "Deep networks with stochastic depth", 2016. timm:
/// drop_path.
Tensor drop_path(const Tensor& x, double probability, Generator& generator);

}  // namespace tl::inline TL_ABI

#if TL_HEADER_ONLY
#include "tl/ops/dropout.inl"
#endif
