// Definitions of data/rand_augment.hpp.
#pragma once
#include <algorithm>
#include <cmath>
#include <cstring>
#include <numbers>

#include "tl/core/error.hpp"
#include "tl/data/rand_augment.hpp"

namespace tl::inline TL_ABI {
namespace detail {

/// What each sample of each channel becomes, from the channel's histogram.
template <class Table>
Image map_channels(Image image, Table table) {
  for (int64_t c = 0; c < image.channels; ++c) {
    std::array<int64_t, 256> histogram{};
    const auto step = static_cast<size_t>(image.channels);
    for (size_t i = static_cast<size_t>(c); i < image.pixels.size(); i += step) ++histogram[image.pixels[i]];
    const std::array<uint8_t, 256> to = table(histogram);
    for (size_t i = static_cast<size_t>(c); i < image.pixels.size(); i += step) image.pixels[i] = to[image.pixels[i]];
  }
  return image;
}

inline std::array<uint8_t, 256> unchanged() {
  std::array<uint8_t, 256> out{};
  for (size_t i = 0; i < 256; ++i) out[i] = static_cast<uint8_t>(i);
  return out;
}

}  // namespace detail

TL_INLINE Image transform_affine(const Image& image, const std::array<double, 6>& m) {
  Image out(image.width, image.height, image.channels);
  const auto copy = [&](int64_t x, int64_t y, int64_t from_x, int64_t from_y) {
    if (from_x < 0 || from_x >= image.width || from_y < 0 || from_y >= image.height) return;
    std::memcpy(out.row(y) + x * image.channels, image.row(from_y) + from_x * image.channels,
                static_cast<size_t>(image.channels));
  };
  if (m[1] == 0 && m[3] == 0) {
    // Pillow adds up steps here, and what it adds up decides between neighbours.
    double at_y = m[5] + m[4] * 0.5;
    for (int64_t y = 0; y < out.height; ++y, at_y += m[4]) {
      double at_x = m[2] + m[0] * 0.5;
      for (int64_t x = 0; x < out.width; ++x, at_x += m[0])
        copy(x, y, at_x < 0 ? -1 : static_cast<int64_t>(at_x), at_y < 0 ? -1 : static_cast<int64_t>(at_y));
    }
    return out;
  }
  const auto fixed = [](double v) { return static_cast<int64_t>(std::floor(v * 65536.0 + 0.5)); };  // 16.16 bits
  const int64_t a = fixed(m[0]), b = fixed(m[1]), d = fixed(m[3]), e = fixed(m[4]);
  const int64_t left = fixed(m[2] + m[0] * 0.5 + m[1] * 0.5), top = fixed(m[5] + m[3] * 0.5 + m[4] * 0.5);
  for (int64_t y = 0; y < out.height; ++y)
    for (int64_t x = 0; x < out.width; ++x) copy(x, y, (left + a * x + b * y) >> 16, (top + d * x + e * y) >> 16);
  return out;
}

TL_INLINE Image rotate(const Image& image, double degrees) {
  if (std::fmod(degrees, 360.0) == 0) return image;
  const double angle = -std::fmod(degrees, 360.0) * std::numbers::pi / 180;
  const auto rounded = [](double v) { return std::round(v * 1e15) / 1e15; };  // so that quarter turns have exact zeros
  const double c = rounded(std::cos(angle)), s = rounded(std::sin(angle));
  const double x = static_cast<double>(image.width) / 2, y = static_cast<double>(image.height) / 2;
  return transform_affine(image, {c, s, x - c * x - s * y, -s, c, y + s * x - c * y});
}

TL_INLINE Image posterize(Image image, int64_t bits) {
  require<UsageError>(bits >= 0 && bits <= 8, "posterize: expected 0 to 8 bits, got ", bits);
  const auto mask = static_cast<uint8_t>(0xff << (8 - bits));
  for (uint8_t& sample : image.pixels) sample &= mask;
  return image;
}

TL_INLINE Image solarize(Image image, double threshold) {
  for (uint8_t& sample : image.pixels)
    if (sample >= threshold) sample = static_cast<uint8_t>(255 - sample);
  return image;
}

TL_INLINE Image stretch_contrast(Image image) {
  return detail::map_channels(std::move(image), [](const std::array<int64_t, 256>& histogram) {
    auto to = detail::unchanged();
    const auto seen = [](int64_t count) { return count > 0; };
    const auto first = std::find_if(histogram.begin(), histogram.end(), seen) - histogram.begin();
    const auto last = 255 - (std::find_if(histogram.rbegin(), histogram.rend(), seen) - histogram.rbegin());
    if (last <= first) return to;
    const double scale = 255.0 / static_cast<double>(last - first), offset = -static_cast<double>(first) * scale;
    for (size_t i = 0; i < 256; ++i)
      to[i] = static_cast<uint8_t>(std::clamp(static_cast<double>(i) * scale + offset, 0.0, 255.0));
    return to;
  });
}

TL_INLINE Image equalize(Image image) {
  return detail::map_channels(std::move(image), [](const std::array<int64_t, 256>& histogram) {
    auto to = detail::unchanged();
    int64_t total = 0, last = 0;
    for (const int64_t count : histogram) {
      total += count;
      if (count > 0) last = count;
    }
    const int64_t step = (total - last) / 255;
    if (step == 0) return to;
    int64_t below = step / 2;
    for (size_t i = 0; i < 256; ++i) {
      to[i] = static_cast<uint8_t>(std::min<int64_t>(below / step, 255));
      below += histogram[i];
    }
    return to;
  });
}

TL_INLINE Image RandAugment::operator()(Image image, Generator& generator) const {
  require<UsageError>(operations >= 0 && bins >= 2 && magnitude >= 0 && magnitude < bins,
                      "RandAugment: operations must be at least 0, bins at least 2, and magnitude below bins; got ",
                      operations, ", ", bins, " and ", magnitude);
  require<UsageError>(image.channels == 3, "RandAugment: expected an RGB picture, got ", image.channels, " channels");
  const double share = static_cast<double>(magnitude) / static_cast<double>(bins - 1);
  for (int64_t i = 0; i < operations; ++i) {
    const int64_t chosen = generator.below(14);
    const double sign = generator.below(2) == 0 ? 1 : -1, s = sign * share;
    const auto shift = [&](int64_t size) { return std::trunc(150.0 / 331.0 * static_cast<double>(size) * s); };
    switch (chosen) {
      case 1:
        image = transform_affine(image, {1, 0.3 * s, 0, 0, 1, 0});
        break;
      case 2:
        image = transform_affine(image, {1, 0, 0, 0.3 * s, 1, 0});
        break;
      case 3:
        image = transform_affine(image, {1, 0, -shift(image.width), 0, 1, 0});
        break;
      case 4:
        image = transform_affine(image, {1, 0, 0, 0, 1, -shift(image.height)});
        break;
      case 5:
        image = rotate(image, 30 * s);
        break;
      case 6:
        image = adjust_brightness(std::move(image), 1 + 0.9 * s);
        break;
      case 7:
        image = adjust_saturation(std::move(image), 1 + 0.9 * s);
        break;
      case 8:
        image = adjust_contrast(std::move(image), 1 + 0.9 * s);
        break;
      case 9:
        image = adjust_sharpness(image, 1 + 0.9 * s);
        break;
      case 10:
        image = posterize(std::move(image), 8 - static_cast<int64_t>(std::nearbyint(4 * share)));
        break;
      case 11:
        image = solarize(std::move(image), 255 * (1 - share));
        break;
      case 12:
        image = stretch_contrast(std::move(image));
        break;
      case 13:
        image = equalize(std::move(image));
        break;
      default:
        break;
    }
  }
  return image;
}

}  // namespace tl::inline TL_ABI
