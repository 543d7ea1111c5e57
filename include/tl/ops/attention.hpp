// Scaled dot-product attention.
#pragma once
#include "tl/tensor/tensor.hpp"

namespace tl::inline TL_ABI {

struct AttentionOptions {
  Tensor key_mask = {};  ///< [N, S] i32, 1 for keys that count and 0 for padding; undefined: all count
  bool causal = false;   ///< query t sees keys 0..t only
  double scale = 0;      ///< factor of the scores; 0: 1 / sqrt(D)
};

/// softmax(scale q k^T + mask) v for q [N, H, T, D], k [N, H, S, D], v [N, H, S, E]; y [N, H, T, E].
/// A query that sees no key gives zeros, where PyTorch gives NaN. On a CPU, in f32, the [T, S] weights never exist at
/// once, and backward computes them again. Errors: ShapeError. Differentiable in q, k and v.
/// Papers: Vaswani et al., "Attention is all you need", 2017; Dao et al., "FlashAttention", 2022.
/// PyTorch: scaled_dot_product_attention.
Tensor attention(const Tensor& q, const Tensor& k, const Tensor& v, const AttentionOptions& options = {});

/// The same for heads that lie side by side, as linear layers leave them, and without a copy: q [N, T, H D],
/// k [N, S, H D], v [N, S, H E]; y [N, T, H E].
/// PyTorch: the middle of nn.MultiheadAttention, between its projections.
Tensor multi_head_attention(const Tensor& q, const Tensor& k, const Tensor& v, int64_t heads,
                            const AttentionOptions& options = {});

}  // namespace tl::inline TL_ABI

#if TL_HEADER_ONLY
#include "tl/ops/attention.inl"
#endif
