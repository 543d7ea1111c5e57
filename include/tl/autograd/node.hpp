// The record of what was computed: one node per operation whose result needs a gradient.
#pragma once
#include <array>
#include <atomic>
#include <memory>
#include <string_view>
#include <utility>
#include <vector>

#include "tl/tensor/tensor.hpp"

namespace tl::inline TL_ABI {

class Node;

/// What a tensor knows of gradients: its own if it is a leaf, the node that made it if not.
struct AutogradMeta {
  bool requires_grad = false;
  Tensor grad;                 // leaves only
  std::shared_ptr<Node> node;  // null for leaves
};

/// Where the gradient of one input of a node goes: to a node, to a leaf, or nowhere.
struct Edge {
  std::shared_ptr<Node> node;
  std::shared_ptr<AutogradMeta> leaf;
  Shape shape;

  bool wanted() const { return node != nullptr || leaf != nullptr; }
};

/// Gradients of a node's inputs, in order; undefined where none is wanted.
using Gradients = std::vector<Tensor>;

class Node {
 public:
  Node(std::string_view name, std::vector<Edge> inputs)
      : name_(name), inputs_(std::move(inputs)), sequence_(next_sequence()) {}
  Node(const Node&) = delete;
  Node& operator=(const Node&) = delete;

  /// Graphs are long chains: without this loop, destroying one would recurse once for each node.
  virtual ~Node() { unlink(std::move(inputs_)); }

  /// Gradients of the inputs for the gradient of the output. What forward kept is freed: a second call is an error.
  virtual Gradients backward(const Tensor& grad_output) = 0;

  /// The node that takes this one's place in the backward pass, with its gradient; null for a node that goes backward
  /// itself. For work whose history was not kept and is now made anew: it may lead to nodes that are older than this.
  virtual std::shared_ptr<Node> replacement() { return nullptr; }

  std::string_view name() const { return name_; }
  uint64_t sequence() const { return sequence_; }
  std::vector<Edge>& inputs() { return inputs_; }

  /// Sum of the gradients that have arrived during a backward pass.
  Tensor pending;

 private:
  static uint64_t next_sequence() {
    static std::atomic<uint64_t> counter{0};
    return counter.fetch_add(1, std::memory_order_relaxed);
  }

  static void unlink(std::vector<Edge> edges) {
    while (!edges.empty()) {
      const std::shared_ptr<Node> node = std::move(edges.back().node);
      edges.pop_back();
      if (node && node.use_count() == 1)
        for (Edge& edge : std::exchange(node->inputs_, {})) edges.push_back(std::move(edge));
    }
  }

  std::string_view name_;
  std::vector<Edge> inputs_;
  uint64_t sequence_;
};

/// While it lives, operations of this thread record nothing: no gradients, nothing kept.
/// PyTorch equivalent: torch.no_grad().
class NoGrad {
 public:
  NoGrad() : before_(std::exchange(enabled(), false)) {}
  ~NoGrad() { enabled() = before_; }
  NoGrad(const NoGrad&) = delete;
  NoGrad& operator=(const NoGrad&) = delete;

  static bool& enabled() {
    static thread_local bool recording = true;
    return recording;
  }

 private:
  bool before_;
};

/// Whether operations record what their gradients need.
inline bool grad_enabled() { return NoGrad::enabled(); }

/// A tensor that forward keeps for backward. It notices if the numbers were changed in between.
class Kept {
 public:
  void keep(const Tensor& tensor) {
    alias_ = tensor.detach();  // without history: a node must not own itself through its output
    version_ = tensor.storage()->version();
  }

  const Tensor& get(std::string_view operation) const {
    require<UsageError>(alias_.storage()->version() == version_, operation,
                        ": a tensor that backward needs was changed in place after forward: ", alias_.shape(),
                        ". Hint: change a clone(), or call backward first.");
    return alias_;
  }

  explicit operator bool() const { return alias_.defined(); }

 private:
  Tensor alias_;
  uint64_t version_ = 0;
};

// ---- the parts of Tensor that concern gradients ----

inline bool Tensor::requires_grad() const { return autograd() && autograd()->requires_grad; }

inline Tensor& Tensor::set_requires_grad(bool value) {
  require<DTypeError>(!value || is_floating(dtype()), "set_requires_grad: only floating tensors have gradients, not ",
                      dtype());
  require<UsageError>(!autograd() || !autograd()->node,
                      "set_requires_grad: this tensor is the result of an operation; only leaves can be set. "
                      "Hint: detach() it first.");
  if (!autograd()) set_autograd(std::make_shared<AutogradMeta>());
  // What nobody else has seen yet is nothing that a record could know.
  if (autograd()->requires_grad != value && storage().use_count() > 1) detail::Configuration::changed();
  autograd()->requires_grad = value;
  return *this;
}

inline Tensor Tensor::grad() const { return autograd() ? autograd()->grad : Tensor(); }

inline void Tensor::set_grad(Tensor grad) {
  require<ShapeError>(!grad.defined() || grad.shape() == shape(), "set_grad: expected ", shape(), ", got ",
                      grad.defined() ? grad.shape() : Shape());
  if (!autograd()) {
    if (!grad.defined()) return;
    set_autograd(std::make_shared<AutogradMeta>());
  }
  if (auto* const recorder = detail::Recorder::current()) recorder->gradient_of(autograd(), /*replaced=*/true);
  autograd()->grad = std::move(grad);
}

}  // namespace tl::inline TL_ABI
