// The launchers: one function per kernel of tl's table that CUDA has. Each is defined in the .cu file of its family.
#pragma once
#include "tl/cpu/elementwise.hpp"
#include "tl/cpu/gemm.hpp"
#include "tl/cpu/index.hpp"
#include "tl/cpu/optim.hpp"
#include "tl/cpu/reduce.hpp"
#include "tl/cpu/softmax.hpp"

namespace tl::cuda {

/// X(name, Args): the part of TL_KERNELS (tl/cpu/kernels.hpp) that is here.
#define TL_CUDA_KERNELS(X)                            \
  X(unary, UnaryArgs)                                 \
  X(unary_backward, UnaryBackwardArgs)                \
  X(binary, BinaryArgs)                               \
  X(binary_backward, BinaryBackwardArgs)              \
  X(affine, AffineArgs)                               \
  X(copy_strided, CopyStridedArgs)                    \
  X(dropout, DropoutArgs)                             \
  X(reduce, ReduceArgs)                               \
  X(scatter_axis, ScatterAxisArgs)                    \
  X(top_k, TopKArgs)                                  \
  X(gemm, GemmArgs)                                   \
  X(softmax, SoftmaxArgs)                             \
  X(softmax_backward, SoftmaxBackwardArgs)            \
  X(cross_entropy, CrossEntropyArgs)                  \
  X(cross_entropy_backward, CrossEntropyBackwardArgs) \
  X(gather_rows, GatherRowsArgs)                      \
  X(scatter_add_rows, ScatterAddRowsArgs)             \
  X(sgd, SgdArgs)                                     \
  X(adam, AdamArgs)

#define TL_DECLARE(name, Args) void name(const Args<float>& args);
TL_CUDA_KERNELS(TL_DECLARE)
#undef TL_DECLARE

}  // namespace tl::cuda
