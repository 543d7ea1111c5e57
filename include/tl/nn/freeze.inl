// Definitions of nn/freeze.hpp.
#pragma once
#include <algorithm>
#include <set>

#include "tl/core/glob.hpp"
#include "tl/nn/freeze.hpp"
#include "tl/nn/norm.hpp"

namespace tl::inline TL_ABI {
namespace detail {

/// A module all of whose parameters are frozen is frozen. Of others the flag is lifted where some of these were
/// changed: a BatchNorm whose scale learns may keep its statistics.
TL_INLINE void settle(nn::Module& net, const std::set<const void*>& changed) {
  for (const auto& module : nn::named_modules(net)) {
    bool any = false, touched = false, all = true;
    for (const nn::Member& member : module.module->members()) {
      if (!member.parameter) continue;
      any = true;
      touched = touched || changed.count(member.parameter->value().identity()) > 0;
      all = all && member.parameter->frozen();
    }
    if (any && (all || touched)) module.module->set_frozen_flag(all);
  }
}

TL_INLINE int64_t set_frozen_by_glob(nn::Module& net, std::string_view glob, bool frozen) {
  int64_t matched = 0;
  std::set<const void*> changed;
  std::vector<std::string> names;
  const auto parameters = nn::named_parameters_with_aliases(net);
  for (const auto& p : parameters)
    if (!frozen && glob_covers(glob, p.name)) p.parameter->require_free();
  for (const auto& p : parameters) {
    names.push_back(p.name);
    if (!glob_covers(glob, p.name)) continue;
    p.parameter->set_frozen(frozen);
    changed.insert(p.parameter->value().identity());
    ++matched;
  }
  bool any_module = false;
  for (const auto& module : nn::named_modules(net)) {
    if (module.name.empty()) continue;
    names.push_back(module.name);
    if (!glob_covers(glob, module.name)) continue;
    module.module->set_frozen_flag(frozen);
    any_module = true;
  }
  require<UsageError>(matched > 0 || any_module, frozen ? "freeze" : "unfreeze", ": nothing matches \"", glob, "\". ",
                      nn::nearest_names(glob, names));
  settle(net, changed);
  return matched;
}

}  // namespace detail

TL_INLINE int64_t freeze(nn::Module& net, std::string_view glob) { return detail::set_frozen_by_glob(net, glob, true); }

TL_INLINE int64_t unfreeze(nn::Module& net, std::string_view glob) {
  return detail::set_frozen_by_glob(net, glob, false);
}

TL_INLINE void freeze_all_but(nn::Module& net, std::string_view glob) {
  net.set_frozen(true);
  net.set_frozen_flag(false);
  unfreeze(net, glob);
}

TL_INLINE int64_t freeze_batch_norms(nn::Module& net) {
  int64_t count = 0;
  for (const auto& module : nn::named_modules(net)) {
    if (!dynamic_cast<nn::BatchNorm2d*>(module.module)) continue;
    module.module->set_frozen(true);
    ++count;
  }
  return count;
}

TL_INLINE int64_t unfreeze_norms(nn::Module& net) {
  int64_t count = 0;
  for (const auto& module : nn::named_modules(net)) {
    const bool has_statistics = dynamic_cast<nn::BatchNorm2d*>(module.module) != nullptr;
    if (!has_statistics && !dynamic_cast<nn::LayerNorm*>(module.module)) continue;
    for (const nn::Member& member : module.module->members())
      if (member.parameter) member.parameter->set_frozen(false), ++count;
    module.module->set_frozen_flag(has_statistics);
  }
  require<UsageError>(count > 0, "unfreeze_norms: ", net.describe(), " has no norm");
  return count;
}

TL_INLINE int64_t unfreeze_biases(nn::Module& net) {
  int64_t count = 0;
  for (const auto& module : nn::named_modules(net))
    for (const nn::Member& member : module.module->members()) {
      if (!member.parameter || member.name != "bias") continue;
      member.parameter->set_frozen(false), ++count;
      module.module->set_frozen_flag(dynamic_cast<nn::BatchNorm2d*>(module.module) != nullptr);
    }
  require<UsageError>(count > 0, "unfreeze_biases: ", net.describe(), " has no bias");
  return count;
}

TL_INLINE std::vector<std::string> frozen_names(nn::Module& net) {
  std::vector<std::string> out;
  for (const auto& p : nn::named_parameters_with_aliases(net))
    if (p.parameter->frozen()) out.push_back(p.name);
  for (const auto& module : nn::named_modules(net))
    if (module.module->frozen()) out.push_back(module.name + ":");
  return out;
}

TL_INLINE void set_frozen_names(nn::Module& net, const std::vector<std::string>& names) {
  const auto parameters = nn::named_parameters_with_aliases(net);
  const auto modules = nn::named_modules(net);
  std::set<std::string> known;
  for (const auto& p : parameters) known.insert(p.name);
  for (const auto& module : modules) known.insert(module.name + ":");
  for (const auto& name : names)
    require<StateDictError>(known.count(name) > 0, "frozen: the network has no \"", name, "\"");

  const std::set<std::string> frozen(names.begin(), names.end());
  for (const auto& p : parameters) p.parameter->set_frozen(frozen.count(p.name) > 0);
  for (const auto& module : modules) module.module->set_frozen_flag(frozen.count(module.name + ":") > 0);
}

}  // namespace tl::inline TL_ABI
