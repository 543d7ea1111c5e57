// The training loop: what is frozen, accumulated, weighted, kept and stopped is what was meant.
#include "tl/train/fit.hpp"

#include <cmath>
#include <limits>

#include "folder.hpp"
#include "tl/core/parallel.hpp"
#include "tl/models/lenet.hpp"
#include "tl/nn/freeze.hpp"
#include "tl/nn/sequential.hpp"
#include "tl/ops/reduce.hpp"
#include "train/tasks.hpp"

namespace {

using namespace tl;
using namespace tl_test;

Loader stripes(int64_t count, const LoaderOptions& options, uint64_t seed = 0, int64_t size = 12) {
  return Loader(View(std::make_shared<Stripes>(count, size, seed), eval_transform(stripes_input(size))), options);
}

/// Numbers that should be equal up to rounding.
void check_near(const Tensor& a, const Tensor& b, double relative) {
  REQUIRE(a.shape() == b.shape());
  double scale = 0, worst = 0;
  for (size_t i = 0; i < static_cast<size_t>(a.numel()); ++i) {
    const double x = static_cast<double>(a.values<float>()[i]), y = static_cast<double>(b.values<float>()[i]);
    scale = std::max(scale, std::abs(y));
    worst = std::max(worst, std::abs(x - y));
  }
  CHECK(worst <= relative * scale);
}

/// Weights after one epoch of plain SGD over `x` in batches, from the closed form.
struct Trained {
  LinearNet net;
  FitResult result;
  Trained(const Tensor& x, const Tensor& y, int64_t classes, int64_t batch, const FitOptions& options, double rate = 1)
      : net(x.size(1), classes) {
    TensorSource source(x, y, {.batch = batch});
    optim::Sgd optimizer(optim::param_groups(net, rate));
    result = fit(net, optimizer, source, nullptr, classes, options);
  }
};

}  // namespace

TEST_CASE("FR01: a frozen backbone's statistics stay through train() and 20 steps on shifted data") {
  manual_seed(1);
  SmallNet net;
  nn::uniform_(net.bn.running_mean.value(), -0.5, 0.5);
  nn::uniform_(net.bn.running_var.value(), 0.5, 2);
  for (const char* glob : {"conv", "bn"}) freeze(net, glob);
  Tensor x = Tensor::empty({40, 12, 12, 1});
  nn::normal_(x, 3, 1);
  std::vector<int32_t> y;
  for (int i = 0; i < 40; ++i) y.push_back(i % 4);
  TensorSource source(x, labels(y), {.batch = 4, .shuffle = true});
  const auto before = bytes_of(net);
  optim::Sgd optimizer(optim::param_groups(net, 0.01, 0.1), {.momentum = 0.9});
  const auto result = fit(net, optimizer, source, nullptr, 4, {.epochs = 2});
  CHECK(result.steps == 20);
  const auto after = bytes_of(net);
  for (const auto& [name, bytes] : before) CHECK_MESSAGE((after.at(name) == bytes) == !name.starts_with("fc."), name);
  CHECK(result.log.trainable_parameters() == 216 * 4 + 4);

  const NoGrad no_grad;
  net.train();
  const std::string in_training = bytes_of(net.prefix(x));
  net.eval();
  CHECK(in_training == bytes_of(net.prefix(x)));
}

TEST_CASE("FR01: 1,000 steps with a frozen prefix leave its weights and statistics byte-equal") {
  manual_seed(1);
  SmallNet net;
  freeze(net, "conv");
  freeze(net, "bn");
  Loader train = stripes(8, {.batch = 4, .shuffle = true});
  const auto before = bytes_of(net);
  optim::AdamW optimizer(optim::param_groups(net, 1e-3, 0.1));
  CHECK(fit(net, optimizer, train, nullptr, 4, {.epochs = 500}).steps == 1000);
  const auto after = bytes_of(net);
  for (const auto& [name, bytes] : before) CHECK_MESSAGE((after.at(name) == bytes) == !name.starts_with("fc."), name);
}

