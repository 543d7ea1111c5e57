// Progressive unfreezing: from the head down, one stage at a time.
#pragma once
#include <algorithm>
#include <cmath>
#include <span>
#include <string>
#include <vector>

#include "tl/nn/freeze.hpp"

namespace tl::inline TL_ABI {

/// When the next stage below the head is unfrozen. How many are, follows from the epoch and the validation losses so
/// far alone: a run that is resumed continues rightly.
/// Paper: Howard and Ruder, ULMFiT, 2018 (a stage per epoch).
struct UnfreezePlan {
  int64_t epochs_per_stage = 1;  ///< after so many epochs the next stage; 0: by plateau
  int64_t patience = 2;          ///< by plateau: after so many epochs without a lower validation loss
  int64_t at_most = 1 << 30;     ///< stages, the head counted

  /// Trainable stages, the head counted, in an epoch counted from 0. `losses`: of validation, one for each epoch
  /// before; NaN is no gain.
  int64_t stages(int64_t epoch, std::span<const double> losses = {}) const {
    int64_t open = 1;
    if (epochs_per_stage > 0) {
      open += epoch / epochs_per_stage;
    } else {
      double best = std::numeric_limits<double>::infinity();
      int64_t missed = 0;
      for (const double loss : losses) {
        missed = loss < best ? 0 : missed + 1;
        best = loss < best ? loss : best;
        if (missed < patience) continue;
        ++open;
        missed = 0;
      }
    }
    return std::min(open, at_most);
  }
};

/// Leaves the last `count` of the stages trainable, as ImageClassifier::stages() lists them from the input to the head,
/// and freezes those before. Errors: UsageError for a count below 1.
inline void unfreeze_last(nn::Module& net, const std::vector<std::vector<std::string>>& stages, int64_t count) {
  require<UsageError>(count >= 1, "unfreeze_last: at least the head must learn; got a count of ", count);
  const auto total = static_cast<int64_t>(stages.size());
  for (int64_t i = 0; i < total; ++i)
    for (const std::string& glob : stages[static_cast<size_t>(i)])
      i >= total - count ? unfreeze(net, glob) : freeze(net, glob);
}

}  // namespace tl::inline TL_ABI
