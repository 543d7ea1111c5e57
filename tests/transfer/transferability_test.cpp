// Scores of transferability: the published formulas, what they must not depend on, and input that is not well meant.
#include "tl/transfer/transferability.hpp"

#include <cmath>
#include <fstream>
#include <limits>
#include <numbers>
#include <nlohmann/json.hpp>

#include "support.hpp"
#include "tl/core/parallel.hpp"
#include "tl/core/random.hpp"

namespace {

using namespace tl;
using nlohmann::json;

Tensor matrix_of(const json& rows, DType dtype = DType::f64) {
  std::vector<double> values;
  for (const json& row : rows)
    for (const json& value : row) values.push_back(value);
  return Tensor::from(values, {std::ssize(rows), std::ssize(rows[0])}).to(dtype);
}

Tensor labels_of(const json& values) {
  const auto list = values.get<std::vector<int32_t>>();
  return Tensor::from(list, {std::ssize(list)});
}

void check_close(double value, double wanted, double tolerance = 1e-10) {
  CAPTURE(value);
  CAPTURE(wanted);
  CHECK(std::abs(value - wanted) <= tolerance * std::max(1.0, std::abs(wanted)));
}

/// Features [n, d]: noise, and in the first columns, `signal` where the class is that column's.
Tensor drawn_features(const std::vector<int32_t>& labels, int64_t d, double signal, uint64_t seed) {
  Generator generator(seed);
  Tensor out = Tensor::empty({std::ssize(labels), d}, DType::f64);
  double* values = out.mutable_data<double>();
  for (size_t i = 0; i < labels.size(); ++i)
    for (int64_t j = 0; j < d; ++j)
      values[static_cast<int64_t>(i) * d + j] = generator.normal() + (labels[i] == j ? signal : 0);
  return out;
}

std::vector<int32_t> turns(int64_t n, int32_t classes) {
  std::vector<int32_t> out(static_cast<size_t>(n));
  for (size_t i = 0; i < out.size(); ++i) out[i] = static_cast<int32_t>(i) % classes;
  return out;
}

const std::vector<std::pair<const char*, double (*)(const Tensor&, const Tensor&)>> kFeatureScores = {
    {"log_me", [](const Tensor& x, const Tensor& y) { return log_me(x, y); }},
    {"h_score", h_score},
    {"shrunk_h_score", shrunk_h_score},
    {"trans_rate", [](const Tensor& x, const Tensor& y) { return trans_rate(x, y); }},
    {"trans_rate of unit trace",
     [](const Tensor& x, const Tensor& y) { return trans_rate(x, y, {.unit_trace = true}); }},
};

}  // namespace

TEST_CASE("scores equal their published formulas in numpy") {
  const json file = json::parse(std::ifstream(tl_test::golden("transferability.json")));
  int features = 0, predictions = 0;
  for (const json& entry : file["cases"]) {
    CAPTURE(entry["case"].get<std::string>());
    const Tensor labels = labels_of(entry["labels"]);
    if (entry.contains("features")) {
      ++features;
      const Tensor x = matrix_of(entry["features"]);
      check_close(log_me(x, labels), entry["log_me"]);
      check_close(h_score(x, labels), entry["h_score"]);
      check_close(shrunk_h_score(x, labels), entry["shrunk_h_score"]);
      for (const json& rate : entry["trans_rate"])
        check_close(trans_rate(x, labels, {.epsilon = rate["epsilon"], .unit_trace = rate["unit_trace"]}),
                    rate["value"]);
      for (const auto& [name, score] : kFeatureScores) {
        CAPTURE(name);
        const Tensor single = x.to(DType::f32);
        CHECK(score(single, labels) == score(single.to(DType::f64), labels));  // float is widened, not computed with
      }
    } else {
      ++predictions;
      check_close(leep(matrix_of(entry["probabilities"]), labels), entry["leep"], 1e-12);
      check_close(nce(labels_of(entry["source_labels"]), labels), entry["nce"], 1e-12);
    }
  }
  CHECK(features == 8);
  CHECK(predictions == 4);
}

TEST_CASE("better features score higher, and features without information lowest") {
  const auto labels = turns(120, 3);
  const Tensor y = Tensor::from(labels, {120});
  for (const auto& [name, score] : kFeatureScores) {
    CAPTURE(name);
    const double none = score(drawn_features(labels, 10, 0, 1), y), some = score(drawn_features(labels, 10, 2, 1), y),
                 much = score(drawn_features(labels, 10, 6, 1), y);
    CHECK(none < some);
    CHECK(some < much);
  }
}

TEST_CASE("scores do not change with the order of samples and columns, the size of features, or the threads") {
  const auto labels = turns(60, 4);
  for (const int64_t d : {9, 150}) {
    const Tensor x = drawn_features(labels, d, 1.5, 2), y = Tensor::from(labels, {60});
    Tensor turned = Tensor::empty({60, d}, DType::f64), turned_y = Tensor::empty({60}, DType::i32),
           larger = Tensor::empty({60, d}, DType::f64);
    for (int64_t i = 0; i < 60; ++i) {
      turned_y.mutable_data<int32_t>()[59 - i] = y.data<int32_t>()[i];
      for (int64_t j = 0; j < d; ++j) {
        turned.mutable_data<double>()[(59 - i) * d + (d - 1 - j)] = x.data<double>()[i * d + j];
        larger.mutable_data<double>()[i * d + j] = 1000 * x.data<double>()[i * d + j];
      }
    }
    for (const auto& [name, score] : kFeatureScores) {
      CAPTURE(name);
      set_threads(1);
      const double one = score(x, y);
      set_threads(2);
      CHECK(score(x, y) == one);
      check_close(score(turned, turned_y), one, 1e-9);
      if (std::string(name) != "trans_rate") check_close(score(larger, y), one, 1e-9);
    }
  }
  set_threads(available_threads());
}

