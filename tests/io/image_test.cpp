// Pictures: every kind that is read, and every kind of broken file that must be refused.
#include "tl/io/image.hpp"

#include <algorithm>
#include <array>
#include <cstdlib>

#include "support.hpp"
#include "tl/core/error.hpp"
#include "tl/core/random.hpp"
#include "tl/io/file.hpp"
#include "tl/io/inflate.hpp"

namespace {

using Bytes = std::vector<uint8_t>;

// gradient(20, 12), see below, written by Pillow at quality 90.
const char* const kProgressive =
    "ffd8ffe000104a46494600010100000100010000ffdb0043000302020302020303030304030304050805050404050a070706080c0a0c0c0b"
    "0a0b0b0d0e12100d0e110e0b0b1016101113141515150c0f171816141812141514ffdb00430103040405040509050509140d0b0d14141414"
    "14141414141414141414141414141414141414141414141414141414141414141414141414141414141414141414ffc2001108000c001403"
    "012200021101031101ffc400160001010100000000000000000000000000070006ffc4001601010101000000000000000000000000000503"
    "07ffda000c0301000210031000000124d8216c2619ace73ba7ff00ffc400191000030101010000000000000000000000000304051222ffda"
    "0008010100010502970897085e179964592c8b1722f9ffc4001b11000104030000000000000000000000000001020306051221ffda000801"
    "0301013f01c3d825e0cb04daa1ffc400161101010100000000000000000000000000010400ffda0008010201013f019a9714bbffc4001610"
    "01010100000000000000000000000000003132ffda0008010100063f02cb2ca223ffc4001810010003010000000000000000000000000021"
    "31c111ffda0008010100013f21a30a308384361bc77fffda000c03010002000300000010f73fffc400171101000300000000000000000000"
    "00000000314151ffda0008010301013f10da5a21ffc40017110100030000000000000000000000000000011121ffda0008010201013f10c6"
    "a70fffc40014100100000000000000000000000000000020ffda0008010100013f1054a017bf3fffd9";
const char* const kGrey =
    "ffd8ffe000104a46494600010100000100010000ffdb0043000302020302020303030304030304050805050404050a070706080c0a0c0c0b"
    "0a0b0b0d0e12100d0e110e0b0b1016101113141515150c0f171816141812141514ffc0000b08000c001401011100ffc40016000101010000"
    "0000000000000000000000070608ffc4001e10000103050101000000000000000000000600052402072223a23214ffda0008010100003f00"
    "c942d62fc47e5300b58bf11f94a0df62e2d31f95682c22d98684c02c22d98684a2dc20d9f2d3a17fffd9";
const char* const kCmyk =
    "ffd8ffee000e41646f626500640000000000ffdb0043000302020302020303030304030304050805050404050a070706080c0a0c0c0b0a0b"
    "0b0d0e12100d0e110e0b0b1016101113141515150c0f171816141812141514ffc0001408000c0014044311004d11005911004b1100ffc400"
    "160001010100000000000000000000000000080009ffc4002a10000101020d05010000000000000000000007052301030417184451546481"
    "a1a2d1061533354125ffda000e0443004d0059004b00003f000d22557c832512705b41fa6c9b789d59f0d53340112abe45449c16d1569b26"
    "de27567c21b1d27e9224a89382da241849b7e6c5bad08c2744aaf91ad136cc1ba6b070151366148dd3bb08d0044aaf914db306e9ac1c0ab4"
    "d9852374eec21b1d27e9224a6d98374d60e0483098523edb16ec8fffd9";
const char* const kRestart =
    "ffd8ffe000104a46494600010100000100010000ffdb0043000302020302020303030304030304050805050404050a070706080c0a0c0c0b"
    "0a0b0b0d0e12100d0e110e0b0b1016101113141515150c0f171816141812141514ffdb00430103040405040509050509140d0b0d14141414"
    "14141414141414141414141414141414141414141414141414141414141414141414141414141414141414141414ffc0001108000c001403"
    "011100021101031101ffc40017000100030000000000000000000000000008030607ffc4001e100001030501010000000000000000000006"
    "00052402072223a23214ffc400190100020301000000000000000000000000060703040805ffc40022110001030304030100000000000000"
    "0000000405220203310106216112132351ffdd00040001ffda000c03010002110311003f00250b58bf11f950a659d83acfba7123ffd0ca85"
    "ac5f88fca244cb3b1a0cfba7123fffd189bec5c5a63f29916d64726b04bbabe5a48fffd2b78b08b661a10526bb518e99dc547123ffd3478b"
    "08b661a1544d76afd15acee0a3891fffd4703708367cb4e85d9b776af1c9752b828f56923fffd9";

Bytes from_hex(const char* hex) {
  const auto digit = [](char c) { return static_cast<uint8_t>(c <= '9' ? c - '0' : c - 'a' + 10); };
  Bytes out;
  for (; *hex; hex += 2) out.push_back(static_cast<uint8_t>(digit(hex[0]) << 4 | digit(hex[1])));
  return out;
}

Bytes bytes_of(const std::string& text) { return {text.begin(), text.end()}; }

tl::Image decode(const Bytes& bytes, const tl::ImageOptions& options = {}) {
  return tl::decode_image(bytes, "p", options);
}

/// (x, y) -> (12 x, 20 y, 8 (x + y)).
tl::Image gradient(int64_t width, int64_t height) {
  tl::Image image(width, height);
  for (int64_t y = 0; y < height; ++y)
    for (int64_t x = 0; x < width; ++x) {
      uint8_t* pixel = image.row(y) + 3 * x;
      pixel[0] = static_cast<uint8_t>(12 * x);
      pixel[1] = static_cast<uint8_t>(20 * y);
      pixel[2] = static_cast<uint8_t>(8 * (x + y));
    }
  return image;
}

int largest_difference(const tl::Image& a, const tl::Image& b) {
  REQUIRE(a.width == b.width);
  REQUIRE(a.height == b.height);
  REQUIRE(a.pixels.size() == b.pixels.size());
  int most = 0;
  for (size_t i = 0; i < a.pixels.size(); ++i) most = std::max(most, std::abs(a.pixels[i] - b.pixels[i]));
  return most;
}

void put_big(Bytes& out, uint32_t value) {
  for (int shift = 24; shift >= 0; shift -= 8) out.push_back(static_cast<uint8_t>(value >> shift));
}

struct Chunk {
  std::string kind;
  Bytes data;
};

/// A PNG file of these chunks, with right lengths and checksums.
Bytes png_of(const std::vector<Chunk>& chunks) {
  Bytes out = {0x89, 'P', 'N', 'G', '\r', '\n', 0x1a, '\n'};
  for (const Chunk& chunk : chunks) {
    put_big(out, static_cast<uint32_t>(chunk.data.size()));
    const size_t start = out.size();
    out.insert(out.end(), chunk.kind.begin(), chunk.kind.end());
    out.insert(out.end(), chunk.data.begin(), chunk.data.end());
    put_big(out, tl::crc32(std::span(out).subspan(start)));
  }
  return out;
}

Chunk header(uint32_t width, uint32_t height, int depth, int color, int interlace = 0) {
  Bytes data;
  put_big(data, width);
  put_big(data, height);
  for (const int value : {depth, color, 0, 0, interlace}) data.push_back(static_cast<uint8_t>(value));
  return {"IHDR", data};
}

/// zlib data in one stored block.
Chunk pixels(const Bytes& raw) {
  Bytes data = {0x78, 1, 1};
  const auto size = static_cast<uint16_t>(raw.size());
  for (const int value : {size & 255, size >> 8, ~size & 255, (~size >> 8) & 255})
    data.push_back(static_cast<uint8_t>(value));
  data.insert(data.end(), raw.begin(), raw.end());
  uint32_t a = 1, b = 0;
  for (const uint8_t byte : raw) {
    a = (a + byte) % 65521;
    b = (b + a) % 65521;
  }
  put_big(data, b << 16 | a);
  return {"IDAT", data};
}

const Chunk kEnd{"IEND", {}};

/// A PNG whose rows, without filters, hold `row_bytes` each of `raw`.
Bytes png(const Chunk& head, const Bytes& raw, size_t row_bytes, std::vector<Chunk> between = {}) {
  Bytes filtered;
  for (size_t at = 0; at < raw.size(); at += row_bytes) {
    filtered.push_back(0);
    filtered.insert(filtered.end(), raw.begin() + static_cast<int64_t>(at),
                    raw.begin() + static_cast<int64_t>(at + row_bytes));
  }
  std::vector<Chunk> chunks = {head};
  chunks.insert(chunks.end(), between.begin(), between.end());
  chunks.push_back(pixels(filtered));
  chunks.push_back(kEnd);
  return png_of(chunks);
}

std::array<int, 3> at(const tl::Image& image, int64_t x, int64_t y) {
  const uint8_t* pixel = image.row(y) + 3 * x;
  return {pixel[0], pixel[1], pixel[2]};
}

using Color = std::array<int, 3>;

/// An uncompressed BMP: header of 40 bytes, then `between` (palette or masks), then the rows as they are.
Bytes bmp(int32_t width, int32_t height, int depth, const Bytes& between, const Bytes& rows, uint32_t compression = 0) {
  Bytes out = {'B', 'M'};
  const auto put = [&](uint32_t value, int size) {
    for (int i = 0; i < size; ++i) out.push_back(static_cast<uint8_t>(value >> (8 * i)));
  };
  const auto data_at = static_cast<uint32_t>(54 + between.size());
  put(data_at + static_cast<uint32_t>(rows.size()), 4);
  put(0, 4);
  put(data_at, 4);
  put(40, 4);
  put(static_cast<uint32_t>(width), 4);
  put(static_cast<uint32_t>(height), 4);
  put(1, 2);
  put(static_cast<uint32_t>(depth), 2);
  put(compression, 4);
  for (int i = 0; i < 5; ++i) put(0, 4);
  out.insert(out.end(), between.begin(), between.end());
  out.insert(out.end(), rows.begin(), rows.end());
  return out;
}

/// An EXIF block with one directory of one entry.
Bytes exif(bool big, int orientation, uint32_t directory = 8, uint16_t entries = 1, uint16_t type = 3) {
  Bytes out;
  const auto put = [&](uint32_t value, int size) {
    for (int i = 0; i < size; ++i) out.push_back(static_cast<uint8_t>(value >> (8 * (big ? size - 1 - i : i))));
  };
  out.insert(out.end(), 2, big ? 'M' : 'I');
  put(42, 2);
  put(directory, 4);
  put(entries, 2);
  put(0x0112, 2);
  put(type, 2);
  put(1, 4);
  put(static_cast<uint32_t>(orientation), 2);
  put(0, 2);
  put(8, 4);  // the next directory: the same again
  return out;
}

/// The JPEG with an APP1 segment after its start.
Bytes with_exif(Bytes jpeg, const Bytes& tiff) {
  Bytes segment = {0xff, 0xe1};
  const auto length = static_cast<uint16_t>(tiff.size() + 8);
  segment.push_back(static_cast<uint8_t>(length >> 8));
  segment.push_back(static_cast<uint8_t>(length));
  for (const char c : {'E', 'x', 'i', 'f', '\0', '\0'}) segment.push_back(static_cast<uint8_t>(c));
  segment.insert(segment.end(), tiff.begin(), tiff.end());
  jpeg.insert(jpeg.begin() + 2, segment.begin(), segment.end());
  return jpeg;
}

void check_refused(const Bytes& bytes, const std::string& message) {
  CHECK_THROWS_WITH_AS(decode(bytes), message.c_str(), tl::FormatError);
}

/// Files of every kind, for the hostile tests.
std::vector<Bytes> samples() {
  const tl::Image picture = gradient(13, 9);
  Bytes palette(3 * 16, 90), indices(9 * 7, 0x3a), small_bmp(static_cast<size_t>(40 * 9), 77);
  return {bytes_of(tl::encode_jpeg(picture)),
          from_hex(kProgressive),
          from_hex(kCmyk),
          from_hex(kRestart),
          with_exif(bytes_of(tl::encode_jpeg(picture)), exif(true, 6)),
          bytes_of(tl::encode_png(picture)),
          png(header(13, 9, 4, 3), indices, 7, {{"PLTE", palette}, {"tRNS", Bytes(5, 9)}}),
          bmp(13, 9, 24, {}, small_bmp),
          bytes_of(tl::encode_ppm(picture))};
}

}  // namespace

