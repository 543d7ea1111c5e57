// From pictures to the numbers that a network reads: the field's transforms, and the input contract of a model.
#pragma once
#include <array>
#include <cstdint>
#include <functional>
#include <string>
#include <string_view>
#include <vector>

#include "tl/core/config.hpp"
#include "tl/core/random.hpp"
#include "tl/data/resize.hpp"
#include "tl/io/image.hpp"

namespace tl::inline TL_ABI {

/// A step from picture to picture. Random steps draw from `generator` alone, so that a sample's transforms depend on
/// what seeded it and on nothing else.
using Transform = std::function<Image(Image image, Generator& generator)>;

/// Makes the shorter side `side` long and keeps the ratio: the longer one is int(side * long / short).
/// torchvision: `Resize(side, interpolation)` on a PIL picture, byte for byte.
struct Resize {
  int64_t side = 256;
  Interpolation interpolation = Interpolation::bilinear;
  Image operator()(Image image, Generator& generator) const;
};

/// Makes a picture exactly `width` x `height`, whatever its ratio. torchvision: `Resize((height, width))`.
struct ResizeTo {
  int64_t width = 224, height = 224;
  Interpolation interpolation = Interpolation::bilinear;
  Image operator()(Image image, Generator& generator) const;
};

/// Keeps the central `size` x `size` pixels; a smaller picture is padded with black.
/// The offset is (long - size) / 2, halves rounded to even. torchvision: `CenterCrop(size)`.
struct CenterCrop {
  int64_t size = 224;
  Image operator()(Image image, Generator& generator) const;
};

/// Resize{resize} and CenterCrop{size} in one: the same bytes, but only the kept ones are computed.
struct ResizeCenterCrop {
  int64_t resize = 256, size = 224;
  Interpolation interpolation = Interpolation::bilinear;
  Image operator()(Image image, Generator& generator) const;
};

/// A random part of the picture, `scale` of its area and of a width to height `ratio` (drawn log-uniformly), resized to
/// `size` x `size`. After ten draws that do not fit, the central part with the nearest ratio.
/// Paper: Szegedy et al., "Going deeper with convolutions", CVPR 2015. torchvision: `RandomResizedCrop`.
struct RandomResizedCrop {
  int64_t size = 224;
  std::array<double, 2> scale = {0.08, 1.0}, ratio = {3.0 / 4.0, 4.0 / 3.0};
  Interpolation interpolation = Interpolation::bilinear;
  Rect draw(int64_t width, int64_t height, Generator& generator) const;
  Image operator()(Image image, Generator& generator) const;
};

/// Mirrors left and right with a probability. torchvision: `RandomHorizontalFlip`.
struct RandomHorizontalFlip {
  double probability = 0.5;
  Image operator()(Image image, Generator& generator) const;
};

/// Changes brightness, contrast and saturation by a factor from [max(0, 1 - v), 1 + v], and the hue by up to `hue` of a
/// turn (at most 0.5), in random order. A strength of 0 leaves its step out. torchvision: `ColorJitter`.
struct ColorJitter {
  double brightness = 0, contrast = 0, saturation = 0, hue = 0;
  Image operator()(Image image, Generator& generator) const;
};

/// The steps of ColorJitter with a given factor, on RGB.
/// Pillow: `ImageEnhance`, torchvision: `adjust_hue`, byte for byte.
Image adjust_brightness(Image image, double factor);
Image adjust_contrast(Image image, double factor);
Image adjust_saturation(Image image, double factor);
Image adjust_hue(Image image, double turn);
Image flip_horizontally(Image image);

/// Between the picture smoothed (0), itself (1) and beyond. Pillow: `ImageEnhance.Sharpness`.
Image adjust_sharpness(const Image& image, double factor);

/// Which samples a network reads for each pixel, in order.
enum class ChannelOrder : uint8_t { rgb, bgr, gray };

std::string_view name_of(Interpolation interpolation);
std::string_view name_of(ChannelOrder order);
/// Errors: UsageError for an unknown name.
Interpolation parse_interpolation(std::string_view name);
ChannelOrder parse_channel_order(std::string_view name);

/// What a network expects of its input; saved with it, so that nobody has to know.
struct Preprocess {
  int64_t size = 224;            ///< width and height of the input
  int64_t resize = 0;            ///< shorter side before the central crop; 0: floor(size / crop_fraction)
  double crop_fraction = 0.875;  ///< used if resize is 0
  Interpolation interpolation = Interpolation::bilinear;
  ChannelOrder channel_order = ChannelOrder::rgb;
  std::array<float, 3> mean = {0.485f, 0.456f, 0.406f};  ///< of samples scaled to 0 ... 1, in channel order
  std::array<float, 3> stddev = {0.229f, 0.224f, 0.225f};

