// Working memory of kernels: one buffer per thread and purpose, kept and grown.
#pragma once
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <new>

#include "tl/core/config.hpp"

namespace tl::cpu {

/// 64-byte aligned memory that only grows. What it holds is undefined after `get`.
class Scratch {
 public:
  Scratch() = default;
  Scratch(const Scratch&) = delete;
  Scratch& operator=(const Scratch&) = delete;
  ~Scratch() { std::free(data_); }

  template <class T>
  T* get(int64_t count) {
    const size_t bytes = (static_cast<size_t>(count) * sizeof(T) + 63) / 64 * 64;
    if (bytes > capacity_) {
      std::free(data_);
      capacity_ = 0;
      data_ = std::aligned_alloc(64, bytes);
      if (!data_) throw std::bad_alloc();
      capacity_ = bytes;
    }
    return static_cast<T*>(data_);
  }

 private:
  void* data_ = nullptr;
  size_t capacity_ = 0;
};

/// The buffers that kernels share out among themselves; a kernel never calls another one that uses the same.
enum class ScratchUse : int { pack_a, pack_b, partial, rows, sums, count };

inline Scratch& scratch(ScratchUse use) {
  thread_local Scratch buffers[static_cast<int>(ScratchUse::count)];
  return buffers[static_cast<int>(use)];
}

}  // namespace tl::cpu
