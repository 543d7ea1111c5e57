// Normalisation layers.
#pragma once
#include "tl/nn/init.hpp"
#include "tl/nn/module.hpp"
#include "tl/ops/dropout.hpp"
#include "tl/ops/elementwise.hpp"
#include "tl/ops/norm.hpp"

namespace tl::inline TL_ABI {
namespace nn {

struct BatchNormConfig {
  double eps = 1e-5;
  double momentum = 0.1;
  /// Probability with which a channel takes the batch's statistics in training; else it takes the running ones
  /// (StochNorm, see set_stochastic_norms).
  double batch_share = 1;
};

/// Batch normalisation of the last dimension (channels) with running statistics; see tl::batch_norm. Frozen, it
/// normalises with the running statistics in training as well, and they stay.
struct BatchNorm2d : Module {
  Parameter weight, bias;
  Buffer running_mean, running_var, num_batches_tracked;
  BatchNormConfig config;
  TL_MEMBERS(weight, bias, running_mean, running_var, num_batches_tracked)

  BatchNorm2d() = default;
  explicit BatchNorm2d(int64_t channels, const BatchNormConfig& c = {})
      : weight(Tensor::ones({channels})),
        bias(Tensor::zeros({channels})),
        running_mean(Tensor::zeros({channels})),
        running_var(Tensor::ones({channels})),
        num_batches_tracked(Tensor::zeros({}, DType::i64)),
        config(c) {}

  Tensor forward(const Tensor& x) override { return forward(x, Activation::none); }

  /// activation(norm(x) + residual), in one pass unless the norm is stochastic.
  Tensor forward(const Tensor& x, Activation activation, const Tensor& residual = {}) {
    if (stochastic()) {
      const Tensor y = tossed(x);
      return activate(residual ? y + residual : y, activation);
    }
    count_batch();
    return batch_norm(x, weight, bias, running_mean.value(), running_var.value(), options(activation), residual);
  }

  /// Whether a coin chooses each channel's statistics.
  bool stochastic() const { return training() && config.batch_share < 1; }

  BatchNormOptions options(Activation activation) const {
    return {.training = training(), .momentum = config.momentum, .eps = config.eps, .activation = activation};
  }
  /// Counts a batch in training; for operations that normalise on this layer's behalf.
  void count_batch() {
    if (!training()) return;
    tl::detail::perform("count_batch", [count = num_batches_tracked.value().mutable_data<int64_t>()] { ++*count; });
  }

  std::string describe() const override {
    return text("BatchNorm2d(", weight.value().numel(), ", eps = ", config.eps,
                config.batch_share < 1 ? text(", batch_share = ", config.batch_share) : "", ")");
  }

 private:
  /// norm(x) with the batch's statistics in the channels that the coin favours, and the running ones, as they were
  /// before this batch, in the others.
  Tensor tossed(const Tensor& x) {
    const Tensor running = batch_norm(x, weight, bias, running_mean.value(), running_var.value(),
                                      {.momentum = config.momentum, .eps = config.eps});
    count_batch();
    const Tensor batch =
        batch_norm(x, weight, bias, running_mean.value(), running_var.value(), options(Activation::none));
    const Tensor ones = Tensor::ones(weight.value().shape(), x.dtype(), x.device());
    const Tensor coin = dropout(ones, 1 - config.batch_share, default_generator()) * config.batch_share;  // 0 or 1
    return running * (1 - coin) + batch * coin;
  }
};

/// Layer normalisation over the last dimension; see tl::layer_norm.
struct LayerNorm : Module {
  Parameter weight, bias;
  double eps = 1e-5;
  TL_MEMBERS(weight, bias)

  LayerNorm() = default;
  explicit LayerNorm(int64_t width, double epsilon = 1e-5)
      : weight(Tensor::ones({width})), bias(Tensor::zeros({width})), eps(epsilon) {}

  Tensor forward(const Tensor& x) override { return layer_norm(x, weight, bias, eps); }

  using Module::operator();
  /// Of x + residual, in one pass.
  Tensor operator()(const Tensor& x, const Tensor& residual) {
    Tensor y = layer_norm(x, weight, bias, eps, residual);
    observed(*this, y);
    return y;
  }
  std::string describe() const override { return text("LayerNorm(", weight.value().numel(), ", eps = ", eps, ")"); }
};

}  // namespace nn
}  // namespace tl::inline TL_ABI
