// Parameters in groups, each with its own rate and weight decay.
#pragma once
#include <string>
#include <vector>

#include "tl/nn/module.hpp"
#include "tl/optim/schedule.hpp"

namespace tl::inline TL_ABI {
namespace optim {

/// Which parameters (globs over names, see core/glob.hpp), and how they learn.
struct GroupSpec {
  std::vector<std::string> globs;
  double rate;
  double weight_decay = 0;
  double momentum = 1;     ///< multiplies the optimizer's momentum (Adam: beta1)
  Schedule schedule = {};  ///< of this group alone; empty: the run's
};

/// Parameters that learn alike. Frozen ones may be among them: they are passed over until they are unfrozen.
struct ParamGroup {
  std::string name;
  std::vector<nn::NamedParameter> parameters;
  double rate;  ///< the group's own, before the schedule's factor
  double weight_decay;
  double momentum = 1;     ///< multiplies the optimizer's
  Schedule schedule = {};  ///< of this group alone; empty: the run's

  /// The schedule's factor at a step; `common` is the run's schedule.
  double factor(const Schedule& common, int64_t step) const { return schedule ? schedule(step) : common(step); }
};

/// Puts each parameter of the network into the first group one of whose globs matches it, frozen ones included.
/// Errors: UsageError for a glob that matches nothing, and for parameters that no glob matches, by name.
std::vector<ParamGroup> param_groups(nn::Module& net, const std::vector<GroupSpec>& specs);

/// One group of all parameters.
std::vector<ParamGroup> param_groups(nn::Module& net, double rate, double weight_decay = 0);

/// Layer-wise rate decay: the last stage learns with `rate`, each stage before it with `decay` times the one after.
/// stages: globs from the input to the head, as ImageClassifier::stages() gives them.
/// timm: layer_decay.
std::vector<ParamGroup> layerwise_groups(nn::Module& net, const std::vector<std::vector<std::string>>& stages,
                                         double rate, double decay, double weight_decay = 0);

/// Discriminative rates: the first stage learns with `lowest`, the head with `highest`, the others with rates in
/// between at equal ratios. Paper: Howard and Ruder, ULMFiT, 2018. fastai: slice(lowest, highest).
/// Errors: UsageError unless 0 < lowest <= highest.
std::vector<ParamGroup> discriminative_groups(nn::Module& net, const std::vector<std::vector<std::string>>& stages,
                                              double lowest, double highest, double weight_decay = 0);

/// Splits each group in two: weights keep their decay, and biases and norms (all parameters of one dimension) lose it.
std::vector<ParamGroup> without_decay_on_vectors(const std::vector<ParamGroup>& groups);

}  // namespace optim
}  // namespace tl::inline TL_ABI

#if TL_HEADER_ONLY
#include "tl/optim/param_group.inl"
#endif
