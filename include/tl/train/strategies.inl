// Definitions of train/strategies.hpp.
#pragma once
#include <cmath>
#include <filesystem>

#include "tl/core/glob.hpp"
#include "tl/core/stopwatch.hpp"
#include "tl/nn/freeze.hpp"
#include "tl/nn/init.hpp"
#include "tl/train/strategies.hpp"
#include "tl/transfer/interpolate.hpp"
#include "tl/transfer/surgery.hpp"

namespace tl::inline TL_ABI {
namespace detail {

/// The batches of two sources, one below the other: rows of the first, then as many of the second.
class BothSources final : public BatchSource {
 public:
  BothSources(BatchSource& first, BatchSource& second) : first_(first), second_(second) {}
  int64_t batches() const override { return first_.batches(); }
  int64_t samples() const override { return first_.samples(); }
  std::unique_ptr<BatchStream> epoch(int64_t epoch, int64_t first) override {
    return std::make_unique<Stream>(first_.epoch(epoch, first), second_.epoch(epoch, first));
  }

 private:
  struct Stream final : BatchStream {
    Stream(std::unique_ptr<BatchStream> a, std::unique_ptr<BatchStream> b)
        : first(std::move(a)), second(std::move(b)) {}
    bool next(Batch& batch) override {
      Batch other;
      if (!first->next(batch) || !second->next(other)) return false;
      if (!batch.indices.empty()) batch.x = concat({batch.x, other.x}, 0);
      return true;
    }
    std::unique_ptr<BatchStream> first, second;
  };

  BatchSource &first_, &second_;
};

/// Of the batches of BothSources: the mean of a sample's two logits.
TL_INLINE Forward mean_of_both(Forward forward) {
  return [forward = std::move(forward)](const Tensor& x) {
    const Tensor logits = forward(x);
    const int64_t n = logits.size(0) / 2;
    return (slice(logits, 0, 0, n) + slice(logits, 0, n, 2 * n)) * 0.5;
  };
}

/// Training and validation pictures behind the network's frozen part, which runs once for each picture and
/// augmentation.
class CachedViews {
 public:
  CachedViews(models::ImageClassifier& net, const View& train_view, const View* validation_view,
              const StrategyOptions& options, int64_t variants, const ProgressScreen& screen)
      : cache_(net, with_progress(options.cache)),
        train_(cache_, train_view, {.batch = options.batch, .shuffle = true, .seed = options.seed}, variants) {
    if (validation_view) validation_.emplace(cache_, *validation_view, LoaderOptions{.batch = 256});
    if (validation_view && options.test_flips) {
      View mirrored = *validation_view;
      mirrored.pipeline = mirrored.pipeline.then(RandomHorizontalFlip{1});
      mirrored_.emplace(cache_, std::move(mirrored), LoaderOptions{.batch = 256});
      both_.emplace(*validation_, *mirrored_);
    }
    if (options.cache.storage == CacheStorage::none) return;
    Progress progress(screen, {.epochs = variants});
    shown_ = &progress;
    for (int64_t v = 0; v < variants; ++v) fill(train_, v);
    if (validation_) fill(*validation_, variants - 1);
    if (mirrored_) fill(*mirrored_, variants - 1);
    shown_ = nullptr;
  }

  Forward forward() { return cache_.forward(); }
  CachedSource& train() { return train_; }
  BatchSource* validation() {
    if (both_) return &*both_;
    return validation_ ? &*validation_ : nullptr;
  }
  /// For the batches of validation().
  Forward validation_forward() { return both_ ? mean_of_both(forward()) : forward(); }

 private:
  FeatureCacheOptions with_progress(FeatureCacheOptions options) {
    options.progress = [this, told = std::move(options.progress)](int64_t done, int64_t of) {
      if (told) told(done, of);
      if (shown_) shown_->step(std::min(done, cache_.options().batch));
    };
    return options;
  }
  void fill(CachedSource& source, int64_t variant) {
    const int64_t batch = cache_.options().batch;
    shown_->start_phase(variant + 1, "features", (source.samples() + batch - 1) / batch);
    source.fill(variant);
  }

