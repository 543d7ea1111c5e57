// Definitions of nn/module.hpp.
#pragma once
#include <algorithm>
#include <set>

#include "tl/core/function_ref.hpp"
#include "tl/core/glob.hpp"
#include "tl/nn/module.hpp"
#include "tl/nn/recompute.inl"

namespace tl::inline TL_ABI {
namespace nn {
namespace detail {

/// Calls visit(path, member) for everything inside `module`, depth first, in order.
TL_INLINE void walk(Module& module, const std::string& prefix, FunctionRef<void(const std::string&, Member&)> visit) {
  for (Member& member : module.members_and_adapter()) {
    const std::string path = prefix.empty() ? member.name : prefix + "." + member.name;
    visit(path, member);
    if (member.module) walk(*member.module, path, visit);
  }
}

/// Insertions, deletions and exchanges that turn a into b (Levenshtein 1966).
TL_INLINE size_t edit_distance(std::string_view a, std::string_view b) {
  std::vector<size_t> row(b.size() + 1);
  for (size_t j = 0; j <= b.size(); ++j) row[j] = j;
  for (size_t i = 1; i <= a.size(); ++i) {
    size_t diagonal = row[0];
    row[0] = i;
    for (size_t j = 1; j <= b.size(); ++j) {
      const size_t above = row[j];
      row[j] = std::min({above + 1, row[j - 1] + 1, diagonal + (a[i - 1] == b[j - 1] ? 0 : 1)});
      diagonal = above;
    }
  }
  return row[b.size()];
}

}  // namespace detail

TL_INLINE Tensor Module::forward(const Tensor&) {
  fail<UsageError>(describe(), ": this module has no forward for a single tensor");
}

TL_INLINE Tensor Module::run(const Tensor& x) {
  Tensor y = forward(x);
  if (Adapter* adapter = acting_adapter(*this, AdapterPlace::result)) y = adapter->result(x, y);
  return y;
}

TL_INLINE Tensor Module::operator()(const Tensor& x) {
  const bool again = recomputed() && grad_enabled() && (!frozen() || x.requires_grad());
  Tensor y = again ? detail::recomputed(*this, x) : run(x);
  observed(*this, y);
  return y;
}

TL_INLINE std::vector<Member> Module::members_and_adapter() {
  std::vector<Member> out = members();
  if (adapter_ && !adapter_->merged()) out.push_back({adapter_->kind(), adapter_.get(), nullptr, nullptr});
  return out;
}

TL_INLINE void Module::train(bool on) {
  set_training_flag(on);
  for (Member& member : members_and_adapter())
    if (member.module) member.module->train(on);
}

TL_INLINE bool Adapter::learns() {
  if (merged() || !grad_enabled()) return false;
  for (const NamedParameter& p : named_parameters(*this))
    if (!p.parameter->frozen()) return true;
  return false;
}

TL_INLINE Adapter* acting_adapter(const Module& host, AdapterPlace place) {
  Adapter* adapter = host.adapter();
  if (!adapter) return nullptr;
  if (adapter->merged() && host.training_flag() && grad_enabled())
    fail<UsageError>(host.describe(), ": its ", adapter->kind(),
                     " is merged into the weight, so that training would pass it over. Hint: unmerge(net) to train it "
                     "further, remove_adapters(net) to keep the merged weights for good, net.eval() to predict.");
  return !adapter->merged() && adapter->place() == place ? adapter : nullptr;
}

TL_INLINE ModeScope::ModeScope(Module& net, bool training) {
  bool differs = false;
  for (const NamedModule& named : named_modules(net)) {
    before_.emplace_back(named.module, named.module->training_);
    differs = differs || named.module->training_ != training;
  }
  if (differs) change_ = tl::detail::Configuration::exchange();
  for (const auto& [module, before] : before_) module->training_ = training;
}

TL_INLINE ModeScope::~ModeScope() {
  for (const auto& [module, before] : before_) {
    if (!change_) module->set_training_flag(before);
    else module->training_ = before;
  }
  if (change_) tl::detail::Configuration::undone(*change_);
}

TL_INLINE void Module::set_frozen(bool frozen) {
  if (!frozen)  // nothing is changed where something is held
    for (const NamedParameter& p : named_parameters_with_aliases(*this)) p.parameter->require_free();
  set_frozen_flag(frozen);
  for (Member& member : members_and_adapter()) {
    if (member.module) member.module->set_frozen(frozen);
    if (member.parameter) member.parameter->set_frozen(frozen);
  }
}

TL_INLINE void Module::to(Device device) {
  detail::walk(*this, "", [&](const std::string&, Member& member) {
    if (member.parameter) {
      member.parameter->value().zero_grad();
      member.parameter->value().adopt_storage(member.parameter->value().to(device));
    }
    if (member.buffer) member.buffer->value().adopt_storage(member.buffer->value().to(device));
  });
}

TL_INLINE void Module::to(DType dtype) {
  detail::walk(*this, "", [&](const std::string&, Member& member) {
    Tensor* tensor = member.parameter ? &member.parameter->value() : member.buffer ? &member.buffer->value() : nullptr;
    if (!tensor || !is_floating(tensor->dtype())) return;
    tensor->zero_grad();
    tensor->adopt_storage(tensor->to(dtype));
  });
}

TL_INLINE void Module::zero_grad() {
  for (const NamedParameter& p : named_parameters(*this)) p.parameter->value().zero_grad();
}

TL_INLINE std::vector<NamedParameter> named_parameters_with_aliases(Module& root) {
  std::vector<NamedParameter> out;
  detail::walk(root, "", [&](const std::string& path, Member& member) {
    if (member.parameter) out.push_back({path, member.parameter});
  });
  return out;
}

TL_INLINE std::vector<NamedParameter> named_parameters(Module& root) {
  std::vector<NamedParameter> out;
  std::set<const void*> seen;
  for (NamedParameter& p : named_parameters_with_aliases(root))
    if (seen.insert(p.parameter->value().identity()).second) out.push_back(std::move(p));
  return out;
}

TL_INLINE std::vector<NamedBuffer> named_buffers(Module& root) {
  std::vector<NamedBuffer> out;
  detail::walk(root, "", [&](const std::string& path, Member& member) {
    if (member.buffer) out.push_back({path, member.buffer});
  });
  return out;
}

TL_INLINE std::vector<NamedModule> named_modules(Module& root) {
  std::vector<NamedModule> out{{"", &root}};
  detail::walk(root, "", [&](const std::string& path, Member& member) {
    if (member.module) out.push_back({path, member.module});
  });
  return out;
}

TL_INLINE int64_t parameter_count(Module& root, bool trainable_only) {
  int64_t count = 0;
  for (const NamedParameter& p : named_parameters(root))
    if (!trainable_only || !p.parameter->frozen()) count += p.parameter->value().numel();
  return count;
}

TL_INLINE std::vector<NamedParameter> select_parameters(Module& root, std::string_view glob) {
  std::vector<NamedParameter> out;
  std::vector<std::string> names;
  for (NamedParameter& p : named_parameters(root)) {
    names.push_back(p.name);
    if (glob_covers(glob, p.name)) out.push_back(std::move(p));
  }
  for (const NamedModule& module : named_modules(root))
    if (!module.name.empty()) names.push_back(module.name);
  require<UsageError>(!out.empty(), "select: no parameter matches \"", glob, "\". ", nearest_names(glob, names));
  return out;
}

TL_INLINE Module& find_module(Module& root, std::string_view name) {
  std::vector<std::string> names;
  for (const NamedModule& module : named_modules(root)) {
    if (module.name == name) return *module.module;
    if (!module.name.empty()) names.push_back(module.name);
  }
  fail<UsageError>("find_module: there is no module \"", name, "\". ", nearest_names(name, names));
}

TL_INLINE std::string nearest_names(std::string_view wrong, const std::vector<std::string>& names, size_t count) {
  constexpr size_t kComparable = 4000;  // a hint is not worth minutes on a hostile list
  while (wrong.ends_with('*') || wrong.ends_with('.')) wrong.remove_suffix(1);  // of a glob what it names
  std::vector<std::pair<size_t, std::string_view>> ranked;
  for (const std::string& name : names)
    if (ranked.size() < kComparable && name.size() < 256 && wrong.size() < 256)
      ranked.emplace_back(detail::edit_distance(wrong, name), name);
  std::sort(ranked.begin(), ranked.end());
  std::string out = ranked.empty() ? "There are no names." : "Nearest: ";
  for (size_t i = 0; i < std::min(count, ranked.size()); ++i)
    out += (i > 0 ? ", " : "") + std::string(ranked[i].second);
  return out;
}

TL_INLINE std::string to_string(Module& root) {
  std::string out;
  for (const NamedModule& module : named_modules(root)) {
    const auto depth = module.name.empty() ? 0 : 1 + std::count(module.name.begin(), module.name.end(), '.');
    int64_t own = 0;
    for (const Member& member : module.module->members())
      if (member.parameter) own += member.parameter->value().numel();
    out.append(static_cast<size_t>(2 * depth), ' ');
    const size_t dot = module.name.rfind('.');
    if (!module.name.empty()) out += "(" + module.name.substr(dot == std::string::npos ? 0 : dot + 1) + ") ";
    out += module.module->describe();
    if (own > 0) out += "  # " + std::to_string(own) + " parameters";
    if (module.module->frozen()) out += ", frozen";
    out += '\n';
  }
  return out;
}

}  // namespace nn
}  // namespace tl::inline TL_ABI
