// Modules: parameters and layers by name.
//
//     struct BasicBlock : nn::Module {
//       nn::Conv2d conv1, conv2;  nn::BatchNorm2d bn1, bn2;
//       TL_MEMBERS(conv1, bn1, conv2, bn2)
//       Tensor forward(const Tensor& x) override { ... }
//     };
//
// The one list gives parameter names ("conv1.weight"), saving and loading, devices, freezing and printing.
#pragma once
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "tl/autograd/node.hpp"
#include "tl/core/function_ref.hpp"
#include "tl/tensor/tensor.hpp"

namespace tl::inline TL_ABI {
namespace nn {

/// How a parameter's dimensions lie in weight files, which keep PyTorch's order.
enum class FileLayout {
  same,
  oihw,  ///< in memory [O, H, W, I], in files [O, I, H, W]
};

/// A tensor that training changes. Frozen, it has no gradient, no optimizer state and no weight decay.
class Parameter {
 public:
  Parameter() = default;
  explicit Parameter(Tensor value, FileLayout layout = FileLayout::same) : value_(std::move(value)), layout_(layout) {
    value_.set_requires_grad(true);
    tl::detail::Configuration::changed();  // it may take the place of another one
  }

  bool defined() const { return value_.defined(); }
  const Tensor& value() const { return value_; }
  Tensor& value() { return value_; }
  operator const Tensor&() const { return value_; }  // so that ops take parameters
  FileLayout layout() const { return layout_; }

  bool frozen() const { return value_.defined() && !value_.requires_grad(); }
  /// Freezing drops the gradient at once. Errors: UsageError for unfreezing what is held.
  void set_frozen(bool frozen) {
    if (!frozen) require_free();
    value_.set_requires_grad(!frozen);
    if (frozen) value_.zero_grad();
  }

  /// Freezes it, and makes unfreezing an error that ends with `why`; null lets go, and leaves it frozen.
  void hold_frozen(const char* why) {
    if (why) set_frozen(true);
    held_ = why;
  }

  /// Errors: UsageError while it is held.
  void require_free() const {
    if (held_) fail<UsageError>("unfreeze: a weight ", value_.shape(), " ", held_);
  }

  /// Makes this the same tensor as `other`: one value, one gradient, two names.
  void tie(const Parameter& other) {
    value_ = other.value_;
    tl::detail::Configuration::changed();
  }

 private:
  Tensor value_;
  FileLayout layout_ = FileLayout::same;
  const char* held_ = nullptr;
};

/// A tensor that belongs to a module's state but is not trained, such as a running mean.
class Buffer {
 public:
  Buffer() = default;
  explicit Buffer(Tensor value) : value_(std::move(value)) {}
  bool defined() const { return value_.defined(); }
  const Tensor& value() const { return value_; }
  Tensor& value() { return value_; }
  operator const Tensor&() const { return value_; }

 private:
  Tensor value_;
};

class Module;
class Adapter;
namespace detail {
class RecomputedNode;
}

/// Called with each module's result while it is set: features at any layer, a search for the first NaN.
using Observer = FunctionRef<void(Module&, const Tensor&)>;

/// While it lives, results of modules in this thread are shown to `observer`, in the order in which they are computed.
class Observe {
 public:
  explicit Observe(Observer observer) : observer_(observer), before_(std::exchange(current(), &observer_)) {}
  ~Observe() { current() = before_; }
  Observe(const Observe&) = delete;
  Observe& operator=(const Observe&) = delete;

  static const Observer*& current() {
    static thread_local const Observer* observer = nullptr;
    return observer;
  }

 private:
  Observer observer_;
  const Observer* before_;
};

/// Shows a result to the observer, if there is one. For modules that compute for others, as conv_bn does.
inline void observed(Module& module, const Tensor& result) {
  if (const Observer* observer = Observe::current()) (*observer)(module, result);
}

/// One entry of a module's list; one of the pointers is set.
struct Member {
  std::string name;
  Module* module = nullptr;
  Parameter* parameter = nullptr;
  Buffer* buffer = nullptr;
};

/// Base of all layers and networks. Modules own their parameters and are moved, not copied.
class Module {
 public:
  Module() { tl::detail::Configuration::changed(); }  // it may become a part of a network
  Module(Module&& other) noexcept : Module() { take_flags(other); }
  Module& operator=(Module&& other) noexcept {
    take_flags(other);
    tl::detail::Configuration::changed();
    return *this;
  }
  Module(const Module&) = delete;
  Module& operator=(const Module&) = delete;
  virtual ~Module() = default;

