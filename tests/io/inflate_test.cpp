// Decompression and checksums.
#include "tl/io/inflate.hpp"

#include <algorithm>

#include "support.hpp"
#include "tl/core/error.hpp"
#include "tl/core/random.hpp"

namespace {

using Bytes = std::vector<uint8_t>;

uint32_t crc_of(const char* text) {
  return tl::crc32({reinterpret_cast<const uint8_t*>(text), std::string(text).size()});
}

/// gzip's output for 1000 times "transfer " and a last "learning", made with `gzip -9n`: one block of dynamic codes.
const Bytes kDynamic = {0x1f, 0x8b, 0x08, 0x00, 0x00, 0x00, 0x00, 0x00, 0x02, 0x03, 0xed, 0xc6, 0xb1, 0x09,
                        0x00, 0x20, 0x0c, 0x00, 0xb0, 0x57, 0x7c, 0xad, 0x83, 0x8a, 0x20, 0x1d, 0xaa, 0xff,
                        0xe3, 0x1f, 0x92, 0x4c, 0xb9, 0x15, 0x79, 0x46, 0xaf, 0x76, 0x45, 0x44, 0x44, 0x44,
                        0x44, 0x44, 0x44, 0x44, 0x44, 0x44, 0x44, 0x44, 0x44, 0x44, 0x44, 0x44, 0x44, 0xfe,
                        0xcd, 0xee, 0x51, 0xb9, 0x72, 0x3e, 0x8a, 0x13, 0x17, 0xbb, 0x30, 0x23, 0x00, 0x00};

/// "hello hello hello, hello" in a block of fixed codes, made with zlib's Z_FIXED.
const Bytes kFixed = {0x1f, 0x8b, 0x08, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x03, 0xcb, 0x48, 0xcd, 0xc9, 0xc9, 0x57,
                      0xc8, 0x40, 0x90, 0x3a, 0x10, 0x0a, 0x00, 0x5a, 0x27, 0x9f, 0xbc, 0x18, 0x00, 0x00, 0x00};

std::string as_text(const Bytes& bytes) { return {bytes.begin(), bytes.end()}; }

std::string expected_text() {
  std::string out;
  for (int i = 0; i < 1000; ++i) out += "transfer ";
  return out + "learning";
}

/// A gzip member with one stored block.
Bytes stored(const std::string& text) {
  Bytes out = {0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 3, 1};
  const auto size = static_cast<uint16_t>(text.size());
  for (const int value : {size & 255, size >> 8, ~size & 255, (~size >> 8) & 255})
    out.push_back(static_cast<uint8_t>(value));
  out.insert(out.end(), text.begin(), text.end());
  for (const uint32_t value : {crc_of(text.c_str()), uint32_t{size}})
    for (int shift = 0; shift < 32; shift += 8) out.push_back(static_cast<uint8_t>(value >> shift));
  return out;
}

}  // namespace

TEST_CASE("crc32 gives the check value of its definition, in one piece or two") {
  CHECK(crc_of("123456789") == 0xcbf43926u);
  CHECK(crc_of("") == 0);
  const auto* bytes = reinterpret_cast<const uint8_t*>("123456789");
  for (size_t cut = 0; cut <= 9; ++cut)
    CHECK(tl::crc32({bytes + cut, 9 - cut}, tl::crc32({bytes, cut})) == 0xcbf43926u);
}

TEST_CASE("gunzip reads stored, fixed and dynamic blocks, and several members") {
  CHECK(as_text(tl::gunzip(kFixed, "t", 100)) == "hello hello hello, hello");
  CHECK(as_text(tl::gunzip(kDynamic, "t", 1 << 20)) == expected_text());
  Bytes two = stored("hello ");
  const Bytes second = stored("world");
  two.insert(two.end(), second.begin(), second.end());
  CHECK(as_text(tl::gunzip(two, "t", 100)) == "hello world");
  CHECK(as_text(tl::gunzip_prefix(kDynamic, "t", 13)) == "transfer tran");
  CHECK(as_text(tl::gunzip_prefix(stored("ab"), "t", 100)) == "ab");
}

TEST_CASE("gunzip passes over a header's optional fields") {
  Bytes bytes = stored("x");
  bytes[3] = 4 | 8 | 16 | 2;
  const Bytes fields = {2, 0, 'e', 'x', 'n', 'a', 'm', 'e', 0, 'c', 0, 0, 0};
  bytes.insert(bytes.begin() + 10, fields.begin(), fields.end());
  CHECK(as_text(tl::gunzip(bytes, "t", 100)) == "x");
}

TEST_CASE("gunzip stops at its limit") {
  CHECK(tl::gunzip(kDynamic, "t", 9008).size() == 9008);
  CHECK_THROWS_WITH_AS(tl::gunzip(kDynamic, "t", 9007), "t: gzip: it decompresses to more than 9007 bytes (at byte 0)",
                       tl::FormatError);
}

TEST_CASE("gunzip refuses every truncation and every changed byte that matters") {
  for (size_t size = 0; size < kDynamic.size(); ++size)
    CHECK_THROWS_AS(tl::gunzip(std::span(kDynamic).first(size), "t", 1 << 20), tl::FormatError);
  Bytes longer = kDynamic;
  longer.push_back(0);
  CHECK_THROWS_AS(tl::gunzip(longer, "t", 1 << 20), tl::FormatError);
  for (size_t at = 10; at < kDynamic.size(); ++at) {  // behind the header, whose time and system may be anything
    Bytes changed = kDynamic;
    changed[at] ^= 0x10;
    CHECK_THROWS_AS(tl::gunzip(changed, "t", 1 << 20), tl::FormatError);
  }
}

TEST_CASE("gunzip survives noise") {
  tl::Generator random(1);
  for (int round = 0; round < 20000; ++round) {
    Bytes bytes = kDynamic;
    const auto changes = random.below(8) + 1;
    for (int64_t i = 0; i < changes; ++i)
      bytes[static_cast<size_t>(random.below(static_cast<int64_t>(bytes.size())))] =
          static_cast<uint8_t>(random.below(256));
    try {
      const Bytes out = tl::gunzip(bytes, "t", 1 << 16);
      CHECK(out.size() <= 1 << 16);
    } catch (const tl::FormatError&) {
    }
  }
}
