// Definitions of models/create.hpp.
#pragma once
#include "tl/models/cifar_resnet.hpp"
#include "tl/models/create.hpp"
#include "tl/models/efficientnet_lite.hpp"
#include "tl/models/lenet.hpp"
#include "tl/models/mobilenet_v2.hpp"
#include "tl/models/resnet.hpp"
#include "tl/models/squeezenet.hpp"

namespace tl::inline TL_ABI {
namespace models {
namespace detail {

struct Recipe {
  std::string name;
  std::unique_ptr<ImageClassifier> (*make)(const ModelOptions&);
};

TL_INLINE const std::vector<Recipe>& recipes() {
  using Options = ModelOptions;
  using Made = std::unique_ptr<ImageClassifier>;
  using Mobile = MobileNetV2::Variant;
  static const std::vector<Recipe> list = {
      {"cifar_resnet20", [](const Options& o) -> Made { return std::make_unique<CifarResNet>(20, o); }},
      {"cifar_resnet32", [](const Options& o) -> Made { return std::make_unique<CifarResNet>(32, o); }},
      {"cifar_resnet44", [](const Options& o) -> Made { return std::make_unique<CifarResNet>(44, o); }},
      {"cifar_resnet56", [](const Options& o) -> Made { return std::make_unique<CifarResNet>(56, o); }},
      {"cifar_resnet110", [](const Options& o) -> Made { return std::make_unique<CifarResNet>(110, o); }},
      {"resnet18", [](const Options& o) -> Made { return std::make_unique<ResNet>(18, o); }},
      {"resnet34", [](const Options& o) -> Made { return std::make_unique<ResNet>(34, o); }},
      {"resnet50", [](const Options& o) -> Made { return std::make_unique<ResNet>(50, o); }},
      {"mobilenet_v2", [](const Options& o) -> Made { return std::make_unique<MobileNetV2>(Mobile::torchvision, o); }},
      {"mobilenet_v2_folded",
       [](const Options& o) -> Made { return std::make_unique<MobileNetV2>(Mobile::folded, o); }},
      {"mobilenet_v2_gluon", [](const Options& o) -> Made { return std::make_unique<MobileNetV2>(Mobile::gluon, o); }},
      {"efficientnet_lite0", [](const Options& o) -> Made { return std::make_unique<EfficientNetLite>(0, o); }},
      {"efficientnet_lite1", [](const Options& o) -> Made { return std::make_unique<EfficientNetLite>(1, o); }},
      {"efficientnet_lite2", [](const Options& o) -> Made { return std::make_unique<EfficientNetLite>(2, o); }},
      {"squeezenet1_1", [](const Options& o) -> Made { return std::make_unique<SqueezeNet>(o); }},
      {"lenet", [](const Options& o) -> Made { return std::make_unique<LeNet>(o); }},
  };
  return list;
}

}  // namespace detail

TL_INLINE const std::vector<std::string>& model_names() {
  static const std::vector<std::string> names = [] {
    std::vector<std::string> out;
    for (const auto& recipe : detail::recipes()) out.push_back(recipe.name);
    return out;
  }();
  return names;
}

TL_INLINE std::unique_ptr<ImageClassifier> create(std::string_view arch, const ModelOptions& options) {
  require<UsageError>(options.classes >= 1, "create: a network needs at least one class, got ", options.classes);
  for (const auto& recipe : detail::recipes())
    if (recipe.name == arch) return recipe.make(options);
  fail<UsageError>("create: unknown architecture \"", arch, "\". ", nn::nearest_names(arch, model_names(), 4));
}

}  // namespace models
}  // namespace tl::inline TL_ABI
