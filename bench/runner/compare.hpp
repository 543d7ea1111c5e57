// Sets tl beside its peers: turns in alternation, medians, spread, ratios, and how much of the machine's limit it is.
#pragma once
#include <functional>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "runner/peak.hpp"
#include "runner/worker.hpp"

namespace bench {

/// What a number means.
struct Measure {
  std::string unit;      ///< "samples/s", "GFLOP/s", "GB/s", or a time: "ms" or "s"
  double work = 1;       ///< units in one call, so that a rate is work / seconds; times ignore it
  double gflop = 0;      ///< floating point operations in one call, in 1e9, or
  double gigabytes = 0;  ///< bytes that must move, in 1e9: the limit that a row is held against; 0: none
  double value(double seconds) const { return unit == "ms" ? seconds * 1e3 : unit == "s" ? seconds : work / seconds; }
};

struct Case {
  std::string name;   ///< such as "resnet18/inference"
  std::string shape;  ///< such as "[16, 224, 224, 3]"
  int threads = 1;
  Measure measure;
};

/// One that takes turns: a worker, or a function of this process (a library linked into the bench).
struct Side {
  std::string name;
  std::function<Turn(double seconds)> turn = {};
  std::string error = {};  ///< why it takes no part
  int64_t base_bytes = 0;
  int64_t trained_parameters = 0;  ///< a side that trains another number than tl takes no part; 0: not told
};

/// Waits until the worker is ready.
Side side_of(Worker& worker);
/// A linked library, or tl itself, in this process.
Side side_of(std::string name, std::function<void()> call);

/// Collects rows, prints each as it comes and all of them as JSON.
class Comparison {
 public:
  struct Options {
    int rounds = 7;
    double seconds = 0.2;  ///< of one turn, at least one call
    std::string precision = "f32";
    std::string json = "";  ///< file for the report
  };

  Comparison(std::string program, Options options);

  /// Measures the limits of this many threads, once.
  const Peak& peak(int threads);

  /// Takes turns, `sides[0]` being tl. A side that fails says so in the row, and the others go on.
  void run(const Case& one, std::vector<Side> sides);

  /// Writes the report to the file and as the last line of stdout.
  void finish() const;

 private:
  std::string program_;
  Options options_;
  std::vector<Peak> peaks_;
  nlohmann::json rows_ = nlohmann::json::array();
};

}  // namespace bench
