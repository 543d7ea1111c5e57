// Definitions of transfer/features.hpp.
#pragma once
#include <cstring>

#include "tl/autograd/capture.hpp"
#include "tl/ops/elementwise.hpp"
#include "tl/transfer/features.hpp"

namespace tl::inline TL_ABI {

TL_INLINE FeatureSet extract_features(nn::Module& net, BatchSource& source,
                                      const std::function<Tensor(const Tensor&)>& extract,
                                      const std::function<void(int64_t)>& progress) {
  const nn::ModeScope evaluation_mode(net, false);
  const NoGrad no_grad;
  const auto parameters = nn::named_parameters(net);
  const Device device = parameters.empty() ? kCpu : parameters[0].parameter->value().device();
  Capture extract_batch(Capture::Function([&](const std::vector<Tensor>& in) {
                          return std::vector<Tensor>{extract(in_precision(in[0]))};
                        }),
                        {.lenient = true});
  FeatureSet out;
  std::vector<int32_t> labels;
  Tensor all;  // grown once, to the number of samples that the source promises
  int64_t filled = 0, width = 0;
  const auto stream = source.epoch(0);
  Batch batch;
  while (stream->next(batch)) {
    if (batch.indices.empty()) continue;
    const Tensor features = extract_batch(batch.x.to(device)).to(kCpu).to(DType::f32);
    if (!all.defined()) {
      all = Tensor::empty(features.shape().with(0, source.samples()));
      width = features.numel() / features.size(0);
    }
    std::memcpy(all.mutable_data<float>() + filled * width, features.data<float>(), features.bytes());
    filled += features.size(0);
    const auto y = batch.y.values<int32_t>();
    labels.insert(labels.end(), y.begin(), y.end());
    out.indices.insert(out.indices.end(), batch.indices.begin(), batch.indices.end());
    if (progress) progress(features.size(0));
  }
  require<UsageError>(filled > 0, "extract_features: no sample could be read");
  out.x = Tensor::view_of(all.storage(), 0, all.shape().with(0, filled), DType::f32);
  out.y = Tensor::from(labels, {filled});
  return out;
}

}  // namespace tl::inline TL_ABI
