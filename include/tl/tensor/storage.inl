// Definitions of storage.hpp.
#pragma once
#include <sys/mman.h>

#include <algorithm>
#include <cstdlib>
#include <map>
#include <mutex>
#include <new>

#include "tl/tensor/backend.hpp"
#include "tl/tensor/storage.hpp"

namespace tl::inline TL_ABI {
namespace detail {

/// Keeps freed blocks for the next tensor of about the same size: fresh pages cost more than the arithmetic on them.
///
/// Live and cached memory together stay within the peak of live memory plus some slack; beyond that the largest cached
/// blocks go back to the system.
class CachingAllocator {
 public:
  void* allocate(size_t bytes, size_t& block_bytes) {
    const std::lock_guard lock(mutex_);
    const size_t wanted = round_up(std::max<size_t>(bytes, 1));
    void* data = nullptr;
    if (const auto found = cached_.lower_bound(wanted);
        found != cached_.end() && found->first <= wanted + wanted / 4 + kPage) {
      block_bytes = found->first;
      data = found->second;
      cached_.erase(found);
      stats_.cached_bytes -= static_cast<int64_t>(block_bytes);
    } else {
      const auto fits = [&] {
        return stats_.live_bytes + stats_.cached_bytes + static_cast<int64_t>(wanted) <= stats_.peak_bytes + kSlack;
      };
      while (!cached_.empty() && !fits()) drop_largest();
      block_bytes = wanted;
      data = from_system(wanted);
      if (!data) {
        while (!cached_.empty()) drop_largest();
        data = from_system(wanted);
      }
      if (!data) throw std::bad_alloc();
    }
    stats_.live_bytes += static_cast<int64_t>(block_bytes);
    stats_.peak_bytes = std::max(stats_.peak_bytes, stats_.live_bytes);
    return data;
  }

  void release(void* data, size_t block_bytes) noexcept {
    const std::lock_guard lock(mutex_);
    stats_.live_bytes -= static_cast<int64_t>(block_bytes);
#if defined(__SANITIZE_ADDRESS__)
    to_system(data, block_bytes);  // so that the sanitizer sees uses after free
#else
    try {
      cached_.emplace(block_bytes, data);
      stats_.cached_bytes += static_cast<int64_t>(block_bytes);
    } catch (const std::bad_alloc&) {
      to_system(data, block_bytes);
    }
#endif
  }

  void release_cached() {
    const std::lock_guard lock(mutex_);
    while (!cached_.empty()) drop_largest();
  }

  MemoryStats stats() {
    const std::lock_guard lock(mutex_);
    return stats_;
  }

  void reset_peak() {
    const std::lock_guard lock(mutex_);
    stats_.peak_bytes = stats_.live_bytes;
  }

 private:
  static constexpr size_t kPage = 4096, kHugePage = size_t{2} << 20;
  static constexpr int64_t kSlack = int64_t{32} << 20;

  static size_t round_up(size_t bytes) {
    const size_t unit = bytes < kPage ? 64 : bytes < kHugePage ? kPage : kHugePage / 8;
    return (bytes + unit - 1) / unit * unit;
  }

#if defined(__SANITIZE_ADDRESS__)
  static constexpr bool kMapsLargeBlocks = false;  // the sanitizer watches the heap alone
#else
  static constexpr bool kMapsLargeBlocks = true;
#endif

  /// Large blocks are mappings of their own, in huge pages as far as these fill: on the heap, what lies between such
  /// blocks would never return to the system.
  static void* from_system(size_t bytes) {
    if (!kMapsLargeBlocks || bytes < kHugePage) return std::aligned_alloc(64, bytes);
    void* const region = mmap(nullptr, bytes + kHugePage, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (region == MAP_FAILED) return nullptr;
    auto* const first = static_cast<char*>(region);
    const size_t before = (kHugePage - reinterpret_cast<uintptr_t>(region) % kHugePage) % kHugePage;
    if (before > 0) munmap(first, before);
    munmap(first + before + bytes, kHugePage - before);
#if defined(MADV_HUGEPAGE)
    madvise(first + before, bytes, MADV_HUGEPAGE);
#endif
    return first + before;
  }

  static void to_system(void* data, size_t bytes) noexcept {
    if (!kMapsLargeBlocks || bytes < kHugePage) std::free(data);
    else munmap(data, bytes);
  }

  void drop_largest() {
    const auto largest = std::prev(cached_.end());
    to_system(largest->second, largest->first);
    stats_.cached_bytes -= static_cast<int64_t>(largest->first);
    cached_.erase(largest);
  }

  std::mutex mutex_;
  std::multimap<size_t, void*> cached_;
  MemoryStats stats_;
};

/// Never destroyed: tensors with static lifetime may outlive any order of destruction.
TL_INLINE CachingAllocator& host_allocator() {
  static auto& allocator = *new CachingAllocator;
  return allocator;
}

}  // namespace detail

TL_INLINE MemoryStats memory_stats(DeviceType device) {
  if (device == DeviceType::cpu) return detail::host_allocator().stats();
  return cuda_available() ? cuda_backend()->memory_stats() : MemoryStats();
}

TL_INLINE void reset_peak_bytes(DeviceType device) {
  if (device == DeviceType::cpu) detail::host_allocator().reset_peak();
  else if (cuda_available()) cuda_backend()->reset_peak_bytes();
}

TL_INLINE void release_cached_memory() {
  detail::host_allocator().release_cached();
  if (cuda_available()) cuda_backend()->release_cached_memory();
}

TL_INLINE Storage::Storage(size_t bytes, Device device) : bytes_(bytes), device_(device) {
  require<DeviceError>(device.index == 0, "allocate: there is no ", device,
                       " for tl, which uses one GPU. Hint: choose ", "it by CUDA_VISIBLE_DEVICES, and call it cuda:0.");
  if (device.is_cpu()) data_ = detail::host_allocator().allocate(bytes, block_bytes_);
  else data_ = require_cuda("allocate").allocate(block_bytes_ = bytes > 0 ? bytes : 1);
}

TL_INLINE Storage::~Storage() {
  if (block_bytes_ == 0) return;
  if (device_.is_cpu()) detail::host_allocator().release(data_, block_bytes_);
  else cuda_backend()->release(data_);
}

}  // namespace tl::inline TL_ABI
