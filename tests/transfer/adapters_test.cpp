// LoRA, bottleneck adapters, (IA)^3, BitFit and norms: formulas against PyTorch, what stays frozen, merging.
#include "tl/transfer/adapters.hpp"

#include <cmath>
#include <cstring>
#include <fstream>
#include <functional>
#include <map>
#include <nlohmann/json.hpp>

#include "io/failures.hpp"
#include "support.hpp"
#include "tl/autograd/engine.hpp"
#include "tl/io/state_dict.hpp"
#include "tl/models/create.hpp"
#include "tl/nn/conv.hpp"
#include "tl/nn/freeze.hpp"
#include "tl/ops/elementwise.hpp"
#include "tl/ops/loss.hpp"
#include "tl/ops/reduce.hpp"
#include "tl/optim/optimizer.hpp"
#include "tl/tensor/storage.hpp"

namespace {

using namespace tl;
using namespace tl_test;
using nlohmann::json;

Shape shape_of(const json& sizes) {
  const auto list = sizes.get<std::vector<int64_t>>();
  return Shape(list.begin(), list.end());
}

/// x[i] = d + c sin(a + b i)
Tensor wave(const json& spec, DType dtype) {
  const Shape shape = shape_of(spec["shape"]);
  std::vector<double> values(static_cast<size_t>(shape.numel()));
  for (size_t i = 0; i < values.size(); ++i)
    values[i] =
        spec["d"].get<double>() +
        spec["c"].get<double>() * std::sin(spec["a"].get<double>() + spec["b"].get<double>() * static_cast<double>(i));
  return Tensor::from(values, shape).to(dtype);
}

void check_close(const Tensor& found, const json& expected, double tolerance) {
  const Tensor values = found.detach().to(DType::f64);
  REQUIRE(values.numel() == static_cast<int64_t>(expected.size()));
  double largest = 0, difference = 0;
  for (size_t i = 0; i < expected.size(); ++i) {
    largest = std::max(largest, std::abs(expected[i].get<double>()));
    difference = std::max(difference, std::abs(values.values<double>()[i] - expected[i].get<double>()));
  }
  CHECK(difference <= tolerance * largest);
}

/// One layer, alone in a network.
struct Host : nn::Module {
  std::unique_ptr<nn::Module> layer;
  TL_MEMBERS(layer)
  Tensor forward(const Tensor& x) override { return (*layer)(x); }
};

Host host_of(const json& golden, DType dtype) {
  Host out;
  const json& base = golden["base"];
  const bool bias = base.contains("bias");
  const Shape w = shape_of(base["weight"]["shape"]);
  nn::Parameter *weight = nullptr, *shift = nullptr;
  if (golden["layer"] == "linear") {
    auto layer = std::make_unique<nn::Linear>(w[1], w[0], bias);
    weight = &layer->weight, shift = &layer->bias;
    out.layer = std::move(layer);
  } else {
    auto layer = std::make_unique<nn::Conv2d>(w[3], w[0], nn::Conv2dConfig{.kernel = w[1], .bias = bias});
    weight = &layer->weight, shift = &layer->bias;
    out.layer = std::move(layer);
  }
  out.to(dtype);
  weight->value().copy_from(wave(base["weight"], dtype));
  if (bias) shift->value().copy_from(wave(base["bias"], dtype));
  out.set_frozen(true);
  return out;
}

void add_to(Host& net, const json& golden) {
  const json& options = golden["options"];
  if (golden["kind"] == "lora") {
    const int64_t rank = golden["adapter"]["a"]["shape"][0];
    CHECK(add_lora(net, "layer",
                   {.rank = rank, .alpha = options["alpha"], .rank_stabilised = options["rank_stabilised"]}) == 1);
  } else if (golden["kind"] == "bottleneck") {
    const int64_t width = golden["adapter"]["down.bias"]["shape"][0];
    const Activation activation = options["activation"] == "relu" ? Activation::relu : Activation::gelu;
    CHECK(add_bottlenecks(net, "layer", {.width = width, .activation = activation}) == 1);
  } else {
    CHECK(add_ia3(net, "layer") == 1);
  }
}

std::string bytes_of(const Tensor& t) { return {static_cast<const char*>(t.raw_data()), t.bytes()}; }

/// Of everything that is frozen, and of every statistic.
std::map<std::string, std::string> frozen_bytes(nn::Module& net) {
  std::map<std::string, std::string> out;
  for (const auto& p : nn::named_parameters(net))
    if (p.parameter->frozen()) out[p.name] = bytes_of(p.parameter->value());
  for (const auto& b : nn::named_buffers(net)) out[b.name] = bytes_of(b.buffer->value());
  return out;
}

Tensor picture_batch(int64_t count, int64_t size, double phase = 0) {
  Tensor out = Tensor::empty({count, size, size, 3});
  float* x = out.mutable_data<float>();
  for (int64_t i = 0; i < out.numel(); ++i)
    x[i] = static_cast<float>(std::sin(phase + 0.37 * static_cast<double>(i) + 1e-3 * static_cast<double>(i % 977)));
  return out;
}

/// A small pretrained network with a new head for two classes, all but that frozen.
std::unique_ptr<models::ImageClassifier> prepared(const std::string& arch = "efficientnet_lite0") {
  manual_seed(3);
  auto net = models::create(arch, {.classes = 2, .dropout = 0});
  for (const auto& b : nn::named_buffers(*net))
    if (b.name.ends_with("running_var")) nn::uniform_(b.buffer->value(), 0.5, 2);
  freeze_all_but(*net, net->head_name());
  return net;
}

/// Random numbers in all adapters, so that none is the identity any more.
void stir_adapters(nn::Module& net, double amount = 0.1) {
  for (const auto& [host, module, adapter] : adapters_of(net))
    for (const auto& p : nn::named_parameters(*adapter)) {
      Tensor noise = Tensor::zeros(p.parameter->value().shape());
      nn::normal_(noise, 0, amount);
      const NoGrad no_grad;
      p.parameter->value().copy_from(p.parameter->value() + noise);
    }
}

Tensor logits_of(nn::Module& net, const Tensor& x) {
  const nn::ModeScope evaluation(net, false);
  const NoGrad no_grad;
  return net(x);
}

double largest(const Tensor& t) {
  double out = 0;
  for (const float v : t.values<float>()) out = std::max(out, static_cast<double>(std::abs(v)));
  return out;
}
double relative_difference(const Tensor& a, const Tensor& b) {
  const NoGrad no_grad;
  return largest(a - b) / largest(b);
}

/// Steps of AdamW on random labels; the loss of each.
std::vector<double> train(nn::Module& net, optim::Optimizer& optimizer, int64_t steps, int64_t size) {
  std::vector<double> out;
  net.train();
  const Tensor x = picture_batch(4, size);
  const Tensor y = Tensor::from(std::vector<int32_t>{0, 1, 1, 0}, {4});
  for (int64_t i = 0; i < steps; ++i) {
    const Tensor loss = cross_entropy(net(x), y);
    optimizer.zero_grad();
    loss.backward();
    optimizer.step();
    out.push_back(loss.item());
  }
  return out;
}

}  // namespace

