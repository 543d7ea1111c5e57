// Schedules: PyTorch's rates at every step, and factors that keep groups apart.
#include "tl/optim/schedule.hpp"

#include <fstream>
#include <nlohmann/json.hpp>

#include "support.hpp"
#include "tl/nn/linear.hpp"
#include "tl/optim/optimizer.hpp"

namespace {

using namespace tl;
using nlohmann::json;

/// The schedule of a golden case for a group of this rate: floors there are rates, here factors.
optim::Schedule make_schedule(const std::string& kind, const json& o, double rate) {
  if (kind == "step") return optim::step_decay(o["step_size"], o["gamma"]);
  if (kind == "multi_step") return optim::multi_step(o["milestones"], o["gamma"]);
  if (kind == "cosine") return optim::cosine(o["total"], o["min_rate"].get<double>() / rate);
  if (kind == "one_cycle")
    return optim::one_cycle(o["total"], {.warm_up = o["warm_fraction"],
                                         .start_divisor = o["div_factor"],
                                         .final_divisor = o["final_div_factor"],
                                         .linear = o["anneal"] == "linear"});
  if (kind == "slanted_triangular")
    return optim::slanted_triangular(o["total"], {.rise = o["rise"], .ratio = o["ratio"]});
  if (kind == "linear_warmup") return optim::warm_up(o["warmup"], optim::constant(), o["start_factor"]);
  const int64_t warm = o["warmup"], rest = o["total"].get<int64_t>() - warm;
  REQUIRE((kind == "warmup_cosine" || kind == "warmup_linear"));
  return optim::warm_up(warm, kind == "warmup_cosine" ? optim::cosine(rest) : optim::linear(rest), 0);
}

}  // namespace

TEST_CASE("schedules give PyTorch's rates for every group") {
  const json file = json::parse(std::ifstream(tl_test::golden("optim.json")));
  int64_t cases = 0;
  for (const json& entry : file["cases"]) {
    if (entry["kind"] != "schedule") continue;
    ++cases;
    CAPTURE(entry["case"].get<std::string>());
    for (size_t group = 0; group < entry["base_rates"].size(); ++group) {
      const double base = entry["base_rates"][group];
      const auto schedule = make_schedule(entry["schedule"], entry["options"], base);
      for (size_t step = 0; step < entry["rates"].size(); ++step)
        CHECK(std::abs(base * schedule(static_cast<int64_t>(step)) - entry["rates"][step][group].get<double>()) <=
              1e-11 * base);
    }
  }
  CHECK(cases == 13);
}

TEST_CASE("a plateau reduces the rate as PyTorch does, from the history alone") {
  const json file = json::parse(std::ifstream(tl_test::golden("optim.json")));
  int64_t cases = 0;
  for (const json& entry : file["cases"]) {
    if (entry["kind"] != "plateau") continue;
    ++cases;
    CAPTURE(entry["case"].get<std::string>());
    const json& o = entry["options"];
    const optim::ReduceOnPlateau plateau{.gamma = o["factor"],
                                         .patience = o["patience"],
                                         .threshold = o.value("threshold", 1e-4),
                                         .cooldown = o.value("cooldown", 0),
                                         .floor = o.value("min_lr", 0.0)};
    const auto measures = entry["measures"].get<std::vector<double>>();
    for (size_t epoch = 0; epoch < measures.size(); ++epoch)
      CHECK(plateau.factor(std::span(measures).first(epoch + 1)) ==
            doctest::Approx(entry["factors"][epoch].get<double>()).epsilon(1e-12));
  }
  CHECK(cases == 4);
  CHECK(optim::ReduceOnPlateau().factor({}) == 1);
  CHECK_THROWS_AS(optim::ReduceOnPlateau{.gamma = 1}.factor({}), UsageError);
}

