// Text out of values, for error messages and printing, without <iostream>.
#pragma once
#include <cstdio>
#include <string>
#include <string_view>
#include <type_traits>

#include "tl/core/config.hpp"

namespace tl {

inline void append_text(std::string& out, std::string_view text) { out += text; }
inline void append_text(std::string& out, const char* text) { out += text; }
inline void append_text(std::string& out, char c) { out += c; }
inline void append_text(std::string& out, bool value) { out += value ? "true" : "false"; }

template <class T>
requires std::is_integral_v<T>
void append_text(std::string& out, T value) { out += std::to_string(value); }

template <class T>
requires std::is_floating_point_v<T>
void append_text(std::string& out, T value) {
  char buffer[32];
  std::snprintf(buffer, sizeof buffer, "%.6g", static_cast<double>(value));
  out += value == value ? buffer : "nan";  // some NaN have a sign, which says nothing
}

/// Concatenates values into one string: `text("got ", 3, " of ", shape)`.
/// A type takes part by an overload `append_text(std::string&, const Type&)` in its namespace.
template <class... Parts>
std::string text(const Parts&... parts) {
  std::string out;
  (append_text(out, parts), ...);
  return out;
}

}  // namespace tl
