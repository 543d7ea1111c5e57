// Normalisation.
#pragma once
#include "tl/cpu/norm.hpp"
#include "tl/tensor/tensor.hpp"

namespace tl::inline TL_ABI {

struct BatchNormOptions {
  bool training = false;  ///< normalise with the batch's statistics and move the running ones
  double momentum = 0.1;  ///< running = (1 - momentum) running + momentum batch
  double eps = 1e-5;
  Activation activation = Activation::none;  ///< none, relu or relu6, in the same pass
};

/// y = activation(gamma (x - mean) / sqrt(variance + eps) + beta + residual), for each channel.
///
/// x [..., C]; gamma, beta [C], undefined for 1 and 0; running_mean, running_var [C]; residual like x, or undefined.
/// In training mean and variance (biased) are the batch's, and running_var moves towards the unbiased variance, as
/// PyTorch does; otherwise they are the running ones. Differentiable in x, gamma, beta and residual. Errors:
/// ShapeError; UsageError when training on a single value a channel. Paper: Ioffe and Szegedy, "Batch normalization",
/// 2015. PyTorch: torch.nn.functional.batch_norm, channels second.
Tensor batch_norm(const Tensor& x, const Tensor& gamma, const Tensor& beta, Tensor& running_mean, Tensor& running_var,
                  const BatchNormOptions& options = {}, const Tensor& residual = {});

/// y = gamma (s - mean) / sqrt(variance + eps) + beta over the last dimension of s = x + residual, in one pass.
///
/// x [..., C]; gamma and beta [C] or undefined; residual like x, or undefined. Errors: ShapeError. Differentiable in
/// all. Paper: Ba, Kiros and Hinton, 2016. PyTorch: torch.nn.functional.layer_norm over one dimension.
Tensor layer_norm(const Tensor& x, const Tensor& gamma = {}, const Tensor& beta = {}, double eps = 1e-5,
                  const Tensor& residual = {});

}  // namespace tl::inline TL_ABI

#if TL_HEADER_ONLY
#include "tl/ops/norm.inl"
#endif