TEST_CASE("a group's own schedule replaces the run's for that group alone") {
  struct Net : nn::Module {
    nn::Linear body{2, 2}, head{2, 2};
    TL_MEMBERS(body, head)
  } net;
  optim::Sgd optimizer(optim::param_groups(
      net, {{.globs = {"head"}, .rate = 1, .schedule = optim::linear(4)}, {.globs = {"**"}, .rate = 0.5}}));
  for (const auto& p : nn::named_parameters(net)) {
    p.parameter->value().fill_(1);
    p.parameter->value().set_grad(Tensor::ones(p.parameter->value().shape()));
  }
  optimizer.step(optim::constant(), 1);
  CHECK(net.head.bias.value().values<float>()[0] == doctest::Approx(1 - 0.75));
  CHECK(net.body.bias.value().values<float>()[0] == doctest::Approx(1 - 0.5));
}

TEST_CASE("FR04: a group that joins at epoch 5 is at its place on the cosine at epoch 7") {
  nn::Linear body(2, 2), head(2, 2);
  optim::Sgd optimizer(optim::param_groups(head, 1e-2));
  const auto schedule = optim::cosine(10);
  const auto rate_of = [&](size_t group, int64_t epoch) { return optimizer.groups()[group].rate * schedule(epoch); };
  auto late = optim::param_groups(body, 1e-3)[0];
  for (auto& p : late.parameters) p.name = "body." + p.name;
  optimizer.add_group(late);
  CHECK(rate_of(1, 7) == doctest::Approx(2.0611e-4).epsilon(1e-4));
  CHECK(rate_of(0, 7) == doctest::Approx(2.0611e-3).epsilon(1e-4));

  // What a step applies is that rate.
  for (auto& p : late.parameters) p.parameter->value().set_grad(Tensor::ones(p.parameter->value().shape()));
  const float before = body.bias.value().values<float>()[0];
  optimizer.step(schedule(7));
  CHECK(static_cast<double>(before - body.bias.value().values<float>()[0]) == doctest::Approx(2.0611e-4).epsilon(1e-3));
}

TEST_CASE("FR04: one-cycle keeps the ratios of the groups' rates at every step") {
  const auto schedule = optim::one_cycle(30);
  double peak = 0;
  for (int64_t step = 0; step < 40; ++step) {
    const double a = 1e-2 * schedule(step), b = 1e-3 * schedule(step), c = 1e-4 * schedule(step);
    CHECK(a / c == doctest::Approx(100).epsilon(1e-12));
    CHECK(b / c == doctest::Approx(10).epsilon(1e-12));
    CHECK(a > 0);
    peak = std::max(peak, a);
  }
  CHECK(peak == doctest::Approx(1e-2).epsilon(1e-12));
  CHECK(schedule(40) == schedule(29));
}

TEST_CASE("schedules stay where they end, and compose") {
  CHECK(optim::cosine(10, 0.1)(1000) == doctest::Approx(0.1));
  CHECK(optim::linear(4, 0.2)(2) == doctest::Approx(0.6));
  CHECK(optim::linear(4, 0.2)(9) == doctest::Approx(0.2));
  CHECK(optim::one_cycle(2)(1) == doctest::Approx(1 / (25 * 1e4)));
  const auto warm = optim::warm_up(4);
  CHECK(warm(0) == 0.25);
  CHECK(warm(4) == 1);
  CHECK(warm(100) == 1);
  const auto stepped = optim::warm_up(2, optim::step_decay(3, 0.5));
  CHECK(stepped(2) == 1);
  CHECK(stepped(4) == 1);
  CHECK(stepped(5) == 0.5);
  for (int64_t bad : {0, -3}) {
    CHECK_THROWS_AS(optim::cosine(bad), UsageError);
    CHECK_THROWS_AS(optim::linear(bad), UsageError);
    CHECK_THROWS_AS(optim::step_decay(bad), UsageError);
    CHECK_THROWS_AS(optim::one_cycle(bad), UsageError);
    CHECK_THROWS_AS(optim::warm_up(bad), UsageError);
  }
  CHECK_THROWS_AS(optim::multi_step({5, 2}), UsageError);
}
