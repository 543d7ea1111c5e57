// Relative gradient norms against numbers worked out by hand.
#include "tl/transfer/surgery.hpp"

#include "support.hpp"
#include "tl/nn/freeze.hpp"
#include "tl/nn/linear.hpp"

namespace {

using namespace tl;

struct Net : nn::Module {
  nn::Linear a{2, 2}, b{2, 1};
  TL_MEMBERS(a, b)
};

void set(nn::Parameter& parameter, std::vector<float> value, std::vector<float> grad) {
  parameter.value().copy_from(Tensor::from(value, parameter.value().shape()));
  parameter.value().set_grad(Tensor::from(grad, parameter.value().shape()));
}

}  // namespace

TEST_CASE("the mean of |gradient| / |weight| over a stage's tensors") {
  Net net;
  set(net.a.weight, {3, 0, 0, 4}, {1, 2, 2, 0});  // 3 / 5
  set(net.a.bias, {0, 2}, {0.6f, 0.8f});          // 1 / 2
  set(net.b.weight, {1, 1}, {1, 1});              // 1
  set(net.b.bias, {0}, {7});                      // of zeros: left out
  const auto norms = relative_gradient_norms(net, {{"a"}, {"b"}});
  REQUIRE(norms.size() == 2);
  CHECK(norms[0] == doctest::Approx(0.55).epsilon(1e-7));
  CHECK(norms[1] == doctest::Approx(1.0).epsilon(1e-7));

  freeze(net, "a.weight");
  CHECK(relative_gradient_norms(net, {{"a"}, {"b"}})[0] == doctest::Approx(0.5).epsilon(1e-7));
  freeze(net, "a");
  CHECK(relative_gradient_norms(net, {{"a"}, {"b"}})[0] == 0);
  CHECK_THROWS_AS(relative_gradient_norms(net, {{"c"}}), UsageError);
}
