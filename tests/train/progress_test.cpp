#include "tl/train/progress.hpp"

#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <cstdlib>
#include <string>
#include <thread>

#include "support.hpp"
#include "tl/core/text.hpp"

using tl::Verbosity;

namespace {

/// A screen that remembers what was written, with a clock that the test moves.
struct Recorder {
  std::string written;
  double now = 100;
  int writes = 0;

  tl::ProgressScreen screen(Verbosity verbosity, int columns = 100) {
    return {.verbosity = verbosity,
            .columns = [columns] { return columns; },
            .write =
                [this](std::string_view bytes) {
                  written += bytes;
                  ++writes;
                },
            .seconds = [this] { return now; }};
  }

  /// What a terminal shows in the end: a carriage return starts the line again, ESC [ K empties its rest.
  std::string shown() const {
    std::string lines, line;
    size_t column = 0;
    for (size_t i = 0; i < written.size(); ++i) {
      if (written[i] == '\r') column = 0;
      else if (written.substr(i, 3) == "\x1b[K") line.resize(column), i += 2;
      else if (written[i] == '\n') lines += line + '\n', line.clear(), column = 0;
      else line.resize(std::max(line.size(), column + 1)), line[column++] = written[i];
    }
    return lines + line;
  }
};

tl::ProgressLine full_line() {
  return {.label = "epoch 3/20",
          .phase = "train",
          .done = 30,
          .total = 40,
          .samples_per_second = 312.4,
          .loss = 0.41234,
          .accuracy = 0.875,
          .seconds_left = 187};
}

struct Environment {
  explicit Environment(const char* name, const char* value) : name_(name) {
    if (const char* old = std::getenv(name)) old_ = old, had_ = true;
    if (value) ::setenv(name, value, 1);
    else ::unsetenv(name);
  }
  ~Environment() {
    if (had_) ::setenv(name_, old_.c_str(), 1);
    else ::unsetenv(name_);
  }
  const char* name_;
  std::string old_;
  bool had_ = false;
};

}  // namespace

TEST_CASE("A line fits the terminal and leaves out what matters least") {
  const auto at = [](int columns) { return tl::format_progress(full_line(), columns, false, false); };
  CHECK(at(120) ==
        "epoch 3/20  train  ============================---------  30/40  loss 0.4123  acc 87.5 %  "
        "312 samples/s  3 min 07 s left");
  CHECK(at(80) == "epoch 3/20  train  =========---  30/40  loss 0.4123  acc 87.5 %  3 min 07 s left");
  CHECK(at(70) == "epoch 3/20  train  ==============-----  30/40  loss 0.4123  acc 87.5 %");
  CHECK(at(50) == "epoch 3/20  ==============----  30/40  loss 0.4123");
  CHECK(at(30) == "epoch 3/20  30/40  loss 0.4123");
  CHECK(at(12) == "epoch 3/20  ");
  CHECK(at(0).empty());
  CHECK(at(-1).empty());
  for (int columns = 0; columns < 200; ++columns) CHECK(at(columns).size() <= static_cast<size_t>(columns));
}

TEST_CASE("What is not known is left out, and odd numbers do no harm") {
  tl::ProgressLine line{.label = "epoch 1/1"};
  CHECK(tl::format_progress(line, 40, false, false) == "epoch 1/1  ------------------------  0/0");
  line.done = 7, line.total = 3, line.loss = 12345.678, line.samples_per_second = 1.25;
  CHECK(tl::format_progress(line, 60, false, false) == "epoch 1/1  ==============  7/3  loss 1.23e+04  1.2 samples/s");
}

TEST_CASE("The bar in Unicode and in colour") {
  tl::ProgressLine line{.label = "x", .done = 1, .total = 2};
  CHECK(tl::format_progress(line, 16, true, false) == "x  ━━━━────  1/2");
  CHECK(tl::format_progress(line, 16, true, true) == "x  \x1b[36m━━━━\x1b[2m────\x1b[0m  1/2");
}

TEST_CASE("Durations") {
  CHECK(tl::format_duration(0) == "0.0 s");
  CHECK(tl::format_duration(9.94) == "9.9 s");
  CHECK(tl::format_duration(9.96) == "10 s");
  CHECK(tl::format_duration(59.6) == "1 min 00 s");
  CHECK(tl::format_duration(187) == "3 min 07 s");
  CHECK(tl::format_duration(7500) == "2 h 05 min");
  CHECK(tl::format_duration(-1) == "?");
  CHECK(tl::format_duration(tl::kNoValue) == "?");
  CHECK(tl::format_duration(1e300) == "?");
}

TEST_CASE("The bar moves at most ten times a second and removes itself") {
  Recorder recorder;
  {
    tl::Progress progress(recorder.screen(Verbosity::bar), {.epochs = 2});
    progress.start_phase(1, "train", 1000);
    CHECK(recorder.shown().starts_with("epoch 1/2  train  -----"));
    for (int i = 0; i < 1000; ++i) {
      recorder.now += 0.001;
      progress.step(8, 0.5, 0.25);
    }
    CHECK(recorder.writes <= 11);
    CHECK(recorder.shown().find("loss 0.5000  acc 25.0 %") != std::string::npos);
    recorder.now += 1;
    progress.finish_epoch("loss 0.5");
    CHECK(recorder.shown() == "epoch 1/2  loss 0.5  2.0 s\n");
    progress.start_phase(2, "train", 10);
    recorder.now += 1;
    progress.step(8);
  }
  CHECK(recorder.shown() == "epoch 1/2  loss 0.5  2.0 s\n");
}

