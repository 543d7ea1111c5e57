// FR05: a run that was cut ends with the same bits as one that was not, and no file is ever half there.
#include "tl/train/checkpoint.hpp"

#include <cmath>
#include <nlohmann/json.hpp>

#include "folder.hpp"
#include "io/failures.hpp"
#include "tl/core/log.hpp"
#include "tl/nn/freeze.hpp"
#include "tl/train/fit.hpp"
#include "train/tasks.hpp"

namespace {

using namespace tl;
using namespace tl_test;

/// A process that trains: everything is made anew, with random numbers of its own, and may go on from a checkpoint.
struct Process {
  SmallNet net;
  Loader train, validation;
  optim::Sgd optimizer;
  FitResult result;

  explicit Process(uint64_t seed, FitOptions options)
      : net((manual_seed(seed), SmallNet())),
        train(View(std::make_shared<Stripes>(20), train_transform(stripes_input())),
              {.batch = 4, .shuffle = true, .seed = 3}),
        validation(View(std::make_shared<Stripes>(12, 12, 7), eval_transform(stripes_input())), {.batch = 12}),
        optimizer(optim::param_groups(net, {{{"fc"}, 0.02, 0.01}, {{"**"}, 0.01}}), {.momentum = 0.9}) {
    options.epochs = 3;
    options.schedule = optim::cosine(15);
    result = fit(net, optimizer, train, &validation, 4, options);
  }
};

/// All numbers that a run leaves.
std::map<std::string, std::string> outcome(Process& process) {
  auto out = bytes_of(process.net);
  for (const auto& [name, bytes] : bytes_by_name(process.optimizer.state())) out["state " + name] = bytes;
  for (const auto& [name, bytes] : bytes_by_name(process.result.best_weights)) out["best " + name] = bytes;
  out["best epoch"] = std::to_string(process.result.best_epoch) + " " + std::to_string(process.result.steps);
  for (const auto& record : process.result.log.epochs) {
    const double numbers[] = {record.train_loss, record.train_accuracy, record.val_loss, record.val_accuracy,
                              record.rates.at(0).second};
    out["epoch " + std::to_string(record.epoch)] = {reinterpret_cast<const char*>(numbers), sizeof(numbers)};
  }
  out["random"] = std::to_string(default_generator().state().position);
  return out;
}

void check_same(Process& resumed, const std::map<std::string, std::string>& expected) {
  CHECK(resumed.result.finished);
  const auto got = outcome(resumed);
  REQUIRE(got.size() == expected.size());
  for (const auto& [name, bytes] : expected) CHECK_MESSAGE(got.at(name) == bytes, name);
}

/// A network, its optimizer after a step, and a checkpoint of both.
struct Saved {
  LinearNet net{5, 3};
  optim::Adam optimizer{optim::param_groups(net, 0.1)};
  TrainState state;

  explicit Saved(const std::string& path) {
    for (const auto& p : nn::named_parameters(net))
      p.parameter->value().set_grad(Tensor::ones(p.parameter->value().shape()));
    optimizer.step();
    state.epoch = 2;
    state.batch = 1;
    state.step = 9;
    state.loss.add(0.1, 3);
    state.best = 0.75;
    state.best_epoch = 1;
    state.log.name = "run";
    state.best_weights = copy_weights(net);
    save_checkpoint(path, net, optimizer, state);
  }
};

std::string bytes_of(const optim::Adam& optimizer) {
  std::string out;
  for (const auto& entry : const_cast<optim::Adam&>(optimizer).state())
    out += entry.name + tl_test::bytes_of(entry.tensor);
  for (const auto& group : const_cast<optim::Adam&>(optimizer).groups()) out += std::to_string(group.rate);
  return out;
}

}  // namespace

