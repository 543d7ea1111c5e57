// All kernel bodies of one instruction set. No include guard: included once per set, into its namespace, inside its
// target region. TL_VECTOR_BYTES is the width of its vectors; TL_BF16_KERNELS says whether it has kernels for bfloat16.
#include "tl/cpu/isa/simd.inl"
//
#include "tl/cpu/isa/math.inl"
//
#include "tl/cpu/isa/functors.inl"
//
#include "tl/cpu/isa/elementwise.inl"
#include "tl/cpu/isa/reduce.inl"
//
#include "tl/cpu/isa/activation.inl"
#include "tl/cpu/isa/multiply.inl"
#if TL_BF16_KERNELS
#include "tl/cpu/isa/multiply_bf16.inl"
#endif
#include "tl/cpu/isa/gemm.inl"
#include "tl/cpu/isa/sums.inl"
#include "tl/cpu/isa/taps.inl"
#include "tl/cpu/isa/depthwise.inl"
#include "tl/cpu/isa/winograd.inl"
#include "tl/cpu/isa/conv.inl"
//
#include "tl/cpu/isa/pool.inl"
#include "tl/cpu/isa/norm.inl"
#if TL_VECTOR_BYTES > 16
#include "tl/cpu/isa/attention.inl"
#include "tl/cpu/isa/conv_chain.inl"
#include "tl/cpu/isa/inverted_residual.inl"
#endif
#include "tl/cpu/isa/softmax.inl"
#include "tl/cpu/isa/index.inl"
#include "tl/cpu/isa/optim.inl"
#include "tl/cpu/isa/picture.inl"

/// The function that computes a kernel, nullptr if this instruction set has none.
template <class T>
constexpr std::nullptr_t function_of(kernel_tag::Any) {
  return nullptr;
}
#define TL_ENTRY(name, Args)                               \
  template <class T>                                       \
  constexpr auto function_of(kernel_tag::name) {           \
    return static_cast<void (*)(const Args<T>&)>(name<T>); \
  }
TL_KERNELS(TL_ENTRY)
#if TL_VECTOR_BYTES > 16
TL_FUSED_KERNELS(TL_ENTRY)
#endif
#undef TL_ENTRY

template <class T>
inline constexpr KernelTable<T> table = {
#define TL_ENTRY(name, Args) .name = function_of<T>(kernel_tag::name()),
    TL_KERNELS(TL_ENTRY) TL_FUSED_KERNELS(TL_ENTRY)
#undef TL_ENTRY
};

#if TL_BF16_KERNELS
/// The same for bfloat16, which has fewer.
constexpr std::nullptr_t bf16_function_of(kernel_tag::Any) { return nullptr; }
#define TL_ENTRY(name, Args)                                             \
  constexpr auto bf16_function_of(kernel_tag::name) {                    \
    return static_cast<void (*)(const Args<BFloat16>&)>(name<BFloat16>); \
  }
TL_HALF_KERNELS(TL_ENTRY)
TL_HALF_FUSED_KERNELS(TL_ENTRY)
TL_CAST_KERNELS(TL_ENTRY)
#undef TL_ENTRY

inline constexpr KernelTable<BFloat16> table_of_bf16 = {
#define TL_ENTRY(name, Args) .name = bf16_function_of(kernel_tag::name()),
    TL_HALF_KERNELS(TL_ENTRY) TL_HALF_FUSED_KERNELS(TL_ENTRY) TL_CAST_KERNELS(TL_ENTRY)
#undef TL_ENTRY
};
#endif
