// Definitions of ops/loss.hpp.
#pragma once
#include <algorithm>
#include <cmath>
#include <span>

#include "tl/autograd/function.hpp"
#include "tl/cpu/softmax.hpp"
#include "tl/ops/elementwise.hpp"
#include "tl/ops/loss.hpp"
#include "tl/ops/reduce.hpp"
#include "tl/ops/softmax.hpp"

namespace tl::inline TL_ABI {
namespace detail {

TL_INLINE Tensor reduce_loss(const Tensor& losses, LossReduction reduction) {
  switch (reduction) {
    case LossReduction::mean:
      return mean(losses);
    case LossReduction::sum:
      return sum(losses);
    case LossReduction::none:
      break;
  }
  return losses;
}

/// Sum of weights of the rows that count, f64.
TL_INLINE Tensor divisor_of(const Tensor& target, const CrossEntropyOptions& options) {
  const Tensor host = target.to(kCpu);
  const Tensor weights = options.class_weight.defined() ? options.class_weight.to(kCpu).to(DType::f64) : Tensor();
  Tensor divisor = Tensor::empty({}, DType::f64);
  perform("cross_entropy_divisor",
          [to = divisor.mutable_data<double>(), targets = host.data<int32_t>(), rows = host.numel(),
           weight = weights.defined() ? weights.data<double>() : nullptr, ignored = options.ignore_index] {
            *to = 0;
            for (const int32_t t : std::span(targets, static_cast<size_t>(rows)))
              if (t != ignored) *to += weight ? weight[t] : 1.0;
          });
  return divisor;
}

/// Loss of each row; the divisor comes as a by-product.
struct CrossEntropy {
  static constexpr std::string_view kName = "cross_entropy";
  double smoothing;
  int32_t ignore_index;
  Tensor class_weight, target;
  Kept x, log_sum_exp;

  Tensor forward(const Needs& needs, const Tensor& logits) {
    const int64_t rows = logits.size(0);
    Tensor loss = Tensor::empty({rows}, logits.dtype(), logits.device());
    Tensor weight = Tensor::empty({rows}, logits.dtype(), logits.device());
    Tensor lse = needs.any() ? Tensor::empty({rows}, logits.dtype(), logits.device()) : Tensor();
    visit_floating(logits.dtype(), kName, [&](auto type) {
      using T = typename decltype(type)::type;
      kernel::cross_entropy(logits.device(),
                            CrossEntropyArgs<T>{.x = logits.data<T>(),
                                                .target = target.data<int32_t>(),
                                                .class_weight = class_weight ? class_weight.data<T>() : nullptr,
                                                .loss = loss.mutable_data<T>(),
                                                .weight = weight.mutable_data<T>(),
                                                .log_sum_exp = lse ? lse.mutable_data<T>() : nullptr,
                                                .rows = rows,
                                                .cols = logits.size(1),
                                                .smoothing = static_cast<T>(smoothing),
                                                .ignore_index = ignore_index});
    });
    if (needs.any()) {
      x.keep(logits);
      log_sum_exp.keep(lse);
    }
    return loss;
  }

  Gradients backward(const Needs&, const Tensor& grad_loss) const {
    const Tensor& logits = x.get(kName);
    Tensor grad_x = Tensor::empty(logits.shape(), logits.dtype(), logits.device());
    visit_floating(logits.dtype(), kName, [&](auto type) {
      using T = typename decltype(type)::type;
      kernel::cross_entropy_backward(
          logits.device(), CrossEntropyBackwardArgs<T>{.x = logits.data<T>(),
                                                       .target = target.data<int32_t>(),
                                                       .class_weight = class_weight ? class_weight.data<T>() : nullptr,
                                                       .log_sum_exp = log_sum_exp.get(kName).data<T>(),
                                                       .grad_loss = grad_loss.data<T>(),
                                                       .grad_x = grad_x.mutable_data<T>(),
                                                       .rows = logits.size(0),
                                                       .cols = logits.size(1),
                                                       .smoothing = static_cast<T>(smoothing),
                                                       .ignore_index = ignore_index});
    });
    return {grad_x};
  }
};

/// Element by element: value(x, y) and slope in x, in the type of x.
template <class Rule>
struct PairwiseLoss {
  static constexpr std::string_view kName = Rule::kName;
  Rule rule;
  Kept x, y;

  Tensor forward(const Needs& needs, const Tensor& a, const Tensor& b) {
    if (needs.any()) {
      x.keep(a);
      y.keep(b);
    }
    return map(a, b, [r = rule](auto u, auto v) { return r.value(u, v); });
  }

  Gradients backward(const Needs&, const Tensor& grad_y) const {
    const Tensor slopes = map(x.get(kName), y.get(kName), [r = rule](auto u, auto v) { return r.slope(u, v); });
    return {slopes * grad_y, Tensor()};
  }

 private:
  template <class Function>
  static Tensor map(const Tensor& a, const Tensor& b, Function function) {
    Tensor out = Tensor::empty(a.shape(), a.dtype());
    visit_floating(a.dtype(), kName, [&](auto type) {
      using T = typename decltype(type)::type;
      perform(kName, [function, u = a.data<T>(), v = b.data<T>(), w = out.mutable_data<T>(), n = a.numel()] {
        for (int64_t i = 0; i < n; ++i) w[i] = function(u[i], v[i]);
      });
    });
    return out;
  }
};

struct BceWithLogits {
  static constexpr std::string_view kName = "bce_with_logits";
  double positive_weight;

