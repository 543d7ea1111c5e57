#include "runner/learning_curve.hpp"

#include <cmath>

#include "support.hpp"

using namespace bench;

namespace {

/// A curve of equal seeds, so that every resample is the same.
LearningCurve certain(const std::vector<std::pair<double, double>>& points, double seconds_per_picture) {
  LearningCurve out;
  for (const auto& [pictures, accuracy] : points) {
    const double seconds = seconds_per_picture * pictures;
    out.push_back({.per_class = static_cast<int64_t>(pictures) / 2,
                   .pictures = pictures,
                   .accuracies = {accuracy, accuracy},
                   .seconds = {seconds, seconds}});
  }
  return out;
}

}  // namespace

TEST_CASE("runs become a curve from few pictures to many") {
  const std::vector<LearningRun> runs{
      {.data = "a", .way = "w", .per_class = 5, .pictures = 10, .seed = 0, .accuracy = 0.8, .seconds = 3},
      {.data = "a", .way = "w", .per_class = 2, .pictures = 4, .seed = 0, .accuracy = 0.5, .seconds = 1},
      {.data = "b", .way = "w", .per_class = 2, .pictures = 4, .seed = 0, .accuracy = 0.1, .seconds = 1},
      {.data = "a", .way = "v", .per_class = 2, .pictures = 4, .seed = 0, .accuracy = 0.1, .seconds = 1},
      {.data = "a", .way = "w", .per_class = 5, .pictures = 10, .seed = 1, .accuracy = 0.6, .seconds = 5}};
  const LearningCurve curve = learning_curve(runs, "a", "w");
  REQUIRE(curve.size() == 2);
  CHECK(curve[0].pictures == 4);
  CHECK(curve[1].per_class == 5);
  CHECK(mean_of(curve[1].accuracies) == doctest::Approx(0.7));
  CHECK(deviation_of(curve[1].accuracies) == doctest::Approx(std::sqrt(0.02)));
  CHECK(deviation_of(curve[0].accuracies) == 0);
  CHECK(mean_of(curve[1].seconds) == doctest::Approx(4));
}

TEST_CASE("a saving is interpolated over the logarithm of pictures") {
  const LearningCurve from = certain({{10, 0.5}, {100, 0.7}, {1000, 0.9}}, 2);
  const LearningCurve to = certain({{4, 0.6}, {64, 0.8}, {128, 1.0}}, 6);
  const auto all = savings(from, to, 20);
  REQUIRE(all.size() == 3);
  CHECK(all[0].bound == Bound::at_least);  // the first 4 pictures already give more than 0.5
  CHECK(all[0].pictures.median == doctest::Approx(10.0 / 4));
  CHECK(all[1].bound == Bound::none);  // 0.7 lies in the middle between 4 and 64: at 16
  CHECK(all[1].accuracy == doctest::Approx(0.7));
  CHECK(all[1].pictures.median == doctest::Approx(100.0 / 16));
  CHECK(all[1].pictures.low == all[1].pictures.high);
  CHECK(all[1].seconds.median == doctest::Approx(200.0 / 96));
  CHECK(all[2].pictures.median == doctest::Approx(1000 / std::sqrt(64.0 * 128.0)));
  CHECK(all[2].per_class == 500);
}

TEST_CASE("what the other curve never reaches is bounded from above") {
  const auto all = savings(certain({{10, 0.5}, {100, 0.9}}, 1), certain({{5, 0.4}, {20, 0.8}}, 1), 20);
  CHECK(all[1].bound == Bound::at_most);
  CHECK(all[1].pictures.median == doctest::Approx(5));
  CHECK(savings({}, certain({{5, 0.4}}, 1)).empty());
}

TEST_CASE("a curve that falls counts from where it was first as high") {
  const auto all = savings(certain({{10, 0.6}, {100, 0.5}}, 1), certain({{5, 0.4}, {10, 0.6}, {20, 0.5}}, 1), 20);
  CHECK(all[1].accuracy == doctest::Approx(0.6));
  CHECK(all[1].pictures.median == doctest::Approx(1));
}

TEST_CASE("seeds that disagree spread the ratio, by equal bits each time") {
  LearningCurve from = certain({{10, 0.5}, {100, 0.7}}, 1);
  from[1].accuracies = {0.6, 0.8};
  const LearningCurve to = certain({{2, 0.4}, {32, 0.9}}, 1);
  const auto once = savings(from, to), again = savings(from, to);
  CHECK(once[1].pictures.low < once[1].pictures.median);
  CHECK(once[1].pictures.median < once[1].pictures.high);
  CHECK(once[1].pictures.median == again[1].pictures.median);
}
