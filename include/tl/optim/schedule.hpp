// Learning-rate schedules: a factor for each step, the same for all groups.
#pragma once
#include <algorithm>
#include <cmath>
#include <cstdint>
#include <functional>
#include <limits>
#include <numbers>
#include <span>
#include <utility>
#include <vector>

#include "tl/core/config.hpp"
#include "tl/core/error.hpp"

namespace tl::inline TL_ABI {
namespace optim {

/// What multiplies each group's own rate at a step, counted from 0. It has no state: a group that joins late, or a run
/// that goes on from a checkpoint, just asks for its step.
using Schedule = std::function<double(int64_t step)>;

inline Schedule constant() {
  return [](int64_t) { return 1.0; };
}

/// Times gamma after every `every` steps. PyTorch: StepLR.
inline Schedule step_decay(int64_t every, double gamma = 0.1) {
  require<UsageError>(every >= 1, "step_decay: every must be at least 1 step, got ", every);
  return [=](int64_t step) { return std::pow(gamma, static_cast<double>(step / every)); };
}

/// Times gamma at each of the milestones, in ascending order. PyTorch: MultiStepLR.
inline Schedule multi_step(std::vector<int64_t> milestones, double gamma = 0.1) {
  require<UsageError>(std::is_sorted(milestones.begin(), milestones.end()), "multi_step: milestones must ascend");
  return [gamma, milestones = std::move(milestones)](int64_t step) {
    return std::pow(gamma, std::upper_bound(milestones.begin(), milestones.end(), step) - milestones.begin());
  };
}

/// A line from 1 to `floor` over `total` steps. PyTorch: LinearLR(start_factor=1, end_factor=floor).
inline Schedule linear(int64_t total, double floor = 0) {
  require<UsageError>(total >= 1, "linear: total must be at least 1 step, got ", total);
  return [=](int64_t step) {
    return 1 + (floor - 1) * std::min(1.0, static_cast<double>(step) / static_cast<double>(total));
  };
}

/// Half a cosine from 1 to `floor` over `total` steps. PyTorch: CosineAnnealingLR with eta_min = floor * rate.
/// Paper: Loshchilov and Hutter, "SGDR", 2017.
inline Schedule cosine(int64_t total, double floor = 0) {
  require<UsageError>(total >= 1, "cosine: total must be at least 1 step, got ", total);
  return [=](int64_t step) {
    const double t = std::min(1.0, static_cast<double>(step) / static_cast<double>(total));
    return floor + (1 - floor) * 0.5 * (1 + std::cos(std::numbers::pi * t));
  };
}

struct OneCycleOptions {
  double warm_up = 0.3;        ///< share of the steps that rise
  double start_divisor = 25;   ///< the first rate is the peak over this
  double final_divisor = 1e4;  ///< the last rate is the first over this
  bool linear = false;         ///< along lines instead of cosines
};

/// Up from rate / start_divisor to the group's rate, then down, both along half a cosine. PyTorch: OneCycleLR with
/// max_lr = the groups' rates. Paper: Smith and Topin, "Super-convergence", 2018.
inline Schedule one_cycle(int64_t total, const OneCycleOptions& options = {}) {
  require<UsageError>(total >= 1, "one_cycle: total must be at least 1 step, got ", total);
  return [=](int64_t step) {
    const double start = 1 / options.start_divisor, end = start / options.final_divisor;
    const double peak = options.warm_up * static_cast<double>(total) - 1, last = static_cast<double>(total) - 1;
    const auto between = [&](double from, double to, double t) {
      return to + (from - to) * (options.linear ? 1 - t : 0.5 * (1 + std::cos(std::numbers::pi * t)));
    };
    const double at = std::min(static_cast<double>(step), last);
    if (at <= peak) return between(start, 1, peak > 0 ? at / peak : 1);
    return between(1, end, last > peak ? (at - peak) / (last - peak) : 1);
  };
}

/// Rises linearly from `start` over `steps` steps, start + (1 - start) step / steps, then follows `after`, which counts
/// from the end of the rise. A start below 0 stands for 1 / steps. PyTorch: LinearLR(start_factor=start); with start 0
/// and cosine(total - steps) or linear(total - steps) after, the warm-ups of the transformers library.
inline Schedule warm_up(int64_t steps, Schedule after = constant(), double start = -1) {
  require<UsageError>(steps >= 1, "warm_up: steps must be at least 1, got ", steps);
  if (start < 0) start = 1 / static_cast<double>(steps);
  return [steps, start, after = std::move(after)](int64_t step) {
    if (step >= steps) return after(step - steps);
    return (start + (1 - start) * static_cast<double>(step) / static_cast<double>(steps)) * after(0);
  };
}

struct SlantedTriangularOptions {
  double rise = 0.1;  ///< share of the steps that rise
  double ratio = 32;  ///< of the highest rate to the lowest
};

/// A short rise, then a long fall, both along lines from and to 1 / ratio:
///   cut = floor(total rise), p = t < cut ? t / cut : 1 - (t - cut) / (cut (1 / rise - 1)),
///   factor = (1 + p (ratio - 1)) / ratio.
/// Paper: Howard and Ruder, ULMFiT, 2018, equation 3.
inline Schedule slanted_triangular(int64_t total, const SlantedTriangularOptions& options = {}) {
  require<UsageError>(total >= 1 && options.rise > 0 && options.rise < 1 && options.ratio >= 1,
                      "slanted_triangular: expected total >= 1, 0 < rise < 1 and ratio >= 1; got ", total, ", ",
                      options.rise, " and ", options.ratio);
  return [=](int64_t step) {
    const double cut = std::max(1.0, std::floor(static_cast<double>(total) * options.rise));
    const double t = static_cast<double>(std::min(step, total));
    const double p = t < cut ? t / cut : 1 - (t - cut) / (cut * (1 / options.rise - 1));
    return (1 + std::max(p, 0.0) * (options.ratio - 1)) / options.ratio;
  };
}

/// Reduces the rate when a measure that should fall (a validation loss) does not. It has no state of its own: the
/// factor follows from the measures of all epochs so far, so a run that is resumed reaches the same one.
/// PyTorch: ReduceLROnPlateau in the modes min and rel; floor is min_lr as a factor.
struct ReduceOnPlateau {
  double gamma = 0.1;       ///< what the rate is multiplied by
  int64_t patience = 10;    ///< epochs without gain that are let pass
  double threshold = 1e-4;  ///< share of the best by which a measure must fall to count as a gain
  int64_t cooldown = 0;     ///< epochs after a reduction in which nothing counts as missed
  double floor = 0;         ///< the factor never falls below

  double factor(std::span<const double> measures) const {
    require<UsageError>(gamma > 0 && gamma < 1 && patience >= 0 && cooldown >= 0,
                        "ReduceOnPlateau: expected 0 < gamma < 1, patience and cooldown of at least 0; got ", gamma,
                        ", ", patience, " and ", cooldown);
    double out = 1, best = std::numeric_limits<double>::infinity();
    int64_t missed = 0, resting = 0;
    for (const double measure : measures) {
      const bool gained = measure < best * (1 - threshold);
      if (gained) best = measure;
      missed = gained ? 0 : missed + 1;
      if (resting > 0) --resting, missed = 0;
      if (missed <= patience) continue;
      out = std::max(out * gamma, floor);
      resting = cooldown;
      missed = 0;
    }
    return out;
  }
};

}  // namespace optim
}  // namespace tl::inline TL_ABI
