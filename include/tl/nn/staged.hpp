// Networks that are a chain of stages, which can be cut between any two of them.
#pragma once
#include <string>
#include <vector>

#include "tl/nn/module.hpp"

namespace tl::inline TL_ABI {
namespace nn {

/// A network whose stages follow one another: the result of each is all that the next one sees. So the lower part can
/// run alone, its results be kept, and the upper part go on from them.
class Staged : public Module {
 public:
  /// Globs over parameter names, stage by stage from the input to the head: the order for layer-wise rates and for
  /// unfreezing. Every parameter is in exactly one stage; a layer without parameters whose name no glob covers, such as
  /// a dropout, belongs to the stage of the layer that is listed next.
  virtual std::vector<std::vector<std::string>> stages() const = 0;

  virtual size_t stage_count() const { return stages().size(); }

  /// The result of one stage; x is that of the stage below, or the network's input.
  virtual Tensor run_stage(size_t stage, const Tensor& x) = 0;

  /// Stages first ... last - 1.
  Tensor run_stages(const Tensor& x, size_t first, size_t last) {
    Tensor y = x;
    for (size_t stage = first; stage < last; ++stage) y = run_stage(stage, y);
    return y;
  }

  Tensor forward(const Tensor& x) override { return run_stages(x, 0, stage_count()); }
};

/// The modules of each stage by name, in order, with what is inside of them.
/// Errors: UsageError if a parameter is in no stage.
std::vector<std::vector<NamedModule>> modules_by_stage(Staged& net);

/// Has the blocks of a network recomputed (see Module::recomputed), but the last, whose turn in backward comes at once.
/// A block is a module with layers inside of it in a chain, such as a ModuleList or Sequential. Returns their number.
/// Errors: UsageError for a network of fewer than two blocks.
int64_t recompute_blocks(Module& net, bool on = true);

}  // namespace nn
}  // namespace tl::inline TL_ABI

#if TL_HEADER_ONLY
#include "tl/nn/staged.inl"
#endif
