// What all image networks have in common: stages from input to output, of which the last is a head.
#pragma once
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "tl/data/transforms.hpp"
#include "tl/nn/conv.hpp"
#include "tl/nn/layers.hpp"
#include "tl/nn/linear.hpp"
#include "tl/nn/module.hpp"
#include "tl/nn/sequential.hpp"
#include "tl/nn/staged.hpp"

namespace tl::inline TL_ABI {
namespace models {

/// A network for pictures [N, H, W, C] whose last stage is a head that can be replaced.
class ImageClassifier : public nn::Staged {
 public:
  /// What the head takes: pooled features [N, F] (SqueezeNet: the map [N, h, w, F]).
  Tensor features(const Tensor& x) { return run_stages(x, 0, stage_count() - 1); }

  /// Logits [N, classes] from features.
  Tensor classify(const Tensor& features) { return run_stage(stage_count() - 1, features); }

  /// Name of the layer that makes the logits, such as "fc".
  virtual std::string head_name() const = 0;

  /// Puts a fresh head for another number of classes in place.
  virtual void replace_head(int64_t classes) = 0;

  /// The activation throughout the network, as weight files name it.
  virtual std::string activation() const { return "relu"; }

  /// How pictures are prepared for the published weights.
  virtual Preprocess preprocess() const = 0;
};

struct ModelOptions {
  int64_t classes = 1000;
  double dropout = -1;   ///< before the head; below 0: the architecture's own
  double drop_path = 0;  ///< of the last residual block, growing from 0 at the first one (EfficientNet)
  std::optional<double> batch_norm_eps = {};  ///< for weights trained with another constant (FR15)
  std::optional<bool> same_padding = {};      ///< TensorFlow's SAME instead of PyTorch's padding (FR15)
};

/// The output of any named layer, "" for the network itself. `Tensor map = features_at(net, x, "layer3");`
/// Errors: UsageError with the nearest names if there is no such module, or if it took no part in the forward pass.
Tensor features_at(nn::Module& net, const Tensor& x, std::string_view layer);

}  // namespace models
}  // namespace tl::inline TL_ABI

#if TL_HEADER_ONLY
#include "tl/models/image_classifier.inl"
#endif
