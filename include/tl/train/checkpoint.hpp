// Everything that training needs to go on as if it had never stopped.
#pragma once
#include <map>
#include <string>
#include <vector>

#include "tl/core/random.hpp"
#include "tl/io/state_dict.hpp"
#include "tl/optim/optimizer.hpp"
#include "tl/train/log.hpp"
#include "tl/train/metrics.hpp"

namespace tl::inline TL_ABI {

/// Where a run stands, down to the batch.
struct TrainState {
  int64_t epoch = 0;                  ///< complete ones
  int64_t batch = 0;                  ///< of the current epoch, done
  int64_t step = 0;                   ///< optimizer steps in all
  Mean loss, accuracy;                ///< of the current epoch so far
  std::map<std::string, Mean> terms;  ///< of the loss, by name, of the current epoch so far
  double best = kNoValue;
  int64_t best_epoch = 0;
  RunLog log;
  std::vector<NamedTensor> best_weights;   ///< copies, buffers included
  std::vector<NamedTensor> objective;      ///< parameters and buffers of the loss, if it has any
  std::vector<optim::NamedState> average;  ///< of the weights, if one is kept
};

/// Writes network, optimizer, position, random state, history and the best weights so far to one file, atomically.
void save_checkpoint(const std::string& path, nn::Module& net, optim::Optimizer& optimizer, const TrainState& state);

/// Restores all of it, bit for bit; what was frozen is frozen again. The default generator goes on where it stood.
/// Groups go on with the rates that they had; one that is given another now is warned of.
/// Errors: IoError, FormatError; StateDictError when the file is of another network or optimizer. After an error all is
/// as it was.
TrainState load_checkpoint(const std::string& path, nn::Module& net, optim::Optimizer& optimizer);

}  // namespace tl::inline TL_ABI

#if TL_HEADER_ONLY
#include "tl/train/checkpoint.inl"
#endif