TEST_CASE("FR02: what is frozen after an epoch does not move any more, for all its momentum and decay") {
  for (const bool adam : {false, true}) {
    manual_seed(1);
    SmallNet net;
    Loader train = stripes(12, {.batch = 4});
    std::unique_ptr<optim::Optimizer> optimizer;
    if (adam) optimizer = std::make_unique<optim::AdamW>(optim::param_groups(net, 1e-3, 0.1));
    else
      optimizer = std::make_unique<optim::Sgd>(optim::param_groups(net, 0.01, 0.1), optim::SgdOptions{.momentum = 0.9});
    fit(net, *optimizer, train, nullptr, 4, {.epochs = 1});
    for (const char* glob : {"conv", "bn"}) freeze(net, glob);
    const auto before = bytes_of(net);
    fit(net, *optimizer, train, nullptr, 4, {.epochs = 1});
    const auto after = bytes_of(net);
    for (const auto& [name, bytes] : before) CHECK_MESSAGE((after.at(name) == bytes) == !name.starts_with("fc."), name);
    for (const auto& entry : optimizer->state()) CHECK(entry.name.starts_with("fc."));
  }
}

TEST_CASE("FR06: the best weights are a copy: the restored network evaluates to the best epoch's numbers exactly") {
  for (const bool keep_best : {true, false}) {
    manual_seed(1);
    SmallNet net;
    Loader train = stripes(40, {.batch = 8, .shuffle = true}), validation = stripes(40, {.batch = 16}, 7);
    optim::Sgd optimizer(optim::param_groups(net, 0.05), {.momentum = 0.9});
    const auto schedule = [](int64_t step) { return step < 5 ? 1.0 : 100.0; };  // falls to pieces after the first epoch
    const auto result =
        fit(net, optimizer, train, &validation, 4, {.epochs = 3, .schedule = schedule, .keep_best = keep_best});
    CHECK(result.best_epoch == 1);
    CHECK(result.last_accuracy < result.best_accuracy);
    const EpochRecord& first = result.log.epochs.at(0);
    CHECK(result.best_accuracy == first.val_accuracy);
    const Evaluation evaluation = evaluate(net, validation, 4);
    CHECK((evaluation.accuracy == first.val_accuracy) == keep_best);
    CHECK((evaluation.loss == first.val_loss) == keep_best);
    CHECK((bytes_of(net) == bytes_by_name(result.best_weights)) == keep_best);
    CHECK(result.log.final_accuracy() == (keep_best ? first.val_accuracy : result.last_accuracy));
  }
}

TEST_CASE("FR06: of equal accuracies the earlier stays, and none is never the best") {
  manual_seed(1);
  SmallNet net;
  Loader train = stripes(8, {.batch = 4}), validation = stripes(8, {.batch = 4});
  optim::Sgd still(optim::param_groups(net, 0));
  freeze(net, "bn");
  const auto result = fit(net, still, train, &validation, 4, {.epochs = 3, .keep_best = true});
  CHECK(result.log.epochs.size() == 3);
  CHECK(result.best_epoch == 1);

  // Validation without a single label has no accuracy.
  TensorSource unlabelled(Tensor::zeros({3, 12, 12, 1}), labels({-100, -100, -100}));
  const auto blind = fit(net, still, train, &unlabelled, 4, {.epochs = 2, .keep_best = true});
  CHECK(blind.best_epoch == 0);
  CHECK(std::isnan(blind.best_accuracy));
  CHECK(std::isnan(blind.last_accuracy));
  CHECK(blind.best_weights.empty());
}

