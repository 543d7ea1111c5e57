// Definitions of print.hpp.
#pragma once
#include "tl/tensor/print.hpp"

namespace tl::inline TL_ABI {
namespace detail {

TL_INLINE void print_dimension(std::string& out, const Tensor& values, int d, int64_t offset) {
  constexpr int64_t kEnds = 3;
  const Shape& shape = values.shape();
  if (d == shape.rank()) {
    tl::append_text(out, values.data<double>()[offset]);
    return;
  }
  const int64_t step = shape.product(d + 1, shape.rank());
  out += '[';
  for (int64_t i = 0; i < shape[d]; ++i) {
    if (i > 0) out += ", ";
    if (i == kEnds && shape[d] > 2 * kEnds) {
      out += "..., ";
      i = shape[d] - kEnds;
    }
    print_dimension(out, values, d + 1, offset + i * step);
  }
  out += ']';
}

}  // namespace detail

TL_INLINE std::string to_string(const Tensor& tensor) {
  if (!tensor.defined()) return "undefined";
  std::string out = text(tensor.dtype(), " ", tensor.shape(), " ");
  detail::print_dimension(out, tensor.to(kCpu).to(DType::f64), 0, 0);
  return out;
}

}  // namespace tl::inline TL_ABI
