// Warnings: what the caller should know although the work goes on.
#pragma once
#include <functional>
#include <string_view>

#include "tl/core/config.hpp"

namespace tl {

/// Receives the text of each warning, without a line end. Calls never overlap.
using WarningHandler = std::function<void(std::string_view)>;

/// Hands all later warnings to `handler`; an empty one restores the default: one line `warning: ...` on stderr.
/// Returns the handler that was set before.
WarningHandler set_warning_handler(WarningHandler handler);

/// Reports `text` to the warning handler. The handler must not call warn itself.
void warn(std::string_view text);

}  // namespace tl

#if TL_HEADER_ONLY
#include "tl/core/log.inl"
#endif
