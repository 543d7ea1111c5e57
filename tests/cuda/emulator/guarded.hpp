// A buffer for tests that notices when a kernel touches what lies beside it.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <span>
#include <stdexcept>
#include <string>
#include <vector>

#include "sanitizers.hpp"

namespace tl::emulator {

/// `count` elements between two guard zones. Elements and zones start as 0xFF bytes (NaN as float): what a kernel reads
/// without having written it, or from beside the buffer, spoils its result; what it writes beside it, check() reports.
/// With AddressSanitizer any access to the zones stops the program at that line.
template <class T>
class Guarded {
 public:
  explicit Guarded(std::size_t count) : count_(count), memory_(allocate(count * sizeof(T))) {
    forbid_access(memory_.get(), kZone);
    forbid_access(end(), kZone);
  }
  Guarded(const std::vector<T>& values) : Guarded(values.size()) { std::copy(values.begin(), values.end(), data()); }
  ~Guarded() { open_zones(); }
  Guarded(const Guarded&) = delete;
  Guarded& operator=(const Guarded&) = delete;

  T* data() { return reinterpret_cast<T*>(memory_.get() + kZone); }
  const T* data() const { return reinterpret_cast<const T*>(memory_.get() + kZone); }
  std::size_t size() const { return count_; }
  std::vector<T> values() const { return {data(), data() + count_}; }

  /// Whether both zones are as they were.
  bool intact() const {
    open_zones();
    const auto untouched = [](std::byte b) { return b == std::byte{0xFF}; };
    const bool ok =
        std::all_of(memory_.get(), memory_.get() + kZone, untouched) && std::all_of(end(), end() + kZone, untouched);
    forbid_access(memory_.get(), kZone);
    forbid_access(end(), kZone);
    return ok;
  }

 private:
  static constexpr std::size_t kZone = 256;  // keeps the elements aligned as cudaMalloc would
  struct Free {
    void operator()(std::byte* p) const { std::free(p); }
  };

  static std::unique_ptr<std::byte, Free> allocate(std::size_t bytes) {
    const std::size_t total = (2 * kZone + bytes + kZone - 1) / kZone * kZone;
    auto* p = static_cast<std::byte*>(std::aligned_alloc(kZone, total));
    if (p == nullptr) throw std::bad_alloc();
    std::memset(p, 0xFF, total);
    return std::unique_ptr<std::byte, Free>(p);
  }
  std::byte* end() const { return memory_.get() + kZone + count_ * sizeof(T); }
  void open_zones() const {
    allow_access(memory_.get(), kZone);
    allow_access(end(), kZone);
  }

  std::size_t count_;
  std::unique_ptr<std::byte, Free> memory_;
};

}  // namespace tl::emulator
