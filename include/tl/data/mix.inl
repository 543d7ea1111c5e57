// Definitions of data/mix.hpp.
#pragma once
#include <algorithm>
#include <cmath>
#include <numeric>
#include <vector>

#include "tl/core/error.hpp"
#include "tl/data/mix.hpp"

namespace tl::inline TL_ABI {
namespace detail {

/// mixed_i = lambda onehot(y_i) + (1 - lambda) onehot(y_j).
TL_INLINE Tensor mixed_classes(std::string_view op, const Batch& batch, std::span<const int64_t> partners,
                               double lambda, int64_t classes) {
  const int64_t n = batch.y.numel();
  require<ShapeError>(batch.x.rank() >= 2 && batch.x.size(0) == n && std::ssize(partners) == n, op,
                      ": x, y and partners must be of N samples; got ", batch.x.shape(), ", ", batch.y.shape(), " and ",
                      partners.size());
  require<UsageError>(lambda >= 0 && lambda <= 1, op, ": lambda must be in [0, 1], got ", lambda);
  const auto y = batch.y.values<int32_t>();
  Tensor mixed = Tensor::zeros({n, classes});
  float* row = mixed.mutable_data<float>();
  for (int64_t i = 0; i < n; ++i, row += classes) {
    const int64_t j = partners[static_cast<size_t>(i)];
    require<UsageError>(j >= 0 && j < n, op, ": partner ", j, " in a batch of ", n);
    const int32_t own = y[static_cast<size_t>(i)], other = y[static_cast<size_t>(j)];
    require<UsageError>(own >= 0 && own < classes, op, ": label ", own, " with ", classes, " classes");
    row[own] += static_cast<float>(lambda);
    if (other >= 0 && other < classes) row[other] += static_cast<float>(1 - lambda);
  }
  return mixed;
}

/// A gamma variate of shape `a` and scale 1.
TL_INLINE double draw_gamma(double a, Generator& generator) {
  if (a < 1) {
    const double u = 1 - generator.uniform();  // above 0
    return draw_gamma(a + 1, generator) * std::pow(u, 1 / a);
  }
  const double d = a - 1.0 / 3, c = 1 / std::sqrt(9 * d);
  for (;;) {
    const double x = generator.normal(), t = 1 + c * x, v = t * t * t;
    const double u = 1 - generator.uniform();
    if (v > 0 && std::log(u) < 0.5 * x * x + d - d * v + d * std::log(v)) return d * v;
  }
}

}  // namespace detail

TL_INLINE void mix_up(Batch& batch, std::span<const int64_t> partners, double lambda, int64_t classes) {
  batch.mixed = detail::mixed_classes("mix_up", batch, partners, lambda, classes);
  const int64_t width = batch.x.numel() / std::max<int64_t>(batch.x.size(0), 1);
  Tensor x = Tensor::empty(batch.x.shape());
  const float* from = batch.x.data<float>();
  float* to = x.mutable_data<float>();
  const auto own = static_cast<float>(lambda), other = static_cast<float>(1 - lambda);
  for (const int64_t j : partners) {
    const float* partner = batch.x.data<float>() + j * width;
    for (int64_t k = 0; k < width; ++k) *to++ = own * *from++ + other * partner[k];
  }
  batch.x = x;
}

TL_INLINE void cut_mix(Batch& batch, std::span<const int64_t> partners, const Rect& r, int64_t classes) {
  require<ShapeError>(batch.x.rank() == 4, "cut_mix: x must be [N, H, W, C]; got ", batch.x.shape());
  const int64_t height = batch.x.size(1), width = batch.x.size(2), channels = batch.x.size(3);
  require<UsageError>(
      r.x >= 0 && r.y >= 0 && r.width >= 0 && r.height >= 0 && r.x + r.width <= width && r.y + r.height <= height,
      "cut_mix: the rectangle ", r.width, " x ", r.height, " at (", r.x, ", ", r.y, ") reaches over the picture of ",
      width, " x ", height);
  const double lambda = 1 - static_cast<double>(r.width * r.height) / static_cast<double>(width * height);
  batch.mixed = detail::mixed_classes("cut_mix", batch, partners, lambda, classes);
  Tensor x = batch.x.clone();
  float* to = x.mutable_data<float>();
  const float* from = batch.x.data<float>();
  for (size_t i = 0; i < partners.size(); ++i)
    for (int64_t row = r.y; row < r.y + r.height; ++row) {
      const auto at = [&](int64_t picture) { return ((picture * height + row) * width + r.x) * channels; };
      std::copy_n(from + at(partners[i]), r.width * channels, to + at(static_cast<int64_t>(i)));
    }
  batch.x = x;
}

TL_INLINE Rect cut_rectangle(int64_t width, int64_t height, double lambda, Generator& generator) {
  const int64_t x = generator.below(width), y = generator.below(height);
  const double half = 0.5 * std::sqrt(1 - lambda);
  const auto half_width = static_cast<int64_t>(half * static_cast<double>(width)),
             half_height = static_cast<int64_t>(half * static_cast<double>(height));
  const int64_t left = std::max<int64_t>(x - half_width, 0), right = std::min(x + half_width, width);
  const int64_t top = std::max<int64_t>(y - half_height, 0), bottom = std::min(y + half_height, height);
  return {left, top, right - left, bottom - top};
}

TL_INLINE double draw_beta(double a, double b, Generator& generator) {
  require<UsageError>(a > 0 && b > 0, "draw_beta: a and b must be above 0, got ", a, " and ", b);
  const double x = detail::draw_gamma(a, generator), y = detail::draw_gamma(b, generator);
  return x + y > 0 ? x / (x + y) : (generator.uniform() < a / (a + b) ? 1.0 : 0.0);  // both vanish for a tiny a
}

TL_INLINE void Mixing::operator()(Batch& batch, int64_t number) const {
  require<UsageError>(mixup >= 0 && cutmix >= 0 && probability >= 0 && probability <= 1 && classes >= 1,
                      "Mixing: mixup and cutmix must be at least 0, the probability in [0, 1], and classes above 0; "
                      "got ",
                      mixup, ", ", cutmix, ", ", probability, " and ", classes);
  if (mixup == 0 && cutmix == 0) return;
  constexpr uint64_t kMixingStream = 0x6d6978696e67;  // apart from the streams of samples and of their order
  Generator generator(seed, kMixingStream + static_cast<uint64_t>(number));
  if (generator.uniform() >= probability) return;
  std::vector<int64_t> partners(static_cast<size_t>(batch.y.numel()));
  std::iota(partners.begin(), partners.end(), 0);
  generator.shuffle(partners);
  const bool cuts = cutmix > 0 && (mixup == 0 || generator.uniform() < 0.5);
  const double alpha = cuts ? cutmix : mixup, lambda = draw_beta(alpha, alpha, generator);
  if (!cuts) return mix_up(batch, partners, lambda, classes);
  require<ShapeError>(batch.x.rank() == 4, "cut_mix: x must be [N, H, W, C]; got ", batch.x.shape());
  cut_mix(batch, partners, cut_rectangle(batch.x.size(2), batch.x.size(1), lambda, generator), classes);
}

}  // namespace tl::inline TL_ABI
