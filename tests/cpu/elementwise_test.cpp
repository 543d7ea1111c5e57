// Element by element kernels against references in double precision.
#include <algorithm>
#include <numbers>

#include "cpu/outputs_check.hpp"
#include "tl/core/random.hpp"

namespace {

using namespace tl;
using namespace tl_test;

const std::vector<int64_t> kSizes{0, 1, 3, 15, 16, 17, 100, 66001};

struct UnaryReference {
  UnaryFunction function;
  double (*value)(double);
  double (*slope)(double);  // as a function of x
  double low, high;         // where to test
};

double phi(double x) { return 0.5 * std::erfc(-x / std::sqrt(2.0)); }
double logistic(double x) { return 1 / (1 + std::exp(-x)); }
double gelu_inner(double x) { return std::sqrt(2 / std::numbers::pi) * (x + 0.044715 * x * x * x); }

const UnaryReference kUnary[] = {
    {UnaryFunction::neg, [](double x) { return -x; }, [](double) { return -1.0; }, -5, 5},
    {UnaryFunction::abs, [](double x) { return std::abs(x); }, [](double x) { return x > 0 ? 1.0 : -1.0; }, -5, 5},
    {UnaryFunction::square, [](double x) { return x * x; }, [](double x) { return 2 * x; }, -5, 5},
    {UnaryFunction::sqrt, [](double x) { return std::sqrt(x); }, [](double x) { return 0.5 / std::sqrt(x); }, 0.1, 9},
    {UnaryFunction::exp, [](double x) { return std::exp(x); }, [](double x) { return std::exp(x); }, -20, 20},
    {UnaryFunction::log, [](double x) { return std::log(x); }, [](double x) { return 1 / x; }, 0.01, 9},
    {UnaryFunction::reciprocal, [](double x) { return 1 / x; }, [](double x) { return -1 / (x * x); }, 0.1, 9},
    {UnaryFunction::relu, [](double x) { return std::max(x, 0.0); }, [](double x) { return x > 0 ? 1.0 : 0.0; }, -5, 5},
    {UnaryFunction::relu6, [](double x) { return std::clamp(x, 0.0, 6.0); },
     [](double x) { return x > 0 && x < 6 ? 1.0 : 0.0; }, -9, 9},
    {UnaryFunction::gelu, [](double x) { return x * phi(x); },
     [](double x) { return phi(x) + x * std::exp(-0.5 * x * x) / std::sqrt(2 * std::numbers::pi); }, -6, 6},
    {UnaryFunction::gelu_tanh, [](double x) { return 0.5 * x * (1 + std::tanh(gelu_inner(x))); },
     [](double x) {
       const double t = std::tanh(gelu_inner(x));
       return 0.5 * (1 + t) + 0.5 * x * (1 - t * t) * std::sqrt(2 / std::numbers::pi) * (1 + 3 * 0.044715 * x * x);
     },
     -6, 6},
    {UnaryFunction::silu, [](double x) { return x * logistic(x); },
     [](double x) { return logistic(x) * (1 + x * (1 - logistic(x))); }, -20, 20},
    {UnaryFunction::sigmoid, [](double x) { return logistic(x); },
     [](double x) { return logistic(x) * (1 - logistic(x)); }, -20, 20},
    {UnaryFunction::tanh, [](double x) { return std::tanh(x); },
     [](double x) { return 1 - std::tanh(x) * std::tanh(x); }, -9, 9},
    {UnaryFunction::hardswish, [](double x) { return x * std::clamp(x + 3, 0.0, 6.0) / 6; },
     [](double x) { return x < -3  ? 0.0
                           : x > 3 ? 1.0
                                   : x / 3 + 0.5; }, -5, 5}};

template <class T>
void check_unary(const KernelTable<T>& table, const UnaryReference& f, int64_t n, std::mt19937& random) {
  std::uniform_real_distribution<double> uniform(f.low, f.high);
  std::vector<T> x(static_cast<size_t>(n)), kept = x;
  for (T& value : x) value = static_cast<T>(uniform(random));
  const auto grad_y = random_numbers<T>(n, random);
  // Errors are measured against the size of what is summed inside: 1 + erf, 1 - y^2 and the like, times x.
  const auto reference = [](double value, double size) { return Reference{value, std::max(std::abs(value), size)}; };
  const bool smooth = f.function >= UnaryFunction::gelu && f.function != UnaryFunction::sigmoid;
  check_outputs<T>(
      {wanted(n, [&](int64_t i) { return reference(f.value(at(x, i)), smooth ? std::abs(at(x, i)) : 0); })}, 0,
      [&](const std::vector<T*>& y) { table.unary({.function = f.function, .x = x.data(), .y = y[0], .n = n}); });
  for (size_t i = 0; i < kept.size(); ++i)
    kept[i] = slope_from_y(f.function) ? static_cast<T>(f.value(static_cast<double>(x[i]))) : x[i];
  check_outputs<T>(
      {wanted(n,
              [&](int64_t i) {
                const double size = f.function >= UnaryFunction::gelu ? 1 + std::abs(at(x, i)) : 0;
                return reference(at(grad_y, i) * f.slope(at(x, i)), std::abs(at(grad_y, i)) * size);
              })},
      0, [&](const std::vector<T*>& grad_x) {
        table.unary_backward(
            {.function = f.function, .kept = kept.data(), .grad_y = grad_y.data(), .grad_x = grad_x[0], .n = n});
      });
}

template <class T>
T run_one(const KernelTable<T>& table, UnaryFunction function, T x) {
  T y = 0;
  table.unary({.function = function, .x = &x, .y = &y, .n = 1});
  return y;
}

template <class T>
T run_one_backward(const KernelTable<T>& table, UnaryFunction function, T kept, T grad_y) {
  T grad_x = 0;
  table.unary_backward({.function = function, .kept = &kept, .grad_y = &grad_y, .grad_x = &grad_x, .n = 1});
  return grad_x;
}

double apply_binary(BinaryFunction function, double a, double b) {
  switch (function) {
    case BinaryFunction::add:
      return a + b;
    case BinaryFunction::sub:
      return a - b;
    case BinaryFunction::mul:
      return a * b;
    case BinaryFunction::div:
      return a / b;
    case BinaryFunction::maximum:
      return std::max(a, b);
    case BinaryFunction::minimum:
      return std::min(a, b);
  }
  return 0;
}

/// d f / d a and d f / d b
std::pair<double, double> binary_slopes(BinaryFunction function, double a, double b) {
  const double tie = a == b ? 0.5 : 0;
  switch (function) {
    case BinaryFunction::add:
      return {1, 1};
    case BinaryFunction::sub:
      return {1, -1};
    case BinaryFunction::mul:
      return {b, a};
    case BinaryFunction::div:
      return {1 / b, -a / (b * b)};
    case BinaryFunction::maximum:
      return {a > b ? 1 : tie, b > a ? 1 : tie};
    case BinaryFunction::minimum:
      return {a < b ? 1 : tie, b < a ? 1 : tie};
  }
  return {};
}

struct Layout {
  std::vector<int64_t> shape, stride_a, stride_b;
};

const Layout kLayouts[] = {{{}, {}, {}},
                           {{0, 4}, {4, 1}, {4, 1}},
                           {{7}, {1}, {1}},
                           {{66001}, {1}, {1}},
                           {{200, 333}, {333, 1}, {0, 0}},  // a scalar
                           {{200, 333}, {0, 1}, {333, 1}},  // a bias
                           {{22000, 3}, {3, 1}, {0, 1}},    // three channels
                           {{5, 40, 33}, {1320, 33, 1}, {33, 0, 1}},
                           {{4, 6, 5}, {5, 0, 1}, {0, 5, 1}},
                           {{2, 3, 4, 5}, {1, 40, 2, 8}, {60, 20, 5, 1}},  // a is permuted
                           {{2, 1, 3, 1, 2, 17}, {102, 7, 34, 9, 17, 1}, {0, 5, 17, 3, 0, 1}}};

template <class T>
void check_binary(const KernelTable<T>& table, BinaryFunction function, const Layout& layout, std::mt19937& random) {
  const auto rank = static_cast<int>(layout.shape.size());
  int64_t n = 1, size_a = 1, size_b = 1;
  for (size_t d = 0; d < layout.shape.size(); ++d) {
    n *= layout.shape[d];
    size_a += std::max<int64_t>(layout.shape[d] - 1, 0) * layout.stride_a[d];
    size_b += std::max<int64_t>(layout.shape[d] - 1, 0) * layout.stride_b[d];
  }
  auto a = random_numbers<T>(size_a, random), b = random_numbers<T>(size_b, random);
  for (T& value : b) value += value < 0 ? T(-0.5) : T(0.5);  // divisors
  if (size_a > 1) a[1] = b[size_b > 1 ? 1 : 0];              // a tie, in some layouts
  const auto grad_y = random_numbers<T>(n, random);
  const auto places = [&](int64_t i) {
    int64_t at_a = 0, at_b = 0;
    for (int d = rank - 1; d >= 0; --d) {
      const auto k = static_cast<size_t>(d);
      at_a += i % layout.shape[k] * layout.stride_a[k];
      at_b += i % layout.shape[k] * layout.stride_b[k];
      i /= layout.shape[k];
    }
    return std::pair{at(a, at_a), at(b, at_b)};
  };
  const auto fill = [&](auto& args) {
    for (size_t d = 0; d < layout.shape.size(); ++d) {
      args.shape[d] = layout.shape[d];
      args.stride_a[d] = layout.stride_a[d];
      args.stride_b[d] = layout.stride_b[d];
    }
  };
  check_outputs<T>({wanted(n,
                           [&](int64_t i) {
                             const auto [x, y] = places(i);
                             return Reference{apply_binary(function, x, y), std::abs(x) + std::abs(y)};
                           })},
                   0, [&](const std::vector<T*>& y) {
                     BinaryArgs<T> args{function, a.data(), b.data(), y[0], rank, {}, {}, {}};
                     fill(args);
                     table.binary(args);
                   });
  const auto grad = [&](int64_t i, bool of_a) {
    const auto [x, y] = places(i);
    const auto slopes = binary_slopes(function, x, y);
    return at(grad_y, i) * (of_a ? slopes.first : slopes.second);
  };
  const Wanted want_a = wanted(n, [&](int64_t i) { return grad(i, true); });
  const Wanted want_b = wanted(n, [&](int64_t i) { return grad(i, false); });
  BinaryBackwardArgs<T> args{function, a.data(), b.data(), grad_y.data(), nullptr, nullptr, rank, {}, {}, {}};
  fill(args);
  check_outputs<T>({want_a, want_b}, 0, [&](const std::vector<T*>& grads) {
    args.grad_a = grads[0];
    args.grad_b = grads[1];
    table.binary_backward(args);
  });
  check_outputs<T>({want_b}, 0, [&](const std::vector<T*>& grads) {
    args.grad_a = nullptr;
    args.grad_b = grads[0];
    table.binary_backward(args);
  });
}

struct CopyLayout {
  std::vector<int64_t> shape, stride_x, stride_y;
};

const CopyLayout kCopies[] = {{{}, {}, {}},
                              {{0, 3}, {3, 1}, {3, 1}},
                              {{100, 1000}, {1000, 1}, {1000, 1}},
                              {{7, 300}, {1000, 1}, {300, 1}},   // a slice
                              {{7, 300}, {300, 1}, {1000, 1}},   // a part of a concatenation
                              {{301, 257}, {1, 301}, {257, 1}},  // a transpose
                              {{3, 5000}, {1, 3}, {5000, 1}},    // NHWC to NCHW
                              {{5000, 3}, {1, 5000}, {3, 1}},    // NCHW to NHWC
                              {{2, 60, 60, 33}, {118800, 60, 1, 3600}, {118800, 1980, 33, 1}},
                              {{4, 5, 6, 7}, {1, 168, 4, 24}, {210, 42, 7, 1}},
                              {{4, 5, 6}, {30, 6, 1}, {1, 24, 4}},
                              {{6, 1, 5, 3}, {0, 3, 3, 1}, {15, 7, 3, 1}},  // repeats
                              {{6, 5}, {10, 2}, {5, 1}},                    // every other element
                              {{6, 5}, {5, 1}, {20, 3}}};

template <class T>
void check_copy(const KernelTable<T>& table, const CopyLayout& layout, bool accumulate, std::mt19937& random) {
  int64_t n = 1, size_x = 1, size_y = 1;
  for (size_t d = 0; d < layout.shape.size(); ++d) {
    n *= layout.shape[d];
    size_x += std::max<int64_t>(layout.shape[d] - 1, 0) * layout.stride_x[d];
    size_y += std::max<int64_t>(layout.shape[d] - 1, 0) * layout.stride_y[d];
  }
  const auto x = random_numbers<T>(size_x, random), old = random_numbers<T>(size_y, random);
  Wanted want = wanted(size_y, [&](int64_t i) { return at(old, i); });
  for (int64_t i = 0; i < n; ++i) {
    int64_t at_x = 0, at_y = 0, rest = i;
    for (size_t d = layout.shape.size(); d-- > 0;) {
      at_x += rest % layout.shape[d] * layout.stride_x[d];
      at_y += rest % layout.shape[d] * layout.stride_y[d];
      rest /= layout.shape[d];
    }
    if (!accumulate) want[static_cast<size_t>(at_y)] = {};
    want[static_cast<size_t>(at_y)].add(at(x, at_x));
  }
  check_outputs<T>({want}, n, [&](const std::vector<T*>& y) {
    std::copy(old.begin(), old.end(), y[0]);
    CopyStridedArgs<T> args{x.data(), y[0], static_cast<int>(layout.shape.size()), {}, {}, {}, accumulate};
    for (size_t d = 0; d < layout.shape.size(); ++d) {
      args.shape[d] = layout.shape[d];
      args.stride_x[d] = layout.stride_x[d];
      args.stride_y[d] = layout.stride_y[d];
    }
    table.copy_strided(args);
  });
}

}  // namespace

