// Definitions of transfer/regularize.hpp.
#pragma once
#include <algorithm>
#include <cmath>
#include <numeric>
#include <set>

#include "tl/autograd/function.hpp"
#include "tl/nn/norm.hpp"
#include "tl/ops/elementwise.hpp"
#include "tl/ops/index.hpp"
#include "tl/ops/loss.hpp"
#include "tl/ops/matmul.hpp"
#include "tl/ops/reduce.hpp"
#include "tl/ops/softmax.hpp"
#include "tl/ops/view.hpp"
#include "tl/transfer/regularize.hpp"
#include "tl/transfer/symmetric_eigen.hpp"

namespace tl::inline TL_ABI {
namespace detail {

struct SpectralShrinkage {
  static constexpr std::string_view kName = "spectral_shrinkage";
  int64_t k;
  Kept f, directions;  // directions: [k, min(N, D)] eigenvectors, one a row

  Tensor forward(const Needs& needs, const Tensor& features) {
    const NoGrad no_grad;
    const Tensor x = features.to(kCpu).to(DType::f64);
    const bool wide = x.size(0) <= x.size(1);
    const int64_t n = std::min(x.size(0), x.size(1));
    Tensor gram = matmul(x, x, {.transpose_a = !wide, .transpose_b = wide});
    Tensor vectors = Tensor::zeros({n, n}, DType::f64);
    for (int64_t i = 0; i < n; ++i) vectors.mutable_data<double>()[i * n + i] = 1;
    const std::vector<double> values = linalg::symmetric_eigen(gram, vectors);
    std::vector<int32_t> order(static_cast<size_t>(n));
    std::iota(order.begin(), order.end(), 0);
    std::sort(order.begin(), order.end(),
              [&](int32_t a, int32_t b) { return values[static_cast<size_t>(a)] < values[static_cast<size_t>(b)]; });
    order.resize(static_cast<size_t>(k));
    double total = 0;
    for (const int32_t i : order) total += std::max(values[static_cast<size_t>(i)], 0.0);  // rounding goes below 0
    if (needs.any()) {
      f.keep(features);
      directions.keep(gather(vectors, 0, Tensor::from(order, {k})).to(features.dtype()).to(features.device()));
    }
    return Tensor::scalar(total, features.dtype(), features.device());
  }

