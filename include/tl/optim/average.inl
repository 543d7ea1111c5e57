// Definitions of optim/average.hpp.
#pragma once
#include "tl/ops/elementwise.hpp"
#include "tl/optim/average.hpp"

namespace tl::inline TL_ABI {
namespace optim {

TL_INLINE WeightAverage::WeightAverage(nn::Module& net, double decay) : net_(net), decay_(decay) {
  require<UsageError>(decay >= 0 && decay < 1, "WeightAverage: decay must be in [0, 1), got ", decay);
  for (const auto& [name, value] : values()) averages_[name] = value.clone();
}

TL_INLINE std::map<std::string, Tensor> WeightAverage::values() const {
  std::map<std::string, Tensor> out;
  for (const auto& p : nn::named_parameters(net_))
    if (!p.parameter->frozen()) out[p.name] = p.parameter->value();
  for (const auto& module : nn::named_modules(net_)) {
    if (module.module->frozen()) continue;
    for (const nn::Member& member : module.module->members())
      if (member.buffer) out[module.name + (module.name.empty() ? "" : ".") + member.name] = member.buffer->value();
  }
  return out;
}

TL_INLINE void WeightAverage::update() {
  const NoGrad no_grad;
  std::map<std::string, Tensor> next;
  for (const auto& entry : values()) {
    const auto& name = entry.first;
    const Tensor& value = entry.second;
    const auto known = averages_.find(name);
    const bool fits = known != averages_.end() && known->second.shape() == value.shape();
    Tensor average = fits ? known->second : value.clone();
    if (!is_floating(value.dtype())) {
      average.copy_from(value);
    } else if (fits) {
      visit_floating(value.dtype(), "WeightAverage", [&](auto type) {
        using T = typename decltype(type)::type;
        kernel::affine(value.device(), AffineArgs<T>{.x = value.data<T>(),
                                                     .y = average.mutable_data<T>(),
                                                     .n = value.numel(),
                                                     .alpha = static_cast<Wide<T>>(1 - decay_),
                                                     .beta = static_cast<Wide<T>>(decay_),
                                                     .gamma = 0});
      });
    }
    next[name] = average;
  }
  averages_ = std::move(next);
}

TL_INLINE void WeightAverage::swap() {
  for (auto& [name, value] : values()) {
    const auto known = averages_.find(name);
    if (known == averages_.end()) continue;
    const Tensor kept = value.clone();
    value.copy_from(known->second);
    known->second.copy_from(kept);
  }
}

TL_INLINE std::vector<NamedState> WeightAverage::state() const {
  std::vector<NamedState> out;
  for (const auto& [name, average] : averages_) out.push_back({name, average});
  return out;
}

TL_INLINE void WeightAverage::load_state(const std::vector<NamedState>& state) {
  const auto known = values();
  std::map<std::string, Tensor> loaded;
  for (const NamedState& entry : state) {
    const auto at = known.find(entry.name);
    require<StateDictError>(at != known.end(), "WeightAverage: the network averages no ", entry.name);
    require<StateDictError>(at->second.shape() == entry.tensor.shape() && at->second.dtype() == entry.tensor.dtype(),
                            "WeightAverage: ", entry.name, " is ", at->second.dtype(), " ", at->second.shape(),
                            "; its average ", entry.tensor.dtype(), " ", entry.tensor.shape());
    loaded[entry.name] = entry.tensor.to(at->second.device()).clone();
  }
  averages_ = std::move(loaded);
}

}  // namespace optim
}  // namespace tl::inline TL_ABI
