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

/// y = c + alpha a b in one pass, for a [..., M, K], b [K, N] (stored [N, K] with transpose_b) and c [..., M, N]; a is
/// as it is stored. Differentiable in all. Errors: ShapeError, DTypeError, DeviceError; UsageError for transpose_a.
/// PyTorch: torch.addmm.
Tensor add_matmul(const Tensor& c, const Tensor& a, const Tensor& b, double alpha = 1,
                  const MatmulOptions& options = {});

/// y = activation(x weight^T + bias) for x [..., In], weight [Out, In], bias [Out] or undefined; y [..., Out].
/// Where nothing wants a gradient the activation is part of the product, applied to rows that the cache still holds.
/// `packed`, from pack_linear, stands for the numbers of a weight that does not learn, whose shape alone is then read.
/// x may be bfloat16: then y is too, while weight, bias and their gradients stay f32.
/// Differentiable in all. PyTorch: torch.nn.functional.linear, then the activation (gelu: approximate="none").
Tensor linear(const Tensor& x, const Tensor& weight, const Tensor& bias = {}, Activation activation = Activation::none,
              const Tensor& packed = {});

/// The weight [Out, In] of a linear layer in the order in which products read it, so that one that serves many times is
/// not packed each time. Good for this process, on the CPU, for inputs of `dtype`. Errors: ShapeError.
Tensor pack_linear(const Tensor& weight, DType dtype = DType::f32);

}  // namespace tl::inline TL_ABI

#if TL_HEADER_ONLY
#include "tl/ops/matmul.inl"
#endif
