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
/// A query that sees no key gives zeros, where PyTorch gives NaN. Differentiable in q, k and v.
/// Paper: Vaswani et al., "Attention is all you need", 2017. PyTorch: scaled_dot_product_attention.
Tensor attention(const Tensor& q, const Tensor& k, const Tensor& v, const AttentionOptions& options = {});

}  // namespace tl::inline TL_ABI

#if TL_HEADER_ONLY
#include "tl/ops/attention.inl"
#endif
