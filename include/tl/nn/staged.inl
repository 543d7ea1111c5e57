// Definitions of nn/staged.hpp.
#pragma once
#include <algorithm>
#include <utility>

#include "tl/core/glob.hpp"
#include "tl/nn/staged.hpp"

namespace tl::inline TL_ABI {
namespace nn {
namespace detail {

/// Appends the blocks inside of a module, in order.
TL_INLINE void find_blocks(Module& module, std::vector<Module*>& blocks) {
  const bool is_chain = dynamic_cast<Staged*>(&module) != nullptr;
  for (const Member& member : module.members()) {
    if (!member.module) continue;
    const auto parts = member.module->members();
    const bool has_layers = std::any_of(parts.begin(), parts.end(), [](const Member& part) { return part.module; });
    const bool goes_on = dynamic_cast<Staged*>(member.module) != nullptr;
    if (is_chain && has_layers && !goes_on) blocks.push_back(member.module);
    else find_blocks(*member.module, blocks);
  }
}

}  // namespace detail

TL_INLINE int64_t recompute_blocks(Module& net, bool on) {
  std::vector<Module*> blocks;
  detail::find_blocks(net, blocks);
  require<UsageError>(blocks.size() >= 2, "recompute_blocks: ", net.describe(), " has ", blocks.size(),
                      " blocks. Hint: set_recomputed(true) on modules inside of it that keep much.");
  blocks.pop_back();
  for (Module* block : blocks) block->set_recomputed(on);
  return std::ssize(blocks);
}

TL_INLINE std::vector<std::vector<NamedModule>> modules_by_stage(Staged& net) {
  const auto stages = net.stages();
  const auto stage_of = [&](std::string_view name) {
    const auto covers = [&](const auto& globs) {
      return std::any_of(globs.begin(), globs.end(), [&](const auto& glob) { return glob_covers(glob, name); });
    };
    return static_cast<size_t>(std::find_if(stages.begin(), stages.end(), covers) - stages.begin());
  };
  std::vector<std::vector<NamedModule>> out(stages.size());
  std::vector<NamedModule> waiting;  // for a stage to be named
  for (NamedModule& module : named_modules(net)) {
    size_t stage = stage_of(module.name);
    for (const Member& member : module.module->members()) {
      if (!member.parameter) continue;
      const std::string name = module.name.empty() ? member.name : module.name + "." + member.name;
      stage = stage_of(name);
      require<UsageError>(stage < stages.size(), "stages: the parameter \"", name, "\" is in none of ", net.describe(),
                          "'s");
    }
    waiting.push_back(std::move(module));
    if (stage == stages.size()) continue;
    out[stage].insert(out[stage].end(), waiting.begin(), waiting.end());
    waiting.clear();
  }
  if (!out.empty()) out.back().insert(out.back().end(), waiting.begin(), waiting.end());
  return out;
}

}  // namespace nn
}  // namespace tl::inline TL_ABI
