// Whether probabilities mean what they say: reliability, calibration error, and the temperature that mends it.
//
//     const double temperature = fit_temperature(validation_logits, validation_labels);
//     const Reliability after = reliability(test_logits, test_labels, {.temperature = temperature});
#pragma once
#include <cstdint>
#include <span>
#include <vector>

#include "tl/tensor/tensor.hpp"
#include "tl/train/evaluate.hpp"
#include "tl/train/metrics.hpp"

namespace tl::inline TL_ABI {

/// The samples whose confidence lies in (low, high]; the first bin also holds 0.
struct ReliabilityBin {
  double low = 0, high = 0;
  int64_t count = 0;
  double confidence = kNoValue;  ///< mean of the predicted classes' probabilities; kNoValue for an empty bin
  double accuracy = kNoValue;    ///< share of the bin's samples that are predicted rightly
};

/// How far a classifier's confidence is from its accuracy, over n samples; kNoValue when there are none.
struct Reliability {
  std::vector<ReliabilityBin> bins = {};
  double expected_error = kNoValue;  ///< ECE = sum_b count_b / n |accuracy_b - confidence_b|
  double largest_error = kNoValue;   ///< MCE = max_b |accuracy_b - confidence_b|
  double negative_log = kNoValue;    ///< mean of -log p[truth]
  double brier = kNoValue;           ///< mean over samples of sum_c (p[c] - [c is the truth])^2
};

struct ReliabilityOptions {
  int64_t bins = 15;       ///< of equal width over [0, 1]
  double temperature = 1;  ///< p = softmax(logits / temperature)
};

/// Compares confidence with accuracy for logits [N, C] (f32) and labels [N] (i32); a negative label is none and does
/// not count. A sample's confidence is the probability of its predicted class. In double precision.
/// Errors: ShapeError; NumericError for logits that are not finite; UsageError for a label of C or above, no bins, or a
/// temperature that is not above 0.
/// Paper: Guo et al., "On calibration of modern neural networks", 2017. torchmetrics: MulticlassCalibrationError.
Reliability reliability(const Tensor& logits, const Tensor& labels, const ReliabilityOptions& options = {});

/// The same from the probabilities of the predicted classes alone, as evaluate() lists them: without negative_log and
/// brier, which need those of the other classes. Errors: UsageError without bins.
Reliability reliability(std::span<const SampleResult> samples, int64_t bins = 15);

/// The temperature T with the least mean of -log softmax(logits / T)[label]: one number that makes all probabilities
/// milder (T > 1) or bolder and changes no prediction. The mean is convex in 1 / T, so that its slope is bisected, over
/// T from 0.01 to 100. Fit it on samples that were not trained on. 1 where each of them is right: the mean then falls
/// until all probabilities are 0 or 1, and no mistake says how sure is too sure.
/// Arguments, errors and paper as for reliability; UsageError also when no sample has a label.
double fit_temperature(const Tensor& logits, const Tensor& labels);

}  // namespace tl::inline TL_ABI

#if TL_HEADER_ONLY
#include "tl/train/calibration.inl"
#endif