TEST_CASE("FR05: a run that is cut after any step and goes on in another process ends with the same bits") {
  manual_seed(1);
  Process whole(1, {.keep_best = true});
  CHECK(whole.result.steps == 15);
  const auto expected = outcome(whole);
  for (int64_t cut = 1; cut <= 14; ++cut) {
    CAPTURE(cut);
    const Folder folder;
    FitOptions options{.keep_best = true, .checkpoint = folder / "run"};
    options.checkpoint_steps = options.stop_after_steps = cut;
    const Process killed(1, options);
    CHECK(!killed.result.finished);
    CHECK(killed.result.steps == cut);
    options.checkpoint_steps = options.stop_after_steps = 0;
    Process resumed(100 + static_cast<uint64_t>(cut), options);
    check_same(resumed, expected);
  }
}

TEST_CASE("FR05: a run may be cut again and again, and between two checkpoints") {
  Process whole(1, {.accumulate = 2});
  CHECK(whole.result.steps == 9);
  const auto expected = outcome(whole);
  const Folder folder;
  FitOptions options{.accumulate = 2, .checkpoint = folder / "run", .checkpoint_steps = 2, .stop_after_steps = 3};
  int64_t processes = 1;
  for (; processes < 20; ++processes) {
    Process process(static_cast<uint64_t>(processes), options);
    if (process.result.finished) {
      check_same(process, expected);
      break;
    }
  }
  CHECK(processes < 20);
  CHECK(processes > 3);

  // One that has ended ends again at once.
  options.stop_after_steps = 0;
  Process again(50, options);
  check_same(again, expected);
}

TEST_CASE("FR05: what was frozen, and the state of what was not, returns") {
  const Folder folder;
  manual_seed(1);
  SmallNet net;
  freeze(net, "conv");
  freeze(net, "bn");
  optim::Sgd optimizer(optim::param_groups(net, 0.1), {.momentum = 0.9});
  TensorSource source(Tensor::ones({4, 12, 12, 1}), labels({0, 1, 2, 3}), {.batch = 2});
  fit(net, optimizer, source, nullptr, 4, {.epochs = 1, .checkpoint = folder / "run"});
  SmallNet other;
  optim::Sgd fresh(optim::param_groups(other, 0.1), {.momentum = 0.9});
  const TrainState state = load_checkpoint(folder / "run", other, fresh);
  CHECK(state.epoch == 1);
  CHECK(state.batch == 0);
  CHECK(state.step == 2);
  CHECK(tl_test::bytes_of(other) == tl_test::bytes_of(net));
  CHECK(other.conv.weight.frozen());
  CHECK(other.bn.frozen());
  CHECK(!other.fc.weight.frozen());
  CHECK(bytes_by_name(fresh.state()) == bytes_by_name(optimizer.state()));
}

TEST_CASE("FR05: a checkpoint that is cut or broken is an error, and changes neither network nor optimizer") {
  const Folder folder;
  const std::string path = folder / "run";
  const Saved saved(path);
  const std::string whole = get_file(path);
  LinearNet net(5, 3);
  net.fc.bias.value().fill_(7);
  optim::Adam optimizer(optim::param_groups(net, 0.5));
  const auto before = tl_test::bytes_of(net);
  const std::string state = bytes_of(optimizer);
  const Generator::State random = default_generator().state();
  for (size_t size = 0; size < whole.size(); size += 13) {
    put_file(path, whole.substr(0, size));
    CHECK_THROWS_AS(load_checkpoint(path, net, optimizer), FormatError);
  }
  put_file(path, whole + "x");
  TensorSource source(table(4, 5), labels({0, 1, 2, 0}));
  CHECK_THROWS_AS(fit(net, optimizer, source, nullptr, 3, {.epochs = 1, .checkpoint = path}), FormatError);
  write_safetensors(path, state_dict(net), {{"arch", "lenet"}});
  CHECK_THROWS_WITH_AS(load_checkpoint(path, net, optimizer),
                       (path + ": is no checkpoint: it has weights, but no position (at byte 8)").c_str(), FormatError);
  CHECK(tl_test::bytes_of(net) == before);
  CHECK(bytes_of(optimizer) == state);
  CHECK(default_generator().state() == random);
}