TEST_CASE("JPEG: baseline, progressive, grey, CMYK and restart markers") {
  const tl::Image expected = gradient(20, 12);
  CHECK(largest_difference(decode(bytes_of(tl::encode_jpeg(expected, 95))), expected) <= 12);
  CHECK(largest_difference(decode(from_hex(kProgressive)), expected) <= 15);
  CHECK(largest_difference(decode(from_hex(kCmyk)), expected) <= 3);
  CHECK(largest_difference(decode(from_hex(kRestart)), expected) <= 6);
  const tl::Image grey = decode(from_hex(kGrey));
  CHECK(at(grey, 4, 3) == Color{55, 55, 55});
  CHECK(at(grey, 19, 11) == Color{223, 223, 223});
}

TEST_CASE("PNG: every colour type and depth") {
  // Grey of 1, 2, 4, 8 and 16 bits: one row of black and white, or of the values that the bits spell.
  CHECK(at(decode(png(header(2, 1, 1, 0), {0x40}, 1)), 1, 0) == Color{255, 255, 255});
  CHECK(at(decode(png(header(2, 1, 2, 0), {0x60}, 1)), 0, 0) == Color{85, 85, 85});
  CHECK(at(decode(png(header(2, 1, 4, 0), {0x2f}, 1)), 0, 0) == Color{34, 34, 34});
  CHECK(at(decode(png(header(1, 1, 8, 0), {7}, 1)), 0, 0) == Color{7, 7, 7});
  CHECK(at(decode(png(header(1, 1, 16, 0), {200, 255}, 2)), 0, 0) == Color{200, 200, 200});
  CHECK(at(decode(png(header(1, 1, 8, 2), {1, 2, 3}, 3)), 0, 0) == Color{1, 2, 3});
  CHECK(at(decode(png(header(1, 1, 16, 2), {10, 9, 20, 9, 30, 9}, 6)), 0, 0) == Color{10, 20, 30});
  for (const int depth : {1, 2, 4, 8}) {
    const Bytes row = {static_cast<uint8_t>(1 << (8 - depth))};  // index 1
    const Chunk palette{"PLTE", {9, 8, 7, 40, 50, 60}};
    CHECK(at(decode(png(header(1, 1, depth, 3), row, 1, {palette})), 0, 0) == Color{40, 50, 60});
  }
  CHECK(at(decode(png(header(1, 1, 8, 4), {100, 255}, 2)), 0, 0) == Color{100, 100, 100});
  CHECK(at(decode(png(header(1, 1, 8, 6), {1, 2, 3, 255}, 4)), 0, 0) == Color{1, 2, 3});
  CHECK(at(decode(png(header(1, 1, 16, 6), {1, 0, 2, 0, 3, 0, 255, 255}, 8)), 0, 0) == Color{1, 2, 3});
}

