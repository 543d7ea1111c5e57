// Parameters in groups, each with its own rate and weight decay.
#pragma once
#include <string>
#include <vector>

#include "tl/nn/module.hpp"

namespace tl::inline TL_ABI {
namespace optim {

/// Which parameters (globs over names, see core/glob.hpp), and how they learn.
struct GroupSpec {
  std::vector<std::string> globs;
  double rate;
  double weight_decay = 0;
};

/// Parameters that learn alike. Frozen ones may be among them: they are passed over until they are unfrozen.
struct ParamGroup {
  std::string name;
  std::vector<nn::NamedParameter> parameters;
  double rate;  ///< the group's own, before the schedule's factor
  double weight_decay;
};

/// Puts each parameter of the network into the first group one of whose globs matches it, frozen ones included.
/// Errors: UsageError for a glob that matches nothing, and for parameters that no glob matches, by name.
std::vector<ParamGroup> param_groups(nn::Module& net, const std::vector<GroupSpec>& specs);

/// One group of all parameters.
std::vector<ParamGroup> param_groups(nn::Module& net, double rate, double weight_decay = 0);

/// Layer-wise rate decay: the last stage learns with `rate`, each stage before it with `decay` times the one after.
/// stages: globs from the input to the head, as ImageClassifier::stages() gives them.
std::vector<ParamGroup> layerwise_groups(nn::Module& net, const std::vector<std::vector<std::string>>& stages,
                                         double rate, double decay, double weight_decay = 0);

/// Splits each group in two: weights keep their decay, and biases and norms (all parameters of one dimension) lose it.
std::vector<ParamGroup> without_decay_on_vectors(const std::vector<ParamGroup>& groups);

}  // namespace optim
}  // namespace tl::inline TL_ABI

#if TL_HEADER_ONLY
#include "tl/optim/param_group.inl"
#endif
