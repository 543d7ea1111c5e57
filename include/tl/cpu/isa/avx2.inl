// The kernels for AVX2 with FMA.
#pragma once
#include "tl/cpu/isa/includes.hpp"
#if TL_X86

#if defined(__clang__)
#pragma clang attribute push(__attribute__((target("avx2,fma"))), apply_to = function)
#else
#pragma GCC push_options
#pragma GCC target("avx2,fma")
#endif
#define TL_VECTOR_BYTES 32
#define TL_BF16_KERNELS 0
namespace tl::cpu::avx2 {
#include "tl/cpu/isa/bodies.inl"
TL_INLINE const KernelTable<float>& table_f32() { return table<float>; }
}  // namespace tl::cpu::avx2
#undef TL_VECTOR_BYTES
#undef TL_BF16_KERNELS
#if defined(__clang__)
#pragma clang attribute pop
#else
#pragma GCC pop_options
#endif

#endif
