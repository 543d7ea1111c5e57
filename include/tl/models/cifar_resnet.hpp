// Residual networks for 32 x 32 pictures.
#pragma once
#include "tl/models/image_classifier.hpp"

namespace tl::inline TL_ABI {
namespace models {

/// ResNet-20, -32, -44, -56 or -110 with shortcuts that have no weights (option A): every second pixel, and zero
/// channels on both sides. Parameter names as in akamaster/pytorch_resnet_cifar10. Paper: He et al., "Deep residual
/// learning for image recognition", 2016, section 4.2.
class CifarResNet : public ImageClassifier {
 public:
  struct BasicBlock : nn::Module {
    nn::Conv2d conv1, conv2;
    nn::BatchNorm2d bn1, bn2;
    TL_MEMBERS(conv1, bn1, conv2, bn2)

    BasicBlock(int64_t in, int64_t out, int64_t stride, const nn::BatchNormConfig& norm)
        : conv1(in, out, {.kernel = 3, .stride = stride, .padding = 1, .bias = false}),
          conv2(out, out, {.kernel = 3, .padding = 1, .bias = false}),
          bn1(out, norm),
          bn2(out, norm) {}

    Tensor forward(const Tensor& x) override {
      const Tensor y = conv_bn(conv1, bn1, x, Activation::relu);
      return conv_bn(conv2, bn2, y, Activation::relu, shortcut(x));
    }
    std::string describe() const override { return "BasicBlock"; }

   private:
    Tensor shortcut(const Tensor& x) const {
      const int64_t stride = conv1.config.stride.h, added = bn1.weight.value().numel() - x.size(3);
      Tensor y = x;
      if (stride > 1) y = slice(slice(y, 1, 0, y.size(1), stride), 2, 0, y.size(2), stride);
      if (added > 0) y = pad(y, {{}, {}, {}, {added / 2, added - added / 2}});
      return y;
    }
  };

  nn::Conv2d conv1;
  nn::BatchNorm2d bn1;
  nn::ModuleList<BasicBlock> layer1, layer2, layer3;
  nn::Linear linear;
  TL_MEMBERS(conv1, bn1, layer1, layer2, layer3, linear)

  /// depth = 6 n + 2. Errors: UsageError for any other depth.
  CifarResNet(int64_t depth, const ModelOptions& options) : depth_(depth) {
    require<UsageError>(depth >= 8 && (depth - 2) % 6 == 0, "cifar_resnet: depth must be 6 n + 2, got ", depth);
    const nn::BatchNormConfig norm{.eps = options.batch_norm_eps.value_or(1e-5)};
    conv1 = nn::Conv2d(3, 16, {.kernel = 3, .padding = 1, .bias = false});
    bn1 = nn::BatchNorm2d(16, norm);
    int64_t in = 16;
    for (auto [layer, out] :
         {std::pair{&layer1, int64_t{16}}, std::pair{&layer2, int64_t{32}}, std::pair{&layer3, int64_t{64}}})
      for (int64_t i = 0; i < (depth - 2) / 6; ++i) {
        layer->push_back(BasicBlock(in, out, i == 0 && out > 16 ? 2 : 1, norm));
        in = out;
      }
    linear = nn::Linear(64, options.classes);
    for (auto& p : nn::named_parameters(*this))
      if (p.parameter->value().rank() > 1) nn::kaiming_normal_(p.parameter->value());
  }

  Tensor run_stage(size_t stage, const Tensor& x) override {
    switch (stage) {
      case 0:
        return conv_bn(conv1, bn1, x, Activation::relu);
      case 1:
        return layer1(x);
      case 2:
        return layer2(x);
      case 3:
        return global_avg_pool(layer3(x));
      default:
        return linear(x);
    }
  }
  std::string head_name() const override { return "linear"; }
  void replace_head(int64_t classes) override { linear = nn::Linear(64, classes); }
  std::vector<std::vector<std::string>> stages() const override {
    return {{"conv1", "bn1"}, {"layer1"}, {"layer2"}, {"layer3"}, {"linear"}};
  }
  Preprocess preprocess() const override { return {.size = 32, .resize = 32, .crop_fraction = 1.0}; }
  std::string describe() const override { return text("CifarResNet-", depth_); }

 private:
  int64_t depth_;
};

}  // namespace models
}  // namespace tl::inline TL_ABI
