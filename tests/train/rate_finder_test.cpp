// The learning-rate finder: its suggestions from curves that are known, and a search that leaves nothing behind.
#include "tl/train/rate_finder.hpp"

#include <cmath>

#include "tl/nn/init.hpp"
#include "train/tasks.hpp"

namespace {

using namespace tl;
using namespace tl_test;

}  // namespace

TEST_CASE("the steepest fall, and a tenth of the rate at the lowest loss") {
  // Over two decades the loss falls by 3 around 1e-4, by 3.2 around 1e-3, by 1.1 around 1e-2.
  const RateCurve curve = suggest_rate({1e-5, 1e-4, 1e-3, 1e-2, 1e-1, 1}, {5, 4.2, 2, 1, 0.9, 3});
  CHECK(curve.steepest == 1e-3);
  CHECK(curve.before_minimum == doctest::Approx(1e-2));
  CHECK(curve.suggestion() == doctest::Approx(std::sqrt(1e-5)));
  CHECK(std::isnan(suggest_rate({1e-3, 1e-2, 1e-1}, {1, 2, 3}).suggestion()));
  CHECK(std::isnan(suggest_rate({}, {}).suggestion()));
  CHECK(suggest_rate({1e-3, 1e-2}, {1, 2}).to_string().find("never fell") != std::string::npos);
  CHECK(curve.to_tsv().starts_with("rate\tloss\n1e-05\t5\n"));
  CHECK_THROWS_AS(suggest_rate({1}, {}), UsageError);
}

TEST_CASE("the noise of the first batches is not the steepest fall") {
  std::vector<double> rates, losses;
  for (int i = 0; i < 100; ++i) {
    rates.push_back(std::pow(10.0, -7 + 0.06 * i));
    losses.push_back(1 - 0.8 / (1 + std::pow(1e-3 / rates.back(), 2)) + (i < 3 ? 0.3 - 0.1 * i : 0));
  }
  const RateCurve curve = suggest_rate(rates, losses);
  CHECK(curve.steepest > 5e-4);
  CHECK(curve.steepest < 2e-3);
}

TEST_CASE("rates rise by equal ratios, losses are smoothed, and all is as before afterwards") {
  manual_seed(4);
  SmallNet net;
  net.eval();
  Loader train(View(std::make_shared<Stripes>(32), train_transform(stripes_input())), {.batch = 8, .shuffle = true});
  optim::AdamW optimizer(optim::param_groups(net, {{{"fc"}, 1e-2}, {{"**"}, 1e-3}}));
  const auto before = bytes_of(net);
  const auto random = default_generator().state();
  const Classification objective(4);
  const RateCurve curve = find_rate(net, optimizer, train, objective, {.lowest = 1e-5, .highest = 1e-1, .steps = 9});
  REQUIRE(curve.rates.size() == 9);
  for (size_t i = 0; i < 9; ++i)
    CHECK(curve.rates[i] == doctest::Approx(1e-5 * std::pow(10.0, static_cast<double>(i) / 2)));
  CHECK(bytes_of(net) == before);
  CHECK(optimizer.state().empty());
  CHECK(default_generator().state() == random);
  CHECK(!net.training());
  CHECK(!net.fc.weight.value().grad().defined());
  const RateCurve again = find_rate(net, optimizer, train, objective, {.lowest = 1e-5, .highest = 1e-1, .steps = 9});
  CHECK(again.losses == curve.losses);
}

TEST_CASE("losses are those of steps at the curve's rates, each group at its ratio, smoothed") {
  LinearNet net(5, 3), by_hand(5, 3);
  const Tensor x = table(4, 5), y = labels({0, 1, 2, 0});
  TensorSource source(x, y, {.batch = 4});
  optim::Sgd optimizer(optim::param_groups(net, {{{"fc.weight"}, 0.2}, {{"**"}, 0.1}})),
      stepped(optim::param_groups(by_hand, {{{"fc.weight"}, 1}, {{"**"}, 0.5}}));
  const RateCurve curve = find_rate(net, optimizer, source, Classification(3),
                                    {.lowest = 1e-2, .highest = 1, .steps = 5, .smoothing = 0.7});
  REQUIRE(curve.losses.size() == 5);
  double running = 0;
  for (size_t i = 0; i < 5; ++i) {
    const Tensor loss = cross_entropy(by_hand(x), y);
    running = 0.7 * running + 0.3 * loss.item();
    CHECK(curve.losses[i] == doctest::Approx(running / (1 - std::pow(0.7, i + 1))).epsilon(1e-6));
    stepped.zero_grad();
    loss.backward();
    stepped.step(curve.rates[i]);
  }
}

TEST_CASE("a search ends when the loss runs away, and refuses what it cannot mean") {
  LinearNet net(5, 3);
  // Equal inputs with different labels: a rate that is too large cannot but make the loss grow.
  TensorSource source(Tensor::ones({4, 5}), labels({0, 1, 2, 0}), {.batch = 4}),
      none(table(4, 5), labels({-100, -100, -100, -100}));
  optim::Sgd optimizer(optim::param_groups(net, 1)), still(optim::param_groups(net, 0));
  const Classification objective(3);
  CHECK(find_rate(net, optimizer, source, objective, {.lowest = 1e-3, .highest = 1e6, .steps = 100}).rates.size() <
        100);
  CHECK_THROWS_AS(find_rate(net, optimizer, source, objective, {.lowest = 1, .highest = 1}), UsageError);
  CHECK_THROWS_AS(find_rate(net, still, source, objective), UsageError);
  CHECK_THROWS_AS(find_rate(net, optimizer, none, objective), UsageError);
}
