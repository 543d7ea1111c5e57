// Matrix products and the linear layer's arithmetic.
#pragma once
#include "tl/cpu/gemm.hpp"
#include "tl/tensor/tensor.hpp"

namespace tl::inline TL_ABI {

struct MatmulOptions {
  bool transpose_a = false;  ///< a is stored [..., K, M]
  bool transpose_b = false;  ///< b is stored [..., N, K]
};

/// y = a b for a [..., M, K] and b [K, N] or [..., K, N] with the same leading sizes; y [..., M, N].
/// Differentiable in both. PyTorch: torch.matmul, whose leading sizes may also broadcast.
Tensor matmul(const Tensor& a, const Tensor& b, const MatmulOptions& options = {});

/// y = activation(x weight^T + bias) for x [..., In], weight [Out, In], bias [Out] or undefined; y [..., Out].
/// Where nothing wants a gradient the activation is part of the product, applied to rows that the cache still holds.
/// Differentiable in all. PyTorch: torch.nn.functional.linear, then the activation (gelu: approximate="none").
Tensor linear(const Tensor& x, const Tensor& weight, const Tensor& bias = {}, Activation activation = Activation::none);

}  // namespace tl::inline TL_ABI

#if TL_HEADER_ONLY
#include "tl/ops/matmul.inl"
#endif
