// Definitions of ops/norm.hpp.
#pragma once
#include <cmath>

#include "tl/autograd/function.hpp"
#include "tl/ops/norm.hpp"

namespace tl::inline TL_ABI {
namespace detail {

/// From the biased variance of `rows` values to the unbiased one.
inline double unbias(int64_t rows) { return static_cast<double>(rows) / static_cast<double>(rows - 1); }

/// running = (1 - momentum) running + momentum factor batch
template <class T>
void move_running(Tensor& running, const Tensor& batch, double factor, double momentum_given) {
  if (!running.defined()) return;
  perform("move_running", [value = running.mutable_data<T>(), now = batch.data<T>(), n = running.numel(), factor,
                           momentum = static_cast<T>(momentum_given)] {
    for (int64_t c = 0; c < n; ++c) value[c] = (1 - momentum) * value[c] + momentum * static_cast<T>(now[c] * factor);
  });
}

inline void check_batch_norm_options(const BatchNormOptions& options, const Shape& x) {
  require<UsageError>(!options.training || x.numel() > x[-1],
                      "batch_norm: training needs more than one value a channel, got ", x,
                      ". Hint: a last batch of one picture; drop it, or freeze the layer.");
  const auto fused = options.activation;
  require<UsageError>(fused == Activation::none || fused == Activation::relu || fused == Activation::relu6,
                      "batch_norm: only relu and relu6 can be fused");
}

/// gamma (x - mean) rstd + beta as scale * x + shift; all [C].
struct ChannelAffine {
  Tensor rstd, scale, shift;
};

template <class T>
ChannelAffine normalising_affine(const Tensor& mean, const Tensor& variance, const Tensor& gamma, const Tensor& beta,
                                 double eps) {
  const Shape& shape = mean.shape();
  ChannelAffine out{Tensor::empty(shape, mean.dtype()), Tensor::empty(shape, mean.dtype()),
                    Tensor::empty(shape, mean.dtype())};
  const auto read = [](const Tensor& tensor) { return tensor.defined() ? tensor.data<T>() : nullptr; };
  perform("normalising_affine",
          [rstd = out.rstd.mutable_data<T>(), scale = out.scale.mutable_data<T>(), shift = out.shift.mutable_data<T>(),
           mu = read(mean), var = read(variance), weight = read(gamma), bias = read(beta), n = mean.numel(), eps] {
            for (int64_t c = 0; c < n; ++c) {
              rstd[c] = static_cast<T>(1 / std::sqrt(static_cast<double>(var[c]) + eps));
              scale[c] = weight ? weight[c] * rstd[c] : rstd[c];
              shift[c] = (bias ? bias[c] : T(0)) - mu[c] * scale[c];
            }
          });
  return out;
}

/// The gradient of a parameter [C], or undefined.
inline Tensor wanted_sum(bool wanted, const Tensor& grad_y) {
  return wanted ? Tensor::empty({grad_y.size(-1)}, wide(grad_y.dtype()), grad_y.device()) : Tensor();
}

template <class T>
Wide<T>* write_wide(Tensor& tensor) {
  return tensor ? tensor.mutable_data<Wide<T>>() : nullptr;
}

struct BatchNorm {
  static constexpr std::string_view kName = "batch_norm";
  BatchNormOptions options;
  Tensor running_mean, running_var;  // moved in training
  Kept x, y, gamma, mean, rstd;
  Tensor batch_mean, batch_rstd;  // between run() and keep()

