// The backward pass.
#pragma once
#include "tl/autograd/node.hpp"

namespace tl::inline TL_ABI {

/// Adds d root / d leaf, contracted with grad_of_root, to the gradient of every leaf behind `root`.
///
/// Iterative: a chain of any length works. Nodes run in the reverse order of their making, so that all gradients of a
/// node have arrived when its turn comes; each frees what it kept at once. Branches without a leaf that wants a
/// gradient were never recorded.
///
/// Errors: UsageError if root has no history, if its graph was used before, or if a kept tensor was changed in place.
void run_backward(const Tensor& root, const Tensor& grad_of_root);

}  // namespace tl::inline TL_ABI

#if TL_HEADER_ONLY
#include "tl/autograd/engine.inl"
#endif
