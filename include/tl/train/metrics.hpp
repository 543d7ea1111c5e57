// Measures of a classifier, added up sample by sample: sums and counts are kept, and divided once at the end.
#pragma once
#include <cstdint>
#include <limits>
#include <map>
#include <span>
#include <utility>
#include <vector>

#include "tl/core/config.hpp"

namespace tl::inline TL_ABI {

/// "No value": what a measure of nothing is.
inline constexpr double kNoValue = std::numeric_limits<double>::quiet_NaN();

/// Whether `candidate` replaces `best`, larger being better: a NaN never does, anything else replaces a NaN, and of
/// equals the earlier stays. For a loss pass both negated.
constexpr bool better(double candidate, double best) {
  const auto is_number = [](double x) { return x == x; };
  return is_number(candidate) && (!is_number(best) || candidate > best);
}

/// Weighted mean sum(w x) / sum(w) of a stream; kNoValue while the weights add up to 0.
/// Batches of different size average rightly when each adds its mean with its number of samples as weight.
class Mean {
 public:
  /// A weight of 0 counts for nothing, whatever the value: the loss of a batch whose labels are all ignored.
  void add(double value, double weight = 1);
  void add(const Mean& other);
  double value() const { return weight_ == 0 ? kNoValue : sum_ / weight_; }
  double weight() const { return weight_; }
  double sum() const { return sum_; }
  /// The mean with this sum and weight: a checkpoint's.
  static Mean restored(double sum, double weight) {
    Mean out;
    out.sum_ = sum;
    out.weight_ = weight;
    return out;
  }

 private:
  double sum_ = 0, weight_ = 0;
};

/// Several measurements of one thing, such as an accuracy with different seeds.
struct Spread {
  double mean = kNoValue;
  double deviation = kNoValue;  ///< sqrt(sum (x - mean)^2 / (n - 1)); kNoValue for fewer than two
  double low = kNoValue, high = kNoValue;
  int64_t count = 0;
};

/// Those of `values` that are finite, summed up.
Spread spread_of(std::span<const double> values);

/// Index of the largest score, the first of equals. A NaN is the smallest of all scores.
/// Errors: ShapeError when there are no scores.
int64_t predicted_class(std::span<const float> scores);

/// How many scores come before that of `truth` when sorted from the largest: 0 for the predicted class, so `rank < k`
/// says that the truth is among the first k.
/// Errors: ShapeError for a truth outside of [0, scores).
int64_t rank_of_truth(std::span<const float> scores, int64_t truth);

/// Share of samples whose true class is among the k with the largest scores. PyTorch: torchmetrics' Accuracy(top_k=k).
class Accuracy {
 public:
  /// Errors: UsageError for k < 1.
  explicit Accuracy(int64_t k = 1);

  void add(bool hit, int64_t count = 1);
  /// scores [N, C] in rows, truths [N]. A negative truth is a sample without label (CrossEntropyOptions::ignore_index)
  /// and is not counted.
  /// Errors: ShapeError when the scores are no multiple of the truths; for a truth outside of its row.
  void add(std::span<const float> scores, std::span<const int32_t> truths);
  void add(const Accuracy& other);

  double value() const { return count_ == 0 ? kNoValue : static_cast<double>(hits_) / static_cast<double>(count_); }
  int64_t hits() const { return hits_; }
  int64_t count() const { return count_; }

 private:
  int64_t k_, hits_ = 0, count_ = 0;
};

/// Who was taken for whom. Memory grows with the classes and the different mistakes, not with the square of classes.
///
/// Measures of a class c, with hits = samples of c predicted as c; each is kNoValue where it would divide by 0:
///   precision = hits / predicted as c,   recall = hits / samples of c,   F1 = 2 hits / (samples of c + predicted as c)
/// scikit-learn: precision_recall_fscore_support, f1_score(average="macro"), balanced_accuracy_score.
class ConfusionMatrix {
 public:
  /// Samples of class `truth` that were taken for class `predicted`.
  struct Confusion {
    int64_t truth, predicted, count;
    friend bool operator==(const Confusion&, const Confusion&) = default;
  };

  /// Errors: UsageError for a negative number of classes.
  explicit ConfusionMatrix(int64_t classes);

  /// Errors: ShapeError for a class outside of [0, classes); UsageError for a negative count.
  void add(int64_t truth, int64_t predicted, int64_t count = 1);
  /// Errors: ShapeError for another number of classes.
  void add(const ConfusionMatrix& other);

  int64_t classes() const { return static_cast<int64_t>(of_class_.size()); }
  int64_t samples() const { return samples_; }
  int64_t at(int64_t truth, int64_t predicted) const;
  /// Samples whose true class is c.
  int64_t samples_of(int64_t c) const;
  /// Samples that were predicted as c.
  int64_t predicted_as(int64_t c) const;

  double accuracy() const;
  double precision(int64_t c) const;
  double recall(int64_t c) const;
  double f1(int64_t c) const;
  /// Mean F1 of the classes that occur, as truth or as prediction.
  double macro_f1() const;
  /// Mean recall of the classes that have samples.
  double balanced_accuracy() const;

  /// The pairs of classes that are confused most often, at most `limit`; of equals, the smaller class first.
  std::vector<Confusion> most_confused(size_t limit) const;

 private:
  struct Counts {
    int64_t samples = 0, predicted = 0, hits = 0;
  };
  const Counts& counts(int64_t c) const;

  int64_t samples_ = 0, hits_ = 0;
  std::vector<Counts> of_class_;
  std::map<std::pair<int64_t, int64_t>, int64_t> mistakes_;
};

/// Area under the ROC curve of two classes: the probability that a random positive sample (truth 1) scores higher than
/// a random negative one (truth 0), ties counting half. kNoValue when one of the classes, or a score, is missing.
/// Errors: ShapeError for different numbers of scores and truths; UsageError for a truth other than 0 or 1.
/// scikit-learn: roc_auc_score.
double auc(std::span<const float> scores, std::span<const int32_t> truths);

/// The same for each of C classes against all others, from scores [N, C] in rows and truths [N] of 0 ... C - 1.
/// Errors: ShapeError when the scores are no multiple of the truths. scikit-learn: roc_auc_score(multi_class="ovr").
std::vector<double> one_vs_rest_auc(std::span<const float> scores, std::span<const int32_t> truths);

/// What saying "positive" for scores of at least `threshold` gives.
struct RocPoint {
  double threshold = kNoValue;
  double sensitivity = kNoValue;  ///< share of positives that are called so
  double specificity = kNoValue;  ///< share of negatives that are called so
};

/// Errors: as auc.
RocPoint roc_point(std::span<const float> scores, std::span<const int32_t> truths, double threshold);

/// The points of all thresholds, from infinity (nothing is positive) over each score, largest first, to the smallest.
/// Empty when one of the classes, or a score, is missing. Errors: as auc.
/// scikit-learn: roc_curve(drop_intermediate=False).
std::vector<RocPoint> roc_curve(std::span<const float> scores, std::span<const int32_t> truths);

/// The point with the largest sensitivity + specificity (Youden's J + 1), of equals the one with the higher threshold.
/// Choose it on validation data, and ask roc_point what it gives on test data. Empty curve: a point without values.
RocPoint best_roc_point(std::span<const RocPoint> curve);

}  // namespace tl::inline TL_ABI

#if TL_HEADER_ONLY
#include "tl/train/metrics.inl"
#endif
