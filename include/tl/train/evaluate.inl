// Definitions of train/evaluate.hpp.
#pragma once
#include "tl/ops/elementwise.hpp"
#include "tl/ops/loss.hpp"
#include "tl/ops/softmax.hpp"
#include "tl/ops/view.hpp"
#include "tl/train/evaluate.hpp"

namespace tl::inline TL_ABI {
namespace detail {

TL_INLINE Device device_of(nn::Module& net) {
  const auto parameters = nn::named_parameters(net);
  return parameters.empty() ? kCpu : parameters[0].parameter->value().device();
}

TL_INLINE Forward whole(nn::Module& net) {
  return [&net](const Tensor& x) { return net(in_precision(x)); };
}

}  // namespace detail

TL_INLINE Evaluation evaluate(nn::Module& net, BatchSource& source, int64_t classes, const Forward& forward,
                              Progress* progress) {
  const nn::ModeScope evaluation_mode(net, false);
  const NoGrad no_grad;
  const Device device = detail::device_of(net);
  Evaluation out;
  out.confusion = ConfusionMatrix(classes);
  Mean loss;
  Accuracy accuracy;
  const auto stream = source.epoch(0);
  Batch batch;
  while (stream->next(batch)) {
    if (batch.indices.empty()) continue;
    const Tensor x = batch.x.to(device);
    const Tensor logits = cast((forward ? forward : detail::whole(net))(x), DType::f32);
    require<ShapeError>(logits.rank() == 2 && logits.size(1) == classes, "evaluate: the network must give [N, ",
                        classes, "] logits; got ", logits.shape());
    const Tensor losses = cross_entropy(logits, batch.y.to(device), {.reduction = LossReduction::none}).to(kCpu);
    const Tensor probabilities = softmax(logits).to(kCpu);
    for (int64_t i = 0; i < batch.y.numel(); ++i) {
      const auto row =
          probabilities.values<float>().subspan(static_cast<size_t>(i * classes), static_cast<size_t>(classes));
      const int64_t truth = batch.y.data<int32_t>()[i], predicted = predicted_class(row);
      if (truth == CrossEntropyOptions().ignore_index) continue;
      out.samples.push_back({batch.indices[static_cast<size_t>(i)], truth, predicted,
                             static_cast<double>(row[static_cast<size_t>(predicted)])});
      out.confusion.add(truth, predicted);
      accuracy.add(truth == predicted);
      loss.add(static_cast<double>(losses.data<float>()[i]));
    }
    if (progress) progress->step(batch.y.numel(), loss.value(), accuracy.value());
  }
  out.loss = loss.value();
  out.accuracy = accuracy.value();
  return out;
}

TL_INLINE Forward with_flips(Forward forward) {
  return [forward = std::move(forward)](const Tensor& x) { return (forward(x) + forward(flip(x, 2))) * 0.5; };
}

}  // namespace tl::inline TL_ABI
