// Rows and elements picked by index.
#pragma once
#include "tl/tensor/tensor.hpp"

namespace tl::inline TL_ABI {

/// y[..., i, ...] = x[..., index[i], ...] along one dimension; index [K] is i32. Differentiable in x; an index that
/// occurs twice collects both gradients. Errors: UsageError for an index outside of the dimension. PyTorch:
/// torch.index_select.
Tensor gather(const Tensor& x, int axis, const Tensor& index);

/// Rows of a table [V, D] for ids of any shape: y [..., D]. The row padding_idx, if not -1, gets no gradient.
/// PyTorch: torch.nn.functional.embedding.
Tensor embedding(const Tensor& table, const Tensor& ids, int64_t padding_idx = -1);

}  // namespace tl::inline TL_ABI

#if TL_HEADER_ONLY
#include "tl/ops/index.inl"
#endif
