// Optimizers: a walk over the groups, with the update rule as the part that differs.
#pragma once
#include <map>
#include <string>
#include <vector>

#include "tl/core/function_ref.hpp"
#include "tl/optim/param_group.hpp"

namespace tl::inline TL_ABI {
namespace optim {

struct NamedState {
  std::string name;
  Tensor tensor;
};

/// What a loaded state fitted.
struct StateReport {
  std::vector<std::string> restored;  ///< parameters that go on with their moments
  std::vector<std::string> fresh;     ///< trainable here, not in the file: they start at step 0
  std::vector<std::string> removed;   ///< in the file, frozen or gone here: left aside
};

/// Base of all optimizers. State (momentum and the like) is made when a parameter is first stepped, belongs to the
/// parameter's name, and is dropped as soon as the parameter is frozen.
class Optimizer {
 public:
  explicit Optimizer(std::vector<ParamGroup> groups);
  virtual ~Optimizer() = default;

  /// Updates every parameter that is not frozen and has a gradient; `factor` comes from a schedule and multiplies the
  /// rate of every group. Gradients are kept: call zero_grad.
  void step(double factor = 1);
  /// The same with each group's own schedule, or `common` where a group has none, at step `index` (from 0).
  void step(const Schedule& common, int64_t index);

  /// Drops all gradients.
  void zero_grad();

  /// Adds parameters during training, with a rate of their own. Errors: UsageError if one is in a group already.
  void add_group(ParamGroup group);

  std::vector<ParamGroup>& groups() { return groups_; }

  /// State as tensors named "<parameter>:<slot>", and "<parameter>:step" (i64).
  std::vector<NamedState> state();

  /// Takes over a state by parameter name; step counts and moments come back bit for bit. Moments of another optimizer
  /// or shape are an error (StateDictError), after which the state is as it was.
  StateReport load_state(const std::vector<NamedState>& state);

  /// Bytes of state.
  int64_t state_bytes() const;

 protected:
  struct Slots {
    Tensor owner = {};  ///< the parameter's tensor; another one under its name (a new head) begins anew
    int64_t step = 0;
    std::vector<Tensor> tensors = {};
  };

  /// Names of the tensors that the rule keeps for each parameter.
  virtual std::vector<std::string> slot_names() const = 0;
  /// What a group's parameters are updated with.
  struct Update {
    double rate, weight_decay;
    double momentum;  ///< multiplies the optimizer's own
  };
  virtual void update(Tensor& weight, const Tensor& grad, Slots& slots, const Update& with) const = 0;

 private:
  void drop_frozen();
  void step_each(FunctionRef<double(const ParamGroup&)> factor);

  std::vector<ParamGroup> groups_;
  std::map<std::string, Slots> slots_;
};

struct SgdOptions {
  double momentum = 0;
  bool nesterov = false;
};

/// Stochastic gradient descent:
///   g += weight_decay w;  v = momentum v + g (v = g at first);  w -= rate v, or with Nesterov w -= rate (g + momentum
///   v)
/// Paper: Sutskever et al., 2013. PyTorch: torch.optim.SGD, to the rounding.
class Sgd : public Optimizer {
 public:
  explicit Sgd(std::vector<ParamGroup> groups, const SgdOptions& options = {});

 protected:
  TL_INLINE std::vector<std::string> slot_names() const override;
  TL_INLINE void update(Tensor& weight, const Tensor& grad, Slots& slots, const Update& with) const override;

 private:
  SgdOptions options_;
};

struct AdamOptions {
  double beta1 = 0.9, beta2 = 0.999, eps = 1e-8;
};

/// Adam with weight decay in the gradient. Paper: Kingma and Ba, 2015. PyTorch: torch.optim.Adam.
class Adam : public Optimizer {
 public:
  explicit Adam(std::vector<ParamGroup> groups, const AdamOptions& options = {});

 protected:
  Adam(std::vector<ParamGroup> groups, const AdamOptions& options, bool decoupled);
  std::vector<std::string> slot_names() const override { return {"first_moment", "second_moment"}; }
  TL_INLINE void update(Tensor& weight, const Tensor& grad, Slots& slots, const Update& with) const override;

 private:
  AdamOptions options_;
  bool decoupled_;
};

/// Adam with decoupled weight decay. Paper: Loshchilov and Hutter, 2019. PyTorch: torch.optim.AdamW.
class AdamW : public Adam {
 public:
  explicit AdamW(std::vector<ParamGroup> groups, const AdamOptions& options = {})
      : Adam(std::move(groups), options, true) {}
};

enum class GradNorm {
  l2,   ///< square root of the sum of squares
  max,  ///< largest magnitude
};

/// Scales all gradients so that their common norm is at most max_norm; returns the norm before. Frozen parameters and
/// parameters without a gradient do not count. PyTorch: torch.nn.utils.clip_grad_norm_.
double clip_grad_norm(const std::vector<ParamGroup>& groups, double max_norm, GradNorm kind = GradNorm::l2);

/// Limits each element of the gradients to [-limit, limit].
void clip_grad_value(const std::vector<ParamGroup>& groups, double limit);

}  // namespace optim
}  // namespace tl::inline TL_ABI

#if TL_HEADER_ONLY
#include "tl/optim/optimizer.inl"
#endif
