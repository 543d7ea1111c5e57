// Element by element: unary functions, broadcast arithmetic, copies between layouts, dropout.
#pragma once
#include <cstdint>

#include "tl/core/dtype.hpp"
#include "tl/core/shape.hpp"

namespace tl {

/// Unary functions. Values and slopes are in cpu/isa/functors.inl, once for all backends.
// clang-format off
#define TL_UNARY_FUNCTIONS(X)                                                                                     \
  X(neg) X(abs) X(square) X(sqrt) X(exp) X(log) X(reciprocal) X(relu) X(relu6) X(gelu) X(gelu_tanh) X(silu)       \
  X(sigmoid) X(tanh) X(hardswish)
// clang-format on

enum class UnaryFunction : int {
#define TL_ENUMERATOR(name) name,
  TL_UNARY_FUNCTIONS(TL_ENUMERATOR)
#undef TL_ENUMERATOR
};

/// y = f(x)
template <class T>
struct UnaryArgs {
  UnaryFunction function;
  const T* x;
  T* y;
  int64_t n;
};

/// grad_x = grad_y * f'(x). Functions whose slope follows from y read y alone, the others x alone (see slope_from_y).
template <class T>
struct UnaryBackwardArgs {
  UnaryFunction function;
  const T* kept;  // x or y
  const T* grad_y;
  T* grad_x;
  int64_t n;
};

/// Whether the backward pass of f wants the output kept (sigmoid: s(1 - s)) instead of the input.
constexpr bool slope_from_y(UnaryFunction function) {
  switch (function) {
    case UnaryFunction::sqrt:
    case UnaryFunction::exp:
    case UnaryFunction::reciprocal:
    case UnaryFunction::relu:
    case UnaryFunction::relu6:
    case UnaryFunction::sigmoid:
    case UnaryFunction::tanh:
      return true;
    default:
      return false;
  }
}

#define TL_BINARY_FUNCTIONS(X) X(add) X(sub) X(mul) X(div) X(maximum) X(minimum)

enum class BinaryFunction : int {
#define TL_ENUMERATOR(name) name,
  TL_BINARY_FUNCTIONS(TL_ENUMERATOR)
#undef TL_ENUMERATOR
};

/// y = f(a, b) over `shape`; a stride of 0 repeats an operand along that dimension. y is contiguous.
template <class T>
struct BinaryArgs {
  BinaryFunction function;
  const T *a, *b;
  T* y;
  int rank;
  int64_t shape[kMaxRank], stride_a[kMaxRank], stride_b[kMaxRank];  // in elements, outermost first
};

/// The two gradients of a broadcast operation, full size (the caller sums over what was repeated); either may be null.
template <class T>
struct BinaryBackwardArgs {
  BinaryFunction function;
  const T *a, *b, *grad_y;
  T *grad_a, *grad_b;  // [shape], contiguous
  int rank;
  int64_t shape[kMaxRank], stride_a[kMaxRank], stride_b[kMaxRank];
};

/// y = alpha * x + beta * y + gamma; with beta = 0 y is not read. x may be null when alpha = 0.
template <class T>
struct AffineArgs {
  const T* x;
  T* y;
  int64_t n;
  Wide<T> alpha, beta, gamma;
};

/// y = the nearest T to x; a NaN stays one.
template <class T>
struct NarrowArgs {
  const Wide<T>* x;
  T* y;
  int64_t n;
};

/// y = x
template <class T>
struct WidenArgs {
  const T* x;
  Wide<T>* y;
  int64_t n;
};

/// y[shape with stride_y] (= or +=) x[shape with stride_x]: permute, slice, pad and concat, forward and backward.
/// Neither x's repeated elements (stride 0) nor y's places overlap for the assigned form.
template <class T>
struct CopyStridedArgs {
  const T* x;
  T* y;
  int rank;
  int64_t shape[kMaxRank], stride_x[kMaxRank], stride_y[kMaxRank];
  bool accumulate;
};

/// Inverted dropout: y = x * keep / (1 - p). The mask comes from (seed, counter, index) and is drawn again in backward,
/// so nothing is kept. `group` elements in a row share one draw: 1 for dropout, all elements of a sample for drop path.
/// Draw d is word d % 4 of Philox::at(seed, counter, d / 4); what it keeps is Philox::uniform(word) >= probability.
template <class T>
struct DropoutArgs {
  const T* x;
  T* y;
  int64_t n, group;
  float probability;
  uint64_t seed, counter;
};

}  // namespace tl
