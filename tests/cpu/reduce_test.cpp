// Reductions and top-k against references in double precision.
#include <algorithm>
#include <numeric>

#include "cpu/outputs_check.hpp"

namespace {

using namespace tl;
using namespace tl_test;

struct Extent {
  int64_t outer, axis, inner;
};

const Extent kExtents[] = {{1, 1, 1},     {3, 1, 5},    {1, 100003, 1}, {7, 1000, 1}, {300, 17, 1},
                           {2, 40000, 1}, {1, 5000, 3}, {4, 129, 33},   {2, 300, 64}, {1, 3, 9000},
                           {5, 7, 130},   {1000, 4, 1}, {0, 4, 5},      {3, 5, 0},    {1, 70000, 5}};

template <class T>
std::vector<int32_t> places(const std::vector<T>& x, Extent e, bool min) {
  std::vector<int32_t> out(static_cast<size_t>(e.outer * e.inner));
  for (int64_t o = 0; o < e.outer; ++o)
    for (int64_t j = 0; j < e.inner; ++j) {
      int64_t best = 0;
      for (int64_t a = 1; a < e.axis; ++a) {
        const double value = at(x, (o * e.axis + a) * e.inner + j), old = at(x, (o * e.axis + best) * e.inner + j);
        if (std::isnan(old)) break;
        if (std::isnan(value) || (min ? value < old : value > old)) best = a;
      }
      out[static_cast<size_t>(o * e.inner + j)] = static_cast<int32_t>(best);
    }
  return out;
}

template <class T>
void check_extreme(const KernelTable<T>& table, const std::vector<T>& x, Extent e, bool min) {
  const auto want = places(x, e, min);
  for (const int count : {1, 3}) {
    set_threads(count);
    Guarded<T> y(e.outer * e.inner);
    std::vector<int32_t> index(want.size() + 2, -7);
    table.reduce({.reduction = min ? Reduction::min : Reduction::max,
                  .x = x.data(),
                  .y = y.data(),
                  .index = index.data() + 1,
                  .outer = e.outer,
                  .axis = e.axis,
                  .inner = e.inner});
    CHECK(y.intact());
    CHECK(index.front() == -7);
    CHECK(index.back() == -7);
    CHECK(std::equal(want.begin(), want.end(), index.begin() + 1));
    int64_t wrong = 0;
    for (int64_t i = 0; i < y.size(); ++i) {
      const int64_t place = (i / e.inner * e.axis + want[static_cast<size_t>(i)]) * e.inner + i % e.inner;
      const T value = x[static_cast<size_t>(place)];
      wrong += !(y[i] == value || (std::isnan(value) && std::isnan(y[i])));
    }
    CHECK(wrong == 0);
  }
  set_threads(1);
}

}  // namespace

TEST_CASE_TEMPLATE("sums and means", T, float, double) {
  std::mt19937 random(1);
  for (const Extent e : kExtents) {
    CAPTURE(e.outer);
    CAPTURE(e.axis);
    CAPTURE(e.inner);
    auto x = random_numbers<T>(e.outer * e.axis * e.inner, random);
    for (T& value : x) value += T(1);  // all of one sign: errors don't cancel
    for (const bool mean : {false, true}) {
      const Wanted want = wanted(e.outer * e.inner, [&](int64_t i) {
        long double sum = 0;
        for (int64_t a = 0; a < e.axis; ++a)
          sum += static_cast<long double>(at(x, (i / e.inner * e.axis + a) * e.inner + i % e.inner));
        return static_cast<double>(mean ? sum / static_cast<long double>(e.axis) : sum);
      });
      for_each_isa<T>([&](const KernelTable<T>& table) {
        // Blocks keep the error near that of a hundred terms, however many there are.
        check_outputs<T>({want}, 100, [&](const std::vector<T*>& y) {
          table.reduce({.reduction = mean ? Reduction::mean : Reduction::sum,
                        .x = x.data(),
                        .y = y[0],
                        .index = nullptr,
                        .outer = e.outer,
                        .axis = e.axis,
                        .inner = e.inner});
        });
      });
    }
  }
}

TEST_CASE("a sum over nothing is 0") {
  for_each_isa<float>([&](const KernelTable<float>& table) {
    for (const int64_t inner : {int64_t{1}, int64_t{5}}) {
      std::vector<float> y(static_cast<size_t>(3 * inner), 9.f);
      table.reduce({Reduction::sum, nullptr, y.data(), nullptr, 3, 0, inner});
      for (const float value : y) CHECK(value == 0);
    }
  });
}