TEST_CASE("FR07: micro-batches of 3 + 1 make the step of the batch of 4, with weights and smoothing too") {
  const Tensor x = table(4, 5), y = labels({0, 2, 1, 2});
  for (const bool weighted : {false, true}) {
    FitOptions options{.epochs = 1};
    options.loss.label_smoothing = weighted ? 0.1 : 0;
    if (weighted) options.loss.class_weight = Tensor::from({1.0f, 0.5f, 0.25f}, {3});
    const Trained whole(x, y, 3, 4, options);
    options.accumulate = 2;
    const Trained parts(x, y, 3, 3, options);
    CHECK(whole.result.steps == 1);
    CHECK(parts.result.steps == 1);
    check_near(parts.net.fc.weight, whole.net.fc.weight, 1e-6);
    check_near(parts.net.fc.bias, whole.net.fc.bias, 1e-6);
    CHECK(parts.result.log.epochs[0].train_loss ==
          doctest::Approx(whole.result.log.epochs[0].train_loss).epsilon(1e-6));
    CHECK(parts.result.log.epochs[0].train_accuracy == whole.result.log.epochs[0].train_accuracy);
  }
}

TEST_CASE("FR07: gradients of texts of 50 and 5 tokens, added as sums and divided once, are the batch's") {
  Tensor logits = table(55, 7);
  logits.set_requires_grad();
  std::vector<int32_t> tokens;
  for (int i = 0; i < 55; ++i) tokens.push_back(i % 11 == 0 ? -100 : i % 7);
  cross_entropy(logits, labels(tokens)).backward();
  const Tensor together = logits.grad().clone();
  logits.zero_grad();
  double divisor = 0;
  for (const auto& [first, last] : {std::pair{0, 50}, std::pair{50, 55}}) {
    const Tensor part = labels({tokens.begin() + first, tokens.begin() + last});
    cross_entropy(slice(logits, 0, first, last), part, {.reduction = LossReduction::sum}).backward();
    divisor += cross_entropy_divisor(part);
  }
  Tensor apart = logits.grad().clone();
  for (int64_t i = 0; i < apart.numel(); ++i) apart.mutable_data<float>()[i] /= static_cast<float>(divisor);
  check_near(apart, together, 1e-6);
}

TEST_CASE("FR07: 5 micro-batches at 2 per step make 3 steps, the last of one batch alone") {
  const Tensor x = table(10, 5), y = labels({0, 1, 2, 0, 1, 2, 0, 1, 2, 0});
  const Trained parts(x, y, 3, 2, {.epochs = 1, .accumulate = 2}, 0.1);
  CHECK(parts.result.steps == 3);
  const Trained whole(slice(x, 0, 0, 8), labels({0, 1, 2, 0, 1, 2, 0, 1}), 3, 4, {.epochs = 1}, 0.1);
  CHECK(whole.result.steps == 2);
  // The third step by hand.
  LinearNet net(5, 3);
  restore_weights(net, copy_weights(const_cast<LinearNet&>(whole.net)));
  optim::Sgd optimizer(optim::param_groups(net, 0.1));
  cross_entropy(net(slice(x, 0, 8, 10)), labels({2, 0})).backward();
  optimizer.step();
  check_near(parts.net.fc.weight, net.fc.weight, 1e-6);
  CHECK(Trained(x, y, 3, 2, {.epochs = 1, .accumulate = 100}, 0.1).result.steps == 1);
}

