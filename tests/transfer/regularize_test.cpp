// Regularisers: PyTorch's values and gradients, finite differences, and what is refused.
#include "tl/transfer/regularize.hpp"

#include <cmath>
#include <limits>
#include <numeric>

#include "data/patterns.hpp"
#include "tl/autograd/gradcheck.hpp"
#include "tl/nn/conv.hpp"
#include "tl/nn/freeze.hpp"
#include "tl/nn/layers.hpp"
#include "tl/nn/linear.hpp"
#include "tl/ops/elementwise.hpp"
#include "tl/ops/reduce.hpp"
#include "tl/ops/softmax.hpp"

namespace {

using namespace tl;
using nlohmann::json;

std::vector<json> cases_of(const std::string& kind) {
  auto out = tl_test::golden_cases("regularize.json", kind);
  REQUIRE(!out.empty());
  return out;
}

Shape shape_of(const json& sizes) {
  const auto list = sizes.get<std::vector<int64_t>>();
  return Shape(list.begin(), list.end());
}

/// An input in double precision, a leaf that wants a gradient.
Tensor input_of(const json& spec) {
  const Shape shape = shape_of(spec["shape"]);
  std::vector<double> values;
  if (spec.contains("values")) {
    values = spec["values"].get<std::vector<double>>();
  } else {
    const double a = spec["a"], b = spec["b"], c = spec["c"], d = spec["d"];
    for (int64_t i = 0; i < shape.numel(); ++i) values.push_back(d + c * std::sin(a + b * static_cast<double>(i)));
  }
  Tensor out = Tensor::from(values, shape);
  return out.set_requires_grad(true);
}

Tensor labels_of(const json& values) {
  const auto list = values.get<std::vector<int32_t>>();
  return Tensor::from(list, {std::ssize(list)});
}

void check_close(const Tensor& tensor, const json& wanted, double tolerance = 1e-10) {
  REQUIRE(tensor.defined());
  REQUIRE(tensor.numel() == std::ssize(wanted));
  const Tensor wide = tensor.detach().to(DType::f64);
  for (size_t i = 0; i < wanted.size(); ++i) {
    const double value = wide.values<double>()[i], want = wanted[i];
    CAPTURE(i);
    CAPTURE(value);
    CAPTURE(want);
    CHECK(std::abs(value - want) <= tolerance * std::max(1.0, std::abs(want)));
  }
}

/// A backbone and a head without biases, in double precision.
struct Net : nn::Module {
  nn::Linear backbone{3, 4}, head{4, 2};
  TL_MEMBERS(backbone, head)
  Net() {
    backbone.bias = head.bias = {};
    to(DType::f64);
  }
};

Tensor eye(int64_t n) {
  Tensor out = Tensor::zeros({n, n}, DType::f64);
  for (int64_t i = 0; i < n; ++i) out.mutable_data<double>()[i * n + i] = 1;
  return out;
}

}  // namespace

TEST_CASE("L2-SP is PyTorch's, starts where the network stood, and leaves out what is frozen") {
  for (const json& entry : cases_of("l2_sp")) {
    CAPTURE(entry["case"].get<std::string>());
    Net net;
    net.backbone.weight.value().copy_from(input_of(entry["inputs"]["start"]));
    const L2SpOptions options{.alpha = entry["options"]["alpha"], .beta = entry["options"]["beta"]};
    const L2Sp penalty(net, "head", options);
    net.backbone.weight.value().copy_from(input_of(entry["inputs"]["backbone"]));
    net.head.weight.value().copy_from(input_of(entry["inputs"]["head"]));
    const Tensor value = penalty();
    check_close(value, entry["value"]);
    value.backward();
    check_close(net.backbone.weight.value().grad(), entry["grads"]["backbone"]);
    if (options.beta > 0) check_close(net.head.weight.value().grad(), entry["grads"]["head"]);
    freeze(net, "*");
    CHECK(penalty().item() == 0);
  }
  Net net;
  CHECK_THROWS_AS(L2Sp(net, "classifier"), UsageError);
}

