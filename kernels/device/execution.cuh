// The one layer that knows what kernels run on: a GPU, by nvcc, or the CPU emulator of tests/cuda/emulator, by g++ or
// clang++. Kernels use the names below and nothing else of CUDA: no <<<>>>, no __shared__, no intrinsics, no PTX. So
// the same source is run by the tests on machines without a GPU.
//
//   TL_KERNEL, TL_LAUNCH_BOUNDS(threads)      a kernel: `TL_KERNEL TL_LAUNCH_BOUNDS(256) void name(...)`
//   TL_DEVICE, TL_DEVICE_CALL                 a function that kernels call: inlined, or one body that is called
//   TL_SHARED(name, float[16][68]);           an array of the block
//   TL_DYNAMIC_SHARED(name, float);           elements of the launch's shared_bytes; at most one per kernel
//   TL_UNROLLED                                 before a loop with constant bounds
//   thread_idx() block_idx() block_dim() grid_dim() lane()   as in CUDA
//   sync_block()                              barrier of the block
//   sync_warp(mask)                           barrier of the mask's lanes; orders their memory accesses
//   shuffle(v, source, mask)                  the value of lane `source`
//   shuffle_xor(v, bits, mask)                the value of lane `lane() ^ bits`
//   ballot(p, mask)                           one bit for each lane of the mask: its predicate
//   atomic_add(address, v)                    returns the old value
//   rounded_product(a, b)                     a * b, which no compiler may merge into a fused multiply-add
//   launch(kernel, {.grid, .block, .shared_bytes}, arguments...)   on the current stream
//
// Every synchronizing function takes a `Where` by default argument: in the emulator the place of the call, for reports
// and to tell barriers apart, on a GPU nothing. A building block takes one too and passes `where.inside()` on.
#pragma once
#include <cstddef>
#include <cstdint>

#include "tl/cuda/runtime.hpp"

namespace tl::device {

inline constexpr int kWarpSize = 32;
inline constexpr unsigned kFullMask = 0xFFFFFFFFu;

struct Dim3 {
  unsigned x = 1, y = 1, z = 1;
};

struct LaunchShape {
  Dim3 grid = {}, block = {};
  std::size_t shared_bytes = 0;
};

/// The type in parentheses-free form: `TypeOf<float[16][68]>` is a type that a declaration can use.
template <class T>
using TypeOf = T;

/// Keeps a parameter out of template argument deduction.
template <class T>
struct Identity {
  using type = T;
};

}  // namespace tl::device

#if defined(__CUDACC__)
#include "device/gpu.cuh"
#else
#include "emulator/device.hpp"
#endif