TEST_CASE("FR08: the weighted mean divides by the weights of the whole accumulated step") {
  // An identity, so that x are the logits.
  const Tensor x = Tensor::from({1.f, 2.f, 3.f, 3.f, 2.f, 1.f}, {2, 3}), y = labels({2, 1});
  for (const int64_t batch : {2, 1}) {
    LinearNet net(3, 3);
    net.fc.weight.value().zero_();
    net.fc.bias.value().zero_();
    for (int64_t i = 0; i < 3; ++i) net.fc.weight.value().mutable_data<float>()[4 * i] = 1;
    TensorSource source(x, y, {.batch = batch});
    optim::Sgd optimizer(optim::param_groups(net, 1));
    FitOptions options{.epochs = 1, .accumulate = 2 / batch};
    options.loss.class_weight = Tensor::from({1.f, 0.5f, 0.25f}, {3});
    const auto result = fit(net, optimizer, source, nullptr, 3, options);
    CHECK(result.steps == 1);
    CHECK(result.log.epochs[0].train_loss == doctest::Approx(1.0742726).epsilon(1e-6));
    // The bias has moved by the weighted mean of softmax - target.
    const double p[] = {std::exp(-2.0), std::exp(-1.0), 1.0}, sum = p[0] + p[1] + p[2];
    const double expected[] = {(0.25 * p[0] + 0.5 * p[2]) / sum, (0.25 * p[1] + 0.5 * (p[1] - sum)) / sum,
                               (0.25 * (p[2] - sum) + 0.5 * p[0]) / sum};
    for (size_t c = 0; c < 3; ++c)
      CHECK(static_cast<double>(net.fc.bias.value().values<float>()[c]) ==
            doctest::Approx(-expected[c] / 0.75).epsilon(1e-5));
  }
}

TEST_CASE("FR08: with every label ignored there is no loss, no gradient and no step; other batches train on") {
  const Tensor x = table(4, 5);
  LinearNet untouched(5, 3);
  const Trained ignored(x, labels({-100, -100, -100, -100}), 3, 2, {.epochs = 2});
  CHECK(ignored.result.steps == 0);
  CHECK(bytes_of(ignored.net.fc.weight) == bytes_of(untouched.fc.weight));
  CHECK(std::isnan(ignored.result.log.epochs[0].train_loss));  // of no sample
  CHECK(std::isnan(ignored.result.log.epochs[0].train_accuracy));

  const Trained mixed(x, labels({-100, -100, 1, 2}), 3, 2, {.epochs = 1});
  const Trained alone(slice(x, 0, 2, 4), labels({1, 2}), 3, 2, {.epochs = 1});
  CHECK(mixed.result.steps == 1);
  CHECK(bytes_of(mixed.net.fc.weight) == bytes_of(alone.net.fc.weight));
  CHECK(mixed.result.log.epochs[0].train_loss == alone.result.log.epochs[0].train_loss);
  CHECK(mixed.result.log.epochs[0].train_accuracy == alone.result.log.epochs[0].train_accuracy);
}

TEST_CASE("a loss that is no number stops training, names the layer, and leaves the last good weights") {
  const Tensor x = Tensor::full({2, 12, 12, 1}, 1e20);
  const Tensor y = labels({0, 1});
  const auto message = [&](SmallNet& net, const Tensor& input) {
    TensorSource source(input, y, {.batch = 2});
    optim::Sgd optimizer(optim::param_groups(net, 0.1));
    const auto before = copy_weights(net);
    std::string text;
    try {
      fit(net, optimizer, source, nullptr, 4, {.epochs = 1});
    } catch (const NumericError& error) {
      text = error.what();
    }
    for (const auto& p : nn::named_parameters(net))
      for (const auto& copy : before)
        if (copy.name == p.name) CHECK(bytes_of(copy.tensor) == bytes_of(p.parameter->value()));
    return text;
  };
  manual_seed(1);
  SmallNet overflow;
  overflow.conv.weight.value().fill_(1e30);
  CHECK(message(overflow, x) ==
        "fit: the loss became nan in epoch 1, step 1; the first layer whose output is not finite is conv. "
        "Hint: nothing was learnt yet; look at the weights and the pictures.");
  SmallNet poisoned;
  poisoned.fc.bias.value().mutable_data<float>()[1] = std::numeric_limits<float>::quiet_NaN();
  CHECK(message(poisoned, Tensor::ones({2, 12, 12, 1})).find("the parameter fc.bias is not finite") !=
        std::string::npos);
  SmallNet fed;
  CHECK(message(fed, Tensor::full({2, 12, 12, 1}, std::numeric_limits<double>::infinity()))
            .find("the input is not finite") != std::string::npos);
}

