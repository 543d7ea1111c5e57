// Makes tl::cuda the CUDA backend of a program that links it. tensor/backend.hpp includes this where TL_WITH_CUDA is
// defined, which linking tl::cuda does.
#pragma once
#include "tl/cuda/kernels.hpp"
#include "tl/cuda/runtime.hpp"
#include "tl/tensor/backend.hpp"

namespace tl::detail {

inline MemoryStats cuda_memory_stats() {
  const auto statistics = cuda::memory_statistics();
  return {.live_bytes = static_cast<int64_t>(statistics.live_bytes),
          .peak_bytes = static_cast<int64_t>(statistics.peak_bytes),
          .cached_bytes = static_cast<int64_t>(statistics.reserved_bytes - statistics.live_bytes)};
}

inline const DeviceBackend* linked_cuda_backend() {
  static const DeviceBackend backend{.kernels = &cuda::kernels(),
                                     .device_count = &cuda::device_count,
                                     .allocate = &cuda::allocate,
                                     .release = &cuda::deallocate,
                                     .copy_to_device = &cuda::copy_to_device,
                                     .copy_to_host = &cuda::copy_to_host,
                                     .copy_on_device = &cuda::copy_on_device,
                                     .synchronize = &cuda::synchronize,
                                     .memory_stats = &cuda_memory_stats,
                                     .reset_peak_bytes = &cuda::reset_peak_bytes,
                                     .release_cached_memory = &cuda::empty_cache};
  return &backend;
}

/// Set before main(), by whichever file of the program comes first.
inline const bool cuda_backend_is_set = (cuda_backend() = linked_cuda_backend()) != nullptr;

}  // namespace tl::detail
