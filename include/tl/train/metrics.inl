// Definitions of metrics.hpp.
#pragma once
#include <algorithm>
#include <cmath>
#include <numeric>

#include "tl/core/error.hpp"
#include "tl/train/metrics.hpp"

namespace tl::inline TL_ABI {
namespace detail {

inline double ratio(int64_t part, int64_t whole) {
  return whole == 0 ? kNoValue : static_cast<double>(part) / static_cast<double>(whole);
}

/// Samples of two classes from the largest score to the smallest; no order when a class or a score is missing.
struct Ranking {
  std::vector<size_t> order = {};
  int64_t positives = 0, negatives = 0;

  /// Calls visit(score, positives, negatives) for each run of equal scores, the largest first.
  template <class Visit>
  void for_each_run(std::span<const float> scores, std::span<const int32_t> truths, const Visit& visit) const {
    for (size_t first = 0, last = 0; first < order.size(); first = last) {
      int64_t counts[2] = {0, 0};
      for (; last < order.size() && scores[order[last]] == scores[order[first]]; ++last) ++counts[truths[order[last]]];
      visit(scores[order[first]], counts[1], counts[0]);
    }
  }

  RocPoint point(double threshold, int64_t hits, int64_t alarms) const {
    return {.threshold = threshold,
            .sensitivity = ratio(hits, positives),
            .specificity = ratio(negatives - alarms, negatives)};
  }
};

TL_INLINE Ranking ranking_of(const char* who, std::span<const float> scores, std::span<const int32_t> truths) {
  require<ShapeError>(scores.size() == truths.size(), who, ": ", scores.size(), " scores and ", truths.size(),
                      " truths");
  Ranking out;
  bool missing = false;
  for (size_t i = 0; i < scores.size(); ++i) {
    require<UsageError>(truths[i] == 0 || truths[i] == 1, who, ": expected truths 0 or 1, got ", truths[i]);
    (truths[i] == 1 ? out.positives : out.negatives) += 1;
    missing |= std::isnan(scores[i]);
  }
  if (missing || out.positives == 0 || out.negatives == 0) return out;
  out.order.resize(scores.size());
  std::iota(out.order.begin(), out.order.end(), size_t{0});
  std::sort(out.order.begin(), out.order.end(), [&](size_t a, size_t b) { return scores[a] > scores[b]; });
  return out;
}

}  // namespace detail

TL_INLINE void Mean::add(double value, double weight) {
  if (weight == 0) return;
  sum_ += value * weight;
  weight_ += weight;
}

TL_INLINE void Mean::add(const Mean& other) {
  sum_ += other.sum_;
  weight_ += other.weight_;
}

TL_INLINE Spread spread_of(std::span<const double> values) {
  Spread out;
  Mean mean, square;
  for (const double x : values) {
    if (!std::isfinite(x)) continue;
    mean.add(x);
    out.low = out.count == 0 ? x : std::min(out.low, x);
    out.high = out.count == 0 ? x : std::max(out.high, x);
    ++out.count;
  }
  out.mean = mean.value();
  for (const double x : values)
    if (std::isfinite(x)) square.add((x - out.mean) * (x - out.mean));
  const auto n = static_cast<double>(out.count);
  if (out.count > 1) out.deviation = std::sqrt(square.value() * n / (n - 1));
  return out;
}

TL_INLINE int64_t predicted_class(std::span<const float> scores) {
  require<ShapeError>(!scores.empty(), "predicted_class: there are no scores");
  size_t best = 0;
  for (size_t i = 1; i < scores.size(); ++i)
    if (better(scores[i], scores[best])) best = i;
  return static_cast<int64_t>(best);
}

TL_INLINE int64_t rank_of_truth(std::span<const float> scores, int64_t truth) {
  require<ShapeError>(truth >= 0 && truth < static_cast<int64_t>(scores.size()),
                      "rank_of_truth: expected a class in [0, ", scores.size(), "), got ", truth);
  const auto own = static_cast<size_t>(truth);
  int64_t rank = 0;
  for (size_t i = 0; i < scores.size(); ++i) {
    const bool equal = !better(scores[i], scores[own]) && !better(scores[own], scores[i]);
    if (better(scores[i], scores[own]) || (equal && i < own)) ++rank;
  }
  return rank;
}

TL_INLINE Accuracy::Accuracy(int64_t k) : k_(k) { require<UsageError>(k >= 1, "Accuracy: expected k >= 1, got ", k); }

TL_INLINE void Accuracy::add(bool hit, int64_t count) {
  hits_ += hit ? count : 0;
  count_ += count;
}

TL_INLINE void Accuracy::add(std::span<const float> scores, std::span<const int32_t> truths) {
  if (truths.empty() && scores.empty()) return;
  require<ShapeError>(!truths.empty() && scores.size() % truths.size() == 0,
                      "Accuracy: scores must be [N, C] with N = ", truths.size(), " truths; got ", scores.size(),
                      " scores");
  const size_t classes = scores.size() / truths.size();
  for (size_t i = 0; i < truths.size(); ++i)
    if (truths[i] >= 0) add(rank_of_truth(scores.subspan(i * classes, classes), truths[i]) < k_);
}

TL_INLINE void Accuracy::add(const Accuracy& other) {
  hits_ += other.hits_;
  count_ += other.count_;
}

TL_INLINE ConfusionMatrix::ConfusionMatrix(int64_t classes) {
  require<UsageError>(classes >= 0, "ConfusionMatrix: expected a number of classes, got ", classes);
  of_class_.resize(static_cast<size_t>(classes));
}

TL_INLINE const ConfusionMatrix::Counts& ConfusionMatrix::counts(int64_t c) const {
  require<ShapeError>(c >= 0 && c < classes(), "ConfusionMatrix: expected a class in [0, ", classes(), "), got ", c);
  return of_class_[static_cast<size_t>(c)];
}

TL_INLINE void ConfusionMatrix::add(int64_t truth, int64_t predicted, int64_t count) {
  require<UsageError>(count >= 0, "ConfusionMatrix: expected a number of samples, got ", count);
  counts(truth), counts(predicted);  // both are checked before anything changes
  samples_ += count;
  of_class_[static_cast<size_t>(truth)].samples += count;
  of_class_[static_cast<size_t>(predicted)].predicted += count;
  if (truth == predicted) {
    hits_ += count;
    of_class_[static_cast<size_t>(truth)].hits += count;
  } else if (count > 0) {
    mistakes_[{truth, predicted}] += count;
  }
}

TL_INLINE void ConfusionMatrix::add(const ConfusionMatrix& other) {
  require<ShapeError>(other.classes() == classes(), "ConfusionMatrix: ", classes(), " classes and ", other.classes(),
                      " do not add up");
  for (const auto& [pair, count] : std::map(other.mistakes_)) add(pair.first, pair.second, count);
  for (int64_t c = 0; c < classes(); ++c) add(c, c, other.counts(c).hits);
}

TL_INLINE int64_t ConfusionMatrix::at(int64_t truth, int64_t predicted) const {
  const Counts& own = counts(truth);
  if (truth == predicted) return own.hits;
  counts(predicted);
  const auto found = mistakes_.find({truth, predicted});
  return found == mistakes_.end() ? 0 : found->second;
}

TL_INLINE int64_t ConfusionMatrix::samples_of(int64_t c) const { return counts(c).samples; }
TL_INLINE int64_t ConfusionMatrix::predicted_as(int64_t c) const { return counts(c).predicted; }

TL_INLINE double ConfusionMatrix::accuracy() const { return detail::ratio(hits_, samples_); }
TL_INLINE double ConfusionMatrix::precision(int64_t c) const {
  return detail::ratio(counts(c).hits, counts(c).predicted);
}
TL_INLINE double ConfusionMatrix::recall(int64_t c) const { return detail::ratio(counts(c).hits, counts(c).samples); }

TL_INLINE double ConfusionMatrix::f1(int64_t c) const {
  return detail::ratio(2 * counts(c).hits, counts(c).samples + counts(c).predicted);
}

TL_INLINE double ConfusionMatrix::macro_f1() const {
  Mean mean;
  for (int64_t c = 0; c < classes(); ++c)
    if (const double value = f1(c); !std::isnan(value)) mean.add(value);
  return mean.value();
}

TL_INLINE double ConfusionMatrix::balanced_accuracy() const {
  Mean mean;
  for (int64_t c = 0; c < classes(); ++c)
    if (const double value = recall(c); !std::isnan(value)) mean.add(value);
  return mean.value();
}

TL_INLINE std::vector<ConfusionMatrix::Confusion> ConfusionMatrix::most_confused(size_t limit) const {
  std::vector<Confusion> out;
  for (const auto& [pair, count] : mistakes_) out.push_back({pair.first, pair.second, count});
  std::stable_sort(out.begin(), out.end(), [](const auto& a, const auto& b) { return a.count > b.count; });
  out.resize(std::min(limit, out.size()));
  return out;
}

TL_INLINE double auc(std::span<const float> scores, std::span<const int32_t> truths) {
  const detail::Ranking ranking = detail::ranking_of("auc", scores, truths);
  if (ranking.order.empty()) return kNoValue;
  // Each positive of a run of equal scores wins against the negatives below, and half against those of the run.
  double wins = 0;
  int64_t negatives_below = ranking.negatives;
  ranking.for_each_run(scores, truths, [&](float, int64_t positives, int64_t negatives) {
    negatives_below -= negatives;
    wins +=
        static_cast<double>(positives) * (static_cast<double>(negatives_below) + static_cast<double>(negatives) / 2);
  });
  return wins / (static_cast<double>(ranking.positives) * static_cast<double>(ranking.negatives));
}

TL_INLINE std::vector<double> one_vs_rest_auc(std::span<const float> scores, std::span<const int32_t> truths) {
  require<ShapeError>(!truths.empty() && scores.size() % truths.size() == 0, "one_vs_rest_auc: ", scores.size(),
                      " scores are no rows for ", truths.size(), " truths");
  const size_t classes = scores.size() / truths.size();
  std::vector<double> out;
  std::vector<float> column(truths.size());
  std::vector<int32_t> own(truths.size());
  for (size_t c = 0; c < classes; ++c) {
    for (size_t i = 0; i < truths.size(); ++i) {
      column[i] = scores[i * classes + c];
      own[i] = truths[i] == static_cast<int32_t>(c) ? 1 : 0;
    }
    out.push_back(auc(column, own));
  }
  return out;
}

TL_INLINE RocPoint roc_point(std::span<const float> scores, std::span<const int32_t> truths, double threshold) {
  const detail::Ranking ranking = detail::ranking_of("roc_point", scores, truths);
  if (ranking.order.empty()) return {};
  int64_t hits = 0, alarms = 0;
  for (const size_t i : ranking.order)
    if (static_cast<double>(scores[i]) >= threshold) (truths[i] == 1 ? hits : alarms) += 1;
  return ranking.point(threshold, hits, alarms);
}

TL_INLINE std::vector<RocPoint> roc_curve(std::span<const float> scores, std::span<const int32_t> truths) {
  const detail::Ranking ranking = detail::ranking_of("roc_curve", scores, truths);
  std::vector<RocPoint> out;
  if (ranking.order.empty()) return out;
  int64_t hits = 0, alarms = 0;
  out.push_back(ranking.point(std::numeric_limits<double>::infinity(), hits, alarms));
  ranking.for_each_run(scores, truths, [&](float score, int64_t positives, int64_t negatives) {
    hits += positives, alarms += negatives;
    out.push_back(ranking.point(static_cast<double>(score), hits, alarms));
  });
  return out;
}

TL_INLINE RocPoint best_roc_point(std::span<const RocPoint> curve) {
  RocPoint best;
  for (const RocPoint& point : curve)
    if (better(point.sensitivity + point.specificity, best.sensitivity + best.specificity)) best = point;
  return best;
}

}  // namespace tl::inline TL_ABI