TEST_CASE("results are the same with 1 and 2 threads and workers") {
  std::map<std::string, std::string> first;
  const int before = threads();
  for (const int count : {1, 2}) {
    set_threads(count);
    manual_seed(3);
    SmallNet net;
    Loader train(View(std::make_shared<Stripes>(24), train_transform(stripes_input())),
                 {.batch = 8, .shuffle = true, .workers = count});
    Loader validation = stripes(8, {.batch = 4}, 7);
    optim::AdamW optimizer(optim::param_groups(net, 1e-3, 0.01));
    const auto result = fit(net, optimizer, train, &validation, 4, {.epochs = 3});
    auto bytes = bytes_of(net);
    bytes["loss"] = std::to_string(result.log.epochs[2].train_loss) + std::to_string(result.log.epochs[2].val_loss);
    if (first.empty()) first = bytes;
    CHECK(first == bytes);
  }
  set_threads(before);
}

TEST_CASE("FR20: evaluating twice gives the same bits and changes nothing") {
  manual_seed(1);
  SmallNet net;
  Loader validation = stripes(10, {.batch = 4}, 7);
  net.train();
  net.bn.set_training_flag(false);
  const auto before = bytes_of(net);
  const Evaluation a = evaluate(net, validation, 4), b = evaluate(net, validation, 4);
  CHECK(a.loss == b.loss);
  CHECK(a.accuracy == b.accuracy);
  REQUIRE(a.samples.size() == 10);
  for (size_t i = 0; i < 10; ++i) {
    CHECK(a.samples[i].index == static_cast<int64_t>(i));
    CHECK(a.samples[i].truth == static_cast<int64_t>(i % 4));
    CHECK(a.samples[i].probability == b.samples[i].probability);
    CHECK(a.samples[i].probability >= 0.25);
  }
  CHECK(a.confusion.samples() == 10);
  CHECK(a.confusion.accuracy() == a.accuracy);
  CHECK(bytes_of(net) == before);
  CHECK(net.training());
  CHECK(!net.bn.training_flag());
  CHECK(!net.fc.weight.value().grad().defined());
  CHECK_THROWS_WITH_AS(evaluate(net, validation, 5), "evaluate: the network must give [N, 5] logits; got [4, 4]",
                       ShapeError);
}

TEST_CASE("evaluation leaves out samples without a label") {
  LinearNet net(5, 3);
  const Tensor x = table(4, 5);
  TensorSource some(x, labels({0, -100, 2, -100})), none(x, labels({-100, -100, -100, -100}));
  const Evaluation evaluation = evaluate(net, some, 3);
  CHECK(evaluation.samples.size() == 2);
  CHECK(evaluation.confusion.samples() == 2);
  CHECK(std::isfinite(evaluation.loss));
  CHECK(std::isnan(evaluate(net, none, 3).loss));
}

TEST_CASE("before_epoch can unfreeze; the optimizer takes the new parameters up, and clip_norm limits a step") {
  manual_seed(1);
  SmallNet net;
  freeze_all_but(net, "fc");
  Loader train = stripes(8, {.batch = 4});
  optim::Sgd optimizer(optim::param_groups(net, 0.1), {.momentum = 0.9});
  std::vector<int64_t> epochs;
  std::string conv = bytes_of(net.conv.weight);
  const auto unfreeze_later = [&](int64_t epoch, const RunLog& log) {
    CHECK(static_cast<int64_t>(log.epochs.size()) == epoch);
    epochs.push_back(epoch);
    CHECK(bytes_of(net.conv.weight) == conv);
    if (epoch == 1) unfreeze(net, "**");
  };
  const auto result = fit(net, optimizer, train, nullptr, 4, {.epochs = 2, .before_epoch = unfreeze_later});
  CHECK(epochs == std::vector<int64_t>{0, 1});
  CHECK(bytes_of(net.conv.weight) != conv);
  CHECK(result.log.epochs[0].trainable_parameters < result.log.epochs[1].trainable_parameters);
  CHECK(std::isnan(result.last_accuracy));

  LinearNet small(5, 3);
  const auto before = copy_weights(small);
  TensorSource source(table(4, 5), labels({0, 1, 2, 0}), {.batch = 4});
  optim::Sgd plain(optim::param_groups(small, 1));
  fit(small, plain, source, nullptr, 3, {.epochs = 1, .clip_norm = 1e-3});
  double squares = 0;
  for (const auto& copy : before) {
    const Tensor now = nn::select_parameters(small, copy.name).at(0).parameter->value();
    for (size_t i = 0; i < static_cast<size_t>(now.numel()); ++i) {
      const double moved =
          static_cast<double>(now.values<float>()[i]) - static_cast<double>(copy.tensor.values<float>()[i]);
      squares += moved * moved;
    }
  }
  CHECK(std::sqrt(squares) == doctest::Approx(1e-3).epsilon(1e-3));
}

