// Text out of values, for error messages and printing, without <iostream>.
#pragma once
#include <cstdio>
#include <initializer_list>
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

namespace core_detail {

/// A value to be appended, whatever its type: literals of all lengths and texts with the same number of parts share
/// their code, which the many messages of a program would else compile over and over.
class TextPart {
 public:
  TextPart(const char* text) : value_(text), append_(append_literal) {}
  template <class T>
  TextPart(const T& value) : value_(&value), append_(append_value<T>) {}

  void append_to(std::string& out) const { append_(out, value_); }

 private:
  static void append_literal(std::string& out, const void* text) { out += static_cast<const char*>(text); }
  template <class T>
  static void append_value(std::string& out, const void* value) {
    append_text(out, *static_cast<const T*>(value));
  }

  const void* value_;
  void (*append_)(std::string&, const void*);
};

inline std::string join(std::initializer_list<TextPart> parts) {
  std::string out;
  for (const TextPart& part : parts) part.append_to(out);
  return out;
}

}  // namespace core_detail

/// Concatenates values into one string: `text("got ", 3, " of ", shape)`.
/// A type takes part by an overload `append_text(std::string&, const Type&)` in its namespace.
template <class... Parts>
std::string text(const Parts&... parts) {
  return core_detail::join({parts...});
}

}  // namespace tl
