// Regularisers in training: what they add and where they pull, by name, and runs that are cut and go on.
#include "tl/train/terms.hpp"

#include <algorithm>

#include "folder.hpp"
#include "tl/data/mix.hpp"
#include "tl/models/create.hpp"
#include "tl/nn/freeze.hpp"
#include "tl/ops/elementwise.hpp"
#include "tl/ops/reduce.hpp"
#include "tl/ops/softmax.hpp"
#include "tl/transfer/features.hpp"
#include "train/tasks.hpp"

namespace {

using namespace tl;
using namespace tl_test;

constexpr int64_t kSize = 16, kClasses = 4;

std::unique_ptr<models::ImageClassifier> network(uint64_t seed, int64_t classes) {
  manual_seed(seed);
  return models::create("cifar_resnet20", {.classes = classes});
}

Preprocess input() {
  Preprocess out = stripes_input(kSize);
  out.channel_order = ChannelOrder::rgb;
  return out;
}

View pictures(int64_t count = 16) { return View(std::make_shared<Stripes>(count, kSize), eval_transform(input())); }

/// A pretrained network with its own head, and what fine-tuning makes of it: new head, BatchNorm as it was.
struct Setting {
  std::unique_ptr<models::ImageClassifier> source = network(1, 7), teacher = network(2, kClasses), net = network(1, 7);
  View train = pictures();
  RegularizeOptions options{.source = source.get(), .teacher = teacher.get(), .train = &train};

  Setting() {
    manual_seed(3);
    net->replace_head(kClasses);
    freeze_batch_norms(*net);
  }

  FitResult run(std::vector<Regularizer> terms, FitOptions fit_options = {}, double rate = 1e-2) {
    options.terms = std::move(terms);
    regularize(*net, fit_options, options);
    Loader loader(train, {.batch = 8, .shuffle = true});
    Loader checked(pictures(8), {.batch = 8});
    optim::Sgd optimizer(optim::param_groups(*net, rate));
    return fit(*net, optimizer, loader, &checked, kClasses, fit_options);
  }
};

double extra(const FitResult& result, size_t epoch, const std::string& name) {
  for (const auto& [key, value] : result.log.epochs.at(epoch).extras)
    if (key == name) return value;
  FAIL("no extra " << name);
  return 0;
}

}  // namespace

TEST_CASE("every regulariser adds to the loss, is reported by name, and pulls") {
  for (const auto& info : regularizers()) {
    CAPTURE(info.name);
    CHECK(!info.summary.empty());
    Setting with, without;
    const auto result = with.run({{info.name}}, {.epochs = 2}, 1e-3);
    const auto plain = without.run({}, {.epochs = 2}, 1e-3);
    const std::string name = info.name == "delta_attention" ? "delta" : info.name;
    CHECK(extra(result, 1, name) > 0);
    CHECK(bytes_of(*with.net) != bytes_of(*without.net));
    CHECK(plain.log.epochs[0].extras.empty());
    Setting again;
    again.run({{info.name}}, {.epochs = 2}, 1e-3);
    CHECK(bytes_of(*with.net) == bytes_of(*again.net));
  }
}

TEST_CASE("what compares with the source is nothing at the start, where the network is the source") {
  for (const std::string name : {"l2_sp", "delta", "delta_attention", "lwf"}) {
    CAPTURE(name);
    Setting setting;
    // Without a step the whole epoch sees the pretrained weights.
    if (name == "l2_sp") freeze_all_but(*setting.net, "conv1");  // the head has no starting point
    const auto result = setting.run({{name, 1}}, {.epochs = 1}, 0);
    CHECK(std::abs(extra(result, 0, name == "delta_attention" ? "delta" : name)) < 1e-7);
  }
}

TEST_CASE("each term by name is its regulariser of the right tensors, times its strength") {
  Setting setting;
  const Tensor x = [&] {
    Loader loader(setting.train, {.batch = 16});
    Batch batch;
    loader.epoch(0)->next(batch);
    return batch.x;
  }();
  const Tensor y = labels({0, 1, 2, 3, 0, 1, 2, 3, 0, 1, 2, 3, 0, 1, 2, 3});
  setting.source = network(9, 7);  // another one, so that there is a distance
  setting.options.source = setting.source.get();
  FitOptions options;
  setting.options.terms = {{"delta", 2}, {"co_tuning", 3}, {"bss", 5}, {"lwf", 7}, {"distill", 11}, {"l2_sp", 13}};
  regularize(*setting.net, options, setting.options);
  REQUIRE(options.terms.size() == 6);
  Tensor& moved = nn::select_parameters(*setting.net, "conv1.weight")[0].parameter->value();
  moved.copy_from(moved.detach() + 0.1);  // after L2-SP saw where the network stood
  const std::vector<Tensor> targets{y};
  setting.net->eval();
  setting.source->eval();
  const NoGrad no_grad;
  const Tensor output = options.forward(x);
  const StepView step{x, output, targets};

  std::vector<Tensor> maps, source_maps;
  Tensor a = x, b = x;
  const size_t head = setting.net->stage_count() - 1;
  for (size_t stage = 0; stage < head; ++stage) {
    a = setting.net->run_stage(stage, a);
    b = setting.source->run_stage(stage, b);
    if (stage + 4 < head) continue;
    maps.push_back(a);
    source_maps.push_back(b);
  }
  CHECK(options.terms[0].value(step).item() == doctest::Approx(2 * feature_map_distance(maps, source_maps).item()));
  const Tensor relationship = category_relationship(softmax(setting.source->classify(b)), y, kClasses);
  CHECK(options.terms[1].value(step).item() ==
        doctest::Approx(3 * co_tuning_loss(setting.source->classify(a), relationship, y).item()).epsilon(1e-5));
  CHECK(options.terms[2].value(step).item() == doctest::Approx(5 * spectral_shrinkage(a).item()).epsilon(1e-4));
  const Tensor said = setting.source->classify(b), now = setting.source->classify(a), taught = (*setting.teacher)(x);
  CHECK(options.terms[3].value(step).item() == doctest::Approx(7 * distillation_loss(now, said, 2).item()));
  CHECK(options.terms[4].value(step).item() == doctest::Approx(11 * distillation_loss(output, taught, 2).item()));
  double squares = 0;
  for (const auto& p : nn::select_parameters(*setting.net, "linear"))
    squares += sum(square(p.parameter->value())).item();
  const double way = 0.01 * static_cast<double>(moved.numel());
  CHECK(options.terms[5].value(step).item() == doctest::Approx(13.0 / 2 * way + 1.3 / 2 * squares).epsilon(1e-5));
  CHECK(bytes_of(output) == bytes_of((*setting.net)(x)));
}

