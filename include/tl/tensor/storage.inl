// Definitions of storage.hpp.
#pragma once
#include <algorithm>
#include <cstdlib>
#include <deque>
#include <map>
#include <mutex>
#include <new>

#include "tl/tensor/arena.hpp"
#include "tl/tensor/backend.hpp"
#include "tl/tensor/storage.hpp"

namespace tl::inline TL_ABI {
namespace detail {

/// Memory of tensors on the host. Freed blocks are kept for the next tensors: small ones in lists by size, large ones
/// in an arena. Live and kept memory together stay within the peak of live memory plus some slack.
class CachingAllocator {
 public:
  void* allocate(size_t bytes, size_t& block_bytes) {
    const std::lock_guard lock(mutex_);
    block_bytes = round_up(std::max<size_t>(bytes, 1));
    void* data = find(block_bytes);
    if (!data) {
      drop_cached();
      data = find(block_bytes);
    }
    if (!data) throw std::bad_alloc();
    stats_.live_bytes += static_cast<int64_t>(block_bytes);
    stats_.peak_bytes = std::max(stats_.peak_bytes, stats_.live_bytes);
    return data;
  }

  void release(void* data, size_t block_bytes) noexcept {
    const std::lock_guard lock(mutex_);
    stats_.live_bytes -= static_cast<int64_t>(block_bytes);
    try {
      if (arena_.owns(data)) arena_.release(data, block_bytes);
      else if (block_bytes < kLarge && kCaches) small_[block_bytes].push_back(data), small_bytes_ += block_bytes;
      else std::free(data);
    } catch (const std::bad_alloc&) {
      if (!arena_.owns(data)) std::free(data);  // a large block's addresses are lost, its pages are not
      else madvise(data, block_bytes, MADV_DONTNEED);
    }
    const int64_t slack = std::max<int64_t>(kLeastSlack, stats_.peak_bytes / 4);
    if (stats_.live_bytes + cached_bytes() > stats_.peak_bytes + slack) drop_cached();
  }

  void release_cached() {
    const std::lock_guard lock(mutex_);
    drop_cached();
  }

  MemoryStats stats() {
    const std::lock_guard lock(mutex_);
    stats_.cached_bytes = cached_bytes();
    return stats_;
  }

  void reset_peak() {
    const std::lock_guard lock(mutex_);
    stats_.peak_bytes = stats_.live_bytes;
  }

 private:
#if defined(__SANITIZE_ADDRESS__)
  static constexpr bool kCaches = false;  // so that the sanitizer sees uses after free
#else
  static constexpr bool kCaches = true;
#endif
  static constexpr size_t kLarge = 16 * Arena::kUnit;
  static constexpr int64_t kLeastSlack = int64_t{32} << 20;

  static size_t round_up(size_t bytes) {
    const size_t unit = bytes < Arena::kUnit ? 64 : Arena::kUnit;
    return (bytes + unit - 1) / unit * unit;
  }

  void* find(size_t bytes) {
    if (bytes >= kLarge && kCaches) {
      if (void* const data = arena_.allocate(bytes)) return data;
    } else if (const auto found = small_.find(bytes); found != small_.end() && !found->second.empty()) {
      void* const data = found->second.front();
      found->second.pop_front();
      small_bytes_ -= bytes;
      return data;
    }
    return std::aligned_alloc(64, bytes);
  }

  int64_t cached_bytes() const { return static_cast<int64_t>(arena_.free_bytes() + small_bytes_); }

  void drop_cached() {
    for (const auto& [bytes, blocks] : small_)
      for (void* data : blocks) std::free(data);
    small_.clear();
    small_bytes_ = 0;
    arena_.trim();
  }

  std::mutex mutex_;
  Arena arena_;
  std::map<size_t, std::deque<void*>> small_;  // by size; the longest unused is taken first
  size_t small_bytes_ = 0;
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
  if (auto* const recorder = detail::Recorder::current()) data_ = recorder->allocate(*this, owner_);
  if (data_) return;
  if (device.is_cpu()) data_ = detail::host_allocator().allocate(bytes, block_bytes_);
  else data_ = require_cuda("allocate").allocate(block_bytes_ = bytes > 0 ? bytes : 1);
}

TL_INLINE Storage::~Storage() {
  if (auto* const recorder = detail::Recorder::current()) recorder->released(*this);
  if (block_bytes_ == 0) return;
  if (device_.is_cpu()) detail::host_allocator().release(data_, block_bytes_);
  else cuda_backend()->release(data_);
}

}  // namespace tl::inline TL_ABI
