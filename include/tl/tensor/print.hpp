// Tensors as text.
#pragma once
#include <string>

#include "tl/tensor/tensor.hpp"

namespace tl::inline TL_ABI {

/// The numbers in brackets, long dimensions shortened to their ends: "f32 [2, 2] [[1, 2], [3, 4]]".
std::string to_string(const Tensor& tensor);

inline void append_text(std::string& out, const Tensor& tensor) { out += to_string(tensor); }

}  // namespace tl::inline TL_ABI

#if TL_HEADER_ONLY
#include "tl/tensor/print.inl"
#endif