TEST_CASE("delta_attention weighs a channel by what a probe on the source loses without its filter") {
  Setting setting;
  setting.source = network(9, 7);
  models::ImageClassifier& source = *setting.source;
  const size_t last = source.stage_count() - 2;
  FitOptions options;
  manual_seed(4);
  regularize(*setting.net, options,
             {.terms = {{"delta_attention", 1}}, .source = &source, .train = &setting.train, .stages = {last}});

  manual_seed(4);
  Loader plain(setting.train, {.batch = 32}), shuffled(setting.train, {.batch = 32, .shuffle = true});
  const FeatureSet known = extract_features(source, plain, [&](const Tensor& x) { return source.features(x); });
  nn::Linear probe(known.x.size(1), kClasses);
  TensorSource features(known.x, known.y, {.batch = 16, .shuffle = true});
  optim::AdamW optimizer(optim::param_groups(probe, 3e-3, 1e-2));
  fit(probe, optimizer, features, nullptr, kClasses, {.epochs = 30});
  Batch batch;
  shuffled.epoch(0)->next(batch);
  const NoGrad no_grad;
  setting.net->eval();
  const auto filters = nn::select_parameters(source, "layer3.2.conv2.weight");
  const auto importance = filter_importance(
      *filters[0].parameter, [&] { return cross_entropy(probe(source.features(batch.x)), batch.y).item(); });
  const std::vector<Tensor> maps{setting.net->run_stages(batch.x, 0, last + 1)},
      source_maps{source.run_stages(batch.x, 0, last + 1)}, attention{channel_attention(importance)};
  const std::vector<Tensor> targets{batch.y};
  const Tensor output = options.forward(batch.x);
  const double weighed = feature_map_distance(maps, source_maps, attention).item();
  CHECK(options.terms[0].value({batch.x, output, targets}).item() == doctest::Approx(weighed).epsilon(1e-5));
  CHECK(weighed != doctest::Approx(feature_map_distance(maps, source_maps).item()).epsilon(1e-4));
}

TEST_CASE("FR05: with regularisers, stochastic norms and mixed pictures a run that was cut ends with the same bits") {
  const auto trained = [](const std::string& checkpoint, int64_t stop) {
    Setting setting;
    unfreeze(*setting.net, "*");
    set_stochastic_norms(*setting.net);
    FitOptions options{.epochs = 2, .checkpoint = checkpoint, .checkpoint_steps = 1, .stop_after_steps = stop};
    options.on_batch = Mixing{.mixup = 0.3, .cutmix = 1, .classes = kClasses, .seed = 5};
    setting.run({{"l2_sp"}, {"delta_attention"}, {"bss"}, {"co_tuning"}}, options);
    return bytes_of(*setting.net);
  };
  const Folder folder;
  const auto whole = trained(folder / "whole", 0);
  for (const int64_t stop : {1, 3}) {
    const std::string file = folder / ("cut" + std::to_string(stop));
    trained(file, stop);
    CHECK(trained(file, 0) == whole);
  }
}

TEST_CASE("batches of one picture train, also with BSS") {
  Setting setting;
  setting.options.terms = {{"bss"}};
  FitOptions options{.epochs = 1};
  regularize(*setting.net, options, setting.options);
  Loader loader(pictures(5), {.batch = 4});
  optim::Sgd optimizer(optim::param_groups(*setting.net, 1e-2));
  CHECK(fit(*setting.net, optimizer, loader, nullptr, kClasses, options).steps == 2);
}

TEST_CASE("names, strengths and what is missing") {
  CHECK(parse_regularizer("bss").strength < 0);
  CHECK(parse_regularizer("l2_sp=0.25").strength == 0.25);
  CHECK_THROWS_AS(parse_regularizer("l3_sp"), UsageError);
  CHECK_THROWS_AS(parse_regularizer("bss="), UsageError);
  CHECK_THROWS_AS(parse_regularizer("bss=-1"), UsageError);
  CHECK_THROWS_AS(parse_regularizer("bss=1x"), UsageError);
  CHECK_THROWS_AS(parse_regularizer("bss=inf"), UsageError);
  CHECK_THROWS_AS(parse_regularizer("bss=nan"), UsageError);
  Setting setting;
  FitOptions options;
  CHECK_THROWS_AS(regularize(*setting.net, options, {.terms = {{"nothing"}}}), UsageError);
  for (const char* name : {"delta", "co_tuning", "lwf", "distill"})
    CHECK_THROWS_AS(regularize(*setting.net, options, {.terms = {{name}}}), UsageError);
  CHECK_THROWS_AS(regularize(*setting.net, options, {.terms = {{"delta_attention"}}, .source = setting.source.get()}),
                  UsageError);
  CHECK_THROWS_AS(Inside(*setting.net, {99}), UsageError);
}