  int64_t channels() const { return channel_order == ChannelOrder::gray ? 1 : 3; }
  int64_t resize_side() const {
    return resize > 0 ? resize : static_cast<int64_t>(static_cast<double>(size) / crop_fraction);
  }
  int64_t numel() const { return size * size * channels(); }
  /// Throws a UsageError unless all sizes, fractions and deviations can be meant.
  void check() const;
  friend bool operator==(const Preprocess&, const Preprocess&) = default;
};

/// Writes a picture as normalised floats [height, width, channels]: out = (sample / 255 - mean) / stddev, in `order`.
/// torchvision: `Normalize(mean, std)(to_tensor(image))` in another layout, bit for bit.
void to_float(const Image& image, const std::array<float, 3>& mean, const std::array<float, 3>& stddev, float* out,
              ChannelOrder order = ChannelOrder::rgb);

/// Steps from picture to picture, then normalisation: one sample of a batch.
class Pipeline {
 public:
  /// Errors: UsageError if `preprocess` cannot be meant.
  Pipeline(Preprocess preprocess, std::vector<Transform> steps);

  const Preprocess& preprocess() const { return preprocess_; }

  /// The same with one more step at its end.
  Pipeline then(Transform step) const;

  /// The picture that the network will see. Randomness comes from (seed, epoch, index) alone.
  Image picture(Image image, uint64_t seed = 0, uint64_t epoch = 0, uint64_t index = 0) const;

  /// Writes that picture, normalised, to `out` [size, size, channels]; in one pass, where the steps are only
  /// ResizeCenterCrop or RandomResizedCrop and a flip.
  /// Errors: UsageError if the steps end with a picture of another size.
  void operator()(Image image, float* out, uint64_t seed = 0, uint64_t epoch = 0, uint64_t index = 0) const;

  /// A hash of the input contract and of the steps with their options. Steps of your own, whose options nobody knows,
  /// all count as equal.
  uint64_t fingerprint() const;
  /// Whether there is a step of your own.
  bool has_own_steps() const;
  /// Whether (seed, epoch, index) can make a difference: not if all steps are known and none draws random numbers.
  bool is_random() const;

 private:
  bool run_fused(const Image& image, float* out, Generator generator) const;

  Preprocess preprocess_;
  std::vector<Transform> steps_;
};

/// Resize and central crop: the same for every epoch and seed.
Pipeline eval_transform(const Preprocess& preprocess);

struct AugmentOptions {
  bool random_crop = true;  ///< RandomResizedCrop; otherwise as eval_transform
  std::array<double, 2> scale = {0.08, 1.0}, ratio = {3.0 / 4.0, 4.0 / 3.0};
  double flip = 0.5;  ///< probability
  ColorJitter jitter = {};
  std::vector<Transform> more = {};  ///< your own, last
};

/// Random crop, flip and colour jitter.
Pipeline train_transform(const Preprocess& preprocess, const AugmentOptions& options = {});

/// The generator of a sample's randomness. Two samples, or two epochs, never share a stream.
Generator sample_generator(uint64_t seed, uint64_t epoch, uint64_t index);

/// How the samples of a picture in memory lie: bytes, or floats from 0 to 1.
enum class PixelFormat : uint8_t { rgb8, bgr8, rgba8, bgra8, gray8, rgb_f32, bgr_f32, gray_f32 };

/// A picture in memory that belongs to another library, rows from top to bottom.
struct ImageView {
  const void* data = nullptr;
  int64_t width = 0, height = 0;
  int64_t stride_bytes = 0;  ///< from row to row; 0: rows follow each other without a gap
  PixelFormat format = PixelFormat::rgb8;
};

/// A copy as RGB; alpha is composited over `background`. Floats are rounded to the nearest of 0/255 ... 255/255.
/// If some lie far outside of 0 ... 1, probably because they are meant as 0 ... 255, that is warned of once.
/// Errors: UsageError for a null pointer, an empty size, or a stride shorter than a row.
Image to_image(const ImageView& view, const std::array<uint8_t, 3>& background = {255, 255, 255});

}  // namespace tl::inline TL_ABI

#if TL_HEADER_ONLY
#include "tl/data/transforms.inl"
#endif
