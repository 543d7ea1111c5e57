// Convolution with BatchNorm: folded or not, the result is the same.
#include <cmath>
#include <cstring>

#include "support.hpp"
#include "tl/autograd/engine.hpp"
#include "tl/nn/conv.hpp"
#include "tl/ops/elementwise.hpp"
#include "tl/ops/reduce.hpp"

namespace {

using tl::Activation;
using tl::Tensor;
namespace nn = tl::nn;

struct Layers {
  nn::Conv2d conv;
  nn::BatchNorm2d bn;

  explicit Layers(const nn::Conv2dConfig& config, int64_t in = 6, int64_t out = 6) : conv(in, out, config), bn(out) {
    tl::Generator random(3);
    nn::uniform_(bn.weight.value(), 0.5, 1.5, random), nn::uniform_(bn.bias.value(), -1, 1, random);
    nn::uniform_(bn.running_mean.value(), -1, 1, random), nn::uniform_(bn.running_var.value(), 0.3, 2, random);
  }
  void freeze() { conv.set_frozen(true), bn.set_frozen(true); }
  void eval() { conv.eval(), bn.eval(); }
};

Tensor random(const tl::Shape& shape, uint64_t seed = 1) {
  Tensor out = Tensor::empty(shape);
  tl::Generator generator(seed);
  nn::normal_(out, 0, 1, generator);
  return out;
}

Tensor plain(Layers& l, const Tensor& x, Activation activation, const Tensor& residual) {
  const Tensor y = l.bn.forward(conv2d(x, l.conv.weight, l.conv.bias, l.conv.options()));
  return activate(residual.defined() ? y + residual : y, activation);
}

double distance(const Tensor& a, const Tensor& b) {
  double worst = 0, scale = 1e-30;
  for (int64_t i = 0; i < a.numel(); ++i) {
    worst = std::max(worst, static_cast<double>(std::abs(a.data<float>()[i] - b.data<float>()[i])));
    scale = std::max(scale, static_cast<double>(std::abs(b.data<float>()[i])));
  }
  return worst / scale;
}

TEST_CASE("folded, fused and separate steps agree in evaluation, training and when frozen") {
  const Tensor x = random({2, 5, 6, 6}), residual = random({2, 5, 6, 6}, 2);
  for (const bool bias : {false, true})
    for (const int64_t groups : {1, 2, 6})
      for (const Activation activation :
           {Activation::none, Activation::relu, Activation::relu6, Activation::silu, Activation::hardswish})
        for (const Tensor& added : {Tensor(), residual}) {
          CAPTURE(bias);
          CAPTURE(groups);
          CAPTURE(static_cast<int>(activation));
          const nn::Conv2dConfig config{.padding = 1, .groups = groups, .bias = bias};
          tl::manual_seed(5);
          Layers one(config);
          tl::manual_seed(5);
          Layers two(config);
          // Training: batch statistics, and the running ones move alike.
          CHECK(distance(conv_bn(one.conv, one.bn, x, activation, added).detach(),
                         plain(two, x, activation, added).detach()) < 1e-5);
          CHECK(distance(one.bn.running_var.value(), two.bn.running_var.value()) < 1e-6);
          // Evaluation with gradients wanted, without, and frozen in training mode.
          one.eval(), two.eval();
          const Tensor expected = plain(two, x, activation, added).detach();
          CHECK(distance(conv_bn(one.conv, one.bn, x, activation, added).detach(), expected) < 1e-5);
          {
            const tl::NoGrad no_grad;
            CHECK(distance(conv_bn(one.conv, one.bn, x, activation, added), expected) < 1e-5);
          }
          one.freeze();
          one.conv.train(), one.bn.train();
          const Tensor folded = conv_bn(one.conv, one.bn, x, activation, added);
          CHECK_FALSE(folded.requires_grad());
          CHECK(distance(folded, expected) < 1e-5);
        }
}

TEST_CASE("folded weights follow when another number of pictures is computed in another way") {
  Layers l({.padding = 1}, 16, 16);
  l.freeze();
  std::vector<tl::ConvPath> paths;
  for (const int64_t pictures : {1, 16, 2, 16}) {
    const Tensor x = random({pictures, 7, 7, 16});
    paths.push_back(conv2d_path(x.shape(), x.dtype(), l.conv.weight, l.conv.options()));
    CHECK(distance(conv_bn(l.conv, l.bn, x), plain(l, x, Activation::none, {})) < 1e-5);
  }
  CHECK(paths[0] != paths[1]);
}

TEST_CASE("frozen layers pass gradients on to what learns below them") {
  Layers l({.padding = 1, .bias = false});
  l.freeze();
  Tensor x = random({2, 4, 4, 6}).set_requires_grad();
  const Tensor y = conv_bn(l.conv, l.bn, x, Activation::relu);
  CHECK(y.requires_grad());
  sum(y).backward();
  const Tensor gradient = x.grad().clone();
  x.zero_grad();
  sum(plain(l, x, Activation::relu, {})).backward();
  CHECK(distance(gradient, x.grad()) < 1e-5);
}

TEST_CASE("the BatchNorm may learn above a frozen convolution, and the other way round") {
  for (const bool conv_learns : {false, true}) {
    Layers l({.padding = 1});
    (conv_learns ? static_cast<nn::Module&>(l.bn) : l.conv).set_frozen(true);
    sum(square(conv_bn(l.conv, l.bn, random({2, 4, 4, 6}), Activation::relu))).backward();
    CHECK(l.conv.weight.value().grad().defined() == conv_learns);
    CHECK(l.bn.weight.value().grad().defined() == !conv_learns);
    CHECK(l.bn.num_batches_tracked.value().item() == (conv_learns ? 0 : 1));
  }
}

TEST_CASE("folded weights are made once, and anew after any of their sources changed") {
  Layers l({.padding = 1});
  l.freeze();
  const Tensor x = random({1, 4, 4, 6});
  const auto check = [&] {
    const Tensor y = conv_bn(l.conv, l.bn, x);
    CHECK(distance(y, plain(l, x, Activation::none, {})) < 1e-5);
  };
  check();
  const Tensor before = l.conv.packed.weight;
  check();
  CHECK(l.conv.packed.weight.is(before));
  for (Tensor* source : {&l.conv.weight.value(), &l.conv.bias.value(), &l.bn.weight.value(), &l.bn.bias.value(),
                         &l.bn.running_mean.value(), &l.bn.running_var.value()}) {
    source->mutable_data<float>()[1] *= 1.5f;  // as a step or a load does
    check();
  }
  CHECK_FALSE(l.conv.packed.weight.is(before));
  l.conv(x);  // alone, its weight is packed without the BatchNorm
  check();

  l.conv.set_frozen(false);
  l.conv(x);
  CHECK_FALSE(l.conv.packed.weight.defined());
  l.conv.set_frozen(true);

  // Loads that take over memory: the allocator may give the block of the first to the second.
  for (int i = 0; i < 4; ++i) {
    for (int load = 0; load < 2; ++load) {
      Tensor fresh = Tensor::full(l.conv.weight.value().shape(), 0.1 * (i + load + 1));
      l.conv.weight.value().adopt_storage(fresh);
    }
    check();
  }
  l.conv.to(tl::DType::f64), l.bn.to(tl::DType::f64);
  CHECK(conv_bn(l.conv, l.bn, x.to(tl::DType::f64)).dtype() == tl::DType::f64);
}

TEST_CASE("a layer describes its options") {
  CHECK(nn::Conv2d(4, 8, {.kernel = {3, 5}, .stride = 2, .padding = 1, .groups = 2, .bias = false}).describe() ==
        "Conv2d(4, 8, kernel = 3x5, stride = 2, padding = 1, groups = 2, no bias)");
  CHECK(nn::Conv2d(4, 8, {.padding = tl::Padding::same_tf(), .dilation = 2}).describe() ==
        "Conv2d(4, 8, kernel = 3x3, stride = 1, padding = same_tf, dilation = 2)");
}

}  // namespace
