// Which stages learn in which epoch.
#include "tl/transfer/unfreeze.hpp"

#include "support.hpp"
#include "tl/nn/linear.hpp"

namespace {

using namespace tl;

struct Net : nn::Module {
  nn::Linear a{2, 2}, b{2, 2}, c{2, 2};
  TL_MEMBERS(a, b, c)
};
const std::vector<std::vector<std::string>> kStages{{"a"}, {"b"}, {"c"}};

std::string learning(nn::Module& net) {
  std::string out;
  for (const auto& p : nn::named_parameters(net))
    if (!p.parameter->frozen() && p.name.ends_with("weight")) out += p.name.substr(0, 1);
  return out;
}

}  // namespace

TEST_CASE("a stage per so many epochs, from the head down") {
  const UnfreezePlan every{.epochs_per_stage = 1}, second{.epochs_per_stage = 2, .at_most = 3};
  for (int64_t epoch = 0; epoch < 6; ++epoch) CHECK(every.stages(epoch) == epoch + 1);
  const int64_t expected[] = {1, 1, 2, 2, 3, 3, 3};
  for (int64_t epoch = 0; epoch < 7; ++epoch) CHECK(second.stages(epoch) == expected[epoch]);
}

TEST_CASE("by plateau: a stage more after `patience` epochs without a lower loss") {
  const UnfreezePlan plan{.epochs_per_stage = 0, .patience = 2};
  const std::vector<double> losses{1.0, 0.8, 0.9, 0.8, 0.7, 0.7, std::nan(""), 0.6, 0.6, 0.6, 0.6, 0.6};
  const int64_t expected[] = {1, 1, 1, 1, 2, 2, 2, 3, 3, 3, 4, 4, 5};
  for (size_t epoch = 0; epoch <= losses.size(); ++epoch)
    CHECK(plan.stages(static_cast<int64_t>(epoch), std::span(losses).first(epoch)) == expected[epoch]);
}

TEST_CASE("unfreeze_last leaves the last stages trainable and freezes the others") {
  Net net;
  unfreeze_last(net, kStages, 1);
  CHECK(learning(net) == "c");
  unfreeze_last(net, kStages, 2);
  CHECK(learning(net) == "bc");
  unfreeze_last(net, kStages, 7);
  CHECK(learning(net) == "abc");
  unfreeze_last(net, kStages, 1);
  CHECK(learning(net) == "c");
  CHECK(net.a.frozen());
  CHECK_THROWS_AS(unfreeze_last(net, kStages, 0), UsageError);
  CHECK_THROWS_AS(unfreeze_last(net, {{"a"}, {"nothing"}}, 1), UsageError);
}
