// Arithmetic and functions, element by element.
#pragma once
#include "tl/core/precision.hpp"
#include "tl/cpu/elementwise.hpp"
#include "tl/cpu/gemm.hpp"
#include "tl/tensor/tensor.hpp"

namespace tl::inline TL_ABI {

/// The shape of a result of two shapes that broadcast: aligned at the last dimension, a size of 1 repeats.
/// Errors: ShapeError naming `operation` when they do not fit.
Shape broadcast_shape(const Shape& a, const Shape& b, std::string_view operation);

/// a + b, a - b, a * b, a / b with broadcasting. Differentiable in both.
Tensor operator+(const Tensor& a, const Tensor& b);
Tensor operator-(const Tensor& a, const Tensor& b);
Tensor operator*(const Tensor& a, const Tensor& b);
Tensor operator/(const Tensor& a, const Tensor& b);

/// The larger (smaller) of each pair, with broadcasting; where equal, the gradient is halved between both.
Tensor maximum(const Tensor& a, const Tensor& b);
Tensor minimum(const Tensor& a, const Tensor& b);

/// alpha * x + gamma
Tensor affine(const Tensor& x, double alpha, double gamma);
inline Tensor operator+(const Tensor& x, double s) { return affine(x, 1, s); }
inline Tensor operator+(double s, const Tensor& x) { return affine(x, 1, s); }
inline Tensor operator-(const Tensor& x, double s) { return affine(x, 1, -s); }
inline Tensor operator-(double s, const Tensor& x) { return affine(x, -1, s); }
inline Tensor operator*(const Tensor& x, double s) { return affine(x, s, 0); }
inline Tensor operator*(double s, const Tensor& x) { return affine(x, s, 0); }
inline Tensor operator/(const Tensor& x, double s) { return affine(x, 1 / s, 0); }
inline Tensor operator-(const Tensor& x) { return affine(x, -1, 0); }

/// y = f(x) for any of the functions in TL_UNARY_FUNCTIONS.
Tensor unary(UnaryFunction function, const Tensor& x);

inline Tensor abs(const Tensor& x) { return unary(UnaryFunction::abs, x); }
inline Tensor square(const Tensor& x) { return unary(UnaryFunction::square, x); }
inline Tensor sqrt(const Tensor& x) { return unary(UnaryFunction::sqrt, x); }
inline Tensor exp(const Tensor& x) { return unary(UnaryFunction::exp, x); }
/// Natural logarithm.
inline Tensor log(const Tensor& x) { return unary(UnaryFunction::log, x); }
inline Tensor reciprocal(const Tensor& x) { return unary(UnaryFunction::reciprocal, x); }
/// max(x, 0); slope 0 at 0.
inline Tensor relu(const Tensor& x) { return unary(UnaryFunction::relu, x); }
/// min(max(x, 0), 6)
inline Tensor relu6(const Tensor& x) { return unary(UnaryFunction::relu6, x); }
/// x * Phi(x), with the error function. Paper: Hendrycks and Gimpel, "Gaussian error linear units", 2016.
inline Tensor gelu(const Tensor& x) { return unary(UnaryFunction::gelu, x); }
/// GELU's approximation 0.5 x (1 + tanh(sqrt(2/pi) (x + 0.044715 x^3))). PyTorch: gelu(approximate='tanh').
inline Tensor gelu_tanh(const Tensor& x) { return unary(UnaryFunction::gelu_tanh, x); }
/// x * sigmoid(x), also called swish.
inline Tensor silu(const Tensor& x) { return unary(UnaryFunction::silu, x); }
inline Tensor sigmoid(const Tensor& x) { return unary(UnaryFunction::sigmoid, x); }
inline Tensor tanh(const Tensor& x) { return unary(UnaryFunction::tanh, x); }
/// x * relu6(x + 3) / 6. Paper: Howard et al., "Searching for MobileNetV3", 2019.
inline Tensor hardswish(const Tensor& x) { return unary(UnaryFunction::hardswish, x); }

/// The same numbers in another floating type. The gradient comes back in the type of x. PyTorch: x.to(dtype).
Tensor cast(const Tensor& x, DType dtype);

/// x in the type that this thread's precision() asks for, if it is floating; else x itself.
Tensor in_precision(const Tensor& x);

/// Applies an activation by its enumerator; none returns x.
Tensor activate(const Tensor& x, Activation activation);

}  // namespace tl::inline TL_ABI

#if TL_HEADER_ONLY
#include "tl/ops/elementwise.inl"
#endif
