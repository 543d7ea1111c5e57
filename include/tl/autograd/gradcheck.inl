// Definitions of gradcheck.hpp.
#pragma once
#include <cmath>

#include "tl/autograd/engine.hpp"
#include "tl/autograd/gradcheck.hpp"
#include "tl/autograd/node.hpp"

namespace tl::inline TL_ABI {

TL_INLINE GradcheckResult gradcheck(FunctionRef<Tensor(const std::vector<Tensor>&)> f, std::vector<Tensor> inputs,
                                    const GradcheckOptions& options) {
  for (Tensor& input : inputs) {
    if (!input.defined() || !input.requires_grad()) continue;
    require<DTypeError>(input.dtype() == DType::f64, "gradcheck: inputs must be f64, got ", input.dtype());
    input.zero_grad();
  }
  const auto weight = [](int64_t i) { return std::cos(0.7 * static_cast<double>(i) + 0.3); };
  const Tensor y = f(inputs);
  Tensor weights = Tensor::empty(y.shape(), DType::f64);
  for (int64_t i = 0; i < y.numel(); ++i) weights.mutable_data<double>()[i] = weight(i);
  y.backward(weights);

  const auto objective = [&] {
    const NoGrad no_grad;
    const Tensor out = f(inputs);
    double sum = 0;
    for (int64_t i = 0; i < out.numel(); ++i) sum += weight(i) * out.data<double>()[i];
    return sum;
  };

  GradcheckResult result;
  for (size_t which = 0; which < inputs.size(); ++which) {
    Tensor& input = inputs[which];
    if (!input.defined() || !input.requires_grad()) continue;
    const Tensor analytic = input.grad();
    for (int64_t i = 0; i < input.numel(); ++i) {
      const double value = input.data<double>()[i];
      const auto at = [&](double x) {
        input.mutable_data<double>()[i] = x;
        return objective();
      };
      const double numeric = (at(value + options.step) - at(value - options.step)) / (2 * options.step);
      input.mutable_data<double>()[i] = value;
      const double computed = analytic.defined() ? analytic.data<double>()[i] : 0.0;
      const double error = std::abs(computed - numeric);
      result.worst_error = std::max(result.worst_error, error);
      const bool close = error <= options.absolute_tolerance + options.relative_tolerance * std::abs(numeric);
      if (!close && result.passed) {
        result.passed = false;
        result.message =
            text("gradcheck: input ", which, " element ", i, ": analytic ", computed, ", numeric ", numeric);
      }
    }
  }
  return result;
}

}  // namespace tl::inline TL_ABI
