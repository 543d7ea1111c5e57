// Definitions of train/strategies.hpp.
#pragma once
#include <filesystem>
#include <optional>

#include "tl/core/stopwatch.hpp"
#include "tl/nn/freeze.hpp"
#include "tl/train/strategies.hpp"
#include "tl/transfer/features.hpp"

namespace tl::inline TL_ABI {
namespace detail {

struct Recipe {
  int64_t epochs;
  double rate, backbone_factor, layer_decay;
};

TL_INLINE Recipe recipe_of(Strategy strategy, const StrategyOptions& options) {
  Recipe recipe{10, 1e-3, 1.0, 1.0};
  if (strategy == Strategy::features) recipe = {60, 3e-3, 1.0, 1.0};
  if (strategy == Strategy::finetune) recipe = {10, 2e-4, 0.1, 0.8};
  if (options.epochs > 0) recipe.epochs = options.epochs;
  if (options.rate > 0) recipe.rate = options.rate;
  if (options.backbone_factor > 0) recipe.backbone_factor = options.backbone_factor;
  if (options.layer_decay > 0) recipe.layer_decay = options.layer_decay;
  return recipe;
}

/// The head learns with the recipe's rate, the stage below it with a share of that, and so on towards the input.
TL_INLINE std::vector<optim::ParamGroup> groups_of(models::ImageClassifier& net, const Recipe& recipe,
                                                   double weight_decay) {
  const auto stages = net.stages();
  std::vector<optim::GroupSpec> specs{{stages.back(), recipe.rate, weight_decay}};
  double rate = recipe.rate * recipe.backbone_factor;
  for (size_t i = stages.size() - 1; i-- > 0; rate *= recipe.layer_decay)
    specs.push_back({stages[i], rate, weight_decay});
  return optim::param_groups(net, specs);
}

TL_INLINE FitOptions fit_options(const Recipe& recipe, const StrategyOptions& options, int64_t batches,
                                 Strategy strategy) {
  FitOptions fit;
  fit.epochs = recipe.epochs;
  fit.schedule = optim::one_cycle(std::max<int64_t>(recipe.epochs * batches, 1));
  fit.loss.label_smoothing = options.label_smoothing >= 0     ? options.label_smoothing
                             : strategy == Strategy::finetune ? 0.1
                                                              : 0.0;
  fit.checkpoint = options.checkpoint;
  fit.keep_best = options.keep_best;
  fit.validate_every = options.validate_every;
  fit.screen = options.screen;
  fit.name = std::string(name_of(strategy));
  fit.seed = options.seed;
  return fit;
}

/// The backbone's features of a view, also of its mirrored pictures.
TL_INLINE FeatureSet features_of(models::ImageClassifier& net, const View& view, bool mirrored,
                                 const StrategyOptions& options) {
  const Preprocess& input = view.pipeline.preprocess();
  std::vector<Transform> steps{ResizeCenterCrop{input.resize_side(), input.size, input.interpolation}};
  if (mirrored) steps.push_back(RandomHorizontalFlip{1.0});
  Loader loader(View(view.data, view.indices, Pipeline(input, steps)), {.batch = options.batch});
  Progress progress(options.screen, {.epochs = 1});
  progress.start_phase(1, mirrored ? "features of mirrored pictures" : "features", loader.batches());
  return extract_features(
      net, loader, [&](const Tensor& x) { return net.features(x); }, [&](int64_t samples) { progress.step(samples); });
}

/// Trains the head alone, on features that are computed once.
TL_INLINE FitResult train_head(models::ImageClassifier& net, const View& train, const View* validation, int64_t classes,
                               const Recipe& recipe, const StrategyOptions& options) {
  freeze_all_but(net, net.head_name());
  FeatureSet known = features_of(net, train, false, options);
  if (options.augment) known = append(known, features_of(net, train, true, options));
  std::optional<TensorSource> checked;
  if (validation) {
    const FeatureSet unseen = features_of(net, *validation, false, options);
    checked.emplace(unseen.x, unseen.y, LoaderOptions{.batch = 256});
  }
  TensorSource source(known.x, known.y, {.batch = options.batch, .shuffle = true, .seed = options.seed});
  optim::AdamW optimizer(optim::param_groups(net, recipe.rate, options.weight_decay));
  FitOptions fit_with = fit_options(recipe, options, source.batches(), Strategy::features);
  fit_with.forward = [&net](const Tensor& x) { return net.classify(x); };
  return fit(net, optimizer, source, checked ? &*checked : nullptr, classes, fit_with);
}

}  // namespace detail

TL_INLINE std::string_view name_of(Strategy strategy) {
  switch (strategy) {
    case Strategy::scratch:
      return "scratch";
    case Strategy::features:
      return "features";
    case Strategy::finetune:
      return "finetune";
  }
  return "?";
}

TL_INLINE Strategy parse_strategy(std::string_view name) {
  for (const Strategy strategy : {Strategy::scratch, Strategy::features, Strategy::finetune})
    if (name == name_of(strategy)) return strategy;
  fail<UsageError>("strategy: expected scratch, features or finetune; got \"", name, "\"");
}

TL_INLINE AugmentOptions small_data_augmentation() {
  AugmentOptions options;
  options.scale = {0.35, 1.0};
  return options;
}

TL_INLINE FitResult train_with_strategy(Strategy strategy, models::ImageModel& model, const View& train,
                                        const View& validation, const StrategyOptions& options) {
  const detail::Recipe recipe = detail::recipe_of(strategy, options);
  const auto& names = train.data->classes();
  const auto classes = static_cast<int64_t>(names.size());
  manual_seed(options.seed);
  if (strategy == Strategy::scratch) {
    model.info.options.classes = classes;
    model.net = models::create(model.info.arch, model.info.options);
  } else {
    model.net->set_frozen(false);  // whatever the file had frozen: the strategy decides
    model.net->replace_head(classes);
  }
  model.info.classes = names;
  model.info.options.classes = classes;

  const Stopwatch watch;
  FitResult result;
  if (strategy == Strategy::features) {
    result = detail::train_head(*model.net, train, &validation, classes, recipe, options);
  } else {
    Loader source(train, {.batch = options.batch, .shuffle = true, .seed = options.seed});
    Loader checked(validation, {.batch = options.batch});
    const bool resumed = !options.checkpoint.empty() && std::filesystem::exists(options.checkpoint);
    if (strategy == Strategy::finetune && options.head_first && !resumed) {
      StrategyOptions quick = options;
      quick.checkpoint.clear();
      quick.screen = {};
      detail::train_head(*model.net, train, nullptr, classes, detail::recipe_of(Strategy::features, {}), quick);
      model.net->set_frozen(false);
      model.net->zero_grad();
    }
    if (strategy == Strategy::finetune && options.freeze_norms) freeze_batch_norms(*model.net);
    const auto groups = detail::groups_of(*model.net, recipe, options.weight_decay);
    optim::AdamW optimizer(optim::without_decay_on_vectors(groups));
    result = fit(*model.net, optimizer, source, &checked, classes,
                 detail::fit_options(recipe, options, source.batches(), strategy));
  }
  result.log.seconds = watch.seconds();
  return result;
}

}  // namespace tl::inline TL_ABI
