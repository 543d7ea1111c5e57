// Random numbers: the published vectors of Philox, and the statistics of what is drawn.
#include <algorithm>
#include <cmath>
#include <numeric>
#include <set>
#include <vector>

#include "support.hpp"
#include "tl/core/random.hpp"

namespace {

using tl::Generator;
using tl::Philox;

TEST_CASE("Philox-4x32-10 gives the known answers of Random123") {
  struct Row {
    uint64_t seed, stream, counter;
    uint32_t words[4];
  };
  const Row rows[] = {
      {0, 0, 0, {0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8}},
      {0xffffffffffffffff, 0xffffffffffffffff, 0xffffffffffffffff, {0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd}},
      {0x299f31d0a4093822, 0x0370734413198a2e, 0x85a308d3243f6a88, {0xd16cfe09, 0x94fdcceb, 0x5001e420, 0x24126ea1}},
  };
  for (const Row& row : rows) {
    const auto words = Philox::at(row.seed, row.stream, row.counter);
    for (int i = 0; i < 4; ++i) CHECK(words.w[i] == row.words[i]);
  }
}

TEST_CASE("uniform numbers are in [0, 1), even for the extreme words") {
  CHECK(Philox::uniform(0) == 0.0f);
  CHECK(Philox::uniform(0xffffffff) < 1.0f);
  Generator random(1);
  double low = 1, high = 0, sum = 0, squares = 0;
  constexpr int kCount = 200000;
  std::vector<int> bins(64);
  for (int i = 0; i < kCount; ++i) {
    const double x = random.uniform();
    low = std::min(low, x), high = std::max(high, x), sum += x, squares += x * x;
    ++bins[static_cast<size_t>(x * 64)];
  }
  CHECK(low >= 0);
  CHECK(high < 1);
  CHECK(std::abs(sum / kCount - 0.5) < 5 * std::sqrt(1.0 / 12 / kCount));
  CHECK(std::abs(squares / kCount - 1.0 / 3) < 5 * std::sqrt(4.0 / 45 / kCount));
  double chi = 0;
  for (const int bin : bins) chi += std::pow(bin - kCount / 64.0, 2) / (kCount / 64.0);
  CHECK(chi < 63 + 5 * std::sqrt(2 * 63.0));
  CHECK(chi > 63 - 5 * std::sqrt(2 * 63.0));
}

TEST_CASE("normal numbers have mean 0, deviation 1, no skew and a normal's tails") {
  Generator random(2);
  constexpr int kCount = 200000;
  double m1 = 0, m2 = 0, m3 = 0, m4 = 0;
  int beyond_two = 0;
  for (int i = 0; i < kCount; ++i) {
    const double x = random.normal();
    CHECK_UNARY(std::isfinite(x));
    m1 += x, m2 += x * x, m3 += x * x * x, m4 += x * x * x * x;
    beyond_two += std::abs(x) > 2;
  }
  const double root = std::sqrt(static_cast<double>(kCount));
  CHECK(std::abs(m1 / kCount) < 5 / root);
  CHECK(std::abs(m2 / kCount - 1) < 5 * std::sqrt(2.0) / root);
  CHECK(std::abs(m3 / kCount) < 5 * std::sqrt(15.0) / root);
  CHECK(std::abs(m4 / kCount - 3) < 5 * std::sqrt(96.0) / root);
  CHECK(std::abs(beyond_two / static_cast<double>(kCount) - 0.0455003) < 5 * std::sqrt(0.0455 * 0.9545) / root);
}

TEST_CASE("below(n) reaches every number equally often, also for large n") {
  Generator random(3);
  std::vector<int> counts(7);
  for (int i = 0; i < 70000; ++i) ++counts[static_cast<size_t>(random.below(7))];
  for (const int count : counts) CHECK(std::abs(count - 10000) < 5 * std::sqrt(10000.0 * 6 / 7));
  CHECK(random.below(1) == 0);
  int64_t largest = 0;
  for (int i = 0; i < 1000; ++i) {
    const int64_t x = random.below(int64_t{1} << 62);
    CHECK_UNARY(x >= 0 && x < (int64_t{1} << 62));
    largest = std::max(largest, x);
  }
  CHECK(largest > (int64_t{1} << 61));
}

TEST_CASE("a shuffle is a permutation, and every order is as likely") {
  Generator random(4);
  std::vector<int> counts(6);
  for (int i = 0; i < 60000; ++i) {
    std::vector<int> items{0, 1, 2};
    random.shuffle(items);
    ++counts[static_cast<size_t>(items[0] * 2 + (items[1] > items[2]))];
  }
  for (const int count : counts) CHECK(std::abs(count - 10000) < 5 * std::sqrt(10000.0 * 5 / 6));
  std::vector<int> many(1000), sorted(1000);
  std::iota(many.begin(), many.end(), 0);
  sorted = many;
  random.shuffle(many);
  CHECK(many != sorted);
  std::sort(many.begin(), many.end());
  CHECK(many == sorted);
}

TEST_CASE("a generator continues where its state was saved, and streams differ") {
  Generator random(5);
  for (int i = 0; i < 10; ++i) random.normal();
  const auto state = random.state();
  const double next = random.uniform();
  Generator other(99);
  other.set_state(state);
  CHECK(other.uniform() == next);
  CHECK(other.seed() == 5);
  CHECK(Generator(5, 0).uniform() != Generator(5, 1).uniform());
  CHECK(Generator(5).uniform() != Generator(6).uniform());

  std::set<uint32_t> words;
  Generator fresh(7);
  for (int i = 0; i < 10000; ++i) words.insert(fresh.word());
  CHECK(words.size() > 9990);
}

}  // namespace
