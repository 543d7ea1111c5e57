// Definitions of resize.hpp.
#pragma once
#include <algorithm>
#include <cmath>
#include <cstring>
#include <vector>
#if defined(__SSE2__)
#include <emmintrin.h>
#endif

#include "tl/core/error.hpp"
#include "tl/data/resize.hpp"

namespace tl::inline TL_ABI {
namespace detail {

/// Weights are integers in units of 2^-22: 8 bits of sample and 2 of headroom fill the 32-bit sum.
inline constexpr int kWeightBits = 32 - 8 - 2;

/// Two neighbouring weights w, each split into high * 2^11 + low, so that an instruction on 16-bit pairs can multiply
/// them; the sums are exact. 0 <= low < 2^11. In each word the first weight is the lower half.
struct WeightPair {
  int32_t high, low;
};
inline constexpr int kLowBits = 11;

constexpr WeightPair split_weights(int32_t first, int32_t second) {
  constexpr int32_t kLowMask = (1 << kLowBits) - 1;
  const auto pack = [](int32_t a, int32_t b) {
    return static_cast<int32_t>((a & 0xffff) | static_cast<int64_t>(b) << 16);
  };
  return {pack(first >> kLowBits, second >> kLowBits), pack(first & kLowMask, second & kLowMask)};
}

/// For each output position: the first input that it reads, how many, and their weights, from weights[i * stride] on.
/// Beyond `count` weights are zero, and the stride is even: they can be taken in pairs.
struct ResizeAxis {
  std::vector<int32_t> first, count, weights;
  std::vector<WeightPair> pairs;
  int64_t stride = 0;

  /// The inputs that any output reads.
  int64_t begin() const { return first.front(); }
  int64_t length() const { return first.back() + count.back() - first.front(); }
};

TL_INLINE double resize_filter(Interpolation interpolation, double x) {
  x = std::abs(x);
  if (interpolation == Interpolation::bilinear) return x < 1.0 ? 1.0 - x : 0.0;
  constexpr double a = -0.5;
  if (x < 1.0) return ((a + 2.0) * x - (a + 3.0)) * x * x + 1;
  if (x < 2.0) return (((x - 5) * x + 8) * x - 4) * a;
  return 0.0;
}

/// The weights of outputs [begin, begin + length) of `out_size` over `in_size` inputs, rounded as Pillow rounds them.
TL_INLINE ResizeAxis resize_axis(int64_t in_size, int64_t out_size, int64_t begin, int64_t length,
                                 Interpolation interpolation) {
  const double scale = static_cast<double>(in_size) / static_cast<double>(out_size), widening = std::max(scale, 1.0);
  const double support = (interpolation == Interpolation::bilinear ? 1.0 : 2.0) * widening;
  ResizeAxis axis;
  axis.stride = static_cast<int64_t>(std::ceil(support)) * 2 + 2;
  axis.weights.resize(static_cast<size_t>(length * axis.stride));
  std::vector<double> weights(static_cast<size_t>(axis.stride));
  for (int64_t i = 0; i < length; ++i) {
    const double center = (static_cast<double>(begin + i) + 0.5) * scale;
    const int64_t first = std::max(static_cast<int64_t>(center - support + 0.5), int64_t{0});
    const int64_t count = std::min(static_cast<int64_t>(center + support + 0.5), in_size) - first;
    double sum = 0;
    for (int64_t k = 0; k < count; ++k) {
      const double distance = (static_cast<double>(k + first) - center + 0.5) * (1.0 / widening);
      sum += weights[static_cast<size_t>(k)] = resize_filter(interpolation, distance);
    }
    int32_t* out = &axis.weights[static_cast<size_t>(i * axis.stride)];
    for (int64_t k = 0; k < count; ++k) {
      double weight = weights[static_cast<size_t>(k)];
      if (sum != 0.0) weight /= sum;
      out[k] = static_cast<int32_t>(weight * (1 << kWeightBits) + (weight < 0 ? -0.5 : 0.5));
    }
    axis.first.push_back(static_cast<int32_t>(first));
    axis.count.push_back(static_cast<int32_t>(count));
    for (int64_t k = 0; k < axis.stride; k += 2) axis.pairs.push_back(split_weights(out[k], out[k + 1]));
  }
  return axis;
}

inline constexpr int32_t kHalf = 1 << (kWeightBits - 1);

/// A weighted sum, kHalf included, as a byte.
inline uint8_t weighted_byte(int32_t sum) { return static_cast<uint8_t>(std::clamp(sum >> kWeightBits, 0, 255)); }

#if defined(__SSE2__)
/// Sums of pixel * weight in four 32-bit lanes. A pair of samples lies side by side in `samples`, as 16-bit numbers.
struct WeightedSums {
  __m128i high = _mm_setzero_si128(), low = _mm_set1_epi32(kHalf);

