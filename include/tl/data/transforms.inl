// Definitions of transforms.hpp.
#pragma once
#include <algorithm>
#include <atomic>
#include <cmath>
#include <cstring>
#include <tuple>
#include <utility>

#include "tl/core/error.hpp"
#include "tl/core/hash.hpp"
#include "tl/core/log.hpp"
#include "tl/data/transforms.hpp"

namespace tl::inline TL_ABI {
namespace detail {

/// n / 2, n >= 0, rounded as Python does: halves go to the even neighbour.
constexpr int64_t half_to_even(int64_t n) { return n / 2 + (n % 2 != 0 && (n / 2) % 2 != 0 ? 1 : 0); }

/// Width and height after the shorter side became `side`.
inline std::pair<int64_t, int64_t> with_shorter_side(int64_t width, int64_t height, int64_t side) {
  const int64_t shorter = std::min(width, height), longer = std::max(width, height);
  const auto scaled = static_cast<int64_t>(static_cast<double>(side * longer) / static_cast<double>(shorter));
  return width <= height ? std::pair{side, scaled} : std::pair{scaled, side};
}

/// A byte between `from` and `to`, or beyond, as Pillow's ImagingBlend computes it: truncated, in float.
inline uint8_t blend(int from, int to, float factor) {
  const float value = static_cast<float>(from) + factor * static_cast<float>(to - from);
  return static_cast<uint8_t>(std::clamp(value, 0.0f, 255.0f));
}

/// Blends each sample with `from(pixel)`.
template <class From>
void blend_all(Image& image, double factor, From from) {
  require<UsageError>(image.channels == 3, "colour jitter: expected an RGB picture, got ", image.channels, " channels");
  for (size_t i = 0; i < image.pixels.size(); i += 3) {
    uint8_t* pixel = &image.pixels[i];
    const int base = from(pixel);
    for (int c = 0; c < 3; ++c) pixel[c] = blend(base, pixel[c], static_cast<float>(factor));
  }
}

/// What each sample becomes, by channel; computed with the reference's three roundings.
struct NormalisedValues {
  float of[3][256];