TEST_CASE_TEMPLATE("max and min: values, first places, NaN", T, float, double) {
  std::mt19937 random(2);
  for (const Extent e : kExtents) {
    CAPTURE(e.outer);
    CAPTURE(e.axis);
    CAPTURE(e.inner);
    auto x = random_numbers<T>(e.outer * e.axis * e.inner, random);
    for (T& value : x) value = std::round(value * 8);  // many ties
    for_each_isa<T>([&](const KernelTable<T>& table) {
      for (const bool min : {false, true}) {
        check_extreme(table, x, e, min);
        auto with_nan = x;
        for (size_t i = 5; i < x.size(); i += 97) with_nan[i] = std::numeric_limits<T>::quiet_NaN();
        check_extreme(table, with_nan, e, min);
        std::fill(with_nan.begin(), with_nan.end(), min ? T(kInfinity) : T(-kInfinity));
        check_extreme(table, with_nan, e, min);
      }
    });
  }
}

TEST_CASE_TEMPLATE("scatter_axis puts gradients where the extreme was", T, float, double) {
  std::mt19937 random(3);
  for (const Extent e : kExtents) {
    const auto x = random_numbers<T>(e.outer * e.axis * e.inner, random);
    const auto grad_y = random_numbers<T>(e.outer * e.inner, random);
    const auto index = places(x, e, false);
    Wanted want(x.size());
    for (int64_t i = 0; i < e.outer * e.inner; ++i)
      want[static_cast<size_t>((i / e.inner * e.axis + index[static_cast<size_t>(i)]) * e.inner + i % e.inner)].add(
          at(grad_y, i));
    for_each_isa<T>([&](const KernelTable<T>& table) {
      check_outputs<T>({want}, 0, [&](const std::vector<T*>& grad_x) {
        table.scatter_axis({.grad_y = grad_y.data(),
                            .index = index.data(),
                            .grad_x = grad_x[0],
                            .outer = e.outer,
                            .axis = e.axis,
                            .inner = e.inner});
      });
    });
  }
}

TEST_CASE_TEMPLATE("top_k: descending, ties by index, NaN first", T, float, double) {
  std::mt19937 random(4);
  struct Size {
    int64_t rows, cols, k;
  };
  for (const Size s : {Size{1, 1, 1}, {3, 5, 0}, {0, 5, 2}, {4, 10, 3}, {100, 1000, 5}, {2, 3000, 3000}, {9, 33, 32}})
    for (const bool special : {false, true}) {
      auto x = random_numbers<T>(s.rows * s.cols, random);
      for (T& value : x) value = std::round(value * 20);
      if (special)
        for (size_t i = 0; i < x.size(); i += 7) x[i] = T(i % 2 ? kNan : -kInfinity);
      for_each_isa<T>([&](const KernelTable<T>& table) {
        for (const int threads : {1, 3}) {
          set_threads(threads);
          std::vector<T> values(static_cast<size_t>(s.rows * s.k + 1), T(7));
          std::vector<int32_t> index(values.size(), 7);
          table.top_k({.x = x.data(),
                       .values = values.data(),
                       .index = index.data(),
                       .rows = s.rows,
                       .cols = s.cols,
                       .k = s.k});
          CHECK(values.back() == 7);
          CHECK(index.back() == 7);
          int64_t wrong = 0;
          for (int64_t r = 0; r < s.rows; ++r) {
            std::vector<int32_t> order(static_cast<size_t>(s.cols));
            std::iota(order.begin(), order.end(), 0);
            std::stable_sort(order.begin(), order.end(), [&](int32_t a, int32_t b) {
              const double u = at(x, r * s.cols + a), v = at(x, r * s.cols + b);
              return std::isnan(u) ? !std::isnan(v) : u > v;
            });
            for (int64_t i = 0; i < s.k; ++i) {
              const auto got = static_cast<size_t>(r * s.k + i);
              const auto from = static_cast<size_t>(r * s.cols + order[static_cast<size_t>(i)]);
              wrong +=
                  index[got] != order[static_cast<size_t>(i)] || std::memcmp(&values[got], &x[from], sizeof(T)) != 0;
            }
          }
          CHECK(wrong == 0);
        }
        set_threads(1);
      });
    }
}