TEST_CASE("forward, gradients and one step of each adapter are PyTorch's") {
  const json golden = json::parse(std::ifstream(tl_test::golden("peft.json")));
  REQUIRE(golden["cases"].size() == 10);
  for (const DType dtype : {DType::f64, DType::f32})
    for (const json& expected : golden["cases"]) {
      CAPTURE(expected["case"].get<std::string>() + " on " + expected["layer"].get<std::string>());
      const double tolerance = dtype == DType::f64 ? 1e-8 : 2e-6;
      Host net = host_of(expected, dtype);
      const Tensor x = wave(expected["base"]["x"], dtype).set_requires_grad(true);
      const Tensor plain = net(x).detach();
      add_to(net, expected);
      if (expected["kind"] != "bottleneck" && expected["kind"] != "ia3") {
        // B is zero: nothing changed, not by a bit.
        CHECK(bytes_of(net(x)) == bytes_of(plain));
      }
      std::map<std::string, nn::Parameter*> parameters;
      for (const auto& p : nn::named_parameters(*net.layer->adapter())) parameters[p.name] = p.parameter;
      REQUIRE(parameters.size() == expected["adapter"].size());
      for (const auto& [name, spec] : expected["adapter"].items())
        parameters.at(name)->value().copy_from(wave(spec, dtype));

      const Tensor y = net(x);
      check_close(y, expected["output"], tolerance);
      y.backward(wave(expected["cotangent"], dtype));
      check_close(x.grad(), expected["grads"]["x"], tolerance);
      for (const auto& [name, parameter] : parameters) {
        CAPTURE(name);
        check_close(parameter->value().grad(), expected["grads"][name], 2 * tolerance);
      }
      optim::Sgd optimizer(optim::param_groups(net, expected["rate"].get<double>()));
      optimizer.step();
      for (const auto& [name, parameter] : parameters)
        check_close(parameter->value(), expected["after"][name], tolerance);
      check_close(net(x), expected["output_after"], tolerance);
      {  // The packed weights of a network that only predicts follow the adapter.
        const NoGrad no_grad;
        check_close(net(x), expected["output_after"], tolerance);
      }
      if (expected["kind"] == "bottleneck") continue;
      net.eval();
      merge(net);
      check_close(net(x), expected["output_after"], tolerance);
      unmerge(net);
      check_close(net(x), expected["output_after"], tolerance);
    }
}

