// Processes that are started once and then asked, over a pipe, for one timed turn after the other.
//
// Whoever measures starts tl and all its peers this way, each in a process of its own, so that they can take turns
// (A B C A B C ...) while the others sleep in a read. The protocol is one line each way, tl's side is `serve`, that of
// the Python peers peers/worker.py:
//
//   worker, once ready:       {"peer": "torch 2.15.0 eager", "base_bytes": 5e8}   or {"error": "why not"}
//                             with "trained_parameters" where that must be as many on all sides
//   runner:  turn 0.25        run for about 0.25 seconds
//   worker:  {"seconds": 0.0123, "calls": 20, "peak_bytes": 7e8}                  the mean of its calls
//            with "accuracy" where the call trains something
//
// Workers for small operations are told which one before their turns, and answer as at the start:
//
//   runner:  case {"op": "gemm", "m": 512, ...}
#pragma once
#include <cstdint>
#include <functional>
#include <string>
#include <vector>

namespace bench {

/// One timed turn: the mean of its calls.
struct Turn {
  double seconds = 0;
  int64_t calls = 0;
  int64_t peak_bytes = 0;  ///< the process' resident peak so far
  double accuracy = -1;    ///< of what the last call trained, from 0 to 1; below 0: it trained nothing
};

/// Calls `call` until about `seconds` have passed; short calls have one more before, which warms the caches up.
Turn time_calls(const std::function<void()>& call, double seconds);

struct ServeOptions {
  int warm_up_calls = 3;
  std::function<int64_t()> peak_bytes = {};  ///< whose memory counts, if not this process'
  std::function<double()> accuracy = {};     ///< of what the last call trained
  std::function<int64_t()> trained_parameters = {};
};

/// The worker's side: makes the call, warms up, and answers turns until stdin ends. Returns the exit code.
int serve(const std::string& name, const std::function<std::function<void()>()>& prepare,
          const ServeOptions& options = {});

/// Runs a program to its end, without its output. Errors: IoError if it cannot be started or fails.
void run_program(const std::vector<std::string>& command);

/// A running worker.
class Worker {
 public:
  /// Starts a program, and does not wait for it: several get ready at once. `peer` is its name as long as it has not
  /// said its own: words of that one, such as "torch eager".
  Worker(const std::vector<std::string>& command, std::string peer);
  ~Worker();
  Worker(Worker&& other) noexcept;
  Worker(const Worker&) = delete;
  Worker& operator=(const Worker&) = delete;

  /// Waits until it is ready. `error()` tells if it never will be.
  void wait();
  const std::string& name() const { return name_; }                   ///< with versions, as the worker calls itself
  const std::string& error() const { return error_; }                 ///< why there is none; empty while it works
  int64_t base_bytes() const { return base_bytes_; }                  ///< resident before its first call
  int64_t trained_parameters() const { return trained_parameters_; }  ///< 0: not told
  Turn turn(double seconds);
  /// Tells which operation the next turns are about, as JSON; clears the error of another case.
  void load(const std::string& operation);

 private:
  std::string read_line(double seconds);
  void read_hello();

  int process_ = -1, to_ = -1, from_ = -1;
  std::string buffer_, name_, error_;
  int64_t base_bytes_ = 0, trained_parameters_ = 0;
  bool waited_ = false, alive_ = false;
};

}  // namespace bench
