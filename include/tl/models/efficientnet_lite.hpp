// EfficientNet-Lite.
#pragma once
#include <cmath>

#include "tl/models/image_classifier.hpp"

namespace tl::inline TL_ABI {
namespace models {

/// EfficientNet-Lite0, -Lite1 or -Lite2: inverted residuals with ReLU6 and no squeeze-and-excitation. Names as in timm
/// (`tf_efficientnet_lite0`), whose published weights want TensorFlow's SAME padding and BatchNorm's eps 1e-3.
/// Papers: Tan and Le, "EfficientNet", 2019; Sandler et al., "MobileNetV2", 2018.
class EfficientNetLite : public ImageClassifier {
 public:
  struct BlockConfig {
    int64_t in, out, kernel, stride, expansion;
    double drop_path;
    Padding padding;
    nn::BatchNormConfig norm;
  };

  /// Depthwise and projection (expansion 1), or expansion, depthwise and projection.
  struct Block : nn::Module {
    nn::Conv2d conv_expand, conv_dw, conv_project;
    nn::BatchNorm2d bn_expand, bn_dw, bn_project;
    nn::DropPath drop_path;
    bool residual;

    explicit Block(const BlockConfig& c) : drop_path(c.drop_path), residual(c.stride == 1 && c.in == c.out) {
      const int64_t width = c.in * c.expansion;
      if (c.expansion > 1) {
        conv_expand = nn::Conv2d(c.in, width, {.kernel = 1, .bias = false});
        bn_expand = nn::BatchNorm2d(width, c.norm);
      }
      conv_dw = nn::Conv2d(
          width, width, {.kernel = c.kernel, .stride = c.stride, .padding = c.padding, .groups = width, .bias = false});
      bn_dw = nn::BatchNorm2d(width, c.norm);
      conv_project = nn::Conv2d(width, c.out, {.kernel = 1, .bias = false});
      bn_project = nn::BatchNorm2d(c.out, c.norm);
    }

    /// timm numbers the norms in order and calls the projection of an inverted residual conv_pwl.
    std::vector<nn::Member> members() override {
      if (!conv_expand.weight.defined())
        return nn::detail::list_members("conv_dw, bn1, conv_pw, bn2, drop_path", conv_dw, bn_dw, conv_project,
                                        bn_project, drop_path);
      return nn::detail::list_members("conv_pw, bn1, conv_dw, bn2, conv_pwl, bn3, drop_path", conv_expand, bn_expand,
                                      conv_dw, bn_dw, conv_project, bn_project, drop_path);
    }

    Tensor forward(const Tensor& x) override {
      std::vector<nn::ConvBn> units;
      if (conv_expand.weight.defined()) units.push_back({conv_expand, bn_expand, Activation::relu6});
      units.push_back({conv_dw, bn_dw, Activation::relu6});
      units.push_back({conv_project, bn_project});
      if (residual && drop_path.training() && drop_path.probability > 0)
        return drop_path(nn::conv_bn_chain(units, x)) + x;
      return nn::conv_bn_chain(units, x, residual ? x : Tensor());
    }
    std::string describe() const override {
      return conv_expand.weight.defined() ? "InvertedResidual" : "DepthwiseSeparable";
    }
  };

  nn::Conv2d conv_stem, conv_head;
  nn::BatchNorm2d bn1, bn2;
  nn::ModuleList<nn::ModuleList<Block>> blocks;
  nn::Dropout dropout;
  nn::Linear classifier;
  TL_MEMBERS(conv_stem, bn1, blocks, conv_head, bn2, dropout, classifier)