TEST_CASE("FR05: a position that cannot be is a tl::Error, and changes nothing") {
  const Folder folder;
  const std::string path = folder / "run";
  const Saved saved(path);
  const SafetensorsFile file(path);
  std::vector<NamedTensor> tensors;
  for (const auto& [name, entry] : file.entries()) tensors.push_back({name, file.tensor(name)});
  const auto good = nlohmann::json::parse(file.metadata().at("position"));

  LinearNet net(5, 3);
  net.fc.bias.value().fill_(7);
  optim::Adam optimizer(optim::param_groups(net, 0.5));
  const auto before = tl_test::bytes_of(net);
  const std::string state = bytes_of(optimizer);
  const auto refused = [&](const std::string& position) {
    CAPTURE(position);
    write_safetensors(folder / "bad", tensors, {{"position", position}});
    CHECK_THROWS_AS(load_checkpoint(folder / "bad", net, optimizer), Error);
    CHECK(tl_test::bytes_of(net) == before);
    CHECK(bytes_of(optimizer) == state);
  };
  for (const char* text : {"", "x", "[]", "{}", "null", "{\"epoch\":1"}) refused(text);
  for (const auto& [key, value] : good.items()) {
    auto lacking = good;
    lacking.erase(key);
    refused(lacking.dump());
    for (const nlohmann::json& bad : {nlohmann::json("99999999999999999999999"), nlohmann::json("x"),
                                      nlohmann::json::array({1}), nlohmann::json(nullptr)}) {
      auto other = good;
      other[key] = bad;
      refused(other.dump());
    }
  }
  for (const char* key : {"epoch", "batch", "step"}) {
    auto negative = good;
    negative[key] = -1;
    refused(negative.dump());
  }
  auto unknown = good;
  unknown["frozen"] = {"fc.nothing"};
  refused(unknown.dump());
  write_safetensors(folder / "bad", tensors, {{"position", good.dump()}});
  optimizer.groups()[0].rate = 0.1;
  CHECK(load_checkpoint(folder / "bad", net, optimizer).step == 9);
}

TEST_CASE("FR05: the checkpoint of another network or optimizer is refused, and changes no weight") {
  const Folder folder;
  const std::string path = folder / "run";
  const Saved saved(path);
  const auto refused = [&](nn::Module& net, optim::Optimizer& optimizer) {
    const auto before = tl_test::bytes_of(net);
    CHECK_THROWS_AS(load_checkpoint(path, net, optimizer), StateDictError);
    CHECK(tl_test::bytes_of(net) == before);
  };
  LinearNet wide(5, 4);
  optim::Adam of_wide(optim::param_groups(wide, 0.1));
  refused(wide, of_wide);
  SmallNet deep;
  optim::Adam of_deep(optim::param_groups(deep, 0.1));
  refused(deep, of_deep);
  struct Part : nn::Module {  // all that it has is in the file, but the file has more
    nn::Linear fc{5, 3, false};
    TL_MEMBERS(fc)
  };
  Part part;
  optim::Adam of_part(optim::param_groups(part, 0.1));
  refused(part, of_part);
  LinearNet net(5, 3);
  optim::Sgd sgd(optim::param_groups(net, 0.1), {.momentum = 0.9});
  CHECK_THROWS_AS(load_checkpoint(path, net, sgd), StateDictError);
  CHECK_THROWS_AS(load_checkpoint(folder / "none", net, sgd), IoError);

  TrainState state;
  state.best_weights = {{"fc.weight", Tensor::zeros({3, 5})}};
  optim::Adam adam(optim::param_groups(net, 0.1));
  save_checkpoint(path, net, adam, state);
  CHECK_THROWS_AS(load_checkpoint(path, net, adam), StateDictError);
}

