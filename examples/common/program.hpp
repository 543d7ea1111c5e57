// What every example program shares: the options that all of them have, one line for an error, one JSON object at the
// end.
#pragma once
#include <CLI/CLI.hpp>
#include <cstdio>
#include <exception>
#include <nlohmann/json.hpp>
#include <string>

#include "tl/core/error.hpp"
#include "tl/core/parallel.hpp"
#include "tl/core/precision.hpp"
#include "tl/nn/init.hpp"
#include "tl/tensor/backend.hpp"
#include "tl/train/progress.hpp"

namespace example {

struct CommonOptions {
  std::string device = "auto", precision = "f32";
  int threads = 0;
  uint64_t seed = 0;
  bool quiet = false;

  void add_to(CLI::App& app) {
    app.add_option("--device", device, "cpu, cuda or auto")
        ->check(CLI::IsMember({"cpu", "cuda", "auto"}))
        ->capture_default_str();
    app.add_option("--precision", precision, "f32, or bf16: activations in bfloat16, sums and weights in float")
        ->check(CLI::IsMember({"f32", "bf16"}))
        ->capture_default_str();
    app.add_option("--threads", threads, "0: as many as this process may use")
        ->check(CLI::Range(0, 1024))
        ->capture_default_str();
    app.add_option("--seed", seed, "of everything random")->capture_default_str();
    app.add_flag("--quiet", quiet, "no progress");
  }

  /// Applies threads and seed, and chooses the device.
  tl::Device apply() const {
    tl::set_precision(tl::parse_precision(precision));
    if (threads > 0) tl::set_threads(threads);
    tl::manual_seed(seed);
    if (device == "cpu") return tl::kCpu;
    if (device == "cuda") tl::require_cuda("--device cuda");
    return tl::cuda_available() ? tl::kCuda : tl::kCpu;
  }

  tl::ProgressScreen screen() const { return quiet ? tl::ProgressScreen{} : tl::ProgressScreen::standard_error(); }
};

/// Runs a program: parses its arguments, calls body, and turns errors into one line. Exit code 0, 1 (bad input) or 2
/// (bad usage).
template <class Body>
int run(CLI::App& app, int argc, char** argv, Body body) {
  try {
    app.parse(argc, argv);
  } catch (const CLI::Success& shown) {
    return app.exit(shown);
  } catch (const CLI::ParseError& error) {
    std::fprintf(stderr, "error: %s (see --help)\n", error.what());
    return 2;
  }
  try {
    return body();
  } catch (const tl::UsageError& error) {
    std::fprintf(stderr, "error: %s\n", error.what());
    return 2;
  } catch (const std::bad_alloc&) {
    std::fprintf(stderr, "error: not enough memory\n");
    return 1;
  } catch (const std::exception& error) {
    std::fprintf(stderr, "error: %s\n", error.what());
    return 1;
  }
}

/// The results as the last line on stdout.
inline void print_json(const nlohmann::json& json) {
  std::printf("%s\n", json.dump(-1, ' ', false, nlohmann::json::error_handler_t::replace).c_str());
  std::fflush(stdout);
}

/// A number for JSON, which has no NaN.
inline nlohmann::json number(double value) { return value == value ? nlohmann::json(value) : nlohmann::json(nullptr); }

}  // namespace example
