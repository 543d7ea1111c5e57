// Strategies: what each trains and leaves, for every one that the library has, and one of the test's own.
#include "tl/train/strategies.hpp"

#include "folder.hpp"
#include "tl/nn/norm.hpp"
#include "train/tasks.hpp"

namespace {

using namespace tl;
using namespace tl_test;

/// A small network in stages, with BatchNorm, so that each strategy has something to freeze.
models::ImageModel small_model(uint64_t seed = 1) {
  manual_seed(seed);
  models::ImageModel model;
  model.info.arch = "cifar_resnet20";
  model.info.options.classes = 10;
  model.info.preprocess = stripes_input(16);
  model.info.preprocess.channel_order = ChannelOrder::rgb;
  model.net = models::create(model.info.arch, model.info.options);
  return model;
}

struct Data {
  View train, validation;
  explicit Data(const Preprocess& input, int64_t count = 24)
      : train(std::make_shared<Stripes>(count, 16), train_transform(input, small_data_augmentation())),
        validation(std::make_shared<Stripes>(12, 16, 7), eval_transform(input)) {}
};

FitResult run(const std::string& name, models::ImageModel& model, StrategyOptions options = {}) {
  const Data data(model.info.preprocess);
  if (options.epochs == 0) options.epochs = 2;
  options.batch = 8;
  return train_with_strategy(name, model, data.train, data.validation, options);
}

std::map<std::string, std::string> statistics(nn::Module& net) {
  std::map<std::string, std::string> out;
  for (const auto& b : nn::named_buffers(net)) out[b.name] = bytes_of(b.buffer->value());
  return out;
}

}  // namespace

TEST_CASE("every strategy trains, gives the classes of the data, and repeats itself bit for bit") {
  for (const Strategy& strategy : strategies()) {
    CAPTURE(strategy.name);
    CHECK(!strategy.summary.empty());
    models::ImageModel a = small_model(), b = small_model();
    const FitResult result = run(strategy.name, a);
    CHECK(result.log.name == strategy.name);
    CHECK(result.log.epochs.size() == 2);
    CHECK(result.last_accuracy >= 0);
    CHECK(a.info.classes == std::vector<std::string>{"vertical", "horizontal", "rising", "falling"});
    a.net->eval();
    CHECK((*a.net)(Tensor::zeros({1, 16, 16, 3})).shape() == Shape{1, 4});
    CHECK(run(strategy.name, b).last_accuracy == result.last_accuracy);
    CHECK(bytes_of(*a.net) == bytes_of(*b.net));
  }
}

TEST_CASE("recomputed blocks give the same bits in less memory, whatever the strategy") {
  for (const std::string name : {"scratch", "finetune", "gradual", "lora"}) {
    CAPTURE(name);
    std::string bytes[2];
    int64_t peaks[2];
    for (const bool recompute : {false, true}) {
      models::ImageModel model = small_model();
      reset_peak_bytes();
      const FitResult result = run(name, model, {.recompute = recompute});
      peaks[recompute] = result.log.peak_bytes();
      for (const auto& [weight, value] : bytes_of(*model.net)) bytes[recompute] += value;
    }
    CHECK(bytes[0] == bytes[1]);
    CHECK(peaks[1] < peaks[0]);
  }
}

TEST_CASE("an objective without names of its own answers with the data's classes") {
  const Classification weighted(4, {.class_weight = Tensor::from({1.f, 2.f, 0.5f, 1.f}, {4})});
  models::ImageModel plain = small_model(), model = small_model();
  run("features", plain);
  run("features", model, {.objective = &weighted});
  CHECK(model.info.classes == plain.info.classes);
  CHECK(bytes_of(*model.net) != bytes_of(*plain.net));
  const Classification other(3);
  CHECK_THROWS_AS(run("features", model, {.objective = &other}), UsageError);
}

