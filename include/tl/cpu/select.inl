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

#if TL_HEADER_ONLY
template <class T, class Tag>
auto kernel_for(Isa isa, Tag tag) {
  decltype(Tag::entry(std::declval<const KernelTable<T>&>())) function = nullptr;
  if constexpr (std::is_same_v<T, float>) {
#if TL_X86
    if (isa == Isa::avx512) return function = avx512::function_of<float>(tag);
    if (isa == Isa::avx2) return function = avx2::function_of<float>(tag);
#endif
    function = baseline::function_of<float>(tag);
  } else if constexpr (std::is_same_v<T, double>) {
    function = baseline::function_of<double>(tag);
  } else {
#if TL_X86 && TL_WITH_BF16
    if (isa == Isa::avx512) function = avx512::bf16_function_of(tag);
#endif
  }
  (void)isa;
  return function;
}
#endif

}  // namespace tl::cpu