TEST_CASE("PNG: an index beyond the palette is black, each time") {
  const Bytes bytes = png(header(1, 1, 8, 3), {200}, 1, {{"PLTE", {9, 8, 7}}});
  CHECK(at(decode(bytes), 0, 0) == Color{0, 0, 0});
}

TEST_CASE("PNG: interlaced pictures") {
  // Adam7 of 2 x 2 pixels: (0, 0) in pass 1, (1, 0) in pass 6, row 1 in pass 7; each row has its filter byte.
  const Bytes passes = {0, 10, 0, 20, 0, 30, 40};
  const tl::Image image = decode(png_of({header(2, 2, 8, 0, 1), pixels(passes), kEnd}));
  CHECK(at(image, 0, 0) == Color{10, 10, 10});
  CHECK(at(image, 1, 0) == Color{20, 20, 20});
  CHECK(at(image, 0, 1) == Color{30, 30, 30});
  CHECK(at(image, 1, 1) == Color{40, 40, 40});
}

TEST_CASE("FR18: transparency shows the background, in every kind of file") {
  const auto near = [](const Color& got, const Color& wanted) {
    for (size_t c = 0; c < 3; ++c) CHECK(std::abs(got[c] - wanted[c]) <= 1);
  };
  for (const int c : {0, 1, 77, 200, 255}) {
    const auto byte = static_cast<uint8_t>(c);
    const int half = (c + 255) / 2;
    near(at(decode(png(header(1, 1, 8, 6), {byte, byte, byte, 128}, 4)), 0, 0), {half, half, half});
    near(at(decode(png(header(1, 1, 8, 4), {byte, 128}, 2)), 0, 0), {half, half, half});
    near(at(decode(png(header(1, 1, 16, 6), {byte, 0, byte, 0, byte, 0, 128, 0}, 8)), 0, 0), {half, half, half});
    near(at(decode(png(header(1, 1, 8, 3), {0}, 1, {{"PLTE", {byte, byte, byte}}, {"tRNS", {128}}})), 0, 0),
         {half, half, half});
  }
  // What lies under alpha 0 never shows.
  for (const uint8_t hidden : {uint8_t{0}, uint8_t{99}, uint8_t{255}})
    CHECK(at(decode(png(header(1, 1, 8, 6), {hidden, hidden, 3, 0}, 4)), 0, 0) == Color{255, 255, 255});
  CHECK(at(decode(png(header(1, 1, 8, 6), {9, 9, 9, 0}, 4), {.background = {10, 20, 30}}), 0, 0) == Color{10, 20, 30});
  // A transparent colour.
  CHECK(at(decode(png(header(1, 1, 8, 2), {5, 6, 7}, 3, {{"tRNS", {0, 5, 0, 6, 0, 7}}})), 0, 0) ==
        Color{255, 255, 255});
  CHECK(at(decode(png(header(1, 1, 8, 0), {5}, 1, {{"tRNS", {0, 5}}})), 0, 0) == Color{255, 255, 255});
  CHECK(at(decode(png(header(1, 1, 8, 0), {6}, 1, {{"tRNS", {0, 5}}})), 0, 0) == Color{6, 6, 6});
}

