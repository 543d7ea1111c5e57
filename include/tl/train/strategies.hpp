// The ways to teach a pretrained network a new task, with settings that work for small data.
#pragma once
#include <string>
#include <string_view>

#include "tl/data/dataset.hpp"
#include "tl/models/model_file.hpp"
#include "tl/train/fit.hpp"

namespace tl::inline TL_ABI {

enum class Strategy {
  scratch,   ///< no pretrained weights: the yardstick
  features,  ///< the backbone frozen, its features computed once, a new head trained: 100 to 1,000 pictures
  finetune,  ///< a new head, then all layers, the lower the slower: 1,000 to 10,000 pictures
};

std::string_view name_of(Strategy strategy);
/// Errors: UsageError for an unknown name.
Strategy parse_strategy(std::string_view name);

/// Zeros stand for the strategy's own default.
struct StrategyOptions {
  int64_t epochs = 0;          ///< features 60 (of the head), finetune 10, scratch 10
  double rate = 0;             ///< of the head: features 3e-3, finetune 2e-4, scratch 1e-3
  double backbone_factor = 0;  ///< finetune: rate of the stage below the head over the head's; 0.1
  double layer_decay = 0;      ///< finetune: factor from stage to stage from there towards the input; 0.8
  bool head_first = true;    ///< finetune: fit the new head on features first, so that it does not tear at the backbone
  bool freeze_norms = true;  ///< finetune: BatchNorm stays as pretrained; small batches estimate its statistics badly
  double weight_decay = 1e-2;
  int64_t batch = 16;
  double label_smoothing = -1;  ///< below 0: finetune 0.1, others 0
  uint64_t seed = 0;
  bool augment = true;          ///< features: learn from the mirrored pictures as well (other strategies: see the view)
  int64_t validate_every = 1;   ///< see FitOptions
  bool keep_best = false;       ///< see FitOptions
  std::string checkpoint = {};  ///< see FitOptions
  ProgressScreen screen = {};
};

/// Augmentation for hundreds of pictures: crops of at least a third of the picture, and mirroring. The field's crops
/// down to 8 % suit millions.
AugmentOptions small_data_augmentation();

/// Trains `model` on `train` and validates on `validation`, both positions in `data`; the head is replaced to fit
/// data's classes. With Strategy::scratch the network is made anew with random weights. Random numbers follow
/// options.seed: equal arguments give equal bits.
FitResult train_with_strategy(Strategy strategy, models::ImageModel& model, const View& train, const View& validation,
                              const StrategyOptions& options = {});

}  // namespace tl::inline TL_ABI

#if TL_HEADER_ONLY
#include "tl/train/strategies.inl"
#endif
