// Gradients compared with finite differences, for the library's own operations and for yours.
#pragma once
#include <string>
#include <vector>

#include "tl/core/function_ref.hpp"
#include "tl/tensor/tensor.hpp"

namespace tl::inline TL_ABI {

struct GradcheckOptions {
  double step = 1e-6;  ///< distance of the central difference
  double relative_tolerance = 1e-5;
  double absolute_tolerance = 1e-7;
};

struct GradcheckResult {
  bool passed = true;
  double worst_error = 0;  ///< largest |analytic - numeric|
  std::string message;     ///< the first difference that is too large: input, element, both values

  explicit operator bool() const { return passed; }
};

/// Compares the analytic gradient of sum(w * f(inputs)), w fixed and irregular, with central differences
/// (f(x + h) - f(x - h)) / 2h for every element of every input that requires a gradient.
///
/// inputs: f64 tensors, leaves. f must compute the same for the same inputs (give dropout a fixed seed), and be smooth
/// within `step` of them: keep inputs away from kinks.
/// Errors: DTypeError for inputs in single precision, which is too coarse.
/// PyTorch equivalent: torch.autograd.gradcheck.
GradcheckResult gradcheck(FunctionRef<Tensor(const std::vector<Tensor>&)> f, std::vector<Tensor> inputs,
                          const GradcheckOptions& options = {});

}  // namespace tl::inline TL_ABI

#if TL_HEADER_ONLY
#include "tl/autograd/gradcheck.inl"
#endif
