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
#include "tl/core/utf8.hpp"

namespace tl::inline TL_ABI::detail {

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