  template <class T>
  T value(T x, T y) const {
    const T weight = 1 + (static_cast<T>(positive_weight) - 1) * y;
    return (1 - y) * x + weight * (std::log1p(std::exp(-std::abs(x))) + std::max(-x, T(0)));
  }
  template <class T>
  T slope(T x, T y) const {
    const T weight = 1 + (static_cast<T>(positive_weight) - 1) * y;
    return (1 - y) - weight / (1 + std::exp(x));
  }
};

struct Bce {
  static constexpr std::string_view kName = "bce_loss";

  template <class T>
  T value(T p, T y) const {
    return -(y * std::max(std::log(p), T(-100)) + (1 - y) * std::max(std::log1p(-p), T(-100)));
  }
  template <class T>
  T slope(T p, T y) const {
    return (p - y) / std::max((1 - p) * p, T(1e-12));
  }
};

template <class Rule>
Tensor pairwise_loss(const Rule& rule, const Tensor& x, const Tensor& y, LossReduction reduction) {
  require<ShapeError>(x.shape() == y.shape(), Rule::kName, ": both must have one shape, got ", x.shape(), " and ",
                      y.shape());
  require<DTypeError>(x.dtype() == y.dtype(), Rule::kName, ": both must have one type, got ", x.dtype(), " and ",
                      y.dtype());
  require<UsageError>(!y.requires_grad(), Rule::kName, ": targets get no gradient. Hint: detach() them.");
  require<DeviceError>(x.device().is_cpu() && y.device().is_cpu(), Rule::kName, ": there is no kernel for ", x.device(),
                       " yet");
  return reduce_loss(apply(PairwiseLoss<Rule>{rule, {}, {}}, x, y), reduction);
}

}  // namespace detail

TL_INLINE Tensor cross_entropy(const Tensor& logits, const Tensor& target, const CrossEntropyOptions& options) {
  if (logits.dtype() == DType::bf16) return cross_entropy(cast(logits, DType::f32), target, options);
  require<ShapeError>(logits.rank() == 2, "cross_entropy: logits must be [N, C]; got ", logits.shape());
  require<ShapeError>(target.shape() == Shape{logits.size(0)},
                      "cross_entropy: target must be [N] with N = ", logits.size(0), "; got ", target.shape());
  require<DTypeError>(target.dtype() == DType::i32, "cross_entropy: target must be i32, got ", target.dtype());
  const Tensor& weight = options.class_weight;
  require<ShapeError>(!weight.defined() || weight.shape() == Shape{logits.size(1)},
                      "cross_entropy: class_weight must be [C] with C = ", logits.size(1), "; got ",
                      weight.defined() ? weight.shape() : Shape());
  require<UsageError>(options.label_smoothing >= 0 && options.label_smoothing <= 1,
                      "cross_entropy: label_smoothing must be in [0, 1], got ", options.label_smoothing);
  const Tensor host = target.to(kCpu);
  detail::perform("check targets", [targets = host.data<int32_t>(), rows = host.numel(), classes = logits.size(1),
                                    ignored = options.ignore_index] {
    for (const int32_t t : std::span(targets, static_cast<size_t>(rows)))
      require<UsageError>(t == ignored || (t >= 0 && t < classes), "cross_entropy: a target must be in [0, ", classes,
                          ") or ", ignored, " (ignored), got ", t);
  });

  const Tensor losses =
      apply(detail::CrossEntropy{options.label_smoothing, options.ignore_index, weight, target, {}, {}}, logits);
  if (options.reduction != LossReduction::mean) return detail::reduce_loss(losses, options.reduction);
  const Tensor divisor = detail::divisor_of(target, options);
  Tensor scale = Tensor::empty({}, logits.dtype());
  visit_floating(logits.dtype(), "cross_entropy", [&](auto type) {
    using T = typename decltype(type)::type;
    detail::perform("1 / divisor", [to = scale.mutable_data<T>(), from = divisor.data<double>()] {
      *to = *from > 0 ? static_cast<T>(1 / *from) : T(0);
    });
  });
  return sum(losses) * scale.to(logits.device());
}

TL_INLINE double cross_entropy_divisor(const Tensor& target, const CrossEntropyOptions& options) {
  return detail::divisor_of(target, options).item();
}

TL_INLINE Tensor soft_cross_entropy(const Tensor& logits, const Tensor& target, const CrossEntropyOptions& options) {
  require<ShapeError>(logits.rank() == 2 && logits.shape() == target.shape(),
                      "soft_cross_entropy: logits and target must be [N, C]; got ", logits.shape(), " and ",
                      target.shape());
  const double s = options.label_smoothing;
  require<UsageError>(s >= 0 && s <= 1, "soft_cross_entropy: label_smoothing must be in [0, 1], got ", s);
  Tensor wanted = target;
  if (s > 0) wanted = wanted * (1 - s) + s / static_cast<double>(logits.size(1));
  if (options.class_weight) wanted = wanted * options.class_weight;
  return detail::reduce_loss(sum(-(wanted * log_softmax(logits)), {1}), options.reduction);
}

TL_INLINE Tensor mse_loss(const Tensor& x, const Tensor& y, LossReduction reduction) {
  require<ShapeError>(x.shape() == y.shape(), "mse_loss: both must have one shape, got ", x.shape(), " and ",
                      y.shape());
  return detail::reduce_loss(square(x - y), reduction);
}

TL_INLINE Tensor bce_with_logits(const Tensor& x, const Tensor& y, double positive_weight, LossReduction reduction) {
  return detail::pairwise_loss(detail::BceWithLogits{positive_weight}, x, y, reduction);
}

TL_INLINE Tensor bce_loss(const Tensor& p, const Tensor& y, LossReduction reduction) {
  return detail::pairwise_loss(detail::Bce{}, p, y, reduction);
}

}  // namespace tl::inline TL_ABI
