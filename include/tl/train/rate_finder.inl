// Definitions of train/rate_finder.hpp.
#pragma once
#include <algorithm>
#include <cmath>

#include "tl/io/state_dict.hpp"
#include "tl/nn/init.hpp"
#include "tl/ops/elementwise.hpp"
#include "tl/train/rate_finder.hpp"

namespace tl::inline TL_ABI {

TL_INLINE double RateCurve::suggestion() const { return std::sqrt(steepest * before_minimum); }

TL_INLINE RateCurve suggest_rate(std::vector<double> rates, std::vector<double> losses) {
  require<UsageError>(rates.size() == losses.size(), "suggest_rate: ", rates.size(), " rates and ", losses.size(),
                      " losses");
  RateCurve curve{.rates = std::move(rates), .losses = std::move(losses)};
  double fastest = 0;
  size_t least = 0;
  // Between neighbours the noise of the first batches would often fall fastest.
  const size_t reach = std::max<size_t>(curve.losses.size() / 10, 1);
  for (size_t i = 0; i < curve.losses.size(); ++i) {
    if (curve.losses[i] < curve.losses[least]) least = i;
    if (i < reach || i + reach >= curve.losses.size()) continue;
    const double slope =
        (curve.losses[i + reach] - curve.losses[i - reach]) / std::log(curve.rates[i + reach] / curve.rates[i - reach]);
    if (slope >= fastest) continue;
    fastest = slope;
    curve.steepest = curve.rates[i];
  }
  if (least > 0) curve.before_minimum = curve.rates[least] / 10;
  return curve;
}

TL_INLINE std::string RateCurve::to_tsv() const {
  std::string out = "rate\tloss\n";
  for (size_t i = 0; i < rates.size(); ++i) out += text(rates[i], "\t", losses[i], "\n");
  return out;
}

TL_INLINE std::string RateCurve::to_string(int width) const {
  if (rates.empty()) return "no step could be made\n";
  const auto [least, most] = std::minmax_element(losses.begin(), losses.end());
  const auto columns = static_cast<double>(std::max(width - 24, 1));
  std::string out;
  for (size_t i = 0; i < rates.size(); i += std::max<size_t>(rates.size() / 25, 1)) {
    char line[64];
    std::snprintf(line, sizeof line, "%9.2e %9.4f  ", rates[i], losses[i]);
    const double share = *most > *least ? (losses[i] - *least) / (*most - *least) : 0;
    out += line + std::string(static_cast<size_t>(share * columns), ' ') + "*\n";
  }
  return out + (std::isfinite(suggestion()) ? text("a rate to begin with: ", suggestion(), "\n")
                                            : std::string("the loss never fell: no suggestion\n"));
}

TL_INLINE RateCurve find_rate(nn::Module& net, optim::Optimizer& optimizer, BatchSource& train,
                              const Objective& objective, const RateFinderOptions& options, const Forward& forward) {
  require<UsageError>(options.lowest > 0 && options.highest > options.lowest && options.steps >= 2 &&
                          options.smoothing >= 0 && options.smoothing < 1,
                      "find_rate: expected 0 < lowest < highest, at least 2 steps and smoothing in [0, 1); got ",
                      options.lowest, ", ", options.highest, ", ", options.steps, " and ", options.smoothing);
  double largest = 0;
  for (const auto& group : optimizer.groups()) largest = std::max(largest, group.rate);
  require<UsageError>(largest > 0, "find_rate: all groups have a rate of 0, so there is no ratio to keep");

  const auto weights = copy_weights(net);
  std::vector<optim::NamedState> moments;
  for (const auto& entry : optimizer.state()) moments.push_back({entry.name, entry.tensor.clone()});
  const Generator::State random = default_generator().state();

  const nn::ModeScope training(net, true);
  const Forward run = forward ? forward : detail::whole(net);
  const Device device = detail::device_of(net);
  std::vector<double> rates, losses;
  double running = 0, least = std::numeric_limits<double>::infinity();
  const auto step = [&](const Batch& batch) {
    const double divisor = objective.divisor(batch);
    if (divisor <= 0) return true;
    const auto index = static_cast<double>(rates.size());
    const double rate =
        options.lowest * std::pow(options.highest / options.lowest, index / static_cast<double>(options.steps - 1));
    std::vector<Tensor> targets;
    for (const Tensor& target : objective.targets(batch)) targets.push_back(target.to(device));
    const Tensor output = cast(run(batch.x.to(device)), DType::f32);
    objective.check(output);
    optimizer.zero_grad();
    const Tensor loss = objective.loss(output, targets) * (1 / divisor);
    if (!std::isfinite(loss.item())) return false;
    running = options.smoothing * running + (1 - options.smoothing) * loss.item();
    rates.push_back(rate);
    losses.push_back(running / (1 - std::pow(options.smoothing, index + 1)));
    least = std::min(least, losses.back());
    if (losses.back() > options.diverged * least) return false;
    loss.backward();
    optimizer.step(rate / largest);
    return static_cast<int64_t>(rates.size()) < options.steps;
  };
  bool going = true;
  for (int64_t epoch = 0; going; ++epoch) {
    const size_t before = rates.size();
    const auto stream = train.epoch(epoch);
    for (Batch batch; going && stream->next(batch);)
      if (!batch.indices.empty()) going = step(batch);
    require<UsageError>(!going || rates.size() > before, "find_rate: the source has no sample with a label");
  }

  optimizer.zero_grad();
  restore_weights(net, weights);
  optimizer.load_state(moments);
  default_generator().set_state(random);
  return suggest_rate(std::move(rates), std::move(losses));
}

}  // namespace tl::inline TL_ABI
