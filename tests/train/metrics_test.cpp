#include "tl/train/metrics.hpp"

#include <cmath>
#include <limits>
#include <vector>

#include "support.hpp"
#include "tl/core/error.hpp"

using doctest::Approx;

namespace {

constexpr float kNaN = std::numeric_limits<float>::quiet_NaN();

}  // namespace

TEST_CASE("FR06 a NaN is never best, and of equals the earlier stays") {
  constexpr double nan = tl::kNoValue, inf = std::numeric_limits<double>::infinity();
  CHECK(tl::better(0.6, 0.5));
  CHECK_FALSE(tl::better(0.5, 0.6));
  CHECK_FALSE(tl::better(0.5, 0.5));
  CHECK_FALSE(tl::better(nan, 0.5));
  CHECK_FALSE(tl::better(nan, -inf));
  CHECK_FALSE(tl::better(nan, nan));
  CHECK(tl::better(0.5, nan));
  CHECK(tl::better(-inf, nan));
}

TEST_CASE("FR07 Mean divides once, by all the weights") {
  tl::Mean mean;
  CHECK(std::isnan(mean.value()));
  mean.add(2.0, 3);  // three samples, then one: (6 + 10) / 4, not the mean of means
  mean.add(10.0, 1);
  CHECK(mean.value() == 4.0);
  CHECK(mean.weight() == 4.0);

  mean.add(tl::kNoValue, 0);
  CHECK(mean.value() == 4.0);

  tl::Mean other;
  other.add(9.0);
  mean.add(other);
  CHECK(mean.value() == 5.0);
  mean.add(tl::kNoValue);
  CHECK(std::isnan(mean.value()));
}

TEST_CASE("spread_of divides by n - 1 and leaves out what is no number") {
  const tl::Spread spread = tl::spread_of(std::vector{0.5, tl::kNoValue, 0.7, 0.9});
  CHECK(spread.mean == Approx(0.7));
  CHECK(spread.deviation == Approx(0.2));
  CHECK(spread.low == 0.5);
  CHECK(spread.high == 0.9);
  CHECK(spread.count == 3);
  const tl::Spread one = tl::spread_of(std::vector{0.5});
  CHECK(one.mean == 0.5);
  CHECK(std::isnan(one.deviation));
  CHECK(tl::spread_of({}).count == 0);
  CHECK(std::isnan(tl::spread_of({}).mean));
}

TEST_CASE("predicted_class and rank_of_truth agree on ties and NaN") {
  CHECK(tl::predicted_class(std::vector{1.f, 3.f, 3.f, 2.f}) == 1);
  CHECK(tl::predicted_class(std::vector{kNaN, -5.f, kNaN}) == 1);
  CHECK(tl::predicted_class(std::vector{kNaN, kNaN}) == 0);
  CHECK_THROWS_WITH_AS(tl::predicted_class({}), "predicted_class: there are no scores", tl::ShapeError);

  const std::vector scores{1.f, 3.f, 3.f, kNaN, 2.f, kNaN};
  const int64_t expected[] = {3, 0, 1, 4, 2, 5};
  for (int64_t c = 0; c < 6; ++c) CHECK(tl::rank_of_truth(scores, c) == expected[c]);
  CHECK_THROWS_WITH_AS(tl::rank_of_truth(scores, 6), "rank_of_truth: expected a class in [0, 6), got 6",
                       tl::ShapeError);
}

TEST_CASE("Accuracy counts hits among the first k") {
  const std::vector scores{0.1f, 0.7f, 0.2f,   // truth 1: first
                           0.5f, 0.1f, 0.4f,   // truth 2: second
                           0.3f, 0.3f, 0.4f,   // truth 1: third, since class 0 comes first of equals
                           9.0f, 0.0f, 0.0f};  // no label
  const std::vector<int32_t> truths{1, 2, 1, -100};
  const double expected[] = {1.0 / 3, 2.0 / 3, 1, 1};
  for (int64_t k = 1; k <= 4; ++k) {
    tl::Accuracy accuracy(k);
    CHECK(std::isnan(accuracy.value()));
    accuracy.add(scores, truths);
    CHECK(accuracy.count() == 3);
    CHECK(accuracy.value() == Approx(expected[k - 1]));
  }

  tl::Accuracy sum, part;
  sum.add(true, 3);
  part.add(false);
  sum.add(part);
  sum.add(std::vector<float>{}, std::vector<int32_t>{});
  CHECK(sum.hits() == 3);
  CHECK(sum.value() == 0.75);

  CHECK_THROWS_WITH_AS(sum.add(scores, std::vector<int32_t>{0, 1, 2, 0, 1}),
                       "Accuracy: scores must be [N, C] with N = 5 truths; got 12 scores", tl::ShapeError);
  CHECK_THROWS_AS(sum.add(scores, std::vector<int32_t>{}), tl::ShapeError);
  CHECK_THROWS_AS(sum.add(scores, std::vector<int32_t>{0, 1, 3, 0}), tl::ShapeError);
  CHECK_THROWS_WITH_AS(tl::Accuracy(0), "Accuracy: expected k >= 1, got 0", tl::UsageError);
}

