// tl/cuda/runtime.hpp by the CUDA runtime library.
#include "tl/cuda/runtime.hpp"

#include <cuda_runtime.h>

#include "caching_allocator.hpp"
#include "device/check.cuh"

namespace tl::cuda {
namespace {

thread_local Stream current;

cudaStream_t native(Stream stream) { return static_cast<cudaStream_t>(stream.handle); }

void* allocate_segment(std::size_t bytes) {
  void* memory = nullptr;
  if (cudaMalloc(&memory, bytes) == cudaSuccess) return memory;
  cudaGetLastError();  // the failure is reported by the null; it must not surface at the next kernel launch
  return nullptr;
}

void release_segment(void* memory) { cudaFree(memory); }

/// Lives until the process ends: the driver may be gone before static objects are destroyed.
CachingAllocator& allocator() {
  static auto* const instance = new CachingAllocator({&allocate_segment, &release_segment});
  return *instance;
}

}  // namespace

int device_count() {
  static const int count = [] {
    int devices = 0;
    // Without a driver the call fails and leaves the count alone. Every failure means: no GPU to use.
    if (cudaGetDeviceCount(&devices) != cudaSuccess) {
      cudaGetLastError();
      return 0;
    }
    return devices;
  }();
  return count;
}

Stream create_stream() {
  cudaStream_t stream = nullptr;
  check(cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking), "creating a stream");
  return {stream};
}

void destroy_stream(Stream stream) {
  check(cudaStreamSynchronize(native(stream)), "waiting for a stream");
  check(cudaStreamDestroy(native(stream)), "ending a stream");
}

Stream current_stream() { return current; }

Stream set_current_stream(Stream stream) {
  const Stream former = current;
  current = stream;
  return former;
}

void synchronize() { check(cudaStreamSynchronize(native(current)), "waiting for the GPU"); }

void* allocate(std::size_t bytes) {
  require<DeviceError>(device_count() > 0, "cuda: no GPU or no driver was found. Hint: use the CPU.");
  return allocator().allocate(bytes, current.handle);
}
void deallocate(void* memory) noexcept { allocator().deallocate(memory); }
MemoryStatistics memory_statistics() { return allocator().statistics(); }
void reset_peak_bytes() { allocator().reset_peak(); }
void empty_cache() { allocator().empty_cache(); }

void copy_to_device(void* device, const void* host, std::size_t bytes) {
  if (bytes == 0) return;
  check(cudaMemcpyAsync(device, host, bytes, cudaMemcpyHostToDevice, native(current)), "copying to the GPU");
  check(cudaStreamSynchronize(native(current)), "copying to the GPU");
}

void copy_to_host(void* host, const void* device, std::size_t bytes) {
  if (bytes == 0) return;
  check(cudaMemcpyAsync(host, device, bytes, cudaMemcpyDeviceToHost, native(current)), "copying from the GPU");
  check(cudaStreamSynchronize(native(current)), "copying from the GPU");
}

void copy_on_device(void* to, const void* from, std::size_t bytes) {
  if (bytes == 0) return;
  check(cudaMemcpyAsync(to, from, bytes, cudaMemcpyDeviceToDevice, native(current)), "copying on the GPU");
}

void fill_bytes(void* device, int value, std::size_t bytes) {
  if (bytes == 0) return;
  check(cudaMemsetAsync(device, value, bytes, native(current)), "filling GPU memory");
}

}  // namespace tl::cuda
