// The unary and binary functions of tl/cpu/isa/functors.inl, which are written once for all backends, for float.
#pragma once
#include <cmath>

#include "device/execution.cuh"
#include "tl/core/config.hpp"
#include "tl/cpu/elementwise.hpp"
#include "tl/cpu/gemm.hpp"

namespace tl::device::functions {

TL_DEVICE float select(bool condition, float a, float b) { return condition ? a : b; }
TL_DEVICE float max(float a, float b) { return a > b ? a : b; }
TL_DEVICE float min(float a, float b) { return a < b ? a : b; }
TL_DEVICE float abs(float x) { return fabsf(x); }
TL_DEVICE float sqrt(float x) { return sqrtf(x); }
TL_DEVICE float exp(float x) { return expf(x); }
TL_DEVICE float log(float x) { return logf(x); }
TL_DEVICE float tanh(float x) { return tanhf(x); }
TL_DEVICE float erf(float x) { return erff(x); }

#include "tl/cpu/isa/functors.inl"

}  // namespace tl::device::functions

namespace tl::device {

/// For launchers: calls body(function) with the function object of an enumerator.
template <class Body>
void with_function(UnaryFunction function, Body&& body) {
  switch (function) {
#define TL_CASE(name)       \
  case UnaryFunction::name: \
    return body(functions::name##_fn{});
    TL_UNARY_FUNCTIONS(TL_CASE)
#undef TL_CASE
  }
}

template <class Body>
void with_function(BinaryFunction function, Body&& body) {
  switch (function) {
#define TL_CASE(name)        \
  case BinaryFunction::name: \
    return body(functions::name##_fn{});
    TL_BINARY_FUNCTIONS(TL_CASE)
#undef TL_CASE
  }
}

/// In a kernel: the activation's value. The branch is the same for all threads. Not inlined: a kernel may store 64
/// results.
TL_DEVICE_CALL float activate(Activation activation, float x) {
  switch (activation) {
    case Activation::none:
      return x;
    case Activation::relu:
      return functions::relu_fn::value(x);
    case Activation::relu6:
      return functions::relu6_fn::value(x);
    case Activation::silu:
      return functions::silu_fn::value(x);
    case Activation::gelu:
      return functions::gelu_fn::value(x);
    case Activation::hardswish:
      return functions::hardswish_fn::value(x);
  }
  return x;
}

}  // namespace tl::device
