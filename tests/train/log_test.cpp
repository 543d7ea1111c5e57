#include "tl/train/log.hpp"

#include <unistd.h>

#include <bit>
#include <cmath>
#include <filesystem>
#include <fstream>
#include <limits>
#include <nlohmann/json.hpp>
#include <sstream>

#include "support.hpp"
#include "tl/core/error.hpp"

namespace {

constexpr double kInf = std::numeric_limits<double>::infinity();

tl::RunLog sample() {
  tl::RunLog log{.name = "fine, \"tune\"", .seed = std::numeric_limits<uint64_t>::max()};
  log.epochs.push_back({.epoch = 1,
                        .train_loss = 0.1 + 0.2,
                        .train_accuracy = 0.5,
                        .val_loss = kInf,
                        .rates = {{"head", 1e-3}, {"layer1,\"a\"\n", 5e-324}},
                        .seconds = 2.5,
                        .peak_bytes = 7,
                        .trainable_parameters = 11});
  log.epochs.push_back({.epoch = 2,
                        .val_accuracy = 0.75,
                        .rates = {{"head", 1e-4}},
                        .extras = {{"lambda", -0.5}},
                        .seconds = 1.5,
                        .peak_bytes = 5,
                        .trainable_parameters = 13});
  log.epochs.push_back({.epoch = 3, .val_accuracy = 0.75, .seconds = 1});
  return log;
}

bool same(double a, double b) {
  return (std::isnan(a) && std::isnan(b)) || std::bit_cast<int64_t>(a) == std::bit_cast<int64_t>(b);
}

/// Cells of a table as RFC 4180 reads them.
std::vector<std::vector<std::string>> parse_csv(const std::string& text) {
  std::vector<std::vector<std::string>> rows(1, {""});
  bool quoted = false;
  for (size_t i = 0; i < text.size(); ++i) {
    if (quoted && text[i] == '"' && i + 1 < text.size() && text[i + 1] == '"') rows.back().back() += text[++i];
    else if (text[i] == '"') quoted = !quoted;
    else if (!quoted && text[i] == ',') rows.back().emplace_back();
    else if (!quoted && text[i] == '\n') rows.push_back({""});
    else rows.back().back() += text[i];
  }
  CHECK_FALSE(quoted);
  rows.pop_back();
  return rows;
}

}  // namespace

TEST_CASE("RunLog sums up its epochs") {
  tl::RunLog log = sample();
  CHECK(log.final_accuracy() == 0.75);
  CHECK(log.total_seconds() == 5);
  CHECK(log.peak_bytes() == 7);
  CHECK(log.trainable_parameters() == 0);
  REQUIRE(log.best_epoch());
  CHECK(log.best_epoch()->epoch == 2);  // FR06: of equals the earlier
  log.accuracy = 0.5;
  log.seconds = 9;
  CHECK(log.final_accuracy() == 0.5);
  CHECK(log.total_seconds() == 9);

  const tl::RunLog empty;
  CHECK(std::isnan(empty.final_accuracy()));
  CHECK(std::isnan(empty.total_seconds()));
  CHECK(empty.peak_bytes() == 0);
  CHECK(empty.trainable_parameters() == 0);
  CHECK(empty.best_epoch() == nullptr);
}

TEST_CASE("JSON returns the same run, NaN and infinity as null") {
  const tl::RunLog log = sample();
  const auto json = nlohmann::json::parse(log.to_json());  // refuses NaN
  CHECK(json["epochs"][0]["val_loss"].is_null());
  CHECK(json["epochs"][0]["val_accuracy"].is_null());

  const tl::RunLog read = tl::RunLog::from_json(log.to_json(), "log.json");
  CHECK(read.name == log.name);
  CHECK(read.seed == log.seed);
  CHECK(std::isnan(read.accuracy));
  REQUIRE(read.epochs.size() == log.epochs.size());
  for (size_t i = 0; i < log.epochs.size(); ++i) {
    const auto &a = log.epochs[i], &b = read.epochs[i];
    CHECK(a.epoch == b.epoch);
    CHECK(same(a.train_loss, b.train_loss));
    CHECK(same(a.train_accuracy, b.train_accuracy));
    CHECK(same(std::isinf(a.val_loss) ? tl::kNoValue : a.val_loss, b.val_loss));
    CHECK(same(a.val_accuracy, b.val_accuracy));
    CHECK(a.rates == b.rates);
    CHECK(a.extras == b.extras);
    CHECK(same(a.seconds, b.seconds));
    CHECK(a.peak_bytes == b.peak_bytes);
    CHECK(a.trainable_parameters == b.trainable_parameters);
  }
  CHECK(tl::RunLog::from_json(tl::RunLog{}.to_json(), "x").epochs.empty());
  CHECK(tl::RunLog::from_json("{}", "x").name.empty());
  CHECK(nlohmann::json::parse(tl::RunLog{.name = "\xff\xfe"}.to_json())["name"] == "\uFFFD\uFFFD");
}