TEST_CASE("test-time flips count with cached features as with pictures") {
  for (const int64_t variants : {0, 2})
    for (const std::string strategy : {"features", "finetune", "surgical"}) {
      CAPTURE(strategy);
      CAPTURE(variants);
      models::ImageModel model = small_model(), plain = small_model();
      const FitResult result = run(strategy, model, {.variants = variants, .test_flips = true});
      const Data data(model.info.preprocess);
      Loader pictures(data.validation, {.batch = 5});
      const Forward whole = [&](const Tensor& x) { return (*model.net)(x); };
      const Evaluation flipped = evaluate(*model.net, pictures, 4, with_flips(whole));
      CHECK(result.log.epochs.back().val_loss == doctest::Approx(flipped.loss).epsilon(1e-5));
      CHECK(result.last_accuracy == flipped.accuracy);
      CHECK(run(strategy, plain, {.variants = variants}).log.epochs.back().val_loss != doctest::Approx(flipped.loss));
      CHECK(bytes_of(*model.net) == bytes_of(*plain.net));
    }
}

TEST_CASE("FR01: pretrained BatchNorm statistics stay with every strategy that keeps norms") {
  for (const Strategy& strategy : strategies()) {
    if (!strategy.pretrained) continue;
    CAPTURE(strategy.name);
    models::ImageModel model = small_model();
    const auto before = statistics(*model.net);
    run(strategy.name, model);
    CHECK(statistics(*model.net) == before);
  }
  models::ImageModel model = small_model();
  const auto before = statistics(*model.net);
  run("finetune", model, {.freeze_norms = false});
  CHECK(statistics(*model.net) != before);
}

TEST_CASE("features and adapters leave the backbone's bytes; the others change it, gradual from the head down") {
  for (const Strategy& strategy : strategies()) {
    CAPTURE(strategy.name);
    models::ImageModel model = small_model();
    auto before = bytes_of(*model.net);
    run(strategy.name, model);
    const auto after = bytes_of(*model.net);
    bool backbone_moved = false;
    for (const auto& [name, bytes] : before)
      if (!name.starts_with("linear")) backbone_moved |= after.at(name) != bytes;
    CHECK(backbone_moved == (strategy.name != "features" && strategy.name != "lora" && strategy.name != "adapters"));
    CHECK((after.size() > before.size()) == (strategy.name == "lora" || strategy.name == "adapters"));
    if (strategy.name == "gradual") {  // two epochs: the head, then the stage below
      CHECK(after.at("conv1.weight") == before.at("conv1.weight"));
      CHECK(after.at("layer3.2.conv2.weight") != before.at("layer3.2.conv2.weight"));
    }
  }
}

TEST_CASE("FR04: gradual keeps each group's own rate through the common schedule, whenever it joins") {
  models::ImageModel model = small_model();
  const auto result = run("gradual", model, {.epochs = 4, .rate = 1e-2, .backbone_factor = 0.1, .layer_decay = 0.5});
  for (const auto& epoch : result.log.epochs) {
    std::map<std::string, double> rates(epoch.rates.begin(), epoch.rates.end());
    const auto stages = model.net->stages();
    double head = 0;
    for (const auto& [name, rate] : rates)
      if (name.starts_with("linear")) head = rate;
    REQUIRE(head > 0);
    double ratio = 0.1;
    for (size_t i = stages.size() - 1; i-- > 0; ratio *= 0.5)
      for (const auto& [name, rate] : rates)
        if (name.starts_with(stages[i].front()) && !std::isnan(rate))  // it has joined
          CHECK(rate / head == doctest::Approx(ratio).epsilon(1e-12));
  }
  CHECK(result.log.epochs[0].trainable_parameters < result.log.epochs[1].trainable_parameters);
  CHECK(result.log.epochs[1].trainable_parameters < result.log.epochs[2].trainable_parameters);
}

TEST_CASE("FR02, FR03: stages that surgical freezes keep their bytes, decay or not") {
  models::ImageModel model = small_model();
  const auto before = bytes_of(*model.net);
  run("surgical", model, {.weight_decay = 0.5, .surgical_stages = 1});
  const auto after = bytes_of(*model.net);
  int64_t moved = 0;
  const auto stages = model.net->stages();
  for (size_t i = 0; i + 1 < stages.size(); ++i) {
    bool any = false;
    for (const auto& glob : stages[i])
      for (const auto& p : nn::select_parameters(*model.net, glob)) any |= before.at(p.name) != after.at(p.name);
    moved += any;
  }
  CHECK(moved == 1);
}

