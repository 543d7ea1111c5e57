// Several tasks on one network: the balances against PyTorch, missing labels, resuming.
#include "tl/train/multitask.hpp"

#include <fstream>
#include <nlohmann/json.hpp>

#include "folder.hpp"
#include "tl/nn/init.hpp"
#include "tl/train/fit.hpp"
#include "train/tasks.hpp"

namespace {

using namespace tl;
using namespace tl_test;
using nlohmann::json;

const json& golden_file() {
  static const json file = json::parse(std::ifstream(golden("multitask.json")));
  return file;
}

const json& golden_case(const std::string& kind) {
  for (const json& entry : golden_file()["cases"])
    if (entry["kind"] == kind) return entry;
  FAIL("no case " << kind);
  return golden_file();
}

Tensor wave(const json& spec) {
  const auto sizes = spec["shape"].get<std::vector<int64_t>>();
  const Shape shape(sizes.begin(), sizes.end());
  std::vector<float> values;
  for (int64_t i = 0; i < shape.numel(); ++i)
    values.push_back(
        static_cast<float>(spec["c"].get<double>() *
                           std::sin(spec["a"].get<double>() + spec["b"].get<double>() * static_cast<double>(i))));
  return Tensor::from(values, shape);
}

struct Head : nn::Module {
  nn::Linear fc{5, 7, false};
  TL_MEMBERS(fc)
  Tensor forward(const Tensor& x) override { return fc(x); }
};

std::vector<Task> two_tasks() { return {{"shape", {"a", "b", "c"}}, {"colour", {"p", "q", "r", "s"}}}; }

TaskLabels table_of(const json& labels) {
  TaskLabels out(static_cast<int64_t>(labels.size()), 2);
  for (size_t i = 0; i < labels.size(); ++i)
    for (size_t t = 0; t < 2; ++t) out.at(static_cast<int64_t>(i), t) = labels[i][t];
  return out;
}

MultiTask golden_tasks(TaskBalance balance) {
  const TaskLabels labels = table_of(golden_file()["labels"]);
  return MultiTask(
      two_tasks(), labels, labels,
      {.balance = balance, .alpha = golden_file()["alpha"], .balance_rate = golden_file()["balance_rate"]});
}

void check_values(const Tensor& got, const json& expected, double tolerance) {
  REQUIRE(static_cast<size_t>(got.numel()) == expected.size());
  for (size_t i = 0; i < expected.size(); ++i)
    CHECK(std::abs(static_cast<double>(got.values<float>()[i]) - expected[i].get<double>()) <= tolerance);
}

/// x and the positions of samples; labels come from the tables.
TensorSource samples(const Tensor& x) {
  return TensorSource(x, labels(std::vector<int32_t>(static_cast<size_t>(x.size(0)), 0)), {.batch = x.size(0)});
}

}  // namespace

TEST_CASE("uncertainty: value and gradients are PyTorch's, unknown labels count for nothing") {
  const json& expected = golden_case("uncertainty");
  const MultiTask tasks = golden_tasks(TaskBalance::uncertainty);
  auto s = nn::named_parameters(*tasks.module()).at(0);
  CHECK(s.name == "log_variance");
  s.parameter->value().copy_from(Tensor::from(golden_file()["log_variance"].get<std::vector<float>>(), {2}));
  Head net;
  net.fc.weight.value().copy_from(wave(golden_file()["head"]));
  Batch batch{.x = wave(golden_file()["x"]), .y = labels({0, 0, 0, 0, 0, 0}), .indices = {0, 1, 2, 3, 4, 5}};
  const double divisor = tasks.divisor(batch);
  CHECK(divisor == 6);
  const Tensor loss = tasks.loss(net(batch.x), tasks.targets(batch)) * (1 / divisor);
  CHECK(loss.item() == doctest::Approx(expected["loss"].get<double>()).epsilon(1e-6));
  loss.backward();
  check_values(net.fc.weight.value().grad(), expected["grad_head"], 1e-6);
  check_values(s.parameter->value().grad(), expected["grad_s"], 1e-6);
  for (size_t t = 0; t < 2; ++t)
    CHECK(tasks.weights()[t] == doctest::Approx(std::exp(-golden_file()["log_variance"][t].get<double>())));
}

TEST_CASE("fixed weights: the tasks' smoothed means, each times its weight") {
  std::vector<Task> weighed = two_tasks();
  weighed[0].weight = 2, weighed[1].weight = 0.5;
  const TaskLabels known = table_of(golden_file()["labels"]);
  const MultiTask tasks(weighed, known, known, {.balance = TaskBalance::fixed, .label_smoothing = 0.2});
  Head net;
  net.fc.weight.value().copy_from(wave(golden_file()["head"]));
  const Batch batch{.x = wave(golden_file()["x"]), .y = labels({0, 0, 0, 0, 0, 0}), .indices = {0, 1, 2, 3, 4, 5}};
  const Tensor output = net(batch.x);
  double expected = 0;
  for (size_t t = 0; t < 2; ++t) {
    std::vector<int32_t> answers;
    for (const int64_t i : batch.indices) answers.push_back(known.at(i, t));
    const Tensor logits = slice(output, 1, tasks.columns(t).first, tasks.columns(t).second);
    expected += weighed[t].weight * cross_entropy(logits, labels(answers), {.label_smoothing = 0.2}).item();
  }
  CHECK(tasks.loss(output, tasks.targets(batch)).item() / 6 == doctest::Approx(expected).epsilon(1e-6));
}