TEST_CASE("DELTA is the published distance of feature maps, uniform and with attention") {
  const json attention = cases_of("attention")[0];
  const auto importance = attention["importance"].get<std::vector<double>>();
  check_close(channel_attention(importance), attention["value"], 1e-7);
  std::vector<double> more = importance;
  more.insert(more.end(), {0.5, -0.7});
  for (const json& entry : cases_of("delta")) {
    CAPTURE(entry["case"].get<std::string>());
    const auto& in = entry["inputs"];
    const std::vector<Tensor> maps{input_of(in["map0"]), input_of(in["map1"])};
    const std::vector<Tensor> source{input_of(in["source0"]), input_of(in["source1"])};
    std::vector<Tensor> weights;
    if (entry["options"]["attention"]) weights = {channel_attention(importance), channel_attention(more)};
    const Tensor value = feature_map_distance(maps, source, weights);
    check_close(value, entry["value"], 1e-6);  // attention is single precision
    value.backward();
    check_close(maps[0].grad(), entry["grads"]["map0"], 1e-6);
    check_close(maps[1].grad(), entry["grads"]["map1"], 1e-6);
    CHECK(!source[0].grad().defined());
    const auto check =
        gradcheck([&](const std::vector<Tensor>& leaves) { return feature_map_distance(leaves, source, weights); },
                  {input_of(in["map0"]), input_of(in["map1"])});
    CHECK_MESSAGE(check, check.message);
  }
  const std::vector<Tensor> one{Tensor::ones({2, 3})}, other{Tensor::ones({2, 4})};
  CHECK_THROWS_AS(feature_map_distance(one, other), ShapeError);
  CHECK_THROWS_AS(feature_map_distance(one, {}), ShapeError);
  CHECK_THROWS_AS(feature_map_distance(one, one, other), ShapeError);
  const std::vector<double> equal{2, 2};
  CHECK(channel_attention(equal).values<float>()[1] == 0.5f);
}

TEST_CASE("DELTA's importance of a filter is the rise of the loss without it, and the weights return") {
  nn::Parameter weight(Tensor::from({1.0f, 2.0f, -3.0f, 0.5f, 4.0f, -1.0f}, {3, 2}));
  const Tensor before = weight.value().clone();
  const auto loss = [&] { return sum(square(weight.value())).item() + sum(weight.value()).item(); };
  const auto rise = filter_importance(weight, loss);
  REQUIRE(rise.size() == 3);
  CHECK(rise[0] == doctest::Approx(-8));
  CHECK(rise[1] == doctest::Approx(-6.75));
  CHECK(rise[2] == doctest::Approx(-20));
  CHECK(
      std::equal(before.values<float>().begin(), before.values<float>().end(), weight.value().values<float>().begin()));
  int calls = 0;
  const auto broken = [&] {
    require<NumericError>(++calls < 3, "no loss");
    return 0.0;
  };
  CHECK_THROWS_AS(filter_importance(weight, broken), NumericError);
  CHECK(weight.value().values<float>()[2] == -3.0f);
}

TEST_CASE("BSS is the sum of the smallest squared singular values, whichever side is longer") {
  for (const json& entry : cases_of("bss")) {
    CAPTURE(entry["case"].get<std::string>());
    const int64_t k = entry["options"]["k"];
    const Tensor features = input_of(entry["inputs"]["features"]);
    const Tensor value = spectral_shrinkage(features, k);
    check_close(value, entry["value"]);
    value.backward();
    check_close(features.grad(), entry["grads"]["features"], 1e-9);
    const auto check =
        gradcheck([&](const std::vector<Tensor>& leaves) { return spectral_shrinkage(leaves[0], k) * 3; },
                  {input_of(entry["inputs"]["features"])});
    CHECK_MESSAGE(check, check.message);
    Tensor single = features.detach().to(DType::f32);
    single.set_requires_grad(true);
    const Tensor rounded = spectral_shrinkage(single, k);
    check_close(rounded, entry["value"], 1e-5);
    rounded.backward();
    check_close(single.grad(), entry["grads"]["features"], 1e-5);
  }
  CHECK(spectral_shrinkage(Tensor::ones({4, 6}), 2).item() == doctest::Approx(0).epsilon(1e-6));  // of rank 1
  CHECK_THROWS_AS(spectral_shrinkage(Tensor::ones({4, 6}), 5), UsageError);
  CHECK_THROWS_AS(spectral_shrinkage(Tensor::ones({4, 6}), 0), UsageError);
  CHECK_THROWS_AS(spectral_shrinkage(Tensor::ones({4}), 1), ShapeError);
  CHECK_THROWS_AS(spectral_shrinkage(Tensor::ones({4, 2}, DType::bf16), 1), DTypeError);
  CHECK_THROWS_AS(spectral_shrinkage(Tensor::full({2, 2}, std::numeric_limits<double>::quiet_NaN())), NumericError);
}

