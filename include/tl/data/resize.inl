// Definitions of resize.hpp.
#pragma once
#include <algorithm>
#include <cmath>
#include <cstring>
#include <vector>

#include "tl/core/error.hpp"
#include "tl/data/resize.hpp"
#include "tl/tensor/backend.hpp"

namespace tl::inline TL_ABI {
namespace detail {

TL_INLINE bool contains(int64_t width, int64_t height, const Rect& rect) {
  return rect.x >= 0 && rect.y >= 0 && rect.width > 0 && rect.height > 0 && rect.width <= width &&
         rect.height <= height && rect.x <= width - rect.width && rect.y <= height - rect.height;
}

TL_INLINE double resize_filter(Interpolation interpolation, double x) {
  x = std::abs(x);
  if (interpolation == Interpolation::bilinear) return x < 1.0 ? 1.0 - x : 0.0;
  constexpr double a = -0.5;
  if (x < 1.0) return ((a + 2.0) * x - (a + 3.0)) * x * x + 1;
  if (x < 2.0) return (((x - 5) * x + 8) * x - 4) * a;
  return 0.0;
}

/// What outputs [from, from + size) of one axis read, `first` counted from input `begin`.
struct ResizeAxis {
  std::vector<int32_t> first, count, weights;
  int64_t begin = 0, length = 0, stride = 0;

  ResizeTaps taps() const {
    return {.first = first.data(),
            .count = count.data(),
            .weights = weights.data(),
            .size = static_cast<int64_t>(first.size()),
            .stride = stride,
            .most = *std::max_element(count.begin(), count.end())};
  }
};

/// The weights of outputs [from, from + size) of `out_size` over `in_size` inputs, rounded as Pillow rounds them.
TL_INLINE ResizeAxis resize_axis(int64_t in_size, int64_t out_size, int64_t from, int64_t size,
                                 Interpolation interpolation) {
  const double scale = static_cast<double>(in_size) / static_cast<double>(out_size), widening = std::max(scale, 1.0);
  const double support = (interpolation == Interpolation::bilinear ? 1.0 : 2.0) * widening;
  ResizeAxis axis;
  axis.stride = static_cast<int64_t>(std::ceil(support)) * 2 + 1;
  axis.weights.resize(static_cast<size_t>(size * axis.stride));
  std::vector<double> weights(static_cast<size_t>(axis.stride));
  for (int64_t i = 0; i < size; ++i) {
    const double center = (static_cast<double>(from + i) + 0.5) * scale;
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
      out[k] = static_cast<int32_t>(weight * (1 << kResizeWeightBits) + (weight < 0 ? -0.5 : 0.5));
    }
    if (i == 0) axis.begin = first;
    axis.first.push_back(static_cast<int32_t>(first - axis.begin));
    axis.count.push_back(static_cast<int32_t>(count));
  }
  axis.length = axis.first.back() + axis.count.back();
  return axis;
}

TL_INLINE void check_resize(const Image& image, const Rect& source, int64_t width, int64_t height, const Rect& window) {
  constexpr int64_t kMost = int64_t{1} << 24;
  require<UsageError>(width > 0 && height > 0 && width <= kMost && height <= kMost, "resize: expected a size of 1 to ",
                      kMost, " pixels, got ", width, " x ", height);
  require<UsageError>(contains(image.width, image.height, source), "resize: the source, ", source.width, " x ",
                      source.height, " at (", source.x, ", ", source.y, "), must lie within the picture of ",
                      image.width, " x ", image.height);
  require<UsageError>(contains(width, height, window), "resize: the window, ", window.width, " x ", window.height,
                      " at (", window.x, ", ", window.y, "), must lie within ", width, " x ", height);
  require<UsageError>(image.channels == 1 || image.channels == 3 || image.channels == 4,
                      "resize: expected 1, 3 or 4 channels, got ", image.channels);
}

/// Resizes a window that passed check_resize; `args` says where the result goes.
TL_INLINE void resize_to(const Image& image, const Rect& source, int64_t width, int64_t height, const Rect& window,
                         Interpolation interpolation, ResizeArgs<float> args) {
  const ResizeAxis columns = resize_axis(source.width, width, window.x, window.width, interpolation);
  const ResizeAxis rows = resize_axis(source.height, height, window.y, window.height, interpolation);
  // The part of the source that the window depends on; the first pass works on no more.
  args.x = image.row(source.y + rows.begin) + (source.x + columns.begin) * image.channels;
  args.pitch = image.width * image.channels;
  args.height = rows.length, args.width = columns.length, args.channels = image.channels;
  args.columns = columns.taps(), args.rows = rows.taps();
  args.columns_first = height < source.height && 2 * (source.width - width) < source.height - height;
  kernel::resize(kCpu, args);
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
  detail::check_resize(image, source, width, height, window);
  Image out(window.width, window.height, image.channels);
  detail::resize_to(image, source, width, height, window, interpolation, {.bytes = out.pixels.data()});
  return out;
}

TL_INLINE Image resize(const Image& image, int64_t width, int64_t height, Interpolation interpolation) {
  require<UsageError>(image.width > 0 && image.height > 0, "resize: the picture is empty");
  return resize(image, {0, 0, image.width, image.height}, width, height, {0, 0, width, height}, interpolation);
}

}  // namespace tl::inline TL_ABI