TEST_CASE("BMP: depths, direction, masks and palettes") {
  const Bytes bottom_up = {30, 20, 10, 0, 3, 2, 1, 0};  // rows of one pixel and a byte of padding
  CHECK(at(decode(bmp(1, 2, 24, {}, bottom_up)), 0, 1) == Color{10, 20, 30});
  CHECK(at(decode(bmp(1, -2, 24, {}, bottom_up)), 0, 0) == Color{10, 20, 30});
  CHECK(at(decode(bmp(1, 1, 32, {}, {30, 20, 10, 0})), 0, 0) == Color{10, 20, 30});
  CHECK(at(decode(bmp(1, 1, 16, {}, {0x1f, 0x7c, 0, 0})), 0, 0) == Color{255, 0, 255});
  const Bytes masks565 = {0, 0xf8, 0, 0, 0xe0, 7, 0, 0, 0x1f, 0, 0, 0};
  CHECK(at(decode(bmp(1, 1, 16, masks565, {0xe0, 0x07, 0, 0}, 3)), 0, 0) == Color{0, 255, 0});
  const Bytes palette = {1, 2, 3, 0, 40, 50, 60, 0};
  CHECK(at(decode(bmp(2, 1, 1, palette, {0x40, 0, 0, 0})), 1, 0) == Color{60, 50, 40});
  CHECK(at(decode(bmp(2, 1, 4, palette, {0x10, 0, 0, 0})), 0, 0) == Color{60, 50, 40});
  CHECK(at(decode(bmp(2, 1, 8, palette, {0, 1, 0, 0})), 1, 0) == Color{60, 50, 40});
  CHECK(at(decode(bmp(1, 1, 8, palette, {200, 0, 0, 0})), 0, 0) == Color{0, 0, 0});  // beyond the palette
  check_refused(bmp(1, 1, 8, palette, {2, 0, 0, 1}, 1),
                "p: BMP: compressed pixels (kind 1) are not supported (at byte 34)");
}

