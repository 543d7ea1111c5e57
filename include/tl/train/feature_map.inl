// Definitions of train/feature_map.hpp.
#pragma once
#include <algorithm>
#include <cmath>
#include <map>
#include <numeric>

#include "tl/ops/elementwise.hpp"
#include "tl/ops/matmul.hpp"
#include "tl/ops/view.hpp"
#include "tl/train/feature_map.hpp"
#include "tl/transfer/symmetric_eigen.hpp"

namespace tl::inline TL_ABI {
namespace detail {

/// Subtracts each column's mean from x [N, D]; returns the sum of squares that are left, and of those of the classes'
/// means, a sample each.
TL_INLINE std::pair<double, double> centre_and_measure(Tensor& x, std::span<const int32_t> labels) {
  const auto width = static_cast<size_t>(x.size(1));
  double* values = x.mutable_data<double>();
  std::vector<double> mean(width);
  for (size_t i = 0; i < labels.size(); ++i)
    for (size_t j = 0; j < width; ++j) mean[j] += values[i * width + j] / static_cast<double>(labels.size());
  struct Class {
    double count = 0;
    std::vector<double> sum;
  };
  std::map<int32_t, Class> classes;
  double total = 0, between = 0;
  for (size_t i = 0; i < labels.size(); ++i) {
    Class& own = classes[labels[i]];
    own.count += 1;
    own.sum.resize(width);
    for (size_t j = 0; j < width; ++j) {
      double& value = values[i * width + j];
      value -= mean[j];
      total += value * value;
      own.sum[j] += value;
    }
  }
  for (const auto& [label, own] : classes)
    for (const double sum : own.sum) between += sum * sum / own.count;
  return {total, between};
}

}  // namespace detail

TL_INLINE FeatureMap map_features(const Tensor& features, const Tensor& labels) {
  const int64_t samples = features.rank() > 0 ? features.size(0) : 0;
  require<UsageError>(samples > 0, "map_features: there are no samples");
  require<ShapeError>(labels.shape() == Shape{samples}, "map_features: labels must be [N] with N = ", samples, "; got ",
                      labels.shape());
  require<DTypeError>(labels.dtype() == DType::i32 && is_floating(features.dtype()),
                      "map_features: features must be floating and labels i32; got ", features.dtype(), " and ",
                      labels.dtype());
  const NoGrad no_grad;
  const auto truths = labels.to(kCpu);
  const auto classes = truths.values<int32_t>();
  Tensor x = reshape(features.detach().to(kCpu).to(DType::f64), {samples, features.numel() / samples}).clone();
  const auto [total, between] = detail::centre_and_measure(x, classes);
  require<NumericError>(std::isfinite(total), "map_features: the features are not finite");

  // X X^T and X^T X have the same eigenvalues but for zeros; with X = U S V^T the samples are at U S = X V.
  const bool wide = samples <= x.size(1);
  const int64_t n = wide ? samples : x.size(1);
  Tensor square = matmul(x, x, {.transpose_a = !wide, .transpose_b = wide});
  Tensor vectors = Tensor::zeros({n, n}, DType::f64);
  for (int64_t i = 0; i < n; ++i) vectors.mutable_data<double>()[i * n + i] = 1;
  const std::vector<double> values = linalg::symmetric_eigen(square, vectors);
  std::vector<size_t> order(values.size());
  std::iota(order.begin(), order.end(), size_t{0});
  std::stable_sort(order.begin(), order.end(), [&](size_t a, size_t b) { return values[a] > values[b]; });

  FeatureMap out;
  out.points.resize(classes.size());
  out.labels.assign(classes.begin(), classes.end());
  double seen = 0;
  for (size_t axis = 0; axis < std::min<size_t>(2, order.size()); ++axis) {
    const double variance = std::max(values[order[axis]], 0.0);
    seen += variance;
    const double* vector = vectors.data<double>() + static_cast<int64_t>(order[axis]) * n;
    double first_class = 0;
    for (size_t i = 0; i < out.points.size(); ++i) {
      const double* row = x.data<double>() + static_cast<int64_t>(i) * x.size(1);
      out.points[i][axis] = wide ? vector[i] * std::sqrt(variance) : std::inner_product(vector, vector + n, row, 0.0);
      if (classes[i] == classes[0]) first_class += out.points[i][axis];
    }
    if (first_class > 0)
      for (auto& point : out.points) point[axis] = -point[axis];
  }
  if (total > 0) {
    out.shown = seen / total;
    out.between = between / total;
  }
  return out;
}

}  // namespace tl::inline TL_ABI
