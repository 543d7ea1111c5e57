// Element types.
#pragma once
#include <bit>
#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <type_traits>
#include <utility>

#include "tl/core/config.hpp"
#include "tl/core/error.hpp"

namespace tl {

enum class DType : uint8_t { f32, f64, bf16, f16, i8, u8, i32, i64, boolean };

/// Bytes of one element.
constexpr size_t size_of(DType dtype) {
  switch (dtype) {
    case DType::f64:
    case DType::i64:
      return 8;
    case DType::f32:
    case DType::i32:
      return 4;
    case DType::bf16:
    case DType::f16:
      return 2;
    case DType::i8:
    case DType::u8:
    case DType::boolean:
      return 1;
  }
  return 0;
}

constexpr std::string_view name_of(DType dtype) {
  switch (dtype) {
    case DType::f32:
      return "f32";
    case DType::f64:
      return "f64";
    case DType::bf16:
      return "bf16";
    case DType::f16:
      return "f16";
    case DType::i8:
      return "i8";
    case DType::u8:
      return "u8";
    case DType::i32:
      return "i32";
    case DType::i64:
      return "i64";
    case DType::boolean:
      return "bool";
  }
  return "?";
}

constexpr bool is_floating(DType dtype) {
  return dtype == DType::f32 || dtype == DType::f64 || dtype == DType::bf16 || dtype == DType::f16;
}

inline void append_text(std::string& out, DType dtype) { out += name_of(dtype); }

/// Half-precision numbers as storage: arithmetic happens in float.
struct BFloat16 {
  uint16_t bits;
};
struct Float16 {
  uint16_t bits;
};

inline float to_float(BFloat16 value) { return std::bit_cast<float>(static_cast<uint32_t>(value.bits) << 16); }

/// Rounds to nearest even; a NaN stays a NaN.
inline BFloat16 to_bfloat16(float value) {
  const auto bits = std::bit_cast<uint32_t>(value);
  if ((bits & 0x7fffffffu) > 0x7f800000u) return {static_cast<uint16_t>((bits >> 16) | 0x40u)};
  return {static_cast<uint16_t>((bits + 0x7fffu + ((bits >> 16) & 1u)) >> 16)};
}

inline float to_float(Float16 value) {
  const uint32_t sign = static_cast<uint32_t>(value.bits & 0x8000u) << 16;
  const uint32_t exponent = (value.bits >> 10) & 0x1fu;
  const uint32_t mantissa = value.bits & 0x3ffu;
  if (exponent == 31) return std::bit_cast<float>(sign | 0x7f800000u | (mantissa << 13));
  if (exponent != 0) return std::bit_cast<float>(sign | ((exponent + 112) << 23) | (mantissa << 13));
  const float magnitude = static_cast<float>(mantissa) * 5.9604644775390625e-8f;  // denormal: mantissa * 2^-24
  return sign ? -magnitude : magnitude;
}

/// Rounds to nearest even; too large becomes infinity, a NaN stays a NaN.
inline Float16 to_float16(float value) {
  const auto bits = std::bit_cast<uint32_t>(value);
  const auto sign = static_cast<uint16_t>((bits >> 16) & 0x8000u);
  const uint32_t magnitude = bits & 0x7fffffffu;
  const auto with_sign = [sign](uint32_t half) { return Float16{static_cast<uint16_t>(sign | half)}; };
  if (magnitude > 0x7f800000u) return with_sign(0x7e00u);
  if (magnitude >= 0x47800000u) return with_sign(0x7c00u);
  if (magnitude < 0x38800000u) {  // denormal half: adding 0.5 lets the float unit round at the right bit
    const float shifted = std::bit_cast<float>(magnitude) + 0.5f;
    return with_sign(std::bit_cast<uint32_t>(shifted) - 0x3f000000u);
  }
  return with_sign((magnitude - 0x38000000u + 0xfffu + ((magnitude >> 13) & 1u)) >> 13);
}

/// The C++ type of a DType and back: `dtype_of<float> == DType::f32`.
template <class T>
inline constexpr DType dtype_of = [] {
  if constexpr (std::is_same_v<T, float>) return DType::f32;
  else if constexpr (std::is_same_v<T, double>) return DType::f64;
  else if constexpr (std::is_same_v<T, BFloat16>) return DType::bf16;
  else if constexpr (std::is_same_v<T, Float16>) return DType::f16;
  else if constexpr (std::is_same_v<T, int8_t>) return DType::i8;
  else if constexpr (std::is_same_v<T, uint8_t>) return DType::u8;
  else if constexpr (std::is_same_v<T, int32_t>) return DType::i32;
  else if constexpr (std::is_same_v<T, int64_t>) return DType::i64;
  else if constexpr (std::is_same_v<T, bool>) return DType::boolean;
  else static_assert(sizeof(T) == 0, "tl tensors hold float, double, BFloat16, Float16, int8/32/64_t, uint8_t or bool");
}();

/// The type that numbers of type T are added up in, and in which parameters and statistics of T's operations are kept:
/// float for half precision, else T itself.
template <class T>
using Wide = std::conditional_t<std::is_same_v<T, BFloat16>, float, T>;

inline float widened(BFloat16 value) { return to_float(value); }
template <class T>
constexpr T widened(T value) {
  return value;
}

/// The nearest T.
template <class T>
T narrowed(Wide<T> value) {
  if constexpr (std::is_same_v<T, BFloat16>) return to_bfloat16(value);
  else return value;
}

/// Wide of the C++ type behind a DType.
constexpr DType wide(DType dtype) { return dtype == DType::bf16 ? DType::f32 : dtype; }

template <class T>
struct Type {
  using type = T;
};

/// Calls `body(Type<float>{})` or `body(Type<double>{})`: the two types that operations compute in.
template <class Body>
decltype(auto) visit_floating(DType dtype, std::string_view operation, Body&& body) {
  if (dtype == DType::f32) return body(Type<float>{});
  require<DTypeError>(dtype == DType::f64, operation, ": expected f32 (or f64, for checking), got ", dtype,
                      dtype == DType::bf16 ? ". Hint: cast(x, DType::f32)." : "");
  return body(Type<double>{});
}

/// The same for operations on activations, which come in bfloat16 too.
template <class Body>
decltype(auto) visit_activation(DType dtype, std::string_view operation, Body&& body) {
  if (dtype == DType::bf16) return body(Type<BFloat16>{});
  return visit_floating(dtype, operation, std::forward<Body>(body));
}

}  // namespace tl
