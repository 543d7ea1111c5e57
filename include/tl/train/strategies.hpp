// The ways to teach a pretrained network a new task, with settings that work for small data; and what a way of your own
// is made of:
//
//     const Strategy mine{.name = "mine", .run = [](TransferRun& run) {
//       run.train_head({.epochs = 20});
//       freeze(run.net(), "blocks.[0-2]");
//       return run.fine_tune({.epochs = 5, .rate = 1e-4});
//     }};
//     train_with_strategy(mine, model, train, validation);
#pragma once
#include <functional>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "tl/data/dataset.hpp"
#include "tl/models/model_file.hpp"
#include "tl/train/fit.hpp"
#include "tl/train/rate_finder.hpp"
#include "tl/transfer/adapters.hpp"
#include "tl/transfer/cache.hpp"
#include "tl/transfer/unfreeze.hpp"

namespace tl::inline TL_ABI {

/// What the caller wants of a strategy. Zeros stand for the strategy's own default.
struct StrategyOptions {
  int64_t epochs = 0;          ///< of the last phase: features 60 (of the head), others 10
  double rate = 0;             ///< of the head
  double backbone_factor = 0;  ///< rate of the stage below the head over the head's
  double layer_decay = 0;      ///< factor from stage to stage from there towards the input
  bool head_first = true;      ///< finetune, gradual: fit the new head first, so that it does not tear at the backbone
  bool freeze_norms = true;    ///< BatchNorm stays as pretrained; small batches estimate its statistics badly
  double weight_decay = 1e-2;
  int64_t batch = 16;
  double label_smoothing = -1;  ///< below 0: 0.1 where the backbone learns, else 0
  uint64_t seed = 0;
  const Objective* objective = nullptr;  ///< instead of one label for each picture, such as MultiTask
  FeatureCacheOptions cache = {};        ///< of what the frozen part gives
  int64_t variants = 0;  ///< augmentations of each picture that are cached; 0: 4 for the head, no cache for the rest
  double alpha = 0.5;    ///< wise_ft: share of the fine-tuned weights
  UnfreezePlan unfreeze = {};            ///< gradual; epochs_per_stage 0: by plateau
  int64_t surgical_stages = 2;           ///< surgical: stages besides the head that learn
  LoraOptions lora = {.windows = true};  ///< lora
  int64_t adapter_width = 16;            ///< adapters: width of each bottleneck
  std::string targets = {};     ///< lora, adapters: glob of their hosts; empty: all above the first stage, every block
  bool recompute = false;       ///< less memory for more time, the same bits; see nn::recompute_blocks
  bool test_flips = false;      ///< validate on the mean of each picture and its mirror image
  double average = 0;           ///< see FitOptions
  int64_t patience = 0;         ///< see FitOptions
  int64_t validate_every = 1;   ///< see FitOptions
  bool keep_best = false;       ///< see FitOptions
  std::string checkpoint = {};  ///< see FitOptions
  std::function<void(const RunLog& log)> after_epoch = {};  ///< see FitOptions
  ProgressScreen screen = {};
  /// The last word on the options of fine-tuning: regularisers, mixed pictures, another schedule.
  std::function<void(models::ImageClassifier& net, FitOptions& fit)> customize = {};
};

/// A phase in which the head learns on features that the frozen backbone computes once for each augmentation.
struct HeadPhase {
  int64_t epochs = 60;
  double rate = 3e-3;
  bool validated = true;  ///< false: no validation, progress or checkpoint, for a phase before the one that counts
};

/// A phase in which every layer learns that is not frozen.
struct FineTunePhase {
  int64_t epochs = 10;
  double rate = 2e-4;            ///< of the head
  double backbone_factor = 0.1;  ///< rate of the stage below the head over the head's
  double layer_decay = 0.8;      ///< factor from stage to stage from there towards the input
  double label_smoothing = 0.1;
  bool freeze_norms = true;                   ///< unless the caller wants them trained
  optim::Schedule schedule = {};              ///< over the phase's steps; empty: one_cycle
  std::optional<UnfreezePlan> unfreeze = {};  ///< stages from the head down as epochs pass
};

/// A network on its way to a new task, with the steps that strategies are made of.
class TransferRun {
 public:
  TransferRun(models::ImageModel& model, const View& train, const View& validation, const StrategyOptions& options);

