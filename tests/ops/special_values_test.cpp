// Numbers at the edge: NaN must stay visible, infinities and large arguments must not make one.
#include <cmath>
#include <limits>
#include <string>
#include <vector>

#include "ops/isa.hpp"
#include "support.hpp"
#include "tl/autograd/engine.hpp"
#include "tl/ops/attention.hpp"
#include "tl/ops/conv.hpp"
#include "tl/ops/elementwise.hpp"
#include "tl/ops/loss.hpp"
#include "tl/ops/matmul.hpp"
#include "tl/ops/norm.hpp"
#include "tl/ops/pool.hpp"
#include "tl/ops/reduce.hpp"
#include "tl/ops/softmax.hpp"
#include "tl/ops/view.hpp"
#include "tl/tensor/print.hpp"

namespace {

using tl::Activation;
using tl::DType;
using tl::Tensor;

constexpr double kNan = std::numeric_limits<double>::quiet_NaN();
constexpr double kInfinity = std::numeric_limits<double>::infinity();

/// Puts `value` at each place of a vector in turn, so that it meets whole registers and remainders.
template <class Check>
void at_every_place(double value, const Check& check) {
  for (const DType dtype : {DType::f32, DType::f64})
    for (const int64_t size : {1, 5, 37})
      for (int64_t place = 0; place < size; ++place) {
        std::vector<double> numbers(static_cast<size_t>(size), 0.5);
        numbers[static_cast<size_t>(place)] = value;
        CAPTURE(size);
        CAPTURE(place);
        CAPTURE(tl::name_of(dtype));
        check(Tensor::from(numbers, {size}).to(dtype), place);
      }
}

/// Infinities are close to themselves.
bool close(double a, double b) { return a == b || std::abs(a - b) <= 1e-6 * std::abs(b); }

double at(const Tensor& x, int64_t place) { return x.to(DType::f64).data<double>()[place]; }

TEST_CASE("a NaN goes through every function, and touches no neighbour") {
  TL_NEEDS_ISA();
  for (int f = 0; f <= static_cast<int>(tl::UnaryFunction::hardswish); ++f) {
    CAPTURE(f);
    at_every_place(kNan, [&](const Tensor& x, int64_t place) {
      const Tensor y = tl::unary(static_cast<tl::UnaryFunction>(f), x);
      for (int64_t i = 0; i < y.numel(); ++i) CHECK_UNARY(std::isnan(at(y, i)) == (i == place));
    });
  }
}

TEST_CASE("a NaN goes through comparisons, reductions, windows and fused activations") {
  TL_NEEDS_ISA();
  at_every_place(kNan, [&](const Tensor& x, int64_t place) {
    const Tensor ones = Tensor::ones(x.shape(), x.dtype());
    for (const Tensor& y : {maximum(x, ones), maximum(ones, x), minimum(x, ones), minimum(ones, x), x + ones, x / ones})
      for (int64_t i = 0; i < y.numel(); ++i) CHECK_UNARY(std::isnan(at(y, i)) == (i == place));
    CHECK(std::isnan(tl::max(x, 0).item()));
    CHECK(std::isnan(tl::min(x, 0).item()));
    CHECK(std::isnan(tl::sum(x).item()));
    CHECK(std::isnan(at(softmax(x), 0)));
    CHECK(std::isnan(at(log_softmax(x), 0)));
    CHECK(std::isnan(at(layer_norm(x), 0)));
    const Tensor picture = reshape(x, {1, 1, x.numel(), 1});
    CHECK(std::isnan(tl::max_pool2d(picture, {.kernel = {1, x.numel()}}).item()));
    CHECK(std::isnan(tl::avg_pool2d(picture, {.kernel = {1, x.numel()}}).item()));
    const Tensor channels = reshape(x, {1, 1, 1, x.numel()});
    const Tensor y = tl::max_pool2d(channels, {.kernel = 1});
    CHECK(std::isnan(at(y, place)));
    Tensor mean = Tensor::zeros(x.shape(), x.dtype()), variance = Tensor::ones(x.shape(), x.dtype());
    for (const Activation activation : {Activation::none, Activation::relu, Activation::relu6}) {
      const Tensor normed = batch_norm(channels, {}, {}, mean, variance, {.activation = activation});
      for (int64_t i = 0; i < y.numel(); ++i) CHECK_UNARY(std::isnan(at(normed, i)) == (i == place));
      const Tensor weight = Tensor::ones({x.numel(), 1, 1, 1}, x.dtype());
      const Tensor fused = conv2d_fused(channels, weight, {}, {}, activation, {.groups = x.numel()});
      for (int64_t i = 0; i < y.numel(); ++i) CHECK_UNARY(std::isnan(at(fused, i)) == (i == place));
    }
    CHECK(std::isnan(
        at(conv2d_fused(channels, Tensor::ones({3, 1, 1, x.numel()}, x.dtype()), {}, {}, Activation::relu, {}), 2)));
    CHECK(std::isnan(at(matmul(reshape(x, {1, x.numel()}), Tensor::ones({x.numel(), 2}, x.dtype())), 1)));
  });
}

TEST_CASE("large and infinite arguments give limits, not NaN") {
  TL_NEEDS_ISA();
  struct Row {
    const char* name;
    Tensor (*function)(const Tensor&);
    double argument, value, slope;
  };
  const Row rows[] = {
      {"exp", tl::exp, 1000, kInfinity, kInfinity},
      {"exp", tl::exp, -1000, 0, 0},
      {"exp", tl::exp, -kInfinity, 0, 0},
      {"sigmoid", tl::sigmoid, 1000, 1, 0},
      {"sigmoid", tl::sigmoid, -1000, 0, 0},
      {"sigmoid", tl::sigmoid, kInfinity, 1, 0},
      {"sigmoid", tl::sigmoid, -kInfinity, 0, 0},
      {"tanh", tl::tanh, 1000, 1, 0},
      {"tanh", tl::tanh, -kInfinity, -1, 0},
      {"silu", tl::silu, 1000, 1000, 1},
      {"silu", tl::silu, -1000, 0, 0},
      {"gelu", tl::gelu, 1000, 1000, 1},
      {"gelu", tl::gelu, -1000, 0, 0},
      {"gelu_tanh", tl::gelu_tanh, 1000, 1000, 1},
      {"gelu_tanh", tl::gelu_tanh, -1000, 0, 0},
      {"hardswish", tl::hardswish, 1e30, 1e30, 1},
      {"hardswish", tl::hardswish, -1e30, 0, 0},
      {"relu", tl::relu, kInfinity, kInfinity, 1},
      {"relu", tl::relu, -kInfinity, 0, 0},
      {"relu6", tl::relu6, kInfinity, 6, 0},
      {"log", tl::log, 0, -kInfinity, kInfinity},
      {"log", tl::log, kInfinity, kInfinity, 0},
      {"sqrt", tl::sqrt, 0, 0, kInfinity},
      {"sqrt", tl::sqrt, kInfinity, kInfinity, 0},
      {"reciprocal", tl::reciprocal, kInfinity, 0, 0},
      {"abs", tl::abs, -kInfinity, kInfinity, -1},
  };
  for (const Row& row : rows) {
    CAPTURE(std::string(row.name));
    CAPTURE(row.argument);
    at_every_place(row.argument, [&](Tensor x, int64_t place) {
      const Tensor y = row.function(x.set_requires_grad());
      CHECK(close(at(y, place), row.value));
      y.backward(Tensor::ones(x.shape(), x.dtype()));
      CHECK(close(at(x.grad(), place), row.slope));
    });
  }
  CHECK(std::isnan(tl::log(Tensor::scalar(-1)).item()));
  CHECK(std::isnan(tl::sqrt(Tensor::scalar(-1)).item()));
}

TEST_CASE("the slopes at kinks are PyTorch's, and equal numbers share the gradient of a maximum") {
  TL_NEEDS_ISA();
  const auto slope = [](Tensor (*function)(const Tensor&), float x) {
    Tensor input = Tensor::from({x}, {1}).set_requires_grad();
    function(input).backward();
    return input.grad().item();
  };
  CHECK(slope(tl::relu, 0) == 0);
  CHECK(slope(tl::relu6, 0) == 0);
  CHECK(slope(tl::relu6, 6) == 0);
  CHECK(slope(tl::abs, 0) == 0);
  Tensor a = Tensor::ones({3}).set_requires_grad(), b = Tensor::ones({3}).set_requires_grad();
  sum(maximum(a, b)).backward();
  CHECK(to_string(a.grad()) == "f32 [3] [0.5, 0.5, 0.5]");
  CHECK(to_string(b.grad()) == "f32 [3] [0.5, 0.5, 0.5]");
}

TEST_CASE("the first of equal numbers is the largest") {
  TL_NEEDS_ISA();
  Tensor x = Tensor::zeros({40}).set_requires_grad();
  CHECK(argmax(x, 0).item() == 0);
  max(x, 0).backward();
  CHECK(x.grad().data<float>()[0] == 1);
  CHECK(sum(x.grad()).item() == 1);
  const tl::TopK top = top_k(x, 3);
  CHECK(to_string(top.indices) == "i32 [3] [0, 1, 2]");
}

TEST_CASE("softmax of far apart, infinite and hidden logits") {
  TL_NEEDS_ISA();
  const auto row = [](std::initializer_list<float> values) {
    return Tensor::from(values, {static_cast<int64_t>(values.size())});
  };
  const auto minus = -std::numeric_limits<float>::infinity();
  CHECK(to_string(softmax(row({1e30f, 0, -1e30f}))) == "f32 [3] [1, 0, 0]");
  CHECK(to_string(softmax(row({minus, 0, 0}))) == "f32 [3] [0, 0.5, 0.5]");
  CHECK(to_string(softmax(row({minus, minus}))) == "f32 [2] [0, 0]");
  CHECK(to_string(log_softmax(row({0.0f, -1000.0f}))) == "f32 [2] [0, -1000]");
  Tensor hidden = row({minus, minus}).set_requires_grad();
  softmax(hidden).backward(Tensor::ones({2}));
  CHECK(to_string(hidden.grad()) == "f32 [2] [0, 0]");
}

TEST_CASE("losses of hopeless predictions are large, not NaN") {
  TL_NEEDS_ISA();
  Tensor logits = Tensor::from({1e4f, 0.0f, -1e4f}, {1, 3}).set_requires_grad();
  const Tensor loss = cross_entropy(logits, Tensor::from({2}, {1}));
  CHECK(loss.item() == doctest::Approx(2e4));
  loss.backward();
  CHECK(to_string(logits.grad()) == "f32 [1, 3] [[1, 0, -1]]");
  Tensor x = Tensor::from({1000.0f, -1000.0f}, {2}).set_requires_grad();
  const Tensor bce = bce_with_logits(x, Tensor::from({0.0f, 1.0f}, {2}), 1, tl::LossReduction::sum);
  CHECK(bce.item() == doctest::Approx(2000));
  bce.backward();
  CHECK(to_string(x.grad()) == "f32 [2] [1, -1]");
  CHECK(bce_loss(Tensor::from({0.0f, 1.0f}, {2}), Tensor::from({1.0f, 0.0f}, {2})).item() == doctest::Approx(100));
}

TEST_CASE("FR08: the mean over a step in parts is the mean over the whole") {
  TL_NEEDS_ISA();
  const Tensor weight = Tensor::from({1.0f, 0.5f, 0.25f}, {3});
  const auto gradient = [&](bool in_parts) {
    Tensor logits = Tensor::from({1.0f, 2.0f, 3.0f, 3.0f, 2.0f, 1.0f}, {2, 3}).set_requires_grad();
    double value = 0;
    if (!in_parts) {
      const Tensor loss = cross_entropy(logits, Tensor::from({2, 1}, {2}), {.class_weight = weight});
      loss.backward();
      value = loss.item();
    } else {
      const double divisor = tl::cross_entropy_divisor(Tensor::from({2, 1}, {2}), {.class_weight = weight});
      CHECK(divisor == 0.75);
      for (int32_t i = 0; i < 2; ++i) {
        const Tensor part = cross_entropy(slice(logits, 0, i, i + 1), Tensor::from({2 - i}, {1}),
                                          {.class_weight = weight, .reduction = tl::LossReduction::sum}) /
                            divisor;
        part.backward();
        value += part.item();
      }
    }
    CHECK(value == doctest::Approx(1.0742726).epsilon(1e-7));
    return to_string(logits.grad());
  };
  CHECK(gradient(true) == gradient(false));
}

TEST_CASE("FR08: a task whose labels are all ignored leaves the others alone") {
  TL_NEEDS_ISA();
  Tensor logits = Tensor::from({1.0f, 2.0f, 3.0f, 4.0f}, {2, 2}).set_requires_grad();
  Tensor other = Tensor::from({1.0f, 2.0f}, {1, 2}).set_requires_grad();
  const Tensor nothing = cross_entropy(logits, Tensor::from({-100, -100}, {2}));
  CHECK(nothing.item() == 0);
  CHECK(tl::cross_entropy_divisor(Tensor::from({-100, -100}, {2})) == 0);
  const Tensor loss = nothing + cross_entropy(other, Tensor::from({0}, {1}));
  CHECK(loss.item() == doctest::Approx(1.3132617));
  loss.backward();
  CHECK(to_string(logits.grad()) == "f32 [2, 2] [[0, 0], [0, 0]]");
  CHECK(other.grad().data<float>()[0] == doctest::Approx(-0.7310586));
}

TEST_CASE("FR21: padding keys change neither attention nor its gradients") {
  TL_NEEDS_ISA();
  const auto numbers = [](const tl::Shape& shape, double phase) {
    Tensor x = Tensor::empty(shape);
    for (int64_t i = 0; i < x.numel(); ++i)
      x.mutable_data<float>()[i] = static_cast<float>(std::sin(phase + 0.7 * static_cast<double>(i)));
    return x;
  };
  const tl::Shape text{1, 2, 5, 4};
  Tensor q = numbers(text, 0.1).set_requires_grad(), k = numbers(text, 0.2).set_requires_grad(),
         v = numbers(text, 0.3).set_requires_grad();
  const auto run = [&](bool padded) {
    for (Tensor* x : {&q, &k, &v}) x->zero_grad();
    Tensor y = attention(q, k, v);
    if (padded) {  // beside a text of 120 tokens, whichever comes first
      using tl::slice;
      const auto batch = [&](const Tensor& x, double phase) {
        return tl::concat({numbers({1, 2, 120, 4}, phase), pad(x, {{}, {}, {0, 115}, {}}, 9.0)}, 0);
      };
      Tensor mask = Tensor::ones({2, 120}, DType::i32);
      for (int64_t i = 125; i < 240; ++i) mask.mutable_data<int32_t>()[i] = 0;
      y = slice(slice(tl::attention(batch(q, 1), batch(k, 2), batch(v, 3), {.key_mask = mask}), 0, 1, 2), 2, 0, 5);
    }
    sum(square(y)).backward();
    return std::vector<Tensor>{y.detach(), q.grad(), k.grad(), v.grad()};
  };
  const auto alone = run(false), beside = run(true);
  for (size_t i = 0; i < alone.size(); ++i)
    for (int64_t j = 0; j < alone[i].numel(); ++j)
      CHECK_UNARY(std::abs(alone[i].data<float>()[j] - beside[i].data<float>()[j]) < 1e-5);
}

}  // namespace
