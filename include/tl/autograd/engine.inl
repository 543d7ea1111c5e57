// Definitions of engine.hpp.
#pragma once
#include <queue>

#include "tl/autograd/engine.hpp"

namespace tl::inline TL_ABI {
namespace detail {

/// sum += value, in place when nobody else sees `sum`.
TL_INLINE void accumulate(Tensor& sum, Tensor value) {
  if (!sum.defined()) {
    sum = std::move(value);
    return;
  }
  if (!sum.is_sole_owner()) {
    if (value.is_sole_owner()) std::swap(sum, value);
    else sum = sum.clone();
  }
  visit_activation(sum.dtype(), "backward", [&](auto type) {
    using T = typename decltype(type)::type;
    kernel::affine(
        sum.device(),
        AffineArgs<T>{
            .x = value.data<T>(), .y = sum.mutable_data<T>(), .n = sum.numel(), .alpha = 1, .beta = 1, .gamma = 0});
  });
}

}  // namespace detail

TL_INLINE void run_backward(const Tensor& root, const Tensor& grad_of_root) {
  require<UsageError>(root.requires_grad(),
                      "backward: the tensor has no history: nothing behind it wants a gradient. "
                      "Hint: are all parameters frozen, or is a NoGrad alive?");
  require<ShapeError>(grad_of_root.shape() == root.shape(), "backward: the gradient must be like the tensor, ",
                      root.shape(), "; got ", grad_of_root.shape());
  if (!root.autograd()->node) {
    if (auto* const recorder = detail::Recorder::current()) recorder->gradient_of(root.autograd(), /*replaced=*/false);
    detail::accumulate(root.autograd()->grad, grad_of_root.clone());
    return;
  }

  using NodePtr = std::shared_ptr<Node>;
  const auto made_earlier = [](const NodePtr& a, const NodePtr& b) { return a->sequence() < b->sequence(); };
  std::priority_queue<NodePtr, std::vector<NodePtr>, decltype(made_earlier)> ready(made_earlier);
  struct Cleanup {  // an error on the way must not leave half sums behind
    decltype(ready)& queue;
    ~Cleanup() {
      for (; !queue.empty(); queue.pop()) queue.top()->pending = Tensor();
    }
  } cleanup{ready};

  const auto send = [&](const NodePtr& node, Tensor gradient) {
    const bool first = !node->pending.defined();
    detail::accumulate(node->pending, std::move(gradient));
    if (first) ready.push(node);
  };

  send(root.autograd()->node, grad_of_root);
  while (!ready.empty()) {
    const NodePtr node = ready.top();
    ready.pop();
    Tensor grad_output = std::exchange(node->pending, Tensor());
    if (const NodePtr other = node->replacement()) {
      send(other, std::move(grad_output));
      continue;
    }
    Gradients gradients = node->backward(grad_output);
    grad_output = {};
    auto& edges = node->inputs();
    require<UsageError>(gradients.size() == edges.size(), node->name(), ": backward returned ", gradients.size(),
                        " gradients for ", edges.size(), " inputs");
    for (size_t i = 0; i < edges.size(); ++i) {
      const Edge edge = std::move(edges[i]);
      edges[i] = {};
      if (!edge.wanted() || !gradients[i].defined()) continue;
      if (edge.leaf && !edge.leaf->requires_grad) continue;  // frozen since forward
      Tensor gradient = std::move(gradients[i]);
      require<ShapeError>(gradient.shape() == edge.shape, node->name(), ": backward returned a gradient ",
                          gradient.shape(), " for input ", i, ", which is ", edge.shape);
      if (edge.leaf) {
        if (auto* const recorder = detail::Recorder::current()) recorder->gradient_of(edge.leaf, /*replaced=*/false);
        // A gradient that somebody else holds must not become the leaf's own: later sums would change both.
        if (!edge.leaf->grad.defined() && !gradient.is_sole_owner()) gradient = gradient.clone();
        detail::accumulate(edge.leaf->grad, std::move(gradient));
      } else {
        send(edge.node, std::move(gradient));
      }
    }
  }
}

TL_INLINE void Tensor::backward() const {
  require<ShapeError>(numel() == 1, "backward: expected a loss of one element, got ", shape(),
                      ". Hint: mean() it, or pass the gradient of the result.");
  run_backward(*this, ones(shape(), dtype(), device()));
}

TL_INLINE void Tensor::backward(const Tensor& grad_of_this) const { run_backward(*this, grad_of_this.detach()); }

}  // namespace tl::inline TL_ABI