TEST_CASE("FR05: a full disk is an error, the old checkpoint stays, and training goes on from it") {
  const Folder folder;
  Process whole(1, {});
  const auto expected = outcome(whole);
  FitOptions options{.checkpoint = folder / "run", .checkpoint_steps = 4, .stop_after_steps = 4};
  const Process killed(1, options);
  const std::string before = get_file(folder / "run");
  REQUIRE(before.size() > 1000);
  options.stop_after_steps = 0;
  {
    const FullDisk full(1000);
    CHECK_THROWS_AS(Process(2, options), IoError);
  }
  CHECK(get_file(folder / "run") == before);
  CHECK(folder.entries() == 1);

  // What a killed writer leaves is nobody's business.
  put_file(folder / ".run.tmp-1-0", before.substr(0, 100));
  Process resumed(3, options);
  check_same(resumed, expected);
}

TEST_CASE("FR05: numbers travel as bits, NaN and infinity too") {
  const Folder folder;
  LinearNet net(5, 3);
  optim::Sgd optimizer(optim::param_groups(net, 0.1));
  TrainState state;
  state.loss.add(0.1, 3);
  state.accuracy.add(1.0 / 3, 7);
  state.best = kNoValue;
  EpochRecord record;
  record.train_loss = 0.1;
  record.rates = {{"fc", 1e-3}};
  state.log.epochs.push_back(record);
  state.log.name = "caf\xc3\xa9 \"1\"";
  save_checkpoint(folder / "run", net, optimizer, state);
  const TrainState back = load_checkpoint(folder / "run", net, optimizer);
  CHECK(back.loss.sum() == state.loss.sum());
  CHECK(back.loss.weight() == 3);
  CHECK(back.accuracy.sum() == state.accuracy.sum());
  CHECK(std::isnan(back.best));
  CHECK(back.best_weights.empty());
  CHECK(back.log.name == state.log.name);
  CHECK(back.log.epochs.at(0).train_loss == 0.1);
  CHECK(std::isnan(back.log.epochs.at(0).val_loss));
}

TEST_CASE("FR04: a resumed group goes on with its own rate, and says so when it was given another") {
  const Folder folder;
  LinearNet net(5, 3);
  optim::Sgd optimizer(optim::param_groups(net, {{{"fc.weight"}, 0.1}, {{"fc.bias"}, 0.2}}));
  save_checkpoint(folder / "run", net, optimizer, {});
  std::vector<std::string> warnings;
  const auto before = set_warning_handler([&](std::string_view text) { warnings.emplace_back(text); });
  optim::Sgd other(optim::param_groups(net, {{{"fc.bias"}, 0.2}, {{"fc.weight"}, 0.7}}));
  load_checkpoint(folder / "run", net, other);
  set_warning_handler(before);
  CHECK(other.groups()[0].rate == 0.2);
  CHECK(other.groups()[1].rate == 0.1);
  CHECK(warnings ==
        std::vector<std::string>{folder / "run" + ": the group fc.weight goes on with the rate 0.1, not 0.7"});
}

TEST_CASE("FR06: copies do not follow the weights, and return whole or not at all") {
  SmallNet net;
  const auto copies = copy_weights(net);
  const auto before = tl_test::bytes_of(net);
  CHECK(bytes_by_name(copies) == before);
  net.fc.weight.value().fill_(3);
  net.bn.running_mean.value().fill_(2);
  CHECK(bytes_by_name(copies) == before);
  auto lacking = copies;
  lacking.pop_back();
  const auto changed = tl_test::bytes_of(net);
  CHECK_THROWS_WITH_AS(restore_weights(net, lacking),
                       ("restore_weights: there is no copy of " + copies.back().name).c_str(), StateDictError);
  auto more = copies;
  more.push_back({"extra", Tensor::zeros({1})});
  CHECK_THROWS_WITH_AS(restore_weights(net, more), "restore_weights: the network has no extra", StateDictError);
  CHECK(tl_test::bytes_of(net) == changed);
  restore_weights(net, copies);
  CHECK(tl_test::bytes_of(net) == before);
}