TEST_CASE("StochNorm gives each channel the batch's or the running statistics, and the running ones move as ever") {
  const auto entries = cases_of("stoch_norm");
  const json &running = entries[0], &batch = entries[1], &in = batch["inputs"];
  const Tensor cotangent = input_of(batch["cotangent"]).detach();
  int64_t from_batch = 0;
  constexpr int kDraws = 200, kChannels = 5;
  for (int draw = 0; draw < kDraws; ++draw) {
    manual_seed(static_cast<uint64_t>(draw));
    nn::BatchNorm2d norm(kChannels);
    norm.to(DType::f64);
    CHECK(set_stochastic_norms(norm, 0.25) == 1);
    norm.weight.value().copy_from(input_of(in["weight"]));
    norm.bias.value().copy_from(input_of(in["bias"]));
    for (int c = 0; c < kChannels; ++c) {
      norm.running_mean.value().mutable_data<double>()[c] = 0.5 * std::sin(0.3 + c);
      norm.running_var.value().mutable_data<double>()[c] = 1.2 + 0.4 * std::sin(0.8 + 1.4 * c);
    }
    const Tensor x = input_of(in["x"]);
    const Tensor y = norm(x);
    sum(y * cotangent).backward();
    check_close(norm.running_mean.value(), batch["running_mean"]);
    check_close(norm.running_var.value(), batch["running_var"]);
    CHECK(norm.num_batches_tracked.value().values<int64_t>()[0] == 1);
    for (size_t c = 0; c < kChannels; ++c) {
      const bool tossed = std::abs(y.values<double>()[c] - batch["value"][c].get<double>()) < 1e-10;
      from_batch += tossed;
      const json& wanted = tossed ? batch : running;
      for (size_t i = c; i < 60; i += kChannels) {
        CHECK(y.values<double>()[i] == doctest::Approx(wanted["value"][i].get<double>()).epsilon(1e-10));
        CHECK(x.grad().values<double>()[i] == doctest::Approx(wanted["grads"]["x"][i].get<double>()).epsilon(1e-8));
      }
      CHECK(norm.weight.value().grad().values<double>()[c] ==
            doctest::Approx(wanted["grads"]["weight"][c].get<double>()));
      CHECK(norm.bias.value().grad().values<double>()[c] == doctest::Approx(wanted["grads"]["bias"][c].get<double>()));
    }
    norm.eval();
    const Tensor plain = batch_norm(x, norm.weight, norm.bias, norm.running_mean.value(), norm.running_var.value());
    CHECK(std::equal(plain.values<double>().begin(), plain.values<double>().end(), norm(x).values<double>().begin()));
  }
  // 1,000 coins with 0.25: the deviation is 0.0137.
  CHECK(static_cast<double>(from_batch) / (kDraws * kChannels) == doctest::Approx(0.25).epsilon(0.2));
}