  Tensor forward(const Needs& needs, const Tensor& in, const Tensor& weight, const Tensor& bias,
                 const Tensor& residual) {
    Tensor out = Tensor::empty(in.shape(), in.dtype(), in.device());
    visit_activation(in.dtype(), kName,
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
    out[1] = wanted_sum(needs[1], grad_y);
    out[2] = wanted_sum(needs[2], grad_y);
    const bool masked = options.activation != Activation::none;
    out[3] = like(needs[3] && masked, grad_y.shape());
    visit_activation(grad_y.dtype(), kName, [&](auto type) {
      using T = typename decltype(type)::type;
      using W = Wide<T>;
      const auto read = [](const Kept& kept) { return kept ? kept.get(kName).template data<T>() : nullptr; };
      const auto read_wide = [](const Kept& kept) { return kept ? kept.get(kName).template data<W>() : nullptr; };
      const auto write = [](Tensor& tensor) { return tensor ? tensor.mutable_data<T>() : nullptr; };
      kernel::batch_norm_backward(grad_y.device(),
                                  BatchNormBackwardArgs<T>{.grad_y = grad_y.data<T>(),
                                                           .x = read(x),
                                                           .y = read(y),
                                                           .gamma = read_wide(gamma),
                                                           .mean = read_wide(mean),
                                                           .rstd = read_wide(rstd),
                                                           .grad_x = write(out[0]),
                                                           .grad_gamma = write_wide<T>(out[1]),
                                                           .grad_beta = write_wide<T>(out[2]),
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
    using W = Wide<T>;
    require<DeviceError>(in.device().is_cpu(), "batch_norm: there is no kernel for ", in.device(), " yet");
    const int64_t channels = in.size(-1), rows = in.numel() / std::max<int64_t>(channels, 1);
    Tensor variance = running_var;
    if (options.training) {
      batch_mean = Tensor::empty({channels}, wide(in.dtype()));
      variance = Tensor::empty({channels}, wide(in.dtype()));
      kernel::batch_statistics(in.device(), BatchStatisticsArgs<T>{.x = in.data<T>(),
                                                                   .mean = batch_mean.mutable_data<W>(),
                                                                   .variance = variance.mutable_data<W>(),
                                                                   .rows = rows,
                                                                   .channels = channels});
      move_running<W>(running_mean, batch_mean, 1.0, options.momentum);
      move_running<W>(running_var, variance, unbias(rows), options.momentum);
    } else {
      batch_mean = running_mean.clone();
    }
    const ChannelAffine affine = normalising_affine<W>(batch_mean, variance, weight, bias, options.eps);
    batch_rstd = affine.rstd;
    kernel::channel_affine(in.device(),
                           ChannelAffineArgs<T>{.x = in.data<T>(),
                                                .scale = affine.scale.template data<W>(),
                                                .shift = affine.shift.template data<W>(),
                                                .residual = residual.defined() ? residual.data<T>() : nullptr,
                                                .y = out.mutable_data<T>(),
                                                .rows = rows,
                                                .channels = channels,
                                                .activation = options.activation});
  }
};

struct LayerNorm {
  static constexpr std::string_view kName = "layer_norm";
  double eps;
  Kept x, gamma, mean, rstd;

  Tensor forward(const Needs& needs, const Tensor& in, const Tensor& weight, const Tensor& bias,
                 const Tensor& residual) {
    const int64_t cols = in.size(-1), rows = in.numel() / std::max<int64_t>(cols, 1);
    Tensor y = Tensor::empty(in.shape(), in.dtype(), in.device());
    Tensor mu = needs.any() ? Tensor::empty({rows}, wide(in.dtype()), in.device()) : Tensor();
    Tensor r = needs.any() ? Tensor::empty({rows}, wide(in.dtype()), in.device()) : Tensor();
    Tensor sum = residual && needs.any() ? Tensor::empty(in.shape(), in.dtype(), in.device()) : y;
    visit_activation(in.dtype(), kName, [&](auto type) {
      using T = typename decltype(type)::type;
      kernel::layer_norm(in.device(), LayerNormArgs<T>{.x = in.data<T>(),
                                                       .gamma = weight ? weight.data<Wide<T>>() : nullptr,
                                                       .beta = bias ? bias.data<Wide<T>>() : nullptr,
                                                       .y = y.mutable_data<T>(),
                                                       .mean = write_wide<T>(mu),
                                                       .rstd = write_wide<T>(r),
                                                       .rows = rows,
                                                       .cols = cols,
                                                       .eps = static_cast<Wide<T>>(eps),
                                                       .residual = residual ? residual.data<T>() : nullptr,
                                                       .sum = sum.mutable_data<T>()});
    });
    if (needs.any()) {
      x.keep(residual ? sum : in);
      mean.keep(mu);
      rstd.keep(r);
      if (weight.defined()) gamma.keep(weight);
    }
    return y;
  }

  Gradients backward(const Needs& needs, const Tensor& grad_y) const {
    Gradients out(4);
    const int64_t cols = grad_y.size(-1);
    if (needs[0] || needs[3]) out[0] = Tensor::empty(grad_y.shape(), grad_y.dtype(), grad_y.device());
    out[1] = wanted_sum(needs[1], grad_y);
    out[2] = wanted_sum(needs[2], grad_y);
    visit_activation(grad_y.dtype(), kName, [&](auto type) {
      using T = typename decltype(type)::type;
      kernel::layer_norm_backward(grad_y.device(),
                                  LayerNormBackwardArgs<T>{.grad_y = grad_y.data<T>(),
                                                           .x = x.get(kName).data<T>(),
                                                           .gamma = gamma ? gamma.get(kName).data<Wide<T>>() : nullptr,
                                                           .mean = mean.get(kName).data<Wide<T>>(),
                                                           .rstd = rstd.get(kName).data<Wide<T>>(),
                                                           .grad_x = out[0] ? out[0].mutable_data<T>() : nullptr,
                                                           .grad_gamma = write_wide<T>(out[1]),
                                                           .grad_beta = write_wide<T>(out[2]),
                                                           .rows = grad_y.numel() / std::max<int64_t>(cols, 1),
                                                           .cols = cols});
    });
    if (needs[3]) out[3] = out[0];
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
  detail::check_batch_norm_options(options, x.shape());
  return apply(detail::BatchNorm{options, running_mean, running_var, {}, {}, {}, {}, {}, {}, {}}, x, gamma, beta,
               residual);
}

TL_INLINE Tensor layer_norm(const Tensor& x, const Tensor& gamma, const Tensor& beta, double eps,
                            const Tensor& residual) {
  require<ShapeError>(x.rank() >= 1, "layer_norm: x must be [..., C]; got ", x.shape());
  const auto check = [&](const Tensor& tensor, std::string_view what) {
    require<ShapeError>(!tensor.defined() || tensor.shape() == Shape{x.size(-1)}, "layer_norm: ", what,
                        " must be [C] with C = ", x.size(-1), "; got ", tensor.defined() ? tensor.shape() : Shape());
  };
  check(gamma, "gamma");
  check(beta, "beta");
  require<ShapeError>(!residual.defined() || residual.shape() == x.shape(), "layer_norm: residual must be like x, ",
                      x.shape(), "; got ", residual.defined() ? residual.shape() : Shape());
  require<DTypeError>(!residual.defined() || residual.dtype() == x.dtype(), "layer_norm: residual must be like x, ",
                      x.dtype(), "; got ", residual.defined() ? residual.dtype() : x.dtype());
  require<DeviceError>(!residual.defined() || residual.device() == x.device(),
                       "layer_norm: residual must be like x, on ", x.device(), "; got ",
                       residual.defined() ? residual.device() : x.device());
  return apply(detail::LayerNorm{eps, {}, {}, {}, {}}, x, gamma, beta, residual);
}

}  // namespace tl::inline TL_ABI