  /// The result for a batch. Modules that take something else than one tensor offer a function of their own instead.
  TL_INLINE virtual Tensor forward(const Tensor& x);
  /// forward, changed by an adapter where there is one, recomputed if wanted, and seen by an observer: call modules
  /// this way.
  Tensor operator()(const Tensor& x);

  /// Parameters, buffers and modules by name, in order; TL_MEMBERS defines it.
  virtual std::vector<Member> members() = 0;
  /// These, and the adapter that was put on this module.
  std::vector<Member> members_and_adapter();

  /// A small module that changes what this one computes. Null where there is none.
  Adapter* adapter() const { return adapter_.get(); }
  void set_adapter(std::shared_ptr<Adapter> adapter) {
    tl::detail::Configuration::changed();
    adapter_ = std::move(adapter);
  }

  /// Name of the kind of module and its options, for printing.
  virtual std::string describe() const { return "Module"; }

  /// Whether it draws random numbers in training, as dropout does.
  virtual bool is_random() const { return false; }

  /// Switches to training (or evaluation), with everything inside. What is frozen stays in evaluation.
  void train(bool on = true);
  void eval() { train(false); }

  /// Whether to behave as in training: batch statistics, dropout. Never for a frozen module.
  bool training() const { return training_ && !frozen_; }
  /// The switch alone, without regard to freezing; of this module, not of what is inside.
  bool training_flag() const { return training_; }
  void set_training_flag(bool on) {
    if (training_ != on) tl::detail::Configuration::changed();
    training_ = on;
  }

  /// A frozen module's parameters have no gradient, its BatchNorm statistics stay and its dropout is off, also after
  /// train().
  bool frozen() const { return frozen_; }
  /// Freezes (or unfreezes) this module and everything inside.
  void set_frozen(bool frozen);
  /// Sets the flag of this module alone; freeze() derives it from the parameters.
  void set_frozen_flag(bool frozen) {
    if (frozen_ != frozen) tl::detail::Configuration::changed();
    frozen_ = frozen;
  }

  /// Whether a training step keeps of this module its input alone, and calls forward again when backward needs what is
  /// inside: less memory for the time of a second forward, and the same bits.
  ///
  /// That is so if forward computes from x, parameters, buffers, modes and the draws of dropouts alone. Statistics move
  /// once. Where nothing learns, and while nothing is recorded, a call is as any other. Modules inside of it may be
  /// recomputed, too. Observers see the first call; what they keep of the inside keeps its history.
  /// Errors in backward: UsageError if the input, weights, modes or layers changed after forward, or the module is
  /// gone. Paper: Chen et al., "Training deep nets with sublinear memory cost", 2016. PyTorch: torch.utils.checkpoint,
  /// which moves the statistics of BatchNorm twice.
  bool recomputed() const { return recomputed_ != nullptr; }
  /// Of this module alone; see also recompute_blocks.
  void set_recomputed(bool on) {
    if (recomputed() != on) tl::detail::Configuration::changed();
    recomputed_ = on ? std::shared_ptr<Module>(this, [](Module*) {}) : nullptr;
  }

  /// Moves all parameters and buffers; gradients are dropped.
  void to(Device device);
  /// Converts floating parameters and buffers, for example to f64 for checking.
  void to(DType dtype);

  void zero_grad();

 private:
  friend class ModeScope;
  friend class detail::RecomputedNode;

  void take_flags(const Module& other) {
    training_ = other.training_, frozen_ = other.frozen_;
    set_recomputed(other.recomputed());
  }
  /// forward, and what an adapter makes of it.
  Tensor run(const Tensor& x);

  bool training_ = true;
  bool frozen_ = false;
  std::shared_ptr<Module> recomputed_;  // this, for backward to see whether it still is; null: not recomputed
  std::shared_ptr<Adapter> adapter_;
};

/// What of its host an adapter changes.
enum class AdapterPlace {
  weight,  ///< the host computes with weight(own), so that its fused kernels run as ever
  result,  ///< a result y for x becomes result(x, y)
};

/// A module on a host, a layer or a block, under the name of its kind: "layer1.0.conv1.lora.a" is a parameter like any
/// other, in the host's stage and group, frozen and saved by name. transfer/adapters.hpp has the kinds and puts them
/// on.
class Adapter : public Module {
 public:
  /// Name of the kind.
  virtual std::string kind() const = 0;
  virtual AdapterPlace place() const = 0;

  /// The weight in place of the host's own; differentiable in the adapter's parameters.
  virtual Tensor weight(const Tensor& own) { return own; }
  /// The result in place of the host's own y for x.
  virtual Tensor result(const Tensor& /*x*/, const Tensor& y) { return y; }