TEST_CASE_TEMPLATE("unary functions and their gradients", T, float, double) {
  std::mt19937 random(1);
  for_each_isa<T>([&](const KernelTable<T>& table) {
    for (const UnaryReference& f : kUnary) {
      CAPTURE(static_cast<int>(f.function));
      for (const int64_t n : kSizes) check_unary(table, f, n, random);
    }
  });
}

TEST_CASE_TEMPLATE("unary functions pass NaN on and take infinities", T, float, double) {
  constexpr T kInf = std::numeric_limits<T>::infinity(), kQuiet = std::numeric_limits<T>::quiet_NaN();
  for_each_isa<T>([&](const KernelTable<T>& table) {
    for (const UnaryReference& f : kUnary) {
      CAPTURE(static_cast<int>(f.function));
      CHECK(std::isnan(run_one(table, f.function, kQuiet)));
    }
    CHECK(run_one(table, UnaryFunction::exp, -kInf) == 0);
    CHECK(run_one(table, UnaryFunction::relu, kInf) == kInf);
    CHECK(run_one(table, UnaryFunction::relu6, kInf) == 6);
    CHECK(run_one(table, UnaryFunction::relu6, -kInf) == 0);
    CHECK(run_one(table, UnaryFunction::sigmoid, -kInf) == 0);
    CHECK(run_one(table, UnaryFunction::sigmoid, kInf) == 1);
    CHECK(run_one(table, UnaryFunction::tanh, -kInf) == -1);
    CHECK(run_one(table, UnaryFunction::gelu, kInf) == kInf);
    CHECK(run_one(table, UnaryFunction::log, T(0)) == -kInf);
    CHECK(run_one(table, UnaryFunction::hardswish, kInf) == kInf);
  });
}

