// The one dispatch point: which backend runs a kernel, and how memory of a device is had.
#pragma once
#include <string_view>

#include "tl/core/device.hpp"
#include "tl/core/dtype.hpp"
#include "tl/core/error.hpp"
#include "tl/core/parallel.hpp"
#include "tl/cpu/kernels.hpp"
#include "tl/tensor/recorder.hpp"

namespace tl {

/// Bytes held by tensors of one device.
struct MemoryStats {
  int64_t live_bytes = 0;    ///< in tensors now
  int64_t peak_bytes = 0;    ///< the most that was live at once since the start or the last reset
  int64_t cached_bytes = 0;  ///< freed, kept for the next tensor
};

/// What a device other than the CPU brings along. tl::cuda provides one; its functions throw CudaError.
struct DeviceBackend {
  const KernelTable<float>* kernels;
  int (*device_count)();
  void* (*allocate)(size_t bytes);
  void (*release)(void* data) noexcept;
  void (*copy_to_device)(void* device_data, const void* host_data, size_t bytes);
  void (*copy_to_host)(void* host_data, const void* device_data, size_t bytes);
  void (*copy_on_device)(void* to, const void* from, size_t bytes);
  void (*synchronize)();
  MemoryStats (*memory_stats)();
  void (*reset_peak_bytes)();
  void (*release_cached_memory)();
};

/// The CUDA backend of this program, or nullptr when it was linked without tl::cuda.
inline const DeviceBackend*& cuda_backend() {
  static const DeviceBackend* backend = nullptr;
  return backend;
}

/// Whether tensors can live on a CUDA device: tl::cuda is linked, and a driver and a device were found.
inline bool cuda_available() {
  static const bool available = cuda_backend() != nullptr && cuda_backend()->device_count() > 0;
  return available;
}

inline const DeviceBackend& require_cuda(std::string_view operation) {
  require<DeviceError>(cuda_backend() != nullptr, operation,
                       ": this program was built without CUDA. Hint: link tl::cuda, or use --device cpu.");
  require<DeviceError>(cuda_available(), operation, ": no CUDA device or driver was found. Hint: use --device cpu.");
  return *cuda_backend();
}

/// A kernel of a device, nullptr if it has none. CUDA has single precision only.
template <class T, class Tag>
auto kernel_of(Device device, Tag tag, std::string_view operation) {
  if (device.is_cpu()) return cpu::kernel_for<T>(active_isa(), tag);
  if constexpr (std::is_same_v<T, float>) return Tag::entry(*require_cuda(operation).kernels);
  fail<DTypeError>(operation, ": CUDA kernels compute in f32, got ", dtype_of<T>,
                   ". Hint: check gradients, and compute in bfloat16, on the CPU.");
}

template <class T, class Tag>
bool has_kernel(Device device, Tag tag) {
  return kernel_of<T>(device, tag, "has_kernel") != nullptr;
}

/// `kernel::gemm(device, args)` runs the device's gemm, or tells it to the recorder; one function for each line of the
/// lists.
namespace kernel {
#define TL_DEFINE_CALL(name, Args)                                                                             \
  template <class T>                                                                                           \
  void name(Device device, const Args<T>& args) {                                                              \
    const auto function = kernel_of<T>(device, kernel_tag::name(), #name);                                     \
    require<DeviceError>(                                                                                      \
        function != nullptr, #name ": there is no kernel for this operation on ", device, " in ", dtype_of<T>, \
        ". Hint: ", device.is_cpu() ? "cast the tensors to f32." : "move the tensors to the CPU for it.");     \
    detail::perform(#name, [function, args] {                                                                  \
      const FlushDenormals flush;                                                                              \
      function(args);                                                                                          \
    });                                                                                                        \
  }
TL_KERNELS(TL_DEFINE_CALL)
TL_FUSED_KERNELS(TL_DEFINE_CALL)
TL_CAST_KERNELS(TL_DEFINE_CALL)
#undef TL_DEFINE_CALL
}  // namespace kernel

}  // namespace tl

#if defined(TL_WITH_CUDA)
#include "tl/tensor/cuda_backend.hpp"
#endif