  void add(__m128i samples, const WeightPair& weights) {
    high = _mm_add_epi32(high, _mm_madd_epi16(samples, _mm_set1_epi32(weights.high)));
    low = _mm_add_epi32(low, _mm_madd_epi16(samples, _mm_set1_epi32(weights.low)));
  }
  __m128i total() const { return _mm_srai_epi32(_mm_add_epi32(_mm_slli_epi32(high, kLowBits), low), kWeightBits); }
};
#endif

/// Bytes behind the last pixel of a row that resize_row may read (and ignores).
inline constexpr int64_t kRowPadding = 8;

/// One row of the horizontal pass, [*, channels] to [columns, channels]; `in` is input axis.begin().
template <int kChannels>
void resize_row(const uint8_t* in, uint8_t* out, const ResizeAxis& axis) {
  for (size_t x = 0; x < axis.first.size(); ++x, out += kChannels) {
    const size_t start = x * static_cast<size_t>(axis.stride);
    const uint8_t* from = in + (axis.first[x] - axis.begin()) * kChannels;
#if defined(__SSE2__)
    if constexpr (kChannels >= 3) {
      const WeightPair* weights = &axis.pairs[start / 2];
      WeightedSums sums;
      for (int32_t k = 0; k < axis.count[x]; k += 2, from += 2 * kChannels) {
        const __m128i pixels = _mm_loadl_epi64(reinterpret_cast<const __m128i*>(from));           // r g b R G B . .
        const __m128i paired = _mm_unpacklo_epi8(pixels, _mm_srli_epi64(pixels, 8 * kChannels));  // r R g G b B . .
        sums.add(_mm_unpacklo_epi8(paired, _mm_setzero_si128()), *weights++);
      }
      const __m128i words = _mm_packs_epi32(sums.total(), sums.total());
      const int bytes = _mm_cvtsi128_si32(_mm_packus_epi16(words, words));
      std::memcpy(out, &bytes, kChannels);
      continue;
    }
#endif
    const int32_t* weights = &axis.weights[start];
    int32_t sums[kChannels];
    std::fill_n(sums, kChannels, kHalf);
    for (int32_t k = 0; k < axis.count[x]; ++k, from += kChannels)
      for (int c = 0; c < kChannels; ++c) sums[c] += weights[k] * from[c];
    for (int c = 0; c < kChannels; ++c) out[c] = weighted_byte(sums[c]);
  }
}

/// One row of the vertical pass: the rows that output `y` reads, `pitch` apart, become `size` bytes.
inline void resize_column(const uint8_t* in, int64_t pitch, int64_t size, const ResizeAxis& axis, size_t y,
                          uint8_t* out) {
  const size_t start = y * static_cast<size_t>(axis.stride);
  const int32_t count = axis.count[y];
  int64_t i = 0;
#if defined(__SSE2__)
  for (; i + 16 <= size; i += 16) {
    const WeightPair* weights = &axis.pairs[start / 2];
    WeightedSums sums[4];
    for (int32_t k = 0; k < count; k += 2) {
      const uint8_t* upper = in + k * pitch + i;
      const uint8_t* lower = k + 1 < count ? upper + pitch : upper;  // its weight is zero
      const __m128i a = _mm_loadu_si128(reinterpret_cast<const __m128i*>(upper));
      const __m128i b = _mm_loadu_si128(reinterpret_cast<const __m128i*>(lower));
      const __m128i zero = _mm_setzero_si128(), left = _mm_unpacklo_epi8(a, b), right = _mm_unpackhi_epi8(a, b);
      sums[0].add(_mm_unpacklo_epi8(left, zero), *weights);
      sums[1].add(_mm_unpackhi_epi8(left, zero), *weights);
      sums[2].add(_mm_unpacklo_epi8(right, zero), *weights);
      sums[3].add(_mm_unpackhi_epi8(right, zero), *weights++);
    }
    const __m128i left = _mm_packs_epi32(sums[0].total(), sums[1].total());
    const __m128i right = _mm_packs_epi32(sums[2].total(), sums[3].total());
    _mm_storeu_si128(reinterpret_cast<__m128i*>(out + i), _mm_packus_epi16(left, right));
  }
#endif
  const int32_t* weights = &axis.weights[start];
  for (; i < size; ++i) {
    int32_t sum = kHalf;
    for (int32_t k = 0; k < count; ++k) sum += weights[k] * in[k * pitch + i];
    out[i] = weighted_byte(sum);
  }
}

/// Resizes along rows: `part` of the picture, axis.length() wide, becomes [part.height, columns, channels].
TL_INLINE Image resize_horizontally(const Image& image, const Rect& part, const ResizeAxis& axis) {
  Image out(static_cast<int64_t>(axis.first.size()), part.height, image.channels);
  std::vector<uint8_t> padded;
  for (int64_t y = 0; y < part.height; ++y) {
    const uint8_t* in = image.row(part.y + y) + part.x * image.channels;
    if (image.pixels.data() + image.pixels.size() - in < part.width * image.channels + kRowPadding) {
      padded.assign(in, in + part.width * image.channels);
      padded.resize(padded.size() + kRowPadding);
      in = padded.data();
    }
    if (image.channels == 3) resize_row<3>(in, out.row(y), axis);
    else if (image.channels == 1) resize_row<1>(in, out.row(y), axis);
    else resize_row<4>(in, out.row(y), axis);
  }
  return out;
}

/// Resizes along columns: `part` of the picture, axis.length() high, becomes [rows, part.width, channels].
TL_INLINE Image resize_vertically(const Image& image, const Rect& part, const ResizeAxis& axis) {
  Image out(part.width, static_cast<int64_t>(axis.first.size()), image.channels);
  for (int64_t y = 0; y < out.height; ++y) {
    const auto i = static_cast<size_t>(y);
    const uint8_t* in = image.row(part.y + axis.first[i] - axis.begin()) + part.x * image.channels;
    resize_column(in, image.width * image.channels, part.width * image.channels, axis, i, out.row(y));
  }
  return out;
}

TL_INLINE bool contains(int64_t width, int64_t height, const Rect& rect) {
  return rect.x >= 0 && rect.y >= 0 && rect.width > 0 && rect.height > 0 && rect.width <= width &&
         rect.height <= height && rect.x <= width - rect.width && rect.y <= height - rect.height;
}

}  // namespace detail

TL_INLINE Image crop(const Image& image, const Rect& rect) {
  require<UsageError>(detail::contains(image.width, image.height, rect), "crop: the rectangle, ", rect.width, " x ",
                      rect.height, " at (", rect.x, ", ", rect.y, "), must lie within the picture of ", image.width,
                      " x ", image.height);
  Image out(rect.width, rect.height, image.channels);
  for (int64_t y = 0; y < rect.height; ++y)
    std::copy_n(image.row(rect.y + y) + rect.x * image.channels, rect.width * image.channels, out.row(y));
  return out;
}

TL_INLINE Image resize(const Image& image, const Rect& source, int64_t width, int64_t height, const Rect& window,
                       Interpolation interpolation) {
  constexpr int64_t kMost = int64_t{1} << 24;
  require<UsageError>(width > 0 && height > 0 && width <= kMost && height <= kMost, "resize: expected a size of 1 to ",
                      kMost, " pixels, got ", width, " x ", height);
  require<UsageError>(detail::contains(image.width, image.height, source), "resize: the source, ", source.width, " x ",
                      source.height, " at (", source.x, ", ", source.y, "), must lie within the picture of ",
                      image.width, " x ", image.height);
  require<UsageError>(detail::contains(width, height, window), "resize: the window, ", window.width, " x ",
                      window.height, " at (", window.x, ", ", window.y, "), must lie within ", width, " x ", height);
  require<UsageError>(image.channels == 1 || image.channels == 3 || image.channels == 4,
                      "resize: expected 1, 3 or 4 channels, got ", image.channels);

  const auto columns = detail::resize_axis(source.width, width, window.x, window.width, interpolation);
  const auto rows = detail::resize_axis(source.height, height, window.y, window.height, interpolation);
  const bool vertical_first = height < source.height && 2 * (source.width - width) < source.height - height;

  // The part of the source that the window depends on; the first pass works on no more.
  const int64_t x = source.x + columns.begin(), y = source.y + rows.begin();
  if (vertical_first) {
    const Image flat = detail::resize_vertically(image, {x, y, columns.length(), rows.length()}, rows);
    return detail::resize_horizontally(flat, {0, 0, columns.length(), window.height}, columns);
  }
  const Image narrow = detail::resize_horizontally(image, {x, y, columns.length(), rows.length()}, columns);
  return detail::resize_vertically(narrow, {0, 0, window.width, rows.length()}, rows);
}

TL_INLINE Image resize(const Image& image, int64_t width, int64_t height, Interpolation interpolation) {
  require<UsageError>(image.width > 0 && image.height > 0, "resize: the picture is empty");
  return resize(image, {0, 0, image.width, image.height}, width, height, {0, 0, width, height}, interpolation);
}

}  // namespace tl::inline TL_ABI
