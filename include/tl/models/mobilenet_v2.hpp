// MobileNetV2.
#pragma once
#include <array>
#include <numeric>

#include "tl/models/image_classifier.hpp"

namespace tl::inline TL_ABI {
namespace models {

/// MobileNetV2 1.0: inverted residuals with linear bottlenecks. Paper: Sandler et al., "MobileNetV2", 2018.
///
/// Three sets of weights exist, which differ in names and details:
///   torchvision  `features.1.conv.0.0.weight`; ReLU6
///   folded       the same without BatchNorm: it was folded into the convolutions, which have a bias
///   gluon        `blocks.0.conv0.weight` (the ONNX model zoo's); ReLU, an expansion in the first block as well, and
///   the
///                64-channel stage at the larger size
class MobileNetV2 : public ImageClassifier {
 public:
  enum class Variant { torchvision, folded, gluon };

  struct BlockConfig {
    int64_t in, out, stride, expansion;
    bool expand;  ///< with an expansion convolution
    Variant variant;
    nn::BatchNormConfig norm;
  };

  /// A convolution with its norm, which a folded network has not.
  struct Unit {
    nn::Conv2d conv;
    nn::BatchNorm2d bn;
    bool folded = false;

    Unit() = default;
    Unit(int64_t in, int64_t out, int64_t kernel, int64_t stride, int64_t groups, Variant variant,
         const nn::BatchNormConfig& norm)
        : conv(in, out,
               {.kernel = kernel,
                .stride = stride,
                .padding = kernel / 2,
                .groups = groups,
                .bias = variant == Variant::folded}),
          folded(variant == Variant::folded) {
      if (!folded) bn = nn::BatchNorm2d(out, norm);
    }

    Tensor operator()(const Tensor& x, Activation activation, const Tensor& residual = {}) {
      if (!folded) return nn::conv_bn_chain({{conv, bn, activation}}, x, residual);
      return nn::conv_activation(conv, x, activation, residual);
    }

    /// Adds the two to a list of members under the names of the weights.
    void list(std::vector<nn::Member>& out, const std::string& conv_name, const std::string& bn_name) {
      if (!conv.weight.defined()) return;
      nn::detail::add_member(out, conv_name, conv);
      if (!folded) nn::detail::add_member(out, bn_name, bn);
    }
  };

  struct Block : nn::Module {
    Unit expand, depthwise, project;
    bool residual;
    Variant variant;

    explicit Block(const BlockConfig& c) : residual(c.stride == 1 && c.in == c.out), variant(c.variant) {
      const int64_t width = c.in * c.expansion;
      if (c.expand) expand = Unit(c.in, width, 1, 1, 1, c.variant, c.norm);
      depthwise = Unit(width, width, 3, c.stride, width, c.variant, c.norm);
      project = Unit(width, c.out, 1, 1, 1, c.variant, c.norm);
    }

    std::vector<nn::Member> members() override {
      std::vector<nn::Member> out;
      if (variant == Variant::gluon) {
        expand.list(out, "conv0", "bn0");
        depthwise.list(out, "conv1", "bn1");
        project.list(out, "conv2", "bn2");
        return out;
      }
      const int offset = expand.conv.weight.defined() ? 1 : 0;
      const std::string dw = "conv." + std::to_string(offset), pw = "conv." + std::to_string(offset + 1);
      expand.list(out, "conv.0.0", "conv.0.1");
      depthwise.list(out, dw + ".0", dw + ".1");
      project.list(out, pw, "conv." + std::to_string(offset + 2));
      return out;
    }

    Tensor forward(const Tensor& x) override {
      const Activation activation = variant == Variant::gluon ? Activation::relu : Activation::relu6;
      const bool expands = expand.conv.weight.defined();
      if (variant == Variant::folded) {
        const Tensor y = depthwise(expands ? expand(x, activation) : x, activation);
        return project(y, Activation::none, residual ? x : Tensor());
      }
      std::vector<nn::ConvBn> units;
      if (expands) units.push_back({expand.conv, expand.bn, activation});
      units.push_back({depthwise.conv, depthwise.bn, activation});
      units.push_back({project.conv, project.bn});
      return nn::conv_bn_chain(units, x, residual ? x : Tensor());
    }
    std::string describe() const override { return "InvertedResidual"; }
  };

  /// A convolution with its norm as a module of its own, named "0" and "1": the first and the last layer.
  struct End : nn::Module {
    Unit unit;
    Variant variant = Variant::torchvision;

    End() = default;
    End(Unit u, Variant v) : unit(std::move(u)), variant(v) {}
    std::vector<nn::Member> members() override {
      std::vector<nn::Member> out;
      unit.list(out, "0", "1");
      return out;
    }
    Tensor forward(const Tensor& x) override {
      return unit(x, variant == Variant::gluon ? Activation::relu : Activation::relu6);
    }
    std::string describe() const override { return "ConvNormActivation"; }
  };

