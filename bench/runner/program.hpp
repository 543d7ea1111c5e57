// What every bench shares: its options, and how it ends.
#pragma once
#include <CLI/CLI.hpp>
#include <string>
#include <vector>

#include "common/program.hpp"
#include "runner/compare.hpp"

namespace bench {

struct ProgramOptions {
  std::string filter, json, python = "python3", precision = "f32";
  std::vector<std::string> peers = {"all"};
  std::vector<int> threads;
  int rounds = 7;
  double seconds = 0.2;
  bool list = false;

  void add_to(CLI::App& app) {
    app.add_option("--filter", filter, "only cases whose \"name shape\" contains this text");
    app.add_flag("--list", list, "only name the cases");
    app.add_option("--json", json, "file for the report");
    app.add_option("--threads", threads, "1,2: each of these numbers of threads (default: 1 and all)")->delimiter(',');
    app.add_option("--rounds", rounds, "turns of each side")->check(CLI::Range(1, 1000))->capture_default_str();
    app.add_option("--seconds", seconds, "of one turn, at least one call")
        ->check(CLI::PositiveNumber)
        ->capture_default_str();
    app.add_option("--precision", precision)->check(CLI::IsMember({"f32", "bf16"}))->capture_default_str();
    app.add_option("--python", python, "interpreter with the Python peers (torch, onnxruntime, openvino, ...)")
        ->capture_default_str();
    app.add_option("--peers", peers, "all, none, or names such as eager,compile,openvino")
        ->delimiter(',')
        ->capture_default_str();
  }

  /// Whether to measure this case; with --list its name is all that is wanted.
  bool wants(const std::string& name, const std::string& shape, int threads_) const {
    const std::string one = name + " " + shape + " T" + std::to_string(threads_);
    if (one.find(filter) == std::string::npos) return false;
    if (list) std::printf("%s\n", one.c_str());
    return !list;
  }
  bool wants_peer(const std::string& peer) const {
    if (list) return false;
    for (const auto& p : peers)
      if (p == "all" || p == peer) return true;
    return false;
  }
  std::vector<int> thread_counts() const {
    if (!threads.empty()) return threads;
    const int all = tl::available_threads();
    return all > 1 ? std::vector<int>{1, all} : std::vector<int>{1};
  }
  /// A script of bench/peers/ as a command.
  std::vector<std::string> peer_command(const std::string& script, const std::vector<std::string>& arguments) const {
    std::vector<std::string> out = {python, std::string(TL_BENCH_DIR) + "/peers/" + script};
    out.insert(out.end(), arguments.begin(), arguments.end());
    return out;
  }
  /// The machine's limits are measured first, while nothing else of this bench runs.
  Comparison comparison(const std::string& program) const {
    Comparison out(program, {.rounds = rounds, .seconds = seconds, .precision = precision, .json = json});
    for (const int count : thread_counts()) out.peak(count);
    return out;
  }
};

}  // namespace bench
