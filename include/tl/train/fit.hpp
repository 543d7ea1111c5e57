// The training loop, and evaluation.
#pragma once
#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "tl/data/loader.hpp"
#include "tl/ops/loss.hpp"
#include "tl/optim/optimizer.hpp"
#include "tl/optim/schedule.hpp"
#include "tl/train/checkpoint.hpp"
#include "tl/train/log.hpp"
#include "tl/train/metrics.hpp"
#include "tl/train/progress.hpp"

namespace tl::inline TL_ABI {

/// What a network said to one sample.
struct SampleResult {
  int64_t index;  ///< position in the data set
  int64_t truth, predicted;
  double probability;  ///< of the predicted class
};

struct Evaluation {
  double loss = kNoValue, accuracy = kNoValue;
  ConfusionMatrix confusion{0};
  std::vector<SampleResult> samples;
};

/// How a batch becomes logits. The default is the whole network; with features extracted once, its head alone.
using Forward = std::function<Tensor(const Tensor&)>;

/// Loss (without smoothing or class weights) and accuracy over a source, in evaluation mode and without gradients;
/// samples with the label -100 have none and do not count. The network's mode is restored afterwards. Two calls give
/// the same bits.
Evaluation evaluate(nn::Module& net, BatchSource& source, int64_t classes, const Forward& forward = {},
                    Progress* progress = nullptr);

struct FitOptions {
  int64_t epochs = 10;
  optim::Schedule schedule = optim::constant();  ///< factor for each optimizer step, counted from 0 over the whole run
  CrossEntropyOptions loss = CrossEntropyOptions();  // not {}, about which g++ 12 warns in every caller
  int64_t accumulate = 1;      ///< micro-batches of one step; the gradient is that of the batch they make together
  double clip_norm = 0;        ///< limit of the gradients' common norm; 0: none
  int64_t validate_every = 1;  ///< epochs; the last epoch is always validated
  bool keep_best = false;      ///< end with the weights of the best validation accuracy instead of the last ones
  Forward forward = {};
  std::function<void(int64_t epoch)> before_epoch = {};  ///< such as unfreezing the next stage; epochs count from 0
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

/// Trains with cross-entropy.
///
/// Batches whose samples are all ignored count for nothing. The loss of a step divides once by the sum of weights of
/// all its micro-batches (FR07, FR08). A loss that is NaN or infinite stops with a NumericError that names the first
/// layer whose output is, and leaves the parameters of the last good step; running statistics have seen the batch.
/// Validation picks the best epoch; equal ones keep the earlier. With a checkpoint a run that was cut anywhere goes on
/// and ends with the same bits as one that was not.
FitResult fit(nn::Module& net, optim::Optimizer& optimizer, BatchSource& train, BatchSource* validation,
              int64_t classes, const FitOptions& options = {});

}  // namespace tl::inline TL_ABI

#if TL_HEADER_ONLY
#include "tl/train/fit.inl"
#endif
