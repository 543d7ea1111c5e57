// Definitions of ops/norm.hpp.
#pragma once
#include <cmath>

#include "tl/autograd/function.hpp"
#include "tl/ops/norm.hpp"

namespace tl::inline TL_ABI {
namespace detail {

struct BatchNorm {
  static constexpr std::string_view kName = "batch_norm";
  BatchNormOptions options;
  Tensor running_mean, running_var;  // moved in training
  Kept x, y, gamma, mean, rstd;
  Tensor batch_mean, batch_rstd;  // between run() and keep()

  Tensor forward(const Needs& needs, const Tensor& in, const Tensor& weight, const Tensor& bias,
                 const Tensor& residual) {
    Tensor out = Tensor::empty(in.shape(), in.dtype(), in.device());
    visit_floating(in.dtype(), kName,
                   [&](auto type) { run<typename decltype(type)::type>(in, weight, bias, residual, out); });
    if (!needs.any()) {
      batch_mean = batch_rstd = Tensor();
      return out;
    }
    if (needs[0] || needs[1]) x.keep(in);
    if (options.activation != Activation::none) y.keep(out);
    if (weight.defined()) gamma.keep(weight);
    mean.keep(batch_mean);
    rstd.keep(batch_rstd);
    batch_mean = batch_rstd = running_mean = running_var = Tensor();
    return out;
  }

  Gradients backward(const Needs& needs, const Tensor& grad_y) const {
    Gradients out(4);
    const int64_t channels = grad_y.size(-1);
    const auto like = [&](bool wanted, const Shape& shape) {
      return wanted ? Tensor::empty(shape, grad_y.dtype(), grad_y.device()) : Tensor();
    };
    out[0] = like(needs[0], grad_y.shape());
    out[1] = like(needs[1], {channels});
    out[2] = like(needs[2], {channels});
    const bool masked = options.activation != Activation::none;
    out[3] = like(needs[3] && masked, grad_y.shape());
    visit_floating(grad_y.dtype(), kName, [&](auto type) {
      using T = typename decltype(type)::type;
      const auto read = [](const Kept& kept) { return kept ? kept.get(kName).template data<T>() : nullptr; };
      const auto write = [](Tensor& tensor) { return tensor ? tensor.mutable_data<T>() : nullptr; };
      kernel::batch_norm_backward(grad_y.device(),
                                  BatchNormBackwardArgs<T>{.grad_y = grad_y.data<T>(),
                                                           .x = read(x),
                                                           .y = read(y),
                                                           .gamma = read(gamma),
                                                           .mean = read(mean),
                                                           .rstd = read(rstd),
                                                           .grad_x = write(out[0]),
                                                           .grad_gamma = write(out[1]),
                                                           .grad_beta = write(out[2]),
                                                           .grad_residual = write(out[3]),
                                                           .rows = grad_y.numel() / std::max<int64_t>(channels, 1),
                                                           .channels = channels,
                                                           .activation = options.activation,
                                                           .frozen_statistics = !options.training});
    });
    if (needs[3] && !masked) out[3] = grad_y;
    return out;
  }

 private:
  template <class T>
  void run(const Tensor& in, const Tensor& weight, const Tensor& bias, const Tensor& residual, Tensor& out) {
    require<DeviceError>(in.device().is_cpu(), "batch_norm: there is no kernel for ", in.device(), " yet");
    const int64_t channels = in.size(-1), rows = in.numel() / std::max<int64_t>(channels, 1);
    batch_mean = Tensor::empty({channels}, in.dtype());
    batch_rstd = Tensor::empty({channels}, in.dtype());
    T* mu = batch_mean.mutable_data<T>();
    T* r = batch_rstd.mutable_data<T>();
    if (options.training) {
      Tensor variance = Tensor::empty({channels}, in.dtype());
      T* var = variance.mutable_data<T>();
      kernel::batch_statistics(
          in.device(),
          BatchStatisticsArgs<T>{.x = in.data<T>(), .mean = mu, .variance = var, .rows = rows, .channels = channels});
      const double unbias = static_cast<double>(rows) / static_cast<double>(rows - 1);
      move(running_mean, mu, 1.0);
      move(running_var, var, unbias);
      for (int64_t c = 0; c < channels; ++c)
        r[c] = static_cast<T>(1 / std::sqrt(static_cast<double>(var[c]) + options.eps));
    } else {
      const T* from = running_mean.data<T>();
      const T* var = running_var.data<T>();
      for (int64_t c = 0; c < channels; ++c) {
        mu[c] = from[c];
        r[c] = static_cast<T>(1 / std::sqrt(static_cast<double>(var[c]) + options.eps));
      }
    }
    Tensor scale = Tensor::empty({channels}, in.dtype()), shift = Tensor::empty({channels}, in.dtype());
    T* a = scale.mutable_data<T>();
    T* b = shift.mutable_data<T>();
    for (int64_t c = 0; c < channels; ++c) {
      a[c] = weight.defined() ? weight.data<T>()[c] * r[c] : r[c];
      b[c] = (bias.defined() ? bias.data<T>()[c] : T(0)) - mu[c] * a[c];
    }
    kernel::channel_affine(in.device(),
                           ChannelAffineArgs<T>{.x = in.data<T>(),
                                                .scale = a,
                                                .shift = b,
                                                .residual = residual.defined() ? residual.data<T>() : nullptr,
                                                .y = out.mutable_data<T>(),
                                                .rows = rows,
                                                .channels = channels,
                                                .activation = options.activation});
  }