TEST_CASE("with replayed steps a run leaves the same bits: last batches, ignored labels, micro-batches, unfreezing") {
  const auto run = [](bool capture, int64_t accumulate) {
    manual_seed(1);
    SmallNet net;
    freeze(net, "conv");
    std::vector<int32_t> y;
    for (int i = 0; i < 22; ++i) y.push_back(i < 4 || i % 5 == 0 ? -100 : i % 4);
    Tensor x = Tensor::empty({22, 12, 12, 1});
    nn::normal_(x, 0, 1);
    TensorSource source(x, labels(y), {.batch = 4}), checked(x, labels(y), {.batch = 8});
    optim::AdamW optimizer(optim::param_groups(net, 0.01, 0.1));
    FitOptions options{.epochs = 4, .schedule = optim::one_cycle(24)};
    options.loss.label_smoothing = 0.1;
    options.loss.class_weight = Tensor::from<float>({1, 2, 0.5f, 1}, {4});
    options.accumulate = accumulate;
    options.clip_norm = 0.5;
    options.before_epoch = [&net](int64_t epoch, const RunLog&) {
      if (epoch == 2) unfreeze(net, "conv");
    };
    options.capture = capture;
    const auto result = fit(net, optimizer, source, &checked, 4, options);
    auto out = bytes_of(net);
    for (const auto& epoch : result.log.epochs) out["loss"] += text(epoch.train_loss, " ", epoch.val_loss, " ");
    return out;
  };
  for (const int64_t accumulate : {1, 3}) CHECK(run(true, accumulate) == run(false, accumulate));
}

TEST_CASE("a loss that is not finite stops replayed steps as well, and names the layer") {
  LinearNet net(5, 3);
  Tensor x = table(8, 5);
  x.mutable_data<float>()[22] = std::numeric_limits<float>::infinity();  // in the second batch
  TensorSource source(x, labels({0, 1, 2, 0, 1, 2, 0, 1}), {.batch = 4});
  optim::Sgd optimizer(optim::param_groups(net, 0.1));
  FitOptions options{.epochs = 1};
  options.capture = true;
  CHECK_THROWS_WITH_AS(fit(net, optimizer, source, nullptr, 3, options),
                       doctest::Contains("step 2; the input is not finite. Hint: a smaller rate, a warm-up, or "
                                         "clip_norm."),
                       NumericError);
}

TEST_CASE("options and networks that cannot be meant are refused") {
  LinearNet net(5, 3);
  TensorSource source(table(4, 5), labels({0, 1, 2, 0}), {.batch = 4});
  optim::Sgd optimizer(optim::param_groups(net, 1));
  CHECK_THROWS_AS(fit(net, optimizer, source, nullptr, 3, {.epochs = -1}), UsageError);
  CHECK_THROWS_AS(fit(net, optimizer, source, nullptr, 3, {.accumulate = 0}), UsageError);
  CHECK_THROWS_WITH_AS(
      fit(net, optimizer, source, nullptr, 4, {}),
      "fit: the network must give [N, 4] logits; got [4, 3]. Hint: replace_head(4) gives a head of that size.",
      ShapeError);
  TensorSource wrong(table(4, 5), labels({0, 1, 3, 0}), {.batch = 4});
  CHECK_THROWS_AS(fit(net, optimizer, wrong, nullptr, 3, {}), UsageError);
  CHECK(fit(net, optimizer, source, nullptr, 3, {.epochs = 0}).steps == 0);
}

