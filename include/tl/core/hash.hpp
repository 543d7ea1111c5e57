// A fast hash of content, to tell whether two things are the same.
#pragma once
#include <algorithm>
#include <array>
#include <bit>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <string>
#include <string_view>
#include <type_traits>

namespace tl {

/// XXH64 with seed 0 of the bytes that were added, however they were divided. Equal content gives equal numbers on
/// every machine of this byte order; unequal content gives equal ones by accident alone (not against an attacker).
/// Algorithm: Collet, https://github.com/Cyan4973/xxHash/blob/dev/doc/xxhash_spec.md
class Hash {
 public:
  Hash& add(const void* data, size_t size) {
    const auto* bytes = static_cast<const unsigned char*>(data);
    total_ += size;
    if (pending_ > 0) {
      const size_t taken = std::min(size, kBlock - pending_);
      if (taken > 0) std::memcpy(block_.data() + pending_, bytes, taken);
      pending_ += taken, bytes += taken, size -= taken;
      if (pending_ < kBlock) return *this;
      mix(block_.data());
      pending_ = 0;
    }
    for (; size >= kBlock; bytes += kBlock, size -= kBlock) mix(bytes);
    if (size > 0) std::memcpy(block_.data(), bytes, size);
    pending_ = size;
    return *this;
  }

  /// The text and its length, so that "ab", "c" differs from "a", "bc".
  Hash& add(std::string_view text) { return add(text.size()).add(text.data(), text.size()); }

  template <class T>
  requires std::is_arithmetic_v<T> Hash& add(T value) { return add(&value, sizeof value); }

  uint64_t value() const {
    uint64_t h = kPrimes[4];
    if (total_ >= kBlock) {
      h = std::rotl(lanes_[0], 1) + std::rotl(lanes_[1], 7) + std::rotl(lanes_[2], 12) + std::rotl(lanes_[3], 18);
      for (const uint64_t lane : lanes_) h = (h ^ round(0, lane)) * kPrimes[0] + kPrimes[3];
    }
    h += total_;
    size_t at = 0;
    for (; at + 8 <= pending_; at += 8)
      h = std::rotl(h ^ round(0, word<uint64_t>(&block_[at])), 27) * kPrimes[0] + kPrimes[3];
    if (at + 4 <= pending_) {
      h = std::rotl(h ^ (word<uint32_t>(&block_[at]) * kPrimes[0]), 23) * kPrimes[1] + kPrimes[2];
      at += 4;
    }
    for (; at < pending_; ++at) h = std::rotl(h ^ (block_[at] * kPrimes[4]), 11) * kPrimes[0];
    h = (h ^ (h >> 33)) * kPrimes[1];
    h = (h ^ (h >> 29)) * kPrimes[2];
    return h ^ (h >> 32);
  }

 private:
  static constexpr size_t kBlock = 32;
  static constexpr std::array<uint64_t, 5> kPrimes = {0x9e3779b185ebca87, 0xc2b2ae3d27d4eb4f, 0x165667b19e3779f9,
                                                      0x85ebca77c2b2ae63, 0x27d4eb2f165667c5};

  template <class T>
  static T word(const unsigned char* from) {
    T out;
    std::memcpy(&out, from, sizeof out);
    return out;
  }
  static uint64_t round(uint64_t lane, uint64_t input) { return std::rotl(lane + input * kPrimes[1], 31) * kPrimes[0]; }
  void mix(const unsigned char* block) {
    for (size_t i = 0; i < lanes_.size(); ++i) lanes_[i] = round(lanes_[i], word<uint64_t>(block + 8 * i));
  }

  std::array<uint64_t, 4> lanes_ = {kPrimes[0] + kPrimes[1], kPrimes[1], 0, uint64_t{0} - kPrimes[0]};
  std::array<unsigned char, kBlock> block_{};
  uint64_t total_ = 0;
  size_t pending_ = 0;
};

/// Sixteen hexadecimal digits.
inline std::string to_hex(uint64_t value) {
  std::string out(16, '0');
  for (size_t i = 16; i-- > 0; value >>= 4) out[i] = "0123456789abcdef"[value & 15];
  return out;
}

}  // namespace tl
