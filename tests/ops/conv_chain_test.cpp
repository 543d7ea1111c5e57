// A chain of convolutions with BatchNorm gives what its units give one by one.
#include <cmath>
#include <optional>

#include "ops/isa.hpp"
#include "support.hpp"
#include "tl/autograd/engine.hpp"
#include "tl/nn/conv.hpp"
#include "tl/ops/elementwise.hpp"
#include "tl/ops/reduce.hpp"
#include "tl/ops/view.hpp"

namespace {

using tl::Activation;
using tl::Tensor;
namespace nn = tl::nn;

Tensor random(const tl::Shape& shape, uint64_t seed, double deviation = 1) {
  Tensor out = Tensor::empty(shape);
  tl::Generator generator(seed);
  nn::normal_(out, 0, deviation, generator);
  return out;
}

struct Case {
  int64_t n, h, w, in, width, out;
  int64_t kernel = 3, stride = 1;
  bool expand = true;
  tl::Padding padding = 1;
  Activation activation = Activation::relu6, last = Activation::none;

  bool adds_x() const { return stride == 1 && in == out; }
};

/// An inverted residual's layers, with statistics that matter.
struct Layers : nn::Module {
  nn::Conv2d expand, depthwise, project;
  nn::BatchNorm2d bn_expand, bn_depthwise, bn_project;
  TL_MEMBERS(expand, bn_expand, depthwise, bn_depthwise, project, bn_project)
  Case c;

  explicit Layers(const Case& given) : c(given) {
    tl::manual_seed(3);
    const int64_t width = c.expand ? c.width : c.in;
    if (c.expand) expand = nn::Conv2d(c.in, width, {.kernel = 1, .bias = false});
    if (c.expand) bn_expand = nn::BatchNorm2d(width);
    depthwise = nn::Conv2d(
        width, width, {.kernel = c.kernel, .stride = c.stride, .padding = c.padding, .groups = width, .bias = false});
    bn_depthwise = nn::BatchNorm2d(width);
    project = nn::Conv2d(width, c.out, {.kernel = 1, .bias = false});
    bn_project = nn::BatchNorm2d(c.out);
    tl::Generator generator(4);
    for (nn::BatchNorm2d* bn : {&bn_expand, &bn_depthwise, &bn_project}) {
      if (!bn->weight.defined()) continue;
      nn::uniform_(bn->weight.value(), 0.5, 2, generator), nn::uniform_(bn->bias.value(), -1, 3, generator);
      nn::uniform_(bn->running_mean.value(), -0.2, 0.2, generator);
      nn::uniform_(bn->running_var.value(), 0.1, 0.5, generator);
    }
  }

