// Pictures: decoding of JPEG, PNG, BMP and PNM files, and encoding of PNG, JPEG and PPM.
#pragma once
#include <array>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "tl/core/config.hpp"

namespace tl::inline TL_ABI {

/// A picture of 8-bit samples, rows from top to bottom: `pixels` is [height, width, channels], RGB once loaded.
struct Image {
  int64_t width = 0, height = 0, channels = 3;
  std::vector<uint8_t> pixels;

  Image() = default;
  /// A black picture.
  Image(int64_t width_, int64_t height_, int64_t channels_ = 3)
      : width(width_),
        height(height_),
        channels(channels_),
        pixels(static_cast<size_t>(width_ * height_ * channels_)) {}

  uint8_t* row(int64_t y) { return pixels.data() + y * width * channels; }
  const uint8_t* row(int64_t y) const { return pixels.data() + y * width * channels; }
  friend bool operator==(const Image&, const Image&) = default;
};

struct ImageOptions {
  int64_t max_pixels = 100'000'000;                     ///< width * height, read from the header before decoding
  int64_t max_file_bytes = 512 << 20;                   ///< of the file
  std::array<uint8_t, 3> background = {255, 255, 255};  ///< what shows through transparency
  bool apply_orientation = true;                        ///< turn as the EXIF orientation says
};

/// Decodes a picture to RGB.
///
/// Read are JPEG (baseline and progressive; grey, YCbCr, RGB, CMYK), PNG (all colour types, 1 to 16 bits), BMP
/// (uncompressed) and PNM (P2, P3, P5, P6). Grey becomes three equal channels, of 16 bits the upper 8 stay, palettes
/// are resolved, and alpha (of a channel, a palette or a transparent colour) is composited:
///     out = (alpha * colour + (255 - alpha) * background) / 255, rounded.
/// Before anything is decoded the file is walked from start to end: a truncated file is refused, not filled with grey.
/// `name` stands in error messages.
/// JPEGs are decoded by stb_image, or, where TL_WITH_JPEG_TURBO is defined and the program links it, by libjpeg-turbo,
/// which is faster and gives Pillow's bytes; the two differ by a few levels where colour is interpolated.
/// Errors: FormatError (broken, too large, or of another format, which is named); IoError if it cannot be read.
/// Pillow: `ImageOps.exif_transpose(Image.open(path))` over a background.
Image load_image(const std::string& path, const ImageOptions& options = {});
Image decode_image(std::span<const uint8_t> bytes, const std::string& name, const ImageOptions& options = {});

/// What decodes JPEGs here: "stb" or "libjpeg-turbo".
std::string_view jpeg_decoder();

/// RGB from a picture with 1 channel (grey), 2 (grey, alpha), 3 or 4 (RGB, alpha), composited over `background`.
/// Errors: UsageError for another number of channels, or pixels that do not fill the size.
Image to_rgb(Image image, const std::array<uint8_t, 3>& background = {255, 255, 255});

/// Encodes a picture with 1 channel (grey), 3 (RGB) or, in PNG, 4 (RGBA). `quality` is from 1 to 100.
/// Errors: UsageError for an empty picture or another number of channels.
std::string encode_png(const Image& image);
std::string encode_jpeg(const Image& image, int quality = 90);
std::string encode_ppm(const Image& image);

/// Writes a picture, atomically (see write_atomically). Errors: also IoError.
void save_png(const std::string& path, const Image& image);
void save_jpeg(const std::string& path, const Image& image, int quality = 90);
void save_ppm(const std::string& path, const Image& image);

/// Luma of a pixel, (19595 R + 38470 G + 7471 B) / 65536 rounded: the grey of Pillow's `convert("L")`.
constexpr uint8_t luma(int red, int green, int blue) {
  return static_cast<uint8_t>((19595 * red + 38470 * green + 7471 * blue + 0x8000) >> 16);
}

}  // namespace tl::inline TL_ABI

#if TL_HEADER_ONLY
#include "tl/io/image.inl"
#endif
