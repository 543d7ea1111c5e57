// Patterns over dotted names, such as parameter names.
#pragma once
#include <string_view>

#include "tl/core/config.hpp"

namespace tl {

/// Whether `name` matches `pattern` as a whole:
///   *      any characters but dots          layer1.*.weight
///   **     any characters, dots included    layer[1-3].**
///   ?      one character but a dot
///   [abc]  one of these, ranges allowed; [!abc] none of these
/// A trailing ".**" also matches what stands before it: "layer1.**" matches "layer1" itself.
inline bool glob_match(std::string_view pattern, std::string_view name) {
  if (pattern == ".**" && name.empty()) return true;
  if (pattern.empty()) return name.empty();
  if (pattern.starts_with("**")) {
    for (size_t skip = 0; skip <= name.size(); ++skip)
      if (glob_match(pattern.substr(2), name.substr(skip))) return true;
    return false;
  }
  if (pattern[0] == '*') {
    for (size_t skip = 0; skip <= name.size(); ++skip) {
      if (glob_match(pattern.substr(1), name.substr(skip))) return true;
      if (skip < name.size() && name[skip] == '.') return false;
    }
    return false;
  }
  if (name.empty()) return false;
  if (pattern[0] == '?') return name[0] != '.' && glob_match(pattern.substr(1), name.substr(1));
  if (const size_t close = pattern.find(']', 1); pattern[0] == '[' && close != std::string_view::npos) {
    std::string_view set = pattern.substr(1, close - 1);
    const bool negated = !set.empty() && set[0] == '!';
    if (negated) set.remove_prefix(1);
    bool found = false;
    for (size_t i = 0; i < set.size(); ++i) {
      if (i + 2 < set.size() && set[i + 1] == '-') {
        found = found || (set[i] <= name[0] && name[0] <= set[i + 2]);
        i += 2;
      } else {
        found = found || set[i] == name[0];
      }
    }
    return found != negated && name[0] != '.' && glob_match(pattern.substr(close + 1), name.substr(1));
  }
  return pattern[0] == name[0] && glob_match(pattern.substr(1), name.substr(1));
}

}  // namespace tl
