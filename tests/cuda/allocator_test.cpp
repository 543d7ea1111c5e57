// The memory cache, over a source that counts.
#include "caching_allocator.hpp"

#include <doctest/doctest.h>

#include <cstdlib>
#include <map>
#include <random>
#include <string>
#include <vector>

namespace tl::cuda {
namespace {

struct Source {
  std::map<void*, std::size_t> segments;
  std::size_t bytes = 0, limit = SIZE_MAX;
} source;

void* take(std::size_t bytes) {
  if (source.bytes + bytes > source.limit) return nullptr;
  void* memory = std::aligned_alloc(512, bytes);
  source.segments.emplace(memory, bytes);
  source.bytes += bytes;
  return memory;
}

void give_back(void* memory) {
  source.bytes -= source.segments.at(memory);
  source.segments.erase(memory);
  std::free(memory);
}

constexpr std::size_t kMiB = std::size_t{1} << 20;

TEST_CASE("cache: small blocks share a segment, neighbours join again, nothing is lost") {
  source = {};
  {
    CachingAllocator cache({take, give_back});
    std::vector<void*> blocks;
    for (int i = 0; i < 100; ++i) blocks.push_back(cache.allocate(1000, nullptr));
    CHECK(source.segments.size() == 1);
    CHECK(cache.statistics().live_bytes == 100 * 1024);
    for (std::size_t i = 0; i < blocks.size(); i += 2) CHECK(cache.deallocate(blocks[i]));
    for (std::size_t i = 1; i < blocks.size(); i += 2) CHECK(cache.deallocate(blocks[i]));
    CHECK(cache.statistics().live_bytes == 0);
    CHECK(cache.allocate(2 * kMiB, nullptr) == blocks[0]);  // the whole segment is one block again
    CHECK(source.segments.size() == 1);
  }
  CHECK(source.segments.size() == 1);  // what is in use is not taken away
  give_back(source.segments.begin()->first);
}

TEST_CASE("cache: a stream's memory stays with it") {
  source = {};
  CachingAllocator cache({take, give_back});
  int stream = 0;
  void* mine = cache.allocate(1000, nullptr);
  cache.deallocate(mine);
  void* theirs = cache.allocate(1000, &stream);
  CHECK(theirs != mine);
  CHECK(cache.allocate(1000, nullptr) == mine);
  cache.deallocate(mine);
  cache.deallocate(theirs);
}

TEST_CASE("cache: a small tensor does not sit in a huge free block") {
  source = {};
  CachingAllocator cache({take, give_back});
  void* huge = cache.allocate(64 * kMiB, nullptr);
  cache.deallocate(huge);
  void* small = cache.allocate(100, nullptr);
  CHECK(cache.allocate(64 * kMiB, nullptr) == huge);
  cache.deallocate(huge);
  cache.deallocate(small);
}

TEST_CASE("cache: a full device first gets the cached segments back, then there is an error that says so") {
  source = {};
  source.limit = 10 * kMiB;
  CachingAllocator cache({take, give_back});
  void* a = cache.allocate(6 * kMiB, nullptr);
  cache.deallocate(a);
  void* b = cache.allocate(8 * kMiB, nullptr);  // fits only once the 6 MiB are given back
  REQUIRE(b != nullptr);
  std::string what;
  try {
    cache.allocate(4 * kMiB, nullptr);
  } catch (const CudaError& error) {
    what = error.what();
  }
  CHECK(what ==
        "cuda: out of memory: asked the GPU for 4194304 bytes beside the 8388608 that are in use. "
        "Hint: a smaller batch, or bf16");
  CHECK_THROWS_AS(cache.allocate(SIZE_MAX, nullptr), CudaError);
  cache.deallocate(b);
}

TEST_CASE("cache: foreign and freed pointers are told") {
  source = {};
  CachingAllocator cache({take, give_back});
  int foreign = 0;
  CHECK_FALSE(cache.deallocate(&foreign));
  void* block = cache.allocate(1, nullptr);
  CHECK(cache.deallocate(block));
  CHECK_FALSE(cache.deallocate(block));
}

TEST_CASE("cache: live blocks never overlap, and all comes back, over 20,000 random steps") {
  source = {};
  {
    CachingAllocator cache({take, give_back});
    std::mt19937 random(1);
    std::map<char*, std::size_t> live;
    int streams[2];
    for (int step = 0; step < 20000; ++step) {
      if (live.empty() || random() % 2 == 0) {
        const std::size_t bytes = 1 + random() % (random() % 8 == 0 ? 5 * kMiB : 20000);
        auto* block = static_cast<char*>(cache.allocate(bytes, &streams[random() % 2]));
        const auto next = live.lower_bound(block);
        if (next != live.end()) REQUIRE(block + bytes <= next->first);
        if (next != live.begin()) REQUIRE(std::prev(next)->first + std::prev(next)->second <= block);
        live.emplace(block, bytes);
      } else {
        auto chosen = live.begin();
        std::advance(chosen, static_cast<std::ptrdiff_t>(random() % live.size()));
        REQUIRE(cache.deallocate(chosen->first));
        live.erase(chosen);
      }
      if (live.size() > 200) {
        for (const auto& [block, bytes] : live) REQUIRE(cache.deallocate(block));
        live.clear();
      }
    }
    for (const auto& [block, bytes] : live) REQUIRE(cache.deallocate(block));
    CHECK(cache.statistics().live_bytes == 0);
    CHECK(cache.statistics().reserved_bytes == source.bytes);
    cache.empty_cache();
    CHECK(cache.statistics().reserved_bytes == 0);
  }
  CHECK(source.segments.empty());
}

}  // namespace
}  // namespace tl::cuda
