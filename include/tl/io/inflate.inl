// Definitions of inflate.hpp.
#pragma once
#include <algorithm>
#include <array>

#include "tl/core/error.hpp"
#include "tl/io/inflate.hpp"

namespace tl::inline TL_ABI {
namespace detail {

/// Tables of a CRC computed four bytes at a time: [k][b] is the checksum of byte b followed by k zero bytes.
TL_INLINE const std::array<std::array<uint32_t, 256>, 4>& crc_tables() {
  static const auto tables = [] {
    std::array<std::array<uint32_t, 256>, 4> out{};
    for (uint32_t byte = 0; byte < 256; ++byte) {
      uint32_t crc = byte;
      for (int bit = 0; bit < 8; ++bit) crc = (crc >> 1) ^ (crc & 1 ? 0xedb88320u : 0u);
      out[0][byte] = crc;
    }
    for (size_t k = 1; k < 4; ++k)
      for (size_t byte = 0; byte < 256; ++byte)
        out[k][byte] = (out[k - 1][byte] >> 8) ^ out[0][out[k - 1][byte] & 0xff];
    return out;
  }();
  return tables;
}

/// One canonical Huffman code. A table answers codes of up to kFastBits; longer ones are found by their length's range.
class HuffmanCode {
 public:
  static constexpr int kFastBits = 10, kMaxBits = 15;

  /// False if the lengths oversubscribe the code, or leave it incomplete (allowed only for a single code).
  bool build(const uint8_t* lengths, int count) {
    std::array<int, kMaxBits + 1> of_length{};
    for (int i = 0; i < count; ++i) ++of_length[lengths[i]];
    of_length[0] = 0;
    int left = 1, used = 0;
    std::array<int, kMaxBits + 2> next_code{}, next_index{};
    for (size_t bits = 1; bits <= kMaxBits; ++bits) {
      left = 2 * left - of_length[bits];
      if (left < 0) return false;
      first_code_[bits] = next_code[bits];
      first_index_[bits] = next_index[bits];
      end_code_[bits] = next_code[bits] + of_length[bits];
      next_code[bits + 1] = end_code_[bits] << 1;
      next_index[bits + 1] = next_index[bits] + of_length[bits];
      used += of_length[bits];
    }
    if (left > 0 && used > 1) return false;

    fast_.fill(0);
    for (int symbol = 0; symbol < count; ++symbol) {
      const size_t bits = lengths[symbol];
      if (bits == 0) continue;
      const int code = next_code[bits]++;
      symbols_[static_cast<size_t>(next_index[bits]++)] = static_cast<uint16_t>(symbol);
      if (bits > kFastBits) continue;
      uint32_t reversed = 0;
      for (size_t bit = 0; bit < bits; ++bit)
        reversed |= ((static_cast<uint32_t>(code) >> bit) & 1u) << (bits - 1 - bit);
      for (uint32_t entry = reversed; entry < (1u << kFastBits); entry += 1u << bits)
        fast_[entry] = static_cast<uint16_t>((symbol << 4) | static_cast<int>(bits));
    }
    return true;
  }

  /// The symbol whose code starts `window` (first bit lowest), and its length in `bits`; -1 if there is none.
  int decode(uint64_t window, int& bits) const {
    if (const int entry = fast_[window & ((1u << kFastBits) - 1)]) {
      bits = entry & 15;
      return entry >> 4;
    }
    int code = 0;
    for (int length = 1; length <= kMaxBits; ++length) {
      const auto l = static_cast<size_t>(length);
      code = (code << 1) | static_cast<int>((window >> (length - 1)) & 1);
      if (code >= end_code_[l] || code < first_code_[l]) continue;
      bits = length;
      return symbols_[static_cast<size_t>(first_index_[l] + code - first_code_[l])];
    }
    return -1;
  }

 private:
  std::array<uint16_t, 1 << kFastBits> fast_;  // symbol * 16 + length; 0: not here
  std::array<uint16_t, 288> symbols_;          // in order of their codes
  std::array<int, kMaxBits + 1> first_code_, end_code_, first_index_;
};

/// Decompresses one deflate stream (RFC 1951) and appends it to a vector.
class Inflater {
 public:
  Inflater(std::span<const uint8_t> bytes, const std::string& name, uint64_t base, std::vector<uint8_t>& out)
      : bytes_(bytes), name_(name), base_(base), out_(out) {}

  /// Decompresses until the stream's end, or until the output holds `limit` bytes. True if the end was met.
  bool run(uint64_t limit) {
    limit_ = limit;
    for (bool last = false; !last;) {
      last = take(1) != 0;
      const uint64_t kind = take(2);
      bool complete = false;
      if (kind == 0) complete = stored();
      else if (kind == 1) complete = fixed();
      else if (kind == 2) complete = dynamic();
      else broken("unknown kind of block");
      if (!complete) return false;
    }
    return true;
  }

