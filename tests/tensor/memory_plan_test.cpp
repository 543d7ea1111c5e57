// Plans never overlap in time and space, and come near the least that is possible.
#include "tl/tensor/memory_plan.hpp"

#include "support.hpp"
#include "tl/core/random.hpp"

namespace {

using tl::detail::plan_memory;
using tl::detail::PlannedBuffer;

void check_disjoint(const std::vector<PlannedBuffer>& buffers, size_t total) {
  for (size_t i = 0; i < buffers.size(); ++i) {
    CHECK(buffers[i].offset + buffers[i].bytes <= total);
    for (size_t j = 0; j < i; ++j) {
      const bool apart = buffers[i].offset + buffers[i].bytes <= buffers[j].offset ||
                         buffers[j].offset + buffers[j].bytes <= buffers[i].offset;
      CHECK_UNARY(apart || !buffers[i].meets(buffers[j]));
    }
  }
}

TEST_CASE("a chain of equal buffers needs two") {
  std::vector<PlannedBuffer> chain;
  for (int64_t i = 0; i < 100; ++i) chain.push_back({.bytes = 640, .first = i, .last = i + 2});
  const size_t total = plan_memory(chain);
  CHECK(total == 1280);
  check_disjoint(chain, total);
}

TEST_CASE("a small buffer goes into the smallest gap that holds it") {
  std::vector<PlannedBuffer> buffers{{.bytes = 512, .first = 0, .last = 4},   // 0
                                     {.bytes = 448, .first = 0, .last = 2},   // 512: later a gap of 448
                                     {.bytes = 384, .first = 0, .last = 4},   // 960
                                     {.bytes = 320, .first = 0, .last = 2},   // 1344: later a gap of 320
                                     {.bytes = 256, .first = 0, .last = 4},   // 1664
                                     {.bytes = 192, .first = 2, .last = 4}};  // into the second gap
  CHECK(plan_memory(buffers) == 1920);
  CHECK(buffers[5].offset == 1344);
}

TEST_CASE("nothing needs nothing") {
  std::vector<PlannedBuffer> none;
  CHECK(plan_memory(none) == 0);
}

TEST_CASE("random lifetimes: no overlap, and near what is alive at once") {
  for (uint64_t seed = 0; seed < 20; ++seed) {
    tl::Generator random(seed);
    std::vector<PlannedBuffer> buffers;
    for (int64_t i = 0; i < 200; ++i)
      buffers.push_back(
          {.bytes = 64 * static_cast<size_t>(1 + random.below(50)), .first = i, .last = i + 1 + random.below(20)});
    size_t most = 0;
    for (const PlannedBuffer& at : buffers) {
      size_t alive = 0;
      for (const PlannedBuffer& other : buffers)
        if (other.first <= at.first && at.first < other.last) alive += other.bytes;
      most = std::max(most, alive);
    }
    const size_t total = plan_memory(buffers);
    check_disjoint(buffers, total);
    CHECK(static_cast<double>(total) <= 1.25 * static_cast<double>(most));
  }
}

}  // namespace
