// Definitions of transfer/explain.hpp.
#pragma once
#include <algorithm>
#include <cstdio>
#include <limits>
#include <map>

#include "tl/core/stopwatch.hpp"
#include "tl/nn/init.hpp"
#include "tl/ops/elementwise.hpp"
#include "tl/tensor/storage.hpp"
#include "tl/transfer/explain.hpp"

namespace tl::inline TL_ABI {
namespace detail {

/// While it lives, a network may be trained; afterwards buffers, gradients and random numbers are as before.
class Rehearsal {
 public:
  explicit Rehearsal(nn::Module& net) : mode_(net, true), random_(default_generator().state()) {
    for (const auto& b : nn::named_buffers(net)) buffers_.emplace_back(b.buffer, b.buffer->value().clone());
    for (const auto& p : nn::named_parameters(net)) {
      gradients_.emplace_back(p.parameter, p.parameter->value().grad());
      p.parameter->value().zero_grad();
    }
  }
  ~Rehearsal() {
    for (auto& [buffer, value] : buffers_) buffer->value().copy_from(value);
    for (auto& [parameter, grad] : gradients_) parameter->value().set_grad(grad);
    default_generator().set_state(random_);
  }
  Rehearsal(const Rehearsal&) = delete;
  Rehearsal& operator=(const Rehearsal&) = delete;

 private:
  nn::ModeScope mode_;
  Generator::State random_;
  std::vector<std::pair<nn::Buffer*, Tensor>> buffers_;
  std::vector<std::pair<nn::Parameter*, Tensor>> gradients_;
};

TL_INLINE std::string in_bytes(int64_t bytes) {
  char out[32];
  const auto value = static_cast<double>(bytes);
  if (bytes == 0) return "-";
  if (value < 0x1p20) std::snprintf(out, sizeof out, "%.1f KiB", value / 0x1p10);
  else std::snprintf(out, sizeof out, "%.1f MiB", value / 0x1p20);
  return out;
}

TL_INLINE std::string in_ms(double value) {
  char out[32];
  std::snprintf(out, sizeof out, "%.2f ms", value);
  return value > 0 ? out : "-";
}

}  // namespace detail

TL_INLINE StageCost Explanation::total() const {
  StageCost out{.name = "all"};
  for (const StageCost& stage : stages) {
    out.parameters += stage.parameters;
    out.trainable += stage.trainable;
    out.rate = std::max(out.rate, stage.rate);
    out.kept_bytes += stage.kept_bytes;
    out.forward_ms += stage.forward_ms;
    out.backward_ms += stage.backward_ms;
  }
  out.state = text(out.trainable, " train");
  return out;
}

TL_INLINE Explanation explain(nn::Staged& net, const Tensor& x, const std::vector<optim::ParamGroup>& groups,
                              int repeats) {
  std::map<const void*, double> rates;
  for (const auto& group : groups)
    for (const auto& p : group.parameters) rates[p.parameter->value().identity()] = group.rate;

  Explanation out{.stages = {}, .input = x.shape()};
  const auto names = net.stages();
  const auto modules = nn::modules_by_stage(net);
  for (size_t i = 0; i < names.size(); ++i) {
    StageCost cost{.state = "frozen"};
    for (const auto& glob : names[i]) cost.name += (cost.name.empty() ? "" : ", ") + glob;
    for (const auto& named : modules[i]) {
      bool statistics = false;
      for (const nn::Member& member : named.module->members()) {
        statistics = statistics || member.buffer;
        if (!member.parameter) continue;
        const Tensor& value = member.parameter->value();
        cost.parameters += value.numel();
        if (member.parameter->frozen()) continue;
        cost.trainable += value.numel();
        if (const auto found = rates.find(value.identity()); found != rates.end())
          cost.rate = std::max(cost.rate, found->second);
      }
      if (cost.state == "frozen" && statistics && !named.module->frozen()) cost.state = "statistics move";
      if (cost.state == "frozen" && named.module->is_random() && !named.module->frozen()) cost.state = "random";
    }
    if (cost.trainable > 0) cost.state = "trains";
    cost.forward_ms = cost.backward_ms = std::numeric_limits<double>::infinity();
    out.stages.push_back(std::move(cost));
  }

  const detail::Rehearsal rehearsal(net);
  const DeviceType device = x.device().type;
  for (int repeat = 0; repeat <= std::max(repeats, 1); ++repeat) {  // the first one packs weights and does not count
    Tensor y = in_precision(x);
    for (size_t i = 0; i < out.stages.size(); ++i) {
      StageCost& cost = out.stages[i];
      Tensor input = y.detach();
      const bool learns_below = y.requires_grad();
      input.set_requires_grad(learns_below);
      y = {};
      const int64_t before = memory_stats(device).live_bytes;
      const Stopwatch forward;
      y = net.run_stage(i, input);
      const double forward_ms = 1e3 * forward.seconds();
      if (!y.requires_grad()) {
        if (repeat > 0) cost.forward_ms = std::min(cost.forward_ms, forward_ms);
        cost.backward_ms = 0;
        continue;
      }
      // What the lowest learning stage takes in must stay as well; above it, it is the result of the stage below.
      cost.kept_bytes =
          memory_stats(device).live_bytes - before + (learns_below ? 0 : static_cast<int64_t>(input.bytes()));
      const Tensor gradient = Tensor::full(y.shape(), 1e-3, y.dtype(), y.device());
      const Stopwatch backward;
      y.backward(gradient);
      if (repeat == 0) continue;
      cost.forward_ms = std::min(cost.forward_ms, forward_ms);
      cost.backward_ms = std::min(cost.backward_ms, 1e3 * backward.seconds());
    }
    net.zero_grad();
  }
  return out;
}

TL_INLINE std::string to_string(const Explanation& explanation) {
  std::string out;
  const auto line = [&out](std::string name, const std::string& state, const std::string& rate,
                           const std::string& parameters, const std::string& kept, const std::string& forward,
                           const std::string& backward) {
    constexpr size_t kName = 29;
    if (name.size() > kName) name = name.substr(0, kName - 3) + "...";
    char text[160];
    std::snprintf(text, sizeof text, "%-29s %-15s %9s %11s %10s %10s %10s\n", name.c_str(), state.c_str(), rate.c_str(),
                  parameters.c_str(), kept.c_str(), forward.c_str(), backward.c_str());
    out += text;
  };
  line("stage", "state", "rate", "parameters", "kept", "forward", "backward");
  const auto row = [&line](const StageCost& c) {
    line(c.name, c.state, c.rate > 0 ? text(c.rate) : "-", std::to_string(c.parameters), detail::in_bytes(c.kept_bytes),
         detail::in_ms(c.forward_ms), detail::in_ms(c.backward_ms));
  };
  for (const StageCost& stage : explanation.stages) row(stage);
  row(explanation.total());
  return out;
}

}  // namespace tl::inline TL_ABI
