#include "runner/worker.hpp"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstdio>
#include <cstdlib>
#include <iostream>
#include <nlohmann/json.hpp>
#include <utility>

#include "runner/machine.hpp"
#include "tl/core/error.hpp"
#include "tl/core/stopwatch.hpp"

namespace bench {
namespace {

constexpr double kStartSeconds = 600;  // compilers among the peers take their time
constexpr double kTurnSeconds = 3600;  // a turn may be a whole training
constexpr double kShortCall = 0.1;

/// As exec wants it; the strings must live on.
std::vector<char*> words_of(const std::vector<std::string>& command) {
  std::vector<char*> words;
  for (const auto& word : command) words.push_back(const_cast<char*>(word.c_str()));
  words.push_back(nullptr);
  return words;
}

void close_once(int& descriptor) {
  if (descriptor >= 0) close(descriptor);
  descriptor = -1;
}

}  // namespace

Turn time_calls(const std::function<void()>& call, double seconds) {
  Turn turn;
  const auto timed = [&] {
    const tl::Stopwatch watch;
    call();
    return watch.seconds();
  };
  double first = timed();
  if (first < kShortCall && first < seconds) first = 0;
  else turn.calls = 1;
  double total = first;
  while (turn.calls == 0 || total < seconds) {
    total += timed();
    ++turn.calls;
  }
  turn.seconds = total / static_cast<double>(turn.calls);
  turn.peak_bytes = resident_memory().peak;
  return turn;
}

int serve(const std::string& name, const std::function<std::function<void()>()>& prepare, const ServeOptions& options) {
  try {
    const std::function<void()> call = prepare();
    const int64_t base = resident_memory().now;
    for (int i = 0; i < options.warm_up_calls; ++i) call();
    nlohmann::json hello = {{"peer", name}, {"base_bytes", base}};
    if (options.trained_parameters) hello["trained_parameters"] = options.trained_parameters();
    std::cout << hello.dump() << std::endl;
    std::string word;
    for (double seconds; std::cin >> word >> seconds;) {
      const Turn turn = time_calls(call, seconds);
      nlohmann::json reply = {{"seconds", turn.seconds},
                              {"calls", turn.calls},
                              {"peak_bytes", options.peak_bytes ? options.peak_bytes() : turn.peak_bytes}};
      if (options.accuracy) reply["accuracy"] = options.accuracy();
      std::cout << reply.dump() << std::endl;
    }
    return 0;
  } catch (const std::exception& error) {
    std::cout << nlohmann::json{{"error", error.what()}}.dump() << std::endl;
    return 1;
  }
}

void run_program(const std::vector<std::string>& command) {
  std::vector<char*> words = words_of(command);
  posix_spawn_file_actions_t quiet;
  posix_spawn_file_actions_init(&quiet);
  posix_spawn_file_actions_addopen(&quiet, STDOUT_FILENO, "/dev/null", O_WRONLY, 0);
  pid_t process = 0;
  const int failed = posix_spawnp(&process, words[0], &quiet, nullptr, words.data(), environ);
  posix_spawn_file_actions_destroy(&quiet);
  tl::require<tl::IoError>(failed == 0, "bench: cannot start ", command[0]);
  int status = 0;
  waitpid(process, &status, 0);
  tl::require<tl::IoError>(WIFEXITED(status) && WEXITSTATUS(status) == 0, "bench: ", command[0], " failed");
}

Worker::Worker(const std::vector<std::string>& command, std::string peer) : name_(std::move(peer)) {
  int request[2], reply[2];
  tl::require<tl::IoError>(pipe2(request, O_CLOEXEC) == 0 && pipe2(reply, O_CLOEXEC) == 0, "bench: no pipe");
  std::vector<char*> words = words_of(command);
  const bool quiet = std::getenv("TL_BENCH_VERBOSE") == nullptr;
  signal(SIGPIPE, SIG_IGN);  // a worker that died shows as an end of file
  process_ = fork();
  tl::require<tl::IoError>(process_ >= 0, "bench: cannot start ", command[0]);
  if (process_ == 0) {
    dup2(request[0], STDIN_FILENO);
    dup2(reply[1], STDOUT_FILENO);
    if (quiet) dup2(open("/dev/null", O_WRONLY), STDERR_FILENO);
    execvp(words[0], words.data());
    _exit(127);
  }
  close(request[0]);
  close(reply[1]);
  to_ = request[1];
  from_ = reply[0];
}

void Worker::wait() {
  if (!std::exchange(waited_, true)) read_hello();
}

void Worker::read_hello() {
  const auto hello = nlohmann::json::parse(read_line(kStartSeconds), nullptr, false);
  alive_ = hello.is_object();
  error_ = !alive_ ? "did not start (TL_BENCH_VERBOSE=1 shows why)" : hello.value("error", "");
  if (!error_.empty()) return;
  name_ = hello["peer"];
  base_bytes_ = hello["base_bytes"];
  trained_parameters_ = hello.value("trained_parameters", int64_t{0});
}

void Worker::load(const std::string& operation) {
  wait();
  if (!alive_) return;
  const std::string request = "case " + operation + "\n";
  alive_ = write(to_, request.data(), request.size()) > 0;
  read_hello();
}

Worker::Worker(Worker&& other) noexcept
    : process_(std::exchange(other.process_, -1)),
      to_(std::exchange(other.to_, -1)),
      from_(std::exchange(other.from_, -1)),
      buffer_(std::move(other.buffer_)),
      name_(std::move(other.name_)),
      error_(std::move(other.error_)),
      base_bytes_(other.base_bytes_),
      trained_parameters_(other.trained_parameters_),
      waited_(other.waited_),
      alive_(other.alive_) {}

Worker::~Worker() {
  close_once(to_);
  close_once(from_);
  if (process_ < 0) return;
  for (int i = 0; i < 50; ++i) {
    if (waitpid(process_, nullptr, WNOHANG) != 0) return;
    usleep(100'000);
  }
  kill(process_, SIGKILL);
  waitpid(process_, nullptr, 0);
}

std::string Worker::read_line(double seconds) {
  const tl::Stopwatch watch;
  for (;;) {
    if (const size_t end = buffer_.find('\n'); end != std::string::npos) {
      std::string line = buffer_.substr(0, end);
      buffer_.erase(0, end + 1);
      return line;
    }
    pollfd waiting{.fd = from_, .events = POLLIN, .revents = 0};
    const double left = seconds - watch.seconds();
    if (left <= 0 || poll(&waiting, 1, static_cast<int>(left * 1000) + 1) <= 0) return "";
    char part[4096];
    const ssize_t got = read(from_, part, sizeof(part));
    if (got <= 0) return "";
    buffer_.append(part, static_cast<size_t>(got));
  }
}

Turn Worker::turn(double seconds) {
  const std::string request = "turn " + std::to_string(seconds) + "\n";
  const ssize_t sent = write(to_, request.data(), request.size());
  const auto reply = nlohmann::json::parse(sent > 0 ? read_line(kTurnSeconds) : "", nullptr, false);
  if (!reply.is_object() || reply.contains("error")) {
    error_ = reply.is_object() ? reply["error"].get<std::string>() : "ended in the middle of a run";
    return {};
  }
  return {.seconds = reply["seconds"],
          .calls = reply["calls"],
          .peak_bytes = reply["peak_bytes"],
          .accuracy = reply.value("accuracy", -1.0)};
}

}  // namespace bench
