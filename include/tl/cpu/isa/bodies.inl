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

template <class T>
inline constexpr KernelTable<T> table = {
#define TL_ENTRY(name, Args) .name = &name<T>,
    TL_KERNELS(TL_ENTRY)
#if TL_VECTOR_BYTES > 16
        TL_FUSED_KERNELS(TL_ENTRY)
#endif
#undef TL_ENTRY
};

#if TL_BF16_KERNELS
inline constexpr KernelTable<BFloat16> table_of_bf16 = {
#define TL_ENTRY(name, Args) .name = &name<BFloat16>,
    TL_HALF_KERNELS(TL_ENTRY) TL_HALF_FUSED_KERNELS(TL_ENTRY) TL_CAST_KERNELS(TL_ENTRY)
#undef TL_ENTRY
};
#endif
