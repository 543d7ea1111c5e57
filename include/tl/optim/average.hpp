// The moving average of a network's weights.
#pragma once
#include <map>
#include <string>
#include <vector>

#include "tl/nn/module.hpp"
#include "tl/optim/optimizer.hpp"

namespace tl::inline TL_ABI {
namespace optim {

/// Exponential moving average of a network's state, which often generalises better than the last weights:
///   average = decay average + (1 - decay) value
/// of floating parameters and buffers; whole numbers (a counter of batches) are copied. What is frozen has no average
/// and costs nothing; what is unfrozen later begins with its value then.
/// Paper: Polyak and Juditsky, 1992. timm: ModelEmaV2.
class WeightAverage {
 public:
  /// Begins with the network's values. Errors: UsageError unless 0 <= decay < 1.
  WeightAverage(nn::Module& net, double decay);

  /// Takes in the network's present values: call it after each step.
  void update();

  /// Exchanges the averages and the network's values, to evaluate or to save; a second call undoes it.
  void swap();

  /// The averages by the network's names.
  std::vector<NamedState> state() const;
  /// Errors: StateDictError, before anything is changed, when a name or a shape is not the network's.
  void load_state(const std::vector<NamedState>& state);

 private:
  /// What is averaged: name and present value.
  std::map<std::string, Tensor> values() const;

  nn::Module& net_;
  double decay_;
  std::map<std::string, Tensor> averages_;
};

}  // namespace optim
}  // namespace tl::inline TL_ABI

#if TL_HEADER_ONLY
#include "tl/optim/average.inl"
#endif
