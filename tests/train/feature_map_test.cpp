// Maps of features: the directions of most variance, against planes that are known.
#include "tl/train/feature_map.hpp"

#include <cmath>
#include <numbers>

#include "support.hpp"
#include "tl/core/error.hpp"
#include "tl/core/random.hpp"

namespace {

using namespace tl;

struct Samples {
  Tensor x, y;
  std::vector<std::array<double, 2>> places;
};

/// Samples on a plane of a space of `width`: 9 a + 3 b along two orthogonal unit vectors, away from the origin.
Samples on_a_plane(int64_t count, int64_t width) {
  Samples out{Tensor::empty({count, width}, DType::f64), Tensor::empty({count}, DType::i32), {}};
  Generator random(5, 6);
  const auto uniform = [&] { return static_cast<double>(random.below(1 << 20)) / (1 << 20) - 0.5; };
  for (int64_t i = 0; i < count; ++i) {
    out.places.push_back({9 * uniform(), 3 * uniform()});
    out.y.mutable_data<int32_t>()[i] = out.places.back()[0] > 0;
    for (int64_t j = 0; j < width; ++j) {
      const double angle = 2 * std::numbers::pi * static_cast<double>(j) / static_cast<double>(width);
      const double scale = std::sqrt(2.0 / static_cast<double>(width));
      out.x.mutable_data<double>()[i * width + j] =
          100 + scale * (out.places.back()[0] * std::cos(angle) + out.places.back()[1] * std::sin(angle));
    }
  }
  return out;
}

}  // namespace

TEST_CASE("Samples of a plane keep their distances, with more features than samples and with fewer") {
  for (const auto& size : {std::pair{60, 8}, std::pair{20, 90}}) {
    CAPTURE(size.first);
    const Samples samples = on_a_plane(size.first, size.second);
    const FeatureMap map = map_features(samples.x, samples.y);
    REQUIRE(map.points.size() == samples.places.size());
    CHECK(map.shown == doctest::Approx(1).epsilon(1e-9));
    for (size_t i = 1; i < map.points.size(); ++i) {
      const auto distance = [&](const auto& points) {
        return std::hypot(points[i][0] - points[0][0], points[i][1] - points[0][1]);
      };
      CHECK(distance(map.points) == doctest::Approx(distance(samples.places)).epsilon(1e-9));
    }
    double first_class = 0, variance[2] = {};
    for (size_t i = 0; i < map.points.size(); ++i) {
      if (map.labels[i] == map.labels[0]) first_class += map.points[i][0];
      for (size_t axis = 0; axis < 2; ++axis) variance[axis] += map.points[i][axis] * map.points[i][axis];
    }
    CHECK(variance[0] > variance[1]);
    CHECK(first_class < 0);
  }
}

TEST_CASE("The share between classes is that of their means in the variance") {
  // Classes at 0 and 4, each of them spread by 1: of 2 (1 + 4) squared distance a sample, 4 lies between.
  const Tensor x = Tensor::from(std::vector<float>{-1, 1, 3, 5}, {4, 1}),
               y = Tensor::from(std::vector<int32_t>{3, 3, 0, 0}, {4});
  const FeatureMap map = map_features(x, y);
  CHECK(map.between == doctest::Approx(0.8));
  CHECK(map.shown == doctest::Approx(1));
  CHECK(map.points[0][0] == doctest::Approx(-3));
  CHECK(map.points[3][0] == doctest::Approx(3));
  CHECK(map.points[0][1] == 0);  // there is one direction alone
  CHECK(map.labels == std::vector<int32_t>{3, 3, 0, 0});

  const FeatureMap same = map_features(Tensor::ones({3, 2, 2, 5}), Tensor::from(std::vector<int32_t>{0, 1, 2}, {3}));
  CHECK(std::isnan(same.between));
  CHECK(same.points[2][1] == 0);
}

TEST_CASE("Bad features are refused") {
  const Tensor y = Tensor::from(std::vector<int32_t>{0, 1}, {2});
  CHECK_THROWS_WITH_AS(map_features(Tensor::ones({3, 4}), y), "map_features: labels must be [N] with N = 3; got [2]",
                       ShapeError);
  CHECK_THROWS_AS(map_features(Tensor::ones({2, 4}, DType::i32), y), DTypeError);
  CHECK_THROWS_AS(map_features(Tensor::from(std::vector<float>{1, NAN}, {2, 1}), y), NumericError);
  CHECK_THROWS_AS(map_features(Tensor::empty({0, 4}), Tensor::empty({0}, DType::i32)), UsageError);
}
