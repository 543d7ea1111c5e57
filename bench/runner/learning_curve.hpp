// Learning curves, and from them how many fewer pictures, and how much less time, one way needs for the same accuracy.
#pragma once
#include <cstdint>
#include <string>
#include <vector>

namespace bench {

/// One training run and how good it became.
struct LearningRun {
  std::string data, way;  ///< way: such as "features efficientnet_lite0@224"
  int64_t per_class = 0;  ///< training pictures of each class (of the largest one)
  int64_t pictures = 0;   ///< training pictures
  uint64_t seed = 0;
  double accuracy = 0;
  double seconds = 0;  ///< of a core
};

/// All seeds of one size; accuracies[i] and seconds[i] are of the same run.
struct CurvePoint {
  int64_t per_class = 0;
  double pictures = 0;
  std::vector<double> accuracies, seconds;
};

/// From few pictures to many.
using LearningCurve = std::vector<CurvePoint>;

LearningCurve learning_curve(const std::vector<LearningRun>& runs, const std::string& data, const std::string& way);

double mean_of(const std::vector<double>& values);
/// With n - 1 in the denominator; 0 for a single value.
double deviation_of(const std::vector<double>& values);

/// Of the bootstrap: the median, and where 5 % lie below and above.
struct Estimate {
  double median = 0, low = 0, high = 0;
};

/// What a ratio says where one of the curves ends: `at_least` if the fewest pictures that were tried already suffice,
/// `at_most` if the most do not.
enum class Bound : uint8_t { none, at_least, at_most };

struct Saving {
  int64_t per_class = 0;  ///< of the point of `from` whose accuracy is to be reached
  double accuracy = 0;
  Bound bound = Bound::none;
  Estimate pictures, seconds;  ///< what `from` needs over what `to` needs
};

/// For the accuracy of each point of `from`: how many times more pictures and seconds `from` needs for it than `to`.
///
/// Means over the seeds, made non-decreasing (more pictures do not hurt), are interpolated linearly over the logarithm
/// of pictures; seconds, in their logarithm, likewise. The spread comes from drawing the seeds of each point anew, with
/// replacement, `resamples` times. Equal arguments give equal bits.
std::vector<Saving> savings(const LearningCurve& from, const LearningCurve& to, int resamples = 2000);

}  // namespace bench