TEST_CASE_TEMPLATE("slopes at kinks are PyTorch's", T, float, double) {
  for_each_isa<T>([&](const KernelTable<T>& table) {
    CHECK(run_one_backward(table, UnaryFunction::relu, T(0), T(2)) == 0);
    CHECK(run_one_backward(table, UnaryFunction::relu6, T(0), T(2)) == 0);
    CHECK(run_one_backward(table, UnaryFunction::relu6, T(6), T(2)) == 0);
    CHECK(run_one_backward(table, UnaryFunction::relu6, T(5.5), T(2)) == 2);
    CHECK(run_one_backward(table, UnaryFunction::abs, T(0), T(2)) == 0);
    CHECK(run_one_backward(table, UnaryFunction::hardswish, T(-3), T(2)) == 0);
    CHECK(run_one_backward(table, UnaryFunction::hardswish, T(3), T(2)) == 2);
    // A gradient that is infinite or NaN does not pass where the slope is 0.
    CHECK(run_one_backward(table, UnaryFunction::relu, T(0), std::numeric_limits<T>::infinity()) == 0);
    CHECK(run_one_backward(table, UnaryFunction::relu, T(0), std::numeric_limits<T>::quiet_NaN()) == 0);
  });
}

TEST_CASE_TEMPLATE("binary functions broadcast, and so do their gradients", T, float, double) {
  std::mt19937 random(2);
  for_each_isa<T>([&](const KernelTable<T>& table) {
    for (const auto function : {BinaryFunction::add, BinaryFunction::sub, BinaryFunction::mul, BinaryFunction::div,
                                BinaryFunction::maximum, BinaryFunction::minimum}) {
      CAPTURE(static_cast<int>(function));
      for (size_t i = 0; i < std::size(kLayouts); ++i) {
        CAPTURE(i);
        check_binary(table, function, kLayouts[i], random);
      }
    }
  });
}

