// What a network says to samples with known answers.
#pragma once
#include <functional>
#include <vector>

#include "tl/data/loader.hpp"
#include "tl/nn/module.hpp"
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

namespace detail {
/// Where a network's parameters lie.
Device device_of(nn::Module& net);
/// The whole network, in this thread's precision.
Forward whole(nn::Module& net);
}  // namespace detail

/// Test-time flips: the mean of the logits for pictures [N, H, W, C] and for their mirror images.
Forward with_flips(Forward forward);

}  // namespace tl::inline TL_ABI

#if TL_HEADER_ONLY
#include "tl/train/evaluate.inl"
#endif
