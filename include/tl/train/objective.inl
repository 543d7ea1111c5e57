// Definitions of train/objective.hpp.
#pragma once
#include "tl/ops/elementwise.hpp"
#include "tl/train/objective.hpp"

namespace tl::inline TL_ABI {

TL_INLINE void Classification::check(const Tensor& output) const {
  require<ShapeError>(output.rank() == 2 && output.size(1) == classes_, "fit: the network must give [N, ", classes_,
                      "] logits; got ", output.shape(), ". Hint: replace_head(", classes_,
                      ") gives a head of that size.");
}

TL_INLINE std::vector<Tensor> Classification::targets(const Batch& batch) const {
  return {batch.mixed.defined() ? batch.mixed : batch.y};
}

TL_INLINE double Classification::divisor(const Batch& batch) const {
  return batch.mixed.defined() ? static_cast<double>(batch.mixed.size(0)) : cross_entropy_divisor(batch.y, options_);
}

TL_INLINE Tensor Classification::loss(const Tensor& output, const std::vector<Tensor>& targets) const {
  CrossEntropyOptions options = options_;
  options.reduction = LossReduction::sum;
  return is_floating(targets[0].dtype()) ? soft_cross_entropy(output, targets[0], options)
                                         : cross_entropy(output, targets[0], options);
}

TL_INLINE Accuracy Classification::accuracy(const Tensor& output, const Batch& batch) const {
  const Tensor host = output.detach().to(kCpu).to(DType::f32);
  const auto width = static_cast<size_t>(classes_);
  Accuracy out;
  for (int64_t i = 0; i < batch.y.numel(); ++i) {
    const int32_t truth = batch.y.data<int32_t>()[i];
    if (truth == options_.ignore_index) continue;
    out.add(predicted_class(host.values<float>().subspan(static_cast<size_t>(i) * width, width)) == truth);
  }
  return out;
}

TL_INLINE Validation Classification::validate(nn::Module& net, BatchSource& source, const Forward& forward,
                                              Progress* progress) const {
  const Evaluation evaluation = evaluate(net, source, classes_, forward, progress);
  return {evaluation.loss, evaluation.accuracy, {}};
}

}  // namespace tl::inline TL_ABI