TEST_CASE("every adapter begins as the identity: the logits stay the same bits") {
  const Tensor x = picture_batch(2, 64);
  for (const std::string arch : {"efficientnet_lite0", "resnet18", "squeezenet1_1"}) {
    CAPTURE(arch);
    const auto net = prepared(arch);
    const Tensor before = logits_of(*net, x);
    CHECK(add_lora(*net, "**") > 2);
    CHECK(bytes_of(logits_of(*net, x)) == bytes_of(before));
    CHECK(remove_adapters(*net) > 2);
    add_ia3(*net, "**");
    CHECK(relative_difference(logits_of(*net, x), before) < 1e-6);
    remove_adapters(*net);
    add_bottlenecks(*net,
                    arch == "resnet18"        ? "layer*.*"
                    : arch == "squeezenet1_1" ? "features.*"
                                              : "blocks.*.*",
                    {}, x);
    CHECK(relative_difference(logits_of(*net, x), before) < 1e-6);
    remove_adapters(*net);
    CHECK(bytes_of(logits_of(*net, x)) == bytes_of(before));
  }
}

TEST_CASE("LoRA's A begins uniform within 1 / sqrt(In), B at zero") {
  nn::Sequential net(nn::Linear(400, 8));
  net.set_frozen(true);
  manual_seed(2);
  add_lora(net, "0", {.rank = 16});
  const auto& lora = dynamic_cast<const Lora&>(*adapters_of(net)[0].adapter);
  CHECK(largest(lora.a.value()) <= 0.05);
  CHECK(largest(lora.a.value()) > 0.049);
  CHECK(largest(lora.b.value()) == 0);
}

TEST_CASE("adapters learn through fused chains as they do layer by layer") {
  // Who observes a network gets it unfused: the same gradients, computed another way.
  const Tensor x = picture_batch(2, 48);
  const Tensor y = Tensor::from(std::vector<int32_t>{0, 1}, {2});
  const std::pair<const char*, std::function<void(nn::Module&)>> kinds[] = {
      {"lora", [](nn::Module& net) { add_lora(net, "**", {.rank = 3}); }},
      {"ia3", [](nn::Module& net) { add_ia3(net, "**"); }},
      {"bottleneck", [](nn::Module& net) { add_bottlenecks(net, "blocks.*.*.conv_pwl", {.width = 4}); }}};
  for (const auto& [kind, add] : kinds) {
    CAPTURE(kind);
    const auto net = prepared();
    add(*net);
    manual_seed(5);
    stir_adapters(*net, 0.05);
    net->train();
    std::map<std::string, Tensor> fused;
    cross_entropy((*net)(x), y).backward();
    for (const auto& p : nn::named_parameters(*net))
      if (!p.parameter->frozen()) fused[p.name] = p.parameter->value().grad().clone();
    CHECK(fused.size() > 20);
    net->zero_grad();
    const auto ignore = [](nn::Module&, const Tensor&) {};
    const nn::Observe observe(ignore);
    cross_entropy((*net)(x), y).backward();
    for (const auto& [name, gradient] : fused) {
      CAPTURE(name);
      const Tensor other = nn::select_parameters(*net, name).at(0).parameter->value().grad();
      CHECK(largest(other) > 0);
      CHECK(relative_difference(gradient, other) < 2e-2);  // a ReLU6 that rounding flips counts whole
    }
  }
}