  Tensor forward(const Tensor& x) override { return forward(x, c.adds_x() ? x : Tensor()); }
  Tensor forward(const Tensor& x, const Tensor& residual) {
    std::vector<nn::ConvBn> units;
    if (c.expand) units.push_back({expand, bn_expand, c.activation});
    units.push_back({depthwise, bn_depthwise, c.activation});
    units.push_back({project, bn_project, c.last});
    return conv_bn_chain(units, x, residual);
  }
};

/// Everything that a step leaves behind, by name.
struct Outcome {
  std::vector<std::pair<std::string, Tensor>> tensors;
};

Outcome step(Layers& net, Tensor x, bool one_by_one, bool wants_x = true) {
  const auto ignore = [](nn::Module&, const Tensor&) {};
  std::optional<nn::Observe> observe;
  if (one_by_one) observe.emplace(ignore);  // somebody who looks at each layer keeps them apart
  x = x.clone();
  if (wants_x) x.set_requires_grad();
  const Tensor y = net.forward(x);
  Outcome out;
  out.tensors.emplace_back("y", y.detach());
  if (!y.requires_grad()) return out;
  y.backward(random(y.shape(), 9));
  if (wants_x) out.tensors.emplace_back("grad x", x.grad());
  for (const auto& [name, parameter] : nn::named_parameters(net))
    out.tensors.emplace_back(name, parameter->value().grad());
  for (const auto& [name, buffer] : nn::named_buffers(net)) out.tensors.emplace_back(name, buffer->value().clone());
  return out;
}

double distance(const Tensor& a, const Tensor& b) {
  double worst = 0, scale = 1e-30;
  const Tensor x = a.to(tl::DType::f64), y = b.to(tl::DType::f64);
  for (int64_t i = 0; i < a.numel(); ++i) {
    worst = std::max(worst, std::abs(x.data<double>()[i] - y.data<double>()[i]));
    scale = std::max(scale, std::abs(y.data<double>()[i]));
    if (std::isnan(x.data<double>()[i])) return 1;
  }
  return worst / scale;
}

void check_equal(const Outcome& got, const Outcome& want, double tolerance) {
  REQUIRE(got.tensors.size() == want.tensors.size());
  for (size_t i = 0; i < got.tensors.size(); ++i) {
    CAPTURE(want.tensors[i].first);
    REQUIRE(got.tensors[i].second.defined() == want.tensors[i].second.defined());
    if (want.tensors[i].second.defined()) CHECK(distance(got.tensors[i].second, want.tensors[i].second) <= tolerance);
  }
}

const Case kCases[] = {
    {2, 9, 10, 16, 96, 16},
    {2, 9, 10, 24, 144, 24, 3, 1, true, 1, Activation::relu},
    {3, 8, 7, 5, 30, 5},
    {1, 12, 12, 8, 24, 16, 3, 2},
    {2, 11, 9, 8, 40, 12, 3, 2},
    {2, 10, 8, 8, 40, 12, 3, 2, true, tl::Padding::same_tf()},
    {2, 9, 13, 8, 40, 8, 5, 1, true, 2},
    {1, 13, 12, 8, 40, 12, 5, 2, true, 2},
    {2, 14, 16, 8, 40, 12, 5, 2, true, tl::Padding::same_tf()},
    {2, 9, 9, 32, 32, 16, 3, 1, false},
    {2, 6, 6, 300, 300, 300, 3, 1, false},
    {2, 5, 5, 40, 600, 40},
    {2, 9, 9, 16, 48, 16, 3, 1, true, 1, Activation::relu6, Activation::relu},
    {1, 84, 84, 40, 608, 40},  // several blocks of rows in a group, and tensors that are stored past the caches
};

TEST_CASE("a chain trains as its units one by one, on every instruction set and number of threads") {
  TL_NEEDS_ISA();
  for (const Case& c : kCases) {
    CAPTURE(&c - kCases);
    const Tensor x = random({c.n, c.h, c.w, c.in}, 1);
    std::optional<Outcome> first;
    Layers reference(c);
    const Outcome want = step(reference, x, true);
    for (const int threads : {1, 2, 3}) {
      tl::set_threads(threads);
      Layers net(c);
      const Outcome got = step(net, x, false);
      check_equal(got, want, 2e-5);
      if (first) check_equal(got, *first, 0);
      else first = got;
    }
    tl::set_threads(tl::available_threads());
  }
}

TEST_CASE("what is frozen gets no gradient and moves no statistics, and what lies around it learns as before") {
  TL_NEEDS_ISA();
  const Case c = kCases[0];
  const Tensor x = random({c.n, c.h, c.w, c.in}, 1);
  const auto freeze = [](Layers& net, int what) {
    nn::Module* const parts[] = {&net.expand,       &net.bn_expand, &net.depthwise,
                                 &net.bn_depthwise, &net.project,   &net.bn_project};
    for (int i = 0; i < 6; ++i) parts[i]->set_frozen(what >> i & 1);
  };
  for (int what = 0; what < 64; ++what)
    for (const bool wants_x : {false, true}) {
      CAPTURE(what);
      CAPTURE(wants_x);
      Layers reference(c), net(c);
      freeze(reference, what), freeze(net, what);
      check_equal(step(net, x, false, wants_x), step(reference, x, true, wants_x), 2e-5);
    }
}

TEST_CASE("a residual of its own gets its gradient, and only what is needed is kept") {
  const Case c = kCases[0];
  const Tensor x = random({c.n, c.h, c.w, c.in}, 1);
  Tensor own = random(x.shape(), 2), alone = own.clone();
  own.set_requires_grad(), alone.set_requires_grad();
  Layers net(c), reference(c);
  const Tensor grad = random(x.shape(), 3);
  net.forward(x, own).backward(grad);
  const auto ignore = [](nn::Module&, const Tensor&) {};
  const nn::Observe observe(ignore);
  reference.forward(x, alone).backward(grad);
  CHECK(distance(own.grad(), alone.grad()) == 0);
  CHECK(distance(net.expand.weight.value().grad(), reference.expand.weight.value().grad()) < 2e-5);
}

TEST_CASE("with nothing to learn the units become one kernel with the same result") {
  TL_NEEDS_ISA();
  const tl::NoGrad no_grad;
  const auto ignore = [](nn::Module&, const Tensor&) {};
  for (const Case& c : kCases) {
    CAPTURE(&c - kCases);
    const Tensor x = random({c.n, c.h, c.w, c.in}, 1);
    Layers net(c);
    net.eval();
    Tensor want;
    {
      const nn::Observe observe(ignore);
      want = net.forward(x);
    }
    Tensor first;
    for (const int threads : {1, 2, 3}) {
      tl::set_threads(threads);
      const Tensor got = net.forward(x);
      CHECK(distance(got, want) < 1e-5);
      if (first.defined()) CHECK(distance(got, first) == 0);
      first = got;
    }
    net.bn_project.bias.value().mutable_data<float>()[0] += 1;  // what was packed is packed anew
    CHECK(distance(net.forward(x), first) > 1e-4);
    tl::set_threads(tl::available_threads());
  }
}

TEST_CASE("in bfloat16 the one kernel has the bits of its units one by one") {
  if (tl::active_isa() != tl::Isa::avx512) TL_SKIP("this processor has no AVX-512");
  const tl::NoGrad no_grad;
  const auto ignore = [](nn::Module&, const Tensor&) {};
  for (const Case& c : kCases) {
    CAPTURE(&c - kCases);
    const Tensor x = tl::cast(random({c.n, c.h, c.w, c.in}, 1), tl::DType::bf16);
    Layers net(c);
    net.eval();
    Tensor want;
    {
      const nn::Observe observe(ignore);
      want = net.forward(x);
    }
    for (const int threads : {1, 2, 3}) {
      tl::set_threads(threads);
      const Tensor got = net.forward(x);
      CHECK(got.dtype() == tl::DType::bf16);
      CHECK(distance(got, want) == 0);
    }
    tl::set_threads(tl::available_threads());
  }
}

TEST_CASE("a chain notices that what it kept was changed") {
  Layers net(kCases[0]);
  Tensor x = random({2, 9, 10, 16}, 1);
  const Tensor y = net(x);
  x.mutable_data<float>()[0] = 1;
  CHECK_THROWS_WITH_AS(y.backward(random(y.shape(), 2)), doctest::Contains("changed in place"), tl::UsageError);
}

TEST_CASE("a large mean does not swallow the variance") {
  for (const bool one_by_one : {false, true}) {
    Layers net({2, 9, 9, 4, 8, 4});
    const Tensor x = random({2, 9, 9, 4}, 1, 0.01) + 1000.0;
    CHECK(distance(step(net, x, one_by_one).tensors.back().second, Tensor::ones({})) == 0);
    CHECK(net.bn_expand.running_var.value().data<float>()[0] < 1);
  }
}

}  // namespace
