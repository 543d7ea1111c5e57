// The device layer on a GPU; see execution.cuh, which includes this under nvcc. Nothing else mentions the CUDA
// runtime's device side. tests/cuda/emulator/device.hpp is the twin; tests/cuda/gpu_test compares the two bit for bit.
#pragma once
#include <cuda_runtime.h>

#include "device/check.cuh"

#define TL_KERNEL [[maybe_unused]] static __global__
#define TL_LAUNCH_BOUNDS(threads) __launch_bounds__(threads)
#define TL_DEVICE __device__ __forceinline__
#define TL_DEVICE_CALL inline __device__ __noinline__
#define TL_SHARED(name, ...) __shared__ alignas(16)::tl::device::TypeOf<__VA_ARGS__> name
#define TL_DYNAMIC_SHARED(name, T)                                     \
  extern __shared__ __align__(1024) unsigned char tl_dynamic_shared[]; \
  T* const name = reinterpret_cast<T*>(tl_dynamic_shared)
#define TL_UNROLLED _Pragma("unroll")

namespace tl::device {

struct Where {
  TL_DEVICE Where inside() const { return {}; }
};

TL_DEVICE Dim3 thread_idx() { return {threadIdx.x, threadIdx.y, threadIdx.z}; }
TL_DEVICE Dim3 block_idx() { return {blockIdx.x, blockIdx.y, blockIdx.z}; }
TL_DEVICE Dim3 block_dim() { return {blockDim.x, blockDim.y, blockDim.z}; }
TL_DEVICE Dim3 grid_dim() { return {gridDim.x, gridDim.y, gridDim.z}; }
TL_DEVICE int lane() {
  return static_cast<int>((threadIdx.x + blockDim.x * (threadIdx.y + blockDim.y * threadIdx.z)) % kWarpSize);
}

TL_DEVICE void sync_block(Where = {}) { __syncthreads(); }
TL_DEVICE void sync_warp(unsigned mask = kFullMask, Where = {}) { __syncwarp(mask); }

template <class T>
TL_DEVICE T shuffle(T value, int source, unsigned mask = kFullMask, Where = {}) {
  return __shfl_sync(mask, value, source);
}
template <class T>
TL_DEVICE T shuffle_xor(T value, int bits, unsigned mask = kFullMask, Where = {}) {
  return __shfl_xor_sync(mask, value, bits);
}
TL_DEVICE unsigned ballot(bool predicate, unsigned mask = kFullMask, Where = {}) {
  return __ballot_sync(mask, predicate);
}

template <class T>
TL_DEVICE T atomic_add(T* address, T value) {
  return atomicAdd(address, value);
}

TL_DEVICE float rounded_product(float a, float b) { return __fmul_rn(a, b); }

/// Stops nothing on a GPU; the emulator checks alignment and shared bounds.
TL_DEVICE void check_access(const void*, std::size_t, Where = {}) {}

template <class... Parameters>
void launch(void (*kernel)(Parameters...), const LaunchShape& shape, typename Identity<Parameters>::type... arguments) {
  constexpr std::size_t kWithoutAsking = 48 * 1024;
  if (shape.shared_bytes > kWithoutAsking) {
    cuda::check(cudaFuncSetAttribute(reinterpret_cast<const void*>(kernel), cudaFuncAttributeMaxDynamicSharedMemorySize,
                                     static_cast<int>(shape.shared_bytes)),
                "asking for shared memory");
  }
  const dim3 grid(shape.grid.x, shape.grid.y, shape.grid.z);
  const dim3 block(shape.block.x, shape.block.y, shape.block.z);
  const auto stream = static_cast<cudaStream_t>(cuda::current_stream().handle);
  kernel<<<grid, block, shape.shared_bytes, stream>>>(arguments...);
  cuda::check(cudaGetLastError(), "kernel launch");
}

}  // namespace tl::device
