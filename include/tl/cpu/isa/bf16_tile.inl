// Bodies of cpu/bf16_tile.hpp.
//
// Both kernels read the same panels: a line of 64 bytes is 16 columns of two numbers, which is a vector of vdpbf16ps
// and a row of an AMX tile.
#pragma once
#include <cstring>

#include "tl/core/cpu_features.hpp"
#include "tl/cpu/bf16_tile.hpp"
#include "tl/cpu/isa/includes.hpp"

namespace tl::cpu {
namespace amx_reference {

/// AMX tiles in plain C++: register numbers, rows of 64 bytes, sums of float.
struct Tiles {
  static void zero(int tile) { std::memset(registers()[tile], 0, sizeof registers()[tile]); }
  static void load(int tile, const void* from, int64_t stride_bytes) {
    for (int64_t i = 0; i < 16; ++i)
      std::memcpy(registers()[tile][i], static_cast<const char*>(from) + i * stride_bytes, 64);
  }
  static void store(int tile, void* to, int64_t stride_bytes) {
    for (int64_t i = 0; i < 16; ++i) std::memcpy(static_cast<char*>(to) + i * stride_bytes, registers()[tile][i], 64);
  }
  /// c[16, 16] += a[16, 32] * b[16, 16, 2]
  static void dot(int c, int a, int b) {
    float sums[16][16];
    BFloat16 left[16][32], right[16][32];
    std::memcpy(sums, registers()[c], sizeof sums);
    std::memcpy(left, registers()[a], sizeof left);
    std::memcpy(right, registers()[b], sizeof right);
    for (int m = 0; m < 16; ++m)
      for (int p = 0; p < 16; ++p)
        for (int n = 0; n < 16; ++n) {
          sums[m][n] += to_float(left[m][2 * p]) * to_float(right[p][2 * n]);
          sums[m][n] += to_float(left[m][2 * p + 1]) * to_float(right[p][2 * n + 1]);
        }
    std::memcpy(registers()[c], sums, sizeof sums);
  }

 private:
  using Register = unsigned char[16][64];
  static Register* registers() {
    thread_local Register tiles[8];
    return tiles;
  }
};

#include "tl/cpu/isa/amx.inl"

}  // namespace amx_reference
}  // namespace tl::cpu

#if TL_X86
#if defined(__clang__)
#pragma clang attribute push( \
    __attribute__((target("avx512f,avx512bw,avx512dq,avx512vl,avx512bf16,amx-tile,amx-bf16"))), apply_to = function)
