// Chooses among the instruction sets' tables.
#pragma once
#include "tl/cpu/isa/tables.hpp"

namespace tl::cpu {

template <>
TL_INLINE const KernelTable<float>& kernels_for<float>(Isa isa) {
#if TL_X86
  if (isa == Isa::avx512) return avx512::table_f32();
  if (isa == Isa::avx2) return avx2::table_f32();
#endif
  (void)isa;
  return baseline::table_f32();
}

template <>
TL_INLINE const KernelTable<double>& kernels_for<double>(Isa) {
  return baseline::table_f64();
}

template <>
TL_INLINE const KernelTable<BFloat16>& kernels_for<BFloat16>(Isa isa) {
#if TL_X86 && TL_WITH_BF16
  if (isa == Isa::avx512) return avx512::table_bf16();
#endif
  (void)isa;
  static constexpr KernelTable<BFloat16> kNone = {};
  return kNone;
}

}  // namespace tl::cpu
