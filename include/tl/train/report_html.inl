// Part of report.inl: text and numbers as HTML.
#pragma once
#include <algorithm>
#include <array>
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <string>
#include <string_view>

#include "tl/core/config.hpp"

namespace tl::inline TL_ABI::detail {

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

/// Text that is safe between tags and inside of quoted attributes. At most `longest` letters, then an ellipsis.
inline std::string html(std::string_view content, size_t longest = 2000) {
  std::string out;
  for (size_t letters = 0; !content.empty(); ++letters) {
    if (letters == longest) return out + "…";
    uint32_t letter = 0;
    const size_t length = decode_utf8(content, letter);
    if (letter == '\n' || letter == '\t') out += ' ';
    else if (length == 0 || is_harmful(letter)) out += "\uFFFD";
    else if (letter == '&') out += "&amp;";
    else if (letter == '<') out += "&lt;";
    else if (letter == '>') out += "&gt;";
    else if (letter == '"') out += "&quot;";
    else if (letter == '\'') out += "&#39;";
    else out += content.substr(0, length);
    content.remove_prefix(std::max<size_t>(length, 1));
  }
  return out;
}

inline size_t count_letters(std::string_view utf8) {
  return static_cast<size_t>(
      std::count_if(utf8.begin(), utf8.end(), [](char c) { return (static_cast<uint8_t>(c) & 0xC0) != 0x80; }));
}

inline std::string base64(std::string_view bytes) {
  constexpr std::string_view kDigits = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
  std::string out;
  out.reserve((bytes.size() + 2) / 3 * 4);
  for (size_t i = 0; i < bytes.size(); i += 3) {
    const auto at = [&](size_t k) { return i + k < bytes.size() ? static_cast<uint8_t>(bytes[i + k]) : 0u; };
    const uint32_t three = at(0) << 16 | at(1) << 8 | at(2);
    for (size_t k = 0; k < 4; ++k) out += i + k > bytes.size() ? '=' : kDigits[three >> (18 - 6 * k) & 63];
  }
  return out;
}

/// A number with a fixed count of decimals; a dash for what is no number.
inline std::string fixed(double value, int decimals) {
  if (!std::isfinite(value)) return "–";
  std::array<char, 350> buffer;  // the largest double has 309 digits
  const int length = std::snprintf(buffer.data(), buffer.size(), "%.*f", decimals, value);
  return {buffer.data(), static_cast<size_t>(length)};
}

inline std::string percent(double share, int decimals = 1) {
  return std::isfinite(share) ? fixed(100 * share, decimals) + "\u00A0%" : "–";
}

/// 3374144 as 3,374,144.
inline std::string grouped(int64_t value) {
  std::string out = std::to_string(value);
  for (auto i = static_cast<int64_t>(out.size()) - 3; i > (value < 0 ? 1 : 0); i -= 3)
    out.insert(static_cast<size_t>(i), ",");
  return out;
}

inline std::string format_bytes(int64_t bytes) {
  const auto value = static_cast<double>(bytes);
  if (value < 1e6) return fixed(value / 1e3, 0) + "\u00A0kB";
  return value < 1e9 ? fixed(value / 1e6, 0) + "\u00A0MB" : fixed(value / 1e9, 2) + "\u00A0GB";
}

}  // namespace tl::inline TL_ABI::detail
