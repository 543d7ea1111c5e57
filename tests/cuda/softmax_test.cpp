#include <limits>

#include "device_test.hpp"
#include "rungs.hpp"

namespace tl::test {
namespace {

constexpr float kInf = std::numeric_limits<float>::infinity();

std::size_t count(int64_t rows, int64_t cols) { return static_cast<std::size_t>(rows * cols); }

std::vector<double> softmax_in_double(const std::vector<float>& x, int64_t cols, bool logarithm) {
  std::vector<double> y(x.size());
  const auto width = static_cast<std::size_t>(cols);
  for (std::size_t row = 0; row < x.size(); row += width) {
    const double largest = *std::max_element(x.begin() + static_cast<std::ptrdiff_t>(row),
                                             x.begin() + static_cast<std::ptrdiff_t>(row + width));
    double sum = 0;
    for (std::size_t c = row; c < row + width; ++c) sum += std::exp(x[c] - largest);
    for (std::size_t c = row; c < row + width; ++c) {
      if (logarithm) y[c] = x[c] - largest - std::log(sum);
      else y[c] = largest == -kInf ? 0 : std::exp(x[c] - largest) / sum;
    }
  }
  return y;
}

using Softmax = void (*)(const SoftmaxArgs<float>&);

void check_softmax(Softmax softmax, int64_t rows, int64_t cols) {
  CAPTURE(rows);
  CAPTURE(cols);
  const auto x = random_floats(count(rows, cols), 1, -20, 100);  // exp(100) would overflow
  OnDevice<float> in(x);
  for (const bool logarithm : {false, true}) {
    const auto expected = softmax_in_double(x, cols, logarithm);
    in_every_order([&] {
      OnDevice<float> y(x.size());
      softmax({in.data(), y.data(), rows, cols, logarithm});
      CHECK_CLOSE(y.values(), expected, 2e-6);
    });
  }
}

TEST_CASE("softmax and log-softmax: rows of every length") {
  for (const int64_t cols : {1, 10, 129, 1000, 1025}) check_softmax(cuda::softmax, 5, cols);
  check_softmax(cuda::softmax, 2, 12289);
}

TEST_CASE("softmax: every rung") {
  for (const Softmax rung : {rungs::softmax_v1_warp, rungs::softmax_v1_block, rungs::softmax_v2, rungs::softmax_v3}) {
    check_softmax(rung, 7, 300);
    check_softmax(rung, 3, 31);
  }
}

TEST_CASE("softmax: infinities") {
  const std::vector<float> x{-kInf, 0, 0, -kInf, -kInf, -kInf};
  OnDevice<float> in(x), y(x.size());
  cuda::softmax({in.data(), y.data(), 2, 3, false});
  CHECK_CLOSE(y.values(), (std::vector<double>{0, 0.5, 0.5, 0, 0, 0}), 1e-7);
}

TEST_CASE("softmax backward") {
  for (const int64_t cols : {7, 1100}) {
    for (const bool logarithm : {false, true}) {
      const auto x = random_floats(count(3, cols), 2), grad_y = random_floats(x.size(), 3);
      const auto y = softmax_in_double(x, cols, logarithm);
      std::vector<double> grad_x(x.size());
      for (std::size_t row = 0; row < x.size(); row += static_cast<std::size_t>(cols)) {
        double total = 0;
        for (std::size_t c = row; c < row + static_cast<std::size_t>(cols); ++c)
          total += grad_y[c] * (logarithm ? 1 : y[c]);
        for (std::size_t c = row; c < row + static_cast<std::size_t>(cols); ++c) {
          grad_x[c] = logarithm ? grad_y[c] - std::exp(y[c]) * total : y[c] * (grad_y[c] - total);
        }
      }
      OnDevice<float> kept(std::vector<float>(y.begin(), y.end())), grad(grad_y);
      in_every_order([&] {
        OnDevice<float> out(x.size());
        cuda::softmax_backward({kept.data(), grad.data(), out.data(), 3, cols, logarithm});
        CHECK_CLOSE(out.values(), grad_x, 5e-6);
      });
    }
  }
}

struct CrossEntropyCase {
  int64_t cols;
  float smoothing;
  bool class_weights;
};

TEST_CASE("cross-entropy, forward and backward: smoothing, class weights, ignored rows") {
  constexpr int64_t kRows = 6;
  constexpr int32_t kIgnore = -100;
  for (const auto& c :
       {CrossEntropyCase{10, 0, false}, {10, 0.1f, false}, {10, 0, true}, {10, 0.1f, true}, {1030, 0.2f, true}}) {
    CAPTURE(c.cols);
    CAPTURE(c.smoothing);
    CAPTURE(c.class_weights);
    const auto cols = static_cast<std::size_t>(c.cols);
    const auto x = random_floats(count(kRows, c.cols), 4, 90, 100);
    auto target = random_indices(kRows, static_cast<int32_t>(c.cols), 5);
    target[2] = kIgnore;
    const auto class_weight = random_floats(cols, 6, 0.5f, 2), grad_loss = random_floats(kRows, 7);
    const auto weight_of = [&](std::size_t k) { return c.class_weights ? double{class_weight[k]} : 1.0; };
    const auto log_p = softmax_in_double(x, c.cols, true);
    std::vector<double> loss(kRows), weight(kRows), log_sum_exp(kRows), grad_x(x.size());
    double all_weights = 0;
    for (std::size_t k = 0; k < cols; ++k) all_weights += weight_of(k);
    for (std::size_t r = 0; r < kRows; ++r) {
      if (target[r] == kIgnore) continue;
      const auto t = static_cast<std::size_t>(target[r]);
      const double spread = double{c.smoothing} / static_cast<double>(c.cols),
                   hard = (1 - double{c.smoothing}) * weight_of(t);
      weight[r] = weight_of(t);
      loss[r] = -hard * log_p[r * cols + t];
      log_sum_exp[r] = x[r * cols] - log_p[r * cols];
      for (std::size_t k = 0; k < cols; ++k) {
        loss[r] -= spread * weight_of(k) * log_p[r * cols + k];
        const double p = std::exp(log_p[r * cols + k]);
        grad_x[r * cols + k] =
            grad_loss[r] * (p * (hard + spread * all_weights) - spread * weight_of(k) - (k == t ? hard : 0));
      }
    }
    OnDevice<float> in(x), weights(class_weight), grad(grad_loss);
    OnDevice<int32_t> targets(target);
    const float* on_weights = c.class_weights ? weights.data() : nullptr;
    in_every_order([&] {
      OnDevice<float> out_loss(kRows), out_weight(kRows), out_lse(kRows), out_grad(x.size());
      cuda::cross_entropy({in.data(), targets.data(), on_weights, out_loss.data(), out_weight.data(), out_lse.data(),
                           kRows, c.cols, c.smoothing, kIgnore});
      cuda::cross_entropy_backward({in.data(), targets.data(), on_weights, out_lse.data(), grad.data(), out_grad.data(),
                                    kRows, c.cols, c.smoothing, kIgnore});
      CHECK_CLOSE(out_loss.values(), loss, 5e-6);
      CHECK_CLOSE(out_weight.values(), weight, 1e-6);
      CHECK_CLOSE(out_lse.values(), log_sum_exp, 1e-6);
      CHECK_CLOSE(out_grad.values(), grad_x, 1e-5);
    });
  }
}

}  // namespace
}  // namespace tl::test