  models::ImageClassifier& net() const { return *model_.net; }
  const StrategyOptions& options() const { return options_; }
  /// What is learnt: one label for each picture unless the caller has another objective.
  const Objective& objective() const { return options_.objective ? *options_.objective : classification_; }
  /// Batches of one epoch.
  int64_t batches() const;
  /// A batch of one black picture.
  Tensor sample() const;

  /// A network of random weights in place of the pretrained ones.
  void start_from_scratch();

  /// Freezes all but the head and trains that. What was frozen before is, afterwards, again.
  FitResult train_head(const HeadPhase& phase = {});

  /// Trains what is not frozen, on augmented pictures. The caller's options win over the phase's.
  FitResult fine_tune(FineTunePhase phase = {});

  /// The loss while the rate of the head rises from step to step and the other layers keep their ratio to it, as
  /// fine_tune(phase) would train what is not frozen; the network is as before afterwards. See tl::find_rate.
  RateCurve find_rate(const FineTunePhase& phase = {}, const RateFinderOptions& options = {});

  /// The relative gradient norm of each stage over `batches` batches; see relative_gradient_norms.
  std::vector<double> gradient_norms(int64_t batches = 8);

  /// Validates once more, after a strategy changed weights by itself; `result` becomes that of the present weights.
  void validate_again(FitResult& result);

  /// Whether a checkpoint is there to go on from: phases before the last need not run.
  bool resumed() const { return resumed_; }

 private:
  FitOptions common() const;
  optim::AdamW optimizer_of(const FineTunePhase& phase);
  FitResult fit_on(optim::Optimizer& optimizer, BatchSource& train, BatchSource* validation, const FitOptions& with);

  models::ImageModel& model_;
  const View& train_;
  const View& validation_;
  const StrategyOptions& options_;
  Classification classification_;
  bool resumed_;
};

/// A way to teach, as one function. It gets a network with a fresh head, nothing of it frozen.
struct Strategy {
  std::string name;
  std::string summary = {};  ///< one line for --help
  std::function<FitResult(TransferRun& run)> run = {};
  bool pretrained = true;  ///< false: begins with random weights
};

/// scratch, features, finetune, lp_ft, gradual, surgical, wise_ft, lora, adapters, bitfit and norms.
const std::vector<Strategy>& strategies();

/// The strategy of this name. Errors: UsageError with all names.
const Strategy& find_strategy(std::string_view name);

/// Augmentation for hundreds of pictures: crops of at least a third of the picture, and mirroring. The field's crops
/// down to 8 % suit millions.
AugmentOptions small_data_augmentation();

/// Errors: UsageError unless both views name the same two classes or more, in one order, and all have training
/// pictures.
void check_classes(const View& train, const View& validation);

/// Trains `model` on `train` and validates on `validation`; the head is replaced to fit the data's classes. Random
/// numbers follow options.seed: equal arguments give equal bits.
/// Errors: UsageError for options that cannot be meant; those of check_classes; IoError when no picture of a view could
/// be read; as nn::recompute_blocks.
FitResult train_with_strategy(const Strategy& strategy, models::ImageModel& model, const View& train,
                              const View& validation, const StrategyOptions& options = {});
FitResult train_with_strategy(std::string_view strategy, models::ImageModel& model, const View& train,
                              const View& validation, const StrategyOptions& options = {});

}  // namespace tl::inline TL_ABI

#if TL_HEADER_ONLY
#include "tl/train/strategies.inl"
#endif
