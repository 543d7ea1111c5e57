// How an operation takes part in autograd.
//
//     struct Square {                                   // an operation is a struct: options and what it keeps
//       static constexpr std::string_view kName = "square";
//       Kept x;
//       Tensor forward(const Needs& needs, const Tensor& input) {
//         if (needs.any()) x.keep(input);
//         ...
//       }
//       Gradients backward(const Needs& needs, const Tensor& grad_y) { ... return {grad_x}; }
//     };
//     Tensor square(const Tensor& x) { return apply(Square{}, x); }
#pragma once
#include <concepts>
#include <optional>
#include <span>
#include <string_view>

#include "tl/autograd/node.hpp"

namespace tl::inline TL_ABI {

/// Which inputs of an operation want a gradient: what none of them needs is neither computed nor kept.
class Needs {
 public:
  Needs() = default;
  explicit Needs(std::vector<bool> wanted) : wanted_(std::move(wanted)) {
    for (const bool one : wanted_) any_ = any_ || one;
  }
  bool operator[](size_t input) const { return wanted_[input]; }
  bool any() const { return any_; }

 private:
  std::vector<bool> wanted_;
  bool any_ = false;
};

template <class Op>
concept Operation = requires(Op op, const Needs& needs, const Tensor& grad_y) {
  { Op::kName } -> std::convertible_to<std::string_view>;
  { op.backward(needs, grad_y) } -> std::same_as<Gradients>;
};

namespace detail {

template <Operation Op>
class OperationNode final : public Node {
 public:
  OperationNode(Op op, Needs needs, std::vector<Edge> inputs)
      : Node(Op::kName, std::move(inputs)), op_(std::move(op)), needs_(std::move(needs)) {}

  Gradients backward(const Tensor& grad_output) override {
    require<UsageError>(op_.has_value(), "backward: the graph behind ", name(),
                        " was freed by an earlier backward pass. Hint: run forward again, or add the losses first.");
    Gradients out = op_->backward(needs_, grad_output);
    op_.reset();
    return out;
  }

 private:
  std::optional<Op> op_;
  Needs needs_;
};

inline bool needs_gradient(const Tensor& tensor) { return tensor.defined() && tensor.requires_grad(); }

inline Edge edge_to(const Tensor& input) {
  if (!needs_gradient(input)) return {};
  const auto& meta = input.autograd();
  return meta->node ? Edge{meta->node, nullptr, input.shape()} : Edge{nullptr, meta, input.shape()};
}

template <Operation Op, class Forward>
Tensor record(Op op, std::span<const Tensor* const> inputs, Forward&& forward) {
  std::vector<bool> wanted;
  wanted.reserve(inputs.size());
  for (const Tensor* input : inputs) wanted.push_back(grad_enabled() && needs_gradient(*input));
  Needs needs(std::move(wanted));
  Tensor out = forward(op, needs);
  if (!needs.any()) return out;

  std::vector<Edge> edges;
  edges.reserve(inputs.size());
  for (const Tensor* input : inputs) edges.push_back(edge_to(*input));
  auto meta = std::make_shared<AutogradMeta>();
  meta->requires_grad = true;
  meta->node = std::make_shared<OperationNode<Op>>(std::move(op), std::move(needs), std::move(edges));
  out.set_autograd(std::move(meta));
  return out;
}

}  // namespace detail

/// Runs op.forward(needs, inputs...) and, if any input wants a gradient, records op for the backward pass.
/// forward returns a fresh tensor (an alias of an input will do, the input itself will not); an undefined input stands
/// for an argument left out.
template <Operation Op, std::same_as<Tensor>... Inputs>
Tensor apply(Op op, const Inputs&... inputs) {
  const std::array<const Tensor*, sizeof...(inputs)> list{&inputs...};
  return detail::record(std::move(op), list, [&](Op& o, const Needs& needs) { return o.forward(needs, inputs...); });
}

/// The same for an operation on any number of tensors: op.forward(needs, span of inputs).
template <Operation Op>
Tensor apply(Op op, std::span<const Tensor> inputs) {
  std::vector<const Tensor*> list;
  for (const Tensor& input : inputs) list.push_back(&input);
  return detail::record(std::move(op), list, [&](Op& o, const Needs& needs) { return o.forward(needs, inputs); });
}

}  // namespace tl::inline TL_ABI