TEST_CASE("FR16: merged and unmerged logits agree, differ from the base, and unmerging restores its bytes") {
  const Tensor x = picture_batch(2, 64);
  for (const std::string arch : {"efficientnet_lite0", "resnet18", "squeezenet1_1"})
    for (const bool lora : {true, false}) {
      CAPTURE(arch);
      CAPTURE(lora);
      const auto net = prepared(arch);
      const auto base = frozen_bytes(*net);
      const size_t plain_count = state_dict(*net).size();
      const Tensor before = logits_of(*net, x);
      const int64_t count = lora ? add_lora(*net, "**", {.rank = 4}) : add_ia3(*net, "**");
      manual_seed(7);
      stir_adapters(*net, 0.02);
      const Tensor unmerged = logits_of(*net, x);
      CHECK(relative_difference(unmerged, before) > 1e-3);
      merge(*net);
      CHECK(relative_difference(logits_of(*net, x), unmerged) < 1e-5);
      CHECK(state_dict(*net).size() == plain_count);  // a plain network
      CHECK(frozen_bytes(*net) != base);

      CHECK(error_of<UsageError>([&] { merge(*net); }).find("merged already") != std::string::npos);
      CHECK(error_of<UsageError>([&] { unfreeze(*net, "**"); }).find("unmerge(net) first") != std::string::npos);
      net->train();
      CHECK(error_of<UsageError>([&] { (*net)(x); }).find("unmerge(net) to train") != std::string::npos);

      unmerge(*net);
      CHECK(bytes_of(logits_of(*net, x)) == bytes_of(unmerged));
      CHECK_THROWS_AS(unmerge(*net), UsageError);
      for (const auto& [name, bytes] : base) CHECK(frozen_bytes(*net).at(name) == bytes);
      merge(*net);
      CHECK(relative_difference(logits_of(*net, x), unmerged) < 1e-5);
      CHECK(remove_adapters(*net) == count);
      CHECK(relative_difference(logits_of(*net, x), unmerged) < 1e-5);
      unfreeze(*net, "**");  // the merged weights are the network's own now
    }
}

TEST_CASE("1,000 steps: what is frozen keeps its bytes and has no optimizer state") {
  struct Way {
    const char* name;
    std::function<void(models::ImageClassifier&)> prepare;
  };
  const Way ways[] = {
      {"lora", [](auto& net) { add_lora(net, "**", {.rank = 4, .windows = true}); }},
      {"bottleneck", [](auto& net) { add_bottlenecks(net, "layer*.*", {.width = 4}, picture_batch(1, 32)); }},
      {"ia3", [](auto& net) { add_ia3(net, "**"); }},
      {"norms", [](auto& net) { unfreeze_norms(net); }},
      {"biases", [](auto& net) { unfreeze_biases(net); }}};
  for (const auto& [name, prepare] : ways) {
    CAPTURE(name);
    manual_seed(1);
    const auto net = models::create("cifar_resnet20", {.classes = 2});
    freeze_all_but(*net, net->head_name());
    const auto all = nn::parameter_count(*net);
    prepare(*net);
    const auto base = frozen_bytes(*net);
    CHECK(base.size() > 40);
    optim::AdamW optimizer(optim::param_groups(*net, 1e-3, 0.01));
    const auto losses = train(*net, optimizer, 1000, 12);
    CHECK(losses.back() < 0.05);
    CHECK(losses.back() < 0.2 * losses.front());
    CHECK(frozen_bytes(*net) == base);
    int64_t trained = 0;
    for (const auto& state : optimizer.state())
      if (!state.name.ends_with(":step")) trained += state.tensor.numel();
    CHECK(trained == 2 * nn::parameter_count(*net, /*trainable_only=*/true));
    CHECK(nn::parameter_count(*net, true) < all / 5);
    for (const auto& p : nn::named_parameters(*net))
      CHECK(p.parameter->value().grad().defined() == !p.parameter->frozen());
  }
}

TEST_CASE("below the lowest adapter nothing is recorded") {
  const auto net = prepared();
  add_lora(*net, "blocks.6.**");
  net->train();
  const Tensor x = picture_batch(1, 64);
  std::vector<std::string> recorded;
  std::map<const nn::Module*, std::string> names;
  for (const auto& module : nn::named_modules(*net)) names[module.module] = module.name;
  const auto look = [&](nn::Module& module, const Tensor& result) {
    if (result.requires_grad()) recorded.push_back(names[&module]);
  };
  const nn::Observe observe(look);
  (*net)(x);
  REQUIRE(!recorded.empty());
  CHECK(recorded.front().starts_with("blocks.6.0."));
}

