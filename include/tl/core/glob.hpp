// Patterns over dotted names, such as parameter names.
#pragma once
#include <algorithm>
#include <string_view>
#include <vector>

#include "tl/core/config.hpp"

namespace tl {
namespace core_detail {

/// Whether one character matches one pattern element: "?", "[a-c]", "[!a-c]" or a character that means itself.
inline bool glob_element_matches(std::string_view element, char c) {
  if (element.size() == 1) return element[0] == '?' ? c != '.' : c == element[0];
  std::string_view set = element.substr(1, element.size() - 2);
  const bool negated = set.starts_with('!');
  if (negated) set.remove_prefix(1);
  bool found = false;
  for (size_t i = 0; i < set.size(); ++i) {
    if (i + 2 < set.size() && set[i + 1] == '-') {
      found = found || (set[i] <= c && c <= set[i + 2]);
      i += 2;
    } else {
      found = found || set[i] == c;
    }
  }
  return found != negated && c != '.';
}

}  // namespace core_detail

/// Whether `name` matches `pattern` as a whole:
///   *      any characters but dots          layer1.*.weight
///   **     any characters, dots included    layer[1-3].**
///   ?      one character but a dot
///   [abc]  one of these, ranges allowed; [!abc] none of these
/// A trailing ".**" also matches what stands before it: "layer1.**" matches "layer1" itself.
inline bool glob_match(std::string_view pattern, std::string_view name) {
  // Most names differ from a pattern before its first wildcard; the dot before it may belong to a ".**".
  size_t literal = std::min(pattern.find_first_of("*?["), pattern.size());
  if (literal > 0 && literal < pattern.size() && pattern[literal - 1] == '.') --literal;
  if (name.substr(0, literal) != pattern.substr(0, literal)) return false;
  pattern.remove_prefix(literal), name.remove_prefix(literal);
  if (pattern.empty()) return name.empty();
  // matched[i]: the pattern so far matches the first i characters. All i at once, so that no pattern is slow.
  std::vector<bool> matched(name.size() + 1, false);
  matched[0] = true;
  while (!pattern.empty()) {
    if (pattern == ".**" && matched.back()) return true;
    if (pattern[0] == '*') {
      const bool dots = pattern.starts_with("**");
      pattern.remove_prefix(dots ? 2 : 1);
      for (size_t i = 1; i <= name.size(); ++i)
        if (matched[i - 1] && (dots || name[i - 1] != '.')) matched[i] = true;
      continue;
    }
    const size_t close = pattern[0] == '[' ? pattern.find(']', 1) : std::string_view::npos;
    const std::string_view element = pattern.substr(0, close == std::string_view::npos ? 1 : close + 1);
    pattern.remove_prefix(element.size());
    for (size_t i = name.size(); i > 0; --i)
      matched[i] = matched[i - 1] && core_detail::glob_element_matches(element, name[i - 1]);
    matched[0] = false;
  }
  return matched.back();
}

/// Whether the pattern matches the name itself or that of something around it: "layer1" covers "layer1.0.bn1".
inline bool glob_covers(std::string_view pattern, std::string_view name) {
  if (glob_match(pattern, name)) return true;
  for (size_t dot = name.find('.'); dot != std::string_view::npos; dot = name.find('.', dot + 1))
    if (glob_match(pattern, name.substr(0, dot))) return true;
  return false;
}

}  // namespace tl