TEST_CASE("PNM: text and binary, grey and colour, scaled by the largest value") {
  CHECK(at(decode(bytes_of("P6 1 1 255\n\x01\x02\x03")), 0, 0) == Color{1, 2, 3});
  CHECK(at(decode(bytes_of("P5\n# a comment\n1 1\n100\n\x32")), 0, 0) == Color{128, 128, 128});
  CHECK(at(decode(bytes_of(std::string("P5 1 1 65535\n\x80\x00", 15))), 0, 0) == Color{128, 128, 128});
  CHECK(at(decode(bytes_of("P3 1 1 255 7 8 9")), 0, 0) == Color{7, 8, 9});
  CHECK(at(decode(bytes_of("P2 2 1 15\n0 15\n")), 1, 0) == Color{255, 255, 255});
  check_refused(bytes_of("P6 1 1 0\n123"), "p: PNM: a largest value of 0 (at byte 9)");
  check_refused(bytes_of("P6 9 9 255\nxx"), "p: PNM: the pixels end too early: the file is truncated (at byte 11)");
  check_refused(bytes_of("P6 x"), "p: PNM: expected a number (at byte 4)");
}

TEST_CASE("EXIF orientations turn the picture, in both byte orders, in JPEG and PNG") {
  // 3 x 2 grey pixels 0 ... 5, and where each orientation puts them.
  const std::array<std::vector<int>, 9> expected = {{{},
                                                     {0, 1, 2, 3, 4, 5},
                                                     {2, 1, 0, 5, 4, 3},
                                                     {5, 4, 3, 2, 1, 0},
                                                     {3, 4, 5, 0, 1, 2},
                                                     {0, 3, 1, 4, 2, 5},
                                                     {3, 0, 4, 1, 5, 2},
                                                     {5, 2, 4, 1, 3, 0},
                                                     {2, 5, 1, 4, 0, 3}}};
  for (const bool big : {false, true}) {
    for (int orientation = 1; orientation <= 8; ++orientation) {
      const tl::Image image =
          decode(png(header(3, 2, 8, 0), {0, 1, 2, 3, 4, 5}, 3, {{"eXIf", exif(big, orientation)}}));
      CHECK(image.width == (orientation >= 5 ? 2 : 3));
      std::vector<int> got;
      for (size_t i = 0; i < image.pixels.size(); i += 3) got.push_back(image.pixels[i]);
      CHECK(got == expected[static_cast<size_t>(orientation)]);
      const Bytes jpeg = with_exif(from_hex(kRestart), exif(big, orientation));
      CHECK(decode(jpeg).width == (orientation >= 5 ? 12 : 20));
      CHECK(decode(jpeg, {.apply_orientation = false}).width == 20);
    }
  }
}

