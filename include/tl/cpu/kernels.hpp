// The list of all kernels, and one table of them per backend: each instruction set fills one, and so does CUDA.
#pragma once
#include "tl/core/config.hpp"
#include "tl/core/cpu_features.hpp"
#include "tl/cpu/attention.hpp"
#include "tl/cpu/conv.hpp"
#include "tl/cpu/conv_chain.hpp"
#include "tl/cpu/elementwise.hpp"
#include "tl/cpu/gemm.hpp"
#include "tl/cpu/index.hpp"
#include "tl/cpu/norm.hpp"
#include "tl/cpu/optim.hpp"
#include "tl/cpu/picture.hpp"
#include "tl/cpu/pool.hpp"
#include "tl/cpu/reduce.hpp"
#include "tl/cpu/softmax.hpp"

namespace tl {

/// X(name, Args): a kernel `name` takes `const Args<T>&`. A new kernel is a line here, its argument struct above, and
/// its body in cpu/isa/; see CONTRIBUTING.md. The first list is of those that exist for bfloat16 too: what networks
/// spend their time on.
#define TL_HALF_KERNELS(X)                        \
  X(unary, UnaryArgs)                             \
  X(unary_backward, UnaryBackwardArgs)            \
  X(binary, BinaryArgs)                           \
  X(binary_backward, BinaryBackwardArgs)          \
  X(affine, AffineArgs)                           \
  X(copy_strided, CopyStridedArgs)                \
  X(dropout, DropoutArgs)                         \
  X(reduce, ReduceArgs)                           \
  X(gemm, GemmArgs)                               \
  X(gemm_pack, GemmPackArgs)                      \
  X(conv_forward, ConvForwardArgs)                \
  X(conv_pack, ConvPackArgs)                      \
  X(conv_backward_data, ConvBackwardDataArgs)     \
  X(conv_backward_weight, ConvBackwardWeightArgs) \
  X(max_pool, MaxPoolArgs)                        \
  X(max_pool_backward, MaxPoolBackwardArgs)       \
  X(avg_pool, AvgPoolArgs)                        \
  X(avg_pool_backward, AvgPoolBackwardArgs)       \
  X(batch_statistics, BatchStatisticsArgs)        \
  X(channel_affine, ChannelAffineArgs)            \
  X(batch_norm_backward, BatchNormBackwardArgs)   \
  X(layer_norm, LayerNormArgs)                    \
  X(layer_norm_backward, LayerNormBackwardArgs)   \
  X(softmax, SoftmaxArgs)                         \
  X(softmax_backward, SoftmaxBackwardArgs)

#define TL_KERNELS(X)                                 \
  TL_HALF_KERNELS(X)                                  \
  X(scatter_axis, ScatterAxisArgs)                    \
  X(top_k, TopKArgs)                                  \
  X(cross_entropy, CrossEntropyArgs)                  \
  X(cross_entropy_backward, CrossEntropyBackwardArgs) \
  X(gather_rows, GatherRowsArgs)                      \
  X(scatter_add_rows, ScatterAddRowsArgs)             \
  X(sgd, SgdArgs)                                     \
  X(adam, AdamArgs)                                   \
  X(resize, ResizeArgs)

/// Kernels that only fast backends have: what they compute, others compose from TL_KERNELS. The first exist for
/// bfloat16 too.
#define TL_HALF_FUSED_KERNELS(X) X(inverted_residual, InvertedResidualArgs)

#define TL_FUSED_KERNELS(X)                  \
  TL_HALF_FUSED_KERNELS(X)                   \
  X(chain_forward, ChainForwardArgs)         \
  X(chain_backward, ChainBackwardArgs)       \
  X(attention_forward, AttentionForwardArgs) \
  X(attention_backward, AttentionBackwardArgs)

/// Kernels that only half precision needs.
#define TL_CAST_KERNELS(X) \
  X(narrow, NarrowArgs)    \
  X(widen, WidenArgs)

/// One backend's kernels for element type T; a null entry is a kernel that the backend does not have.
template <class T>
struct KernelTable {
#define TL_ENTRY(name, Args) void (*name)(const Args<T>&) = nullptr;
  TL_KERNELS(TL_ENTRY)
  TL_FUSED_KERNELS(TL_ENTRY)
  TL_CAST_KERNELS(TL_ENTRY)
#undef TL_ENTRY
};

/// A type per kernel, which names it to templates.
namespace kernel_tag {
struct Any {};
#define TL_ENTRY(name_, Args)                        \
  struct name_ : Any {                               \
    template <class T>                               \
    static auto entry(const KernelTable<T>& table) { \
      return table.name_;                            \
    }                                                \
  };
TL_KERNELS(TL_ENTRY)
TL_FUSED_KERNELS(TL_ENTRY)
TL_CAST_KERNELS(TL_ENTRY)
#undef TL_ENTRY
}  // namespace kernel_tag

namespace cpu {

/// The kernels compiled for `isa`. Double precision, which is for checking, is compiled once, for the baseline.
template <class T>
const KernelTable<T>& kernels_for(Isa isa);

template <>
const KernelTable<float>& kernels_for<float>(Isa isa);
template <>
const KernelTable<double>& kernels_for<double>(Isa isa);
/// Those of TL_HALF_KERNELS for AVX-512; the table of the others is empty, as bfloat16 gains nothing there.
template <>
const KernelTable<BFloat16>& kernels_for<BFloat16>(Isa isa);

#if TL_HEADER_ONLY
/// One entry of `kernels_for<T>(isa)`. A header-only program compiles the kernels that it asks for here, no others.
template <class T, class Tag>
auto kernel_for(Isa isa, Tag tag);
#else
template <class T, class Tag>
auto kernel_for(Isa isa, Tag) {
  return Tag::entry(kernels_for<T>(isa));
}
#endif

}  // namespace cpu
}  // namespace tl

#if TL_HEADER_ONLY
#include "tl/cpu/kernels.inl"
#endif