TEST_CASE("wise_ft: alpha 1 is lp_ft, alpha 0 the linear probe") {
  models::ImageModel tuned = small_model(), one = small_model(), zero = small_model();
  const auto before = bytes_of(*zero.net);
  run("lp_ft", tuned);
  run("wise_ft", one, {.alpha = 1});
  CHECK(bytes_of(*one.net) == bytes_of(*tuned.net));
  const auto result = run("wise_ft", zero, {.alpha = 0});
  for (const auto& [name, bytes] : bytes_of(*zero.net))
    if (!name.starts_with("linear")) CHECK(before.at(name) == bytes);
  const Data data(zero.info.preprocess);
  Loader validation(data.validation, {.batch = 8});
  CHECK(evaluate(*zero.net, validation, 4).accuracy == result.last_accuracy);
}

TEST_CASE("FR05: a strategy that is cut goes on from its checkpoint and ends with the same bits") {
  for (const char* name : {"finetune", "lp_ft", "gradual", "wise_ft"}) {
    CAPTURE(name);
    models::ImageModel whole = small_model(), cut = small_model();
    const Folder folder;
    const auto expected = run(name, whole, {.epochs = 3});
    StrategyOptions options{.epochs = 3, .checkpoint = folder / "run"};
    options.customize = [](models::ImageClassifier&, FitOptions& fit) { fit.stop_after_steps = 4; };
    run(name, cut, options);
    models::ImageModel resumed = small_model();
    options.customize = {};
    CHECK(run(name, resumed, options).last_accuracy == expected.last_accuracy);
    CHECK(bytes_of(*resumed.net) == bytes_of(*whole.net));
  }
}

TEST_CASE("a strategy of one's own is one function") {
  models::ImageModel model = small_model();
  const auto before = bytes_of(*model.net);
  const Strategy mine{.name = "mine", .run = [](TransferRun& transfer) {
                        transfer.train_head({.epochs = 2, .validated = false});
                        freeze(transfer.net(), "layer[12]");
                        return transfer.fine_tune({.epochs = 1});
                      }};
  const Data data(model.info.preprocess);
  const auto result = train_with_strategy(mine, model, data.train, data.validation, {.batch = 8});
  CHECK(result.log.name == "mine");
  CHECK(result.log.epochs.size() == 1);
  const auto after = bytes_of(*model.net);
  CHECK(after.at("layer2.0.conv1.weight") == before.at("layer2.0.conv1.weight"));
  CHECK(after.at("layer3.0.conv1.weight") != before.at("layer3.0.conv1.weight"));
}

TEST_CASE("bad use is refused with a hint") {
  models::ImageModel model = small_model();
  const Data data(model.info.preprocess);
  CHECK_THROWS_WITH_AS(find_strategy("magic"),
                       "strategy: expected one of scratch, features, finetune, lp_ft, gradual, surgical, wise_ft, "
                       "lora, adapters, bitfit, norms; got "
                       "\"magic\"",
                       UsageError);
  CHECK_THROWS_AS(train_with_strategy(Strategy{.name = "empty"}, model, data.train, data.validation), UsageError);

  struct OneClass final : PictureDataset {
    std::vector<std::string> names{"only"};
    int64_t size() const override { return 4; }
    Image picture(int64_t) const override { return Image(16, 16); }
    int64_t label(int64_t) const override { return 0; }
    std::string name(int64_t i) const override { return std::to_string(i); }
    const std::vector<std::string>& classes() const override { return names; }
  };
  const View one(std::make_shared<OneClass>(), eval_transform(model.info.preprocess));
  CHECK_THROWS_WITH_AS(train_with_strategy("features", model, one, one),
                       "train_with_strategy: there is one class, \"only\". Hint: telling classes apart takes at least "
                       "two folders of pictures.",
                       UsageError);
  CHECK_THROWS_WITH_AS(train_with_strategy("features", model, data.train, one),
                       "train_with_strategy: the class \"vertical\" is in train and not in val", UsageError);
  const View lacking(data.train.data, {0, 1, 4, 5}, data.train.pipeline);
  CHECK_THROWS_WITH_AS(train_with_strategy("features", model, lacking, data.validation),
                       "train_with_strategy: the class \"rising\" has no training picture. Hint: remove the folder or "
                       "add pictures.",
                       UsageError);
}