  /// A host's weight and bias.
  struct Weights {
    Tensor weight, bias;
  };
  /// The host's weights with the adapter in them; one that does not change is undefined. Without a weight: no weight
  /// can hold the adapter.
  virtual Weights merge(const Tensor& /*weight*/, const Tensor& /*bias*/) { return {}; }

  /// Merged, it acts no more: the host's weights hold it, and `base` has those that changed, as they were.
  bool merged() const { return base.weight.defined(); }
  Weights base;

  /// Whether something of it wants a gradient now.
  bool learns();
};

/// The adapter that acts on this place of a module, or null.
/// Errors: UsageError for a training step while it is merged.
Adapter* acting_adapter(const Module& host, AdapterPlace place);

/// While it lives, a network is in training or evaluation; afterwards each module is in the mode it had before.
class ModeScope {
 public:
  ModeScope(Module& net, bool training);
  ~ModeScope();
  ModeScope(const ModeScope&) = delete;
  ModeScope& operator=(const ModeScope&) = delete;

 private:
  std::vector<std::pair<Module*, bool>> before_;
  std::optional<tl::detail::Configuration::Change> change_;  // if a module was in another mode
};

struct NamedParameter {
  std::string name;
  Parameter* parameter;
};
struct NamedBuffer {
  std::string name;
  Buffer* buffer;
};
struct NamedModule {
  std::string name;  ///< "" for the root
  Module* module;
};

/// All defined parameters, in order. A tied one is listed once, under its first name.
std::vector<NamedParameter> named_parameters(Module& root);
/// All defined parameters with every name of a tied one.
std::vector<NamedParameter> named_parameters_with_aliases(Module& root);
std::vector<NamedBuffer> named_buffers(Module& root);
/// The module itself and all inside, parents first.
std::vector<NamedModule> named_modules(Module& root);

/// Number of parameter elements; with trainable_only those that are not frozen.
int64_t parameter_count(Module& root, bool trainable_only = false);

/// The parameters that match a glob (see core/glob.hpp), by their own name or that of a module around them.
/// Errors: UsageError if nothing matches, with the nearest names.
std::vector<NamedParameter> select_parameters(Module& root, std::string_view glob);

/// The module with this name. Errors: UsageError with the nearest names.
Module& find_module(Module& root, std::string_view name);

/// The network as an indented list, with shapes, counts and what is frozen.
std::string to_string(Module& root);

/// The names closest to a wrong one, for hints: "nearest: layer1.0.conv1, ...".
std::string nearest_names(std::string_view wrong, const std::vector<std::string>& names, size_t count = 3);

namespace detail {

/// The module's result for x, with a history that knows x and the module alone.
Tensor recomputed(Module& module, const Tensor& x);

inline void add_member(std::vector<Member>& out, std::string name, Module& module) {
  out.push_back({std::move(name), &module, nullptr, nullptr});
}
inline void add_member(std::vector<Member>& out, std::string name, Parameter& parameter) {
  if (parameter.defined()) out.push_back({std::move(name), nullptr, &parameter, nullptr});
}
inline void add_member(std::vector<Member>& out, std::string name, Buffer& buffer) {
  if (buffer.defined()) out.push_back({std::move(name), nullptr, nullptr, &buffer});
}
template <class M>
void add_member(std::vector<Member>& out, std::string name, const std::unique_ptr<M>& module) {
  if (module) add_member(out, std::move(name), *module);
}

/// Takes the next name off a list such as "conv1, bn1".
inline std::string next_name(std::string_view& names) {
  const size_t comma = names.find(',');
  std::string_view name = names.substr(0, comma);
  names = comma == std::string_view::npos ? std::string_view() : names.substr(comma + 1);
  while (!name.empty() && name.front() == ' ') name.remove_prefix(1);
  while (!name.empty() && (name.back() == ' ' || name.back() == '_')) name.remove_suffix(1);
  return std::string(name);
}

template <class... Members>
std::vector<Member> list_members(std::string_view names, Members&... members) {
  std::vector<Member> out;
  out.reserve(sizeof...(members));
  (add_member(out, next_name(names), members), ...);
  return out;
}

}  // namespace detail
}  // namespace nn

/// Lists a module's members; their identifiers become the names in weight files.
#define TL_MEMBERS(...) \
  std::vector<::tl::nn::Member> members() override { return ::tl::nn::detail::list_members(#__VA_ARGS__, __VA_ARGS__); }

}  // namespace tl::inline TL_ABI

#if TL_HEADER_ONLY
#include "tl/nn/module.inl"
#endif
