// Dropout's randomness: shares, groups, seeds and the mask in backward.
#include <cmath>
#include <cstring>

#include "support.hpp"
#include "tl/autograd/engine.hpp"
#include "tl/ops/dropout.hpp"

namespace {

using tl::Generator;
using tl::Tensor;

bool equal(const Tensor& a, const Tensor& b) { return std::memcmp(a.raw_data(), b.raw_data(), a.bytes()) == 0; }

TEST_CASE("dropout keeps the asked share and scales it") {
  for (const double p : {0.1, 0.5, 0.9}) {
    CAPTURE(p);
    Generator random(3);
    const Tensor y = dropout(Tensor::ones({1000, 100}), p, random);
    int64_t kept = 0;
    for (const float value : y.values<float>()) {
      CHECK_UNARY(value == 0.0f || std::abs(value - 1 / (1 - p)) < 1e-5 / (1 - p));
      kept += value != 0.0f;
    }
    CHECK(std::abs(static_cast<double>(kept) - 100000 * (1 - p)) < 5 * std::sqrt(100000 * p * (1 - p)));
  }
}

TEST_CASE("dropout draws anew each time and equally for equal seeds") {
  Generator random(3), same(3), other(4);
  const Tensor x = Tensor::ones({999});
  const Tensor first = dropout(x, 0.5, random), second = dropout(x, 0.5, random);
  CHECK_FALSE(equal(first, second));
  CHECK(equal(first, dropout(x, 0.5, same)));
  CHECK(equal(second, dropout(x, 0.5, same)));
  CHECK_FALSE(equal(first, dropout(x, 0.5, other)));
}

TEST_CASE("dropout's gradient has the mask of its value, whatever was drawn in between") {
  Generator random(5);
  Tensor x = Tensor::ones({4001}).set_requires_grad();
  const Tensor y = dropout(x, 0.3, random);
  dropout(x, 0.3, random);
  y.backward(Tensor::ones(y.shape()));
  CHECK(equal(x.grad(), y));
}

TEST_CASE("drop_path drops whole samples") {
  Generator random(6);
  const Tensor y = drop_path(Tensor::ones({200, 3, 5}), 0.25, random);
  int kept = 0;
  for (int64_t n = 0; n < 200; ++n) {
    const float first = y.data<float>()[n * 15];
    kept += first != 0;
    for (int64_t i = 0; i < 15; ++i) CHECK_UNARY(y.data<float>()[n * 15 + i] == first);
  }
  CHECK(std::abs(kept - 150) < 31);  // five deviations
}

TEST_CASE("dropout of nothing is the tensor itself and draws nothing") {
  Generator random(7);
  const Tensor x = Tensor::ones({3});
  CHECK(dropout(x, 0, random).is(x));
  CHECK(random.state() == Generator(7).state());
}

}  // namespace