TEST_CASE("EXIF data that is broken, endless or out of bounds leaves the picture as it is") {
  const auto untouched = [](const Bytes& tiff) {
    return decode(png(header(3, 2, 8, 0), {0, 1, 2, 3, 4, 5}, 3, {{"eXIf", tiff}})).width == 3;
  };
  CHECK(untouched({}));
  CHECK(untouched({'M', 'M'}));
  CHECK(untouched(exif(true, 6, 0xfffffff0u)));       // the directory lies behind the end
  CHECK(untouched(exif(true, 6, 26)));                // on the end
  CHECK(untouched(exif(false, 6, 8, 1, 4)));          // the value is not of 16 bits
  CHECK(untouched(exif(false, 9)));                   // no such orientation
  CHECK_FALSE(untouched(exif(false, 6, 8, 0xffff)));  // more entries than there is room for: the first one is there
  Bytes cut = exif(true, 6);
  for (; !cut.empty(); cut.pop_back()) untouched(cut);
}

TEST_CASE("Encoders and decoders agree") {
  const tl::Image picture = gradient(31, 17);
  CHECK(decode(bytes_of(tl::encode_png(picture))) == picture);
  CHECK(decode(bytes_of(tl::encode_ppm(picture))) == picture);
  tl::Image grey(5, 4, 1);
  for (size_t i = 0; i < grey.pixels.size(); ++i) grey.pixels[i] = static_cast<uint8_t>(12 * i);
  CHECK(decode(bytes_of(tl::encode_png(grey))) == tl::to_rgb(grey));
  CHECK(decode(bytes_of(tl::encode_ppm(grey))) == tl::to_rgb(grey));
  CHECK(largest_difference(decode(bytes_of(tl::encode_jpeg(grey, 100))), tl::to_rgb(grey)) <= 3);
  tl::Image clear(2, 2, 4);
  CHECK(decode(bytes_of(tl::encode_png(clear))).pixels == Bytes(12, 255));
  CHECK_THROWS_AS(tl::encode_png(tl::Image()), tl::UsageError);
  CHECK_THROWS_AS(tl::encode_jpeg(picture, 0), tl::UsageError);
  CHECK_THROWS_AS(tl::encode_jpeg(clear), tl::UsageError);
}

TEST_CASE("Pictures are saved and loaded by path") {
  const std::filesystem::path folder = std::filesystem::temp_directory_path() / "tl-image-test";
  std::filesystem::create_directories(folder);
  const tl::Image picture = gradient(20, 12);
  tl::save_png((folder / "a.png").string(), picture);
  tl::save_ppm((folder / "a.ppm").string(), picture);
  tl::save_jpeg((folder / "a.jpg").string(), picture, 95);
  CHECK(tl::load_image((folder / "a.png").string()) == picture);
  CHECK(tl::load_image((folder / "a.ppm").string()) == picture);
  CHECK(largest_difference(tl::load_image((folder / "a.jpg").string()), picture) <= 12);
  CHECK_THROWS_AS(tl::load_image((folder / "a.png").string(), {.max_file_bytes = 10}), tl::IoError);
  CHECK_THROWS_AS(tl::load_image((folder / "none.png").string()), tl::IoError);
  std::filesystem::remove_all(folder);
}

TEST_CASE("Other formats are named") {
  const auto message = [](const std::string& name) {
    return "p: not a JPEG, PNG, BMP or PPM picture (looks like " + name + ") (at byte 0)";
  };
  check_refused(bytes_of("GIF89a..."), message("GIF"));
  check_refused(bytes_of("RIFF1234WEBPVP8 "), message("WebP"));
  check_refused(bytes_of(std::string("II*\0....", 8)), message("TIFF"));
  check_refused(bytes_of("<!DOCTYPE html>"), message("a web page"));
  check_refused(bytes_of("version https://git-lfs.github.com/spec/v1"),
                message("a Git LFS pointer: run `git lfs pull`"));
  check_refused({}, message("an empty file"));
  check_refused(bytes_of("hello"), "p: not a JPEG, PNG, BMP or PPM picture (at byte 0)");
}

