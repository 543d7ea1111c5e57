// The CUDA device as the rest of tl sees it: memory, streams and copies. Declarations only and no CUDA header: a
// program that g++ alone compiles can use it, and links tl::cuda (kernels/runtime.cu).
#pragma once
#include <cstddef>
#include <cstdint>

namespace tl::cuda {

/// Number of usable GPUs; 0 without a GPU, without a driver, or with one that is too old. Never throws, asks once.
int device_count();

/// A queue of work on the GPU; work in one stream runs in order. The default one exists always.
struct Stream {
  void* handle = nullptr;  ///< a cudaStream_t; null is the default stream
  friend bool operator==(Stream, Stream) = default;
};

/// A new stream, which runs beside others. Throws CudaError.
Stream create_stream();
/// Waits for the stream's work, then ends it.
void destroy_stream(Stream stream);

/// The stream that this thread's kernels, copies and allocations use.
Stream current_stream();
/// Changes it; returns the former one.
Stream set_current_stream(Stream stream);

/// Waits until the current stream's work is done. Throws CudaError if a kernel or copy failed.
void synchronize();

/// `bytes` of GPU memory, aligned to 256 bytes; null for 0. Memory comes from a cache: freed blocks are kept and handed
/// out again on the same stream, without asking the driver and without waiting. Throws DeviceError without a GPU, and
/// CudaError when it is full, with the cache given back to the driver first.
void* allocate(std::size_t bytes);
/// Gives memory back to the cache. Work of the block's stream that still uses it stays valid; of another stream, wait
/// first.
void deallocate(void* memory) noexcept;

struct MemoryStatistics {
  std::size_t live_bytes = 0;      ///< handed out now
  std::size_t peak_bytes = 0;      ///< the most that was handed out at once since the last reset
  std::size_t reserved_bytes = 0;  ///< held from the driver: live and cached
  std::uint64_t driver_calls = 0;  ///< allocations that the cache could not serve
};
MemoryStatistics memory_statistics();
void reset_peak_bytes();
/// Gives all cached blocks back to the driver.
void empty_cache();

/// Copies on the current stream. The two that involve the host return when its memory has been read or written.
void copy_to_device(void* device, const void* host, std::size_t bytes);
void copy_to_host(void* host, const void* device, std::size_t bytes);
void copy_on_device(void* to, const void* from, std::size_t bytes);
/// Sets every byte, on the current stream.
void fill_bytes(void* device, int value, std::size_t bytes);

}  // namespace tl::cuda