TEST_CASE("LeNet learns stripes it has not seen to over 95 %") {
  manual_seed(1);
  models::LeNet net({.classes = 4});
  Loader train = stripes(240, {.batch = 16, .shuffle = true}, 0, 28), validation = stripes(120, {.batch = 40}, 7, 28);
  optim::AdamW optimizer(optim::param_groups(net, 2e-3, 0.01));
  const auto result = fit(net, optimizer, train, &validation, 4, {.epochs = 6});
  CHECK(result.log.epochs[0].train_loss > 2 * result.log.epochs.back().train_loss);
  CHECK(result.last_accuracy > 0.95);
  CHECK(result.log.epochs.back().rates.at(0).second == 2e-3);
}

TEST_CASE("patience stops after epochs without gain, and the best weights return") {
  manual_seed(3);
  SmallNet net;
  Loader train = stripes(16, {.batch = 8, .shuffle = true}), validation = stripes(12, {.batch = 12}, 7);
  optim::Sgd optimizer(optim::param_groups(net, 0));  // nothing changes: the first epoch is the best
  const auto result = fit(net, optimizer, train, &validation, 4, {.epochs = 20, .keep_best = true, .patience = 3});
  CHECK(result.log.epochs.size() == 4);
  CHECK(result.best_epoch == 1);
  CHECK(result.finished);
  CHECK_THROWS_AS(fit(net, optimizer, train, nullptr, 4, {.patience = 3}), UsageError);
}

TEST_CASE("a plateau of the validation loss lowers every group's rate") {
  manual_seed(3);
  SmallNet net;
  Loader train = stripes(8, {.batch = 8}), validation = stripes(12, {.batch = 12}, 7);
  optim::Sgd optimizer(optim::param_groups(net, {{{"fc"}, 1e-30}, {{"**"}, 1e-31}}));
  freeze(net, "bn");  // so that the loss stays where it is
  const auto result = fit(net, optimizer, train, &validation, 4,
                          {.epochs = 4, .plateau = optim::ReduceOnPlateau{.gamma = 0.5, .patience = 1}});
  const double expected[] = {1, 1, 1, 0.5};
  for (size_t i = 0; i < 4; ++i) {
    CHECK(result.log.epochs[i].rates[0].second == doctest::Approx(1e-30 * expected[i]));
    CHECK(result.log.epochs[i].rates[1].second == doctest::Approx(1e-31 * expected[i]));
  }
}

TEST_CASE("FR09: the average of weights is validated and kept, and goes on after a cut") {
  const auto trained = [](const std::string& checkpoint, int64_t stop) {
    manual_seed(3);
    SmallNet net;
    Loader train = stripes(24, {.batch = 8, .shuffle = true}), validation = stripes(12, {.batch = 12}, 7);
    optim::AdamW optimizer(optim::param_groups(net, 1e-2));
    FitOptions options{.epochs = 3, .average = 0.8, .checkpoint = checkpoint, .checkpoint_steps = 1};
    if (stop > 0) {
      options.stop_after_steps = stop;
      CHECK(!fit(net, optimizer, train, &validation, 4, options).finished);
      options.stop_after_steps = 0;
      manual_seed(9);
      SmallNet other;
      optim::AdamW again(optim::param_groups(other, 1e-2));
      const auto result = fit(other, again, train, &validation, 4, options);
      return std::pair(bytes_of(other), result.last_accuracy);
    }
    const auto result = fit(net, optimizer, train, &validation, 4, options);
    CHECK(evaluate(net, validation, 4).accuracy == result.last_accuracy);
    return std::pair(bytes_of(net), result.last_accuracy);
  };
  const auto whole = trained("", 0);
  for (const int64_t stop : {1, 4, 8}) {
    const Folder folder;
    CHECK(trained(folder / "run", stop) == whole);
  }
}

