// Resizing of pictures, antialiased, equal to Pillow's.
#pragma once
#include <cstdint>

#include "tl/core/config.hpp"
#include "tl/io/image.hpp"

namespace tl::inline TL_ABI {

enum class Interpolation : uint8_t { bilinear, bicubic };

/// A rectangle of pixels.
struct Rect {
  int64_t x = 0, y = 0, width = 0, height = 0;
};

/// A copy of a rectangle of a picture. Errors: UsageError unless it lies within.
Image crop(const Image& image, const Rect& rect);

/// Resizes a picture to width x height.
///
/// Each output pixel is a weighted mean around its centre: out[x] = sum_i w((i + 0.5 - (x + 0.5) * s) / max(s, 1))
/// in[i], s = input size / output size, with the triangle filter (bilinear) or Keys' cubic with a = -0.5 (bicubic),
/// weights normalised to 1. When the picture shrinks the filter widens with it, which keeps patterns finer than the
/// output's pixels from showing as others (aliasing). Two passes, each rounded to 8 bits: along rows, then along
/// columns; the other way round if the height shrinks by more than twice what the width does.
/// Errors: UsageError for an empty picture or size, or a size over 2^24.
/// Pillow 13: `Image.resize((width, height), BILINEAR or BICUBIC)`, byte for byte. Older versions always go along
/// rows first; where the order differs, so does the rounding of some samples by 1.
Image resize(const Image& image, int64_t width, int64_t height, Interpolation interpolation = Interpolation::bilinear);

/// Part of a resized part: the rectangle `window` of what `source`, cut out of the picture, becomes at width x height.
/// Only what the window needs is computed. Errors: also UsageError for a rectangle that reaches over its picture.
Image resize(const Image& image, const Rect& source, int64_t width, int64_t height, const Rect& window,
             Interpolation interpolation);

}  // namespace tl::inline TL_ABI

#if TL_HEADER_ONLY
#include "tl/data/resize.inl"
#endif