  template <class T>
  void move(Tensor& running, const T* batch, double factor) const {
    if (!running.defined()) return;
    T* value = running.mutable_data<T>();
    const auto momentum = static_cast<T>(options.momentum);
    for (int64_t c = 0; c < running.numel(); ++c)
      value[c] = (1 - momentum) * value[c] + momentum * static_cast<T>(batch[c] * factor);
  }
};

struct LayerNorm {
  static constexpr std::string_view kName = "layer_norm";
  double eps;
  Kept x, gamma, mean, rstd;

  Tensor forward(const Needs& needs, const Tensor& in, const Tensor& weight, const Tensor& bias) {
    const int64_t cols = in.size(-1), rows = in.numel() / std::max<int64_t>(cols, 1);
    Tensor y = Tensor::empty(in.shape(), in.dtype(), in.device());
    Tensor mu = needs.any() ? Tensor::empty({rows}, in.dtype(), in.device()) : Tensor();
    Tensor r = needs.any() ? Tensor::empty({rows}, in.dtype(), in.device()) : Tensor();
    visit_floating(in.dtype(), kName, [&](auto type) {
      using T = typename decltype(type)::type;
      kernel::layer_norm(in.device(), LayerNormArgs<T>{.x = in.data<T>(),
                                                       .gamma = weight ? weight.data<T>() : nullptr,
                                                       .beta = bias ? bias.data<T>() : nullptr,
                                                       .y = y.mutable_data<T>(),
                                                       .mean = mu ? mu.mutable_data<T>() : nullptr,
                                                       .rstd = r ? r.mutable_data<T>() : nullptr,
                                                       .rows = rows,
                                                       .cols = cols,
                                                       .eps = static_cast<T>(eps)});
    });
    if (needs.any()) {
      x.keep(in);
      mean.keep(mu);
      rstd.keep(r);
      if (weight.defined()) gamma.keep(weight);
    }
    return y;
  }

  Gradients backward(const Needs& needs, const Tensor& grad_y) const {
    Gradients out(3);
    const int64_t cols = grad_y.size(-1);
    if (needs[0]) out[0] = Tensor::empty(grad_y.shape(), grad_y.dtype(), grad_y.device());
    if (needs[1]) out[1] = Tensor::empty({cols}, grad_y.dtype(), grad_y.device());
    if (needs[2]) out[2] = Tensor::empty({cols}, grad_y.dtype(), grad_y.device());
    visit_floating(grad_y.dtype(), kName, [&](auto type) {
      using T = typename decltype(type)::type;
      const auto write = [](Tensor& tensor) { return tensor ? tensor.mutable_data<T>() : nullptr; };
      kernel::layer_norm_backward(grad_y.device(),
                                  LayerNormBackwardArgs<T>{.grad_y = grad_y.data<T>(),
                                                           .x = x.get(kName).data<T>(),
                                                           .gamma = gamma ? gamma.get(kName).data<T>() : nullptr,
                                                           .mean = mean.get(kName).data<T>(),
                                                           .rstd = rstd.get(kName).data<T>(),
                                                           .grad_x = write(out[0]),
                                                           .grad_gamma = write(out[1]),
                                                           .grad_beta = write(out[2]),
                                                           .rows = grad_y.numel() / std::max<int64_t>(cols, 1),
                                                           .cols = cols});
    });
    return out;
  }
};

}  // namespace detail

TL_INLINE Tensor batch_norm(const Tensor& x, const Tensor& gamma, const Tensor& beta, Tensor& running_mean,
                            Tensor& running_var, const BatchNormOptions& options, const Tensor& residual) {
  require<ShapeError>(x.rank() >= 2, "batch_norm: x must be [..., C] with at least two dimensions; got ", x.shape());
  const Shape channels{x.size(-1)};
  const auto check = [&](const Tensor& tensor, std::string_view what, bool optional) {
    require<ShapeError>(tensor.defined() ? tensor.shape() == channels : optional, "batch_norm: ", what,
                        " must be [C] with C = ", x.size(-1), "; got ", tensor.defined() ? tensor.shape() : Shape());
  };
  check(gamma, "gamma", true);
  check(beta, "beta", true);
  check(running_mean, "running_mean", options.training);
  check(running_var, "running_var", options.training);
  require<ShapeError>(!residual.defined() || residual.shape() == x.shape(), "batch_norm: residual must be like x, ",
                      x.shape(), "; got ", residual.defined() ? residual.shape() : Shape());
  require<UsageError>(!options.training || x.numel() > x.size(-1),
                      "batch_norm: training needs more than one value a channel, got ", x.shape(),
                      ". Hint: a last batch of one picture; drop it, or freeze the layer.");
  const auto fused = options.activation;
  require<UsageError>(fused == Activation::none || fused == Activation::relu || fused == Activation::relu6,
                      "batch_norm: only relu and relu6 can be fused");
  return apply(detail::BatchNorm{options, running_mean, running_var, {}, {}, {}, {}, {}, {}, {}}, x, gamma, beta,
               residual);
}

TL_INLINE Tensor layer_norm(const Tensor& x, const Tensor& gamma, const Tensor& beta, double eps) {
  require<ShapeError>(x.rank() >= 1, "layer_norm: x must be [..., C]; got ", x.shape());
  const auto check = [&](const Tensor& tensor, std::string_view what) {
    require<ShapeError>(!tensor.defined() || tensor.shape() == Shape{x.size(-1)}, "layer_norm: ", what,
                        " must be [C] with C = ", x.size(-1), "; got ", tensor.defined() ? tensor.shape() : Shape());
  };
  check(gamma, "gamma");
  check(beta, "beta");
  return apply(detail::LayerNorm{eps, {}, {}, {}, {}}, x, gamma, beta);
}

}  // namespace tl::inline TL_ABI