  Progress* shown_ = nullptr;
  FeatureCache cache_;
  CachedSource train_;
  std::optional<CachedSource> validation_, mirrored_;
  std::optional<BothSources> both_;
};

/// The caller's value where he gave one.
template <class T>
T chosen(T given, T otherwise) {
  return given > 0 ? given : otherwise;
}

/// A head on a known backbone: what strategies begin with that let the backbone learn.
TL_INLINE void fit_head_first(TransferRun& run) {
  if (run.options().head_first && !run.resumed()) run.train_head({.validated = false});
}

TL_INLINE FitResult scratch(TransferRun& run) {
  run.start_from_scratch();
  return run.fine_tune(
      {.rate = 1e-3, .backbone_factor = 1, .layer_decay = 1, .label_smoothing = 0, .freeze_norms = false});
}

TL_INLINE FitResult features(TransferRun& run) { return run.train_head(); }

TL_INLINE FitResult finetune(TransferRun& run) {
  fit_head_first(run);
  return run.fine_tune();
}

/// Kumar et al., "Fine-tuning can distort pretrained features and underperform out-of-distribution", 2022: the head to
/// its optimum, then all layers with one small rate.
TL_INLINE FitResult lp_ft(TransferRun& run) {
  if (!run.resumed()) run.train_head({.epochs = 100, .validated = false});
  return run.fine_tune({.rate = 5e-5, .backbone_factor = 1, .layer_decay = 1});
}

TL_INLINE FitResult gradual(TransferRun& run) {
  fit_head_first(run);
  const int64_t steps = chosen<int64_t>(run.options().epochs, FineTunePhase().epochs) * run.batches();
  return run.fine_tune({.rate = 3e-4,
                        .schedule = optim::slanted_triangular(std::max<int64_t>(steps, 1)),
                        .unfreeze = run.options().unfreeze});
}

TL_INLINE FitResult surgical(TransferRun& run) {
  fit_head_first(run);
  const auto norms = run.gradient_norms();
  std::vector<size_t> order(norms.size() - 1);  // without the head, which learns anyway
  for (size_t i = 0; i < order.size(); ++i) order[i] = i;
  std::stable_sort(order.begin(), order.end(), [&](size_t a, size_t b) { return norms[a] > norms[b]; });
  const auto stages = run.net().stages();
  const auto keep = static_cast<size_t>(std::clamp<int64_t>(run.options().surgical_stages, 1, std::ssize(stages)));
  for (size_t rank = keep; rank < order.size(); ++rank)
    for (const auto& glob : stages[order[rank]]) freeze(run.net(), glob);
  return run.fine_tune({.backbone_factor = 1, .layer_decay = 1});
}

TL_INLINE FitResult wise_ft(TransferRun& run) {
  run.train_head({.epochs = 100, .validated = false});
  const auto probed = copy_weights(run.net());
  FitResult result = run.fine_tune({.rate = 5e-5, .backbone_factor = 1, .layer_decay = 1});
  interpolate_weights(run.net(), probed, run.options().alpha);
  run.validate_again(result);
  return result;
}

/// The network stays as it is; the head and what `add` puts on it or unfreezes learn, all at one rate.
template <class Add>
FitResult tune_little(TransferRun& run, double rate, Add add) {
  fit_head_first(run);
  freeze_all_but(run.net(), run.net().head_name());
  add(run.net());
  return run.fine_tune({.rate = rate, .backbone_factor = 1, .layer_decay = 1, .freeze_norms = false});
}

TL_INLINE FitResult lora(TransferRun& run) {
  const StrategyOptions& options = run.options();
  return tune_little(run, 1e-3, [&](nn::Module& net) {
    add_lora(net, options.targets.empty() ? "**" : options.targets, options.lora);
    if (!options.targets.empty()) return;
    // The first stage sees the largest maps: one there would cost most, and learn what all pictures have in common.
    const auto stages = run.net().stages();
    for (const auto& [host, module, adapter] : adapters_of(net))
      for (const auto& glob : stages.front())
        if (glob_covers(glob, host)) module->set_adapter(nullptr);
  });
}

/// The residual blocks of tl's networks, by the names that their libraries give them.
TL_INLINE std::string blocks_of(nn::Module& net) {
  const auto modules = nn::named_modules(net);
  for (const char* glob : {"blocks.*.*", "layer?.*"})
    if (std::any_of(modules.begin(), modules.end(), [&](const auto& m) { return glob_match(glob, m.name); }))
      return glob;
  return "features.*";
}

TL_INLINE FitResult adapters(TransferRun& run) {
  const std::string& targets = run.options().targets;
  return tune_little(run, 1e-3, [&](nn::Module& net) {
    add_bottlenecks(net, targets.empty() ? blocks_of(net) : targets, {.width = run.options().adapter_width},
                    run.sample());
  });
}

TL_INLINE FitResult bitfit(TransferRun& run) {
  return tune_little(run, 1e-3, [](nn::Module& net) { unfreeze_biases(net); });
}

TL_INLINE FitResult norms(TransferRun& run) {
  return tune_little(run, 1e-3, [](nn::Module& net) { unfreeze_norms(net); });
}

TL_INLINE void check_options(const StrategyOptions& o) {
  const auto check = [](bool good, std::string_view name, double value, std::string_view range) {
    require<UsageError>(good, "train_with_strategy: ", name, " must be ", range, ", got ", value);
  };
  const auto share = [&](double value, std::string_view name) {
    check(value >= 0 && value <= 1, name, value, "from 0 to 1");
  };
  const auto at_least = [&](int64_t low, int64_t value, std::string_view name) {
    check(value >= low, name, static_cast<double>(value), text("at least ", low));
  };
  check(o.rate >= 0 && std::isfinite(o.rate), "rate", o.rate, "finite and at least 0");
  check(o.label_smoothing <= 1, "label_smoothing", o.label_smoothing, "at most 1");
  check(o.average >= 0 && o.average < 1, "average", o.average, "at least 0 and below 1");
  share(o.backbone_factor, "backbone_factor");
  share(o.layer_decay, "layer_decay");
  share(o.alpha, "alpha");
  at_least(0, o.epochs, "epochs");
  at_least(0, o.variants, "variants");
  at_least(0, o.patience, "patience");
  at_least(1, o.batch, "batch");
  at_least(1, o.surgical_stages, "surgical_stages");
}

/// Errors: IoError when nothing could be read of the pictures to learn from, or of those to validate with.
TL_INLINE void check_outcome(const FitResult& result, bool validated) {
  if (result.log.epochs.empty() || !result.finished) return;
  const auto check = [](double accuracy, const char* what) {
    require<IoError>(!std::isnan(accuracy), "train_with_strategy: no ", what,
                     " picture could be read, or none has a label. Hint: a warning was given for each.");
  };
  check(result.log.epochs.back().train_accuracy, "training");
  if (validated) check(result.best_accuracy, "validation");
}

}  // namespace detail

TL_INLINE void check_classes(const View& train, const View& validation) {
  const auto &names = train.data->classes(), &others = validation.data->classes();
  require<UsageError>(names.size() >= 2, "classes: there is one class, \"", names.empty() ? "" : names[0],
                      "\". Hint: telling classes apart takes at least two folders of pictures.");
  for (const auto& name : names)
    require<UsageError>(std::find(others.begin(), others.end(), name) != others.end(), "classes: the class \"", name,
                        "\" is in train and not in val. Hint: both need the same folders.");
  require<UsageError>(names == others, "classes: val has ", others.size(), " classes and train ", names.size(),
                      ", or in another order. Hint: both need the same list.");
  std::vector<int64_t> counts(names.size());
  for (const int64_t i : train.indices) ++counts[static_cast<size_t>(train.data->label(i))];
  for (size_t c = 0; c < counts.size(); ++c)
    require<UsageError>(counts[c] > 0, "classes: the class \"", names[c],
                        "\" has no training picture. Hint: remove the folder or add pictures.");
}

TL_INLINE TransferRun::TransferRun(models::ImageModel& model, const View& train, const View& validation,
                                   const StrategyOptions& options)
    : model_(model),
      train_(train),
      validation_(validation),
      options_(options),
      classification_(static_cast<int64_t>(train.data->classes().size())),
      resumed_(!options.checkpoint.empty() && std::filesystem::exists(options.checkpoint)) {
  if (options.recompute) nn::recompute_blocks(net());
}

TL_INLINE int64_t TransferRun::batches() const {
  return (static_cast<int64_t>(train_.indices.size()) + options_.batch - 1) / options_.batch;
}

TL_INLINE Tensor TransferRun::sample() const {
  const Preprocess& input = train_.pipeline.preprocess();
  return Tensor::zeros({1, input.size, input.size, input.channels()});
}

TL_INLINE FitOptions TransferRun::common() const {
  FitOptions fit;
  fit.checkpoint = options_.checkpoint;
  fit.keep_best = options_.keep_best;
  fit.validate_every = options_.validate_every;
  fit.patience = options_.patience;
  fit.average = options_.average;
  fit.after_epoch = options_.after_epoch;
  fit.capture = true;
  fit.screen = options_.screen;
  fit.seed = options_.seed;
  return fit;
}

TL_INLINE void TransferRun::start_from_scratch() {
  model_.net = models::create(model_.info.arch, model_.info.options);
  if (options_.recompute) nn::recompute_blocks(net());
}

TL_INLINE FitResult TransferRun::fit_on(optim::Optimizer& optimizer, BatchSource& train, BatchSource* validation,
                                        const FitOptions& with) {
  if (options_.objective)
    for (auto& group : options_.objective->groups()) optimizer.add_group(std::move(group));
  FitResult result = options_.objective ? fit(net(), optimizer, train, validation, *options_.objective, with)
                                        : fit(net(), optimizer, train, validation, classification_.outputs(), with);
  detail::check_outcome(result, validation != nullptr);
  return result;
}

TL_INLINE FitResult TransferRun::train_head(const HeadPhase& phase) {
  const auto frozen = frozen_names(net());
  freeze_all_but(net(), net().head_name());
  const int64_t variants = detail::chosen<int64_t>(options_.variants, 4);
  detail::CachedViews views(net(), train_, phase.validated ? &validation_ : nullptr, options_, variants,
                            phase.validated ? options_.screen : ProgressScreen());
  FitOptions with = phase.validated ? common() : FitOptions();
  with.epochs = phase.validated ? detail::chosen(options_.epochs, phase.epochs) : phase.epochs;
  with.schedule = optim::one_cycle(std::max<int64_t>(with.epochs * batches(), 1));
  with.loss.label_smoothing = std::max(options_.label_smoothing, 0.0);
  with.forward = views.forward();
  with.validation_forward = views.validation_forward();
  const double rate = phase.validated ? detail::chosen(options_.rate, phase.rate) : phase.rate;
  optim::AdamW optimizer(optim::param_groups(net(), rate, options_.weight_decay));
  FitResult result = fit_on(optimizer, views.train(), views.validation(), with);
  net().zero_grad();
  set_frozen_names(net(), frozen);
  return result;
}

TL_INLINE optim::AdamW TransferRun::optimizer_of(const FineTunePhase& phase) {
  const auto stages = net().stages();
  const double head_rate = detail::chosen(options_.rate, phase.rate);
  const double decay = detail::chosen(options_.layer_decay, phase.layer_decay);
  double rate = head_rate * detail::chosen(options_.backbone_factor, phase.backbone_factor);
  std::vector<optim::GroupSpec> specs{{stages.back(), head_rate, options_.weight_decay}};
  for (size_t i = stages.size() - 1; i-- > 0; rate *= decay) specs.push_back({stages[i], rate, options_.weight_decay});
  return optim::AdamW(optim::without_decay_on_vectors(optim::param_groups(net(), specs)));
}

TL_INLINE FitResult TransferRun::fine_tune(FineTunePhase phase) {
  const auto stages = net().stages();
  const auto total = static_cast<int64_t>(stages.size());
  const bool freeze_norms = phase.freeze_norms && options_.freeze_norms;
  const auto unfreeze_for = [&](int64_t epoch, const RunLog& log) {
    std::vector<double> losses;
    for (const EpochRecord& record : log.epochs) losses.push_back(record.val_loss);
    unfreeze_last(net(), stages, std::min(phase.unfreeze->stages(epoch, losses), total));
    if (freeze_norms) freeze_batch_norms(net());
  };
  if (phase.unfreeze) unfreeze_for(0, {});
  if (freeze_norms) freeze_batch_norms(net());

  optim::AdamW optimizer = optimizer_of(phase);
  FitOptions with = common();
  with.epochs = detail::chosen(options_.epochs, phase.epochs);
  with.schedule = phase.schedule ? phase.schedule : optim::one_cycle(std::max<int64_t>(with.epochs * batches(), 1));
  with.loss.label_smoothing = options_.label_smoothing >= 0 ? options_.label_smoothing : phase.label_smoothing;
  if (options_.test_flips) with.validation_forward = with_flips(detail::whole(net()));
  if (phase.unfreeze) with.before_epoch = unfreeze_for;
  with.capture = !options_.customize;  // what is customised may differ from batch to batch
  if (options_.customize) options_.customize(net(), with);
  const bool sees_pictures = with.forward || with.on_batch;  // customised for these instead of a prefix's results
  if (options_.variants > 0 && frozen_prefix(net()).stages > 0 && !sees_pictures) {
    detail::CachedViews views(net(), train_, &validation_, options_, options_.variants, options_.screen);
    with.forward = views.forward();
    with.validation_forward = views.validation_forward();
    return fit_on(optimizer, views.train(), views.validation(), with);
  }
  Loader source(train_, {.batch = options_.batch, .shuffle = true, .seed = options_.seed});
  Loader checked(validation_, {.batch = options_.batch});
  return fit_on(optimizer, source, &checked, with);
}

TL_INLINE RateCurve TransferRun::find_rate(const FineTunePhase& phase, const RateFinderOptions& options) {
  Loader source(train_, {.batch = options_.batch, .shuffle = true, .seed = options_.seed});
  optim::AdamW optimizer = optimizer_of(phase);
  const auto frozen = frozen_names(net());
  if (phase.freeze_norms && options_.freeze_norms) freeze_batch_norms(net());
  RateCurve curve = tl::find_rate(net(), optimizer, source, objective(), options);
  set_frozen_names(net(), frozen);
  return curve;
}

TL_INLINE std::vector<double> TransferRun::gradient_norms(int64_t batches) {
  Loader source(train_, {.batch = options_.batch, .shuffle = true, .seed = options_.seed});
  const nn::ModeScope evaluation(net(), false);
  const auto stages = net().stages();
  std::vector<double> out(stages.size());
  const auto stream = source.epoch(0);
  int64_t seen = 0;
  for (Batch batch; seen < batches && stream->next(batch);) {
    if (batch.indices.empty()) continue;
    net().zero_grad();
    const Tensor output = cast(detail::whole(net())(batch.x), DType::f32);
    const double divisor = objective().divisor(batch);
    if (divisor <= 0) continue;
    (objective().loss(output, objective().targets(batch)) * (1 / divisor)).backward();
    const auto norms = relative_gradient_norms(net(), stages);
    for (size_t i = 0; i < out.size(); ++i) out[i] += norms[i];
    ++seen;
  }
  net().zero_grad();
  for (double& norm : out) norm /= static_cast<double>(std::max<int64_t>(seen, 1));
  return out;
}

TL_INLINE void TransferRun::validate_again(FitResult& result) {
  Loader checked(validation_, {.batch = options_.batch});
  const Forward forward = options_.test_flips ? with_flips(detail::whole(net())) : detail::whole(net());
  result.last_accuracy = objective().validate(net(), checked, forward, nullptr).accuracy;
  result.log.accuracy = result.last_accuracy;
}

TL_INLINE const std::vector<Strategy>& strategies() {
  static const std::vector<Strategy> all{
      {"scratch", "random weights: what the pretrained ones are worth", detail::scratch, false},
      {"features", "the network stays as it is, a new head learns: 100 to 1,000 pictures, seconds", detail::features},
      {"finetune", "all layers learn, the lower the slower: 1,000 to 10,000 pictures, minutes", detail::finetune},
      {"lp_ft", "the head to its best on features, then all layers with one small rate", detail::lp_ft},
      {"gradual", "from the head down one more stage learns with each epoch (ULMFiT)", detail::gradual},
      {"surgical", "the head and the stages whose gradients are largest for their weights", detail::surgical},
      {"wise_ft", "lp_ft, then weights between before and after it: robust when data shift", detail::wise_ft},
      {"lora", "head and changes of low rank to the layers above the first stage learn", detail::lora},
      {"adapters", "head and a small network behind each block learn", detail::adapters},
      {"bitfit", "head and biases (BatchNorm's shift) learn", detail::bitfit},
      {"norms", "head and the norms' scale and shift learn, their statistics stay", detail::norms},
  };
  return all;
}

TL_INLINE const Strategy& find_strategy(std::string_view name) {
  std::string names;
  for (const Strategy& strategy : strategies()) {
    if (strategy.name == name) return strategy;
    names += (names.empty() ? "" : ", ") + strategy.name;
  }
  fail<UsageError>("strategy: expected one of ", names, "; got \"", name, "\"");
}

TL_INLINE AugmentOptions small_data_augmentation() {
  AugmentOptions options;
  options.scale = {0.35, 1.0};
  return options;
}

TL_INLINE FitResult train_with_strategy(const Strategy& strategy, models::ImageModel& model, const View& train,
                                        const View& validation, const StrategyOptions& options) {
  require<UsageError>(static_cast<bool>(strategy.run), "train_with_strategy: \"", strategy.name, "\" has no function");
  detail::check_options(options);
  const auto& classes = train.data->classes();
  auto names = options.objective ? options.objective->output_names() : classes;
  const int64_t outputs = options.objective ? options.objective->outputs() : std::ssize(classes);
  if (names.empty() && outputs == std::ssize(classes)) names = classes;
  if (names == classes) check_classes(train, validation);
  manual_seed(options.seed);
  model.info.classes = names;
  model.info.options.classes = outputs;
  if (strategy.pretrained) {
    model.net->set_frozen(false);  // whatever the file had frozen: the strategy decides
    model.net->replace_head(model.info.options.classes);
  }
  const Stopwatch watch;
  TransferRun run(model, train, validation, options);
  FitResult result = strategy.run(run);
  result.log.name = strategy.name;
  result.log.seconds = watch.seconds();
  return result;
}

TL_INLINE FitResult train_with_strategy(std::string_view strategy, models::ImageModel& model, const View& train,
                                        const View& validation, const StrategyOptions& options) {
  return train_with_strategy(find_strategy(strategy), model, train, validation, options);
}

}  // namespace tl::inline TL_ABI
