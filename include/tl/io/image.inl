// Definitions of image.hpp.
#pragma once
#include <algorithm>
#include <bit>
#include <cctype>
#include <cstring>
#include <new>
#include <string_view>
#include <utility>

#include "tl/core/error.hpp"
#include "tl/io/file.hpp"
#include "tl/io/image.hpp"
#include "tl/io/inflate.hpp"
#include "tl/io/stb.inl"
#if defined(TL_WITH_JPEG_TURBO)
#include "tl/io/turbo.inl"
#endif

namespace tl::inline TL_ABI {
namespace detail {

/// Reads numbers from a file's bytes; reading past the end is a FormatError.
class ByteReader {
 public:
  ByteReader(std::span<const uint8_t> bytes, const std::string& name, const char* part)
      : bytes_(bytes), name_(name), part_(part) {}

  size_t position() const { return position_; }
  size_t left() const { return bytes_.size() - position_; }
  bool at_end() const { return left() == 0; }

  void seek(size_t position) {
    position_ = bytes_.size();
    check(position <= bytes_.size(), "the file ends too early");
    position_ = position;
  }
  void skip(size_t count) {
    check(count <= left(), "the file ends too early");
    position_ += count;
  }
  std::span<const uint8_t> take(size_t count) {
    skip(count);
    return bytes_.subspan(position_ - count, count);
  }

  uint8_t u8() { return take(1)[0]; }
  uint32_t u16_big() { return big(2); }
  uint32_t u32_big() { return big(4); }
  uint32_t u16_little() { return little(2); }
  uint32_t u32_little() { return little(4); }

  /// Throws a FormatError at the present position unless the condition holds.
  template <class... Parts>
  void check(bool condition, const Parts&... what) const {
    if (!condition) [[unlikely]]
      throw FormatError(name_, part_, position_, text(what...));
  }

  /// Checks a header's size against the pixel budget.
  void check_size(int64_t width, int64_t height, const ImageOptions& options) const {
    check(width > 0 && height > 0, "an empty picture of ", width, " x ", height);
    check(width <= options.max_pixels / height, "a picture of ", width, " x ", height,
          " is over the limit of max_pixels = ", options.max_pixels);
  }

 private:
  uint32_t big(size_t count) {
    uint32_t value = 0;
    for (const uint8_t byte : take(count)) value = value << 8 | byte;
    return value;
  }
  uint32_t little(size_t count) {
    uint32_t value = 0;
    int shift = 0;
    for (const uint8_t byte : take(count)) value |= uint32_t{byte} << shift, shift += 8;
    return value;
  }

