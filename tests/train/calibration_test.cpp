// Calibration against numbers that numpy computed from the definitions, and what must hold for any numbers.
#include "tl/train/calibration.hpp"

#include <cmath>
#include <fstream>
#include <limits>
#include <nlohmann/json.hpp>

#include "support.hpp"
#include "tl/core/error.hpp"

namespace {

using namespace tl;
using doctest::Approx;
using nlohmann::json;

const json& golden_file() {
  static const json file = json::parse(std::ifstream(TL_TESTS_DIR "/golden/calibration.json"));
  return file;
}

Tensor matrix_of(const json& rows) {
  std::vector<float> values;
  for (const json& row : rows)
    for (const json& value : row) values.push_back(value);
  return Tensor::from(values, {std::ssize(rows), std::ssize(rows[0])});
}

Tensor labels_of(const json& values) {
  const auto list = values.get<std::vector<int32_t>>();
  return Tensor::from(list, {std::ssize(list)});
}

}  // namespace

TEST_CASE("reliability and temperature equal their definitions") {
  for (const json& one : golden_file()["cases"]) {
    CAPTURE(one["case"].get<std::string>());
    const Tensor logits = matrix_of(one["logits"]), labels = labels_of(one["labels"]);
    CHECK(fit_temperature(logits, labels) == Approx(one["temperature"].get<double>()).epsilon(1e-5));
    for (const json& wanted : one["reliability"]) {
      const Reliability got =
          reliability(logits, labels, {.bins = wanted["bins"], .temperature = wanted["temperature"]});
      CHECK(got.expected_error == Approx(wanted["expected_error"].get<double>()).epsilon(1e-5));
      CHECK(got.largest_error == Approx(wanted["largest_error"].get<double>()).epsilon(1e-5));
      CHECK(got.negative_log == Approx(wanted["negative_log"].get<double>()).epsilon(1e-5));
      CHECK(got.brier == Approx(wanted["brier"].get<double>()).epsilon(1e-5));
      std::vector<int64_t> counts;
      for (const ReliabilityBin& bin : got.bins) counts.push_back(bin.count);
      CHECK(counts == wanted["counts"].get<std::vector<int64_t>>());
    }
  }
}

TEST_CASE("bins hold their upper end, and empty ones have no value") {
  // Two classes of equal logits: confidence 1/2, predicted is the first.
  const Reliability got = reliability(Tensor::zeros({4, 2}), Tensor::from({0, 0, 0, 1}, {4}), {.bins = 2});
  REQUIRE(got.bins.size() == 2);
  CHECK(got.bins[0].count == 4);
  CHECK(got.bins[0].confidence == 0.5);
  CHECK(got.bins[0].accuracy == 0.75);
  CHECK(got.bins[1].count == 0);
  CHECK(std::isnan(got.bins[1].accuracy));
  CHECK(got.expected_error == 0.25);
  CHECK(got.negative_log == Approx(std::log(2.0)));
  CHECK(got.brier == Approx(0.5));
}

TEST_CASE("a temperature stays within its bounds, and mends logits that were multiplied") {
  const Tensor sure = Tensor::from({3.f, 0.f, 0.f, 5.f}, {2, 2});
  CHECK(fit_temperature(sure, Tensor::from({0, 1}, {2})) == 1);  // without a mistake nothing is known
  CHECK(fit_temperature(sure, Tensor::from({1, 0}, {2})) == Approx(100));
  const json& one = golden_file()["cases"][0];
  const Tensor logits = matrix_of(one["logits"]), labels = labels_of(one["labels"]);
  Tensor bolder = logits.clone();
  for (float* x = bolder.mutable_data<float>(); x != bolder.data<float>() + bolder.numel(); ++x) *x *= 4;
  CHECK(fit_temperature(bolder, labels) == Approx(4 * fit_temperature(logits, labels)).epsilon(1e-9));
}

TEST_CASE("calibration of nothing has no value, and input that is not well meant is an error") {
  const Tensor logits = Tensor::zeros({2, 2}), none = Tensor::from({-100, -100}, {2});
  CHECK(std::isnan(reliability(logits, none).expected_error));
  CHECK(std::isnan(reliability(logits, none).largest_error));
  CHECK_THROWS_WITH_AS(fit_temperature(logits, none), "fit_temperature: no sample has a label", UsageError);
  CHECK_THROWS_AS(reliability(logits, Tensor::from({0}, {1})), ShapeError);
  CHECK_THROWS_WITH_AS(reliability(logits, Tensor::from({0, 2}, {2})),
                       "calibration: sample 1 has the label 2, and there are 2 classes", UsageError);
  CHECK_THROWS_AS(reliability(logits, none, {.bins = 0}), UsageError);
  CHECK_THROWS_AS(reliability(logits, none, {.temperature = 0}), UsageError);
  const Tensor broken = Tensor::from({0.f, std::numeric_limits<float>::quiet_NaN()}, {1, 2});
  CHECK_THROWS_AS(reliability(broken, Tensor::from({0}, {1})), NumericError);
}

TEST_CASE("ROC points equal their definition") {
  for (const json& one : golden_file()["roc"]) {
    const auto scores = one["scores"].get<std::vector<float>>();
    const auto labels = one["labels"].get<std::vector<int32_t>>();
    CHECK(auc(scores, labels) == Approx(one["auc"].get<double>()).epsilon(1e-12));
    const auto curve = roc_curve(scores, labels);
    const json& points = one["points"];
    REQUIRE(curve.size() == points.size());
    double best = 0;
    for (size_t i = 0; i < curve.size(); ++i) {
      CHECK(curve[i].sensitivity == Approx(points[i]["sensitivity"].get<double>()));
      CHECK(curve[i].specificity == Approx(points[i]["specificity"].get<double>()));
      const RocPoint again = roc_point(scores, labels, curve[i].threshold);
      CHECK(again.sensitivity == curve[i].sensitivity);
      CHECK(again.specificity == curve[i].specificity);
      best = std::max(best, curve[i].sensitivity + curve[i].specificity);
    }
    CHECK(std::isinf(curve.front().threshold));
    const RocPoint chosen = best_roc_point(curve);
    CHECK(chosen.sensitivity + chosen.specificity == best);
  }
  CHECK(roc_curve(std::vector{1.f, 2.f}, std::vector<int32_t>{1, 1}).empty());
  CHECK(std::isnan(best_roc_point({}).threshold));
  CHECK(std::isnan(roc_point(std::vector{1.f}, std::vector<int32_t>{0}, 0).sensitivity));
}

TEST_CASE("one_vs_rest_auc is auc of each column") {
  const std::vector scores{0.9f, 0.1f, 0.0f, 0.2f, 0.7f, 0.1f, 0.3f, 0.8f, 0.6f, 0.1f, 0.2f, 0.7f};
  const std::vector<int32_t> truths{0, 1, 2, 2};
  const auto values = one_vs_rest_auc(scores, truths);
  REQUIRE(values.size() == 3);
  CHECK(values[0] == 1);
  CHECK(values[1] == Approx(2.0 / 3));
  CHECK(values[2] == 1);
  CHECK_THROWS_AS(one_vs_rest_auc(std::vector{1.f}, std::vector<int32_t>{}), ShapeError);
}
