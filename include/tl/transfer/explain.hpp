// What each stage of a network costs in training, and what freezing saves.
#pragma once
#include <string>
#include <vector>

#include "tl/nn/staged.hpp"
#include "tl/optim/param_group.hpp"

namespace tl::inline TL_ABI {

struct StageCost {
  std::string name = {};  ///< the stage's globs
  int64_t parameters = 0, trainable = 0;
  std::string state = {};  ///< "frozen", "trains", or what is alive although its parameters are frozen
  double rate = 0;         ///< the highest of the trainable parameters that are in a group; 0: none is
  int64_t kept_bytes = 0;  ///< held from the forward to the backward pass
  double forward_ms = 0, backward_ms = 0;
};

struct Explanation {
  std::vector<StageCost> stages = {};  ///< input to head
  Shape input = {};
  StageCost total() const;
};

/// Runs a training step's forward and backward pass over the batch x, stage by stage, and measures each: the least of
/// `repeats` times. Nothing of the network, its gradients or the random numbers changes.
/// groups: what an optimizer was made with, for the rates.
Explanation explain(nn::Staged& net, const Tensor& x, const std::vector<optim::ParamGroup>& groups = {},
                    int repeats = 3);

/// The table, at most 100 columns wide, with a line for each stage and one for all.
std::string to_string(const Explanation& explanation);

}  // namespace tl::inline TL_ABI

#if TL_HEADER_ONLY
#include "tl/transfer/explain.inl"
#endif
