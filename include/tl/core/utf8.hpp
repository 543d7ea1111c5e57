// Text that came from outside, made fit for pages and files that demand UTF-8.
#pragma once
#include <algorithm>
#include <array>
#include <cstdint>
#include <string>
#include <string_view>

namespace tl::core_detail {

/// Length of the valid UTF-8 sequence at the front, whose letter goes to `letter`; 0 if there is none.
inline size_t decode_utf8(std::string_view bytes, uint32_t& letter) {
  constexpr std::array<uint32_t, 5> kSmallest = {0, 0, 0x80, 0x800, 0x10000};
  const auto first = static_cast<uint8_t>(bytes[0]);
  const size_t length = first < 0x80 ? 1 : first >= 0xF0 ? 4 : first >= 0xE0 ? 3 : first >= 0xC0 ? 2 : 0;
  if (length == 0 || length > bytes.size() || first >= 0xF8) return 0;
  letter = length == 1 ? first : first & (0x7Fu >> length);
  for (size_t i = 1; i < length; ++i) {
    const auto next = static_cast<uint8_t>(bytes[i]);
    if ((next & 0xC0) != 0x80) return 0;
    letter = letter << 6 | (next & 0x3F);
  }
  const bool is_surrogate = letter >= 0xD800 && letter <= 0xDFFF;
  return letter < kSmallest[length] || letter > 0x10FFFF || is_surrogate ? 0 : length;
}

/// Letters that would break a page or disguise a name: controls, marks that turn the direction of writing, non-letters.
inline bool is_harmful(uint32_t letter) {
  return letter < 0x20 || (letter >= 0x7F && letter < 0xA0) || (letter >= 0x202A && letter <= 0x202E) ||
         (letter >= 0x2066 && letter <= 0x2069) || (letter & 0xFFFE) == 0xFFFE;
}

/// The text with harmful letters and bytes that are not UTF-8 replaced by U+FFFD. Letters that `keep` names stay.
inline std::string clean_utf8(std::string_view content, std::string_view keep = "") {
  std::string out;
  while (!content.empty()) {
    uint32_t letter = 0;
    const size_t length = decode_utf8(content, letter);
    const bool is_kept = length == 1 && keep.find(content[0]) != keep.npos;
    if (length == 0 || (is_harmful(letter) && !is_kept)) out += "\uFFFD";
    else out += content.substr(0, length);
    content.remove_prefix(std::max<size_t>(length, 1));
  }
  return out;
}

}  // namespace tl::core_detail