  End first, last;
  nn::ModuleList<Block> blocks;
  nn::Dropout dropout;
  nn::Linear classifier;

  MobileNetV2(Variant variant, const ModelOptions& options) : variant_(variant) {
    const bool gluon = variant == Variant::gluon;
    const nn::BatchNormConfig norm{.eps = options.batch_norm_eps.value_or(1e-5)};
    struct Stage {
      int64_t expansion, channels, stride;
    };
    const Stage stages[] = {{1, 16, 1},  {6, 24, 2}, {6, 32, 2}, {6, 64, gluon ? 1 : 2}, {6, 96, gluon ? 2 : 1},
                            {6, 160, 2}, {6, 320, 1}};
    first = End(Unit(3, 32, 3, 2, 1, variant, norm), variant);
    int64_t in = 32;
    for (size_t s = 0; s < kRepeats.size(); ++s)
      for (unsigned i = 0; i < kRepeats[s]; ++i) {
        const Stage& stage = stages[s];
        blocks.push_back(Block({.in = in,
                                .out = stage.channels,
                                .stride = i == 0 ? stage.stride : 1,
                                .expansion = stage.expansion,
                                .expand = stage.expansion > 1 || gluon,
                                .variant = variant,
                                .norm = norm}));
        in = stage.channels;
      }
    last = End(Unit(in, 1280, 1, 1, 1, variant, norm), variant);
    dropout = nn::Dropout(options.dropout >= 0 ? options.dropout : 0.2);
    for (auto& p : nn::named_parameters(*this))
      if (p.parameter->value().rank() == 4) nn::kaiming_normal_(p.parameter->value(), /*fan_out=*/true);
    replace_head(options.classes);
  }

  std::vector<nn::Member> members() override {
    std::vector<nn::Member> out;
    if (variant_ == Variant::gluon) {
      first.unit.list(out, "conv0", "bn0");
      nn::detail::add_member(out, "blocks", blocks);
      last.unit.list(out, "conv1", "bn1");
    } else {
      nn::detail::add_member(out, "features.0", first);
      for (size_t i = 0; i < blocks.size(); ++i)
        nn::detail::add_member(out, "features." + std::to_string(i + 1), blocks[i]);
      nn::detail::add_member(out, "features." + std::to_string(blocks.size() + 1), last);
    }
    nn::detail::add_member(out, "classifier.0", dropout);
    nn::detail::add_member(out, "classifier.1", classifier);
    return out;
  }

  Tensor run_stage(size_t stage, const Tensor& x) override {
    if (stage == 0) return first(x);
    if (stage > kRepeats.size() + 1) return classifier(dropout(x));
    if (stage == kRepeats.size() + 1) return global_avg_pool(last(x));
    const auto begin = std::accumulate(kRepeats.begin(), kRepeats.begin() + static_cast<std::ptrdiff_t>(stage) - 1, 0u);
    const Tensor y = blocks.run_stages(x, begin, begin + kRepeats[stage - 1]);
    if (stage == kRepeats.size()) observed(blocks, y);
    return y;
  }
  std::string head_name() const override { return "classifier.1"; }
  void replace_head(int64_t classes) override {
    classifier = [&] {
      const nn::SkipInit skip;
      return nn::Linear(1280, classes);
    }();
    nn::normal_(classifier.weight.value(), 0, 0.01);
    classifier.bias.value().zero_();
  }
  std::vector<std::vector<std::string>> stages() const override {
    const std::string prefix = variant_ == Variant::gluon ? "blocks." : "features.";
    const int shift = variant_ == Variant::gluon ? 0 : 1;
    std::vector<std::vector<std::string>> out;
    out.push_back(variant_ == Variant::gluon ? std::vector<std::string>{"conv0", "bn0"}
                                             : std::vector<std::string>{"features.0"});
    int at = shift;
    for (const unsigned repeats : kRepeats) {
      std::vector<std::string> stage;
      for (unsigned i = 0; i < repeats; ++i) stage.push_back(prefix + std::to_string(at++));
      out.push_back(std::move(stage));
    }
    out.push_back(variant_ == Variant::gluon ? std::vector<std::string>{"conv1", "bn1"}
                                             : std::vector<std::string>{"features.18"});
    out.push_back({"classifier.1"});
    return out;
  }
  std::string activation() const override { return variant_ == Variant::gluon ? "relu" : "relu6"; }
  Preprocess preprocess() const override { return {.size = 224, .resize = 256}; }
  std::string describe() const override { return "MobileNetV2"; }

 private:
  static constexpr std::array<unsigned, 7> kRepeats = {1, 2, 3, 4, 3, 3, 1};  // blocks of each stage

  Variant variant_;
};

}  // namespace models
}  // namespace tl::inline TL_ABI
