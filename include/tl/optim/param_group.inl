// Definitions of optim/param_group.hpp.
#pragma once
#include <cmath>
#include <set>

#include "tl/optim/param_group.hpp"

namespace tl::inline TL_ABI {
namespace optim {

TL_INLINE std::vector<ParamGroup> param_groups(nn::Module& net, const std::vector<GroupSpec>& specs) {
  std::vector<ParamGroup> groups;
  std::set<std::string> placed;
  for (const GroupSpec& spec : specs) {
    ParamGroup group{"", {}, spec.rate, spec.weight_decay, spec.momentum, spec.schedule};
    require<UsageError>(
        std::isfinite(spec.rate) && spec.rate >= 0 && std::isfinite(spec.weight_decay) && spec.weight_decay >= 0,
        "param_groups: rate and weight decay must be at least 0, got ", spec.rate, " and ", spec.weight_decay);
    require<UsageError>(std::isfinite(spec.momentum) && spec.momentum >= 0,
                        "param_groups: the factor of momentum must be at least 0, got ", spec.momentum);
    for (const std::string& glob : spec.globs) {
      group.name += (group.name.empty() ? "" : ", ") + glob;
      for (const auto& p : nn::select_parameters(net, glob))
        if (placed.insert(p.name).second) group.parameters.push_back(p);
    }
    groups.push_back(std::move(group));
  }
  std::string left;
  for (const auto& p : nn::named_parameters(net))
    if (!placed.count(p.name)) left += (left.empty() ? "" : ", ") + p.name;
  require<UsageError>(left.empty(), "param_groups: no group takes ", left,
                      ". Hint: add a last group with the glob \"**\".");
  return groups;
}

TL_INLINE std::vector<ParamGroup> param_groups(nn::Module& net, double rate, double weight_decay) {
  return param_groups(net, {{{"**"}, rate, weight_decay}});
}

TL_INLINE std::vector<ParamGroup> layerwise_groups(nn::Module& net, const std::vector<std::vector<std::string>>& stages,
                                                   double rate, double decay, double weight_decay) {
  require<UsageError>(decay > 0 && decay <= 1, "layerwise_groups: decay must be in (0, 1], got ", decay);
  std::vector<GroupSpec> specs;
  double factor = 1;
  for (size_t i = stages.size(); i-- > 0; factor *= decay) specs.push_back({stages[i], rate * factor, weight_decay});
  return param_groups(net, specs);
}

TL_INLINE std::vector<ParamGroup> discriminative_groups(nn::Module& net,
                                                        const std::vector<std::vector<std::string>>& stages,
                                                        double lowest, double highest, double weight_decay) {
  require<UsageError>(lowest > 0 && lowest <= highest, "discriminative_groups: expected 0 < lowest <= highest, got ",
                      lowest, " and ", highest);
  const double steps = static_cast<double>(std::max<size_t>(stages.size(), 2) - 1);
  return layerwise_groups(net, stages, highest, std::pow(lowest / highest, 1 / steps), weight_decay);
}

TL_INLINE std::vector<ParamGroup> without_decay_on_vectors(const std::vector<ParamGroup>& groups) {
  std::vector<ParamGroup> out;
  for (const ParamGroup& group : groups) {
    ParamGroup weights = group, vectors = group;
    weights.parameters.clear(), vectors.parameters.clear();
    vectors.name += " (vectors)";
    vectors.weight_decay = 0;
    for (const auto& p : group.parameters)
      (p.parameter->value().rank() > 1 ? weights : vectors).parameters.push_back(p);
    if (!weights.parameters.empty()) out.push_back(std::move(weights));
    if (!vectors.parameters.empty()) out.push_back(std::move(vectors));
  }
  return out;
}

}  // namespace optim
}  // namespace tl::inline TL_ABI
