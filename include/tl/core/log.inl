// Definitions of log.hpp.
#pragma once
#include <cstdio>
#include <mutex>
#include <utility>

#include "tl/core/log.hpp"

namespace tl {
namespace core_detail {

struct LogState {
  std::mutex mutex;
  WarningHandler handler;
};

TL_INLINE LogState& log_state() {
  static LogState state;
  return state;
}

}  // namespace core_detail

TL_INLINE WarningHandler set_warning_handler(WarningHandler handler) {
  auto& state = core_detail::log_state();
  const std::lock_guard lock(state.mutex);
  return std::exchange(state.handler, std::move(handler));
}

TL_INLINE void warn(std::string_view text) {
  auto& state = core_detail::log_state();
  const std::lock_guard lock(state.mutex);
  if (state.handler) state.handler(text);
  else std::fprintf(stderr, "warning: %.*s\n", static_cast<int>(text.size()), text.data());
}

}  // namespace tl