TEST_CASE("ConfusionMatrix: values worked out by hand, and by scikit-learn") {
  // truth      0 0 0 0 1 1 1 2 2 2
  // predicted  0 0 0 1 1 1 0 2 1 1     class 3 never occurs
  tl::ConfusionMatrix matrix(4);
  CHECK(std::isnan(matrix.accuracy()));
  CHECK(std::isnan(matrix.macro_f1()));
  CHECK(std::isnan(matrix.balanced_accuracy()));
  matrix.add(0, 0, 3);
  matrix.add(0, 1);
  matrix.add(1, 1, 2);
  matrix.add(1, 0);
  matrix.add(2, 2);
  matrix.add(2, 1, 2);

  CHECK(matrix.samples() == 10);
  CHECK(matrix.at(2, 1) == 2);
  CHECK(matrix.at(1, 2) == 0);
  CHECK(matrix.at(1, 1) == 2);
  CHECK(matrix.samples_of(2) == 3);
  CHECK(matrix.predicted_as(1) == 5);
  CHECK(matrix.accuracy() == Approx(0.6));
  CHECK(matrix.precision(0) == Approx(3.0 / 4));
  CHECK(matrix.precision(1) == Approx(2.0 / 5));
  CHECK(matrix.recall(2) == Approx(1.0 / 3));
  CHECK(matrix.f1(1) == Approx(4.0 / 8));
  CHECK(std::isnan(matrix.precision(3)));
  CHECK(std::isnan(matrix.recall(3)));
  CHECK(std::isnan(matrix.f1(3)));
  CHECK(matrix.macro_f1() == Approx((0.75 + 0.5 + 0.5) / 3));
  CHECK(matrix.balanced_accuracy() == Approx((0.75 + 2.0 / 3 + 1.0 / 3) / 3));
  using Confusion = tl::ConfusionMatrix::Confusion;
  CHECK(matrix.most_confused(2) == std::vector<Confusion>{{2, 1, 2}, {0, 1, 1}});
  CHECK(matrix.most_confused(100).size() == 3);

  tl::ConfusionMatrix twice = matrix;
  twice.add(twice);
  CHECK(twice.samples() == 20);
  CHECK(twice.at(2, 1) == 4);
  CHECK(twice.at(0, 0) == 6);
  CHECK(twice.macro_f1() == Approx(matrix.macro_f1()));

  CHECK_THROWS_WITH_AS(matrix.add(0, 4), "ConfusionMatrix: expected a class in [0, 4), got 4", tl::ShapeError);
  CHECK_THROWS_AS(matrix.add(-1, 0), tl::ShapeError);
  CHECK_THROWS_AS(static_cast<void>(matrix.at(0, 9)), tl::ShapeError);
  CHECK_THROWS_AS(matrix.add(0, 1, -1), tl::UsageError);
  CHECK(matrix.samples() == 10);  // a refused sample leaves no trace
  CHECK_THROWS_WITH_AS(matrix.add(tl::ConfusionMatrix(3)), "ConfusionMatrix: 4 classes and 3 do not add up",
                       tl::ShapeError);
  CHECK_THROWS_AS(tl::ConfusionMatrix(-1), tl::UsageError);
}

TEST_CASE("ConfusionMatrix takes many classes without their square in memory") {
  tl::ConfusionMatrix matrix(1'000'000);
  for (int64_t c = 0; c < matrix.classes(); c += 1000) matrix.add(c, (c + 1) % matrix.classes());
  CHECK(matrix.accuracy() == 0);
  CHECK(matrix.most_confused(3).size() == 3);
}

TEST_CASE("auc counts pairs, ties half") {
  // positives 0.8, 0.4; negatives 0.4, 0.1: of four pairs three are won and one is tied
  CHECK(tl::auc(std::vector{0.8f, 0.4f, 0.4f, 0.1f}, std::vector<int32_t>{1, 1, 0, 0}) == Approx(3.5 / 4));
  CHECK(tl::auc(std::vector{0.1f, 0.4f, 0.35f, 0.8f}, std::vector<int32_t>{0, 0, 1, 1}) == Approx(0.75));
  CHECK(tl::auc(std::vector{1.f, 1.f, 1.f}, std::vector<int32_t>{1, 0, 1}) == Approx(0.5));
  CHECK(std::isnan(tl::auc(std::vector{1.f, 2.f}, std::vector<int32_t>{1, 1})));
  CHECK(std::isnan(tl::auc(std::vector{1.f, kNaN}, std::vector<int32_t>{1, 0})));
  CHECK(std::isnan(tl::auc({}, {})));
  CHECK_THROWS_AS(tl::auc(std::vector{1.f}, std::vector<int32_t>{1, 0}), tl::ShapeError);
  CHECK_THROWS_WITH_AS(tl::auc(std::vector{1.f}, std::vector<int32_t>{2}), "auc: expected truths 0 or 1, got 2",
                       tl::UsageError);
}
