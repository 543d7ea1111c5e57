// Errors: one exception type per kind of failure, each with a stable code.
#pragma once
#include <cstdint>
#include <stdexcept>
#include <string>

#include "tl/core/config.hpp"
#include "tl/core/text.hpp"

namespace tl {

/// What went wrong, as a number that never changes between versions.
enum class ErrorCode : int {
  shape = 1,       ///< sizes that do not fit together
  dtype = 2,       ///< an element type that the operation does not take
  device = 3,      ///< tensors on different devices, or a device that is not there
  usage = 4,       ///< a call that cannot be meant (second backward, unknown option, a glob that matches nothing)
  numeric = 5,     ///< NaN or infinity where training must stop
  state_dict = 6,  ///< names or shapes of weights that do not match the network
  io = 7,          ///< the operating system refused: missing file, full disk
  format = 8,      ///< a file that breaks its format's rules
  cuda = 9,        ///< a CUDA call or kernel failed
};

/// Base of everything that tl throws. The text names the operation, what was expected, what came, and a hint.
class Error : public std::runtime_error {
 public:
  Error(ErrorCode code, const std::string& message) : std::runtime_error(message), code_(code) {}
  ErrorCode code() const noexcept { return code_; }

 private:
  ErrorCode code_;
};

template <ErrorCode kCode>
class ErrorOf : public Error {
 public:
  explicit ErrorOf(const std::string& message) : Error(kCode, message) {}
};

using ShapeError = ErrorOf<ErrorCode::shape>;
using DTypeError = ErrorOf<ErrorCode::dtype>;
using DeviceError = ErrorOf<ErrorCode::device>;
using UsageError = ErrorOf<ErrorCode::usage>;
using NumericError = ErrorOf<ErrorCode::numeric>;
using StateDictError = ErrorOf<ErrorCode::state_dict>;
using IoError = ErrorOf<ErrorCode::io>;
using CudaError = ErrorOf<ErrorCode::cuda>;

/// A file that breaks its format's rules: names the file, the tensor or part, and the byte where it shows.
class FormatError : public ErrorOf<ErrorCode::format> {
 public:
  FormatError(const std::string& file, const std::string& part, uint64_t byte_offset, const std::string& what)
      : ErrorOf(text(file, ": ", part.empty() ? "" : part + ": ", what, " (at byte ", byte_offset, ")")),
        file_(file),
        part_(part),
        byte_offset_(byte_offset) {}
  const std::string& file() const noexcept { return file_; }
  const std::string& part() const noexcept { return part_; }
  uint64_t byte_offset() const noexcept { return byte_offset_; }

 private:
  std::string file_, part_;
  uint64_t byte_offset_;
};

namespace core_detail {
template <class E>
[[noreturn]] TL_NOINLINE void throw_text(std::initializer_list<TextPart> parts) {
  throw E(join(parts));
}
}  // namespace core_detail

/// Throws E with the concatenated parts.
template <class E, class... Parts>
[[noreturn]] void fail(const Parts&... parts) {
  core_detail::throw_text<E>({parts...});
}

/// `require<ShapeError>(n == 3, "op: expected 3, got ", n)`: throws E with the text unless the condition holds.
template <class E, class... Parts>
void require(bool condition, const Parts&... parts) {
  if (!condition) [[unlikely]]
    core_detail::throw_text<E>({parts...});  // out of line, so that a check costs one branch
}

}  // namespace tl
