// Matrix products.
#pragma once
#include <cstdint>

#include "tl/core/dtype.hpp"

namespace tl {

/// What happens to a result before it is stored.
enum class Activation : int { none, relu, relu6, silu, gelu, hardswish };

/// C[b] = activation(alpha * op(A[b]) * op(B[b]) + beta * C[b] + bias + residual)
///
/// Row-major. op(A) is [m, k], stored [m, k] or, transposed, [k, m]; op(B) is [k, n]; C is [m, n].
/// `bias` has n elements or is null. With beta = 0 C is not read. Batches lie `stride_*` elements apart (0 repeats).
template <class T>
struct GemmArgs {
  const T *a, *b;
  T* c;
  int64_t m, n, k;
  int64_t lda, ldb, ldc;
  bool transpose_a = false, transpose_b = false;
  Wide<T> alpha = 1, beta = 0;
  const Wide<T>* bias = nullptr;
  Activation activation = Activation::none;
  int64_t batch = 1, stride_a = 0, stride_b = 0, stride_c = 0;
  const T* packed_b = nullptr;  // op(B) as gemm_pack left it; then b is not read, and all of a batch share it
  Wide<T>* wide_c = nullptr;    // if given, C goes here instead, not rounded to T: for gradients of weights
};

/// Brings op(B) [k, n] into the order in which products read it, for weights that serve many times.
/// The order is the instruction set's own: memory for `packed` is gemm_packed_size(n, k) numbers, aligned to 64 bytes.
template <class T>
struct GemmPackArgs {
  const Wide<T>* b;
  int64_t n, k, ldb;
  bool transpose_b;
  T* packed;
};

constexpr int64_t gemm_packed_size(int64_t n, int64_t k) {
  constexpr int64_t kMostLanes = 16, kUnitK = 32;  // of bfloat16 alone
  return (n + kMostLanes - 1) / kMostLanes * kMostLanes * ((k + kUnitK - 1) / kUnitK * kUnitK);
}

}  // namespace tl