TEST_CASE("FR09: the average takes every step in, by its formula") {
  LinearNet net(5, 3), by_hand(5, 3);
  TensorSource source(table(4, 5), labels({0, 1, 2, 0}), {.batch = 4});
  optim::Sgd optimizer(optim::param_groups(net, 0.5)), stepped(optim::param_groups(by_hand, 0.5));
  fit(net, optimizer, source, nullptr, 3, {.epochs = 4, .average = 0.8});
  Tensor expected = by_hand.fc.weight.value().detach().clone();
  for (int step = 0; step < 4; ++step) {
    stepped.zero_grad();
    cross_entropy(by_hand(table(4, 5)), labels({0, 1, 2, 0})).backward();
    stepped.step();
    expected = expected * 0.8 + by_hand.fc.weight.value().detach() * 0.2;
  }
  for (size_t i = 0; i < 15; ++i)
    CHECK(std::abs(net.fc.weight.value().values<float>()[i] - expected.values<float>()[i]) < 1e-6f);
}

TEST_CASE("a term is added to the mean loss, is reported, and pulls") {
  LinearNet net(5, 3), plain(5, 3);
  TensorSource source(table(4, 5), labels({0, 1, 2, 0}), {.batch = 4});
  const LossTerm pull{"decay", [&](const StepView& step) {
                        CHECK(step.output.shape() == Shape{4, 3});
                        return sum(net.fc.weight.value() * net.fc.weight.value()) * 0.5;
                      }};
  const double rate = 0.1;
  double squares = 0;
  for (const float w : net.fc.weight.value().values<float>())
    squares += static_cast<double>(w) * static_cast<double>(w);
  optim::Sgd with(optim::param_groups(net, rate)), without(optim::param_groups(plain, rate));
  const auto result = fit(net, with, source, nullptr, 3, {.epochs = 1, .terms = {pull}});
  const auto bare = fit(plain, without, source, nullptr, 3, {.epochs = 1});
  REQUIRE(result.log.epochs[0].extras.size() == 1);
  CHECK(result.log.epochs[0].extras[0].first == "decay");
  CHECK(result.log.epochs[0].extras[0].second == doctest::Approx(0.5 * squares));
  CHECK(result.log.epochs[0].train_loss == doctest::Approx(bare.log.epochs[0].train_loss + 0.5 * squares));
  const LinearNet start(5, 3);
  for (size_t i = 0; i < 15; ++i) {
    const auto value = [i](const LinearNet& n) { return static_cast<double>(n.fc.weight.value().values<float>()[i]); };
    CHECK(value(net) == doctest::Approx(value(plain) - rate * value(start)).epsilon(1e-5));
  }
}

TEST_CASE("mixed batches are scored against class probabilities, as PyTorch does") {
  LinearNet net(5, 3);
  TensorSource source(table(4, 5), labels({0, 1, 2, 0}), {.batch = 4});
  std::vector<int64_t> numbers;
  FitOptions options{.epochs = 2};
  options.loss.label_smoothing = 0.1;
  options.on_batch = [&](Batch& batch, int64_t number) {
    numbers.push_back(number);
    batch.mixed = Tensor::zeros({4, 3});
    for (int64_t i = 0; i < 4; ++i) batch.mixed.mutable_data<float>()[3 * i + batch.y.data<int32_t>()[i]] = 1;
  };
  optim::Sgd optimizer(optim::param_groups(net, 0));
  const auto mixed = fit(net, optimizer, source, nullptr, 3, options);
  CHECK(numbers == std::vector<int64_t>{0, 1});
  options.on_batch = {};
  const auto plain = fit(net, optimizer, source, nullptr, 3, options);
  CHECK(mixed.log.epochs[0].train_loss == doctest::Approx(plain.log.epochs[0].train_loss).epsilon(1e-6));
}
