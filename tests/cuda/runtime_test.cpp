// Memory, streams and copies; in the emulator and on a GPU.
#include <numeric>

#include "device_test.hpp"
#include "tl/core/error.hpp"

namespace tl::test {
namespace {

TEST_CASE("runtime: there is a device in these tests") { CHECK(cuda::device_count() >= 1); }

TEST_CASE("runtime: bytes go to the device, on it, and back") {
  std::vector<int32_t> numbers(100000), back(numbers.size()), filled(10);
  std::iota(numbers.begin(), numbers.end(), 0);
  const std::size_t bytes = numbers.size() * sizeof(int32_t);
  void *a = cuda::allocate(bytes), *b = cuda::allocate(bytes);
  cuda::copy_to_device(a, numbers.data(), bytes);
  cuda::copy_on_device(b, a, bytes);
  cuda::fill_bytes(a, 0x11, bytes);
  cuda::copy_to_host(back.data(), b, bytes);
  cuda::copy_to_host(filled.data(), a, filled.size() * sizeof(int32_t));
  CHECK(back == numbers);
  CHECK(filled == std::vector<int32_t>(10, 0x11111111));
  cuda::deallocate(a);
  cuda::deallocate(b);
}

TEST_CASE("runtime: nothing is fine too") {
  CHECK(cuda::allocate(0) == nullptr);
  cuda::deallocate(nullptr);
  cuda::copy_to_device(nullptr, nullptr, 0);
  cuda::copy_to_host(nullptr, nullptr, 0);
  cuda::copy_on_device(nullptr, nullptr, 0);
  cuda::fill_bytes(nullptr, 0, 0);
  cuda::synchronize();
}

TEST_CASE("runtime: memory is aligned, counted and used again") {
  cuda::synchronize();
  const auto before = cuda::memory_statistics();
  void* first = cuda::allocate(1000);
  CHECK(reinterpret_cast<std::uintptr_t>(first) % 256 == 0);
  CHECK(cuda::memory_statistics().live_bytes >= before.live_bytes + 1000);
  cuda::deallocate(first);
  CHECK(cuda::memory_statistics().live_bytes == before.live_bytes);
  const auto calls = cuda::memory_statistics().driver_calls;
  void* second = cuda::allocate(1000);
  CHECK(second == first);
  CHECK(cuda::memory_statistics().driver_calls == calls);
  cuda::deallocate(second);
  cuda::reset_peak_bytes();
  CHECK(cuda::memory_statistics().peak_bytes == cuda::memory_statistics().live_bytes);
  CHECK_THROWS_AS(cuda::allocate(std::size_t{1} << 60), CudaError);
}

TEST_CASE("runtime: a stream of its own") {
  const cuda::Stream stream = cuda::create_stream();
  const cuda::Stream former = cuda::set_current_stream(stream);
  CHECK(cuda::current_stream() == stream);
  const auto x = random_floats(1000, 1);
  {
    OnDevice<float> in(x), out(1000);
    cuda::affine({in.data(), out.data(), 1000, 2, 0, 0});
    std::vector<double> doubled;
    for (const float value : x) doubled.push_back(2 * value);
    CHECK_CLOSE(out.values(), doubled, 0);
  }
  cuda::set_current_stream(former);
  cuda::destroy_stream(stream);
}

}  // namespace
}  // namespace tl::test
