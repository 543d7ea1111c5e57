// Mixed pictures: PyTorch's numbers, and randomness that comes from seed and number alone.
#include "tl/data/mix.hpp"

#include <cmath>
#include <vector>

#include "data/patterns.hpp"

namespace {

using namespace tl;
using nlohmann::json;

Batch batch_of(const json& entry) {
  const auto sizes = entry["x"]["shape"].get<std::vector<int64_t>>();
  const double a = entry["x"]["a"], b = entry["x"]["b"], c = entry["x"]["c"], d = entry["x"]["d"];
  Batch out;
  out.x = Tensor::empty(Shape(sizes.begin(), sizes.end()));
  for (int64_t i = 0; i < out.x.numel(); ++i)
    out.x.mutable_data<float>()[i] = static_cast<float>(d + c * std::sin(a + b * static_cast<double>(i)));
  const auto labels = entry["labels"].get<std::vector<int32_t>>();
  out.y = Tensor::from(labels, {std::ssize(labels)});
  for (size_t i = 0; i < labels.size(); ++i) out.indices.push_back(static_cast<int64_t>(i));
  return out;
}

void check_close(const Tensor& tensor, const json& wanted) {
  REQUIRE(tensor.numel() == std::ssize(wanted));
  for (size_t i = 0; i < wanted.size(); ++i)
    CHECK(std::abs(static_cast<double>(tensor.values<float>()[i]) - wanted[i].get<double>()) < 1e-6);
}

std::vector<float> all(const Tensor& t) { return {t.values<float>().begin(), t.values<float>().end()}; }

}  // namespace

TEST_CASE("mixup and CutMix give PyTorch's pictures and classes") {
  const json up = tl_test::golden_cases("regularize.json", "mix_up").at(0);
  Batch batch = batch_of(up);
  const Tensor before = batch.x;
  const auto original = all(before);
  mix_up(batch, up["partners"].get<std::vector<int64_t>>(), up["lambda"], 3);
  check_close(batch.x, up["value"]);
  check_close(batch.mixed, up["mixed"]);
  CHECK(all(before) == original);  // a source may hand out what it keeps

  const json cut = tl_test::golden_cases("regularize.json", "cut_mix").at(0);
  batch = batch_of(cut);
  const auto& r = cut["rectangle"];
  cut_mix(batch, cut["partners"].get<std::vector<int64_t>>(), {r[0], r[1], r[2], r[3]}, 3);
  check_close(batch.x, cut["value"]);
  check_close(batch.mixed, cut["mixed"]);
}

TEST_CASE("A rectangle has its share of the picture, and is cut off at the edges") {
  Generator generator(5);
  double area = 0;
  for (int i = 0; i < 200; ++i) {
    const Rect r = cut_rectangle(40, 30, 0.75, generator);
    CHECK(r.x >= 0);
    CHECK(r.y >= 0);
    CHECK(r.x + r.width <= 40);
    CHECK(r.y + r.height <= 30);
    CHECK(r.width <= 20);
    CHECK(r.height <= 15);
    area = std::max(area, static_cast<double>(r.width * r.height) / (40 * 30));
  }
  CHECK(area == doctest::Approx(0.2333).epsilon(0.01));  // 20 x 14 pixels, halves being whole ones
  const Rect none = cut_rectangle(40, 30, 1, generator);
  CHECK(none.width * none.height == 0);
}

TEST_CASE("Beta variates have the distribution's mean and variance") {
  for (const auto& [a, b] : {std::pair{0.2, 0.2}, {1.0, 1.0}, {2.0, 5.0}, {0.5, 3.0}}) {
    CAPTURE(a);
    Generator generator(11);
    constexpr int kDraws = 20000;
    double sum = 0, squares = 0;
    for (int i = 0; i < kDraws; ++i) {
      const double x = draw_beta(a, b, generator);
      REQUIRE(x >= 0);
      REQUIRE(x <= 1);
      sum += x;
      squares += x * x;
    }
    const double mean = sum / kDraws, variance = squares / kDraws - mean * mean;
    CHECK(mean == doctest::Approx(a / (a + b)).epsilon(0.02));
    CHECK(variance == doctest::Approx(a * b / ((a + b) * (a + b) * (a + b + 1))).epsilon(0.03));
  }
  Generator generator(11);
  CHECK_THROWS_AS(draw_beta(0, 1, generator), UsageError);
}