  /// Bytes of input used, the one that holds the last bit included.
  size_t consumed() const { return position_ - static_cast<size_t>(bits_ / 8); }

 private:
  [[noreturn]] void broken(const char* what) const { throw FormatError(name_, "deflate", base_ + position_, what); }

  void fill() {
    while (bits_ <= 56 && position_ < bytes_.size()) {
      window_ |= static_cast<uint64_t>(bytes_[position_++]) << bits_;
      bits_ += 8;
    }
  }
  void drop(int count) {
    if (count > bits_) broken("the data ends too early");
    window_ >>= count;
    bits_ -= count;
  }
  uint64_t take(int count) {
    if (bits_ < count) fill();
    const uint64_t value = window_ & ((uint64_t{1} << count) - 1);
    drop(count);
    return value;
  }
  int symbol(const HuffmanCode& code) {
    if (bits_ < HuffmanCode::kMaxBits) fill();
    int length = 0;
    const int value = code.decode(window_, length);
    if (value < 0) broken("a code that is not in the table");
    drop(length);
    return value;
  }

  bool stored() {
    drop(bits_ % 8);
    const uint64_t length = take(16), complement = take(16);
    if (length != (complement ^ 0xffffu)) broken("the length of a stored block does not match its complement");
    position_ -= static_cast<size_t>(bits_ / 8);
    window_ = 0;
    bits_ = 0;
    if (bytes_.size() - position_ < length) broken("the data ends too early");
    const uint64_t wanted = std::min(length, limit_ - out_.size());
    const auto* first = bytes_.data() + position_;
    out_.insert(out_.end(), first, first + wanted);
    position_ += static_cast<size_t>(wanted);
    return wanted == length;
  }

  bool fixed() {
    std::array<uint8_t, 288> lengths;
    for (size_t i = 0; i < 288; ++i) lengths[i] = i < 144 ? 8 : i < 256 ? 9 : i < 280 ? 7 : 8;
    literals_.build(lengths.data(), 288);
    lengths.fill(5);
    distances_.build(lengths.data(), 32);
    return compressed();
  }

  bool dynamic() {
    static constexpr uint8_t kOrder[19] = {16, 17, 18, 0, 8, 7, 9, 6, 10, 5, 11, 4, 12, 3, 13, 2, 14, 1, 15};
    const auto literal_count = static_cast<int>(take(5)) + 257, distance_count = static_cast<int>(take(5)) + 1;
    const auto length_count = static_cast<int>(take(4)) + 4;
    if (literal_count > 286) broken("too many literal codes");
    std::array<uint8_t, 320> lengths{};
    for (int i = 0; i < length_count; ++i) lengths[kOrder[i]] = static_cast<uint8_t>(take(3));
    if (!literals_.build(lengths.data(), 19)) broken("bad code lengths");

    lengths.fill(0);
    const int total = literal_count + distance_count;
    for (int i = 0; i < total;) {
      const int code = symbol(literals_);
      if (code < 16) {
        lengths[static_cast<size_t>(i++)] = static_cast<uint8_t>(code);
        continue;
      }
      if (code == 16 && i == 0) broken("a repeated code length without a first one");
      const uint8_t value = code == 16 ? lengths[static_cast<size_t>(i - 1)] : uint8_t{0};
      const auto times = static_cast<int>(code == 16 ? 3 + take(2) : code == 17 ? 3 + take(3) : 11 + take(7));
      if (i + times > total) broken("too many code lengths");
      std::fill_n(lengths.begin() + i, times, value);
      i += times;
    }
    if (lengths[256] == 0) broken("no code for the end of a block");
    if (!literals_.build(lengths.data(), literal_count) ||
        !distances_.build(lengths.data() + literal_count, distance_count))
      broken("bad code lengths");
    return compressed();
  }

  bool compressed() {
    static constexpr uint16_t kLengths[29] = {3,  4,  5,  6,  7,  8,  9,  10, 11,  13,  15,  17,  19,  23, 27,
                                              31, 35, 43, 51, 59, 67, 83, 99, 115, 131, 163, 195, 227, 258};
    static constexpr uint8_t kLengthBits[29] = {0, 0, 0, 0, 0, 0, 0, 0, 1, 1, 1, 1, 2, 2, 2,
                                                2, 3, 3, 3, 3, 4, 4, 4, 4, 5, 5, 5, 5, 0};
    static constexpr uint16_t kDistances[30] = {1,    2,    3,    4,    5,    7,    9,    13,    17,    25,
                                                33,   49,   65,   97,   129,  193,  257,  385,   513,   769,
                                                1025, 1537, 2049, 3073, 4097, 6145, 8193, 12289, 16385, 24577};
    for (;;) {
      const int code = symbol(literals_);
      if (code == 256) return true;
      if (out_.size() == limit_) return false;
      if (code < 256) {
        out_.push_back(static_cast<uint8_t>(code));
        continue;
      }
      if (code > 285) broken("a length code that means nothing");
      const auto which = static_cast<size_t>(code - 257);
      const uint64_t length = kLengths[which] + take(kLengthBits[which]);
      const int distance_code = symbol(distances_);
      if (distance_code > 29) broken("a distance code that means nothing");
      const uint64_t distance = kDistances[distance_code] + take(distance_code < 4 ? 0 : distance_code / 2 - 1);
      if (distance > out_.size()) broken("a copy from before the start");
      const uint64_t wanted = std::min(length, limit_ - out_.size());
      const size_t start = out_.size();
      out_.resize(start + static_cast<size_t>(wanted));
      uint8_t* to = out_.data() + start;
      for (const uint8_t* from = to - distance; to != out_.data() + out_.size();) *to++ = *from++;
      if (wanted < length) return false;
    }
  }

