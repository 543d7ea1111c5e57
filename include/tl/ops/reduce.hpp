// Sums, means and extremes over dimensions.
#pragma once
#include <initializer_list>
#include <vector>

#include "tl/tensor/tensor.hpp"

namespace tl::inline TL_ABI {

/// Sum over the given dimensions (all of them when none is given); with keep they stay as size 1.
/// Differentiable. PyTorch: x.sum(dim, keepdim).
Tensor sum(const Tensor& x, std::initializer_list<int> axes = {}, bool keep = false);

/// Mean over the given dimensions (all of them when none is given).
Tensor mean(const Tensor& x, std::initializer_list<int> axes = {}, bool keep = false);

/// Largest value along one dimension; the gradient goes to the first place that has it.
Tensor max(const Tensor& x, int axis, bool keep = false);
Tensor min(const Tensor& x, int axis, bool keep = false);

/// Index of the largest value along one dimension, the first of equals, as i32. Not differentiable.
Tensor argmax(const Tensor& x, int axis);

/// Sums over what broadcasting repeated, so that the result has `shape`.
Tensor sum_to(const Tensor& x, const Shape& shape);

struct TopK {
  Tensor values;   ///< [..., k], descending; differentiable
  Tensor indices;  ///< [..., k], i32
};

/// The k largest values along the last dimension. Errors: ShapeError if k exceeds its size.
TopK top_k(const Tensor& x, int64_t k);

}  // namespace tl::inline TL_ABI

#if TL_HEADER_ONLY
#include "tl/ops/reduce.inl"
#endif
