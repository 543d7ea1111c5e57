#include "runner/compare.hpp"

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <ctime>
#include <fstream>
#include <thread>
#include <utility>

#include "runner/machine.hpp"
#include "tl/core/error.hpp"

namespace bench {
namespace {

// Thread pools spin for a while after their work: the next side must not share the processor with them.
constexpr auto kSettle = std::chrono::milliseconds(30);

double median(std::vector<double> values) {
  std::sort(values.begin(), values.end());
  const size_t middle = values.size() / 2;
  return values.size() % 2 ? values[middle] : (values[middle - 1] + values[middle]) / 2;
}

/// Median, smallest and largest, rounded to what a reader can use.
struct Spread {
  double middle, low, high;
  explicit Spread(const std::vector<double>& values)
      : middle(median(values)),
        low(*std::min_element(values.begin(), values.end())),
        high(*std::max_element(values.begin(), values.end())) {}
};

double rounded(double value) {
  char digits[32];
  std::snprintf(digits, sizeof(digits), "%.4g", value);
  return std::strtod(digits, nullptr);
}

std::string now() {
  const std::time_t time = std::time(nullptr);
  char out[32];
  std::strftime(out, sizeof(out), "%Y-%m-%dT%H:%M:%SZ", std::gmtime(&time));
  return out;
}

}  // namespace

Side side_of(Worker& worker) {
  worker.wait();
  return {.name = worker.name(),
          .turn =
              [&worker](double seconds) {
                const Turn turn = worker.turn(seconds);
                tl::require<tl::IoError>(worker.error().empty(), worker.error());
                return turn;
              },
          .error = worker.error(),
          .base_bytes = worker.base_bytes(),
          .trained_parameters = worker.trained_parameters()};
}

Side side_of(std::string name, std::function<void()> call) {
  return {.name = std::move(name),
          .turn = [call = std::move(call)](double seconds) { return time_calls(call, seconds); }};
}

Comparison::Comparison(std::string program, Options options)
    : program_(std::move(program)), options_(std::move(options)) {}

const Peak& Comparison::peak(int threads) {
  for (const Peak& peak : peaks_)
    if (peak.threads == threads) return peak;
  peaks_.push_back(measure_peak(threads));
  return peaks_.back();
}

void Comparison::run(const Case& one, std::vector<Side> sides) {
  const Measure& measure = one.measure;
  std::vector<std::vector<double>> seconds(sides.size());
  std::vector<int64_t> memory(sides.size());
  std::vector<double> accuracy(sides.size(), -1);
  for (Side& side : sides)
    if (sides[0].error.empty() && side.error.empty() && side.trained_parameters != sides[0].trained_parameters)
      side.error = tl::text("trains ", side.trained_parameters, " parameters, tl ", sides[0].trained_parameters);
  for (int round = 0; round < options_.rounds; ++round)
    for (size_t i = 0; i < sides.size(); ++i) {
      if (!sides[i].error.empty()) continue;
      std::this_thread::sleep_for(kSettle);
      try {
        const Turn turn = sides[i].turn(options_.seconds);
        seconds[i].push_back(turn.seconds);
        memory[i] = turn.peak_bytes;
        accuracy[i] = turn.accuracy;
      } catch (const std::exception& error) {
        sides[i].error = error.what();
      }
    }

  // Round by round, so that what disturbs the machine for a while disturbs both sides of a ratio.
  const auto ratios_to = [&](size_t i) {
    std::vector<double> out;
    for (size_t r = 0; r < seconds[0].size(); ++r) out.push_back(seconds[i][r] / seconds[0][r]);
    return out;
  };
  const auto describe = [&](size_t i) {
    nlohmann::json out = {{"name", sides[i].name}};
    if (!sides[i].error.empty()) {
      out["error"] = sides[i].error;
      return out;
    }
    std::vector<double> values;
    for (const double s : seconds[i]) values.push_back(measure.value(s));
    const Spread spread(values);
    out.update({{"median", rounded(spread.middle)}, {"min", rounded(spread.low)}, {"max", rounded(spread.high)}});
    if (sides[i].base_bytes > 0) out.update({{"peak_bytes", memory[i]}, {"base_bytes", sides[i].base_bytes}});
    if (sides[i].trained_parameters > 0) out["trained_parameters"] = sides[i].trained_parameters;
    if (accuracy[i] >= 0) out["accuracy"] = rounded(accuracy[i]);
    return out;
  };

  nlohmann::json row = {
      {"name", one.name},     {"shape", one.shape},        {"threads", one.threads}, {"precision", options_.precision},
      {"unit", measure.unit}, {"rounds", options_.rounds}, {"time", now()}};
  const nlohmann::json own = describe(0);
  row["tl"] = own.value("median", nlohmann::json());
  row["own"] = own;
  row["peers"] = nlohmann::json::array();
  row["peer"] = row["ratio"] = row["peer_name"] = nullptr;
  const bool works = sides[0].error.empty();
  size_t best = 0;
  for (size_t i = 1; i < sides.size(); ++i) {
    row["peers"].push_back(describe(i));
    if (sides[i].error.empty() && (best == 0 || median(seconds[i]) < median(seconds[best]))) best = i;
  }
  if (best > 0) {
    row["peer"] = row["peers"][best - 1]["median"];
    row["peer_name"] = sides[best].name;
    if (works) {
      const Spread ratio(ratios_to(best));
      row.update(
          {{"ratio", rounded(ratio.middle)}, {"ratio_min", rounded(ratio.low)}, {"ratio_max", rounded(ratio.high)}});
    }
  }
  row["percent_of_peak"] = row["limit"] = row["peak"] = nullptr;
  const auto hold_against = [&](double work, double limit, const char* unit) {
    row.update({{"limit", unit},
                {"peak", rounded(limit)},
                {"percent_of_peak", rounded(100 * work / median(seconds[0]) / limit)}});
  };
  const bool half = options_.precision == "bf16" && peak(one.threads).bf16_gflops > 0;
  if (works && measure.gflop > 0 && half) hold_against(measure.gflop, peak(one.threads).bf16_gflops, "bf16 GFLOP/s");
  else if (works && measure.gflop > 0) hold_against(measure.gflop, peak(one.threads).gflops, "GFLOP/s");
  else if (works && measure.gigabytes > 0) hold_against(measure.gigabytes, peak(one.threads).triad_gbs, "GB/s");

  std::printf("%-34s %-22s T%d", one.name.c_str(), one.shape.c_str(), one.threads);
  if (works)
    std::printf("  tl %9.4g (%.4g to %.4g)", own["median"].get<double>(), own["min"].get<double>(),
                own["max"].get<double>());
  else std::printf("  tl: %s", sides[0].error.c_str());
  for (const auto& peer : row["peers"])
    if (peer.contains("error"))
      std::printf(" | %s: %s", peer["name"].get<std::string>().c_str(),
                  peer["error"].get<std::string>().substr(0, 120).c_str());
    else std::printf(" | %s %.4g", peer["name"].get<std::string>().c_str(), peer["median"].get<double>());
  std::printf(" %s", measure.unit.c_str());
  if (!row["ratio"].is_null())
    std::printf("  ratio %.2f (%.2f to %.2f)", row["ratio"].get<double>(), row["ratio_min"].get<double>(),
                row["ratio_max"].get<double>());
  if (!row["percent_of_peak"].is_null())
    std::printf("  %.0f %% of peak %s", row["percent_of_peak"].get<double>(), row["limit"].get<std::string>().c_str());
  std::printf("\n");
  std::fflush(stdout);
  rows_.push_back(std::move(row));
}

void Comparison::finish() const {
  nlohmann::json peaks = nlohmann::json::array();
  for (const Peak& peak : peaks_)
    peaks.push_back({{"threads", peak.threads},
                     {"gflops", rounded(peak.gflops)},
                     {"bf16_gflops", rounded(peak.bf16_gflops)},
                     {"read_gbs", rounded(peak.read_gbs)},
                     {"triad_gbs", rounded(peak.triad_gbs)}});
  const nlohmann::json out = {
      {"program", program_}, {"machine", describe_machine()}, {"peaks", peaks}, {"rows", rows_}};
  if (!options_.json.empty()) {
    std::ofstream file(options_.json);
    file << out.dump(1) << '\n';
    tl::require<tl::IoError>(file.good(), "cannot write ", options_.json);
  }
  std::printf("%s\n", out.dump().c_str());
}

}  // namespace bench
