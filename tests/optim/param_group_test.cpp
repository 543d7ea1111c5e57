// Groups of parameters by globs, layer-wise rates, and decay for weights alone.
#include "tl/optim/param_group.hpp"

#include <limits>

#include "support.hpp"
#include "tl/nn/freeze.hpp"
#include "tl/nn/linear.hpp"
#include "tl/nn/norm.hpp"

namespace {

using namespace tl;
using optim::ParamGroup;

struct Block : nn::Module {
  nn::Linear fc{2, 2};
  nn::LayerNorm norm{2};
  TL_MEMBERS(fc, norm)
};

struct Net : nn::Module {
  nn::Linear stem{2, 2};
  Block layer1, layer2;
  nn::Linear head{2, 3};
  TL_MEMBERS(stem, layer1, layer2, head)
};

std::vector<std::string> names_of(const ParamGroup& group) {
  std::vector<std::string> out;
  for (const auto& p : group.parameters) out.push_back(p.name);
  return out;
}

}  // namespace

TEST_CASE("each parameter goes to the first group with a glob that matches it, frozen ones too") {
  Net net;
  freeze(net, "stem");
  const auto groups =
      optim::param_groups(net, {{{"head", "stem.bias"}, 1e-2, 0.1}, {{"layer[12].norm"}, 1e-3}, {{"**"}, 1e-4, 0.5}});
  REQUIRE(groups.size() == 3);
  CHECK(groups[0].name == "head, stem.bias");
  CHECK(names_of(groups[0]) == std::vector<std::string>{"head.weight", "head.bias", "stem.bias"});
  CHECK(names_of(groups[1]) ==
        std::vector<std::string>{"layer1.norm.weight", "layer1.norm.bias", "layer2.norm.weight", "layer2.norm.bias"});
  CHECK(names_of(groups[2]) == std::vector<std::string>{"stem.weight", "layer1.fc.weight", "layer1.fc.bias",
                                                        "layer2.fc.weight", "layer2.fc.bias"});
  CHECK(groups[0].rate == 1e-2);
  CHECK(groups[0].weight_decay == 0.1);
  CHECK(groups[1].weight_decay == 0);

  const auto all = optim::param_groups(net, 0.1, 0.2);
  REQUIRE(all.size() == 1);
  CHECK(all[0].parameters.size() == nn::named_parameters(net).size());
}

TEST_CASE("a glob that matches nothing and parameters in no group are errors that say which") {
  Net net;
  try {
    optim::param_groups(net, {{{"haed.**"}, 0.1}});
    FAIL("no error");
  } catch (const UsageError& error) {
    const std::string text = error.what();
    CHECK(text.starts_with("select: no parameter matches \"haed.**\". Nearest: head"));
  }
  CHECK_THROWS_WITH_AS(
      optim::param_groups(net, {{{"layer*.**"}, 0.1}, {{"head"}, 0.1}}),
      "param_groups: no group takes stem.weight, stem.bias. Hint: add a last group with the glob \"**\".", UsageError);
  for (const double bad : {-1.0, std::numeric_limits<double>::quiet_NaN(), std::numeric_limits<double>::infinity()}) {
    CHECK_THROWS_AS(optim::param_groups(net, bad), UsageError);
    CHECK_THROWS_AS(optim::param_groups(net, 0.1, bad), UsageError);
  }
}

TEST_CASE("layerwise_groups: each stage learns with decay times the rate of the one after it") {
  Net net;
  const std::vector<std::vector<std::string>> stages = {{"stem"}, {"layer1"}, {"layer2"}, {"head"}};
  const auto groups = optim::layerwise_groups(net, stages, 1e-2, 0.5, 0.3);
  REQUIRE(groups.size() == 4);
  const std::pair<std::string, double> expected[] = {
      {"head", 1e-2}, {"layer2", 5e-3}, {"layer1", 2.5e-3}, {"stem", 1.25e-3}};
  for (size_t i = 0; i < 4; ++i) {
    CHECK(groups[i].name == expected[i].first);
    CHECK(groups[i].rate == doctest::Approx(expected[i].second).epsilon(1e-15));
    CHECK(groups[i].weight_decay == 0.3);
  }
  CHECK_THROWS_AS(optim::layerwise_groups(net, stages, 1e-2, 0), UsageError);
  CHECK_THROWS_AS(optim::layerwise_groups(net, stages, 1e-2, 1.5), UsageError);
  CHECK_THROWS_AS(optim::layerwise_groups(net, {{"stem"}, {"head"}}, 1e-2, 0.5), UsageError);
}

TEST_CASE("discriminative_groups: from the lowest rate to the head's at equal ratios") {
  Net net;
  const std::vector<std::vector<std::string>> stages = {{"stem"}, {"layer1"}, {"layer2"}, {"head"}};
  const auto groups = optim::discriminative_groups(net, stages, 1e-5, 1e-2);
  const std::pair<std::string, double> expected[] = {
      {"head", 1e-2}, {"layer2", 1e-3}, {"layer1", 1e-4}, {"stem", 1e-5}};
  for (size_t i = 0; i < 4; ++i) {
    CHECK(groups[i].name == expected[i].first);
    CHECK(groups[i].rate == doctest::Approx(expected[i].second).epsilon(1e-12));
  }
  CHECK_THROWS_AS(optim::discriminative_groups(net, stages, 0, 1), UsageError);
  CHECK_THROWS_AS(optim::discriminative_groups(net, stages, 2, 1), UsageError);
}

TEST_CASE("without_decay_on_vectors: biases and norms lose their decay and keep their rate") {
  Net net;
  const auto groups = optim::without_decay_on_vectors(
      optim::param_groups(net, {{{"layer1", "layer2", "stem"}, 1e-3, 0.1}, {{"head"}, 1e-2, 0.2}}));
  REQUIRE(groups.size() == 4);
  CHECK(names_of(groups[0]) == std::vector<std::string>{"layer1.fc.weight", "layer2.fc.weight", "stem.weight"});
  CHECK(groups[0].weight_decay == 0.1);
  CHECK(groups[1].name == "layer1, layer2, stem (vectors)");
  CHECK(groups[1].parameters.size() == 7);
  CHECK(groups[1].weight_decay == 0);
  CHECK(groups[1].rate == 1e-3);
  CHECK(names_of(groups[3]) == std::vector<std::string>{"head.bias"});
  CHECK(optim::without_decay_on_vectors(optim::param_groups(net, {{{"**.bias"}, 1, 1}, {{"**"}, 1, 1}}))[0].name ==
        "**.bias (vectors)");
}
