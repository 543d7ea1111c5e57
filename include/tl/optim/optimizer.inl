// Definitions of optim/optimizer.hpp.
#pragma once
#include <algorithm>
#include <cmath>
#include <set>
#include <span>

#include "tl/optim/optimizer.hpp"

namespace tl::inline TL_ABI {
namespace optim {
namespace detail {

/// Calls visit(name, tensor) for each parameter that learns and has a gradient.
template <class Groups, class Visit>
void for_each_gradient(Groups& groups, Visit visit) {
  for (auto& group : groups)
    for (auto& p : group.parameters)
      if (!p.parameter->frozen() && p.parameter->value().grad().defined()) visit(group, p);
}

/// What a norm is made of. A NaN stays in both.
struct Magnitude {
  double squares = 0, largest = 0;

  void add(double square, double value) {
    squares += square;
    if (value > largest || std::isnan(value)) largest = value;
  }
};

/// In blocks that are added in order, so that the number of threads does not change a bit.
template <class T>
Magnitude magnitude_of(std::span<const T> values) {
  constexpr size_t kBlock = 1 << 15, kLanes = 8;
  std::vector<Magnitude> parts((values.size() + kBlock - 1) / kBlock);
  parallel_for(static_cast<int64_t>(parts.size()), 1, [&](int64_t first, int64_t last) {
    for (auto part = static_cast<size_t>(first); part < static_cast<size_t>(last); ++part) {
      const auto block = values.subspan(part * kBlock, std::min(kBlock, values.size() - part * kBlock));
      Magnitude lanes[kLanes];
      for (size_t i = 0; i < block.size(); ++i) {
        const double value = std::abs(static_cast<double>(block[i]));
        lanes[i % kLanes].add(value * value, value);
      }
      for (const Magnitude& lane : lanes) parts[part].add(lane.squares, lane.largest);
    }
  });
  Magnitude total;
  for (const Magnitude& part : parts) total.add(part.squares, part.largest);
  return total;
}

}  // namespace detail

TL_INLINE Optimizer::Optimizer(std::vector<ParamGroup> groups) {
  for (ParamGroup& group : groups) add_group(std::move(group));
}

TL_INLINE void Optimizer::add_group(ParamGroup group) {
  std::set<std::string> known;
  for (const auto& other : groups_)
    for (const auto& p : other.parameters) known.insert(p.name);
  for (const auto& p : group.parameters)
    require<UsageError>(known.insert(p.name).second, "optimizer: ", p.name, " is in two groups");
  groups_.push_back(std::move(group));
}

TL_INLINE void Optimizer::drop_frozen() {
  for (const auto& group : groups_)
    for (const auto& p : group.parameters)
      if (p.parameter->frozen()) slots_.erase(p.name);
}

TL_INLINE void Optimizer::step(double factor) {
  step_each([factor](const ParamGroup&) { return factor; });
}

TL_INLINE void Optimizer::step(const Schedule& common, int64_t index) {
  step_each([&](const ParamGroup& group) { return group.factor(common, index); });
}

TL_INLINE void Optimizer::step_each(FunctionRef<double(const ParamGroup&)> factor) {
  tl::detail::refuse_while_recording("Optimizer::step", "call it after the captured function, with the step's rate.");
  drop_frozen();
  detail::for_each_gradient(groups_, [&](ParamGroup& group, nn::NamedParameter& p) {
    Tensor& weight = p.parameter->value();
    Slots& slots = slots_[p.name];
    if (!slots.owner.is(weight)) {
      slots = {.owner = weight};
      for (size_t i = 0; i < slot_names().size(); ++i)
        slots.tensors.push_back(Tensor::zeros(weight.shape(), weight.dtype(), weight.device()));
    }
    ++slots.step;
    update(weight, weight.grad(), slots,
           {.rate = group.rate * factor(group), .weight_decay = group.weight_decay, .momentum = group.momentum});
  });
}

TL_INLINE void Optimizer::zero_grad() {
  for (auto& group : groups_)
    for (auto& p : group.parameters) p.parameter->value().zero_grad();
}

TL_INLINE std::vector<NamedState> Optimizer::state() {
  drop_frozen();
  std::vector<NamedState> out;
  const auto names = slot_names();
  for (const auto& [name, slots] : slots_) {
    out.push_back({name + ":step", Tensor::from<int64_t>({slots.step}, {})});
    for (size_t i = 0; i < slots.tensors.size(); ++i) out.push_back({name + ":" + names[i], slots.tensors[i]});
  }
  return out;
}

TL_INLINE StateReport Optimizer::load_state(const std::vector<NamedState>& state) {
  std::map<std::string, std::map<std::string, Tensor>> stored;
  for (const NamedState& entry : state) {
    const size_t colon = entry.name.rfind(':');
    require<StateDictError>(colon != std::string::npos, "optimizer: \"", entry.name, "\" is no name of a state");
    stored[entry.name.substr(0, colon)][entry.name.substr(colon + 1)] = entry.tensor;
  }
  const auto names = slot_names();
  StateReport report;
  std::map<std::string, Slots> loaded;
  for (auto& group : groups_) {
    for (auto& p : group.parameters) {
      const auto found = stored.find(p.name);
      if (found == stored.end()) {
        if (!p.parameter->frozen()) report.fresh.push_back(p.name);
        continue;
      }
      if (p.parameter->frozen()) continue;
      const Tensor& weight = p.parameter->value();
      Slots slots{.owner = weight};
      const auto take = [&](const std::string& slot) {
        const auto at = found->second.find(slot);
        require<StateDictError>(at != found->second.end() && found->second.size() == names.size() + 1,
                                "optimizer: the state of ", p.name, " is not this optimizer's (", slot,
                                "). Hint: was it saved by another kind of optimizer?");
        return at->second;
      };
      slots.step = static_cast<int64_t>(take("step").item());
      require<StateDictError>(slots.step >= 1, "optimizer: the state of ", p.name, " is of step ", slots.step);
      for (const std::string& slot : names) {
        const Tensor value = take(slot);
        require<StateDictError>(value.shape() == weight.shape() && value.dtype() == weight.dtype(), "optimizer: ", slot,
                                " of ", p.name, " must be ", weight.dtype(), " ", weight.shape(), "; got ",
                                value.dtype(), " ", value.shape());
        slots.tensors.push_back(Tensor::empty(weight.shape(), weight.dtype(), weight.device()));
        slots.tensors.back().copy_from(value);
      }
      loaded[p.name] = std::move(slots);
      report.restored.push_back(p.name);
      stored.erase(found);
    }
  }
  for (const auto& [name, slots] : stored) report.removed.push_back(name);
  slots_ = std::move(loaded);
  return report;
}

TL_INLINE int64_t Optimizer::state_bytes() const {
  int64_t bytes = 0;
  for (const auto& [name, slots] : slots_)
    for (const Tensor& tensor : slots.tensors) bytes += static_cast<int64_t>(tensor.bytes());
  return bytes;
}

TL_INLINE Sgd::Sgd(std::vector<ParamGroup> groups, const SgdOptions& options)
    : Optimizer(std::move(groups)), options_(options) {
  require<UsageError>(options.momentum >= 0 && (!options.nesterov || options.momentum > 0),
                      "Sgd: momentum must be at least 0, and above 0 with Nesterov; got ", options.momentum);
}

TL_INLINE std::vector<std::string> Sgd::slot_names() const {
  return options_.momentum > 0 ? std::vector<std::string>{"velocity"} : std::vector<std::string>{};
}

TL_INLINE void Sgd::update(Tensor& weight, const Tensor& grad, Slots& slots, const Update& with) const {
  visit_floating(weight.dtype(), "sgd", [&](auto type) {
    using T = typename decltype(type)::type;
    kernel::sgd(weight.device(),
                SgdArgs<T>{.weight = weight.mutable_data<T>(),
                           .grad = grad.data<T>(),
                           .velocity = slots.tensors.empty() ? nullptr : slots.tensors[0].mutable_data<T>(),
                           .n = weight.numel(),
                           .rate = static_cast<T>(with.rate),
                           .momentum = static_cast<T>(options_.momentum * with.momentum),
                           .weight_decay = static_cast<T>(with.weight_decay),
                           .grad_scale = 1,
                           .nesterov = options_.nesterov,
                           .first = slots.step == 1});
  });
}

TL_INLINE Adam::Adam(std::vector<ParamGroup> groups, const AdamOptions& options)
    : Adam(std::move(groups), options, false) {}

TL_INLINE Adam::Adam(std::vector<ParamGroup> groups, const AdamOptions& options, bool decoupled)
    : Optimizer(std::move(groups)), options_(options), decoupled_(decoupled) {
  const auto valid = [](double beta) { return beta >= 0 && beta < 1; };
  require<UsageError>(valid(options.beta1) && valid(options.beta2) && options.eps >= 0,
                      "Adam: betas must be in [0, 1) and eps at least 0; got ", options.beta1, ", ", options.beta2,
                      " and ", options.eps);
}

TL_INLINE void Adam::update(Tensor& weight, const Tensor& grad, Slots& slots, const Update& with) const {
  visit_floating(weight.dtype(), "adam", [&](auto type) {
    using T = typename decltype(type)::type;
    kernel::adam(weight.device(), AdamArgs<T>{.weight = weight.mutable_data<T>(),
                                              .grad = grad.data<T>(),
                                              .first_moment = slots.tensors[0].mutable_data<T>(),
                                              .second_moment = slots.tensors[1].mutable_data<T>(),
                                              .n = weight.numel(),
                                              .step = slots.step,
                                              .rate = with.rate,
                                              .beta1 = options_.beta1 * with.momentum,
                                              .beta2 = options_.beta2,
                                              .eps = options_.eps,
                                              .weight_decay = with.weight_decay,
                                              .grad_scale = 1,
                                              .decoupled = decoupled_});
  });
}

TL_INLINE double clip_grad_norm(const std::vector<ParamGroup>& groups, double max_norm, GradNorm kind) {
  require<UsageError>(max_norm > 0, "clip_grad_norm: max_norm must be above 0, got ", max_norm);
  detail::Magnitude all;
  detail::for_each_gradient(groups, [&](const ParamGroup&, const nn::NamedParameter& p) {
    const Tensor grad = p.parameter->value().grad().to(kCpu);
    visit_floating(grad.dtype(), "clip_grad_norm", [&](auto type) {
      const auto one =
          detail::magnitude_of<typename decltype(type)::type>(grad.values<typename decltype(type)::type>());
      all.add(one.squares, one.largest);
    });
  });
  const double norm = kind == GradNorm::max ? all.largest : std::sqrt(all.squares), scale = max_norm / (norm + 1e-6);
  if (scale < 1)
    detail::for_each_gradient(groups, [&](const ParamGroup&, const nn::NamedParameter& p) {
      Tensor grad = p.parameter->value().grad();
      visit_floating(grad.dtype(), "clip_grad_norm", [&](auto type) {
        using T = typename decltype(type)::type;
        kernel::affine(grad.device(), AffineArgs<T>{.x = nullptr,
                                                    .y = grad.mutable_data<T>(),
                                                    .n = grad.numel(),
                                                    .alpha = 0,
                                                    .beta = static_cast<T>(scale),
                                                    .gamma = 0});
      });
    });
  return norm;
}

TL_INLINE void clip_grad_value(const std::vector<ParamGroup>& groups, double limit) {
  require<UsageError>(limit > 0, "clip_grad_value: limit must be above 0, got ", limit);
  detail::for_each_gradient(groups, [&](const ParamGroup&, const nn::NamedParameter& p) {
    Tensor grad = p.parameter->value().grad(), host = grad.to(kCpu);
    visit_floating(grad.dtype(), "clip_grad_value", [&](auto type) {
      using T = typename decltype(type)::type;
      T* value = host.mutable_data<T>();
      for (int64_t i = 0; i < host.numel(); ++i)
        value[i] = std::clamp(value[i], static_cast<T>(-limit), static_cast<T>(limit));
    });
    if (!host.is(grad)) grad.copy_from(host);
  });
}

}  // namespace optim
}  // namespace tl::inline TL_ABI
