// Strategies: what each trains and leaves, for every one that the library has, and one of the test's own.
#include "tl/train/strategies.hpp"

#include "folder.hpp"
#include "tl/nn/norm.hpp"
#include "tl/transfer/interpolate.hpp"
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

TEST_CASE("FR02: with every strategy what is frozen at the end keeps its bytes, decay or not") {
  for (const Strategy& strategy : strategies()) {
    CAPTURE(strategy.name);
    models::ImageModel model = small_model();
    const auto before = bytes_of(*model.net);
    run(strategy.name, model, {.weight_decay = 0.5});
    const auto after = bytes_of(*model.net);
    int64_t frozen = 0;
    for (const auto& p : nn::named_parameters(*model.net)) {
      if (!p.parameter->frozen()) continue;
      CHECK(after.at(p.name) == before.at(p.name));
      ++frozen;
    }
    CHECK((frozen > 0) == (strategy.name != "scratch" && strategy.name != "features"));
  }
}

TEST_CASE("the library's strategies are made of these steps") {
  using Steps = std::function<FitResult(TransferRun & run)>;
  const auto little = [](std::function<void(TransferRun&)> add) -> Steps {
    return [=](TransferRun& run) {
      run.train_head({.epochs = 60, .rate = 3e-3, .validated = false});
      freeze_all_but(run.net(), "linear");
      add(run);
      return run.fine_tune({.rate = 1e-3, .backbone_factor = 1, .layer_decay = 1, .freeze_norms = false});
    };
  };
  const std::map<std::string, Steps> all{
      {"scratch",
       [](TransferRun& run) {
         run.start_from_scratch();
         return run.fine_tune(
             {.rate = 1e-3, .backbone_factor = 1, .layer_decay = 1, .label_smoothing = 0, .freeze_norms = false});
       }},
      {"features", [](TransferRun& run) { return run.train_head({.epochs = 60, .rate = 3e-3}); }},
      {"finetune",
       [](TransferRun& run) {
         run.train_head({.epochs = 60, .rate = 3e-3, .validated = false});
         return run.fine_tune({.rate = 2e-4, .backbone_factor = 0.1, .layer_decay = 0.8, .label_smoothing = 0.1});
       }},
      {"lp_ft",
       [](TransferRun& run) {
         run.train_head({.epochs = 100, .rate = 3e-3, .validated = false});
         return run.fine_tune({.rate = 5e-5, .backbone_factor = 1, .layer_decay = 1});
       }},
      {"gradual",
       [](TransferRun& run) {
         run.train_head({.epochs = 60, .rate = 3e-3, .validated = false});
         return run.fine_tune({.rate = 3e-4,
                               .backbone_factor = 0.1,
                               .layer_decay = 0.8,
                               .schedule = optim::slanted_triangular(4 * run.batches()),
                               .unfreeze = UnfreezePlan{.epochs_per_stage = 1}});
       }},
      {"surgical",
       [](TransferRun& run) {
         run.train_head({.epochs = 60, .rate = 3e-3, .validated = false});
         const auto stages = run.net().stages();
         auto norms = run.gradient_norms(8);
         norms.pop_back();  // the head learns anyway
         std::vector<double> sorted = norms;
         std::sort(sorted.begin(), sorted.end());
         for (size_t i = 0; i < norms.size(); ++i)
           if (norms[i] < sorted[sorted.size() - 2])  // not among the two largest
             for (const auto& glob : stages[i]) freeze(run.net(), glob);
         return run.fine_tune({.rate = 2e-4, .backbone_factor = 1, .layer_decay = 1});
       }},
      {"wise_ft",
       [](TransferRun& run) {
         run.train_head({.epochs = 100, .rate = 3e-3, .validated = false});
         const auto probed = copy_weights(run.net());
         auto result = run.fine_tune({.rate = 5e-5, .backbone_factor = 1, .layer_decay = 1});
         interpolate_weights(run.net(), probed, 0.3);
         run.validate_again(result);
         return result;
       }},
      {"lora", little([](TransferRun& run) {
         add_lora(run.net(), "**", {.rank = 8, .alpha = 16, .windows = true});
         nn::find_module(run.net(), "conv1").set_adapter(nullptr);  // the first stage
       })},
      {"adapters",
       little([](TransferRun& run) { add_bottlenecks(run.net(), "layer?.*", {.width = 16}, run.sample()); })},
      {"bitfit", little([](TransferRun& run) { unfreeze_biases(run.net()); })},
      {"norms", little([](TransferRun& run) { unfreeze_norms(run.net()); })}};
  REQUIRE(all.size() == strategies().size());
  for (const Strategy& strategy : strategies()) {
    CAPTURE(strategy.name);
    models::ImageModel library = small_model(), steps = small_model();
    const int64_t epochs = strategy.name == "gradual" ? 4 : 2;  // below 10 steps a slanted triangle is always the same
    const StrategyOptions options{.epochs = epochs, .batch = 8, .alpha = 0.3};
    const Data data(library.info.preprocess);
    const auto result = train_with_strategy(strategy, library, data.train, data.validation, options);
    const Strategy own{.name = "own", .run = all.at(strategy.name), .pretrained = strategy.pretrained};
    CHECK(train_with_strategy(own, steps, data.train, data.validation, options).last_accuracy == result.last_accuracy);
    CHECK(bytes_of(*library.net) == bytes_of(*steps.net));
  }
}

