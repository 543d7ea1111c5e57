// Softmax.
#pragma once
#include "tl/cpu/softmax.hpp"
#include "tl/tensor/tensor.hpp"

namespace tl::inline TL_ABI {

/// exp(x_i) / sum_j exp(x_j) over the last dimension. Differentiable. A row of -inf alone gives zeros, where PyTorch
/// gives NaN.
Tensor softmax(const Tensor& x);

/// log(softmax(x)) over the last dimension, computed without cancellation. Differentiable.
Tensor log_softmax(const Tensor& x);

}  // namespace tl::inline TL_ABI

#if TL_HEADER_ONLY
#include "tl/ops/softmax.inl"
#endif
