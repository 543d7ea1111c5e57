// Rows picked by index, and gradients added back.
#include "cpu/outputs_check.hpp"

namespace {

using namespace tl;
using namespace tl_test;

struct Size {
  int64_t count, rows, cols;
};

const Size kSizes[] = {{0, 3, 4}, {1, 1, 1}, {5, 3, 1}, {100, 7, 17}, {64, 1000, 384}, {3000, 50, 33}, {10, 10, 5000}};

std::vector<int32_t> random_index(Size s, std::mt19937& random) {
  std::vector<int32_t> out;
  for (int64_t i = 0; i < s.count; ++i) out.push_back(static_cast<int32_t>(random() % static_cast<uint32_t>(s.rows)));
  return out;
}

}  // namespace

TEST_CASE_TEMPLATE("gather_rows copies rows", T, float, double) {
  std::mt19937 random(1);
  for (const Size s : kSizes) {
    const auto x = random_numbers<T>(s.rows * s.cols, random);
    const auto index = random_index(s, random);
    const Wanted want = wanted(s.count * s.cols, [&](int64_t i) {
      return at(x, index[static_cast<size_t>(i / s.cols)] * s.cols + i % s.cols);
    });
    for_each_isa<T>([&](const KernelTable<T>& table) {
      check_outputs<T>({want}, 0, [&](const std::vector<T*>& y) {
        table.gather_rows(
            {.x = x.data(), .index = index.data(), .y = y[0], .count = s.count, .rows = s.rows, .cols = s.cols});
      });
    });
  }
}

TEST_CASE_TEMPLATE("scatter_add_rows sums repeated rows and skips padding", T, float, double) {
  std::mt19937 random(2);
  for (const Size s : kSizes)
    for (const int32_t skip : {-1, 0}) {
      const auto y = random_numbers<T>(s.count * s.cols, random), old = random_numbers<T>(s.rows * s.cols, random);
      const auto index = random_index(s, random);
      Wanted want = wanted(s.rows * s.cols, [&](int64_t i) { return at(old, i); });
      for (int64_t i = 0; i < s.count * s.cols; ++i) {
        const int32_t row = index[static_cast<size_t>(i / s.cols)];
        if (row != skip) want[static_cast<size_t>(row * s.cols + i % s.cols)].add(at(y, i));
      }
      for_each_isa<T>([&](const KernelTable<T>& table) {
        check_outputs<T>({want}, s.count, [&](const std::vector<T*>& x) {
          std::copy(old.begin(), old.end(), x[0]);
          table.scatter_add_rows({.y = y.data(),
                                  .index = index.data(),
                                  .x = x[0],
                                  .count = s.count,
                                  .rows = s.rows,
                                  .cols = s.cols,
                                  .skip = skip});
        });
      });
    }
}