TEST_CASE_TEMPLATE("maximum and minimum pass NaN on from either side", T, float, double) {
  const T nan = std::numeric_limits<T>::quiet_NaN();
  const std::vector<T> a{nan, 1, 2}, b{1, nan, 3};
  for_each_isa<T>([&](const KernelTable<T>& table) {
    for (const auto function : {BinaryFunction::maximum, BinaryFunction::minimum}) {
      std::vector<T> y(3);
      table.binary({function, a.data(), b.data(), y.data(), 1, {3}, {1}, {1}});
      CHECK(std::isnan(y[0]));
      CHECK(std::isnan(y[1]));
      CHECK(y[2] == (function == BinaryFunction::maximum ? 3 : 2));
    }
  });
}

TEST_CASE_TEMPLATE("affine reads only what its factors ask for", T, float, double) {
  std::mt19937 random(3);
  for_each_isa<T>([&](const KernelTable<T>& table) {
    for (const int64_t n : kSizes) {
      const auto x = random_numbers<T>(n, random), old = random_numbers<T>(n, random);
      for (const T alpha : {T(0), T(1), T(-0.75)})
        for (const T beta : {T(0), T(1), T(0.3)}) {
          CAPTURE(alpha);
          CAPTURE(beta);
          const Wanted want = wanted(n, [&](int64_t i) {
            Reference sum;
            sum.add(static_cast<double>(alpha) * at(x, i));
            sum.add(static_cast<double>(beta) * at(old, i));
            sum.add(0.125);
            return sum;
          });
          check_outputs<T>({want}, 0, [&](const std::vector<T*>& y) {
            if (beta != 0) std::copy(old.begin(), old.end(), y[0]);
            table.affine({.x = alpha == 0 ? nullptr : x.data(),
                          .y = y[0],
                          .n = n,
                          .alpha = alpha,
                          .beta = beta,
                          .gamma = T(0.125)});
          });
        }
    }
  });
}

