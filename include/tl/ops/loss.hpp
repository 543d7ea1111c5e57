// Losses.
#pragma once
#include "tl/tensor/tensor.hpp"

namespace tl::inline TL_ABI {

enum class LossReduction { mean, sum, none };

struct CrossEntropyOptions {
  double label_smoothing = 0;   ///< share of the target spread evenly over all classes
  Tensor class_weight = {};     ///< [C], or undefined for 1
  int32_t ignore_index = -100;  ///< rows with this target count for nothing
  LossReduction reduction = LossReduction::mean;
};

/// Cross-entropy of logits [N, C] against class indices target [N] (i32).
///
///   loss_r = (1 - s) w[t_r] * -log p[r, t_r] + s / C * sum_c w[c] * -log p[r, c],  p = softmax(logits)
///
/// The mean divides by sum_r w[t_r], the sum of weights of the rows that count: at batch size 1 class weights therefore
/// do nothing. To accumulate over micro-batches add sums (LossReduction::sum) and divide once by the sum of
/// cross_entropy_divisor. If every row is ignored, the mean is 0 and so is the gradient, where PyTorch gives NaN.
/// Errors: ShapeError; UsageError for a target outside of [0, C). Differentiable in logits.
/// PyTorch: torch.nn.functional.cross_entropy.
Tensor cross_entropy(const Tensor& logits, const Tensor& target, const CrossEntropyOptions& options = {});

/// What the mean divides by: the sum of class weights of the rows that count.
double cross_entropy_divisor(const Tensor& target, const CrossEntropyOptions& options = {});

/// Cross-entropy of logits [N, C] against class probabilities target [N, C] (f32, rows that add up to 1):
///   loss_r = -sum_c ((1 - s) target[r, c] + s / C) w[c] log p[r, c],  p = softmax(logits)
/// The mean divides by N. ignore_index does not apply. Differentiable in logits, and in target when s is 0.
/// Errors: ShapeError; DTypeError. PyTorch: cross_entropy with probabilities.
Tensor soft_cross_entropy(const Tensor& logits, const Tensor& target, const CrossEntropyOptions& options = {});

/// Mean (or sum) of (x - y)^2. Differentiable in both.
Tensor mse_loss(const Tensor& x, const Tensor& y, LossReduction reduction = LossReduction::mean);

/// Binary cross-entropy of logits x against targets y in [0, 1], both of one shape, without overflow:
///   (1 - y) x + (1 + (p - 1) y) (log(1 + exp(-|x|)) + max(-x, 0)),  p = positive_weight
/// Differentiable in x. PyTorch: binary_cross_entropy_with_logits(pos_weight=p).
Tensor bce_with_logits(const Tensor& x, const Tensor& y, double positive_weight = 1,
                       LossReduction reduction = LossReduction::mean);

/// Binary cross-entropy of probabilities: -(y log p + (1 - y) log(1 - p)), each logarithm at least -100, as in PyTorch.
/// Differentiable in p. Prefer bce_with_logits, which is exact.
Tensor bce_loss(const Tensor& p, const Tensor& y, LossReduction reduction = LossReduction::mean);

}  // namespace tl::inline TL_ABI

#if TL_HEADER_ONLY
#include "tl/ops/loss.inl"
#endif