TEST_CASE("grad_norm: losses and weights follow the paper's steps") {
  const json& expected = golden_case("grad_norm");
  const MultiTask tasks = golden_tasks(TaskBalance::grad_norm);
  Head net;
  net.fc.weight.value().copy_from(wave(golden_file()["head"]));
  TensorSource source = samples(wave(golden_file()["x"]));
  optim::Sgd optimizer(optim::param_groups(net, golden_file()["rate"].get<double>()));
  int64_t epoch = 0;
  for (const json& step : expected["steps"]) {
    fit(net, optimizer, source, nullptr, tasks, {.epochs = 1});
    CAPTURE(epoch++);
    const auto weights = tasks.weights();
    for (size_t t = 0; t < 2; ++t) CHECK(weights[t] == doctest::Approx(step["weights"][t].get<double>()).epsilon(1e-5));
  }
  check_values(net.fc.weight.value(), expected["head"], 1e-5);
}

TEST_CASE("a task without a label in the batch leaves the others to train (FR08), and none leaves no step") {
  for (const auto balance : {TaskBalance::fixed, TaskBalance::uncertainty, TaskBalance::grad_norm}) {
    TaskLabels some(4, 2), none(4, 2);
    for (int64_t i = 0; i < 4; ++i) some.at(i, 0) = static_cast<int32_t>(i % 3);
    Head net;
    const Tensor before = net.fc.weight.value().clone();
    TensorSource source = samples(table(4, 5));
    optim::Sgd optimizer(optim::param_groups(net, 0.1));
    const MultiTask unknown(two_tasks(), none, none, {.balance = balance});
    CHECK(fit(net, optimizer, source, nullptr, unknown, {.epochs = 1}).steps == 0);
    CHECK(bytes_of(net.fc.weight) == bytes_of(before));

    const MultiTask one(two_tasks(), some, some, {.balance = balance});
    const auto result = fit(net, optimizer, source, &source, one, {.epochs = 1});
    CHECK(result.steps == 1);
    CHECK(std::isfinite(result.log.epochs[0].train_loss));
    CHECK(bytes_of(slice(net.fc.weight.value().detach(), 0, 0, 3)) != bytes_of(slice(before, 0, 0, 3)));
    CHECK(bytes_of(slice(net.fc.weight.value().detach(), 0, 3, 7)) == bytes_of(slice(before, 0, 3, 7)));
    const auto& extras = result.log.epochs[0].extras;
    REQUIRE(extras.size() == 4);
    CHECK(extras[0].first == "shape accuracy");
    CHECK(std::isnan(extras[1].second));
    CHECK(result.last_accuracy == extras[0].second);
  }
}

TEST_CASE("FR05: balances come back with the checkpoint") {
  for (const auto balance : {TaskBalance::uncertainty, TaskBalance::grad_norm}) {
    const auto train = [&](const std::string& checkpoint, int64_t stop) {
      const TaskLabels known = table_of(golden_file()["labels"]);
      Head net;
      net.fc.weight.value().copy_from(wave(golden_file()["head"]));
      TensorSource source = samples(wave(golden_file()["x"]));
      for (const int64_t limit : {stop, int64_t{0}}) {
        if (limit == 0 && stop > 0) net.fc.weight.value().fill_(9);  // another process
        const MultiTask tasks(two_tasks(), known, known, {.balance = balance});
        auto groups = optim::param_groups(net, 0.5);
        for (auto& group : tasks.groups()) groups.push_back(group);
        optim::AdamW optimizer(groups);
        const auto result =
            fit(net, optimizer, source, nullptr, tasks,
                {.epochs = 5, .checkpoint = checkpoint, .checkpoint_steps = 1, .stop_after_steps = limit});
        if (result.finished) return std::pair(bytes_of(net), tasks.weights());
      }
      return std::pair(bytes_of(net), std::vector<double>());
    };
    const auto whole = train("", 0);
    const Folder folder;
    CHECK(train(folder / "run", 2) == whole);
    CHECK(whole.second[0] != whole.second[1]);
  }
}

TEST_CASE("what cannot be meant is refused") {
  const TaskLabels good(3, 2);
  CHECK_THROWS_AS(MultiTask({}, good, good), UsageError);
  CHECK_THROWS_AS(MultiTask({{"one", {"a"}}, {"two", {"a", "b"}}}, good, good), UsageError);
  CHECK_THROWS_AS(MultiTask(two_tasks(), TaskLabels(3, 1), good), UsageError);
  TaskLabels wrong(3, 2);
  wrong.at(1, 0) = 3;
  CHECK_THROWS_WITH_AS(MultiTask(two_tasks(), wrong, good),
                       "MultiTask: sample 1 has the label 3 for the task \"shape\", which has 3 classes", UsageError);
  const MultiTask tasks(two_tasks(), good, good);
  CHECK(tasks.output_names()[3] == "colour: p");
  CHECK(tasks.columns(1) == std::pair<int64_t, int64_t>(3, 7));
  CHECK_THROWS_AS(tasks.divisor({.x = {}, .y = {}, .indices = {7}}), UsageError);
  CHECK_THROWS_AS(tasks.check(Tensor::zeros({2, 6})), ShapeError);
}

TEST_CASE("mixed_positions repeats small data sets") {
  CHECK(mixed_positions({4, 2}, 1) == std::vector<int64_t>{0, 1, 2, 3, 4, 5});
  CHECK(mixed_positions({4, 2}, 0) == std::vector<int64_t>{0, 1, 2, 3, 4, 5, 4, 5});
  CHECK(mixed_positions({16, 4}, 0.5).size() == 16 + 8);
  CHECK_THROWS_AS(mixed_positions({4, 0}, 1), UsageError);
  CHECK_THROWS_AS(mixed_positions({4}, 2), UsageError);
}
