// What no kernel shows of the core of all products: an exception in one of its steps.
#include <atomic>
#include <stdexcept>
#include <string>
#include <vector>

#include "support.hpp"
#include "tl/cpu/isa/includes.hpp"

namespace probe {
using namespace tl;
using namespace tl::cpu;
#define TL_VECTOR_BYTES 16
#define TL_BF16_KERNELS 0
#include "tl/cpu/isa/simd.inl"
//
#include "tl/cpu/isa/math.inl"
//
#include "tl/cpu/isa/functors.inl"
//
#include "tl/cpu/isa/activation.inl"
#include "tl/cpu/isa/multiply.inl"
#undef TL_VECTOR_BYTES
#undef TL_BF16_KERNELS
}  // namespace probe

namespace {

/// Throws at the n-th call; 0: never.
struct Fuse {
  std::atomic<int> calls_left;
  void burn() {
    if (--calls_left == 0) throw std::domain_error("no");
  }
};

struct FusedLeft {
  probe::StridedLeft<float> left;
  Fuse& fuse;
  auto rows(int64_t first, int64_t count, int64_t k_first, int64_t k_count, int64_t uses, float* buffer) const {
    fuse.burn();
    return left.rows(first, count, k_first, k_count, uses, buffer);
  }
};

struct FusedRight {
  probe::RowsRight<float> right;
  Fuse& fuse;
  void pack(int64_t k_first, int64_t k_count, int64_t col_first, int64_t cols, float* packed, int64_t place,
            int64_t panel_rows) const {
    fuse.burn();
    right.pack(k_first, k_count, col_first, cols, packed, place, panel_rows);
  }
};

}  // namespace

TEST_CASE("a product whose step fails releases the threads that wait for it, and the exception reaches the caller") {
  const int before = tl::threads();
  for (const auto& [m, n] : {std::pair<int64_t, int64_t>{300, 100}, {40, 2100}}) {  // shared steps, and columns apart
    const int64_t k = 800;                                                          // several blocks
    const std::vector<float> a(static_cast<size_t>(m * k), 1), b(static_cast<size_t>(k * n), 1);
    std::vector<float> c(static_cast<size_t>(m * n));
    const auto multiply = [&, m = m, n = n](int left_calls, int right_calls) {
      Fuse left_fuse{left_calls}, right_fuse{right_calls};
      probe::multiply<float>(m, n, k, FusedLeft{{a.data(), k, 1}, left_fuse}, FusedRight{{b.data(), n}, right_fuse},
                             probe::StoreTiles<float, probe::EvenRows>{.c = c.data(), .place = {n}});
    };
    for (const int threads : {1, 2, 4}) {
      CAPTURE(threads);
      tl::set_threads(threads);
      for (const int call : {1, 2, 3, 5}) CHECK_THROWS_WITH_AS(multiply(0, call), "no", std::domain_error);
      for (const int call : {1, 2, 30, 100}) CHECK_THROWS_WITH_AS(multiply(call, 0), "no", std::domain_error);
      multiply(0, 0);
      CHECK(std::count(c.begin(), c.end(), static_cast<float>(k)) == m * n);
    }
  }
  tl::set_threads(before);
}
