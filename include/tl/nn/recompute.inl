// Modules that are computed again in backward: definitions of nn/module.hpp.
#pragma once
#include <memory>
#include <optional>
#include <utility>

#include "tl/autograd/function.hpp"
#include "tl/core/hash.hpp"
#include "tl/core/precision.hpp"
#include "tl/nn/module.hpp"
#include "tl/ops/dropout.hpp"

namespace tl::inline TL_ABI {
namespace nn {
namespace detail {

inline std::shared_ptr<Node> node_of(const Tensor& tensor) {
  return tensor.autograd() ? tensor.autograd()->node : nullptr;
}

/// What forward of a module depends on beside its input.
struct Dependence {
  Hash fixed;                   ///< modes, and versions of all that stays as it is during a step
  std::vector<Buffer*> moving;  ///< statistics that training moves

  explicit Dependence(Module& module) { add(module); }

 private:
  void add(Module& module) {
    fixed.add(module.training());
    for (Member& member : module.members_and_adapter()) {
      if (member.module) add(*member.module);
      else if (member.parameter) fixed.add(member.parameter->value().storage()->version());
      else if (module.training()) moving.push_back(member.buffer);
      else fixed.add(member.buffer->value().storage()->version());
    }
  }
};

/// While it lives, buffers have other tensors, and this thread records for gradients and shows nothing to observers.
class SecondRun {
 public:
  SecondRun(std::vector<Buffer*> buffers, std::vector<Tensor> values, bool observed)
      : buffers_(std::move(buffers)),
        values_(std::move(values)),
        recording_(std::exchange(NoGrad::enabled(), true)),
        observer_(std::exchange(Observe::current(), observed ? &nobody() : nullptr)) {
    swap();
  }
  ~SecondRun() {
    swap();
    NoGrad::enabled() = recording_;
    Observe::current() = observer_;
  }
  SecondRun(const SecondRun&) = delete;
  SecondRun& operator=(const SecondRun&) = delete;

 private:
  void swap() {
    for (size_t i = 0; i < buffers_.size(); ++i) std::swap(buffers_[i]->value(), values_[i]);
  }
  /// Under an observer other kernels run.
  static const Observer& nobody() {
    static constexpr auto kLookAway = [](Module&, const Tensor&) {};
    static const Observer observer(kLookAway);
    return observer;
  }

  std::vector<Buffer*> buffers_;
  std::vector<Tensor> values_;
  bool recording_;
  const Observer* observer_;
};

/// Stands for all nodes of a module; in backward it makes them by a second run from the same input.
class RecomputedNode final : public Node {
 public:
  RecomputedNode(Module& module, const Tensor& x) : Node("recompute", {tl::detail::edge_to(x)}) {
    const Dependence dependence(module);
    Before before{.module = module.recomputed_,
                  .x = {},
                  .y = {},
                  .fixed = dependence.fixed.value(),
                  .moving = {},
                  .draws = {},
                  .precision = precision(),
                  .observed = Observe::current() != nullptr};
    before.x.keep(x);
    for (const Buffer* buffer : dependence.moving) before.moving.push_back(buffer->value().clone());
    before_ = std::move(before);
  }

  /// As module(x), with the history of that.
  Tensor first_run(Module& module, const Tensor& x) {
    const tl::detail::DrawScope draws(before_->draws, tl::detail::DrawScope::Use::note);
    Tensor y = module.run(x);
    before_->y = y.shape();
    return y;
  }

  std::shared_ptr<Node> replacement() override {
    require<UsageError>(before_.has_value(), "backward: the graph behind ", name(),
                        " was freed by an earlier backward pass. Hint: run forward again, or add the losses first.");
    Before before = *std::exchange(before_, std::nullopt);
    const std::shared_ptr<Module> module = before.module.lock();
    require<UsageError>(module != nullptr,
                        "recompute: the module is gone that backward has to run again. Hint: keep the network.");
    Dependence now(*module);
    require<UsageError>(now.fixed.value() == before.fixed && now.moving.size() == before.moving.size(),
                        "recompute: weights, modes or layers of ", module->describe(),
                        " changed between forward and backward, which runs it again. Hint: call backward first.");
    const PrecisionScope in_precision(before.precision);
    const SecondRun scope(std::move(now.moving), std::move(before.moving), before.observed);
    const tl::detail::DrawScope draws(before.draws, tl::detail::DrawScope::Use::repeat);
    const Tensor y = module->run(input(before.x.get(name())));
    require<UsageError>(y.shape() == before.y && draws.used_up(), "recompute: ", module->describe(),
                        " does not repeat itself: it gave ", before.y, " in forward and ", y.shape(),
                        " in backward, or drew less often. Hint: its forward must depend on its input alone.");
    return node_of(y);
  }

  /// Without a replacement: all that learnt was frozen since forward.
  Gradients backward(const Tensor&) override { return Gradients(1); }

 private:
  struct Before {
    std::weak_ptr<Module> module;
    Kept x;
    Shape y;
    uint64_t fixed;
    std::vector<Tensor> moving, draws;
    Precision precision;
    bool observed;
  };

  /// x with the history that it had.
  Tensor input(const Tensor& kept) {
    Tensor x = kept.detach();
    Edge edge = std::exchange(inputs()[0], Edge{});
    if (edge.node) edge.leaf = std::make_shared<AutogradMeta>(AutogradMeta{true, Tensor(), std::move(edge.node)});
    if (edge.leaf) x.set_autograd(std::move(edge.leaf));
    return x;
  }

  std::optional<Before> before_;
};

TL_INLINE Tensor recomputed(Module& module, const Tensor& x) {
  auto node = std::make_shared<RecomputedNode>(module, x);
  Tensor y = node->first_run(module, x);
  if (!node_of(y) || node_of(y) == node_of(x)) return y;  // nothing learns, or nothing was done
  Tensor out = y.detach();
  out.set_autograd(std::make_shared<AutogradMeta>(AutogradMeta{true, Tensor(), std::move(node)}));
  return out;
}

}  // namespace detail
}  // namespace nn
}  // namespace tl::inline TL_ABI
