// SqueezeNet 1.1.
#pragma once
#include "tl/models/image_classifier.hpp"

namespace tl::inline TL_ABI {
namespace models {

/// SqueezeNet 1.1, without BatchNorm; its head is a 1 x 1 convolution on the feature map. Names as in torchvision.
/// Paper: Iandola et al., "SqueezeNet", 2016.
class SqueezeNet : public ImageClassifier {
 public:
  struct Fire : nn::Module {
    nn::Conv2d squeeze, expand1x1, expand3x3;
    TL_MEMBERS(squeeze, expand1x1, expand3x3)

    Fire(int64_t in, int64_t narrow, int64_t wide)
        : squeeze(in, narrow, {.kernel = 1}),
          expand1x1(narrow, wide, {.kernel = 1}),
          expand3x3(narrow, wide, {.kernel = 3, .padding = 1}) {}

    Tensor forward(const Tensor& x) override {
      const Tensor y = conv_activation(squeeze, x, Activation::relu);
      return concat({conv_activation(expand1x1, y, Activation::relu), conv_activation(expand3x3, y, Activation::relu)},
                    3);
    }
    std::string describe() const override { return "Fire"; }
  };

  nn::Sequential layers;
  nn::Dropout dropout;
  nn::Conv2d classifier;

  explicit SqueezeNet(const ModelOptions& options) {
    const nn::MaxPool2d pool({.kernel = 3, .stride = 2, .ceil_mode = true});
    const auto add_pool = [&] { layers.add(nn::MaxPool2d(pool.options)); };
    layers.add(nn::Conv2d(3, 64, {.kernel = 3, .stride = 2}));
    layers.add(nn::ReLU());
    add_pool();
    layers.add(Fire(64, 16, 64));
    layers.add(Fire(128, 16, 64));
    add_pool();
    layers.add(Fire(128, 32, 128));
    layers.add(Fire(256, 32, 128));
    add_pool();
    layers.add(Fire(256, 48, 192));
    layers.add(Fire(384, 48, 192));
    layers.add(Fire(384, 64, 256));
    layers.add(Fire(512, 64, 256));
    dropout = nn::Dropout(options.dropout >= 0 ? options.dropout : 0.5);
    for (auto& p : nn::named_parameters(*this)) {
      if (p.parameter->value().rank() == 4) nn::kaiming_uniform_(p.parameter->value());
      else p.parameter->value().zero_();
    }
    replace_head(options.classes);
  }

  std::vector<nn::Member> members() override {
    std::vector<nn::Member> out;
    nn::detail::add_member(out, "features", layers);
    nn::detail::add_member(out, "classifier.0", dropout);
    nn::detail::add_member(out, "classifier.1", classifier);
    return out;
  }

  Tensor run_stage(size_t stage, const Tensor& x) override {
    constexpr size_t kEnds[] = {3, 6, 9, 13};  // each of the first three ends with its pooling
    if (stage == 4) return global_avg_pool(conv_activation(classifier, dropout(x), Activation::relu));
    const Tensor y = layers.run_stages(x, stage == 0 ? 0 : kEnds[stage - 1], kEnds[stage]);
    if (stage == 3) observed(layers, y);
    return y;
  }
  std::string head_name() const override { return "classifier.1"; }
  void replace_head(int64_t classes) override {
    classifier = nn::Conv2d(512, classes, {.kernel = 1});
    nn::normal_(classifier.weight.value(), 0, 0.01);
    classifier.bias.value().zero_();
  }
  std::vector<std::vector<std::string>> stages() const override {
    return {
        {"features.0"}, {"features.[3-4]"}, {"features.[6-7]"}, {"features.9", "features.1[0-2]"}, {"classifier.1"}};
  }
  Preprocess preprocess() const override { return {.size = 224, .resize = 256}; }
  std::string describe() const override { return "SqueezeNet 1.1"; }
};

}  // namespace models
}  // namespace tl::inline TL_ABI
