#include "runner/learning_curve.hpp"

#include <algorithm>
#include <cmath>
#include <map>

#include "tl/core/random.hpp"

namespace bench {
namespace {

/// Means over the seeds, accuracies non-decreasing.
struct MeanCurve {
  std::vector<double> log_pictures, log_seconds, accuracy;
};

/// With the seeds that `pick(count)` draws for each point.
template <class Pick>
MeanCurve mean_curve(const LearningCurve& curve, Pick pick) {
  MeanCurve out;
  for (const CurvePoint& point : curve) {
    double accuracy = 0, seconds = 0;
    const size_t count = point.accuracies.size();
    for (size_t i = 0; i < count; ++i) {
      const size_t drawn = pick(i, count);
      accuracy += point.accuracies[drawn] / static_cast<double>(count);
      seconds += point.seconds[drawn] / static_cast<double>(count);
    }
    out.log_pictures.push_back(std::log(point.pictures));
    out.log_seconds.push_back(std::log(seconds));
    out.accuracy.push_back(out.accuracy.empty() ? accuracy : std::max(accuracy, out.accuracy.back()));
  }
  return out;
}

/// Where a curve first reaches an accuracy.
struct Reached {
  double log_pictures, log_seconds;
  Bound bound;
};

Reached reach(const MeanCurve& curve, double accuracy) {
  const auto found = std::lower_bound(curve.accuracy.begin(), curve.accuracy.end(), accuracy);
  const auto i = static_cast<size_t>(found - curve.accuracy.begin());
  if (found == curve.accuracy.end()) return {curve.log_pictures.back(), curve.log_seconds.back(), Bound::at_most};
  if (i == 0) return {curve.log_pictures[0], curve.log_seconds[0], Bound::at_least};
  const double share = (accuracy - curve.accuracy[i - 1]) / (curve.accuracy[i] - curve.accuracy[i - 1]);
  const auto between = [&](const std::vector<double>& y) { return y[i - 1] + share * (y[i] - y[i - 1]); };
  return {between(curve.log_pictures), between(curve.log_seconds), Bound::none};
}

Estimate estimate(std::vector<double> values) {
  std::sort(values.begin(), values.end());
  const auto at = [&](double share) {
    return values[static_cast<size_t>(std::lround(share * static_cast<double>(values.size() - 1)))];
  };
  return {.median = at(0.5), .low = at(0.05), .high = at(0.95)};
}

}  // namespace

LearningCurve learning_curve(const std::vector<LearningRun>& runs, const std::string& data, const std::string& way) {
  std::map<int64_t, CurvePoint> points;
  for (const LearningRun& run : runs) {
    if (run.data != data || run.way != way) continue;
    CurvePoint& point = points[run.pictures];
    point.per_class = run.per_class;
    point.pictures = static_cast<double>(run.pictures);
    point.accuracies.push_back(run.accuracy);
    point.seconds.push_back(run.seconds);
  }
  LearningCurve out;
  for (auto& [pictures, point] : points) out.push_back(std::move(point));
  return out;
}

double mean_of(const std::vector<double>& values) {
  double sum = 0;
  for (const double value : values) sum += value;
  return sum / static_cast<double>(values.size());
}

double deviation_of(const std::vector<double>& values) {
  if (values.size() < 2) return 0;
  const double mean = mean_of(values);
  double sum = 0;
  for (const double value : values) sum += (value - mean) * (value - mean);
  return std::sqrt(sum / static_cast<double>(values.size() - 1));
}

std::vector<Saving> savings(const LearningCurve& from, const LearningCurve& to, int resamples) {
  if (from.empty() || to.empty()) return {};
  std::vector<std::vector<double>> pictures(from.size()), seconds(from.size());
  std::vector<int> at_least(from.size()), at_most(from.size());
  tl::Generator generator(0);
  const auto draw = [&](size_t, size_t count) {
    return static_cast<size_t>(generator.below(static_cast<int64_t>(count)));
  };
  for (int r = 0; r < resamples; ++r) {
    const MeanCurve dear = mean_curve(from, draw), cheap = mean_curve(to, draw);
    for (size_t i = 0; i < from.size(); ++i) {
      const Reached a = reach(dear, dear.accuracy[i]), b = reach(cheap, dear.accuracy[i]);
      pictures[i].push_back(std::exp(a.log_pictures - b.log_pictures));
      seconds[i].push_back(std::exp(a.log_seconds - b.log_seconds));
      at_least[i] += b.bound == Bound::at_least;
      at_most[i] += b.bound == Bound::at_most;
    }
  }
  const MeanCurve means = mean_curve(from, [](size_t i, size_t) { return i; });
  std::vector<Saving> out;
  for (size_t i = 0; i < from.size(); ++i)
    out.push_back({.per_class = from[i].per_class,
                   .accuracy = means.accuracy[i],
                   .bound = 2 * at_least[i] > resamples  ? Bound::at_least
                            : 2 * at_most[i] > resamples ? Bound::at_most
                                                         : Bound::none,
                   .pictures = estimate(pictures[i]),
                   .seconds = estimate(seconds[i])});
  return out;
}

}  // namespace bench
