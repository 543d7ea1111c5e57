// Frozen means free: what freezing saves, and the table that tells it.
#include "tl/transfer/explain.hpp"

#include <sstream>

#include "support.hpp"
#include "tl/core/glob.hpp"
#include "tl/models/create.hpp"
#include "tl/nn/freeze.hpp"
#include "train/tasks.hpp"

using namespace tl;
using namespace tl_test;

namespace {

Tensor pictures(int64_t count) { return reshape(table(count, 32 * 32 * 3), {count, 32, 32, 3}); }

struct Steps {
  std::map<std::string, std::string> before = {}, after = {};
  int64_t peak_bytes = 0, kept_bytes = 0, state_bytes = 0;
};

/// Trains on the same small batch again and again.
Steps train(int count, const std::vector<std::string>& frozen) {
  manual_seed(1);
  const auto net = models::create("cifar_resnet20", {.classes = 4});
  for (const auto& glob : frozen) freeze(*net, glob);
  const Tensor x = pictures(4), y = labels({0, 1, 2, 3});
  optim::AdamW optimizer(optim::param_groups(*net, 1e-3, 1e-2));
  Steps out{.before = bytes_of(*net)};
  net->train();
  for (int i = 0; i < count; ++i) {
    if (i == 1) reset_peak_bytes();  // the first step made what later ones keep
    const int64_t live = memory_stats().live_bytes;
    const Tensor loss = cross_entropy((*net)(x), y);
    out.kept_bytes = memory_stats().live_bytes - live;
    loss.backward();
    optimizer.step();
    optimizer.zero_grad();
  }
  out.peak_bytes = memory_stats().peak_bytes;
  out.state_bytes = optimizer.state_bytes();
  for (const auto& state : optimizer.state())
    for (const auto& glob : frozen) CHECK_MESSAGE(!glob_covers(glob, state.name), state.name);
  out.after = bytes_of(*net);
  return out;
}

}  // namespace

TEST_CASE("FR01: 1,000 steps leave a frozen prefix byte-equal, without optimizer state, and take less memory") {
  const std::vector<std::string> frozen{"conv1", "bn1", "layer1", "layer2"};
  const Steps part = train(1000, frozen), whole = train(2, {});
  int64_t same = 0, moved = 0;
  for (const auto& entry : part.before) {
    const std::string& name = entry.first;
    bool is_frozen = false;
    for (const auto& glob : frozen) is_frozen = is_frozen || glob_covers(glob, name);
    CHECK_MESSAGE((part.after.at(name) == entry.second) == is_frozen, name);
    ++(is_frozen ? same : moved);
  }
  CHECK(same > moved);
  MESSAGE("kept " << part.kept_bytes << " instead of " << whole.kept_bytes << " bytes, at most " << part.peak_bytes
                  << " instead of " << whole.peak_bytes << ", state " << part.state_bytes << " instead of "
                  << whole.state_bytes);
  CHECK(3 * part.kept_bytes < whole.kept_bytes);
  CHECK(part.peak_bytes < whole.peak_bytes);
  CHECK(part.state_bytes < whole.state_bytes);
}

TEST_CASE("explain tells what is frozen, at which rate the rest learns and what it keeps, and changes nothing") {
  manual_seed(1);
  const auto net = models::create("cifar_resnet20", {.classes = 4});
  for (const char* glob : {"conv1", "bn1", "layer1"}) freeze(*net, glob);
  for (auto& p : nn::select_parameters(*net, "layer2")) p.parameter->set_frozen(true);  // but not BatchNorm (FR01)
  const auto groups =
      optim::param_groups(*net, {{{"linear"}, 1e-2}, {{"layer3"}, 1e-3}, {{"conv1", "bn1", "layer1", "layer2"}, 1e-4}});
  const Tensor x = pictures(8);
  cross_entropy((*net)(x), labels({0, 1, 2, 3, 0, 1, 2, 3})).backward();
  const auto gradient = [&] { return bytes_of(nn::select_parameters(*net, "linear")[0].parameter->value().grad()); };
  const std::string gradient_before = gradient();
  const auto before = bytes_of(*net);
  const auto random = default_generator().state();
  net->eval();

  const Explanation told = explain(*net, x, groups, 1);
  CHECK(bytes_of(*net) == before);
  CHECK(gradient() == gradient_before);
  CHECK(default_generator().state() == random);
  CHECK(!net->training());

  REQUIRE(told.stages.size() == 5);
  CHECK(told.input == x.shape());
  const auto column = [&](auto member) {
    std::vector<std::string> out;
    for (const auto& stage : told.stages) out.push_back(text(stage.*member));
    return out;
  };
  using Column = std::vector<std::string>;
  CHECK(column(&StageCost::name) == Column{"conv1, bn1", "layer1", "layer2", "layer3", "linear"});
  CHECK(column(&StageCost::state) == Column{"frozen", "frozen", "statistics move", "trains", "trains"});
  CHECK(column(&StageCost::rate) == Column{"0", "0", "0", "0.001", "0.01"});
  CHECK(told.total().parameters == nn::parameter_count(*net));
  CHECK(told.total().trainable == nn::parameter_count(*net, true));
  CHECK(told.total().state == text(nn::parameter_count(*net, true), " train"));
  for (const size_t stage : {0u, 1u, 2u}) {
    CHECK(told.stages[stage].trainable == 0);
    CHECK(told.stages[stage].kept_bytes == 0);
    CHECK(told.stages[stage].backward_ms == 0);
  }
  // Of the last block, at least what its three units take in and give: six maps of [8, 8, 8, 64] and of a quarter more.
  CHECK(told.stages[3].kept_bytes >= 8 * (16 * 16 * 32 + 5 * 8 * 8 * 64) * 4);
  CHECK(told.stages[3].kept_bytes > 100 * told.stages[4].kept_bytes);
  for (const auto& stage : told.stages) CHECK(stage.forward_ms > 0);
  for (const size_t stage : {3u, 4u}) CHECK(told.stages[stage].backward_ms > 0);

  net->set_frozen(false);
  const Explanation all = explain(*net, x, {}, 1);
  CHECK(all.total().kept_bytes > 3 * told.total().kept_bytes);
  CHECK(all.total().rate == 0);

  const std::string table = to_string(told);
  MESSAGE("\n" << table);
  std::istringstream lines(table);
  int count = 0;
  for (std::string line; std::getline(lines, line); ++count) CHECK(line.size() <= 100);
  CHECK(count == 7);
  CHECK(table.find("layer2                        statistics move         -") != std::string::npos);
}