TEST_CASE("Every truncation of every kind of file is refused") {
  for (const Bytes& bytes : samples()) {
    REQUIRE_NOTHROW(decode(bytes));
    for (size_t size = 0; size < bytes.size(); ++size) {
      CAPTURE(size);
      CHECK_THROWS_AS(decode({bytes.begin(), bytes.begin() + static_cast<int64_t>(size)}), tl::FormatError);
    }
  }
}

TEST_CASE("JPEG: a file without frame, scan, end or enough data is refused") {
  const Bytes good = from_hex(kRestart);
  const Bytes empty = {0xff, 0xd8, 0xff, 0xd9};
  check_refused(empty, "p: JPEG: there is no frame header (at byte 4)");
  Bytes endless = good;
  endless.resize(endless.size() - 2);
  check_refused(endless, tl::text("p: JPEG: the end of image marker is missing: the file is truncated (at byte ",
                                  endless.size(), ")"));
  const Bytes scan = {0xff, 0xda};
  const auto scan_at = std::search(good.begin(), good.end(), scan.begin(), scan.end());
  Bytes scanless(good.begin(), scan_at);
  scanless.insert(scanless.end(), {0xff, 0xd9});
  check_refused(scanless,
                tl::text("p: JPEG: there is no scan: the file holds no picture (at byte ", scanless.size(), ")"));
  // The scan's header, but none of its data; the size 65500 x 65500 in the frame's header.
  Bytes dataless(good.begin(), scan_at + 14);
  dataless.insert(dataless.end(), {0xff, 0xd9});
  CHECK_THROWS_AS(decode(dataless), tl::FormatError);
  Bytes huge = good;
  const Bytes frame = {0xff, 0xc0};
  const auto frame_at = std::search(huge.begin(), huge.end(), frame.begin(), frame.end());
  REQUIRE(frame_at != huge.end());
  std::fill_n(frame_at + 5, 4, uint8_t{0xff});
  CHECK_THROWS_AS(decode(huge), tl::FormatError);
  CHECK_THROWS_AS(decode(huge, {.max_pixels = int64_t{1} << 40}), tl::FormatError);  // too little data for it
}

TEST_CASE("JPEG: a Huffman table of more codes than there are bytes is refused") {
  Bytes bytes = from_hex(kRestart);
  const Bytes marker = {0xff, 0xc4};
  const auto table = std::search(bytes.begin(), bytes.end(), marker.begin(), marker.end());
  REQUIRE(table != bytes.end());
  std::fill_n(table + 5, 16, uint8_t{200});
  CHECK_THROWS_AS(decode(bytes), tl::FormatError);
}

TEST_CASE("PNG: wrong checksums, order and sizes are refused") {
  const Bytes good = png(header(2, 1, 8, 0), {1, 2}, 2);
  for (size_t i = 8; i < good.size(); ++i) {  // whatever changes, a length or a checksum is wrong
    Bytes changed = good;
    changed[i] ^= 1;
    CHECK_THROWS_AS(decode(changed), tl::FormatError);
  }
  check_refused(png_of({kEnd}), "p: PNG: the IHDR chunk must come first (at byte 20)");
  check_refused(png(header(1, 1, 3, 0), {0}, 1),
                "p: PNG: a depth of 3 bits is not allowed with colour type 0 (at byte 33)");
  check_refused(png(header(1, 1, 16, 3), {0, 0}, 2),
                "p: PNG: a depth of 16 bits is not allowed with colour type 3 (at byte 33)");
  check_refused(png(header(0, 1, 8, 0), {}, 1), "p: PNG: an empty picture of 0 x 1 (at byte 33)");
  check_refused(png(header(1, 1, 8, 3), {0}, 1), "p: PNG: cannot be decoded: no PLTE (at byte 0)");
  check_refused(png(header(2, 9, 8, 0), {1, 2}, 2), "p: PNG: cannot be decoded: not enough pixels (at byte 0)");
  check_refused(png_of({header(8, 8, 8, 0), kEnd}),
                "p: PNG: a picture of 8 x 8 does not fit in 0 bytes of data (at byte 45)");
}

TEST_CASE("Sizes in a header are checked before memory is taken") {
  check_refused(png(header(100000, 100000, 8, 6), {0}, 1),
                "p: PNG: a picture of 100000 x 100000 is over the limit of max_pixels = 100000000 (at byte 33)");
  check_refused(
      bytes_of("P6 2147483647 2147483647 255\n"),
      "p: PNM: a picture of 2147483647 x 2147483647 is over the limit of max_pixels = 100000000 (at byte 29)");
  check_refused(bytes_of("P6 99999999999 1 255\n"), "p: PNM: a number that is too large (at byte 13)");
  CHECK_THROWS_AS(decode(bmp(INT32_MAX, INT32_MIN, 24, {}, {})), tl::FormatError);
  CHECK_THROWS_AS(decode(bytes_of(tl::encode_png(gradient(11, 10))), {.max_pixels = 109}), tl::FormatError);
  CHECK_NOTHROW(decode(bytes_of(tl::encode_png(gradient(11, 10))), {.max_pixels = 110}));
}

