// Definitions of progress.hpp.
#pragma once
#include <sys/ioctl.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <chrono>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <utility>
#include <vector>

#include "tl/core/text.hpp"
#include "tl/train/progress.hpp"

namespace tl::inline TL_ABI {
namespace detail {

inline std::string_view environment(const char* name) {
  const char* value = std::getenv(name);
  return value ? value : "";
}

/// Whether letters beyond ASCII can be written, as the first of these variables that is set decides.
inline bool has_utf8_locale() {
  for (const char* name : {"LC_ALL", "LC_CTYPE", "LANG"}) {
    const std::string_view value = environment(name);
    if (value.empty()) continue;
    return value.find("UTF-8") != value.npos || value.find("utf8") != value.npos || value.find("utf-8") != value.npos;
  }
  return false;
}

inline int columns_of_stderr() {
  winsize size{};
  return ::ioctl(STDERR_FILENO, TIOCGWINSZ, &size) == 0 && size.ws_col > 0 ? size.ws_col : 80;
}

inline double steady_seconds() {
  return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

template <class... Values>
std::string print_number(const char* pattern, Values... values) {
  std::array<char, 64> buffer;
  std::snprintf(buffer.data(), buffer.size(), pattern, values...);
  return buffer.data();
}

inline size_t visible_columns(std::string_view utf8) {
  return static_cast<size_t>(std::count_if(utf8.begin(), utf8.end(), [](char c) { return (c & 0xC0) != 0x80; }));
}

inline std::string draw_bar(double share, size_t cells, bool unicode, bool colour) {
  const auto full = static_cast<size_t>(std::lround(share * static_cast<double>(cells)));
  const auto repeat = [](std::string_view cell, size_t count) {
    std::string out;
    while (count-- > 0) out += cell;
    return out;
  };
  const std::string left = repeat(unicode ? "━" : "=", full), right = repeat(unicode ? "─" : "-", cells - full);
  if (!colour) return left + right;
  return text("\x1b[36m", left, "\x1b[2m", right, "\x1b[0m");
}

}  // namespace detail

TL_INLINE ProgressScreen ProgressScreen::standard_error() {
  return standard_error(::isatty(STDERR_FILENO) ? Verbosity::bar : Verbosity::quiet);
}

TL_INLINE ProgressScreen ProgressScreen::standard_error(Verbosity verbosity) {
  const std::string_view terminal = detail::environment("TERM");
  const bool can_draw = ::isatty(STDERR_FILENO) && !terminal.empty() && terminal != "dumb";
  return {.verbosity = verbosity == Verbosity::bar && !can_draw ? Verbosity::epochs : verbosity,
          .colour = can_draw && detail::environment("NO_COLOR").empty(),
          .unicode = detail::has_utf8_locale(),
          .columns = detail::columns_of_stderr,
          .write = [](std::string_view bytes) { std::fwrite(bytes.data(), 1, bytes.size(), stderr); }};
}

TL_INLINE std::string format_duration(double seconds) {
  if (!(seconds >= 0 && seconds < 1e12)) return "?";
  if (seconds < 9.95) return detail::print_number("%.1f s", seconds);
  const auto whole = std::llround(seconds);
  if (whole < 60) return text(whole, " s");
  if (whole < 3600) return detail::print_number("%lld min %02lld s", whole / 60, whole % 60);
  return detail::print_number("%lld h %02lld min", whole / 3600, whole % 3600 / 60);
}

TL_INLINE std::string format_progress(const ProgressLine& line, int columns, bool unicode, bool colour) {
  constexpr size_t kGap = 2, kShortestBar = 8, kLongestBar = 40;
  struct Part {
    std::string content;
    int rank;  // 0 stays; of the others the largest goes first
  };
  const auto number = [](double value, const char* pattern) {
    return std::isnan(value) ? std::string() : detail::print_number(pattern, value);
  };
  const std::vector<Part> before = {{std::string(line.label), 0}, {std::string(line.phase), 2}};
  const std::vector<Part> after = {
      {text(line.done, '/', line.total), 0},
      {number(line.loss, std::abs(line.loss) < 1000 ? "loss %.4f" : "loss %.3g"), 0},
      {number(100 * line.accuracy, "acc %.1f %%"), 1},
      {number(line.samples_per_second, line.samples_per_second < 10 ? "%.1f samples/s" : "%.0f samples/s"), 4},
      {std::isnan(line.seconds_left) ? "" : format_duration(line.seconds_left) + " left", 3},
  };

  const auto room = static_cast<size_t>(std::max(columns, 0));
  const auto join = [](const std::vector<Part>& parts, int worst_rank) {
    std::string out;
    for (const Part& part : parts)
      if (part.rank <= worst_rank && !part.content.empty())
        out += (out.empty() ? "" : std::string(kGap, ' ')) + part.content;
    return out;
  };
  for (int worst_rank = 4; worst_rank >= 0; --worst_rank) {
    const std::string left = join(before, worst_rank), right = join(after, worst_rank);
    const size_t used = detail::visible_columns(left) + detail::visible_columns(right) + 2 * kGap;
    if (used + kShortestBar > room) continue;
    const double share = line.total > 0 ? static_cast<double>(line.done) / static_cast<double>(line.total) : 0;
    const std::string gap(kGap, ' ');
    return left + gap +
           detail::draw_bar(std::clamp(share, 0.0, 1.0), std::min(room - used, kLongestBar), unicode, colour) + gap +
           right;
  }
  std::string narrow = join(before, 0) + "  " + join(after, 0);
  while (detail::visible_columns(narrow) > room) narrow.pop_back();
  return narrow;
}

TL_INLINE Progress::Progress(ProgressScreen screen, Run run) : screen_(std::move(screen)), run_(run) {
  if (!screen_.seconds) screen_.seconds = detail::steady_seconds;
  last_draw_ = -1e9;
  if (screen_.verbosity != Verbosity::bar) return;
  outer_handler_ = set_warning_handler({});  // stored before ours, which reads it, can be called
  set_warning_handler([this](std::string_view warning) {
    const std::lock_guard lock(mutex_);
    clear();
    if (outer_handler_) outer_handler_(warning);
    else screen_.write(text("warning: ", warning, '\n'));
  });
}

TL_INLINE Progress::~Progress() {
  if (screen_.verbosity != Verbosity::bar) return;
  set_warning_handler(outer_handler_);
  clear();
}

TL_INLINE void Progress::start_phase(int64_t epoch, std::string_view phase, int64_t batches) {
  const std::lock_guard lock(mutex_);
  phase_start_ = screen_.seconds();
  if (epoch != epoch_) epoch_start_ = phase_start_;
  if (epoch != epoch_ && epoch == run_.first_epoch) run_start_ = phase_start_;
  epoch_ = epoch;
  phase_ = phase;
  total_ = batches;
  done_ = samples_ = 0;
  loss_ = accuracy_ = kNoValue;
  draw();
}

TL_INLINE void Progress::step(int64_t samples, double loss, double accuracy) {
  const std::lock_guard lock(mutex_);
  ++done_;
  samples_ += samples;
  loss_ = loss;
  accuracy_ = accuracy;
  draw();
}

TL_INLINE void Progress::finish_epoch(std::string_view summary) {
  const std::lock_guard lock(mutex_);
  clear();
  if (screen_.verbosity == Verbosity::quiet) return;
  screen_.write(text(label(), "  ", summary, "  ", format_duration(screen_.seconds() - epoch_start_), '\n'));
}

TL_INLINE std::string Progress::label() const {
  return epoch_ < run_.first_epoch ? std::string() : text("epoch ", epoch_, '/', run_.epochs);
}

TL_INLINE void Progress::draw() {
  constexpr double kSecondsBetween = 0.1;
  if (screen_.verbosity != Verbosity::bar) return;
  const double now = screen_.seconds();
  if (now - last_draw_ < kSecondsBetween) return;
  last_draw_ = now;

  ProgressLine line{.done = done_, .total = total_, .loss = loss_, .accuracy = accuracy_};
  const std::string name = label();
  line.label = name.empty() ? std::string_view(phase_) : name;
  line.phase = name.empty() ? std::string_view() : phase_;
  const double elapsed = now - phase_start_;
  if (done_ > 0 && elapsed > 0) {
    line.samples_per_second = static_cast<double>(samples_) / elapsed;
    const double phase_left =
        elapsed / static_cast<double>(done_) * static_cast<double>(std::max<int64_t>(total_ - done_, 0));
    line.seconds_left = phase_left;
    const int64_t finished = epoch_ - run_.first_epoch;
    if (finished >= 0) {
      // The first epoch is judged by its phase so far, later ones by the epochs before.
      const double in_epoch = now - epoch_start_;
      const double epoch_seconds =
          finished > 0 ? (epoch_start_ - run_start_) / static_cast<double>(finished) : in_epoch + phase_left;
      line.seconds_left = std::max(phase_left, epoch_seconds - in_epoch) +
                          epoch_seconds * static_cast<double>(std::max<int64_t>(run_.epochs - epoch_, 0));
    }
  }
  // The last column stays free: writing there wraps the line on some terminals.
  screen_.write(text('\r', format_progress(line, screen_.columns() - 1, screen_.unicode, screen_.colour), "\x1b[K"));
  drawn_ = true;
}

TL_INLINE void Progress::clear() {
  if (std::exchange(drawn_, false)) screen_.write("\r\x1b[K");
}

}  // namespace tl::inline TL_ABI
