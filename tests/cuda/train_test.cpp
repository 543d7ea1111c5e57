// A small network trains on the emulated GPU through tl's public interface: the same program as on the CPU, with
// another device. Device memory is closed to the host there, so this also shows that no operation touches it from
// outside.
#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <memory>
#include <random>
#include <vector>

#include "schedules.hpp"
#include "tl/nn/layers.hpp"
#include "tl/nn/linear.hpp"
#include "tl/nn/sequential.hpp"
#include "tl/ops/loss.hpp"
#include "tl/optim/optimizer.hpp"

namespace tl::test {
namespace {

constexpr int64_t kSamples = 30, kFeatures = 7, kHidden = 13, kClasses = 3;

/// Three clouds of points, one a class.
struct Points {
  std::vector<float> x;
  std::vector<int32_t> label;

  Points() {
    std::mt19937 random(1);
    std::normal_distribution<float> noise(0, 0.4f);
    for (int64_t i = 0; i < kSamples; ++i) {
      const auto label_of_i = static_cast<int32_t>(i % kClasses);
      label.push_back(label_of_i);
      for (int64_t f = 0; f < kFeatures; ++f) x.push_back(noise(random) + (f % kClasses == label_of_i ? 1.0f : 0.0f));
    }
  }
};

struct Run {
  std::vector<double> losses;
  std::vector<float> weight;
  double accuracy = 0;
};

Run train(Device device, bool adam, int steps) {
  const Points points;
  nn::Sequential net(nn::Linear(kFeatures, kHidden), nn::ReLU(), nn::Linear(kHidden, kClasses));
  std::mt19937 random(2);
  std::uniform_real_distribution<float> uniform(-0.4f, 0.4f);
  for (const auto& [name, parameter] : nn::named_parameters(net)) {
    std::vector<float> values(static_cast<std::size_t>(parameter->value().numel()));
    std::generate(values.begin(), values.end(), [&] { return uniform(random); });
    parameter->value().copy_from(Tensor::from(values, parameter->value().shape()));
  }
  net.to(device);
  const Tensor x = Tensor::from(points.x, {kSamples, kFeatures}, device);
  const Tensor target = Tensor::from(points.label, {kSamples}, device);
  const auto groups = optim::param_groups(net, adam ? 0.02 : 0.1, 0.01);
  std::unique_ptr<optim::Optimizer> optimizer;
  if (adam) optimizer = std::make_unique<optim::AdamW>(groups);
  else optimizer = std::make_unique<optim::Sgd>(groups, optim::SgdOptions{.momentum = 0.9, .nesterov = true});

  Run run;
  for (int step = 0; step < steps; ++step) {
    const Tensor loss = cross_entropy(net(x), target, {.label_smoothing = 0.1});
    loss.backward();
    optimizer->step();
    optimizer->zero_grad();
    run.losses.push_back(loss.item());
  }
  const Tensor logits = net(x).to(kCpu);
  for (int64_t i = 0; i < kSamples; ++i) {
    const float* row = logits.data<float>() + i * kClasses;
    run.accuracy += std::max_element(row, row + kClasses) - row == points.label[static_cast<std::size_t>(i)];
  }
  run.accuracy /= static_cast<double>(kSamples);
  const Tensor weight = nn::named_parameters(net).front().parameter->value().to(kCpu);
  run.weight.assign(weight.data<float>(), weight.data<float>() + weight.numel());
  return run;
}

TEST_CASE("a small network learns on the emulated GPU as it does on the CPU, in every order") {
  for (const bool adam : {false, true}) {
    CAPTURE(adam);
    const Run on_cpu = train(kCpu, adam, 20);
    CHECK(on_cpu.accuracy > 0.9);
    for (const auto& schedule : kSchedules) {
      emulator::set_schedule(schedule);
      CAPTURE(emulator::to_string(schedule));
      const Run on_gpu = train(kCuda, adam, 20);
      CHECK(on_gpu.accuracy == on_cpu.accuracy);
      for (std::size_t step = 0; step < on_cpu.losses.size(); ++step) {
        CHECK(std::abs(on_gpu.losses[step] - on_cpu.losses[step]) < 2e-5);
      }
      for (std::size_t i = 0; i < on_cpu.weight.size(); ++i)
        CHECK(std::abs(on_gpu.weight[i] - on_cpu.weight[i]) < 2e-4f);
    }
  }
}

TEST_CASE("an operation without a CUDA kernel says so") {
  std::string what;
  try {
    kernel::max_pool(kCuda, MaxPoolArgs<float>{});
  } catch (const DeviceError& error) {
    what = error.what();
  }
  CHECK(what ==
        "max_pool: there is no kernel for this operation on cuda:0 in f32. "
        "Hint: move the tensors to the CPU for it.");
}

}  // namespace
}  // namespace tl::test