TEST_CASE("norms and biases learn while statistics stay") {
  const auto net = models::create("cifar_resnet20", {.classes = 2});
  freeze_all_but(*net, net->head_name());
  CHECK(unfreeze_norms(*net) == 2 * 19);
  unfreeze(*net, net->head_name());  // a later word about the head leaves the norms' statistics alone
  net->train();
  for (const auto& module : nn::named_modules(*net))
    if (dynamic_cast<nn::BatchNorm2d*>(module.module)) {
      CHECK(!module.module->training());
      for (const auto& member : module.module->members())
        if (member.parameter) CHECK(!member.parameter->frozen());
    }
  // It lasts through saving and loading.
  const auto other = models::create("cifar_resnet20", {.classes = 2});
  set_frozen_names(*other, frozen_names(*net));
  CHECK(frozen_names(*other) == frozen_names(*net));
  other->train();
  CHECK(!nn::find_module(*other, "bn1").training());

  freeze_all_but(*net, net->head_name());
  CHECK(unfreeze_biases(*net) == 19 + 1);
  for (const auto& p : nn::named_parameters(*net))
    CHECK(p.parameter->frozen() == !(p.name.ends_with("bias") || p.name.starts_with(net->head_name())));
  nn::Sequential plain(nn::Linear(2, 2, false), nn::Linear(2, 2, false));
  CHECK_THROWS_AS(unfreeze_norms(plain), UsageError);
  CHECK_THROWS_AS(unfreeze_biases(plain), UsageError);
}

TEST_CASE("what cannot be meant is refused with a hint, and nothing changes") {
  const auto net = prepared();
  const size_t before = nn::named_parameters(*net).size();
  const auto refusal = [](auto action) { return error_of<UsageError>(action); };
  CHECK(refusal([&] { add_lora(*net, "block.**"); }).find("Nearest: blocks") != std::string::npos);
  CHECK(refusal([&] { add_lora(*net, "**.conv_dw"); }).find("no frozen Linear or 1x1 Conv2d") != std::string::npos);
  CHECK(refusal([&] { add_lora(*net, "classifier"); }).find("freeze_all_but(net, head) first") != std::string::npos);
  CHECK(refusal([&] { add_lora(*net, "**", {.rank = 0}); }).find("at least 1") != std::string::npos);
  CHECK(refusal([&] { add_lora(*net, "**", {.alpha = std::nan("")}); }).find("must be finite") != std::string::npos);
  CHECK(refusal([&] { add_ia3(*net, "nothing"); }).find("no frozen Linear or Conv2d") != std::string::npos);
  CHECK(refusal([&] { add_bottlenecks(*net, "blocks.*.*"); }).find("Tensor::zeros") != std::string::npos);
  CHECK(refusal([&] { add_bottlenecks(*net, "**.bn1"); }).find("no Linear, 1x1 Conv2d or block") != std::string::npos);
  CHECK(refusal([&] { merge(*net); }).find("carries no adapters") != std::string::npos);
  CHECK(nn::named_parameters(*net).size() == before);

  add_lora(*net, "blocks.1.**");
  CHECK(refusal([&] { add_lora(*net, "blocks.**"); }).find("carries an adapter already (lora)") != std::string::npos);
  add_bottlenecks(*net, "blocks.2.0", {}, picture_batch(1, 64));
  CHECK(refusal([&] { merge(*net); }).find("no weight can hold blocks.2.0.bottleneck") != std::string::npos);
  remove_adapters(*net);
  CHECK(nn::named_parameters(*net).size() == before);

  // Tied weights would change at their other end too; one that learns is not merged into.
  Host tied;
  auto pair = std::make_unique<nn::Sequential>(nn::Linear(3, 3), nn::Linear(3, 3));
  static_cast<nn::Linear&>((*pair)[1]).weight.tie(static_cast<nn::Linear&>((*pair)[0]).weight);
  tied.layer = std::move(pair);
  tied.set_frozen(true);
  add_lora(tied, "layer.1");
  CHECK(refusal([&] { merge(tied); }).find("tied") != std::string::npos);
  unfreeze(tied, "layer.1.weight");
  CHECK(refusal([&] { merge(tied); }).find("learns itself") != std::string::npos);
}

TEST_CASE("an adapter on a block that the network does not call is refused") {
  struct Inner : nn::Module {
    nn::Linear fc{4, 4};
    TL_MEMBERS(fc)
    Tensor forward(const Tensor& x) override { return fc(x); }
  };
  struct Outer : nn::Module {
    Inner inner;
    TL_MEMBERS(inner)
    Tensor forward(const Tensor& x) override {
      Tensor y = inner.fc(x);
      observed(inner, y);
      return y;
    }
  };
  Outer net;
  CHECK(error_of<UsageError>([&] {
          add_bottlenecks(net, "inner", {}, Tensor::zeros({2, 4}));
        }).find("does not call \"inner\"") != std::string::npos);
  CHECK(adapters_of(net).empty());
  CHECK(add_bottlenecks(net, "inner.fc", {}, Tensor::zeros({2, 4})) == 1);
}
