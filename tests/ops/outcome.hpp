// Running a row of the table: arguments as tensors, values and gradients, and how they are compared.
#pragma once
#include <cmath>
#include <cstring>

#include "ops/case.hpp"
#include "tl/autograd/engine.hpp"
#include "tl/tensor/tensor.hpp"

namespace tl_test {

using tl::Device;
using tl::DType;

inline uint64_t seed_of(const Row& row) {
  uint64_t hash = 0xcbf29ce484222325u;
  for (const char c : row.name) hash = (hash ^ static_cast<unsigned char>(c)) * 0x100000001b3u;
  return hash;
}

inline Arrays arrays_of(const Row& row) {
  Arrays out;
  for (size_t i = 0; i < row.inputs.size(); ++i) out.push_back(numbers_of(row.inputs[i], seed_of(row) + i));
  return out;
}

inline constexpr size_t kAll = static_cast<size_t>(-1);
inline constexpr size_t kNone = static_cast<size_t>(-2);

/// The arguments as tensors. `wanting` is the one that asks for a gradient, or kAll. In bfloat16 parameters are f32;
/// `as_halves` rounds the numbers of everything else as if it were bfloat16.
inline Tensors tensors_of(const Row& row, DType dtype, size_t wanting, Device device = tl::kCpu,
                          bool as_halves = false) {
  const auto arrays = arrays_of(row);
  Tensors out(arrays.size());
  for (size_t i = 0; i < arrays.size(); ++i) {
    const Input& input = row.inputs[i];
    if (!input.defined) continue;
    const DType type = input.integer ? DType::i32 : input.parameter ? tl::wide(dtype) : dtype;
    Tensor values = Tensor::from(arrays[i].values, arrays[i].shape);
    if (as_halves && !input.integer && !input.parameter) values = values.to(DType::bf16);
    out[i] = values.to(type).to(device);
    if (input.differentiable && (wanting == kAll || wanting == i)) out[i].set_requires_grad();
  }
  return out;
}

/// A result and the gradients of sum(w * result) for a fixed, irregular w; undefined where none is wanted.
struct Outcome {
  Tensor value;
  Tensors gradients;
};

inline Outcome outcome_of(const Row& row, DType dtype, size_t wanting = kAll, Device device = tl::kCpu,
                          bool as_halves = false) {
  const Tensors inputs = tensors_of(row, dtype, wanting, device, as_halves);
  const Tensor y = row.run(inputs);
  Outcome out{y.detach(), Tensors(inputs.size())};
  if (!tl::grad_enabled() || !y.requires_grad()) return out;
  std::vector<float> weights(static_cast<size_t>(y.numel()));
  for (size_t i = 0; i < weights.size(); ++i)
    weights[i] = static_cast<float>(std::cos(0.7 * static_cast<double>(i) + 0.3));
  Tensor grad_y = Tensor::from(weights, y.shape());
  if (as_halves) grad_y = grad_y.to(DType::bf16);
  y.backward(grad_y.to(y.dtype()).to(device));
  for (size_t i = 0; i < inputs.size(); ++i)
    if (inputs[i].defined()) out.gradients[i] = inputs[i].grad();
  return out;
}

/// The first element of `got` further from `expected` than tolerance * (|value| + the mean size of all), or nothing.
/// `floor` is for results that cancel: arguments and weights have the size of 1.
inline std::string difference(const Tensor& got, const Array& expected, double tolerance, double floor) {
  if (!got.defined()) return "undefined";
  if (!(got.shape() == expected.shape)) return tl::text("shape ", got.shape(), ", expected ", expected.shape);
  const Tensor wide = got.to(tl::kCpu).to(DType::f64);
  double scale = 0;
  for (const double value : expected.values) scale += std::abs(value) / static_cast<double>(expected.values.size());
  for (size_t i = 0; i < expected.values.size(); ++i) {
    const double value = expected.values[i], error = std::abs(wide.values<double>()[i] - value);
    if (!(error <= tolerance * (std::abs(value) + scale) + floor))
      return tl::text("element ", i, " of ", got.shape(), ": ", wide.values<double>()[i], ", expected ", value,
                      ", relative ", error / (std::abs(value) + scale));
  }
  return "";
}

inline std::string difference(const Tensor& got, const Tensor& expected, double tolerance,
                              double floor = 2e-7) {  // some units in the last place of 1
  if (!expected.defined()) return got.defined() ? "a gradient that was not asked for" : "";
  Array array(expected.shape());
  const Tensor wide = expected.to(DType::f64);
  array.values.assign(wide.values<double>().begin(), wide.values<double>().end());
  return difference(got, array, tolerance, floor);
}

inline bool same_bits(const Tensor& a, const Tensor& b) {
  if (!a.defined() || !b.defined()) return a.defined() == b.defined();
  return a.shape() == b.shape() && a.dtype() == b.dtype() && std::memcmp(a.raw_data(), b.raw_data(), a.bytes()) == 0;
}

inline bool same_bits(const Outcome& a, const Outcome& b) {
  bool same = same_bits(a.value, b.value);
  for (size_t i = 0; i < a.gradients.size(); ++i) same = same && same_bits(a.gradients[i], b.gradients[i]);
  return same;
}

}  // namespace tl_test
