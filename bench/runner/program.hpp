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

  void add_to(CLI::App& app) {
    app.add_option("--filter", filter, "only cases whose \"name shape\" contains this text");
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

  bool wants(const std::string& name, const std::string& shape) const {
    return (name + " " + shape).find(filter) != std::string::npos;
  }
  bool wants_peer(const std::string& peer) const {
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
  Comparison comparison(const std::string& program) const {
    return Comparison(program, {.rounds = rounds, .seconds = seconds, .precision = precision, .json = json});
  }
};

}  // namespace bench