  NormalisedValues(const std::array<float, 3>& mean, const std::array<float, 3>& stddev) {
    for (size_t c = 0; c < 3; ++c)
      for (int value = 0; value < 256; ++value)
        of[c][value] = (static_cast<float>(value) / 255.0f - mean[c]) / stddev[c];
  }
};

/// Truncates to a byte.
inline uint8_t clip_byte(double value) { return static_cast<uint8_t>(std::clamp(value, 0.0, 255.0)); }

/// RGB to hue, saturation and value in bytes and back, rounded as Pillow rounds.
inline std::array<uint8_t, 3> rgb_to_hsv(int r, int g, int b) {
  const int most = std::max({r, g, b}), least = std::min({r, g, b});
  if (most == least) return {0, 0, static_cast<uint8_t>(most)};
  const auto range = static_cast<float>(most - least);
  const float saturation = range / static_cast<float>(most);
  const float rc = static_cast<float>(most - r) / range, gc = static_cast<float>(most - g) / range,
              bc = static_cast<float>(most - b) / range;
  float hue;
  if (r == most) hue = bc - gc;
  else if (g == most) hue = static_cast<float>(2.0 + static_cast<double>(rc) - static_cast<double>(bc));
  else hue = static_cast<float>(4.0 + static_cast<double>(gc) - static_cast<double>(rc));
  double turn = static_cast<double>(hue) / 6.0 + 1.0;
  if (turn >= 1.0) turn -= 1.0;
  hue = static_cast<float>(turn);
  return {clip_byte(static_cast<double>(hue) * 255.0), clip_byte(static_cast<double>(saturation) * 255.0),
          static_cast<uint8_t>(most)};
}

inline std::array<uint8_t, 3> hsv_to_rgb(const std::array<uint8_t, 3>& hsv) {
  const uint8_t v = hsv[2];
  if (hsv[1] == 0) return {v, v, v};
  const double hue = static_cast<double>(static_cast<float>(hsv[0])) * 6.0 / 255.0;
  const int sector = static_cast<int>(hue);
  const auto f = static_cast<float>(hue - sector), fs = static_cast<float>(hsv[1] / 255.0);
  const auto value = static_cast<double>(v);
  const uint8_t p = clip_byte(value * (1.0 - static_cast<double>(fs)) + 0.5);
  const uint8_t q = clip_byte(value * (1.0 - static_cast<double>(fs * f)) + 0.5);
  const uint8_t t = clip_byte(value * (1.0 - static_cast<double>(fs) * (1.0 - static_cast<double>(f))) + 0.5);
  switch (sector % 6) {
    case 0:
      return {v, t, p};
    case 1:
      return {q, v, p};
    case 2:
      return {p, v, t};
    case 3:
      return {p, q, v};
    case 4:
      return {t, p, v};
    default:
      return {v, p, q};
  }
}

}  // namespace detail

TL_INLINE Image Resize::operator()(Image image, Generator&) const {
  require<UsageError>(side > 0 && image.width > 0 && image.height > 0, "Resize: expected a picture and a side over 0");
  const auto [width, height] = detail::with_shorter_side(image.width, image.height, side);
  return resize(image, width, height, interpolation);
}

TL_INLINE Image ResizeTo::operator()(Image image, Generator&) const {
  return resize(image, width, height, interpolation);
}

TL_INLINE Image CenterCrop::operator()(Image image, Generator&) const {
  require<UsageError>(size > 0, "CenterCrop: expected a size over 0, got ", size);
  if (image.width < size || image.height < size) {
    Image padded(std::max(image.width, size), std::max(image.height, size), image.channels);
    const int64_t left = (padded.width - image.width) / 2, top = (padded.height - image.height) / 2;
    for (int64_t y = 0; y < image.height; ++y)
      std::copy_n(image.row(y), image.width * image.channels, padded.row(top + y) + left * image.channels);
    image = std::move(padded);
  }
  return crop(image, {detail::half_to_even(image.width - size), detail::half_to_even(image.height - size), size, size});
}

TL_INLINE Image ResizeCenterCrop::operator()(Image image, Generator& generator) const {
  if (resize < size) return CenterCrop{size}(Resize{resize, interpolation}(std::move(image), generator), generator);
  require<UsageError>(size > 0 && image.width > 0 && image.height > 0,
                      "ResizeCenterCrop: expected a picture and a size over 0");
  const auto [width, height] = detail::with_shorter_side(image.width, image.height, resize);
  return tl::resize(image, {0, 0, image.width, image.height}, width, height,
                    {detail::half_to_even(width - size), detail::half_to_even(height - size), size, size},
                    interpolation);
}

TL_INLINE Rect RandomResizedCrop::draw(int64_t width, int64_t height, Generator& generator) const {
  const double area = static_cast<double>(width * height);
  for (int attempt = 0; attempt < 10; ++attempt) {
    const double target = area * generator.uniform(scale[0], scale[1]);
    const double aspect = std::exp(generator.uniform(std::log(ratio[0]), std::log(ratio[1])));
    const auto w = static_cast<int64_t>(std::nearbyint(std::sqrt(target * aspect)));
    const auto h = static_cast<int64_t>(std::nearbyint(std::sqrt(target / aspect)));
    if (w <= 0 || h <= 0 || w > width || h > height) continue;
    const int64_t y = generator.below(height - h + 1);
    return {generator.below(width - w + 1), y, w, h};
  }
  const double in_ratio = static_cast<double>(width) / static_cast<double>(height);
  int64_t w = width, h = height;
  if (in_ratio < ratio[0]) h = static_cast<int64_t>(std::nearbyint(static_cast<double>(w) / ratio[0]));
  else if (in_ratio > ratio[1]) w = static_cast<int64_t>(std::nearbyint(static_cast<double>(h) * ratio[1]));
  w = std::clamp(w, int64_t{1}, width);
  h = std::clamp(h, int64_t{1}, height);
  return {(width - w) / 2, (height - h) / 2, w, h};
}

TL_INLINE Image RandomResizedCrop::operator()(Image image, Generator& generator) const {
  return resize(image, draw(image.width, image.height, generator), size, size, {0, 0, size, size}, interpolation);
}

TL_INLINE Image flip_horizontally(Image image) {
  for (int64_t y = 0; y < image.height; ++y) {
    uint8_t* left = image.row(y);
    for (uint8_t* right = left + (image.width - 1) * image.channels; left < right;
         left += image.channels, right -= image.channels)
      std::swap_ranges(left, left + image.channels, right);
  }
  return image;
}

TL_INLINE Image RandomHorizontalFlip::operator()(Image image, Generator& generator) const {
  return generator.uniform() < probability ? flip_horizontally(std::move(image)) : image;
}

TL_INLINE Image adjust_brightness(Image image, double factor) {
  detail::blend_all(image, factor, [](const uint8_t*) { return 0; });
  return image;
}

TL_INLINE Image adjust_contrast(Image image, double factor) {
  int64_t sum = 0;
  for (size_t i = 0; i + 2 < image.pixels.size(); i += 3)
    sum += luma(image.pixels[i], image.pixels[i + 1], image.pixels[i + 2]);
  const auto count = static_cast<double>(image.width * image.height);
  const int mean = count > 0 ? static_cast<int>(static_cast<double>(sum) / count + 0.5) : 0;
  detail::blend_all(image, factor, [mean](const uint8_t*) { return mean; });
  return image;
}

TL_INLINE Image adjust_saturation(Image image, double factor) {
  detail::blend_all(image, factor, [](const uint8_t* pixel) { return luma(pixel[0], pixel[1], pixel[2]); });
  return image;
}

TL_INLINE Image adjust_hue(Image image, double turn) {
  require<UsageError>(image.channels == 3 && turn >= -0.5 && turn <= 0.5,
                      "adjust_hue: expected an RGB picture and a turn of -0.5 to 0.5, got ", image.channels,
                      " channels and ", turn);
  const int shift = static_cast<int>(turn * 255);
  for (size_t i = 0; i < image.pixels.size(); i += 3) {
    uint8_t* pixel = &image.pixels[i];
    auto hsv = detail::rgb_to_hsv(pixel[0], pixel[1], pixel[2]);
    hsv[0] = static_cast<uint8_t>(hsv[0] + shift);
    const auto rgb = detail::hsv_to_rgb(hsv);
    std::copy(rgb.begin(), rgb.end(), pixel);
  }
  return image;
}

TL_INLINE Image adjust_sharpness(const Image& image, double factor) {
  Image out = image;
  for (int64_t y = 1; y + 1 < image.height; ++y)
    for (int64_t x = 1; x + 1 < image.width; ++x)
      for (int64_t c = 0; c < image.channels; ++c) {
        int sum = 0;
        for (int64_t row = y - 1; row <= y + 1; ++row)
          for (int64_t column = x - 1; column <= x + 1; ++column) sum += image.row(row)[column * image.channels + c];
        const int own = image.row(y)[x * image.channels + c];
        const int smooth = (2 * (sum + 4 * own) + 13) / 26;  // weights 1, the centre 5, over 13; no ties
        out.row(y)[x * image.channels + c] = detail::blend(smooth, own, static_cast<float>(factor));
      }
  return out;
}

TL_INLINE Image ColorJitter::operator()(Image image, Generator& generator) const {
  std::array<int, 4> order = {0, 1, 2, 3};
  generator.shuffle(order);
  const auto factor = [&](double strength) { return generator.uniform(std::max(0.0, 1.0 - strength), 1.0 + strength); };
  for (const int step : order) {
    if (step == 0 && brightness > 0) image = adjust_brightness(std::move(image), factor(brightness));
    if (step == 1 && contrast > 0) image = adjust_contrast(std::move(image), factor(contrast));
    if (step == 2 && saturation > 0) image = adjust_saturation(std::move(image), factor(saturation));
    if (step == 3 && hue > 0) image = adjust_hue(std::move(image), generator.uniform(-hue, hue));
  }
  return image;
}

TL_INLINE std::string_view name_of(Interpolation interpolation) {
  return interpolation == Interpolation::bilinear ? "bilinear" : "bicubic";
}

TL_INLINE std::string_view name_of(ChannelOrder order) {
  return order == ChannelOrder::rgb ? "rgb" : order == ChannelOrder::bgr ? "bgr" : "gray";
}

TL_INLINE Interpolation parse_interpolation(std::string_view name) {
  for (const auto value : {Interpolation::bilinear, Interpolation::bicubic})
    if (name == name_of(value)) return value;
  fail<UsageError>("interpolation: expected bilinear or bicubic, got ", name);
}

TL_INLINE ChannelOrder parse_channel_order(std::string_view name) {
  for (const auto value : {ChannelOrder::rgb, ChannelOrder::bgr, ChannelOrder::gray})
    if (name == name_of(value)) return value;
  fail<UsageError>("channel order: expected rgb, bgr or gray, got ", name);
}

TL_INLINE void Preprocess::check() const {
  constexpr int64_t kMost = 1 << 14;
  require<UsageError>(size >= 1 && size <= kMost && resize >= 0 && resize <= kMost,
                      "preprocess: expected sizes of 1 to ", kMost, ", got size = ", size, ", resize = ", resize);
  require<UsageError>(crop_fraction > 0.01 && crop_fraction <= 1.0,
                      "preprocess: expected a crop_fraction over 0.01, at most 1, got ", crop_fraction);
  for (size_t c = 0; c < static_cast<size_t>(channels()); ++c)
    require<UsageError>(std::isfinite(mean[c]) && std::isfinite(stddev[c]) && stddev[c] > 0,
                        "preprocess: expected a finite mean and a deviation over 0, got ", mean[c], " and ", stddev[c]);
}

TL_INLINE void to_float(const Image& image, const std::array<float, 3>& mean, const std::array<float, 3>& stddev,
                        float* out, ChannelOrder order) {
  require<UsageError>(image.channels == 3, "to_float: expected an RGB picture, got ", image.channels, " channels");
  const detail::NormalisedValues values(mean, stddev);
  const auto& table = values.of;
  const uint8_t* in = image.pixels.data();
  const uint8_t* const end = in + image.pixels.size();
  if (order == ChannelOrder::gray) {
    for (; in != end; in += 3) *out++ = table[0][luma(in[0], in[1], in[2])];
    return;
  }
  const int first = order == ChannelOrder::rgb ? 0 : 2;
  for (; in != end; in += 3, out += 3) {
    out[0] = table[0][in[first]];
    out[1] = table[1][in[1]];
    out[2] = table[2][in[2 - first]];
  }
}

TL_INLINE Generator sample_generator(uint64_t seed, uint64_t epoch, uint64_t index) {
  // The tag keeps these streams apart from those of dropout and of shuffling under the same seed.
  constexpr uint64_t kTag = 0x5452414e53464f52;
  constexpr int kIndexBits = 40;
  return Generator(seed ^ kTag, (epoch << kIndexBits) | (index & ((uint64_t{1} << kIndexBits) - 1)));
}

TL_INLINE Pipeline::Pipeline(Preprocess preprocess, std::vector<Transform> steps)
    : preprocess_(preprocess), steps_(std::move(steps)) {
  preprocess_.check();
}

TL_INLINE Pipeline Pipeline::then(Transform step) const {
  Pipeline longer = *this;
  longer.steps_.push_back(std::move(step));
  return longer;
}

TL_INLINE Image Pipeline::picture(Image image, uint64_t seed, uint64_t epoch, uint64_t index) const {
  Generator generator = sample_generator(seed, epoch, index);
  for (const Transform& step : steps_) image = step(std::move(image), generator);
  return image;
}

namespace detail {

/// What is known of a step.
struct StepTraits {
  bool known = false, random = true;
  uint64_t hash = 0;
};

TL_INLINE StepTraits traits_of(const Transform& step) {
  const auto traits = [](std::string_view name, bool random, auto... options) {
    Hash hash;
    hash.add(name);
    (hash.add(options), ...);
    return StepTraits{.known = true, .random = random, .hash = hash.value()};
  };
  if (const auto* s = step.target<Resize>()) return traits("resize", false, s->side, name_of(s->interpolation));
  if (const auto* s = step.target<ResizeTo>())
    return traits("resize to", false, s->width, s->height, name_of(s->interpolation));
  if (const auto* s = step.target<CenterCrop>()) return traits("center crop", false, s->size);
  if (const auto* s = step.target<ResizeCenterCrop>())
    return traits("resize and center crop", false, s->resize, s->size, name_of(s->interpolation));
  if (const auto* s = step.target<RandomResizedCrop>())
    return traits("random resized crop", true, s->size, s->scale[0], s->scale[1], s->ratio[0], s->ratio[1],
                  name_of(s->interpolation));
  if (const auto* s = step.target<RandomHorizontalFlip>())
    return traits("flip", s->probability > 0 && s->probability < 1, s->probability);
  if (const auto* s = step.target<ColorJitter>())
    return traits("jitter", true, s->brightness, s->contrast, s->saturation, s->hue);
  return {};
}

}  // namespace detail

TL_INLINE uint64_t Pipeline::fingerprint() const {
  Hash hash;
  hash.add(preprocess_.size).add(name_of(preprocess_.channel_order));
  for (const auto& values : {preprocess_.mean, preprocess_.stddev})
    for (const float value : values) hash.add(value);
  for (const Transform& step : steps_) hash.add(detail::traits_of(step).hash);
  return hash.value();
}

TL_INLINE bool Pipeline::has_own_steps() const {
  return !std::all_of(steps_.begin(), steps_.end(), [](const auto& step) { return detail::traits_of(step).known; });
}

TL_INLINE bool Pipeline::is_random() const {
  return std::any_of(steps_.begin(), steps_.end(), [](const auto& step) { return detail::traits_of(step).random; });
}

TL_INLINE bool Pipeline::run_fused(const Image& image, float* out, Generator generator) const {
  const auto* center = steps_.empty() ? nullptr : steps_[0].target<ResizeCenterCrop>();
  const auto* random = steps_.empty() ? nullptr : steps_[0].target<RandomResizedCrop>();
  const auto* flip = steps_.size() == 2 ? steps_[1].target<RandomHorizontalFlip>() : nullptr;
  const int64_t size = preprocess_.size;
  const bool fits = center ? center->size == size && center->resize >= size : random && random->size == size;
  if (!fits || steps_.size() != (flip ? 2u : 1u) || preprocess_.channel_order == ChannelOrder::gray ||
      image.channels != 3 || image.pixels.empty())
    return false;

  Rect source{0, 0, image.width, image.height}, window{0, 0, size, size};
  int64_t width = size, height = size;
  if (center) {
    std::tie(width, height) = detail::with_shorter_side(image.width, image.height, center->resize);
    window.x = detail::half_to_even(width - size), window.y = detail::half_to_even(height - size);
  } else {
    source = random->draw(image.width, image.height, generator);
  }
  detail::check_resize(image, source, width, height, window);
  const detail::NormalisedValues values(preprocess_.mean, preprocess_.stddev);
  ResizeArgs<float> args{.y = out, .values = values.of};
  args.mirrored = flip && generator.uniform() < flip->probability;
  if (preprocess_.channel_order == ChannelOrder::bgr) std::swap(args.from[0], args.from[2]);
  detail::resize_to(image, source, width, height, window, center ? center->interpolation : random->interpolation, args);
  return true;
}

TL_INLINE void Pipeline::operator()(Image image, float* out, uint64_t seed, uint64_t epoch, uint64_t index) const {
  if (run_fused(image, out, sample_generator(seed, epoch, index))) return;
  image = picture(std::move(image), seed, epoch, index);
  require<UsageError>(image.width == preprocess_.size && image.height == preprocess_.size,
                      "transforms: expected to end with ", preprocess_.size, " x ", preprocess_.size, ", got ",
                      image.width, " x ", image.height);
  to_float(image, preprocess_.mean, preprocess_.stddev, out, preprocess_.channel_order);
}

TL_INLINE Pipeline eval_transform(const Preprocess& preprocess) {
  return {preprocess, {ResizeCenterCrop{preprocess.resize_side(), preprocess.size, preprocess.interpolation}}};
}

TL_INLINE Pipeline train_transform(const Preprocess& preprocess, const AugmentOptions& options) {
  std::vector<Transform> steps;
  if (options.random_crop)
    steps.push_back(RandomResizedCrop{preprocess.size, options.scale, options.ratio, preprocess.interpolation});
  else steps.push_back(ResizeCenterCrop{preprocess.resize_side(), preprocess.size, preprocess.interpolation});
  if (options.flip > 0) steps.push_back(RandomHorizontalFlip{options.flip});
  const ColorJitter& jitter = options.jitter;
  if (jitter.brightness > 0 || jitter.contrast > 0 || jitter.saturation > 0 || jitter.hue > 0) steps.push_back(jitter);
  steps.insert(steps.end(), options.more.begin(), options.more.end());
  return {preprocess, std::move(steps)};
}

TL_INLINE Image to_image(const ImageView& view, const std::array<uint8_t, 3>& background) {
  struct Layout {
    int channels;
    bool reversed, floating;
  };
  static constexpr Layout kLayouts[] = {{3, false, false}, {3, true, false}, {4, false, false}, {4, true, false},
                                        {1, false, false}, {3, false, true}, {3, true, true},   {1, false, true}};
  const Layout layout = kLayouts[static_cast<size_t>(view.format)];
  constexpr int64_t kMost = 1 << 20;
  require<UsageError>(
      view.data != nullptr && view.width > 0 && view.height > 0 && view.width <= kMost && view.height <= kMost,
      "to_image: expected a pointer and a size of 1 to ", kMost, ", got ", view.width, " x ", view.height);
  const int64_t row_bytes = view.width * layout.channels * (layout.floating ? 4 : 1);
  const int64_t stride = view.stride_bytes == 0 ? row_bytes : view.stride_bytes;
  require<UsageError>(stride >= row_bytes, "to_image: expected a stride of at least ", row_bytes, " bytes, got ",
                      stride);

  Image packed(view.width, view.height, layout.channels);
  bool outside = false;
  for (int64_t y = 0; y < view.height; ++y) {
    const auto* in = static_cast<const uint8_t*>(view.data) + y * stride;
    uint8_t* out = packed.row(y);
    const int64_t count = view.width * layout.channels;
    if (!layout.floating) {
      std::copy_n(in, count, out);
    } else {
      for (int64_t i = 0; i < count; ++i) {
        float value;
        std::memcpy(&value, in + i * 4, 4);
        // Filters overshoot a little; more than that, or NaN, is another range.
        outside = outside || !(value > -0.5f && value < 1.5f);
        out[i] = value > 0 ? static_cast<uint8_t>(std::min(value * 255.0f, 255.0f) + 0.5f) : uint8_t{0};
      }
    }
    if (layout.reversed)
      for (int64_t x = 0; x < view.width; ++x) std::swap(out[x * layout.channels], out[x * layout.channels + 2]);
  }
  if (outside) {
    static std::atomic<bool> warned{false};
    if (!warned.exchange(true))
      warn(
          "to_image: the format says floats from 0 to 1, but some lie far outside: they were cut off. Hint: divide "
          "pictures of 0 to 255 by 255, or pass them as bytes.");
  }
  return to_rgb(std::move(packed), background);
}

}  // namespace tl::inline TL_ABI
