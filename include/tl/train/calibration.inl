// Definitions of train/calibration.hpp.
#pragma once
#include <algorithm>
#include <cmath>

#include "tl/core/error.hpp"
#include "tl/train/calibration.hpp"

namespace tl::inline TL_ABI {
namespace detail {

/// Calls visit(row, label) for each sample that has a label; row: its logits less the largest, so that no exp
/// overflows.
template <class Visit>
void for_each_labelled(const Tensor& logits, const Tensor& labels, const Visit& visit) {
  require<ShapeError>(logits.rank() == 2 && labels.rank() == 1 && logits.size(0) == labels.size(0),
                      "calibration: expected logits [N, C] and labels [N], got ", logits.shape(), " and ",
                      labels.shape());
  const auto classes = static_cast<size_t>(logits.size(1));
  const auto values = logits.values<float>();
  const auto truths = labels.values<int32_t>();
  std::vector<double> row(classes);
  for (size_t i = 0; i < truths.size(); ++i) {
    if (truths[i] < 0) continue;
    require<UsageError>(static_cast<size_t>(truths[i]) < classes, "calibration: sample ", i, " has the label ",
                        truths[i], ", and there are ", classes, " classes");
    const auto own = values.subspan(i * classes, classes);
    require<NumericError>(std::all_of(own.begin(), own.end(), [](float x) { return std::isfinite(x); }),
                          "calibration: the logits of sample ", i, " are not finite");
    const float largest = *std::max_element(own.begin(), own.end());
    for (size_t c = 0; c < classes; ++c) row[c] = static_cast<double>(own[c]) - static_cast<double>(largest);
    visit(row, static_cast<size_t>(truths[i]));
  }
}

/// Turns logits, the largest of which is 0, into probabilities.
inline void soften(std::vector<double>& row, double temperature) {
  double total = 0;
  for (double& value : row) total += value = std::exp(value / temperature);
  for (double& value : row) value /= total;
}

/// Confidences and hits, by bins of confidence.
class ReliabilitySums {
 public:
  explicit ReliabilitySums(int64_t bins) {
    require<UsageError>(bins >= 1, "reliability: bins must be above 0, got ", bins);
    bins_.resize(static_cast<size_t>(bins));
  }

  void add(double confidence, bool is_right) {
    const auto count = static_cast<double>(bins_.size());
    Bin& bin = bins_[static_cast<size_t>(std::clamp(std::ceil(confidence * count) - 1, 0.0, count - 1))];
    bin.confidence.add(confidence);
    bin.accuracy.add(is_right ? 1 : 0);
  }

  Reliability result() const {
    const auto count = static_cast<double>(bins_.size());
    Reliability out;
    Mean error;
    for (size_t b = 0; b < bins_.size(); ++b) {
      const ReliabilityBin bin{.low = static_cast<double>(b) / count,
                               .high = static_cast<double>(b + 1) / count,
                               .count = std::llround(bins_[b].confidence.weight()),
                               .confidence = bins_[b].confidence.value(),
                               .accuracy = bins_[b].accuracy.value()};
      out.bins.push_back(bin);
      if (bin.count == 0) continue;
      const double gap = std::abs(bin.accuracy - bin.confidence);
      error.add(gap, static_cast<double>(bin.count));
      if (better(gap, out.largest_error)) out.largest_error = gap;
    }
    out.expected_error = error.value();
    return out;
  }

 private:
  struct Bin {
    Mean confidence, accuracy;
  };
  std::vector<Bin> bins_;
};

}  // namespace detail

TL_INLINE Reliability reliability(const Tensor& logits, const Tensor& labels, const ReliabilityOptions& options) {
  require<UsageError>(options.temperature > 0, "reliability: the temperature must be above 0, got ",
                      options.temperature);
  detail::ReliabilitySums sums(options.bins);
  Mean negative_log, brier;
  detail::for_each_labelled(logits, labels, [&](std::vector<double>& row, size_t truth) {
    const auto predicted = static_cast<size_t>(std::max_element(row.begin(), row.end()) - row.begin());
    const double own = row[truth] / options.temperature;
    detail::soften(row, options.temperature);
    negative_log.add(-(own + std::log(row[predicted])));  // the predicted one's logit is 0: log p = own - log sum
    double distance = 0;
    for (size_t c = 0; c < row.size(); ++c) distance += (row[c] - (c == truth)) * (row[c] - (c == truth));
    brier.add(distance);
    sums.add(row[predicted], predicted == truth);
  });
  Reliability out = sums.result();
  out.negative_log = negative_log.value();
  out.brier = brier.value();
  return out;
}

TL_INLINE Reliability reliability(std::span<const SampleResult> samples, int64_t bins) {
  detail::ReliabilitySums sums(bins);
  for (const SampleResult& sample : samples) sums.add(sample.probability, sample.predicted == sample.truth);
  return sums.result();
}

TL_INLINE double fit_temperature(const Tensor& logits, const Tensor& labels) {
  // d/db mean(-log softmax(b z)[y]) = mean(sum_c p[c] z[c] - z[y]) grows with b = 1 / T.
  const auto slope = [&](double temperature) {
    Mean out;
    detail::for_each_labelled(logits, labels, [&](std::vector<double>& row, size_t truth) {
      const double own = row[truth];
      std::vector<double> p = row;
      detail::soften(p, temperature);
      double expected = 0;
      for (size_t c = 0; c < p.size(); ++c) expected += p[c] * row[c];
      out.add(expected - own);
    });
    return out.value();
  };
  int64_t samples = 0, mistakes = 0;
  detail::for_each_labelled(logits, labels, [&](std::vector<double>& row, size_t truth) {
    ++samples;
    mistakes += row[truth] < 0;  // the largest is 0
  });
  require<UsageError>(samples > 0, "fit_temperature: no sample has a label");
  if (mistakes == 0) return 1;
  double low = std::log(0.01), high = std::log(100);
  constexpr int kHalvings = 50;
  for (int i = 0; i < kHalvings; ++i) {
    const double middle = (low + high) / 2;
    (slope(std::exp(middle)) > 0 ? low : high) = middle;  // above 0: too bold
  }
  return std::exp((low + high) / 2);
}

}  // namespace tl::inline TL_ABI