TEST_CASE("several labellings of the same features give what each gives alone") {
  const auto labels = turns(50, 3);
  const Tensor x = drawn_features(labels, 12, 1, 3);
  std::vector<Tensor> labelings = {Tensor::from(labels, {50}), Tensor::from(turns(50, 5), {50})};
  const auto together = log_me(x, labelings);
  REQUIRE(together.size() == 2);
  for (size_t i = 0; i < 2; ++i) check_close(together[i], log_me(x, labelings[i]), 1e-12);
}

TEST_CASE("degenerate features give finite scores") {
  const auto labels = turns(20, 2);
  const Tensor y = Tensor::from(labels, {20});
  const Tensor separable = drawn_features(labels, 2, 1e9, 4);  // labels without noise
  const Tensor empty = Tensor::zeros({20, 3}), constant = Tensor::full({20, 3}, 2.5),
               tiny = Tensor::full({20, 3}, 1e-30), large = Tensor::full({20, 3}, 1e60, DType::f64);
  Tensor exact = Tensor::zeros({20, 2});
  for (int64_t i = 0; i < 20; ++i) exact.mutable_data<float>()[2 * i + labels[static_cast<size_t>(i)]] = 1;
  for (const auto& [name, score] : kFeatureScores) {
    CAPTURE(name);
    for (const Tensor& x : {separable, empty, constant, tiny, large, exact}) CHECK(std::isfinite(score(x, y)));
    CHECK(score(exact, y) >= score(constant, y) - 1e-12);
  }
  CHECK(h_score(constant, y) == 0);
  CHECK(h_score(Tensor::full({20, 3}, 0.1), y) == 0);
  CHECK(trans_rate(empty, y) == 0);
  CHECK(trans_rate(large, y) == 0);
  check_close(h_score(exact, y), 1);
  // No weights at all: labels with mean square 1/2 about 0.
  check_close(log_me(empty, y), -0.5 * (std::log(2 * std::numbers::pi * 0.5) + 1), 1e-12);
}

TEST_CASE("LEEP of source classes that tell nothing is minus the entropy of the labels, and so is NCE") {
  const Tensor y = labels_of({0, 1, 1, 1, 0, 1, 1, 1});
  const double entropy = -(0.25 * std::log(0.25) + 0.75 * std::log(0.75));
  check_close(leep(Tensor::full({8, 4}, 0.25), y), -entropy, 1e-12);
  check_close(nce(Tensor::full({8}, 3, DType::i32), y), -entropy, 1e-12);
  check_close(nce(y, y), 0, 1e-15);
}

TEST_CASE("input that cannot be meant is refused with what to do") {
  const Tensor x = drawn_features(turns(6, 2), 3, 1, 5), y = labels_of({0, 1, 0, 1, 0, 1});
  for (const auto& [name, score] : kFeatureScores) {
    CAPTURE(name);
    CHECK_THROWS_AS(score(x, labels_of({0, 1, 0, 1, 0})), ShapeError);
    CHECK_THROWS_AS(score(Tensor::zeros({6}), y), ShapeError);
    CHECK_THROWS_AS(score(Tensor::zeros({6, 0}), y), ShapeError);
    CHECK_THROWS_AS(score(Tensor::zeros({6, 2}, DType::i32), y), DTypeError);
    CHECK_THROWS_AS(score(x, y.to(DType::f32)), DTypeError);
    CHECK_THROWS_AS(score(x, labels_of({0, 0, 0, 0, 0, 0})), UsageError);
    CHECK_THROWS_AS(score(x, labels_of({0, 1, 0, -1, 0, 1})), UsageError);
    CHECK_THROWS_AS(score(x, labels_of({0, 2, 0, 2, 0, 2})), UsageError);
    CHECK_THROWS_AS(score(x, labels_of({0, 1, 0, 2147483647, 0, 1})), UsageError);
    CHECK_THROWS_AS(score(Tensor::zeros({1, 3}), labels_of({0})), UsageError);
    CHECK_THROWS_AS(score(Tensor::zeros({0, 3}), Tensor::empty({0}, DType::i32)), UsageError);
    for (const double bad :
         {std::numeric_limits<double>::quiet_NaN(), std::numeric_limits<double>::infinity(), -1e61}) {
      Tensor broken = x.clone();
      broken.mutable_data<double>()[7] = bad;
      CHECK_THROWS_AS(score(broken, y), NumericError);
    }
  }
  CHECK_THROWS_AS(trans_rate(x, y, {.epsilon = 0}), UsageError);
  CHECK_THROWS_WITH_AS(log_me(x, labels_of({0, 2, 0, 2, 0, 2})),
                       "log_me: class 1 of 3 has no sample. Hint: number the classes that occur from 0 on.",
                       UsageError);
  CHECK_THROWS_AS(leep(Tensor::full({6, 3}, 0.5), y), NumericError);
  Tensor negative = Tensor::full({6, 3}, 0.5);
  for (int64_t i = 0; i < 6; ++i) negative.mutable_data<float>()[3 * i + 1] = 0;
  negative.mutable_data<float>()[1] = -0.5f;
  negative.mutable_data<float>()[2] = 1.0f;
  CHECK_THROWS_AS(leep(negative, y), NumericError);
  CHECK_THROWS_AS(nce(labels_of({0, 1, 2, 3, 4, -5}), y), UsageError);
  CHECK_THROWS_AS(nce(labels_of({0, 1, 2}), y), ShapeError);
}
