// What a row of the table of operations is made of: inputs, the call, and its reference.
#pragma once
#include <cmath>
#include <functional>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "ops/reference.hpp"
#include "tl/core/random.hpp"
#include "tl/core/text.hpp"
#include "tl/tensor/tensor.hpp"

namespace tl_test {

using reference::Array;
using tl::Shape;
using tl::Tensor;
using Tensors = std::vector<Tensor>;
using Arrays = std::vector<Array>;

// ---- inputs ----

/// One argument: its shape, its numbers, and whether it has a gradient.
struct Input {
  Shape shape;
  double low = -1, high = 1;        // numbers are uniform in [low, high), on a grid of float32
  std::vector<double> kinks = {};   // kept 0.02 away from these
  bool distinct = false;            // no two closer than 0.001, so that an order is clear
  std::vector<double> values = {};  // given instead of drawn
  bool integer = false;             // i32
  bool defined = true;
  bool differentiable = true;
  bool parameter = false;  // stays f32 where activations are bfloat16

  Input constant() const {
    Input out = *this;
    out.differentiable = false;
    return out;
  }
  Input as_parameter() const {
    Input out = *this;
    out.parameter = true;
    return out;
  }
};

inline Input smooth(const Shape& shape) { return {.shape = shape}; }
inline Input within(const Shape& shape, double low, double high) { return {.shape = shape, .low = low, .high = high}; }
inline Input avoiding(const Shape& shape, double low, double high, std::vector<double> kinks) {
  return {.shape = shape, .low = low, .high = high, .kinks = std::move(kinks)};
}
inline Input distinct(const Shape& shape) { return {.shape = shape, .distinct = true}; }
inline Input given(const Shape& shape, std::vector<double> values) {
  return {.shape = shape, .values = std::move(values)};
}
inline Input integers(const Shape& shape, std::vector<double> values) {
  return {.shape = shape, .values = std::move(values), .integer = true, .differentiable = false};
}
/// An argument left out.
inline Input none() { return {.shape = {}, .defined = false, .differentiable = false}; }

/// The numbers of an input: equal in every run, and exact in float32.
inline Array numbers_of(const Input& input, uint64_t seed) {
  Array out(input.shape);
  if (!input.values.empty()) {
    for (int64_t i = 0; i < out.size(); ++i) out[i] = static_cast<float>(input.values[static_cast<size_t>(i)]);
    return out;
  }
  tl::Generator random(seed);
  std::vector<int64_t> order;
  for (int64_t i = 0; i < out.size(); ++i) order.push_back(i);
  random.shuffle(order);
  for (int64_t i = 0; i < out.size(); ++i) {
    double x = input.distinct ? static_cast<double>(order[static_cast<size_t>(i)] - out.size() / 2) * 0.003
                              : random.uniform(input.low, input.high);
    for (const double kink : input.kinks)
      if (std::abs(x - kink) < 0.02) x = kink + (x < kink ? -0.02 : 0.02);
    out[i] = static_cast<float>(x);
  }
  return out;
}

// ---- rows ----

struct RowOptions {
  double tolerance = 2e-6;       // f32 against f64, of |value| + the mean size of all values
  double grad_tolerance = 1e-5;  // the same for gradients
  bool gradcheck = true;         // off where finite differences would take too long
  bool crosses_kinks = false;    // rounding to 8 bits may carry results across: no gradients in bfloat16
};

struct Row {
  std::string name;
  std::vector<Input> inputs;
  std::function<Tensor(const Tensors&)> run;      // the public function
  std::function<Array(const Arrays&)> reference;  // plain loops; empty for rows that only compare f32 with f64
  RowOptions options = {};
};

/// A call that must be refused, and with which words.
struct Refusal {
  std::string name;
  std::function<void()> call;
  tl::ErrorCode code;
  std::string message;
};

using Rows = std::vector<Row>;

}  // namespace tl_test
