// The linear layer: a weight that does not learn is kept packed, and the result is the same.
#include "tl/nn/linear.hpp"

#include <cmath>

#include "support.hpp"
#include "tl/autograd/engine.hpp"
#include "tl/ops/elementwise.hpp"
#include "tl/ops/reduce.hpp"
#include "tl/ops/view.hpp"

namespace {

using tl::Activation;
using tl::Tensor;
namespace nn = tl::nn;

Tensor random(const tl::Shape& shape, uint64_t seed) {
  tl::Generator generator(seed);
  Tensor out = Tensor::empty(shape);
  nn::uniform_(out, -1, 1, generator);
  return out;
}

double distance(const Tensor& a, const Tensor& b) { return tl::max(tl::reshape(tl::abs(a - b), {a.numel()}), 0).item(); }

TEST_CASE("a linear layer gives the same with its weight packed, for every number of rows") {
  nn::Linear layer(70, 37);
  for (const int64_t rows : {1, 2, 5, 16, 17, 100}) {
    CAPTURE(rows);
    const Tensor x = random({rows, 70}, 1);
    const Tensor learning = tl::gelu(tl::linear(x, layer.weight, layer.bias));
    const tl::NoGrad no_grad;
    CHECK(distance(layer(x, Activation::gelu), learning) < 1e-6);
  }
}

TEST_CASE("one row gives the same bits alone and among others, where nothing learns") {
  nn::Linear layer(500, 33);
  const tl::NoGrad no_grad;
  const Tensor x = random({40, 500}, 2), all = layer(x);
  for (const int64_t row : {0, 13, 14, 39})
    CHECK(distance(layer(tl::slice(x, 0, row, row + 1)), tl::slice(all, 0, row, row + 1)) == 0);
}

TEST_CASE("a changed weight is packed anew, and gradients pass through a frozen one") {
  nn::Linear layer(6, 4);
  layer.set_frozen(true);
  Tensor x = random({3, 6}, 3).set_requires_grad();
  const auto check = [&] { CHECK(distance(layer(x), tl::linear(x, layer.weight, layer.bias)) < 1e-6); };
  check();
  layer.weight.value().mutable_data<float>()[5] = 7;
  check();
  tl::sum(layer(x)).backward();
  CHECK(std::abs(x.grad().data<float>()[0] - tl::sum(tl::slice(layer.weight.value(), 1, 0, 1)).item()) < 1e-5);
}

}  // namespace