TEST_CASE("JSON that is no run is refused in one sentence") {
  const auto error = [](const char* json) -> std::string {
    try {
      tl::RunLog::from_json(json, "log.json");
    } catch (const tl::FormatError& e) {
      return e.what();
    }
    return "accepted";
  };
  CHECK(error("") == "log.json: this is no JSON (at byte 1)");
  CHECK(error("{\"name\": \"a\"") == "log.json: this is no JSON (at byte 13)");
  CHECK(error("[]") == "log.json: expected an object (at byte 0)");
  CHECK(error("{\"name\": 3}") == "log.json: name is no string (at byte 0)");
  CHECK(error("{\"seed\": -3}") == "log.json: seed is no whole number in range (at byte 0)");
  CHECK(error("{\"seed\": 1.5}") == "log.json: seed is no whole number in range (at byte 0)");
  CHECK(error("{\"seconds\": \"fast\"}") == "log.json: seconds is no number (at byte 0)");
  CHECK(error("{\"epochs\": {}}") == "log.json: epochs is no list (at byte 0)");
  CHECK(error("{\"epochs\": [{}, 1]}") == "log.json: epochs[1]: expected an object (at byte 0)");
  CHECK(error("{\"epochs\": [{\"epoch\": 9223372036854775808}]}") ==
        "log.json: epochs[0]: epoch is no whole number in range (at byte 0)");
  for (const char* rates : {"3", "[[1, 2]]", "[[\"head\"]]"})
    CHECK(error(tl::text("{\"epochs\": [{\"rates\": ", rates, "}]}").c_str()) ==
          "log.json: epochs[0]: rates is no list of pairs (at byte 0)");
  CHECK(error("{\"seconds\": 1e999}").find("log.json: ") == 0);
  CHECK(error(std::string(100'000, '[').c_str()).find("this is no JSON") != std::string::npos);
}

TEST_CASE("CSV: one row per epoch, quoted, with the same bits") {
  const tl::RunLog log = sample();
  const auto rows = parse_csv(log.to_csv());
  REQUIRE(rows.size() == 4);
  CHECK(rows[0] == std::vector<std::string>{"epoch", "train_loss", "train_accuracy", "val_loss", "val_accuracy",
                                            "seconds", "peak_bytes", "trainable_parameters", "rate:head",
                                            "rate:layer1,\"a\"\n", "extra:lambda"});
  CHECK(rows[1] == std::vector<std::string>{"1", "0.30000000000000004", "0.5", "inf", "nan", "2.5", "7", "11", "0.001",
                                            "5e-324", ""});
  CHECK(rows[2] == std::vector<std::string>{"2", "nan", "nan", "nan", "0.75", "1.5", "5", "13", "1e-04", "", "-0.5"});
  CHECK(std::stod(rows[1][1]) == log.epochs[0].train_loss);

  tl::RunLog negative;
  negative.epochs.push_back({.epoch = 1, .train_loss = -tl::kNoValue, .val_loss = -kInf});
  CHECK(parse_csv(negative.to_csv())[1][1] == "nan");
  CHECK(parse_csv(negative.to_csv())[1][3] == "-inf");
  CHECK(parse_csv(tl::RunLog{}.to_csv()).size() == 1);
}

TEST_CASE("Both are written to files") {
  const auto folder = std::filesystem::temp_directory_path() / tl::text("tl_log_test_", ::getpid());
  std::filesystem::remove_all(folder);
  std::filesystem::create_directories(folder);
  const auto read = [](const std::filesystem::path& path) {
    std::ostringstream out;
    out << std::ifstream(path).rdbuf();
    return out.str();
  };
  const tl::RunLog log = sample();
  log.write_json(folder / "run.json");
  log.write_csv(folder / "run.csv");
  CHECK(read(folder / "run.json") == log.to_json());
  CHECK(read(folder / "run.csv") == log.to_csv());
  CHECK_THROWS_AS(log.write_json(folder / "missing" / "run.json"), tl::IoError);
  std::filesystem::remove_all(folder);
}
