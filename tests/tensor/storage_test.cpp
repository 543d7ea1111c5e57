// The allocator behind tensors: alignment, reuse, statistics, limits.
#include <cstring>
#include <new>
#include <string>
#include <thread>
#include <vector>

#include "support.hpp"
#include "tl/tensor/tensor.hpp"

namespace {

using tl::DType;
using tl::Tensor;

Tensor bytes(int64_t count) { return Tensor::empty({count}, DType::u8); }

/// Whether freed memory is cached: not under a sanitizer, which wants to see uses after free.
bool caching() {
  tl::release_cached_memory();
  { const Tensor x = bytes(64); }
  return tl::memory_stats().cached_bytes > 0;
}

TEST_CASE("every size is aligned to 64 bytes and can be written to its end") {
  for (const int64_t size :
       {0, 1, 63, 64, 65, 4095, 4096, 4097, 1 << 20, (2 << 20) - 1, 2 << 20, (2 << 20) + 1, 9 << 20}) {
    CAPTURE(size);
    Tensor x = bytes(size);
    CHECK(reinterpret_cast<uintptr_t>(x.raw_data()) % 64 == 0);
    std::memset(x.raw_mutable_data(), 1, static_cast<size_t>(size));
  }
}

TEST_CASE("live bytes follow the tensors, and the peak stays until it is reset") {
  const auto start = tl::memory_stats().live_bytes;
  tl::reset_peak_bytes();
  {
    const Tensor a = bytes(1 << 20);
    CHECK(tl::memory_stats().live_bytes == start + (1 << 20));
    const Tensor view = a.alias({1 << 10, 1 << 10}), handle = a;
    CHECK(tl::memory_stats().live_bytes == start + (1 << 20));
    const Tensor b = bytes(1 << 20);
    CHECK(tl::memory_stats().live_bytes == start + (2 << 20));
  }
  CHECK(tl::memory_stats().live_bytes == start);
  CHECK(tl::memory_stats().peak_bytes == start + (2 << 20));
  tl::reset_peak_bytes();
  CHECK(tl::memory_stats().peak_bytes == start);
}

TEST_CASE("freed memory serves the next tensor of about the same size") {
  if (!caching()) TL_SKIP("a sanitizer is on");
  tl::release_cached_memory();
  const void* block = nullptr;
  {
    const Tensor x = bytes(100000);
    block = x.raw_data();
  }
  CHECK(tl::memory_stats().cached_bytes == 102400);
  {
    const Tensor same = bytes(100000);
    CHECK(same.raw_data() == block);
    CHECK(tl::memory_stats().cached_bytes == 0);
  }
  {
    const Tensor tiny = bytes(64);  // does not waste a large block
    CHECK(tiny.raw_data() != block);
  }
  CHECK(tl::memory_stats().cached_bytes == 102400 + 64);
  tl::release_cached_memory();
  CHECK(tl::memory_stats().cached_bytes == 0);
}

TEST_CASE("the cache does not grow beyond what was once in use and some slack") {
  tl::release_cached_memory();
  tl::reset_peak_bytes();
  const auto start = tl::memory_stats().live_bytes;
  for (int64_t megabytes = 1; megabytes <= 60; ++megabytes) bytes(megabytes << 20);  // each too small for the next
  const auto stats = tl::memory_stats();
  CHECK(stats.live_bytes == start);
  CHECK(stats.cached_bytes <= (60 << 20) + (34 << 20));
  tl::release_cached_memory();
}

TEST_CASE("more memory than there is is one clear error, and what was there before works on") {
  if (!caching()) TL_SKIP("a sanitizer is on, which ends the program instead");
  const Tensor before = Tensor::ones({3});
  const auto live = tl::memory_stats().live_bytes;
  try {
    Tensor::empty({int64_t{1} << 50});
    FAIL("allocated 4 petabytes");
  } catch (const std::bad_alloc&) {
  }
  CHECK(tl::memory_stats().live_bytes == live);
  CHECK(before.data<float>()[2] == 1);
}

TEST_CASE("tensors may be made and freed by many threads") {
  const auto live = tl::memory_stats().live_bytes;
  std::vector<std::thread> threads;
  for (int t = 0; t < 4; ++t)
    threads.emplace_back([t] {
      std::vector<Tensor> held;
      for (int i = 0; i < 2000; ++i) {
        held.push_back(Tensor::full({1 + (i * 37 + t) % 300}, t));
        if (held.size() > 20) held.erase(held.begin() + (i % 20));
        CHECK_UNARY(held.back().data<float>()[0] == static_cast<float>(t));
      }
    });
  for (auto& thread : threads) thread.join();
  CHECK(tl::memory_stats().live_bytes == live);
}

}  // namespace
