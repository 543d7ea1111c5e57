// Definitions of transfer/transferability.hpp.
#pragma once
#include <algorithm>
#include <cmath>
#include <limits>
#include <functional>
#include <map>
#include <numbers>
#include <utility>

#include "tl/ops/matmul.hpp"
#include "tl/transfer/symmetric_eigen.hpp"
#include "tl/transfer/transferability.hpp"

namespace tl::inline TL_ABI {
namespace detail {

/// Labels that were checked, and how many samples each class has.
struct Labels {
  std::vector<int32_t> y;
  std::vector<int64_t> counts;

  int64_t samples() const { return static_cast<int64_t>(y.size()); }
  int64_t classes() const { return static_cast<int64_t>(counts.size()); }
  double count(int64_t c) const { return static_cast<double>(counts[static_cast<size_t>(c)]); }
};

TL_INLINE std::vector<int32_t> checked_integers(std::string_view op, std::string_view what, const Tensor& tensor,
                                                int64_t samples) {
  require<ShapeError>(tensor.shape() == Shape{samples}, op, ": ", what, " must be [N] with N = ", samples, "; got ",
                      tensor.shape());
  require<DTypeError>(tensor.dtype() == DType::i32, op, ": ", what, " must be i32; got ", tensor.dtype());
  const Tensor on_cpu = tensor.to(kCpu);
  const auto values = on_cpu.values<int32_t>();
  for (size_t i = 0; i < values.size(); ++i)
    require<UsageError>(values[i] >= 0, op, ": ", what, " must be at least 0; sample ", i, " has ", values[i]);
  return {values.begin(), values.end()};
}

TL_INLINE Labels checked_labels(std::string_view op, const Tensor& labels, int64_t samples) {
  require<UsageError>(samples >= 2, op, ": expected at least 2 samples, got ", samples);
  Labels out{checked_integers(op, "labels", labels, samples), {}};
  const int64_t classes = int64_t{*std::max_element(out.y.begin(), out.y.end())} + 1;
  require<UsageError>(classes <= samples, op, ": label ", classes - 1, " among ", samples,
                      " samples leaves classes without samples. Hint: number the classes that occur from 0 on.");
  out.counts.resize(static_cast<size_t>(classes));
  for (const int32_t label : out.y) ++out.counts[static_cast<size_t>(label)];
  for (int64_t c = 0; c < classes; ++c)
    require<UsageError>(out.counts[static_cast<size_t>(c)] > 0, op, ": class ", c, " of ", classes,
                        " has no sample. Hint: number the classes that occur from 0 on.");
  require<UsageError>(classes >= 2, op,
                      ": expected samples of at least two classes, got one. Hint: a score says how "
                      "well classes can be told apart.");
  return out;
}

/// A copy [N, D] in double precision.
TL_INLINE Tensor checked_features(std::string_view op, const Tensor& features) {
  require<ShapeError>(features.rank() == 2 && features.size(1) > 0, op, ": features must be [N, D], D > 0; got ",
                      features.shape());
  require<DTypeError>(features.dtype() == DType::f32 || features.dtype() == DType::f64, op,
                      ": features must be f32 or f64; got ", features.dtype());
  constexpr double kLargest = 1e60;  // fourth powers and their sums stay finite
  const Tensor on_cpu = features.detach().to(kCpu);
  Tensor out = on_cpu.dtype() == DType::f64 ? on_cpu.clone() : on_cpu.to(DType::f64);
  const auto values = std::as_const(out).values<double>();
  for (size_t i = 0; i < values.size(); ++i)
    require<NumericError>(std::abs(values[i]) <= kLargest, op, ": features must be finite and within 1e60; sample ",
                          static_cast<int64_t>(i) / features.size(1), " has ", values[i]);
  return out;
}

/// Subtracts the mean of each column; what is constant becomes 0, not rounding's leftovers.
TL_INLINE void centre(Tensor& x) {
  const int64_t n = x.size(0), d = x.size(1);
  double* values = x.mutable_data<double>();
  const std::vector<double> first(values, values + d);
  std::vector<double> mean(static_cast<size_t>(d));
  for (int64_t i = 0; i < n; ++i) {
    linalg::add_scaled(values + i * d, -1, first.data(), d);
    linalg::add_scaled(mean.data(), 1 / static_cast<double>(n), values + i * d, d);
  }
  for (int64_t i = 0; i < n; ++i) linalg::add_scaled(values + i * d, -1, mean.data(), d);
}

/// X X^T or X^T X, whichever is smaller: their eigenvalues are the same, but for zeros.
TL_INLINE Tensor gram(const Tensor& x) {
  const bool wide = x.size(0) <= x.size(1);
  return matmul(x, x, {.transpose_a = !wide, .transpose_b = wide});
}

/// What rounding makes of an eigenvalue 0.
TL_INLINE double negligible_eigenvalue(const std::vector<double>& values, int64_t size) {
  const double largest = *std::max_element(values.begin(), values.end());
  return std::numeric_limits<double>::epsilon() * static_cast<double>(size) * std::max(largest, 0.0);
}

/// Features X = U diag(sqrt(s)) V^T and targets t as the left singular vectors see them.
struct Spectrum {
  std::vector<double> s;                    ///< [rank] eigenvalues of X^T X that rounding did not make
  std::vector<std::vector<double>> energy;  ///< for each target, [rank]: (u_j . t)^2
};

/// targets [N, M] f64.
TL_INLINE Spectrum spectrum(const Tensor& x, const Tensor& targets) {
  const int64_t n = x.size(0), d = x.size(1), m = targets.size(1);
  // X^T X has the eigenvectors v_j = X^T u_j / sqrt(s_j), so (u_j . t)^2 = (v_j . X^T t)^2 / s_j.
  const bool wide = n <= d;
  Tensor square = gram(x), seen = wide ? targets.clone() : matmul(x, targets, {.transpose_a = true});
  const std::vector<double> values = linalg::symmetric_eigen(square, seen);
  const double negligible = negligible_eigenvalue(values, std::max(n, d));
  Spectrum out;
  out.energy.resize(static_cast<size_t>(m));
  const auto rows = std::as_const(seen).values<double>();
  for (size_t j = 0; j < values.size(); ++j) {
    if (values[j] <= negligible) continue;
    out.s.push_back(values[j]);
    for (size_t t = 0; t < out.energy.size(); ++t) {
      const double along = rows[j * out.energy.size() + t];
      out.energy[t].push_back(along * along / (wide ? 1 : values[j]));
    }
  }
  return out;
}

/// A column for each class: 1, or the class' own `scale`, where a sample belongs to it.
TL_INLINE void write_indicators(const Labels& labels, double* to, int64_t columns,
                                const std::function<double(int64_t)>& scale) {
  for (int64_t i = 0; i < labels.samples(); ++i) {
    const int32_t c = labels.y[static_cast<size_t>(i)];
    to[i * columns + c] = scale(c);
  }
}

/// The maximum evidence of one target with |t|^2 = `square`, a sample.
///
/// For a given ratio r = alpha / beta the best beta is N / Q with Q = |F m - t|^2 + r m^T m, which turns the evidence
/// into N/2 log(N / (2 pi Q)) - N/2 - 1/2 sum_j log(1 + s_j / r). At the fixed point both are equal.
TL_INLINE double log_evidence(const std::vector<double>& s, const std::vector<double>& energy, double square,
                              int64_t samples) {
  constexpr int kMostRounds = 1000;
  constexpr double kClose = 1e-10;
  const double n = static_cast<double>(samples), rank = static_cast<double>(s.size());
  double rest = square;  // what lies outside of all features
  for (const double part : energy) rest -= part;
  rest = std::max(rest, 0.0);
  const double largest = s.empty() ? 1 : *std::max_element(s.begin(), s.end());
  const double low = 1e-15 * largest, high = 1e15 * largest;
  double ratio = std::clamp(1.0, low, high);
  for (int round = 0; round < kMostRounds && !s.empty(); ++round) {
    double gamma = 0, free = n - rank, weights = 0, residual = rest;  // gamma, N - gamma, m^T m, |F m - t|^2
    for (size_t j = 0; j < s.size(); ++j) {
      const double kept = s[j] / (s[j] + ratio), lost = ratio / (s[j] + ratio);
      gamma += kept;
      free += lost;
      weights += energy[j] * kept / (s[j] + ratio);
      residual += energy[j] * lost * lost;
    }
    const double next = gamma * residual / (weights * free);
    const double before = std::exchange(ratio, std::isfinite(next) ? std::clamp(next, low, high) : high);
    if (std::abs(ratio - before) <= kClose * before) break;
  }
  double quadratic = rest, logs = 0;
  for (size_t j = 0; j < s.size(); ++j) {
    quadratic += energy[j] * ratio / (s[j] + ratio);
    logs += std::log1p(s[j] / ratio);
  }
  quadratic = std::max(quadratic, std::numeric_limits<double>::min());
  return 0.5 * (std::log(n / (2 * std::numbers::pi * quadratic)) - 1 - logs / n);
}

/// 1/2 log det(I + x^T x / (n epsilon))
TL_INLINE double coding_rate(const Tensor& x, double epsilon) {
  Tensor square = gram(x), none = Tensor::empty({square.size(0), 0}, DType::f64);
  const auto values = linalg::symmetric_eigen(square, none);
  const double negligible = negligible_eigenvalue(values, std::max(x.size(0), x.size(1)));
  double sum = 0;
  for (const double s : values)
    if (s > negligible) sum += std::log1p(s / (static_cast<double>(x.size(0)) * epsilon));
  return 0.5 * sum;
}

/// Eigenvalues of the centred features, and for each the share of the classes' means in it.
struct ClassSpread {
  Tensor x;  ///< centred
  std::vector<double> s, between;
};

TL_INLINE ClassSpread class_spread(std::string_view op, const Tensor& features, const Tensor& given) {
  ClassSpread out;
  out.x = checked_features(op, features);
  const Labels labels = checked_labels(op, given, features.size(0));
  centre(out.x);
  Tensor targets = Tensor::zeros({labels.samples(), labels.classes()}, DType::f64);
  write_indicators(labels, targets.mutable_data<double>(), labels.classes(),
                   [&](int64_t c) { return 1 / std::sqrt(labels.count(c)); });
  const Spectrum seen = spectrum(out.x, targets);
  out.s = seen.s;
  out.between.resize(seen.s.size());
  for (const auto& energy : seen.energy) linalg::add_scaled(out.between.data(), 1, energy.data(), std::ssize(energy));
  return out;
}

}  // namespace detail

TL_INLINE std::vector<double> log_me(const Tensor& features, std::span<const Tensor> labelings) {
  const NoGrad no_grad;
  const Tensor x = detail::checked_features("log_me", features);
  std::vector<detail::Labels> all;
  int64_t columns = 0;
  for (const Tensor& labels : labelings) {
    all.push_back(detail::checked_labels("log_me", labels, x.size(0)));
    columns += all.back().classes();
  }
  Tensor targets = Tensor::zeros({x.size(0), columns}, DType::f64);
  int64_t column = 0;
  for (const auto& labels : all) {
    detail::write_indicators(labels, targets.mutable_data<double>() + column, columns, [](int64_t) { return 1.0; });
    column += labels.classes();
  }
  const detail::Spectrum seen = detail::spectrum(x, targets);
  std::vector<double> out;
  size_t target = 0;
  for (const auto& labels : all) {
    double sum = 0;
    for (int64_t c = 0; c < labels.classes(); ++c)
      sum += detail::log_evidence(seen.s, seen.energy[target++], labels.count(c), labels.samples());
    out.push_back(sum / static_cast<double>(labels.classes()));
  }
  return out;
}

TL_INLINE double log_me(const Tensor& features, const Tensor& labels) {
  return log_me(features, std::span<const Tensor>(&labels, 1)).front();
}

TL_INLINE double h_score(const Tensor& features, const Tensor& labels) {
  const NoGrad no_grad;
  const auto spread = detail::class_spread("h_score", features, labels);
  double sum = 0;
  for (const double part : spread.between) sum += part;
  return sum;
}

TL_INLINE double shrunk_h_score(const Tensor& features, const Tensor& labels) {
  const NoGrad no_grad;
  const auto spread = detail::class_spread("shrunk_h_score", features, labels);
  const int64_t samples = spread.x.size(0), width = spread.x.size(1);
  const double n = static_cast<double>(samples), d = static_cast<double>(width);
  double trace = 0, squares = 0, fourth = 0;  // tr C, |C|^2, sum_i |x_i|^4
  for (const double s : spread.s) {
    trace += s / n;
    squares += (s / n) * (s / n);
  }
  const double* x = spread.x.data<double>();
  for (int64_t i = 0; i < samples; ++i) {
    const double length = linalg::dot(x + i * width, x + i * width, width);
    fourth += length * length;
  }
  const double distance = squares - trace * trace / d, error = (fourth / n - squares) / n;
  const double shrinkage = distance > 0 ? std::clamp(error / distance, 0.0, 1.0) : 0;
  double sum = 0;
  for (size_t j = 0; j < spread.s.size(); ++j) {
    const double kept = (1 - shrinkage) * spread.s[j] / n;
    sum += spread.between[j] * kept / (kept + shrinkage * trace / d);
  }
  return sum;
}

TL_INLINE double trans_rate(const Tensor& features, const Tensor& given, const TransRateOptions& options) {
  require<UsageError>(std::isfinite(options.epsilon) && options.epsilon > 0,
                      "trans_rate: epsilon must be above 0; got ", options.epsilon);
  const NoGrad no_grad;
  Tensor x = detail::checked_features("trans_rate", features);
  const detail::Labels labels = detail::checked_labels("trans_rate", given, x.size(0));
  const int64_t width = x.size(1);
  double* values = x.mutable_data<double>();
  if (options.unit_trace) {
    const double trace = linalg::dot(values, values, x.numel());
    const double scale = trace > 0 ? 1 / std::sqrt(trace) : 0;
    for (int64_t i = 0; i < x.numel(); ++i) values[i] *= scale;
  }
  detail::centre(x);
  double inside = 0;
  for (int64_t c = 0; c < labels.classes(); ++c) {
    Tensor rows = Tensor::empty({labels.counts[static_cast<size_t>(c)], width}, DType::f64);
    double* to = rows.mutable_data<double>();
    for (int64_t i = 0; i < labels.samples(); ++i)
      if (labels.y[static_cast<size_t>(i)] == c) to = std::copy_n(values + i * width, width, to);
    inside += detail::coding_rate(rows, options.epsilon);
  }
  return detail::coding_rate(x, options.epsilon) - inside / static_cast<double>(labels.classes());
}

TL_INLINE double leep(const Tensor& source_probabilities, const Tensor& given) {
  const Tensor theta = detail::checked_features("leep", source_probabilities);
  const int64_t samples = theta.size(0), sources = theta.size(1);
  const detail::Labels labels = detail::checked_labels("leep", given, samples);
  const double* p = std::as_const(theta).data<double>();
  std::vector<double> joint(static_cast<size_t>(labels.classes() * sources)), marginal(static_cast<size_t>(sources));
  for (int64_t i = 0; i < samples; ++i) {
    const double* row = p + i * sources;
    double sum = 0;
    for (int64_t z = 0; z < sources; ++z) {
      require<NumericError>(row[z] >= 0, "leep: probabilities must be at least 0; sample ", i, " has ", row[z]);
      sum += row[z];
    }
    require<NumericError>(std::abs(sum - 1) <= 1e-3, "leep: probabilities must sum to 1; those of sample ", i,
                          " sum to ", sum, ". Hint: softmax(logits).");
    linalg::add_scaled(joint.data() + labels.y[static_cast<size_t>(i)] * sources, 1, row, sources);
    linalg::add_scaled(marginal.data(), 1, row, sources);
  }
  double out = 0;
  for (int64_t i = 0; i < samples; ++i) {
    const double* together = joint.data() + labels.y[static_cast<size_t>(i)] * sources;
    double likelihood = 0;
    for (int64_t z = 0; z < sources; ++z)
      if (p[i * sources + z] > 0) likelihood += together[z] / marginal[static_cast<size_t>(z)] * p[i * sources + z];
    out += std::log(likelihood);
  }
  return out / static_cast<double>(samples);
}

TL_INLINE double nce(const Tensor& source_labels, const Tensor& given) {
  require<ShapeError>(source_labels.rank() == 1, "nce: source_labels must be [N]; got ", source_labels.shape());
  const detail::Labels labels = detail::checked_labels("nce", given, source_labels.size(0));
  const auto sources = detail::checked_integers("nce", "source_labels", source_labels, labels.samples());
  std::map<std::pair<int32_t, int32_t>, double> joint;
  std::map<int32_t, double> marginal;
  for (size_t i = 0; i < sources.size(); ++i) {
    joint[{sources[i], labels.y[i]}] += 1;
    marginal[sources[i]] += 1;
  }
  double out = 0;
  for (const auto& [pair, count] : joint) out += count * std::log(count / marginal[pair.first]);
  return out / static_cast<double>(labels.samples());
}

}  // namespace tl::inline TL_ABI
