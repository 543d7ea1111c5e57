// Memory of tensors: aligned, cached, counted.
#pragma once
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>

#include "tl/core/config.hpp"
#include "tl/core/device.hpp"
#include "tl/tensor/backend.hpp"

namespace tl::inline TL_ABI {

/// What tensors of a device hold.
MemoryStats memory_stats(DeviceType device = DeviceType::cpu);

/// Starts a new measurement: the peak becomes what is live now.
void reset_peak_bytes(DeviceType device = DeviceType::cpu);

/// Gives cached memory back to the system.
void release_cached_memory();

/// A block of memory shared by the tensors that view it.
class Storage {
 public:
  /// Fresh memory, 64-byte aligned, of undefined content.
  Storage(size_t bytes, Device device);

  /// Memory that belongs to something else, such as a mapped file; `owner` keeps it alive. Read-only memory must
  /// never be written: ask `writable()`.
  Storage(void* data, size_t bytes, bool writable, std::shared_ptr<const void> owner)
      : data_(data), bytes_(bytes), writable_(writable), owner_(std::move(owner)) {}

  Storage(const Storage&) = delete;
  Storage& operator=(const Storage&) = delete;
  ~Storage();

  void* data() const { return data_; }
  size_t bytes() const { return bytes_; }
  Device device() const { return device_; }
  bool writable() const { return writable_; }

  /// Changes whenever the content is handed out for writing, to a number that no storage had before: equal versions
  /// mean equal content. Autograd and caches of derived values compare it.
  uint64_t version() const { return version_; }
  void bump_version() { version_ = next_version(); }

 private:
  static uint64_t next_version() {
    static std::atomic<uint64_t> counter{0};
    return counter.fetch_add(1, std::memory_order_relaxed);
  }

  void* data_ = nullptr;
  size_t bytes_ = 0;
  size_t block_bytes_ = 0;  // what the allocator gave; 0 when owned by somebody else
  Device device_;
  bool writable_ = true;
  uint64_t version_ = next_version();
  std::shared_ptr<const void> owner_;
};

}  // namespace tl::inline TL_ABI

#if TL_HEADER_ONLY
#include "tl/tensor/storage.inl"
#endif
