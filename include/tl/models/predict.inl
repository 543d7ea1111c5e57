// Definitions of models/predict.hpp.
#pragma once
#include <algorithm>
#include <cmath>
#include <numeric>

#include "tl/models/predict.hpp"
#include "tl/ops/elementwise.hpp"
#include "tl/ops/softmax.hpp"

namespace tl::inline TL_ABI {
namespace models {

TL_INLINE std::vector<int64_t> Prediction::top(int64_t k) const {
  std::vector<int64_t> order(probabilities.size());
  std::iota(order.begin(), order.end(), 0);
  std::stable_sort(order.begin(), order.end(), [&](int64_t a, int64_t b) {
    return probabilities[static_cast<size_t>(a)] > probabilities[static_cast<size_t>(b)];
  });
  order.resize(std::min(order.size(), static_cast<size_t>(std::max<int64_t>(k, 0))));
  return order;
}

TL_INLINE ImagePredictor::ImagePredictor(const std::string& model_file, const std::string& arch)
    : ImagePredictor(load_image_model(model_file, arch)) {}

TL_INLINE ImagePredictor::ImagePredictor(ImageModel model)
    : model_(std::move(model)),
      pipeline_(eval_transform(model_.info.preprocess)),
      input_(Tensor::empty(
          {1, model_.info.preprocess.size, model_.info.preprocess.size, model_.info.preprocess.channels()})),
      network_(Capture::Function([net = model_.net.get(), x = input_](const std::vector<Tensor>&) {
                 const Tensor logits = cast((*net)(in_precision(x)), DType::f32);
                 return std::vector<Tensor>{logits, softmax(logits)};
               }),
               {.lenient = true}) {
  model_.net->eval();
}

TL_INLINE std::string ImagePredictor::class_name(int64_t index) const {
  const auto& names = model_.info.classes;
  return index >= 0 && static_cast<size_t>(index) < names.size() ? names[static_cast<size_t>(index)]
                                                                 : std::to_string(index);
}

TL_INLINE Prediction ImagePredictor::predict(const Image& image) {
  const NoGrad no_grad;
  pipeline_(image, input_.mutable_data<float>());
  const auto results = network_.run();
  const Tensor &logits = results[0], &probabilities = results[1];
  Prediction out;
  out.logits.assign(logits.values<float>().begin(), logits.values<float>().end());
  require<NumericError>(
      std::all_of(out.logits.begin(), out.logits.end(), [](float x) { return std::isfinite(x); }),
      "predict: the logits are not finite. Hint: the weights are spoilt, or their training diverged.");
  out.probabilities.assign(probabilities.values<float>().begin(), probabilities.values<float>().end());
  const auto best = std::max_element(out.probabilities.begin(), out.probabilities.end());
  out.index = best - out.probabilities.begin();
  out.probability = static_cast<double>(*best);
  out.name = class_name(out.index);
  return out;
}

TL_INLINE Prediction ImagePredictor::predict(const ImageView& image) { return predict(to_image(image)); }

TL_INLINE Prediction ImagePredictor::predict_file(const std::string& path) { return predict(load_image(path)); }

}  // namespace models
}  // namespace tl::inline TL_ABI
