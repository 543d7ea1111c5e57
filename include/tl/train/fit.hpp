// The training loop.
#pragma once
#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "tl/optim/average.hpp"
#include "tl/optim/schedule.hpp"
#include "tl/train/checkpoint.hpp"
#include "tl/train/objective.hpp"

namespace tl::inline TL_ABI {

struct FitOptions {
  int64_t epochs = 10;
  /// Factor for each optimizer step, counted from 0 over the whole run, of groups without a schedule of their own.
  optim::Schedule schedule = optim::constant();
  std::optional<optim::ReduceOnPlateau> plateau = {};  ///< of the validation loss, besides the schedule
  CrossEntropyOptions loss = CrossEntropyOptions();    // not {}, about which g++ 12 warns in every caller
  std::vector<LossTerm> terms = {};                    ///< added to the mean loss of each batch
  int64_t accumulate = 1;      ///< micro-batches of one step; the gradient is that of the batch they make together
  double clip_norm = 0;        ///< limit of the gradients' common norm; 0: none
  int64_t validate_every = 1;  ///< epochs; the last epoch is always validated
  bool keep_best = false;      ///< end with the weights of the best validation accuracy instead of the last ones
  int64_t patience = 0;        ///< stop after so many epochs without a better validation accuracy; 0: never
  double average = 0;  ///< decay of the weights' moving average, which is validated and kept instead of them; 0: none
  Forward forward = {};
  Forward validation_forward = {};  ///< empty: `forward`; with_flips(...), say
  /// Changes a training batch before it is used, such as mixup; `number` counts batches over the whole run from 0. Its
  /// randomness should come from (seed, number) alone, so that a resumed run goes on with the same.
  std::function<void(Batch& batch, int64_t number)> on_batch = {};
  /// Before an epoch, counted from 0, with what happened so far: unfreezing the next stage, say.
  std::function<void(int64_t epoch, const RunLog& log)> before_epoch = {};
  /// After an epoch, whose record is the log's last: to write it elsewhere, say. A resumed run goes on with new epochs.
  std::function<void(const RunLog& log)> after_epoch = {};
  /// Record forward and backward of a batch and replay them, see Capture: the same bits in less memory. For a network
  /// (or `forward`, and terms) that does the same to every batch.
  bool capture = false;
  std::string checkpoint = {};   ///< file to write after each epoch, and to go on from if it is there; empty: none
  int64_t checkpoint_steps = 0;  ///< also after so many steps; 0: only after epochs
  int64_t stop_after_steps =
      0;                       ///< leave after so many steps of this call, as if the process had been killed; 0: never
  ProgressScreen screen = {};  ///< quiet unless told otherwise
  std::string name = "run";    ///< for the log
  uint64_t seed = 0;           ///< for the log
};

struct FitResult {
  RunLog log;
  double last_accuracy = kNoValue;  ///< validation, after the last epoch
  double best_accuracy = kNoValue;  ///< validation, best epoch
  int64_t best_epoch = 0;           ///< counted from 1; 0: none
  int64_t steps = 0;
  bool finished = true;  ///< false when stop_after_steps ended it
  std::vector<NamedTensor> best_weights;
};

/// Trains `net` to minimise `objective` (or cross-entropy over `classes`) over the batches of `train`.
///
/// Batches whose samples are all ignored count for nothing. The loss of a step divides once by the sum of weights of
/// all its micro-batches (FR07, FR08). A loss that is NaN or infinite stops with a NumericError that names the first
/// layer whose output is, and leaves the parameters of the last good step; running statistics have seen the batch.
/// Validation picks the best epoch; equal ones keep the earlier. With a checkpoint a run that was cut anywhere goes on
/// and ends with the same bits as one that was not.
FitResult fit(nn::Module& net, optim::Optimizer& optimizer, BatchSource& train, BatchSource* validation,
              const Objective& objective, const FitOptions& options = {});
FitResult fit(nn::Module& net, optim::Optimizer& optimizer, BatchSource& train, BatchSource* validation,
              int64_t classes, const FitOptions& options = {});

}  // namespace tl::inline TL_ABI

#if TL_HEADER_ONLY
#include "tl/train/fit.inl"
#endif
