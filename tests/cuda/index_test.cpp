#include "device_test.hpp"

namespace tl::test {
namespace {

constexpr int64_t kRows = 11, kCols = 37, kCount = 29;

std::size_t place(int64_t row, int64_t col) { return static_cast<std::size_t>(row * kCols + col); }

TEST_CASE("gather_rows and its backward pass, with rows that occur twice and a padding row") {
  const auto index = random_indices(kCount, kRows, 1);
  const auto x = random_floats(kRows * kCols, 2), y = random_floats(kCount * kCols, 3);
  constexpr int32_t kSkip = 4;
  std::vector<double> gathered(kCount * kCols), sums(x.begin(), x.end());
  for (int64_t i = 0; i < kCount; ++i) {
    const int32_t row = index[static_cast<std::size_t>(i)];
    for (int64_t c = 0; c < kCols; ++c) {
      gathered[place(i, c)] = x[place(row, c)];
      if (row != kSkip) sums[place(row, c)] += y[place(i, c)];
    }
  }
  OnDevice<float> in(x), grad(y);
  OnDevice<int32_t> places(index);
  in_every_order([&] {
    OnDevice<float> out(gathered.size()), table(x);
    cuda::gather_rows({in.data(), places.data(), out.data(), kCount, kRows, kCols});
    cuda::scatter_add_rows({grad.data(), places.data(), table.data(), kCount, kRows, kCols, kSkip});
    CHECK_CLOSE(out.values(), gathered, 0);
    CHECK_CLOSE(table.values(), sums, 2e-6);
  });
}

}  // namespace
}  // namespace tl::test