TEST_CASE("StochNorm works through fused layers, rests when frozen, and can be taken back") {
  manual_seed(3);
  struct Block : nn::Module {
    nn::Conv2d conv{3, 8, {.kernel = 1, .bias = false}};
    nn::BatchNorm2d bn{8};
    TL_MEMBERS(conv, bn)
    Tensor forward(const Tensor& x) override { return nn::conv_bn_chain({{conv, bn, Activation::relu6}}, x, x8); }
    Tensor x8 = Tensor::full({2, 4, 4, 8}, 0.25);
  } block;
  Tensor x = Tensor::empty({2, 4, 4, 3});
  nn::normal_(x, 1, 2);
  const auto values = [&] {
    const NoGrad no_grad;
    const auto y = block(x);
    return std::vector<float>(y.values<float>().begin(), y.values<float>().end());
  };
  const auto reset = [&] {
    block.bn.running_mean.value().fill_(0);
    block.bn.running_var.value().fill_(1);
  };
  const auto plain = values();
  reset();
  set_stochastic_norms(block);
  const auto tossed = values();
  CHECK(plain != tossed);
  reset();
  CHECK(values() != tossed);  // another coin
  reset();
  block.eval();
  const auto evaluated = values();
  block.train();
  freeze(block, "bn");
  CHECK(values() == evaluated);
  unfreeze(block, "bn");
  set_stochastic_norms(block, 1);
  CHECK(values() == plain);
  CHECK_THROWS_AS(set_stochastic_norms(block, 0), UsageError);
  nn::Linear without(2, 2);
  CHECK_THROWS_AS(set_stochastic_norms(without), UsageError);
}

TEST_CASE("Co-Tuning: the relationship is counted, and the source head is held to it") {
  const json counted = cases_of("relationship")[0];
  const Tensor p = softmax(input_of(counted["logits"]).detach()).to(DType::f32), y = labels_of(counted["labels"]);
  const Tensor relationship = category_relationship(p, y, 3);
  CHECK(relationship.shape() == Shape{3, 4});
  check_close(relationship, counted["value"], 1e-6);
  for (const json& entry : cases_of("co_tuning")) {
    CAPTURE(entry["case"].get<std::string>());
    const Tensor logits = input_of(entry["inputs"]["logits"]);
    const Tensor mixed = Tensor::from(entry["options"]["targets"].get<std::vector<double>>(), {6, 3}).to(DType::f32);
    const bool labels = entry["case"] == "labels";
    const auto loss = [&](const Tensor& x) { return co_tuning_loss(x, relationship, labels ? y : mixed); };
    const Tensor value = loss(logits);
    check_close(value, entry["value"], 1e-6);
    value.backward();
    check_close(logits.grad(), entry["grads"]["logits"], 1e-6);
    const auto check = gradcheck([&](const std::vector<Tensor>& leaves) { return loss(leaves[0]); },
                                 {input_of(entry["inputs"]["logits"])});
    CHECK_MESSAGE(check, check.message);
  }
  CHECK_THROWS_AS(category_relationship(p, y, 2), UsageError);
  CHECK_THROWS_AS(category_relationship(p, y, 4), UsageError);  // a class without samples
  CHECK_THROWS_AS(category_relationship(p, y.to(DType::f32), 3), DTypeError);
  CHECK_THROWS_AS(co_tuning_loss(Tensor::ones({6, 5}), relationship, y), ShapeError);
}

TEST_CASE("Distillation is T^2 KL, and its gradient reaches the student alone") {
  for (const json& entry : cases_of("distillation")) {
    CAPTURE(entry["case"].get<std::string>());
    const double temperature = entry["options"]["temperature"];
    const Tensor student = input_of(entry["inputs"]["student"]), teacher = input_of(entry["inputs"]["teacher"]);
    const Tensor value = distillation_loss(student, teacher, temperature);
    check_close(value, entry["value"]);
    value.backward();
    check_close(student.grad(), entry["grads"]["student"]);
    CHECK(!teacher.grad().defined());
    const auto check =
        gradcheck([&](const std::vector<Tensor>& leaves) { return distillation_loss(leaves[0], teacher, temperature); },
                  {input_of(entry["inputs"]["student"])});
    CHECK_MESSAGE(check, check.message);
  }
  CHECK_THROWS_AS(distillation_loss(eye(2), eye(3)), ShapeError);
  CHECK_THROWS_AS(distillation_loss(eye(2), eye(2), 0), UsageError);
}
