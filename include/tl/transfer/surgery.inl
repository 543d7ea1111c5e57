// Definitions of transfer/surgery.hpp.
#pragma once
#include "tl/transfer/surgery.hpp"

namespace tl::inline TL_ABI {
namespace detail {

TL_INLINE double norm_of(const Tensor& tensor) {
  double squares = 0;
  const Tensor host = tensor.detach().to(kCpu).to(DType::f64);
  for (const double value : host.values<double>()) squares += value * value;
  return std::sqrt(squares);
}

}  // namespace detail

TL_INLINE std::vector<double> relative_gradient_norms(nn::Module& net,
                                                      const std::vector<std::vector<std::string>>& stages) {
  std::vector<double> out;
  for (const auto& globs : stages) {
    double sum = 0;
    int64_t count = 0;
    for (const std::string& glob : globs)
      for (const auto& p : nn::select_parameters(net, glob)) {
        const Tensor& weight = p.parameter->value();
        if (p.parameter->frozen() || !weight.grad().defined()) continue;
        const double norm = detail::norm_of(weight);
        if (norm == 0) continue;
        sum += detail::norm_of(weight.grad()) / norm;
        ++count;
      }
    out.push_back(count > 0 ? sum / static_cast<double>(count) : 0);
  }
  return out;
}

}  // namespace tl::inline TL_ABI