  /// Errors: UsageError unless variant is 0, 1 or 2.
  EfficientNetLite(int64_t variant, const ModelOptions& options) : variant_(variant) {
    require<UsageError>(variant >= 0 && variant <= 2, "efficientnet_lite: variant must be 0, 1 or 2, got ", variant);
    const double width = variant == 2 ? 1.1 : 1.0, depth = variant == 0 ? 1.0 : variant == 1 ? 1.1 : 1.2;
    struct Stage {
      int64_t repeats, kernel, stride, expansion, channels;
    };
    constexpr Stage kStages[] = {{1, 3, 1, 1, 16},  {2, 3, 2, 6, 24},  {2, 5, 2, 6, 40}, {3, 3, 2, 6, 80},
                                 {3, 5, 1, 6, 112}, {4, 5, 2, 6, 192}, {1, 3, 1, 6, 320}};
    const nn::BatchNormConfig norm{.eps = options.batch_norm_eps.value_or(1e-3)};
    const bool same = options.same_padding.value_or(true);
    const auto padding = [same](int64_t kernel) { return same ? Padding::same_tf() : Padding(kernel / 2); };

    conv_stem = nn::Conv2d(3, 32, {.kernel = 3, .stride = 2, .padding = padding(3), .bias = false});
    bn1 = nn::BatchNorm2d(32, norm);
    const auto repeats_of = [&](const Stage& stage) {  // the first and last stage are not deepened
      const bool fixed = &stage == &kStages[0] || &stage == &kStages[6];
      return fixed ? stage.repeats : static_cast<int64_t>(std::ceil(static_cast<double>(stage.repeats) * depth));
    };
    int64_t total = 0, index = 0, in = 32;
    for (const Stage& stage : kStages) total += repeats_of(stage);
    for (const Stage& stage : kStages) {
      nn::ModuleList<Block> list;
      const int64_t out = round_channels(static_cast<double>(stage.channels) * width);
      for (int64_t i = 0; i < repeats_of(stage); ++i, ++index) {
        list.push_back(Block({.in = in,
                              .out = out,
                              .kernel = stage.kernel,
                              .stride = i == 0 ? stage.stride : 1,
                              .expansion = stage.expansion,
                              .drop_path = options.drop_path * static_cast<double>(index) / static_cast<double>(total),
                              .padding = padding(stage.kernel),
                              .norm = norm}));
        in = out;
      }
      blocks.push_back(std::move(list));
    }
    conv_head = nn::Conv2d(in, 1280, {.kernel = 1, .bias = false});
    bn2 = nn::BatchNorm2d(1280, norm);
    dropout = nn::Dropout(options.dropout >= 0 ? options.dropout : 0.2);
    for (auto& p : nn::named_parameters(*this)) {
      if (p.parameter->value().rank() != 4) continue;
      const nn::Fan fan = nn::fan_of(p.parameter->value());
      // For a depthwise weight fan_out counts its own channel alone, as in the reference implementation.
      const bool depthwise = p.parameter->value().size(3) == 1 && p.name != "conv_stem.weight";
      const double outputs = static_cast<double>(depthwise ? fan.in : fan.out);
      nn::normal_(p.parameter->value(), 0, std::sqrt(2.0 / outputs));
    }
    replace_head(options.classes);
  }

  Tensor run_stage(size_t stage, const Tensor& x) override {
    if (stage == 0) return conv_bn(conv_stem, bn1, x, Activation::relu6);
    if (stage < blocks.size()) return blocks[stage - 1](x);
    if (stage == blocks.size()) {
      const Tensor y = blocks[stage - 1](x);
      observed(blocks, y);
      return y;
    }
    if (stage == blocks.size() + 1) return global_avg_pool(nn::conv_bn_chain({{conv_head, bn2, Activation::relu6}}, x));
    return classifier(dropout(x));
  }
  std::string head_name() const override { return "classifier"; }
  void replace_head(int64_t classes) override { classifier = nn::Linear(1280, classes); }
  std::vector<std::vector<std::string>> stages() const override {
    return {{"conv_stem", "bn1"}, {"blocks.0"}, {"blocks.1"}, {"blocks.2"},         {"blocks.3"},
            {"blocks.4"},         {"blocks.5"}, {"blocks.6"}, {"conv_head", "bn2"}, {"classifier"}};
  }
  std::string activation() const override { return "relu6"; }
  Preprocess preprocess() const override {
    const int64_t size = variant_ == 0 ? 224 : variant_ == 1 ? 240 : 260;
    return {.size = size,
            .resize = size + 32,
            .crop_fraction = 0.875,
            .interpolation = Interpolation::bicubic,
            .mean = {0.5f, 0.5f, 0.5f},
            .stddev = {0.5f, 0.5f, 0.5f}};
  }
  std::string describe() const override { return text("EfficientNet-Lite", variant_); }

 private:
  /// To a multiple of 8, never more than 10 % down.
  static int64_t round_channels(double channels) {
    const int64_t rounded = std::max<int64_t>(8, static_cast<int64_t>(channels + 4) / 8 * 8);
    return static_cast<double>(rounded) < 0.9 * channels ? rounded + 8 : rounded;
  }

  int64_t variant_;
};

}  // namespace models
}  // namespace tl::inline TL_ABI
