// What every example program shares: the options that all of them have, one line for an error, one JSON object at the
// end.
#pragma once
#include <unistd.h>

#include <CLI/CLI.hpp>
#include <cstdio>
#include <cstdlib>
#include <exception>
#include <filesystem>
#include <limits>
#include <nlohmann/json.hpp>
#include <string>

#include "tl/core/error.hpp"
#include "tl/core/parallel.hpp"
#include "tl/core/precision.hpp"
#include "tl/core/text.hpp"
#include "tl/nn/init.hpp"
#include "tl/tensor/backend.hpp"
#include "tl/train/progress.hpp"

namespace example {

// ---- checks of options: CLI11's own let NaN pass, and name ranges by numbers of 300 digits ----

inline CLI::Validator number_in(double low, double high, const std::string& range) {
  const auto check = [=](const std::string& given) {
    char* end = nullptr;
    const double value = std::strtod(given.c_str(), &end);
    const bool fits = end != given.c_str() && *end == 0 && value >= low && value <= high;
    return fits ? std::string() : "expected a number " + range + ", got " + given;
  };
  return CLI::Validator(check, range);
}
inline CLI::Validator at_least_zero() { return number_in(0, std::numeric_limits<double>::max(), "of at least 0"); }
inline CLI::Validator above_zero() {
  return number_in(std::numeric_limits<double>::denorm_min(), std::numeric_limits<double>::max(), "above 0");
}
inline CLI::Validator within(double low, double high) {
  return number_in(low, high, tl::text("from ", low, " to ", high));
}
/// Of epochs, pictures and the like, of which more are a slip of the hand.
inline CLI::Validator count(int64_t low = 1, int64_t high = 1'000'000) {
  return within(static_cast<double>(low), static_cast<double>(high));
}

/// Where results go is looked at before hours of training. Why not is "" when a file can be made in `folder`.
inline std::string why_not_in(const std::filesystem::path& folder) {
  if (!std::filesystem::is_directory(folder)) return tl::text("there is no folder ", folder.string());
  return ::access(folder.c_str(), W_OK) == 0 ? "" : tl::text("the folder ", folder.string(), " cannot be written to");
}
inline CLI::Validator new_file() {
  const auto check = [](const std::string& given) {
    if (std::filesystem::is_directory(given)) return given + " is a folder";
    const auto folder = std::filesystem::path(given).parent_path();
    return why_not_in(folder.empty() ? "." : folder);
  };
  return CLI::Validator(check, "FILE");
}
inline CLI::Validator new_folder() {
  const auto check = [](const std::string& given) {
    if (std::filesystem::exists(given)) return why_not_in(given);
    auto folder = std::filesystem::absolute(given).parent_path();  // missing ones are made
    while (!std::filesystem::exists(folder)) folder = folder.parent_path();
    return why_not_in(folder);
  };
  return CLI::Validator(check, "FOLDER");
}

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
        ->check(count(0, 1024))
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
