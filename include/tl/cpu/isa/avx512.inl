// The kernels for AVX-512.
#pragma once
#include "tl/cpu/isa/bf16_tile.inl"
#include "tl/cpu/isa/includes.hpp"
#if TL_X86

#if defined(__clang__)
#pragma clang attribute push(__attribute__((target("avx512f,avx512bw,avx512dq,avx512vl,avx2,fma"))), \
                             apply_to = function)
#else
#pragma GCC push_options
#pragma GCC target("avx512f,avx512bw,avx512dq,avx512vl,avx2,fma,prefer-vector-width=512")
#endif
#define TL_VECTOR_BYTES 64
#define TL_BF16_KERNELS TL_WITH_BF16
namespace tl::cpu::avx512 {
#include "tl/cpu/isa/bodies.inl"
TL_INLINE const KernelTable<float>& table_f32() { return table<float>; }
#if TL_BF16_KERNELS
TL_INLINE const KernelTable<BFloat16>& table_bf16() { return table_of_bf16; }
#endif
}  // namespace tl::cpu::avx512
#undef TL_VECTOR_BYTES
#undef TL_BF16_KERNELS
#if defined(__clang__)
#pragma clang attribute pop
#else
#pragma GCC pop_options
#endif

#endif
