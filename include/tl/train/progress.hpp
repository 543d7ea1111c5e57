// The progress bar.
#pragma once
#include <cstdint>
#include <functional>
#include <mutex>
#include <string>
#include <string_view>

#include "tl/core/config.hpp"
#include "tl/core/log.hpp"
#include "tl/train/metrics.hpp"

namespace tl::inline TL_ABI {

/// What is shown while training runs.
enum class Verbosity {
  quiet,   ///< nothing
  epochs,  ///< a line for each epoch
  bar,     ///< a line for each epoch, and below it a bar that moves
};

/// Where progress is shown, and what can be shown there.
struct ProgressScreen {
  Verbosity verbosity = Verbosity::quiet;
  bool colour = false;
  bool unicode = false;
  std::function<int()> columns = [] { return 80; };  ///< asked at each redraw: windows change size
  std::function<void(std::string_view)> write = [](auto) {};
  std::function<double()> seconds = {};  ///< a clock; empty: the system's

  /// stderr: a bar if it is a terminal that can draw one, else quiet. Colours unless NO_COLOR is set (no-color.org),
  /// and no bar where TERM is dumb; letters beyond ASCII only in a UTF-8 locale.
  static ProgressScreen standard_error();
  /// The same with another verbosity; a bar is still drawn only where one can be.
  static ProgressScreen standard_error(Verbosity verbosity);
};

/// What a line of progress says; numbers that are not known yet are kNoValue and left out.
struct ProgressLine {
  std::string_view label = {};  ///< "epoch 3/20"
  std::string_view phase = {};  ///< "train", "validate"
  int64_t done = 0, total = 0;  ///< batches
  double samples_per_second = kNoValue;
  double loss = kNoValue, accuracy = kNoValue;
  double seconds_left = kNoValue;  ///< of the whole run
};

/// The line as text at most `columns` wide: what matters least is left out first (speed, time left, phase, accuracy),
/// and the bar takes what room remains.
std::string format_progress(const ProgressLine& line, int columns, bool unicode, bool colour);

/// "42 s", "3 min 07 s", "2 h 05 min"; "?" for what is no time.
std::string format_duration(double seconds);

/// Shows how far a run is: a bar that is redrawn at most ten times a second, removes itself, and lets warnings pass
/// above it. Where stderr is no terminal nothing is shown, so that logs stay clean.
///
///   Progress progress(ProgressScreen::standard_error(), {.epochs = 20});
///   progress.start_phase(3, "train", batches);  ... progress.step(samples, loss, accuracy);  ...
///   progress.finish_epoch("loss 0.41, accuracy 87.5 %");
class Progress {
 public:
  struct Run {
    int64_t epochs = 1;
    int64_t first_epoch = 1;  ///< of a resumed run: the time left is judged by what this process did
  };

  Progress(ProgressScreen screen, Run run);
  ~Progress();
  Progress(const Progress&) = delete;
  Progress& operator=(const Progress&) = delete;

  /// Begins a pass over `batches` batches in an epoch that is counted from 1.
  void start_phase(int64_t epoch, std::string_view phase, int64_t batches);
  /// One batch is done; loss and accuracy are the means of the phase so far.
  void step(int64_t samples, double loss = kNoValue, double accuracy = kNoValue);
  /// Replaces the bar by a line that stays: "epoch 3/20  <summary>  12 s".
  void finish_epoch(std::string_view summary);

 private:
  std::string label() const;
  void draw();
  void clear();

  std::mutex mutex_;  // warnings come from other threads
  ProgressScreen screen_;
  Run run_;
  WarningHandler outer_handler_;
  std::string phase_;
  int64_t epoch_ = 0, done_ = 0, total_ = 0, samples_ = 0;
  double loss_ = kNoValue, accuracy_ = kNoValue;
  double run_start_ = 0, epoch_start_ = 0, phase_start_ = 0, last_draw_ = 0;
  bool drawn_ = false;
};

}  // namespace tl::inline TL_ABI

#if TL_HEADER_ONLY
#include "tl/train/progress.inl"
#endif
