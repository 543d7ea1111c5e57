#include "device_test.hpp"

namespace tl::test {
namespace {

constexpr std::size_t kCount = 259;
constexpr int64_t kN = kCount;
constexpr int kSteps = 3;

TEST_CASE("SGD: three steps of every variant") {
  const auto start = random_floats(kCount, 1);
  for (const bool momentum : {false, true}) {
    for (const bool nesterov : {false, true}) {
      for (const float decay : {0.0f, 0.01f}) {
        if (nesterov && !momentum) continue;
        std::vector<double> w(start.begin(), start.end()), v(kCount);
        for (int step = 0; step < kSteps; ++step) {
          const auto grad = random_floats(kCount, 10 + static_cast<unsigned>(step));
          for (std::size_t i = 0; i < kCount; ++i) {
            const double g = 0.5 * grad[i] + double{decay} * w[i];
            v[i] = step == 0 ? g : double{0.9f} * v[i] + g;
            w[i] -= double{0.1f} * (!momentum ? g : nesterov ? g + double{0.9f} * v[i] : v[i]);
          }
        }
        in_every_order([&] {
          OnDevice<float> weight(start), velocity(kCount);
          for (int step = 0; step < kSteps; ++step) {
            OnDevice<float> grad(random_floats(kCount, 10 + static_cast<unsigned>(step)));
            cuda::sgd({.weight = weight.data(),
                       .grad = grad.data(),
                       .velocity = momentum ? velocity.data() : nullptr,
                       .n = kN,
                       .rate = 0.1f,
                       .momentum = 0.9f,
                       .weight_decay = decay,
                       .grad_scale = 0.5f,
                       .nesterov = nesterov,
                       .first = step == 0});
          }
          CHECK_CLOSE(weight.values(), w, 1e-6);
          if (momentum) CHECK_CLOSE(velocity.values(), v, 1e-6);
        });
      }
    }
  }
}

TEST_CASE("Adam and AdamW: three steps") {
  const auto start = random_floats(kCount, 2);
  for (const bool decoupled : {false, true}) {
    for (const double decay : {0.0, 0.1}) {
      constexpr double kRate = 0.01, kBeta1 = 0.9, kBeta2 = 0.99, kEps = 1e-8;
      std::vector<double> w(start.begin(), start.end()), m(kCount), v(kCount);
      for (int step = 1; step <= kSteps; ++step) {
        const auto grad = random_floats(kCount, 20 + static_cast<unsigned>(step));
        for (std::size_t i = 0; i < kCount; ++i) {
          if (decoupled) w[i] *= 1 - kRate * decay;
          const double g = grad[i] + (decoupled ? 0 : decay * w[i]);
          m[i] = kBeta1 * m[i] + (1 - kBeta1) * g;
          v[i] = kBeta2 * v[i] + (1 - kBeta2) * g * g;
          const double root = std::sqrt(v[i]) / std::sqrt(1 - std::pow(kBeta2, step));
          w[i] -= kRate / (1 - std::pow(kBeta1, step)) * m[i] / (root + kEps);
        }
      }
      in_every_order([&] {
        const std::vector<float> zeros(kCount);
        OnDevice<float> weight(start), first(zeros), second(zeros);
        for (int step = 1; step <= kSteps; ++step) {
          OnDevice<float> grad(random_floats(kCount, 20 + static_cast<unsigned>(step)));
          cuda::adam({.weight = weight.data(),
                      .grad = grad.data(),
                      .first_moment = first.data(),
                      .second_moment = second.data(),
                      .n = kN,
                      .step = step,
                      .rate = kRate,
                      .beta1 = kBeta1,
                      .beta2 = kBeta2,
                      .eps = kEps,
                      .weight_decay = decay,
                      .grad_scale = 1,
                      .decoupled = decoupled});
        }
        CHECK_CLOSE(weight.values(), w, 2e-6);
        CHECK_CLOSE(first.values(), m, 1e-6);
        CHECK_CLOSE(second.values(), v, 1e-6);
      });
    }
  }
}

}  // namespace
}  // namespace tl::test
