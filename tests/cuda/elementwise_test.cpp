#include <functional>
#include <limits>

#include "device_test.hpp"
#include "rungs.hpp"
#include "tl/core/random.hpp"

namespace tl::test {
namespace {

constexpr float kInf = std::numeric_limits<float>::infinity();
constexpr float kNaN = std::numeric_limits<float>::quiet_NaN();

struct UnaryCase {
  const char* name;
  UnaryFunction function;
  double (*value)(double);
  double (*slope)(double);  // of x
  float low, high;
};

double phi(double x) { return 0.5 * std::erfc(-x / std::sqrt(2.0)); }
double sigmoid(double x) { return 1 / (1 + std::exp(-x)); }
constexpr double kGeluScale = 0.7978845608028654;
double gelu_inner(double x) { return kGeluScale * (x + 0.044715 * x * x * x); }

const UnaryCase kUnaryCases[] = {
    {"neg", UnaryFunction::neg, [](double x) { return -x; }, [](double) { return -1.0; }, -3, 3},
    {"abs", UnaryFunction::abs, [](double x) { return std::abs(x); }, [](double x) { return x > 0 ? 1.0 : -1.0; }, -3,
     3},
    {"square", UnaryFunction::square, [](double x) { return x * x; }, [](double x) { return 2 * x; }, -3, 3},
    {"sqrt", UnaryFunction::sqrt, [](double x) { return std::sqrt(x); }, [](double x) { return 0.5 / std::sqrt(x); },
     0.1f, 3},
    {"exp", UnaryFunction::exp, [](double x) { return std::exp(x); }, [](double x) { return std::exp(x); }, -3, 3},
    {"log", UnaryFunction::log, [](double x) { return std::log(x); }, [](double x) { return 1 / x; }, 0.1f, 3},
    {"reciprocal", UnaryFunction::reciprocal, [](double x) { return 1 / x; }, [](double x) { return -1 / (x * x); },
     0.2f, 3},
    {"relu", UnaryFunction::relu, [](double x) { return std::max(x, 0.0); }, [](double x) { return x > 0 ? 1.0 : 0.0; },
     -3, 3},
    {"relu6", UnaryFunction::relu6, [](double x) { return std::clamp(x, 0.0, 6.0); },
     [](double x) { return x > 0 && x < 6 ? 1.0 : 0.0; }, -9, 9},
    {"gelu", UnaryFunction::gelu, [](double x) { return x * phi(x); },
     [](double x) { return phi(x) + x * std::exp(-0.5 * x * x) * 0.3989422804014327; }, -4, 4},
    {"gelu_tanh", UnaryFunction::gelu_tanh, [](double x) { return 0.5 * x * (1 + std::tanh(gelu_inner(x))); },
     [](double x) {
       const double t = std::tanh(gelu_inner(x));
       return 0.5 * (1 + t) + 0.5 * x * (1 - t * t) * kGeluScale * (1 + 3 * 0.044715 * x * x);
     },
     -4, 4},
    {"silu", UnaryFunction::silu, [](double x) { return x * sigmoid(x); },
     [](double x) { return sigmoid(x) * (1 + x * (1 - sigmoid(x))); }, -4, 4},
    {"sigmoid", UnaryFunction::sigmoid, sigmoid, [](double x) { return sigmoid(x) * (1 - sigmoid(x)); }, -4, 4},
    {"tanh", UnaryFunction::tanh, [](double x) { return std::tanh(x); },
     [](double x) { return 1 - std::tanh(x) * std::tanh(x); }, -3, 3},
    {"hardswish", UnaryFunction::hardswish, [](double x) { return x * std::clamp(x + 3, 0.0, 6.0) / 6; },
     [](double x) { return x <= -3  ? 0.0
                           : x >= 3 ? 1.0
                                    : x / 3 + 0.5; }, -5, 5},
};

TEST_CASE("unary functions and their gradients: odd sizes, aligned or not") {
  for (const UnaryCase& c : kUnaryCases) {
    CAPTURE(c.name);
    for (const std::size_t n : {1u, 3u, 1027u}) {
      for (const std::size_t shift : {0u, 1u}) {
        CAPTURE(n);
        CAPTURE(shift);
        const auto x = random_floats(n, 1, c.low, c.high), grad_y = random_floats(n, 2);
        std::vector<double> y(n), grad_x(n);
        std::vector<float> kept(n);
        for (std::size_t i = 0; i < n; ++i) {
          y[i] = c.value(x[i]);
          grad_x[i] = c.slope(x[i]) * grad_y[i];
          kept[i] = slope_from_y(c.function) ? static_cast<float>(y[i]) : x[i];
        }
        OnDevice<float> in(x, shift), keep(kept, shift), grad(grad_y, shift);
        const auto size = static_cast<int64_t>(n);
        in_every_order([&] {
          OnDevice<float> out(n, shift), grad_out(n, shift);
          cuda::unary({c.function, in.data(), out.data(), size});
          cuda::unary_backward({c.function, keep.data(), grad.data(), grad_out.data(), size});
          CHECK_CLOSE(out.values(), y, 2e-6);
          CHECK_CLOSE(grad_out.values(), grad_x, 4e-6);
        });
      }
    }
  }
}

TEST_CASE("unary functions at kinks, infinities and NaN") {
  const std::vector<float> x{0, -0.0f, 6, 3, -3, kInf, -kInf, kNaN}, ones(x.size(), 1.0f);
  OnDevice<float> in(x), grad(ones), y(x.size()), grad_x(x.size());
  const auto n = static_cast<int64_t>(x.size());
  cuda::unary({UnaryFunction::relu6, in.data(), y.data(), n});
  CHECK_CLOSE(y.values(), (std::vector<double>{0, 0, 6, 3, 0, 6, 0, kNaN}), 0);
  cuda::unary_backward({UnaryFunction::relu6, y.data(), grad.data(), grad_x.data(), n});
  CHECK_CLOSE(grad_x.values(), (std::vector<double>{0, 0, 0, 1, 0, 0, 0, 1}), 0);
  cuda::unary_backward({UnaryFunction::hardswish, in.data(), grad.data(), grad_x.data(), n});
  CHECK(grad_x.values()[3] == 1);
  CHECK(grad_x.values()[4] == 0);
}

TEST_CASE("the first rung of the unary functions") {
  const auto x = random_floats(515, 3);
  std::vector<double> y(x.size());
  for (std::size_t i = 0; i < x.size(); ++i) y[i] = std::max(x[i], 0.0f);
  OnDevice<float> in(x);
  in_every_order([&] {
    OnDevice<float> out(x.size());
    rungs::relu_v1(in.data(), out.data(), 515);
    CHECK_CLOSE(out.values(), y, 0);
  });
}

struct BinaryCase {
  BinaryFunction function;
  double (*value)(double, double);
  double (*slope_a)(double, double);
  double (*slope_b)(double, double);
};

const BinaryCase kBinaryCases[] = {
    {BinaryFunction::add, [](double a, double b) { return a + b; }, [](double, double) { return 1.0; },
     [](double, double) { return 1.0; }},
    {BinaryFunction::sub, [](double a, double b) { return a - b; }, [](double, double) { return 1.0; },
     [](double, double) { return -1.0; }},
    {BinaryFunction::mul, [](double a, double b) { return a * b; }, [](double, double b) { return b; },
     [](double a, double) { return a; }},
    {BinaryFunction::div, [](double a, double b) { return a / b; }, [](double, double b) { return 1 / b; },
     [](double a, double b) { return -a / (b * b); }},
    {BinaryFunction::maximum, [](double a, double b) { return std::max(a, b); },
     [](double a, double b) { return a > b    ? 1.0
                                     : a == b ? 0.5
                                              : 0.0; },
     [](double a, double b) { return b > a    ? 1.0
                                     : a == b ? 0.5
                                              : 0.0; }},
    {BinaryFunction::minimum, [](double a, double b) { return std::min(a, b); },
     [](double a, double b) { return a < b    ? 1.0
                                     : a == b ? 0.5
                                              : 0.0; },
     [](double a, double b) { return b < a    ? 1.0
                                     : a == b ? 0.5
                                              : 0.0; }},
};

struct Broadcast {
  const char* name;
  std::vector<int64_t> shape, stride_a, stride_b;
  std::size_t size_a, size_b;
};

const Broadcast kBroadcasts[] = {
    {"equal shapes", {7, 5, 11}, {55, 11, 1}, {55, 11, 1}, 385, 385},
    {"one number", {385}, {1}, {0}, 385, 1},
    {"one number on the left", {385}, {0}, {1}, 1, 385},
    {"two numbers", {1, 1}, {1, 1}, {1, 1}, 1, 1},
    {"bias", {6, 33}, {33, 1}, {0, 1}, 198, 33},
    {"column", {6, 33}, {33, 1}, {1, 0}, 198, 6},
    {"outer product", {6, 1, 33}, {1, 1, 0}, {0, 0, 1}, 6, 33},
    {"both ways, four dimensions", {2, 3, 4, 5}, {0, 5, 0, 1}, {12, 4, 1, 0}, 15, 24},
    {"empty", {4, 0}, {1, 1}, {1, 1}, 4, 4},
};

template <class Args>
void set_shape(Args& args, const Broadcast& b) {
  args.rank = static_cast<int>(b.shape.size());
  std::copy(b.shape.begin(), b.shape.end(), args.shape);
  std::copy(b.stride_a.begin(), b.stride_a.end(), args.stride_a);
  std::copy(b.stride_b.begin(), b.stride_b.end(), args.stride_b);
}

/// Calls body(i, at_a, at_b) for the places of a loop nest, in order.
void for_each_place(const std::vector<int64_t>& shape, const std::vector<int64_t>& stride_a,
                    const std::vector<int64_t>& stride_b,
                    const std::function<void(std::size_t, std::size_t, std::size_t)>& body) {
  int64_t numel = 1;
  for (const int64_t size : shape) numel *= size;
  for (int64_t i = 0; i < numel; ++i) {
    int64_t rest = i, a = 0, b = 0;
    for (std::size_t d = shape.size(); d-- > 0; rest /= shape[d]) {
      a += rest % shape[d] * stride_a[d];
      b += rest % shape[d] * stride_b[d];
    }
    body(static_cast<std::size_t>(i), static_cast<std::size_t>(a), static_cast<std::size_t>(b));
  }
}

TEST_CASE("binary functions and their gradients over broadcasts") {
  for (const Broadcast& b : kBroadcasts) {
    CAPTURE(b.name);
    std::size_t numel = 1;
    for (const int64_t size : b.shape) numel *= static_cast<std::size_t>(size);
    for (const BinaryCase& c : kBinaryCases) {
      CAPTURE(static_cast<int>(c.function));
      const auto a = random_floats(b.size_a, 4), other = random_floats(b.size_b, 5, 0.3f, 2),
                 grad_y = random_floats(numel, 6);
      std::vector<double> y(numel), grad_a(numel), grad_b(numel);
      for_each_place(b.shape, b.stride_a, b.stride_b, [&](std::size_t i, std::size_t at_a, std::size_t at_b) {
        y[i] = c.value(a[at_a], other[at_b]);
        grad_a[i] = c.slope_a(a[at_a], other[at_b]) * grad_y[i];
        grad_b[i] = c.slope_b(a[at_a], other[at_b]) * grad_y[i];
      });
      OnDevice<float> in_a(a), in_b(other), grad(grad_y);
      in_every_order([&] {
        OnDevice<float> out(numel), out_a(numel), out_b(numel);
        BinaryArgs<float> forward{c.function, in_a.data(), in_b.data(), out.data(), 0, {}, {}, {}};
        set_shape(forward, b);
        cuda::binary(forward);
        CHECK_CLOSE(out.values(), y, 1e-6);
        BinaryBackwardArgs<float> backward{c.function, in_a.data(), in_b.data(), grad.data(), out_a.data(),
                                           nullptr,    0,           {},          {},          {}};
        set_shape(backward, b);
        cuda::binary_backward(backward);
        backward.grad_a = nullptr;
        backward.grad_b = out_b.data();
        cuda::binary_backward(backward);
        CHECK_CLOSE(out_a.values(), grad_a, 1e-6);
        CHECK_CLOSE(out_b.values(), grad_b, 4e-6);
      });
    }
  }
}

TEST_CASE("affine: fill, scale, copy, axpy; what is not needed is not read") {
  const std::size_t n = 515;
  const auto x = random_floats(n, 7), old = random_floats(n, 8);
  OnDevice<float> in(x);
  struct Factors {
    float alpha, beta, gamma;
  };
  for (const Factors f : {Factors{0, 0, 3}, {2, 0, 1}, {0, -1, 0}, {0.5f, 1, 0}, {1, 0, 0}}) {
    std::vector<double> y(n);
    for (std::size_t i = 0; i < n; ++i) {
      y[i] = f.gamma + (f.alpha != 0 ? double{f.alpha} * x[i] : 0) + (f.beta != 0 ? double{f.beta} * old[i] : 0);
    }
    in_every_order([&] {
      OnDevice<float> unread(n), out(f.beta != 0 ? old : std::vector<float>(n, kNaN));
      cuda::affine({f.alpha != 0 ? in.data() : nullptr, out.data(), static_cast<int64_t>(n), f.alpha, f.beta, f.gamma});
      CHECK_CLOSE(out.values(), y, 1e-6);
    });
  }
}

struct CopyCase {
  const char* name;
  std::vector<int64_t> shape, stride_x, stride_y;
  std::size_t size_x, size_y;
  bool accumulate;
};

const CopyCase kCopies[] = {
    {"contiguous", {4, 5}, {5, 1}, {5, 1}, 20, 20, false},
    {"transpose by tiles", {70, 37}, {1, 70}, {37, 1}, 2590, 2590, false},
    {"transpose by tiles, added", {70, 37}, {1, 70}, {37, 1}, 2590, 2590, true},
    {"NCHW to NHWC", {2, 33, 34, 3}, {3366, 34, 1, 1122}, {3366, 102, 3, 1}, 6732, 6732, false},
    {"batch of transposes", {3, 40, 20}, {800, 1, 40}, {800, 20, 1}, 2400, 2400, false},
    {"slice into a wider row", {6, 5}, {5, 1}, {9, 1}, 30, 50, false},
    {"broadcast", {6, 5}, {0, 1}, {5, 1}, 5, 30, false},
    {"sum over rows", {6, 5}, {5, 1}, {0, 1}, 30, 5, true},
    {"overlapping windows", {6, 3}, {3, 1}, {1, 1}, 18, 8, true},
    {"backwards", {7}, {1}, {-1}, 7, 7, false},
};

TEST_CASE("copies between layouts") {
  for (const CopyCase& c : kCopies) {
    CAPTURE(c.name);
    const auto x = random_floats(c.size_x, 9), old = random_floats(c.size_y, 10);
    const int64_t back = c.stride_y[0] < 0 ? c.shape[0] - 1 : 0;  // where y[0] is
    std::vector<double> y(old.begin(), old.end());
    for_each_place(c.shape, c.stride_x, c.stride_y, [&](std::size_t, std::size_t at_x, std::size_t at_y) {
      double& place = y[at_y + static_cast<std::size_t>(back)];
      place = c.accumulate ? place + x[at_x] : x[at_x];
    });
    OnDevice<float> in(x);
    in_every_order([&] {
      OnDevice<float> out(old);
      CopyStridedArgs<float> args{in.data(), out.data() + back, static_cast<int>(c.shape.size()), {}, {},
                                  {},        c.accumulate};
      std::copy(c.shape.begin(), c.shape.end(), args.shape);
      std::copy(c.stride_x.begin(), c.stride_x.end(), args.stride_x);
      std::copy(c.stride_y.begin(), c.stride_y.end(), args.stride_y);
      cuda::copy_strided(args);
      CHECK_CLOSE(out.values(), y, c.accumulate ? 1e-6 : 0);
    });
  }
}

TEST_CASE("dropout draws the mask that the CPU draws") {
  for (const int64_t group : {1, 5}) {
    for (const float probability : {0.0f, 0.3f, 1.0f}) {
      const std::size_t n = 1030;
      const uint64_t seed = 11, counter = 12;
      const auto x = random_floats(n, 13, 1, 2);
      const float scale = probability < 1 ? 1 / (1 - probability) : 0;
      std::vector<double> y(n);
      for (std::size_t i = 0; i < n; ++i) {
        const uint64_t draw = i / static_cast<uint64_t>(group);
        const bool keep = Philox::uniform(Philox::at(seed, counter, draw / 4).w[draw % 4]) >= probability;
        y[i] = keep ? x[i] * scale : 0;
      }
      OnDevice<float> in(x);
      in_every_order([&] {
        OnDevice<float> out(n);
        cuda::dropout({in.data(), out.data(), static_cast<int64_t>(n), group, probability, seed, counter});
        CHECK_CLOSE(out.values(), y, 0);
      });
    }
  }
}

}  // namespace
}  // namespace tl::test
