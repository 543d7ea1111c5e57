// Which learning rate to begin with: the loss while the rate rises.
#pragma once
#include <string>
#include <vector>

#include "tl/optim/optimizer.hpp"
#include "tl/train/objective.hpp"

namespace tl::inline TL_ABI {

struct RateFinderOptions {
  double lowest = 1e-7, highest = 1;  ///< of the group with the largest rate; the others keep their ratio to it
  int64_t steps = 100;
  double smoothing = 0.9;  ///< of the running mean of losses
  double diverged = 4;     ///< stop when the smoothed loss is so many times its least
};

/// Losses of steps whose rates rise by equal ratios, and what they suggest.
struct RateCurve {
  std::vector<double> rates;
  std::vector<double> losses;  ///< smoothed: m = s m + (1 - s) loss, over 1 - s^(t + 1)
  double steepest = kNoValue;  ///< the rate around which the loss falls fastest per ratio, over a fifth of the curve
  double before_minimum = kNoValue;  ///< a tenth of the rate at the lowest loss
  /// The geometric mean of both, a rate to begin with; kNoValue when the loss never fell.
  double suggestion() const;
  /// A picture for terminals, `width` columns.
  std::string to_string(int width = 72) const;
  /// Lines "rate<tab>loss" below a line of names.
  std::string to_tsv() const;
};

/// The suggestions that belong to a curve of rates and smoothed losses.
RateCurve suggest_rate(std::vector<double> rates, std::vector<double> losses);

/// Trains for a few steps with rates that rise from options.lowest to options.highest. Network, optimizer and random
/// state are as before afterwards, bit for bit. A loss that is no number ends the search.
/// Paper: Smith, "Cyclical learning rates", 2017. fastai: lr_find.
RateCurve find_rate(nn::Module& net, optim::Optimizer& optimizer, BatchSource& train, const Objective& objective,
                    const RateFinderOptions& options = {}, const Forward& forward = {});

}  // namespace tl::inline TL_ABI

#if TL_HEADER_ONLY
#include "tl/train/rate_finder.inl"
#endif
