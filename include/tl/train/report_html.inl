// Part of report.inl: text and numbers as HTML.
#pragma once
#include <algorithm>
#include <array>
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <string>
#include <string_view>
#include <vector>

#include "tl/core/config.hpp"
#include "tl/core/text.hpp"
#include "tl/core/utf8.hpp"

namespace tl::inline TL_ABI::detail {

/// Text that is safe between tags and inside of quoted attributes. At most `longest` letters, then an ellipsis.
inline std::string html(std::string_view content, size_t longest = 2000) {
  std::string out;
  for (size_t letters = 0; !content.empty(); ++letters) {
    if (letters == longest) return out + "…";
    uint32_t letter = 0;
    const size_t length = core_detail::decode_utf8(content, letter);
    if (letter == '\n' || letter == '\t') out += ' ';
    else if (length == 0 || core_detail::is_harmful(letter)) out += "\uFFFD";
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

inline std::string plural(int64_t count, const std::string& singular, const std::string& plural_form) {
  return grouped(count) + ' ' + (count == 1 ? singular : plural_form);
}

/// The begin of a section.
inline std::string heading(std::string_view title, const std::string& note = "") {
  return text("<section>\n<h2>", title, "</h2>\n", note.empty() ? "" : "<p class='note'>" + note + "</p>\n");
}

/// What is too wide for a phone is moved sideways, with the keyboard too.
inline std::string scrolling(std::string_view label, const std::string& content) {
  return text("<div class='scroll' role='region' tabindex='0' aria-label='", label, "'>\n", content, "</div>\n");
}

inline std::string table(std::string_view label, const std::vector<std::string>& columns,
                         const std::vector<std::string>& number_columns, const std::string& rows) {
  std::string head;
  for (const auto& column : columns) head += text("<th scope='col'>", column, "</th>");
  for (const auto& column : number_columns) head += text("<th scope='col' class='number'>", column, "</th>");
  return scrolling(
      label, text("<table class='list'>\n<thead><tr>", head, "</tr></thead>\n<tbody>\n", rows, "</tbody>\n</table>\n"));
}

inline std::string number(const std::string& content) { return text("<td class='number'>", content, "</td>"); }

/// A share as a bar; it repeats a number that stands beside it.
inline std::string share_bar(double share) {
  if (!std::isfinite(share)) return "";
  return text("<span class='bar' aria-hidden='true'><i style='width:", fixed(100 * std::clamp(share, 0.0, 1.0), 1),
              "%'></i></span>");
}

}  // namespace tl::inline TL_ABI::detail
