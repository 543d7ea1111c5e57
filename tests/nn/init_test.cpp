// Initial values: bounds, deviations, seeds.
#include <cmath>
#include <cstring>
#include <utility>

#include "support.hpp"
#include "tl/nn/conv.hpp"
#include "tl/nn/init.hpp"
#include "tl/nn/linear.hpp"
#include "tl/nn/norm.hpp"
#include "tl/tensor/print.hpp"

namespace {

using tl::Tensor;
namespace nn = tl::nn;

struct Statistics {
  double mean = 0, deviation = 0, largest = 0;

  explicit Statistics(const Tensor& x) {
    const auto n = static_cast<double>(x.numel());
    for (const float value : x.values<float>()) {
      mean += value / n;
      largest = std::max(largest, static_cast<double>(std::abs(value)));
    }
    for (const float value : x.values<float>()) deviation += std::pow(value - mean, 2) / n;
    deviation = std::sqrt(deviation);
  }
};

/// Uniform within +-bound: reaches it nearly, never passes it, deviation bound / sqrt(3).
void check_uniform(const Tensor& x, double bound) {
  const Statistics s(x);
  CHECK(s.largest <= bound * (1 + 1e-6));
  CHECK(s.largest > 0.98 * bound);
  CHECK(std::abs(s.deviation / (bound / std::sqrt(3.0)) - 1) < 0.05);
  CHECK(std::abs(s.mean) < 5 * s.deviation / std::sqrt(static_cast<double>(x.numel())));
}

void check_normal(const Tensor& x, double deviation) {
  const Statistics s(x);
  CHECK(std::abs(s.deviation / deviation - 1) < 0.05);
  CHECK(std::abs(s.mean) < 5 * s.deviation / std::sqrt(static_cast<double>(x.numel())));
  CHECK(s.largest > 2.5 * deviation);
}

TEST_CASE("fans count inputs and outputs of one unit") {
  CHECK(nn::fan_of(Tensor::zeros({7, 3})).in == 3);
  CHECK(nn::fan_of(Tensor::zeros({7, 3})).out == 7);
  CHECK(nn::fan_of(Tensor::zeros({8, 3, 5, 2})).in == 30);
  CHECK(nn::fan_of(Tensor::zeros({8, 3, 5, 2})).out == 120);
  CHECK_THROWS_WITH_AS(nn::fan_of(Tensor::zeros({7})), "fan_of: a weight has at least two dimensions, got [7]",
                       tl::ShapeError);
}

TEST_CASE("layers begin as PyTorch's do") {
  tl::manual_seed(1);
  check_uniform(nn::Linear(200, 100).weight.value(), 1 / std::sqrt(200.0));
  check_uniform(nn::Linear(16, 5000).bias.value(), 1 / std::sqrt(16.0));
  check_uniform(nn::Conv2d(16, 64, {.kernel = 3}).weight.value(), 1 / std::sqrt(16.0 * 9));
  check_uniform(nn::Conv2d(32, 64, {.kernel = 5, .groups = 4}).weight.value(), 1 / std::sqrt(8.0 * 25));
  check_normal(nn::Embedding(300, 60).weight.value(), 1);
  const nn::BatchNorm2d bn(2);
  CHECK(to_string(bn.weight.value()) == "f32 [2] [1, 1]");
  CHECK(to_string(bn.bias.value()) == "f32 [2] [0, 0]");
  CHECK(to_string(bn.running_var.value()) == "f32 [2] [1, 1]");
  CHECK(bn.num_batches_tracked.value().dtype() == tl::DType::i64);
}

TEST_CASE("initialisers have the deviations of their papers") {
  Tensor w = Tensor::empty({128, 3, 3, 32});
  nn::kaiming_uniform_(w);
  check_uniform(w, std::sqrt(2.0) * std::sqrt(3.0 / (32 * 9)));
  nn::kaiming_normal_(w);
  check_normal(w, std::sqrt(2.0 / (32 * 9)));
  nn::kaiming_normal_(w, true);
  check_normal(w, std::sqrt(2.0 / (128 * 9)));
  nn::xavier_uniform_(w);
  check_uniform(w, std::sqrt(6.0 / (160 * 9)));
  nn::xavier_normal_(w);
  check_normal(w, std::sqrt(2.0 / (160 * 9)));
  nn::normal_(w, 3, 0.5);
  CHECK(std::abs(Statistics(w).mean - 3) < 0.02);
  nn::trunc_normal_(w, 0.02);
  CHECK(Statistics(w).largest <= 0.04 * (1 + 1e-6));
  CHECK(std::abs(Statistics(w).deviation / (0.02 * 0.8796) - 1) < 0.03);  // of a normal cut at two deviations
}

TEST_CASE("equal seeds give equal networks") {
  tl::manual_seed(9);
  const nn::Linear a(10, 10), c(10, 10);
  tl::manual_seed(9);
  const nn::Linear b(10, 10);
  const auto equal = [](const nn::Linear& x, const nn::Linear& y) {
    return std::memcmp(x.weight.value().raw_data(), y.weight.value().raw_data(), x.weight.value().bytes()) == 0;
  };
  CHECK(equal(a, b));
  CHECK_FALSE(equal(a, c));
}

TEST_CASE("initialising keeps the tensor, its type and its wish for a gradient") {
  Tensor x = Tensor::zeros({50, 50}, tl::DType::f64).set_requires_grad();
  const Tensor handle = x;
  nn::uniform_(x, 1, 2);
  CHECK(handle.data<double>()[7] >= 1);
  CHECK(handle.requires_grad());
}

TEST_CASE("initial values do not depend on the number of threads, and end the generator at one position a number") {
  const auto draw = [](int threads, auto fill) {
    const int before = tl::threads();
    tl::set_threads(threads);
    tl::Generator generator(7);
    Tensor x = Tensor::empty({77, 311});
    fill(x, generator);
    tl::set_threads(before);
    CHECK(generator.state() == tl::Generator::State{7, 77 * 311});
    return std::vector<float>(x.values<float>().begin(), x.values<float>().end());
  };
  const auto uniform = [](Tensor& x, tl::Generator& g) { nn::uniform_(x, -1, 2, g); };
  const auto normal = [](Tensor& x, tl::Generator& g) { nn::normal_(x, 0.5, 2, g); };
  const auto truncated = [](Tensor& x, tl::Generator& g) { nn::trunc_normal_(x, 0.02, g); };
  CHECK(draw(1, uniform) == draw(2, uniform));
  CHECK(draw(1, normal) == draw(2, normal));
  CHECK(draw(1, truncated) == draw(2, truncated));

  tl::Generator one_by_one(7);
  for (const float value : draw(2, normal)) REQUIRE(value == static_cast<float>(0.5 + 2 * one_by_one.normal()));
}

TEST_CASE("SkipInit draws nothing, moves the generator on, and ends with its scope") {
  tl::manual_seed(3);
  const nn::Linear drawn(40, 30);
  const auto after = tl::default_generator().state();
  tl::manual_seed(3);
  {
    const nn::SkipInit skip;
    const nn::SkipInit nested;
    const nn::Linear skipped(40, 30);
    CHECK(tl::default_generator().state() == after);
  }
  CHECK_FALSE(nn::SkipInit::active());
  tl::manual_seed(3);
  const nn::Linear again(40, 30);
  CHECK(std::memcmp(again.weight.value().raw_data(), drawn.weight.value().raw_data(), 40 * 30 * sizeof(float)) == 0);
}

}  // namespace
