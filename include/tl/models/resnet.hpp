// Residual networks for ImageNet.
#pragma once
#include "tl/models/image_classifier.hpp"

namespace tl::inline TL_ABI {
namespace models {

/// ResNet-18, -34 (basic blocks) or -50 (bottlenecks, the stride in the 3 x 3 convolution). Names as in torchvision.
/// Paper: He et al., "Deep residual learning for image recognition", 2016.
class ResNet : public ImageClassifier {
 public:
  /// Two 3 x 3 convolutions, or 1 x 1, 3 x 3 and 1 x 1; members that a kind lacks stay empty.
  struct Block : nn::Module {
    nn::Conv2d conv1, conv2, conv3;
    nn::BatchNorm2d bn1, bn2, bn3;
    nn::Sequential downsample;

    Block(int64_t in, int64_t width, int64_t stride, bool bottleneck, const nn::BatchNormConfig& norm) {
      const int64_t out = bottleneck ? 4 * width : width;
      if (bottleneck) {
        conv1 = nn::Conv2d(in, width, {.kernel = 1, .bias = false});
        conv2 = nn::Conv2d(width, width, {.kernel = 3, .stride = stride, .padding = 1, .bias = false});
        conv3 = nn::Conv2d(width, out, {.kernel = 1, .bias = false});
        bn3 = nn::BatchNorm2d(out, norm);
      } else {
        conv1 = nn::Conv2d(in, width, {.kernel = 3, .stride = stride, .padding = 1, .bias = false});
        conv2 = nn::Conv2d(width, width, {.kernel = 3, .padding = 1, .bias = false});
      }
      bn1 = nn::BatchNorm2d(width, norm);
      bn2 = nn::BatchNorm2d(width, norm);
      if (stride != 1 || in != out) {
        downsample.add(nn::Conv2d(in, out, {.kernel = 1, .stride = stride, .bias = false}));
        downsample.add(nn::BatchNorm2d(out, norm));
      }
    }

    std::vector<nn::Member> members() override {
      auto out = nn::detail::list_members("conv1, bn1, conv2, bn2, conv3, bn3, downsample", conv1, bn1, conv2, bn2,
                                          conv3, bn3, downsample);
      std::erase_if(out, [](const nn::Member& member) { return member.module->members().empty(); });
      return out;
    }

    Tensor forward(const Tensor& x) override {
      const Tensor shortcut = downsample.empty() ? x
                                                 : conv_bn(static_cast<nn::Conv2d&>(downsample[0]),
                                                           static_cast<nn::BatchNorm2d&>(downsample[1]), x);
      Tensor y = conv_bn(conv1, bn1, x, Activation::relu);
      if (!conv3.weight.defined()) return conv_bn(conv2, bn2, y, Activation::relu, shortcut);
      y = conv_bn(conv2, bn2, y, Activation::relu);
      return conv_bn(conv3, bn3, y, Activation::relu, shortcut);
    }
    std::string describe() const override { return conv3.weight.defined() ? "Bottleneck" : "BasicBlock"; }
  };

  nn::Conv2d conv1;
  nn::BatchNorm2d bn1;
  nn::MaxPool2d maxpool;
  nn::ModuleList<Block> layer1, layer2, layer3, layer4;
  nn::Linear fc;
  TL_MEMBERS(conv1, bn1, maxpool, layer1, layer2, layer3, layer4, fc)

  /// Errors: UsageError unless depth is 18, 34 or 50.
  ResNet(int64_t depth, const ModelOptions& options)
      : maxpool({.kernel = 3, .stride = 2, .padding = 1}), depth_(depth) {
    require<UsageError>(depth == 18 || depth == 34 || depth == 50, "resnet: depth must be 18, 34 or 50, got ", depth);
    const bool bottleneck = depth == 50;
    const nn::BatchNormConfig norm{.eps = options.batch_norm_eps.value_or(1e-5)};
    conv1 = nn::Conv2d(3, 64, {.kernel = 7, .stride = 2, .padding = 3, .bias = false});
    bn1 = nn::BatchNorm2d(64, norm);
    int64_t in = 64;
    const int64_t counts[4] = {depth == 18 ? 2 : 3, depth == 18 ? 2 : 4, depth == 18 ? 2 : 6, depth == 18 ? 2 : 3};
    nn::ModuleList<Block>* layers[4] = {&layer1, &layer2, &layer3, &layer4};
    for (int stage = 0; stage < 4; ++stage)
      for (int64_t i = 0; i < counts[stage]; ++i) {
        const int64_t width = int64_t{64} << stage;
        layers[stage]->push_back(Block(in, width, i == 0 && stage > 0 ? 2 : 1, bottleneck, norm));
        in = bottleneck ? 4 * width : width;
      }
    for (auto& p : nn::named_parameters(*this))
      if (p.parameter->value().rank() == 4) nn::kaiming_normal_(p.parameter->value(), /*fan_out=*/true);
    fc = nn::Linear(in, options.classes);
  }

  Tensor run_stage(size_t stage, const Tensor& x) override {
    switch (stage) {
      case 0:
        return maxpool(conv_bn(conv1, bn1, x, Activation::relu));
      case 1:
        return layer1(x);
      case 2:
        return layer2(x);
      case 3:
        return layer3(x);
      case 4:
        return global_avg_pool(layer4(x));
      default:
        return fc(x);
    }
  }
  std::string head_name() const override { return "fc"; }
  void replace_head(int64_t classes) override { fc = nn::Linear(fc.weight.value().size(1), classes); }
  std::vector<std::vector<std::string>> stages() const override {
    return {{"conv1", "bn1"}, {"layer1"}, {"layer2"}, {"layer3"}, {"layer4"}, {"fc"}};
  }
  Preprocess preprocess() const override { return {.size = 224, .resize = 256}; }
  std::string describe() const override { return text("ResNet-", depth_); }

 private:
  int64_t depth_;
};

}  // namespace models
}  // namespace tl::inline TL_ABI
