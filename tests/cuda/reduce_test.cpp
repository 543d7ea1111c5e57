#include <limits>
#include <numeric>

#include "device_test.hpp"
#include "rungs.hpp"

namespace tl::test {
namespace {

constexpr float kInf = std::numeric_limits<float>::infinity();
constexpr float kNaN = std::numeric_limits<float>::quiet_NaN();

struct Sizes {
  int64_t outer, axis, inner;
};

std::size_t count(int64_t a, int64_t b, int64_t c = 1) { return static_cast<std::size_t>(a * b * c); }

struct Expected {
  std::vector<double> y;
  std::vector<int32_t> index;
};

Expected reduce_in_double(Reduction reduction, const std::vector<float>& x, const Sizes& s) {
  Expected e{std::vector<double>(count(s.outer, s.inner)), std::vector<int32_t>(count(s.outer, s.inner))};
  for (int64_t o = 0; o < s.outer; ++o) {
    for (int64_t i = 0; i < s.inner; ++i) {
      const auto at = [&](int64_t a) { return double{x[count(1, (o * s.axis + a) * s.inner + i)]}; };
      double sum = 0;
      int64_t best = 0;
      for (int64_t a = 0; a < s.axis; ++a) {
        sum += at(a);
        const bool better = reduction == Reduction::max ? at(a) > at(best) : at(a) < at(best);
        if (better || (std::isnan(at(a)) && !std::isnan(at(best)))) best = a;
      }
      const auto result = count(1, o * s.inner + i);
      e.index[result] = static_cast<int32_t>(best);
      if (reduction == Reduction::sum) e.y[result] = sum;
      else if (reduction == Reduction::mean) e.y[result] = sum / static_cast<double>(s.axis);
      else e.y[result] = at(best);
    }
  }
  return e;
}

constexpr Sizes kSizes[] = {
    {5, 3, 1},      // very short rows
    {9, 33, 1},     // a warp per row
    {3, 1025, 1},   // a block per row
    {1, 9001, 1},   // one long row, cut
    {2, 5, 7},      // few columns
    {2, 35, 37},    // columns
    {1, 2100, 40},  // long columns, cut
    {3, 1, 5},      // nothing to do
};

TEST_CASE("reductions over every kind of shape") {
  for (const Sizes& s : kSizes) {
    CAPTURE(s.outer);
    CAPTURE(s.axis);
    CAPTURE(s.inner);
    const std::size_t results = count(s.outer, s.inner);
    auto x = random_floats(count(s.outer, s.axis, s.inner), 1);
    for (float& value : x) value = std::round(value * 8) / 8;  // so that the largest value occurs more than once
    OnDevice<float> in(x);
    for (const Reduction reduction : {Reduction::sum, Reduction::mean, Reduction::max, Reduction::min}) {
      const bool picks = reduction == Reduction::max || reduction == Reduction::min;
      const Expected expected = reduce_in_double(reduction, x, s);
      in_every_order([&] {
        OnDevice<float> y(results);
        OnDevice<int32_t> index(results);
        cuda::reduce({reduction, in.data(), y.data(), picks ? index.data() : nullptr, s.outer, s.axis, s.inner});
        CHECK_CLOSE(y.values(), expected.y, 1e-5);
        if (picks) CHECK(index.values() == expected.index);
      });
    }
  }
}

TEST_CASE("reductions give the same bits in every order") {
  const auto x = random_floats(9001, 2);
  OnDevice<float> in(x);
  std::vector<float> first;
  in_every_order([&] {
    OnDevice<float> y(1);
    cuda::reduce({Reduction::sum, in.data(), y.data(), nullptr, 1, 9001, 1});
    if (first.empty()) first = y.values();
    CHECK(y.values() == first);
  });
}

TEST_CASE("max and min: NaN wins, infinities count, an empty axis gives the neutral element") {
  const std::vector<float> x{1, kNaN, 3, kNaN, -kInf, -kInf, -kInf, -kInf, 2, kInf, kInf, 0};
  OnDevice<float> in(x);
  in_every_order([&] {
    OnDevice<float> y(3);
    OnDevice<int32_t> index(3);
    cuda::reduce({Reduction::max, in.data(), y.data(), index.data(), 3, 4, 1});
    CHECK_CLOSE(y.values(), (std::vector<double>{kNaN, -kInf, kInf}), 0);
    CHECK(index.values() == std::vector<int32_t>{1, 0, 1});
    cuda::reduce({Reduction::min, in.data(), y.data(), index.data(), 3, 4, 1});
    CHECK_CLOSE(y.values(), (std::vector<double>{kNaN, -kInf, 0}), 0);
    CHECK(index.values() == std::vector<int32_t>{1, 0, 3});
    cuda::reduce({Reduction::sum, in.data(), y.data(), nullptr, 3, 0, 1});
    CHECK(y.values() == std::vector<float>{0, 0, 0});
  });
}

TEST_CASE("every rung of the reductions") {
  const Sizes s{3, 70, 1}, columns{3, 70, 33};
  const auto x = random_floats(count(3, 70, 33), 3);
  OnDevice<float> in(x);
  for (const auto rung : {rungs::sum_rows_v1, rungs::sum_rows_v2, rungs::sum_rows_v3}) {
    in_every_order([&] {
      OnDevice<float> y(3);
      rung(in.data(), y.data(), s.outer, s.axis, s.inner);
      CHECK_CLOSE(y.values(), reduce_in_double(Reduction::sum, x, s).y, 1e-5);
    });
  }
  for (const auto rung : {rungs::sum_columns_v1, rungs::sum_columns_v2}) {
    in_every_order([&] {
      OnDevice<float> y(count(3, 33));
      rung(in.data(), y.data(), columns.outer, columns.axis, columns.inner);
      CHECK_CLOSE(y.values(), reduce_in_double(Reduction::sum, x, columns).y, 1e-5);
    });
  }
}

TEST_CASE("scatter_axis undoes the choice") {
  const Sizes s{3, 5, 7};
  const auto grad_y = random_floats(count(s.outer, s.inner), 4);
  const auto index = random_indices(grad_y.size(), static_cast<int32_t>(s.axis), 5);
  std::vector<double> grad_x(count(s.outer, s.axis, s.inner));
  for (std::size_t i = 0; i < grad_y.size(); ++i) {
    const auto o = static_cast<int64_t>(i) / s.inner, j = static_cast<int64_t>(i) % s.inner;
    grad_x[count(1, (o * s.axis + index[i]) * s.inner + j)] = grad_y[i];
  }
  OnDevice<float> grad(grad_y);
  OnDevice<int32_t> places(index);
  in_every_order([&] {
    OnDevice<float> out(grad_x.size());
    cuda::scatter_axis({grad.data(), places.data(), out.data(), s.outer, s.axis, s.inner});
    CHECK_CLOSE(out.values(), grad_x, 0);
  });
}

TEST_CASE("top_k: descending, lower index first among equals, NaN before all") {
  const int64_t rows = 4, cols = 300, k = 5;
  auto x = random_floats(count(rows, cols), 6);
  for (float& value : x) value = std::round(value * 4) / 4;
  x[17] = kNaN;
  std::vector<float> values;
  std::vector<int32_t> index;
  for (int64_t r = 0; r < rows; ++r) {
    const float* row = x.data() + r * cols;
    std::vector<int32_t> order(count(1, cols));
    std::iota(order.begin(), order.end(), 0);
    std::stable_sort(order.begin(), order.end(), [&](int32_t a, int32_t b) {
      if (std::isnan(row[a]) || std::isnan(row[b])) return std::isnan(row[a]) && !std::isnan(row[b]);
      return row[a] > row[b];
    });
    for (int64_t i = 0; i < k; ++i) {
      index.push_back(order[count(1, i)]);
      values.push_back(row[index.back()]);
    }
  }
  OnDevice<float> in(x);
  in_every_order([&] {
    OnDevice<float> out(values.size());
    OnDevice<int32_t> places(index.size());
    cuda::top_k({in.data(), out.data(), places.data(), rows, cols, k});
    CHECK(places.values() == index);
    CHECK_CLOSE(out.values(), std::vector<double>(values.begin(), values.end()), 0);
  });
}

}  // namespace
}  // namespace tl::test