TEST_CASE("The time left counts the epochs to come, and on resuming only what this process did") {
  Recorder recorder;
  tl::Progress progress(recorder.screen(Verbosity::bar), {.epochs = 12, .first_epoch = 10});
  progress.start_phase(0, "features", 4);
  recorder.now += 60;
  progress.step(10);
  CHECK(recorder.shown().starts_with("features  "));
  CHECK(recorder.shown().ends_with("1/4  0.2 samples/s  3 min 00 s left"));

  progress.start_phase(10, "train", 4);
  recorder.now += 10;
  progress.step(100);  // 30 s of this epoch, and twice 40 s
  CHECK(recorder.shown().ends_with("10 samples/s  1 min 50 s left"));
  recorder.now += 30;
  progress.start_phase(10, "validate", 2);
  recorder.now += 10;
  progress.finish_epoch("done");  // 50 s an epoch

  progress.start_phase(11, "train", 4);
  recorder.now += 20;
  progress.step(100);  // at this speed 60 s more, whatever the epoch before says, and 50 s
  CHECK(recorder.shown().ends_with("1 min 50 s left"));
}

TEST_CASE("Lines instead of a bar, and silence") {
  for (const Verbosity verbosity : {Verbosity::epochs, Verbosity::quiet}) {
    Recorder recorder;
    {
      tl::Progress progress(recorder.screen(verbosity), {.epochs = 1});
      progress.start_phase(1, "train", 2);
      recorder.now += 5;
      progress.step(8, 0.5);
      progress.finish_epoch("loss 0.5");
    }
    CHECK(recorder.written == (verbosity == Verbosity::quiet ? "" : "epoch 1/1  loss 0.5  5.0 s\n"));
  }
}

TEST_CASE("A warning passes above the bar, in the form that it had") {
  Recorder recorder;
  std::string caught;
  const auto before = tl::set_warning_handler({});
  {
    tl::Progress progress(recorder.screen(Verbosity::bar), {.epochs = 1});
    progress.start_phase(1, "train", 2);
    std::thread([] { tl::warn("two files were skipped"); }).join();
    CHECK(recorder.shown() == "warning: two files were skipped\n");
    recorder.now += 1;
    progress.step(1);
    CHECK(recorder.shown().starts_with("warning: two files were skipped\nepoch 1/1  train"));
  }
  tl::set_warning_handler([&](std::string_view warning) { caught += warning; });
  {
    tl::Progress progress(recorder.screen(Verbosity::bar), {});
    tl::warn("a");
  }
  tl::warn("b");  // the handler from before is back
  CHECK(caught == "ab");
  tl::set_warning_handler(before);
}

TEST_CASE("stderr: no bar where it cannot be drawn, no colour where it is not wanted") {
  const int saved = ::dup(STDERR_FILENO);
  const int file = ::open("/dev/null", O_WRONLY);
  ::dup2(file, STDERR_FILENO);
  CHECK(tl::ProgressScreen::standard_error().verbosity == Verbosity::quiet);
  CHECK(tl::ProgressScreen::standard_error(Verbosity::bar).verbosity == Verbosity::epochs);
  CHECK(tl::ProgressScreen::standard_error(Verbosity::epochs).verbosity == Verbosity::epochs);
  CHECK_FALSE(tl::ProgressScreen::standard_error().colour);
  CHECK(tl::ProgressScreen::standard_error().columns() == 80);
  tl::ProgressScreen::standard_error().write("into the void");

  const int terminal = ::posix_openpt(O_RDWR | O_NOCTTY);
  if (terminal >= 0 && ::grantpt(terminal) == 0 && ::unlockpt(terminal) == 0) {
    const int client = ::open(::ptsname(terminal), O_RDWR | O_NOCTTY);
    ::dup2(client, STDERR_FILENO);
    ::close(client);
    const Environment locale("LC_ALL", "C.UTF-8");
    const Environment colour("NO_COLOR", nullptr);
    {
      const Environment term("TERM", "xterm");
      const auto screen = tl::ProgressScreen::standard_error();
      CHECK(screen.verbosity == Verbosity::bar);
      CHECK(screen.colour);
      CHECK(screen.unicode);
      const Environment no_colour("NO_COLOR", "1");
      CHECK_FALSE(tl::ProgressScreen::standard_error().colour);
      CHECK(tl::ProgressScreen::standard_error(Verbosity::quiet).verbosity == Verbosity::quiet);
    }
    const Environment term("TERM", "dumb");
    CHECK(tl::ProgressScreen::standard_error().verbosity == Verbosity::epochs);
    CHECK_FALSE(tl::ProgressScreen::standard_error().colour);
    const Environment posix("LC_ALL", "POSIX");
    CHECK_FALSE(tl::ProgressScreen::standard_error().unicode);
  }
  ::dup2(saved, STDERR_FILENO);
  ::close(terminal), ::close(file), ::close(saved);
}
