// What the kernel tests share: device buffers with guard zones, random numbers, comparison with a double-precision
// result. They use tl::cuda's own functions alone, so the same tests run in the emulator and on a GPU.
#pragma once
#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <random>
#include <string>
#include <vector>

#include "launchers.hpp"
#include "tl/cuda/runtime.hpp"
#if defined(TL_CUDA_EMULATED)
#include "schedules.hpp"
#endif

namespace tl::test {

/// Runs the body once on a GPU; in the emulator once in every order.
template <class Body>
void in_every_order(const Body& body) {
#if defined(TL_CUDA_EMULATED)
  for (const auto& schedule : kSchedules) {
    emulator::set_schedule(schedule);
    INFO("order: ", emulator::to_string(schedule));
    body();
  }
#else
  body();
#endif
}

/// Elements on the device between two guard zones. `shift` moves them off the alignment that allocations have.
template <class T>
class OnDevice {
 public:
  explicit OnDevice(std::size_t count, std::size_t shift = 0) : OnDevice(std::vector<T>(), count, shift) {}
  explicit OnDevice(const std::vector<T>& values, std::size_t shift = 0) : OnDevice(values, values.size(), shift) {}
  ~OnDevice() { cuda::deallocate(memory_); }
  OnDevice(const OnDevice&) = delete;
  OnDevice& operator=(const OnDevice&) = delete;

  T* data() { return reinterpret_cast<T*>(memory_ + first_); }

  /// The elements, after all work on the stream. Fails the test if something wrote beside them.
  std::vector<T> values() const {
    const auto bytes = download();
    const bool intact = std::all_of(bytes.begin(), bytes.begin() + as_difference(first_), is_guard) &&
                        std::all_of(bytes.begin() + as_difference(first_ + count_ * sizeof(T)), bytes.end(), is_guard);
    CHECK_MESSAGE(intact, "a kernel wrote beside its buffer");
    std::vector<T> values(count_);
    if (count_ != 0) std::memcpy(values.data(), bytes.data() + first_, count_ * sizeof(T));
    return values;
  }

 private:
  static constexpr std::size_t kZone = 256;

  OnDevice(const std::vector<T>& values, std::size_t count, std::size_t shift)
      : count_(count), first_(kZone + shift * sizeof(T)) {
    std::vector<unsigned char> bytes(first_ + count * sizeof(T) + kZone, 0xFF);
    if (!values.empty()) std::memcpy(bytes.data() + first_, values.data(), values.size() * sizeof(T));
    memory_ = static_cast<unsigned char*>(cuda::allocate(bytes.size()));
    size_ = bytes.size();
    cuda::copy_to_device(memory_, bytes.data(), bytes.size());
  }
  std::vector<unsigned char> download() const {
    std::vector<unsigned char> bytes(size_);
    cuda::copy_to_host(bytes.data(), memory_, size_);
    return bytes;
  }
  static std::ptrdiff_t as_difference(std::size_t n) { return static_cast<std::ptrdiff_t>(n); }
  static bool is_guard(unsigned char byte) { return byte == 0xFF; }

  std::size_t count_, first_, size_ = 0;
  unsigned char* memory_ = nullptr;
};

inline std::vector<float> random_floats(std::size_t count, unsigned seed, float low = -2, float high = 2) {
  std::mt19937 generator(seed);
  std::uniform_real_distribution<float> uniform(low, high);
  std::vector<float> values(count);
  for (float& value : values) value = uniform(generator);
  return values;
}

inline std::vector<int32_t> random_indices(std::size_t count, int32_t below, unsigned seed) {
  std::mt19937 generator(seed);
  std::uniform_int_distribution<int32_t> uniform(0, below - 1);
  std::vector<int32_t> values(count);
  for (int32_t& value : values) value = uniform(generator);
  return values;
}

/// "" if every value is within `tolerance` of the expected one (relative to 1 + its size); else the first that is not.
/// NaN and infinities must be where they are expected.
inline std::string difference(const std::vector<float>& values, const std::vector<double>& expected, double tolerance) {
  if (values.size() != expected.size()) return "sizes differ";
  for (std::size_t i = 0; i < values.size(); ++i) {
    const double value = values[i], wanted = expected[i];
    const bool same = std::isfinite(wanted) ? std::abs(value - wanted) <= tolerance * (1 + std::abs(wanted))
                                            : value == wanted || (std::isnan(value) && std::isnan(wanted));
    if (!same) return "at " + std::to_string(i) + ": " + std::to_string(value) + ", expected " + std::to_string(wanted);
  }
  return "";
}

}  // namespace tl::test

#define CHECK_CLOSE(values, expected, tolerance) CHECK(::tl::test::difference(values, expected, tolerance) == "")
