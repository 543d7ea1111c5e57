// Definitions of tensor.hpp.
#pragma once
#include <algorithm>
#include <cmath>
#include <limits>

#include "tl/tensor/tensor.hpp"

namespace tl::inline TL_ABI {
namespace detail {

/// Calls body(Type<T>{}) with the storage type of a dtype.
template <class Body>
decltype(auto) visit_dtype(DType dtype, Body&& body) {
  switch (dtype) {
    case DType::f32:
      return body(Type<float>{});
    case DType::f64:
      return body(Type<double>{});
    case DType::bf16:
      return body(Type<BFloat16>{});
    case DType::f16:
      return body(Type<Float16>{});
    case DType::i8:
      return body(Type<int8_t>{});
    case DType::u8:
      return body(Type<uint8_t>{});
    case DType::i32:
      return body(Type<int32_t>{});
    case DType::i64:
      return body(Type<int64_t>{});
    case DType::boolean:
      return body(Type<bool>{});
  }
  fail<DTypeError>("unknown element type ", static_cast<int>(dtype));
}

/// Truncated; beyond the range of To its end, and 0 for NaN: a plain cast would be undefined.
template <class To, class From>
To to_integer(From value) {
  constexpr auto kLow = static_cast<From>(std::numeric_limits<To>::min());
  constexpr auto kHigh = static_cast<From>(std::numeric_limits<To>::max());  // may round up to one beyond
  if (std::isnan(value)) return 0;
  if (value <= kLow) return std::numeric_limits<To>::min();
  if (value >= kHigh) return std::numeric_limits<To>::max();
  return static_cast<To>(value);
}

template <class To, class From>
To convert(From value) {
  if constexpr (std::is_same_v<From, BFloat16> || std::is_same_v<From, Float16>) return convert<To>(to_float(value));
  else if constexpr (std::is_same_v<To, BFloat16>) return to_bfloat16(static_cast<float>(value));
  else if constexpr (std::is_same_v<To, Float16>) return to_float16(static_cast<float>(value));
  else if constexpr (std::is_same_v<To, bool>) return value != From(0);
  else if constexpr (std::is_floating_point_v<From> && std::is_integral_v<To>) return to_integer<To>(value);
  else return static_cast<To>(value);
}

TL_INLINE void convert_all(DType from, const void* source, DType to, void* target, int64_t count) {
  visit_dtype(from, [&](auto from_type) {
    visit_dtype(to, [&](auto to_type) {
      using From = typename decltype(from_type)::type;
      using To = typename decltype(to_type)::type;
      const From* const x = static_cast<const From*>(source);
      To* const y = static_cast<To*>(target);
      parallel_for(count, 1 << 16, [=](int64_t first, int64_t last) {
        for (int64_t i = first; i < last; ++i) y[i] = convert<To>(x[i]);
      });
    });
  });
}

}  // namespace detail

TL_INLINE double Tensor::item() const {
  detail::refuse_while_recording("item", "return the tensor, and read it after the call.");
  require<ShapeError>(numel() == 1, "item: expected one element, got ", shape());
  const Tensor host = to(kCpu);
  return detail::visit_dtype(
      dtype(), [&](auto type) { return detail::convert<double>(*host.data<typename decltype(type)::type>()); });
}

TL_INLINE Tensor Tensor::to(DType target) const {
  if (target == dtype()) return *this;
  const Tensor source = to(kCpu);
  Tensor out = empty(shape(), target);
  const bool has_casts = has_kernel<BFloat16>(kCpu, kernel_tag::narrow());
  if (has_casts && dtype() == DType::f32 && target == DType::bf16) {
    kernel::narrow(kCpu, NarrowArgs<BFloat16>{source.data<float>(), out.mutable_data<BFloat16>(), numel()});
    return out.to(device());
  }
  if (has_casts && dtype() == DType::bf16 && target == DType::f32) {
    kernel::widen(kCpu, WidenArgs<BFloat16>{source.data<BFloat16>(), out.mutable_data<float>(), numel()});
    return out.to(device());
  }
  detail::perform("to", [from = dtype(), target, x = source.raw_data(), y = out.raw_mutable_data(), n = numel()] {
    detail::convert_all(from, x, target, y, n);
  });
  return out.to(device());
}

TL_INLINE void Tensor::copy_from(const Tensor& source) {
  require<ShapeError>(source.shape() == shape(), "copy_from: expected ", shape(), ", got ", source.shape());
  require<DTypeError>(source.dtype() == dtype(), "copy_from: expected ", dtype(), ", got ", source.dtype());
  if (numel() == 0) return;
  void* to = raw_mutable_data();
  const void* from = source.raw_data();
  if (device().is_cpu() && source.device().is_cpu()) {
    detail::perform("copy_from", [x = static_cast<const char*>(from), y = static_cast<char*>(to), n = bytes()] {
      parallel_for(static_cast<int64_t>(n), 1 << 20, [=](int64_t first, int64_t last) {
        std::memmove(y + first, x + first, static_cast<size_t>(last - first));
      });
    });
  } else if (source.device().is_cpu()) {
    require_cuda("copy").copy_to_device(to, from, bytes());
  } else if (device().is_cpu()) {
    require_cuda("copy").copy_to_host(to, from, bytes());
  } else {
    require_cuda("copy").copy_on_device(to, from, bytes());
  }
}

TL_INLINE void Tensor::fill_(double value) {
  if (numel() == 0) return;
  if (dtype() == DType::f32 && device().is_cuda()) {
    kernel::affine(device(), AffineArgs<float>{.x = nullptr,
                                               .y = mutable_data<float>(),
                                               .n = numel(),
                                               .alpha = 0,
                                               .beta = 0,
                                               .gamma = static_cast<float>(value)});
    return;
  }
  Tensor host = device().is_cpu() ? *this : empty(shape(), dtype());
  detail::visit_dtype(dtype(), [&](auto type) {
    using T = typename decltype(type)::type;
    detail::perform("fill_", [y = host.mutable_data<T>(), n = numel(), element = detail::convert<T>(value)] {
      std::fill_n(y, n, element);
    });
  });
  if (!device().is_cpu()) copy_from(host);
}

TL_INLINE void Tensor::zero_() {
  if (device().is_cpu() && numel() > 0)
    detail::perform("zero_", [y = raw_mutable_data(), n = bytes()] { std::memset(y, 0, n); });
  else fill_(0);
}

}  // namespace tl::inline TL_ABI