TEST_CASE("FR04: a phase's rates follow its schedule, each stage at its own ratio, and the caller's come first") {
  const int64_t epochs = 3, batches = 24 / 8;
  const auto check = [&](const FitResult& result, double rate, double factor, double decay) {
    const auto one_cycle = optim::one_cycle(epochs * batches);
    REQUIRE(result.log.epochs.size() == 3);
    for (const auto& epoch : result.log.epochs) {
      double ratio = factor;
      const auto expect = [&](const std::string& group, double wanted) {
        int64_t seen = 0;
        for (const auto& [name, value] : epoch.rates)
          if (name.starts_with(group)) {
            CHECK(value == doctest::Approx(wanted * one_cycle(epoch.epoch * batches - 1)).epsilon(1e-12));
            ++seen;
          }
        CHECK(seen == 2);  // weights, and vectors without decay
      };
      expect("linear", rate);
      for (const char* stage : {"layer3", "layer2", "layer1", "conv1, bn1"}) {
        expect(stage, rate * ratio);
        ratio *= decay;
      }
    }
  };
  const auto phase_of = [&](StrategyOptions options) {
    const Strategy phase{
        .name = "phase", .run = [](TransferRun& transfer) {
          return transfer.fine_tune(
              {.epochs = 3, .rate = 1e-3, .backbone_factor = 0.3, .layer_decay = 0.5, .freeze_norms = false});
        }};
    models::ImageModel model = small_model();
    const Data data(model.info.preprocess);
    options.batch = 8;
    return train_with_strategy(phase, model, data.train, data.validation, options);
  };
  check(phase_of({}), 1e-3, 0.3, 0.5);
  check(phase_of({.epochs = 3, .rate = 2e-3, .backbone_factor = 0.2, .layer_decay = 0.9}), 2e-3, 0.2, 0.9);

  models::ImageModel model = small_model();
  for (const auto& epoch : run("features", model, {.epochs = 3}).log.epochs) {
    REQUIRE(epoch.rates.size() == 1);
    CHECK(epoch.rates[0].second == doctest::Approx(3e-3 * optim::one_cycle(9)(epoch.epoch * batches - 1)));
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

TEST_CASE("gradual by plateau opens a stage when the validation loss stands still") {
  const UnfreezePlan plan{.epochs_per_stage = 0, .patience = 1};
  models::ImageModel model = small_model();
  const auto result = run("gradual", model, {.epochs = 8, .rate = 3e-2, .unfreeze = plan});
  const auto stages = model.net->stages();
  std::vector<double> losses, others;
  int64_t told_apart = 0;
  for (const auto& epoch : result.log.epochs) {
    const int64_t open = std::min(plan.stages(epoch.epoch - 1, losses), std::ssize(stages));
    int64_t learning = 0;
    for (const auto& globs : stages)
      for (const auto& [name, rate] : epoch.rates)
        learning += name.starts_with(globs.front()) && !name.ends_with("(vectors)") && !std::isnan(rate);
    CHECK(learning == open);
    told_apart += open != std::min(plan.stages(epoch.epoch - 1, others), std::ssize(stages));
    losses.push_back(epoch.val_loss);
    others.push_back(epoch.train_loss);
  }
  CHECK(told_apart > 0);  // by the training loss it would be another course
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

TEST_CASE("FR03, FR05: every strategy that is cut goes on from its checkpoint and ends with the same bits") {
  struct Cut {};
  for (const Strategy& strategy : strategies()) {
    CAPTURE(strategy.name);
    models::ImageModel whole = small_model(), cut = small_model(), resumed = small_model();
    const Folder folder;
    const auto expected = run(strategy.name, whole, {.epochs = 3});
    StrategyOptions options{.epochs = 3, .checkpoint = folder / "run"};
    options.after_epoch = [](const RunLog& log) {
      if (log.epochs.size() == 2) throw Cut();  // the second epoch is not in the checkpoint yet
    };
    CHECK_THROWS_AS(run(strategy.name, cut, options), Cut);
    options.after_epoch = {};
    CHECK(run(strategy.name, resumed, options).last_accuracy == expected.last_accuracy);
    CHECK(bytes_of(*resumed.net) == bytes_of(*whole.net));
  }
}

TEST_CASE("weight decay reaches the head and the stages below it, each by itself") {
  const auto trained = [](bool head, double weight_decay) {
    const Strategy part{.name = "part", .run = [=](TransferRun& transfer) {
                          head ? freeze_all_but(transfer.net(), "linear") : void(freeze(transfer.net(), "linear"));
                          return transfer.fine_tune({.epochs = 1});
                        }};
    models::ImageModel model = small_model();
    const Data data(model.info.preprocess);
    train_with_strategy(part, model, data.train, data.validation, {.weight_decay = weight_decay, .batch = 8});
    return bytes_of(*model.net);
  };
  CHECK(trained(true, 0.5).at("linear.weight") != trained(true, 0).at("linear.weight"));
  CHECK(trained(false, 0.5).at("conv1.weight") != trained(false, 0).at("conv1.weight"));
}

TEST_CASE("wise_ft validates its weights between with flips where they are wanted") {
  for (uint64_t seed = 1; seed < 12; ++seed) {
    models::ImageModel model = small_model(seed);
    const double accuracy = run("wise_ft", model, {.test_flips = true}).last_accuracy;
    const Data data(model.info.preprocess);
    Loader validation(data.validation, {.batch = 12});
    const Forward plain = [&](const Tensor& x) { return (*model.net)(x); };
    const double flipped = evaluate(*model.net, validation, 4, with_flips(plain)).accuracy;
    CHECK(accuracy == flipped);
    if (evaluate(*model.net, validation, 4).accuracy != flipped) return;  // a network that flips make another answer of
  }
  FAIL("flips changed no answer of any network");
}

TEST_CASE("what the caller wants of a strategy reaches training") {
  const auto trained = [](const std::string& name, StrategyOptions options) {
    models::ImageModel model = small_model();
    const auto result = run(name, model, std::move(options));
    return std::pair(bytes_of(*model.net), result);
  };
  // Defaults are these numbers, and others make other weights.
  const auto features = trained("features", {}), tuned = trained("finetune", {});
  CHECK(trained("features", {.label_smoothing = 0, .variants = 4}).first == features.first);
  CHECK(trained("finetune", {.head_first = false, .label_smoothing = 0.1}).first ==
        trained("finetune", {.head_first = false}).first);
  for (const StrategyOptions& other : {StrategyOptions{.rate = 1e-2},
                                       {.weight_decay = 0.5},
                                       {.label_smoothing = 0.3},
                                       {.variants = 1},
                                       {.average = 0.5}})
    CHECK(trained("features", other).first.at("linear.weight") != features.first.at("linear.weight"));
  for (const StrategyOptions& other : {StrategyOptions{.rate = 1e-2}, {.weight_decay = 0.5}, {.average = 0.5}}) {
    const auto weights = trained("finetune", other).first;
    for (const char* name : {"linear.weight", "layer3.2.conv2.weight", "conv1.weight"})
      CHECK(weights.at(name) != tuned.first.at(name));
  }
  CHECK(trained("finetune", {.head_first = false}).first != tuned.first);
  CHECK(trained("finetune", {.label_smoothing = 0}).first != tuned.first);

  const auto spaced = trained("features", {.epochs = 4, .validate_every = 2}).second;
  CHECK(std::isnan(spaced.log.epochs[0].val_accuracy));
  CHECK(!std::isnan(spaced.log.epochs[1].val_accuracy));
  CHECK(trained("features", {.epochs = 60, .patience = 2}).second.log.epochs.size() < 60);

  models::ImageModel best = small_model();
  const auto kept = run("features", best, {.epochs = 12, .rate = 0.3, .keep_best = true});
  const Data data(best.info.preprocess);
  Loader validation(data.validation, {.batch = 8});
  CHECK(evaluate(*best.net, validation, 4).accuracy == kept.best_accuracy);
  CHECK(kept.log.accuracy == kept.best_accuracy);
}

TEST_CASE("test_flips validates on the mean of a picture and its mirror image") {
  for (const char* name : {"finetune", "wise_ft"}) {
    CAPTURE(name);
    models::ImageModel model = small_model();
    const auto result = run(name, model, {.test_flips = true});
    const Data data(model.info.preprocess);
    Loader validation(data.validation, {.batch = 12});
    Batch batch;
    validation.epoch(0)->next(batch);
    Tensor mirrored = batch.x.clone();
    for (int64_t row = 0; row < 12 * 16; ++row)
      for (int64_t x = 0; x < 16; ++x)
        std::copy_n(batch.x.data<float>() + (row * 16 + x) * 3, 3,
                    mirrored.mutable_data<float>() + (row * 16 + 15 - x) * 3);
    const nn::ModeScope evaluation(*model.net, false);
    const NoGrad no_grad;
    const Tensor mean = ((*model.net)(batch.x) + (*model.net)(mirrored)) * 0.5;
    CHECK(bytes_of(with_flips([&](const Tensor& x) { return (*model.net)(x); })(batch.x)) == bytes_of(mean));
    Accuracy accuracy;
    accuracy.add(mean.values<float>(), batch.y.values<int32_t>());
    CHECK(result.last_accuracy == accuracy.value());
    if (name == std::string("finetune"))
      CHECK(result.log.epochs.back().val_loss == doctest::Approx(cross_entropy(mean, batch.y).item()).epsilon(1e-5));
  }
}

TEST_CASE("pictures that cannot be read: some are left out, none is an error") {
  struct Spoilt final : PictureDataset {
    Stripes good{24, 16};
    int64_t first_bad;
    explicit Spoilt(int64_t from) : first_bad(from) {}
    int64_t size() const override { return good.size(); }
    Image picture(int64_t i) const override {
      require<IoError>(i < first_bad, "picture ", i, " cannot be read");
      return good.picture(i);
    }
    int64_t label(int64_t i) const override { return good.label(i); }
    std::string name(int64_t i) const override { return good.name(i); }
    const std::vector<std::string>& classes() const override { return good.classes(); }
  };
  models::ImageModel model = small_model();
  const Preprocess& input = model.info.preprocess;
  const auto view = [&](int64_t good) { return View(std::make_shared<Spoilt>(good), eval_transform(input)); };
  for (const char* name : {"features", "finetune"}) {
    const StrategyOptions options{.epochs = 1, .batch = 8};
    CHECK(train_with_strategy(name, model, view(20), view(22), options).last_accuracy >= 0);
    CHECK_THROWS_WITH_AS(train_with_strategy(name, model, view(0), view(24), options),
                         "train_with_strategy: no training picture could be read, or none has a label. Hint: a warning "
                         "was given for each.",
                         IoError);
    CHECK_THROWS_WITH_AS(train_with_strategy(name, model, view(24), view(0), options),
                         "train_with_strategy: no validation picture could be read, or none has a label. Hint: a "
                         "warning was given for each.",
                         IoError);
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
  const double nan = std::nan("");
  for (const StrategyOptions& bad : {StrategyOptions{.epochs = -1},
                                     {.rate = nan},
                                     {.rate = -1},
                                     {.backbone_factor = 2},
                                     {.layer_decay = nan},
                                     {.batch = 0},
                                     {.label_smoothing = nan},
                                     {.variants = -1},
                                     {.alpha = 2},
                                     {.surgical_stages = 0},
                                     {.average = 1},
                                     {.patience = -1}})
    CHECK_THROWS_AS(train_with_strategy("features", model, data.train, data.validation, bad), UsageError);
  CHECK_THROWS_WITH_AS(train_with_strategy("wise_ft", model, data.train, data.validation, {.alpha = nan}),
                       "train_with_strategy: alpha must be from 0 to 1, got nan", UsageError);

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
                       "classes: there is one class, \"only\". Hint: telling classes apart takes at least "
                       "two folders of pictures.",
                       UsageError);
  CHECK_THROWS_WITH_AS(train_with_strategy("features", model, data.train, one),
                       "classes: the class \"vertical\" is in train and not in val. Hint: both need the same folders.",
                       UsageError);
  const View lacking(data.train.data, {0, 1, 4, 5}, data.train.pipeline);
  CHECK_THROWS_WITH_AS(train_with_strategy("features", model, lacking, data.validation),
                       "classes: the class \"rising\" has no training picture. Hint: remove the folder or "
                       "add pictures.",
                       UsageError);
}
