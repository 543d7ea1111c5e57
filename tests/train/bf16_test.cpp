// Training in bfloat16: what is small is not lost, and curves follow float's.
#include <cmath>

#include "tl/core/precision.hpp"
#include "tl/ops/reduce.hpp"
#include "tl/train/fit.hpp"
#include "train/tasks.hpp"

/// Leaves the test case where there are no kernels for bfloat16.
#define TL_NEEDS_AVX512()                                                              \
  do {                                                                                 \
    if (tl::active_isa() != tl::Isa::avx512) TL_SKIP("this processor has no AVX-512"); \
  } while (false)

namespace {

using namespace tl;
using namespace tl_test;

/// y = w x, w = 1.
struct Scale : nn::Module {
  nn::Linear fc{1, 1, /*with_bias=*/false};
  TL_MEMBERS(fc)

  Scale() { fc.weight.value().fill_(1); }
  Tensor forward(const Tensor& x) override { return fc(x); }
  double weight() const { return static_cast<double>(fc.weight.value().data<float>()[0]); }
};

/// 100 steps on the loss w x.
void take_steps(Scale& net, optim::Optimizer& optimizer, double x) {
  const PrecisionScope half(Precision::bf16);
  const Tensor input = in_precision(Tensor::full({1, 1}, x));
  REQUIRE(input.dtype() == DType::bf16);
  for (int step = 0; step < 100; ++step) {
    optimizer.zero_grad();
    sum(net(input)).backward();
    optimizer.step();
  }
}

struct Curve {
  std::vector<double> losses;
  double accuracy;
};

Curve trained(Precision precision, uint64_t seed) {
  const PrecisionScope scope(precision);
  manual_seed(seed);
  SmallNet net;
  Loader train(View(std::make_shared<Stripes>(128, 12, seed), eval_transform(stripes_input())),
               {.batch = 16, .shuffle = true, .seed = seed});
  Loader validation(View(std::make_shared<Stripes>(64, 12, seed + 100), eval_transform(stripes_input())),
                    {.batch = 64});
  optim::Sgd optimizer(optim::param_groups(net, 0.05), {.momentum = 0.9});
  const FitResult result = fit(net, optimizer, train, &validation, 4, {.epochs = 8});
  Curve out{{}, result.last_accuracy};
  for (const auto& epoch : result.log.epochs) out.losses.push_back(epoch.train_loss);
  for (const auto& p : nn::named_parameters(net)) CHECK(p.parameter->value().dtype() == DType::f32);
  return out;
}

}  // namespace

TEST_CASE("FR10: steps of a thousandth of a weight add up") {
  TL_NEEDS_AVX512();
  Scale net;
  optim::Sgd optimizer(optim::param_groups(net, 1e-3));
  take_steps(net, optimizer, 1);
  CHECK(std::abs(net.weight() - 0.9) < 1e-4);
}

TEST_CASE("FR10: decay of a hundred-thousandth of a weight adds up") {
  TL_NEEDS_AVX512();
  Scale net;
  optim::AdamW optimizer(optim::param_groups(net, 1e-3, 0.01));
  take_steps(net, optimizer, 0);
  CHECK(std::abs(net.weight() - std::pow(1 - 1e-5, 100)) < 5e-6);  // 100 roundings of float
}

TEST_CASE("FR10: the weights that files are made from are the f32 ones") {
  TL_NEEDS_AVX512();
  Scale net;
  optim::Sgd optimizer(optim::param_groups(net, 1e-5));
  take_steps(net, optimizer, 1);
  const auto weights = copy_weights(net);
  REQUIRE(weights.size() == 1);
  CHECK(weights[0].tensor.dtype() == DType::f32);
  CHECK(std::abs(weights[0].tensor.item() - 0.999) < 1e-5);  // between two numbers of bfloat16
}

TEST_CASE("loss curves and accuracies are float's, within their noise") {
  TL_NEEDS_AVX512();
  for (const uint64_t seed : {1, 2, 3}) {
    CAPTURE(seed);
    const Curve full = trained(Precision::f32, seed), half = trained(Precision::bf16, seed);
    REQUIRE(half.losses.size() == full.losses.size());
    for (size_t epoch = 0; epoch < full.losses.size(); ++epoch) {
      CAPTURE(epoch);
      CHECK(std::abs(half.losses[epoch] - full.losses[epoch]) < 0.05 + 0.1 * full.losses[epoch]);
    }
    CHECK(half.accuracy > full.accuracy - 0.1);
  }
}