TEST_CASE_TEMPLATE("copies between layouts", T, float, double) {
  std::mt19937 random(4);
  for_each_isa<T>([&](const KernelTable<T>& table) {
    for (size_t i = 0; i < std::size(kCopies); ++i) {
      CAPTURE(i);
      for (const bool accumulate : {false, true}) check_copy(table, kCopies[i], accumulate, random);
    }
    // Places of y that repeat are summed.
    for (const CopyLayout& sums : {CopyLayout{{500, 300}, {300, 1}, {0, 1}}, CopyLayout{{500, 300}, {300, 1}, {1, 0}},
                                   CopyLayout{{50, 60}, {60, 1}, {1, 1}}})
      check_copy(table, sums, true, random);
  });
}

TEST_CASE_TEMPLATE("dropout keeps the asked share, scales it, and repeats itself", T, float, double) {
  std::mt19937 random(5);
  for (const int64_t n : kSizes)
    for (const int64_t group : {int64_t{1}, int64_t{7}, int64_t{1000}}) {
      const auto x = random_numbers<T>(n, random);
      const auto draw = [&](int64_t i) {  // the mask, from its definition
        const auto d = static_cast<uint64_t>(i / group);
        return Philox::uniform(Philox::at(11, 5, d / 4).w[d % 4]) >= 0.3f;
      };
      int64_t kept = 0;
      for (int64_t i = 0; i < n; ++i) kept += draw(i);
      if (n > 10000 && group == 1) CHECK(std::abs(static_cast<double>(kept) / static_cast<double>(n) - 0.7) < 0.01);
      for_each_isa<T>([&](const KernelTable<T>& table) {
        check_outputs<T>(
            {wanted(n, [&](int64_t i) { return draw(i) ? at(x, i) / (1 - static_cast<double>(0.3f)) : 0; })}, 0,
            [&](const std::vector<T*>& y) {
              table.dropout(
                  {.x = x.data(), .y = y[0], .n = n, .group = group, .probability = 0.3f, .seed = 11, .counter = 5});
            });
      });
    }
}