  std::span<const uint8_t> bytes_;
  const std::string& name_;
  const char* part_;
  size_t position_ = 0;
};

/// The orientation, 1 to 8, in a block of EXIF data; 1 if there is none or the block is broken, which is no reason to
/// refuse the picture. Only the first directory is read, once, so that no chain of offsets can loop.
TL_INLINE int exif_orientation(std::span<const uint8_t> tiff) {
  if (tiff.size() < 8) return 1;
  const bool big = tiff[0] == 'M';
  const auto number = [&](size_t at, size_t count) -> uint64_t {
    if (at > tiff.size() || tiff.size() - at < count) return 0;
    uint64_t value = 0;
    for (size_t i = 0; i < count; ++i) value = value << 8 | tiff[at + (big ? i : count - 1 - i)];
    return value;
  };
  if (tiff[0] != tiff[1] || (tiff[0] != 'M' && tiff[0] != 'I') || number(2, 2) != 42) return 1;
  const uint64_t directory = number(4, 4), entries = number(directory, 2);
  constexpr uint64_t kOrientation = 0x0112, kShort = 3;
  for (uint64_t i = 0; i < entries; ++i) {
    const size_t entry = directory + 2 + 12 * i;
    if (number(entry, 2) != kOrientation) continue;
    const uint64_t value = number(entry + 8, 2);
    return number(entry + 2, 2) == kShort && value >= 1 && value <= 8 ? static_cast<int>(value) : 1;
  }
  return 1;
}

/// The picture as it is meant to be seen: EXIF orientations 1 to 8.
TL_INLINE Image oriented(Image image, int orientation) {
  if (orientation == 1) return image;
  const bool transposed = orientation >= 5;
  const bool flip_x = orientation == 2 || orientation == 3 || orientation >= 7;
  const bool flip_y = orientation == 3 || orientation == 4 || orientation == 6 || orientation == 7;
  Image out(transposed ? image.height : image.width, transposed ? image.width : image.height, image.channels);
  for (int64_t y = 0; y < out.height; ++y) {
    uint8_t* to = out.row(y);
    for (int64_t x = 0; x < out.width; ++x) {
      const int64_t from_x = transposed ? y : x, from_y = transposed ? x : y;
      const uint8_t* from = image.row(flip_y ? image.height - 1 - from_y : from_y) +
                            (flip_x ? image.width - 1 - from_x : from_x) * image.channels;
      for (int64_t c = 0; c < image.channels; ++c) *to++ = from[c];
    }
  }
  return out;
}

/// What the walk over a file's structure found, before anything is decoded.
struct ImageHeader {
  int64_t width = 0, height = 0;
  int orientation = 1;
  size_t components = 0;  ///< of a JPEG
};

/// Where a JPEG's entropy-coded data ends: it holds 0xff only before a zero or a restart marker.
TL_INLINE size_t scan_end(std::span<const uint8_t> bytes, size_t at) {
  for (; at < bytes.size(); at += 2) {
    const void* found = std::memchr(&bytes[at], 0xff, bytes.size() - at);
    if (!found) break;
    at = static_cast<size_t>(static_cast<const uint8_t*>(found) - bytes.data());
    if (at + 1 == bytes.size()) break;
    const uint8_t next = bytes[at + 1];
    if (next != 0 && (next < 0xd0 || next > 0xd7)) return at;
  }
  return bytes.size();
}

/// Walks a JPEG from marker to marker, and refuses what stb would decode to grey: a file without a scan for each
/// component, without an end, or with too little data for its size.
TL_INLINE ImageHeader walk_jpeg(std::span<const uint8_t> bytes, const std::string& name, const ImageOptions& options) {
  ByteReader reader(bytes, name, "JPEG");
  ImageHeader header;
  std::array<uint8_t, 4> components{};
  std::array<bool, 4> scanned{};
  size_t component_count = 0;
  int64_t scan_bytes = 0;
  reader.skip(2);
  for (;;) {
    reader.check(!reader.at_end(), "the end of image marker is missing: the file is truncated");
    if (reader.u8() != 0xff) continue;  // stb, as everybody, passes over stray bytes between segments
    uint8_t marker = 0xff;
    while (marker == 0xff && !reader.at_end()) marker = reader.u8();
    if (marker == 0xd9) break;
    if (marker == 0x00 || marker == 0x01 || marker == 0xff || (marker >= 0xd0 && marker <= 0xd8)) continue;

    const uint32_t length = reader.u16_big();
    reader.check(length >= 2, "a segment of length ", length);
    const size_t start = reader.position();
    ByteReader segment(reader.take(length - 2), name, "JPEG");
    if (marker >= 0xc0 && marker <= 0xcf && marker != 0xc4 && marker != 0xc8 && marker != 0xcc) {
      reader.check(marker <= 0xc2, "a lossless, hierarchical or arithmetic JPEG is not supported");
      reader.check(component_count == 0, "a second frame");
      reader.check(segment.u8() == 8, "only 8 bits a sample are supported");
      header.height = segment.u16_big();
      header.width = segment.u16_big();
      reader.check_size(header.width, header.height, options);
      component_count = segment.u8();
      reader.check(component_count == 1 || component_count == 3 || component_count == 4, "a picture of ",
                   component_count, " components");
      for (size_t i = 0; i < component_count; ++i) {
        components[i] = segment.u8();
        segment.skip(2);
      }
    } else if (marker == 0xc4) {
      // Huffman tables: stb writes past its own when a table has more than 256 codes.
      while (!segment.at_end()) {
        segment.skip(1);
        size_t codes = 0;
        for (const uint8_t of_length : segment.take(16)) codes += of_length;
        reader.check(codes <= 256, "a Huffman table of ", codes, " codes");
        segment.skip(codes);
      }
    } else if (marker == 0xda) {
      reader.check(component_count > 0, "a scan before the frame's header");
      const int count = segment.u8();
      for (int i = 0; i < count; ++i) {
        const uint8_t id = segment.u8();
        segment.skip(1);
        for (size_t c = 0; c < component_count; ++c) scanned[c] = scanned[c] || components[c] == id;
      }
      const size_t end = scan_end(bytes, reader.position());
      scan_bytes += static_cast<int64_t>(end - reader.position());
      reader.seek(end);
    } else if (marker == 0xe1 && length >= 8 && std::memcmp(&bytes[start], "Exif\0\0", 6) == 0) {
      header.orientation = exif_orientation(bytes.subspan(start + 6, length - 8));
    }
  }
  reader.check(component_count > 0, "there is no frame header");
  for (size_t c = 0; c < component_count; ++c) reader.check(scanned[c], "there is no scan: the file holds no picture");
  const int64_t blocks = ((header.width + 7) / 8) * ((header.height + 7) / 8);
  reader.check(scan_bytes * 8 >= blocks, "a picture of ", header.width, " x ", header.height, " does not fit in ",
               scan_bytes, " bytes of data: the file is truncated");
  header.components = component_count;
  return header;
}

struct PngHeader : ImageHeader {
  bool indexed = false;
  size_t colors = 0;        // that the bit depth allows
  size_t palette_at = 0;    // of the palette's chunk
  size_t palette_size = 0;  // colours that it holds
};

/// Walks a PNG from chunk to chunk: lengths, checksums, order, and the end.
TL_INLINE PngHeader walk_png(std::span<const uint8_t> bytes, const std::string& name, const ImageOptions& options) {
  ByteReader reader(bytes, name, "PNG");
  PngHeader header;
  int64_t row_bits = 0, data_bytes = 0;
  reader.skip(8);
  for (bool first = true;; first = false) {
    reader.check(reader.left() >= 12, "the IEND chunk is missing: the file is truncated");
    const size_t start = reader.position();
    const uint32_t length = reader.u32_big();
    reader.check(length <= reader.left() && reader.left() - length >= 8, "a chunk of ", length,
                 " bytes reaches over the file's end: the file is truncated");
    const auto checked = reader.take(4 + size_t{length});
    const std::string_view kind(reinterpret_cast<const char*>(checked.data()), 4);
    reader.check(reader.u32_big() == crc32(checked), "the checksum of the ",
                 std::all_of(kind.begin(), kind.end(), [](unsigned char c) { return std::isalpha(c); }) ? kind : "?",
                 " chunk does not match");
    ByteReader chunk(checked.subspan(4), name, "PNG");
    if (first) {
      reader.check(kind == "IHDR" && length == 13, "the IHDR chunk must come first");
      header.width = chunk.u32_big();
      header.height = chunk.u32_big();
      reader.check_size(header.width, header.height, options);
      const int depth = chunk.u8(), color = chunk.u8();
      reader.check(color == 0 || color == 2 || color == 3 || color == 4 || color == 6, "an unknown colour type ",
                   color);
      reader.check(std::has_single_bit(static_cast<unsigned>(depth)) && depth <= (color == 3 ? 8 : 16) &&
                       (depth >= 8 || color == 0 || color == 3),
                   "a depth of ", depth, " bits is not allowed with colour type ", color);
      reader.check(chunk.u8() == 0 && chunk.u8() == 0 && chunk.u8() <= 1,
                   "an unknown compression, filter or interlace");
      header.indexed = color == 3;
      header.colors = header.indexed ? size_t{1} << depth : 0;
      row_bits = header.width * depth * (color == 2 ? 3 : color == 4 ? 2 : color == 6 ? 4 : 1);
    } else if (kind == "PLTE") {
      reader.check(length % 3 == 0 && length <= 768, "a palette of ", length, " bytes");
      header.palette_at = start;
      header.palette_size = length / 3;
    } else if (kind == "IDAT") {
      data_bytes += length;
    } else if (kind == "eXIf") {
      header.orientation = exif_orientation(checked.subspan(4));
    } else if (kind == "IEND") {
      break;
    }
  }
  // Deflate's best ratio is 1032 to 1.
  reader.check((row_bits + 7) / 8 * header.height <= data_bytes * 1032, "a picture of ", header.width, " x ",
               header.height, " does not fit in ", data_bytes, " bytes of data");
  return header;
}

/// The same PNG with its palette filled up with black: stb would read colours beyond its end from memory that was never
/// written. Checksums are left as they are, since stb does not read them.
TL_INLINE std::vector<uint8_t> with_full_palette(std::span<const uint8_t> bytes, const PngHeader& header) {
  const size_t insert_at = header.palette_at + 8 + 3 * header.palette_size;
  std::vector<uint8_t> out(bytes.begin(), bytes.end());
  out.insert(out.begin() + static_cast<int64_t>(insert_at), 3 * (header.colors - header.palette_size), uint8_t{0});
  const size_t length = 3 * header.colors;
  out[header.palette_at + 2] = static_cast<uint8_t>(length >> 8);
  out[header.palette_at + 3] = static_cast<uint8_t>(length);
  return out;
}

/// Decodes what has passed its walk, as RGB or with the channels of the file. stb may use 40 bytes for each of `area`
/// pixels: in a PNG 8 of 16-bit samples, the same inflated, in a buffer that doubles; in a JPEG 3 for each of 4
/// components, and the result.
TL_INLINE Image decode_by_stb(std::span<const uint8_t> bytes, const std::string& name, const char* part,
                              const ImageHeader& header, int64_t area, bool as_rgb) {
  const auto broken = [&](const char* why) { return FormatError(name, part, 0, text("cannot be decoded: ", why)); };
  StbArena arena(static_cast<size_t>(area) * 40 + 2 * bytes.size() + (size_t{1} << 22));
  try {
    int width = 0, height = 0, channels = 0;
    const uint8_t* pixels = stb::stbi_load_from_memory(bytes.data(), static_cast<int>(bytes.size()), &width, &height,
                                                       &channels, as_rgb ? 4 : 0);
    if (!pixels) throw broken(stb::stbi_failure_reason());
    if (width != header.width || height != header.height) throw broken("its size is not the header's");
    Image image(width, height, as_rgb ? 3 : channels);
    if (as_rgb) {
      // stb converts colours by vector instructions only if it has four bytes to write for each pixel; the fourth holds
      // nothing. Each pixel but the last is moved with it, since the next one comes on top.
      uint8_t* out = image.pixels.data();
      for (int64_t left = header.width * header.height; left > 1; --left, out += 3, pixels += 4)
        std::memcpy(out, pixels, 4);
      std::memcpy(out, pixels, 3);
    } else {
      std::memcpy(image.pixels.data(), pixels, image.pixels.size());
    }
    return image;
  } catch (const StbAssertion&) {
    throw broken("contradictory data");
  } catch (const std::bad_alloc&) {
    throw broken("it needs more memory than a picture of its size");
  }
}

TL_INLINE Image decode_jpeg(std::span<const uint8_t> bytes, const std::string& name, const ImageOptions& options) {
  const ImageHeader header = walk_jpeg(bytes, name, options);
#if defined(TL_WITH_JPEG_TURBO)
  // Four components may be CMYK or YCCK, inverted or not; stb's reading of them stays the only one.
  if (uses_turbo() && header.components < 4) {
    Image image(header.width, header.height);
    TurboErrors errors;
    if (!turbo_to_rgb(bytes, header.width, header.height, image.pixels.data(), errors))
      throw FormatError(name, "JPEG", 0, text("cannot be decoded: ", errors.message));
    return options.apply_orientation ? oriented(std::move(image), header.orientation) : image;
  }
#endif
  const auto in_blocks = [](int64_t size) { return (size + 31) / 32 * 32; };  // of 8 x 8, up to four a side
  const int64_t area = in_blocks(header.width) * in_blocks(header.height);
  Image image = decode_by_stb(bytes, name, "JPEG", header, area, true);
  return options.apply_orientation ? oriented(std::move(image), header.orientation) : image;
}

TL_INLINE Image decode_png(std::span<const uint8_t> bytes, const std::string& name, const ImageOptions& options) {
  const PngHeader header = walk_png(bytes, name, options);
  std::vector<uint8_t> filled;
  if (header.indexed && header.palette_at && header.palette_size < header.colors)
    bytes = filled = with_full_palette(bytes, header);
  const int64_t area = header.width * header.height;
  Image image = to_rgb(decode_by_stb(bytes, name, "PNG", header, area, false), options.background);
  return options.apply_orientation ? oriented(std::move(image), header.orientation) : image;
}

/// A channel of a BMP pixel: the bits under a mask, stretched to 0 ... 255.
struct BitField {
  uint32_t mask = 0;
  uint8_t of(uint32_t pixel) const {
    const uint64_t value = (pixel & mask) >> std::countr_zero(mask), most = mask >> std::countr_zero(mask);
    return static_cast<uint8_t>((value * 255 + most / 2) / most);
  }
  bool is_contiguous() const {
    return mask == 0 || std::has_single_bit((uint64_t{mask} >> std::countr_zero(mask)) + 1);
  }
};

/// BMP is read here and not by stb, which returns unwritten pixels of truncated files and of short palettes.
TL_INLINE Image decode_bmp(std::span<const uint8_t> bytes, const std::string& name, const ImageOptions& options) {
  ByteReader reader(bytes, name, "BMP");
  reader.seek(10);
  const uint32_t data_at = reader.u32_little(), header_size = reader.u32_little();
  reader.check(header_size == 12 || (header_size >= 40 && header_size <= 124), "an unknown header of ", header_size,
               " bytes");
  const bool old = header_size == 12;
  const auto size = [&] {
    return old ? int64_t{reader.u16_little()} : int64_t{static_cast<int32_t>(reader.u32_little())};
  };
  const int64_t width = size(), signed_height = size();
  const int64_t height = signed_height < 0 ? -signed_height : signed_height;
  reader.check_size(width, height, options);
  reader.skip(2);
  const uint32_t depth = reader.u16_little(), compression = old ? 0 : reader.u32_little();
  reader.check(depth == 1 || depth == 4 || depth == 8 || depth == 16 || depth == 24 || depth == 32, "a depth of ",
               depth, " bits");
  const bool masked = (compression == 3 || compression == 6) && (depth == 16 || depth == 32);
  reader.check(compression == 0 || masked, "compressed pixels (kind ", compression, ") are not supported");

  std::array<BitField, 4> fields{};  // red, green, blue, alpha
  if (depth == 16) fields = {{{0x7c00}, {0x03e0}, {0x001f}, {0}}};
  if (depth == 24 || depth == 32) fields = {{{0xff0000}, {0x00ff00}, {0x0000ff}, {0}}};
  if (masked) {
    reader.seek(14 + 40);
    const size_t count = header_size >= 56 || compression == 6 ? 4 : 3;
    for (size_t i = 0; i < count; ++i) fields[i].mask = reader.u32_little();
    for (size_t i = 0; i < 4; ++i) reader.check(fields[i].is_contiguous(), "a colour mask with holes");
    for (size_t i = 0; i < 3; ++i) reader.check(fields[i].mask != 0, "an empty colour mask");
  }
  std::array<std::array<uint8_t, 3>, 256> palette{};
  if (depth <= 8) {
    const size_t palette_at = 14 + size_t{header_size}, entry = old ? 3 : 4;
    reader.check(data_at >= palette_at, "the pixels lie over the header");
    const size_t colors = std::min({(data_at - palette_at) / entry, size_t{1} << depth});
    reader.seek(palette_at);
    for (size_t i = 0; i < colors; ++i) {
      const auto color = reader.take(entry);
      palette[i] = {color[2], color[1], color[0]};
    }
  }

  reader.seek(data_at);
  const int64_t row_bytes = (width * depth + 31) / 32 * 4;
  reader.check(height <= static_cast<int64_t>(reader.left()) / row_bytes,
               "the pixels end too early: the file is truncated");
  Image image(width, height, 4);
  bool visible = false;
  for (int64_t i = 0; i < height; ++i) {
    const auto row = reader.take(static_cast<size_t>(row_bytes));
    uint8_t* out = image.row(signed_height < 0 ? i : height - 1 - i);
    for (int64_t x = 0; x < width; ++x, out += 4) {
      if (depth <= 8) {
        const auto bit = static_cast<size_t>(x * depth);
        const auto& color = palette[(row[bit / 8] >> (8 - depth - bit % 8)) & ((1u << depth) - 1)];
        std::copy(color.begin(), color.end(), out);
      } else {
        uint32_t pixel = 0;
        for (uint32_t b = 0; b < depth / 8; ++b)
          pixel |= uint32_t{row[static_cast<size_t>(x) * (depth / 8) + b]} << (8 * b);
        for (size_t c = 0; c < 3; ++c) out[c] = fields[c].of(pixel);
        out[3] = fields[3].mask ? fields[3].of(pixel) : uint8_t{255};
        visible = visible || out[3] != 0;
      }
    }
  }
  // An alpha channel that is zero everywhere was never meant: many programs leave it unset.
  const bool has_alpha = fields[3].mask != 0 && visible;
  if (!has_alpha)
    for (size_t i = 3; i < image.pixels.size(); i += 4) image.pixels[i] = 255;
  return to_rgb(std::move(image), options.background);
}

/// PGM and PPM, in text (P2, P3) and binary (P5, P6); values are scaled by the largest one that the header declares.
TL_INLINE Image decode_pnm(std::span<const uint8_t> bytes, const std::string& name, const ImageOptions& options) {
  ByteReader reader(bytes, name, "PNM");
  const int kind = bytes[1] - '0';
  const bool plain = kind <= 3, grey = kind == 2 || kind == 5;
  reader.skip(2);
  const auto number = [&] {
    uint8_t c = reader.u8();
    while (std::isspace(c) || c == '#') {
      if (c == '#')
        while (c != '\n') c = reader.u8();
      c = reader.u8();
    }
    int64_t value = 0;
    reader.check(std::isdigit(c) != 0, "expected a number");
    while (std::isdigit(c)) {
      value = value * 10 + (c - '0');
      reader.check(value <= INT32_MAX, "a number that is too large");
      if (reader.at_end()) break;
      c = reader.u8();
    }
    return value;
  };
  const int64_t width = number(), height = number(), largest = number();
  reader.check_size(width, height, options);
  reader.check(largest >= 1 && largest <= 65535, "a largest value of ", largest);
  const int64_t channels = grey ? 1 : 3, bytes_each = plain ? 2 : largest > 255 ? 2 : 1;
  // In text each sample takes a digit and a space.
  reader.check(width * height * channels * bytes_each <= static_cast<int64_t>(reader.left()) + (plain ? 1 : 0),
               "the pixels end too early: the file is truncated");
  Image image(width, height, channels);
  for (uint8_t& sample : image.pixels) {
    const int64_t value = plain ? number() : largest > 255 ? reader.u16_big() : reader.u8();
    sample = static_cast<uint8_t>((std::min(value, largest) * 255 + largest / 2) / largest);
  }
  return to_rgb(std::move(image), options.background);
}

/// The name of a format that tl does not read, for error messages; empty if nothing is known.
TL_INLINE std::string_view foreign_format(std::string_view bytes) {
  struct Signature {
    size_t at;
    std::string_view bytes, name;
  };
  using namespace std::string_view_literals;
  static constexpr Signature kSignatures[] = {
      {0, "GIF8"sv, "GIF"},
      {8, "WEBP"sv, "WebP"},
      {0, "II*\0"sv, "TIFF"},
      {0, "MM\0*"sv, "TIFF"},
      {4, "ftypavif"sv, "AVIF"},
      {4, "ftyphei"sv, "HEIC"},
      {4, "ftypmif1"sv, "HEIC"},
      {0, "\xff\x0a"sv, "JPEG XL"},
      {4, "JXL "sv, "JPEG XL"},
      {4, "jP  "sv, "JPEG 2000"},
      {0, "8BPS"sv, "Photoshop"},
      {0, "\0\0\1\0"sv, "ICO"},
      {0, "P1"sv, "a PBM bitmap"},
      {0, "P4"sv, "a PBM bitmap"},
      {0, "%PDF"sv, "PDF"},
      {0, "<svg"sv, "SVG"},
      {0, "<?xml"sv, "XML"},
      {0, "<!DOCTYPE"sv, "a web page"},
      {0, "<html"sv, "a web page"},
      {0, "\x1f\x8b"sv, "gzip"},
      {0, "PK\3\4"sv, "a zip archive"},
      {0, "version https://git-lfs"sv, "a Git LFS pointer: run `git lfs pull`"},
  };
  for (const Signature& signature : kSignatures)
    if (bytes.size() >= signature.at && bytes.substr(signature.at).starts_with(signature.bytes)) return signature.name;
  return {};
}

TL_INLINE void check_encodable(const Image& image, const char* operation, int64_t most_channels) {
  require<UsageError>(image.width > 0 && image.height > 0 && image.width <= 1 << 20 && image.height <= 1 << 20 &&
                          (image.channels == 1 || image.channels == 3 || image.channels == most_channels) &&
                          static_cast<int64_t>(image.pixels.size()) == image.width * image.height * image.channels,
                      operation, ": expected [height, width, channels] pixels with 1 or 3 channels, got ",
                      image.pixels.size(), " bytes for [", image.height, ", ", image.width, ", ", image.channels, "]");
}

TL_INLINE void append_bytes(void* out, void* data, int size) {
  static_cast<std::string*>(out)->append(static_cast<const char*>(data), static_cast<size_t>(size));
}

TL_INLINE void save(const std::string& path, const std::string& bytes) {
  write_atomically(path, [&](FileWriter& file) { file.write(bytes); });
}

}  // namespace detail

TL_INLINE std::string_view jpeg_decoder() {
#if defined(TL_WITH_JPEG_TURBO)
  if (detail::uses_turbo()) return "libjpeg-turbo";
#endif
  return "stb";
}

TL_INLINE Image to_rgb(Image image, const std::array<uint8_t, 3>& background) {
  const int64_t channels = image.channels;
  require<UsageError>(channels >= 1 && channels <= 4 && image.width >= 0 && image.height >= 0 &&
                          static_cast<int64_t>(image.pixels.size()) == image.width * image.height * channels,
                      "to_rgb: expected [height, width, channels] pixels with 1 to 4 channels, got ",
                      image.pixels.size(), " bytes for [", image.height, ", ", image.width, ", ", channels, "]");
  if (channels == 3) return image;
  Image rgb(image.width, image.height);
  const uint8_t* in = image.pixels.data();
  const bool grey = channels <= 2, alpha = channels % 2 == 0;
  for (size_t i = 0; i < rgb.pixels.size(); i += 3, in += channels) {
    const int opacity = alpha ? in[channels - 1] : 255;
    for (size_t c = 0; c < 3; ++c)
      rgb.pixels[i + c] =
          static_cast<uint8_t>((opacity * in[grey ? 0 : c] + (255 - opacity) * background[c] + 127) / 255);
  }
  return rgb;
}

TL_INLINE Image decode_image(std::span<const uint8_t> bytes, const std::string& name, const ImageOptions& options) {
  const std::string_view start(reinterpret_cast<const char*>(bytes.data()), std::min<size_t>(bytes.size(), 32));
  if (bytes.size() > static_cast<size_t>(std::min<int64_t>(options.max_file_bytes, INT32_MAX)))
    throw FormatError(name, "", 0, text("the file is over the limit of max_file_bytes = ", options.max_file_bytes));
  if (start.starts_with("\xff\xd8\xff")) return detail::decode_jpeg(bytes, name, options);
  if (start.starts_with("\x89PNG\r\n\x1a\n")) return detail::decode_png(bytes, name, options);
  if (start.starts_with("BM")) return detail::decode_bmp(bytes, name, options);
  if (start.size() >= 2 && start[0] == 'P' && std::string_view("2356").find(start[1]) != std::string_view::npos)
    return detail::decode_pnm(bytes, name, options);
  const std::string_view looks_like = bytes.empty() ? "an empty file" : detail::foreign_format(start);
  throw FormatError(
      name, "", 0,
      text("not a JPEG, PNG, BMP or PPM picture", looks_like.empty() ? "" : text(" (looks like ", looks_like, ")")));
}

TL_INLINE Image load_image(const std::string& path, const ImageOptions& options) {
  const std::string bytes = read_file(path, static_cast<uint64_t>(options.max_file_bytes));
  return decode_image({reinterpret_cast<const uint8_t*>(bytes.data()), bytes.size()}, path, options);
}

TL_INLINE std::string encode_png(const Image& image) {
  detail::check_encodable(image, "encode_png", 4);
  const detail::StbArena arena(SIZE_MAX);
  std::string out;
  const auto channels = static_cast<int>(image.channels);
  if (!detail::stb::stbi_write_png_to_func(detail::append_bytes, &out, static_cast<int>(image.width),
                                           static_cast<int>(image.height), channels, image.pixels.data(),
                                           static_cast<int>(image.width) * channels))
    fail<UsageError>("encode_png: the picture is too large");
  return out;
}

TL_INLINE std::string encode_jpeg(const Image& image, int quality) {
  detail::check_encodable(image, "encode_jpeg", 3);
  require<UsageError>(image.width <= 65535 && image.height <= 65535 && quality >= 1 && quality <= 100,
                      "encode_jpeg: expected at most 65535 x 65535 pixels and a quality of 1 to 100, got ", image.width,
                      " x ", image.height, " and ", quality);
  const detail::StbArena arena(SIZE_MAX);
  std::string out;
  if (!detail::stb::stbi_write_jpg_to_func(detail::append_bytes, &out, static_cast<int>(image.width),
                                           static_cast<int>(image.height), static_cast<int>(image.channels),
                                           image.pixels.data(), quality))
    fail<UsageError>("encode_jpeg: the picture is too large");
  return out;
}

TL_INLINE std::string encode_ppm(const Image& image) {
  detail::check_encodable(image, "encode_ppm", 3);
  std::string out = text(image.channels == 1 ? "P5" : "P6", "\n", image.width, ' ', image.height, "\n255\n");
  out.append(reinterpret_cast<const char*>(image.pixels.data()), image.pixels.size());
  return out;
}

TL_INLINE void save_png(const std::string& path, const Image& image) { detail::save(path, encode_png(image)); }
TL_INLINE void save_jpeg(const std::string& path, const Image& image, int quality) {
  detail::save(path, encode_jpeg(image, quality));
}
TL_INLINE void save_ppm(const std::string& path, const Image& image) { detail::save(path, encode_ppm(image)); }

}  // namespace tl::inline TL_ABI
