// The same numbers in another arrangement.
#pragma once
#include <span>
#include <vector>

#include "tl/tensor/tensor.hpp"

namespace tl::inline TL_ABI {

/// The same elements under another shape; shares memory. One size may be -1 and is then worked out.
Tensor reshape(const Tensor& x, std::initializer_list<int64_t> sizes);
Tensor reshape(const Tensor& x, const Shape& shape);

/// Merges the dimensions from `first` to the last into one.
Tensor flatten(const Tensor& x, int first = 1);

/// Dimensions reordered: y.shape[i] = x.shape[order[i]]. Copies.
Tensor permute(const Tensor& x, std::initializer_list<int> order);

/// Exchanges the last two dimensions. Copies.
Tensor transpose(const Tensor& x);

/// Elements first, first + step, ... below last along one dimension. Copies. Negative bounds count from the end.
Tensor slice(const Tensor& x, int axis, int64_t first, int64_t last, int64_t step = 1);

/// The elements along one dimension in reverse order, as a mirrored picture [N, H, W, C] along axis 2. Copies.
Tensor flip(const Tensor& x, int axis);

/// Tensors side by side along one dimension.
Tensor concat(std::span<const Tensor> parts, int axis);
inline Tensor concat(std::initializer_list<Tensor> parts, int axis) {
  return concat(std::span<const Tensor>(parts.begin(), parts.size()), axis);
}

/// How many elements to add before and after each dimension, outermost first.
struct PadWidth {
  int64_t before = 0, after = 0;
};
Tensor pad(const Tensor& x, std::initializer_list<PadWidth> widths, double value = 0);

/// Repeats dimensions of size 1 until the shape is `shape`. Copies.
Tensor expand(const Tensor& x, const Shape& shape);

}  // namespace tl::inline TL_ABI

#if TL_HEADER_ONLY
#include "tl/ops/view.inl"
#endif