TEST_CASE("What is mixed follows from seed and number, and the rest is left alone") {
  const json entry = tl_test::golden_cases("regularize.json", "mix_up").at(0);
  const auto mixed = [&](const Mixing& mixing, int64_t number) {
    Batch batch = batch_of(entry);
    mixing(batch, number);
    return std::pair{all(batch.x), batch.mixed.defined() ? all(batch.mixed) : std::vector<float>()};
  };
  const Mixing up{.mixup = 0.4, .classes = 3, .seed = 7}, cut{.cutmix = 1, .classes = 3, .seed = 7};
  CHECK(mixed(up, 4) == mixed(up, 4));
  CHECK(mixed(up, 4) != mixed(up, 5));
  CHECK(mixed(up, 4) != mixed({.mixup = 0.4, .classes = 3, .seed = 8}, 4));
  CHECK(mixed(cut, 4) == mixed(cut, 4));
  CHECK(mixed({.classes = 3}, 4).second.empty());
  CHECK(mixed({.mixup = 1, .probability = 0, .classes = 3}, 4).first == all(batch_of(entry).x));
  int ups = 0, cuts = 0;
  const Mixing both{.mixup = 0.4, .cutmix = 1, .classes = 3, .seed = 7};
  for (int64_t number = 0; number < 200; ++number) {
    const auto plain = all(batch_of(entry).x), x = mixed(both, number).first;
    size_t same = 0;
    for (const float value : x) same += std::find(plain.begin(), plain.end(), value) != plain.end();
    (same == x.size() ? cuts : ups) += 1;  // CutMix copies samples, mixup makes new ones
  }
  CHECK(cuts > 70);
  CHECK(ups > 40);  // a permutation of three often leaves a picture with itself
}

TEST_CASE("mixup's lambda comes from Beta(alpha, alpha)") {
  const json entry = tl_test::golden_cases("regularize.json", "mix_up").at(0);
  for (const double alpha : {0.4, 1.0, 4.0}) {
    CAPTURE(alpha);
    double sum = 0;
    constexpr int64_t kBatches = 3000;
    for (int64_t number = 0; number < kBatches; ++number) {
      Batch batch = batch_of(entry);
      Mixing{.mixup = alpha, .classes = 3, .seed = 7}(batch, number);
      for (int64_t i = 0; i < 3;
           ++i) {  // three classes: a picture's own has 1 where it is mixed with itself, else lambda
        const double own = static_cast<double>(
            batch.mixed
                .values<float>()[static_cast<size_t>(3 * i + batch.y.values<int32_t>()[static_cast<size_t>(i)])]);
        sum += own * (1 - own);
      }
    }
    // Two of three places of a random permutation are moved; E[l (1 - l)] = 1/4 - 1 / (4 (2 alpha + 1)).
    CHECK(sum / (3 * kBatches) == doctest::Approx(2.0 / 3 * (0.25 - 0.25 / (2 * alpha + 1))).epsilon(0.05).scale(0));
  }
}

TEST_CASE("Batches and options that cannot be mixed are refused") {
  const json entry = tl_test::golden_cases("regularize.json", "mix_up").at(0);
  Batch batch = batch_of(entry);
  const std::vector<int64_t> partners{0, 1, 2}, few{0, 1}, wrong{0, 1, 3};
  CHECK_THROWS_AS(mix_up(batch, few, 0.5, 3), ShapeError);
  CHECK_THROWS_AS(mix_up(batch, wrong, 0.5, 3), UsageError);
  CHECK_THROWS_AS(mix_up(batch, partners, 1.5, 3), UsageError);
  CHECK_THROWS_AS(mix_up(batch, partners, 0.5, 2), UsageError);
  CHECK_THROWS_AS(cut_mix(batch, partners, {3, 0, 3, 1}, 3), UsageError);
  CHECK_THROWS_AS((Mixing{.mixup = 1}(batch, 0)), UsageError);
  CHECK_THROWS_AS((Mixing{.mixup = -1, .classes = 3}(batch, 0)), UsageError);
  CHECK(!batch.mixed.defined());
}