  std::span<const uint8_t> bytes_;
  const std::string& name_;
  uint64_t base_;  // of bytes_ in its file, for error messages
  std::vector<uint8_t>& out_;
  uint64_t limit_ = 0;
  size_t position_ = 0;
  uint64_t window_ = 0;  // bits read ahead, the next one lowest
  int bits_ = 0;
  HuffmanCode literals_, distances_;
};

/// Length of a gzip member's header.
TL_INLINE size_t gzip_header(std::span<const uint8_t> bytes, const std::string& name, uint64_t base) {
  const auto check = [&](bool ok, size_t at, const char* what) {
    if (!ok) throw FormatError(name, "gzip", base + at, what);
  };
  check(bytes.size() >= 10, bytes.size(), "the header ends too early");
  check(bytes[0] == 0x1f && bytes[1] == 0x8b, 0, "this is no gzip data");
  check(bytes[2] == 8, 2, "a compression other than deflate");
  const uint8_t flags = bytes[3];
  check((flags & 0xe0) == 0, 3, "reserved flags are set");
  size_t at = 10;
  if (flags & 4) {
    check(bytes.size() >= at + 2, at, "the header ends too early");
    at += 2 + bytes[at] + size_t{256} * bytes[at + 1];
  }
  for (const int text_flag : {8, 16}) {  // file name, comment: each ends with a zero
    if (!(flags & text_flag)) continue;
    while (at < bytes.size() && bytes[at] != 0) ++at;
    ++at;
  }
  if (flags & 2) at += 2;
  check(at <= bytes.size(), bytes.size(), "the header ends too early");
  return at;
}

TL_INLINE uint32_t little_endian32(const uint8_t* bytes) {
  return uint32_t{bytes[0]} | uint32_t{bytes[1]} << 8 | uint32_t{bytes[2]} << 16 | uint32_t{bytes[3]} << 24;
}

}  // namespace detail

TL_INLINE uint32_t crc32(std::span<const uint8_t> bytes, uint32_t crc) {
  const auto& tables = detail::crc_tables();
  crc = ~crc;
  size_t i = 0;
  for (; i + 4 <= bytes.size(); i += 4) {
    crc ^= detail::little_endian32(bytes.data() + i);
    crc = tables[3][crc & 0xff] ^ tables[2][(crc >> 8) & 0xff] ^ tables[1][(crc >> 16) & 0xff] ^ tables[0][crc >> 24];
  }
  for (; i < bytes.size(); ++i) crc = (crc >> 8) ^ tables[0][(crc ^ bytes[i]) & 0xff];
  return ~crc;
}

TL_INLINE std::vector<uint8_t> gunzip(std::span<const uint8_t> bytes, const std::string& name, uint64_t max_bytes) {
  std::vector<uint8_t> out;
  size_t at = 0;
  do {
    const auto member = bytes.subspan(at);
    const size_t header = detail::gzip_header(member, name, at), start = out.size();
    detail::Inflater inflater(member.subspan(header), name, at + header, out);
    if (!inflater.run(max_bytes))
      throw FormatError(name, "gzip", at, text("it decompresses to more than ", max_bytes, " bytes"));
    at += header + inflater.consumed();
    if (bytes.size() - at < 8) throw FormatError(name, "gzip", at, "the checksum is missing");
    const auto produced = std::span<const uint8_t>(out).subspan(start);
    if (detail::little_endian32(&bytes[at]) != crc32(produced))
      throw FormatError(name, "gzip", at, "the checksum does not match");
    if (detail::little_endian32(&bytes[at + 4]) != static_cast<uint32_t>(produced.size()))
      throw FormatError(name, "gzip", at + 4, "the length does not match");
    at += 8;
  } while (at < bytes.size());
  return out;
}

TL_INLINE std::vector<uint8_t> gunzip_prefix(std::span<const uint8_t> bytes, const std::string& name,
                                             uint64_t prefix_bytes) {
  std::vector<uint8_t> out;
  const size_t header = detail::gzip_header(bytes, name, 0);
  detail::Inflater(bytes.subspan(header), name, header, out).run(prefix_bytes);
  return out;
}

}  // namespace tl::inline TL_ABI