  Gradients backward(const Needs&, const Tensor& grad_y) const {
    const Tensor &x = f.get(kName), &u = directions.get(kName);
    const Tensor projected = x.size(0) <= x.size(1) ? matmul(u, matmul(u, x), {.transpose_a = true})
                                                    : matmul(matmul(x, u, {.transpose_b = true}), u);
    return {projected * (grad_y * 2)};
  }
};

}  // namespace detail

TL_INLINE L2Sp::L2Sp(nn::Module& net, std::string_view head, const L2SpOptions& options) : options_(options) {
  std::set<const nn::Parameter*> fresh;
  for (const auto& p : nn::select_parameters(net, head)) fresh.insert(p.parameter);
  for (const auto& p : nn::named_parameters(net))
    pulls_.push_back({p.parameter, fresh.count(p.parameter) ? Tensor() : p.parameter->value().detach().clone()});
}

TL_INLINE Tensor L2Sp::operator()() const {
  Tensor total;
  for (const auto& [parameter, start] : pulls_) {
    const double strength = start ? options_.alpha : options_.beta;
    if (parameter->frozen() || strength == 0) continue;
    const Tensor part = sum(square(start ? parameter->value() - start : parameter->value())) * (strength / 2);
    total = total ? total + part : part;
  }
  return total ? total : Tensor::zeros({});
}

TL_INLINE Tensor feature_map_distance(std::span<const Tensor> maps, std::span<const Tensor> source_maps,
                                      std::span<const Tensor> attention) {
  require<ShapeError>(
      !maps.empty() && maps.size() == source_maps.size() && (attention.empty() || attention.size() == maps.size()),
      "feature_map_distance: expected as many maps of both networks, and as much attention or none; "
      "got ",
      maps.size(), ", ", source_maps.size(), " and ", attention.size());
  Tensor total;
  for (size_t l = 0; l < maps.size(); ++l) {
    const Shape& shape = maps[l].shape();
    require<ShapeError>((shape.rank() == 4 || shape.rank() == 2) && source_maps[l].shape() == shape,
                        "feature_map_distance: maps must be [N, H, W, C] or [N, C], equal for both networks; map ", l,
                        " is ", shape, " and ", source_maps[l].shape());
    const int64_t channels = shape[shape.rank() - 1];
    const auto places = static_cast<double>(maps[l].numel() / channels);  // N H W
    const DType dtype = maps[l].dtype() == DType::f64 ? DType::f64 : DType::f32;
    Tensor squares = square(cast(maps[l], dtype) - cast(source_maps[l].detach(), dtype));
    if (!attention.empty()) {
      require<ShapeError>(attention[l].shape() == Shape{channels}, "feature_map_distance: attention must be [C] = [",
                          channels, "]; got ", attention[l].shape());
      squares = squares * cast(attention[l].detach() * static_cast<double>(channels), dtype);
    }
    const Tensor part = sum(squares) * (0.5 / places);
    total = total ? total + part : part;
  }
  return total;
}

TL_INLINE std::vector<double> filter_importance(nn::Parameter& weight, const std::function<double()>& loss) {
  Tensor& value = weight.value();
  const Tensor whole = value.detach().clone();
  const NoGrad no_grad;
  struct Restore {
    Tensor& value;
    const Tensor& whole;
    ~Restore() { value.copy_from(whole); }
  } restore{value, whole};
  const double before = loss();
  const int64_t filters = value.size(0), width = value.numel() / std::max<int64_t>(filters, 1);
  std::vector<double> out;
  for (int64_t c = 0; c < filters; ++c) {
    Tensor without = whole.clone();
    visit_floating(whole.dtype(), "filter_importance", [&](auto type) {
      using T = typename decltype(type)::type;
      std::fill_n(without.mutable_data<T>() + c * width, width, T{0});
    });
    value.copy_from(without);
    out.push_back(loss() - before);
  }
  return out;
}

TL_INLINE Tensor channel_attention(std::span<const double> importance) {
  require<ShapeError>(!importance.empty(), "channel_attention: there are no filters");
  const auto count = static_cast<double>(importance.size());
  const double mean = std::accumulate(importance.begin(), importance.end(), 0.0) / count;
  double squares = 0;
  for (const double d : importance) squares += (d - mean) * (d - mean);
  const double deviation = std::sqrt(squares / count);
  constexpr double kTemperature = 5;
  std::vector<double> out;
  for (const double d : importance)
    out.push_back(deviation > 0 ? std::exp((d - mean) / deviation / kTemperature) : 1.0);
  const double total = std::accumulate(out.begin(), out.end(), 0.0);
  std::vector<float> attention;
  for (const double a : out) attention.push_back(static_cast<float>(a / total));
  return Tensor::from(attention, {std::ssize(attention)});
}

TL_INLINE Tensor spectral_shrinkage(const Tensor& features, int64_t k) {
  require<ShapeError>(features.rank() == 2 && features.numel() > 0,
                      "spectral_shrinkage: features must be [N, D], both above 0; got ", features.shape());
  require<DTypeError>(features.dtype() == DType::f32 || features.dtype() == DType::f64,
                      "spectral_shrinkage: features must be f32 or f64; got ", features.dtype());
  require<UsageError>(k >= 1 && k <= std::min(features.size(0), features.size(1)),
                      "spectral_shrinkage: k must be from 1 to min(N, D); got ", k, " for ", features.shape());
  return apply(detail::SpectralShrinkage{k, {}, {}}, features);
}

TL_INLINE int64_t set_stochastic_norms(nn::Module& net, double batch_share) {
  require<UsageError>(batch_share > 0 && batch_share <= 1,
                      "set_stochastic_norms: the share must be above 0 and at most 1, got ", batch_share);
  int64_t count = 0;
  for (const auto& module : nn::named_modules(net))
    if (auto* norm = dynamic_cast<nn::BatchNorm2d*>(module.module)) {
      norm->config.batch_share = batch_share;
      ++count;
    }
  require<UsageError>(count > 0, "set_stochastic_norms: the network has no BatchNorm");
  return count;
}

TL_INLINE Tensor category_relationship(const Tensor& source_probabilities, const Tensor& labels, int64_t classes) {
  require<ShapeError>(source_probabilities.rank() == 2 && labels.shape() == Shape{source_probabilities.size(0)},
                      "category_relationship: expected probabilities [N, Z] and labels [N]; got ",
                      source_probabilities.shape(), " and ", labels.shape());
  require<DTypeError>(source_probabilities.dtype() == DType::f32 && labels.dtype() == DType::i32,
                      "category_relationship: probabilities must be f32 and labels i32; got ",
                      source_probabilities.dtype(), " and ", labels.dtype());
  const Tensor p = source_probabilities.detach().to(kCpu), y = labels.to(kCpu);
  const int64_t width = p.size(1);
  std::vector<double> sums(static_cast<size_t>(classes * width));
  std::vector<int64_t> counts(static_cast<size_t>(classes));
  const float* row = p.data<float>();
  for (const int32_t label : y.values<int32_t>()) {
    require<UsageError>(label >= 0 && label < classes, "category_relationship: label ", label, " with ", classes,
                        " classes");
    ++counts[static_cast<size_t>(label)];
    double* to = sums.data() + label * width;
    for (int64_t z = 0; z < width; ++z) to[z] += static_cast<double>(*row++);
  }
  std::vector<float> out;
  for (size_t i = 0; i < sums.size(); ++i) {
    const size_t c = i / static_cast<size_t>(width);
    require<UsageError>(counts[c] > 0, "category_relationship: class ", c, " has no sample");
    out.push_back(static_cast<float>(sums[i] / static_cast<double>(counts[c])));
  }
  return Tensor::from(out, {classes, width}).to(source_probabilities.device());
}

TL_INLINE Tensor co_tuning_loss(const Tensor& source_logits, const Tensor& relationship, const Tensor& targets) {
  const bool labels = targets.dtype() == DType::i32;
  require<ShapeError>(source_logits.rank() == 2 && relationship.rank() == 2 &&
                          relationship.size(1) == source_logits.size(1) &&
                          (labels ? targets.shape() == Shape{source_logits.size(0)}
                                  : targets.shape() == Shape{source_logits.size(0), relationship.size(0)}),
                      "co_tuning_loss: expected logits [N, Z], a relationship [classes, Z], and labels [N] or "
                      "probabilities [N, classes]; got ",
                      source_logits.shape(), ", ", relationship.shape(), " and ", targets.shape());
  const Tensor wanted =
      labels ? gather(relationship, 0, targets) : matmul(cast(targets, relationship.dtype()), relationship);
  return soft_cross_entropy(source_logits, cast(wanted.detach(), source_logits.dtype()));
}

TL_INLINE Tensor distillation_loss(const Tensor& student, const Tensor& teacher, double temperature) {
  require<ShapeError>(student.rank() == 2 && student.shape() == teacher.shape() && student.size(0) > 0,
                      "distillation_loss: both must be [N, C], N above 0; got ", student.shape(), " and ",
                      teacher.shape());
  require<UsageError>(temperature > 0, "distillation_loss: the temperature must be above 0, got ", temperature);
  const Tensor log_teacher = log_softmax(teacher.detach() / temperature);
  const Tensor difference = log_teacher - log_softmax(student / temperature);
  return sum(exp(log_teacher) * difference) * (temperature * temperature / static_cast<double>(student.size(0)));
}

}  // namespace tl::inline TL_ABI
