// LeNet.
#pragma once
#include "tl/models/image_classifier.hpp"

namespace tl::inline TL_ABI {
namespace models {

/// LeNet-5 with ReLU and max pooling, for pictures of 28 x 28 in grey. Paper: LeCun et al., 1998.
/// The map is flattened channel by channel, as PyTorch does, so that weights trained there fit.
class LeNet : public ImageClassifier {
 public:
  nn::Conv2d conv1, conv2;
  nn::Linear fc1, fc2, fc3;
  TL_MEMBERS(conv1, conv2, fc1, fc2, fc3)

  explicit LeNet(const ModelOptions& options)
      : conv1(1, 6, {.kernel = 5, .padding = 2}),
        conv2(6, 16, {.kernel = 5}),
        fc1(400, 120),
        fc2(120, 84),
        fc3(84, options.classes) {}

  Tensor run_stage(size_t stage, const Tensor& x) override {
    switch (stage) {
      case 0:
        require<ShapeError>(x.rank() == 4 && x.size(1) == 28 && x.size(2) == 28 && x.size(3) == 1,
                            "lenet: x must be [N, 28, 28, 1]; got ", x.shape());
        return max_pool2d(relu(conv1(x)));
      case 1:
        return flatten(permute(max_pool2d(relu(conv2(x))), {0, 3, 1, 2}));
      case 2:
        return relu(fc1(x));
      case 3:
        return relu(fc2(x));
      default:
        return fc3(x);
    }
  }
  std::string head_name() const override { return "fc3"; }
  void replace_head(int64_t classes) override { fc3 = nn::Linear(84, classes); }
  std::vector<std::vector<std::string>> stages() const override {
    return {{"conv1"}, {"conv2"}, {"fc1"}, {"fc2"}, {"fc3"}};
  }
  Preprocess preprocess() const override {
    return {.size = 28,
            .resize = 28,
            .crop_fraction = 1.0,
            .channel_order = ChannelOrder::gray,
            .mean = {0.5f, 0.5f, 0.5f},
            .stddev = {0.5f, 0.5f, 0.5f}};
  }
  std::string describe() const override { return "LeNet"; }
};

}  // namespace models
}  // namespace tl::inline TL_ABI