#else
#pragma GCC push_options
#pragma GCC target("avx512f,avx512bw,avx512dq,avx512vl,avx512bf16,amx-tile,amx-bf16,prefer-vector-width=512")
#endif
namespace tl::cpu {
namespace amx {

/// The processor's tiles. The numbers of registers are part of the instructions, hence the choices, which vanish.
struct Tiles {
#define TL_EACH_TILE(X) X(0) X(1) X(2) X(3) X(4) X(5) X(6) X(7)
  static TL_ALWAYS_INLINE void zero(int tile) {
#define TL_CASE(t) \
  if (tile == t) _tile_zero(t);
    TL_EACH_TILE(TL_CASE)
#undef TL_CASE
  }
  static TL_ALWAYS_INLINE void load(int tile, const void* from, int64_t stride_bytes) {
#define TL_CASE(t) \
  if (tile == t) _tile_loadd(t, from, static_cast<long>(stride_bytes));
    TL_EACH_TILE(TL_CASE)
#undef TL_CASE
  }
  static TL_ALWAYS_INLINE void store(int tile, void* to, int64_t stride_bytes) {
#define TL_CASE(t) \
  if (tile == t) _tile_stored(t, to, static_cast<long>(stride_bytes));
    TL_EACH_TILE(TL_CASE)
#undef TL_CASE
  }
  /// Of the sums 0 to 3: c is 2 (a - 4) + (b - 6).
  static TL_ALWAYS_INLINE void dot(int c, [[maybe_unused]] int a, [[maybe_unused]] int b) {
    if (c == 0) _tile_dpbf16ps(0, 4, 6);
    else if (c == 1) _tile_dpbf16ps(1, 4, 7);
    else if (c == 2) _tile_dpbf16ps(2, 5, 6);
    else _tile_dpbf16ps(3, 5, 7);
  }
#undef TL_EACH_TILE
};

#include "tl/cpu/isa/amx.inl"

/// All eight tiles with 16 rows of 64 bytes.
inline void begin() {
  struct alignas(64) Config {
    uint8_t palette = 1, start_row = 0, reserved[14] = {};
    uint16_t row_bytes[16] = {64, 64, 64, 64, 64, 64, 64, 64};
    uint8_t rows[16] = {16, 16, 16, 16, 16, 16, 16, 16};
  };
  const Config config;
  _tile_loadconfig(&config);
}
inline void end() { _tile_release(); }

}  // namespace amx

namespace avx512_bf16 {

inline constexpr auto kAll = static_cast<__mmask16>(-1);

TL_ALWAYS_INLINE __m512 widened(__m256i halves) {
  return _mm512_castsi512_ps(_mm512_maskz_slli_epi32(kAll, _mm512_maskz_cvtepu16_epi32(kAll, halves), 16));
}

/// Sums in registers: kRows x width. Two numbers of a row of a go to all lanes.
template <int kRows, int kVectors>
TL_NOINLINE void multiply_rows(int64_t pairs, const BFloat16* a, int64_t stride, const BFloat16* b, int64_t cols,
                               const Bf16Store& out) {
  constexpr int kGroup = 5;  // rows 0 to 4 of a group are addressed as base + {0, 1, 2, 3, 4} * stride
  __m512 sums[kRows][kVectors];
  const auto for_each_sum = [&](const auto& body) TL_INLINE_LAMBDA {
    TL_UNROLL
    for (int i = 0; i < kRows; ++i) {
      TL_UNROLL
      for (int v = 0; v < kVectors; ++v) body(sums[i][v], i, v);
    }
  };
  for_each_sum([](__m512& sum, int, int) TL_INLINE_LAMBDA { sum = _mm512_setzero_ps(); });
  const char* group[(kRows + kGroup - 1) / kGroup];
  const int64_t row_bytes = stride * 2;
  TL_UNROLL
  for (int g = 0; g * kGroup < kRows; ++g) group[g] = reinterpret_cast<const char*>(a) + g * kGroup * row_bytes;
  const char* panel = reinterpret_cast<const char*>(b);
  for (; pairs > 0; --pairs) {
    __m512bh right[kVectors];
    TL_UNROLL
    for (int v = 0; v < kVectors; ++v) right[v] = (__m512bh)_mm512_loadu_si512(panel + v * 64);
    TL_UNROLL
    for (int i = 0; i < kRows; ++i) {
      int left;
      std::memcpy(&left, group[i / kGroup] + i % kGroup * row_bytes, sizeof left);
      const auto both = (__m512bh)_mm512_set1_epi32(left);
      TL_UNROLL
      for (int v = 0; v < kVectors; ++v) sums[i][v] = _mm512_dpbf16_ps(sums[i][v], both, right[v]);
    }
    TL_UNROLL
    for (int g = 0; g * kGroup < kRows; ++g) group[g] += 4;
    panel += kVectors * 64;
  }

  const int64_t row = out.stride;
  __mmask16 lanes[kVectors];  // that are columns of C
  TL_UNROLL
  for (int v = 0; v < kVectors; ++v)
    lanes[v] = static_cast<__mmask16>((uint64_t{1} << std::min<int64_t>(cols - v * 16, 16)) - 1);
  if (const float* const bias = out.bias)
    for_each_sum([=](__m512& sum, int, int v)
                     TL_INLINE_LAMBDA { sum = _mm512_add_ps(sum, _mm512_maskz_loadu_ps(lanes[v], bias + v * 16)); });
  if (const BFloat16* const residual = out.residual)
    for_each_sum([=](__m512& sum, int i, int v) TL_INLINE_LAMBDA {
      const __m512 halves = widened(_mm256_maskz_loadu_epi16(lanes[v], residual + i * row + v * 16));
      sum = _mm512_add_ps(sum, halves);
    });
  const __m512 zero = _mm512_setzero_ps();
  if (out.activation != Activation::none)  // a NaN stays one
    for_each_sum([=](__m512& sum, int, int) TL_INLINE_LAMBDA { sum = _mm512_maskz_max_ps(kAll, zero, sum); });
  if (out.activation == Activation::relu6)
    for_each_sum([=](__m512& sum, int, int)
                     TL_INLINE_LAMBDA { sum = _mm512_maskz_min_ps(kAll, _mm512_set1_ps(6), sum); });
  const bool whole = cols == kVectors * 16;  // masked stores take longer
  if (float* const c = out.wide_c) {
    if (out.rounds)
      for_each_sum([=](__m512& sum, int, int) TL_INLINE_LAMBDA { sum = widened((__m256i)_mm512_cvtneps_pbh(sum)); });
    if (whole)
      for_each_sum([=](__m512& sum, int i, int v) TL_INLINE_LAMBDA { _mm512_storeu_ps(c + i * row + v * 16, sum); });
    else
      for_each_sum([=](__m512& sum, int i, int v)
                       TL_INLINE_LAMBDA { _mm512_mask_storeu_ps(c + i * row + v * 16, lanes[v], sum); });
    return;
  }
  BFloat16* const c = out.c;
  if (whole)
    for_each_sum([=](__m512& sum, int i, int v) TL_INLINE_LAMBDA {
      _mm256_storeu_si256(reinterpret_cast<__m256i*>(c + i * row + v * 16), (__m256i)_mm512_cvtneps_pbh(sum));
    });
  else
    for_each_sum([=](__m512& sum, int i, int v) TL_INLINE_LAMBDA {
      _mm256_mask_storeu_epi16(c + i * row + v * 16, lanes[v], (__m256i)_mm512_cvtneps_pbh(sum));
    });
}

inline constexpr int kRows = 14;

using MultiplyRows = void (*)(int64_t pairs, const BFloat16* a, int64_t stride, const BFloat16* b, int64_t cols,
                              const Bf16Store& out);

/// multiply_rows for each number of rows.
template <int kVectors, int... kRowsLessOne>
MultiplyRows pick_multiply_rows(int64_t rows, std::integer_sequence<int, kRowsLessOne...>) {
  static constexpr MultiplyRows kEach[] = {&multiply_rows<kRowsLessOne + 1, kVectors>...};
  return kEach[rows - 1];
}

inline void multiply_into(int64_t rows, int64_t k, const BFloat16* a, int64_t stride, const BFloat16* b, int64_t cols,
                          const Bf16Store& out) {
  constexpr auto kHeights = std::make_integer_sequence<int, kRows>{};
  (cols > 16 ? pick_multiply_rows<2>(rows, kHeights) : pick_multiply_rows<1>(rows, kHeights))(k / 2, a, stride, b, cols,
                                                                                              out);
}

inline void multiply(int64_t rows, int64_t k, const BFloat16* a, int64_t stride, const BFloat16* b, int64_t width,
                     float* out) {
  multiply_into(rows, k, a, stride, b, width, {.wide_c = out, .rounds = false, .stride = width});
}

}  // namespace avx512_bf16
}  // namespace tl::cpu
#if defined(__clang__)
#pragma clang attribute pop
#else
#pragma GCC pop_options
#endif
#endif

namespace tl::cpu {

/// What this process multiplies bfloat16 tiles with; `vectors` is the calling instruction set's own way.
inline Bf16Tile bf16_tile(const Bf16Tile& vectors) {
  switch (active_bf16_path()) {
    case Bf16Path::amx_reference:
      return {.rows = 32, .row_unit = 16, .multiply = &amx_reference::multiply_amx};
#if TL_X86
    case Bf16Path::amx:
      return {.rows = 32, .row_unit = 16, .multiply = &amx::multiply_amx, .begin = &amx::begin, .end = &amx::end};
    case Bf16Path::avx512_bf16:
      return {.rows = avx512_bf16::kRows,
              .k_unit = 2,
              .multiply = &avx512_bf16::multiply,
              .multiply_into = &avx512_bf16::multiply_into};
#endif
    default:
      return vectors;
  }
}

}  // namespace tl::cpu
