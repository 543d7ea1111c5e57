// The kernels for what every machine of the architecture has (SSE2, NEON), and those in double precision.
#pragma once
#include "tl/cpu/isa/includes.hpp"

#define TL_VECTOR_BYTES 16
#define TL_BF16_KERNELS 0
namespace tl::cpu::baseline {
#include "tl/cpu/isa/bodies.inl"
TL_INLINE const KernelTable<float>& table_f32() { return table<float>; }
TL_INLINE const KernelTable<double>& table_f64() { return table<double>; }
}  // namespace tl::cpu::baseline
#undef TL_VECTOR_BYTES
#undef TL_BF16_KERNELS