TEST_CASE("PNG: a small picture cannot be inflated to gigabytes") {
  // A deflate stream of 258-byte copies of a zero, 64 MB of them, for a picture of one pixel.
  Bytes data = {0x78, 1};
  uint64_t window = 0;
  int bits = 0;
  const auto put = [&](uint32_t value, int count) {
    window |= uint64_t{value} << bits;
    for (bits += count; bits >= 8; bits -= 8, window >>= 8) data.push_back(static_cast<uint8_t>(window));
  };
  put(3, 3);           // last block, fixed codes
  put(0b00001100, 8);  // literal 0 (its code 00110000, first bit first)
  for (int i = 0; i < 260000; ++i) {
    put(0b10100011, 8);  // length 258 (code 11000101)
    put(0, 5);           // distance 1
  }
  put(0, 7);
  put(0, 7);
  CHECK_THROWS_WITH_AS(decode(png_of({header(1, 1, 8, 0), {"IDAT", data}, kEnd})),
                       "p: PNG: cannot be decoded: it needs more memory than a picture of its size (at byte 0)",
                       tl::FormatError);
}

TEST_CASE("Changed bytes give a picture or an error, never more") {
  tl::Generator random(7);
  for (const Bytes& good : samples()) {
    for (int round = 0; round < 1500; ++round) {
      Bytes bytes = good;
      const auto changes = random.below(4) + 1;
      for (int64_t i = 0; i < changes; ++i)
        bytes[static_cast<size_t>(random.below(static_cast<int64_t>(bytes.size())))] =
            static_cast<uint8_t>(random.below(256));
      if (random.below(4) == 0) bytes.resize(static_cast<size_t>(random.below(static_cast<int64_t>(bytes.size()))));
      try {
        const tl::Image image = decode(bytes, {.max_pixels = 1 << 20});
        CHECK(static_cast<int64_t>(image.pixels.size()) == image.width * image.height * 3);
      } catch (const tl::FormatError&) {
      }
    }
  }
}

TEST_CASE("PNG: changed bytes under right checksums give a picture or an error") {
  tl::Generator random(8);
  const Bytes raw(9 * 14, 200);
  for (int round = 0; round < 3000; ++round) {
    std::vector<Chunk> chunks = {
        header(13, 9, 8, random.below(2) ? 0 : 3), {"PLTE", Bytes(30, 5)}, {"tRNS", Bytes(8, 6)}, pixels(raw), kEnd};
    if (chunks[0].data[9] == 0) chunks.erase(chunks.begin() + 1, chunks.begin() + 3);
    const auto changes = random.below(3) + 1;
    for (int64_t i = 0; i < changes; ++i) {
      Bytes& data = chunks[static_cast<size_t>(random.below(static_cast<int64_t>(chunks.size()) - 1))].data;
      data[static_cast<size_t>(random.below(static_cast<int64_t>(data.size())))] =
          static_cast<uint8_t>(random.below(256));
    }
    try {
      const tl::Image image = decode(png_of(chunks), {.max_pixels = 1 << 20});
      CHECK(static_cast<int64_t>(image.pixels.size()) == image.width * image.height * 3);
    } catch (const tl::FormatError&) {
    }
  }
}

TEST_CASE("Decoding gives the same bytes each time, also of a damaged scan") {
  Bytes damaged = from_hex(kProgressive);
  damaged[damaged.size() - 40] ^= 0x55;
  const auto outcome = [](const Bytes& bytes) {
    try {
      return decode(bytes);
    } catch (const tl::FormatError&) {
      return tl::Image();
    }
  };
  const tl::Image first = outcome(damaged);
  for (int i = 0; i < 5; ++i) CHECK(outcome(damaged) == first);
}

TEST_CASE("The reference pictures decode to their known pixels") {
  const auto folder = tl_test::shared("data/imagenet_samples");
  TL_NEEDS(folder);
  const tl::Image cat = tl::load_image((folder / "cat_224.ppm").string());
  CHECK(cat.width == 224);
  CHECK(cat.height == 224);
  CHECK(decode(bytes_of(tl::encode_png(cat))) == cat);
}
