// Every network against its reference library: names, outputs and training with weights from a hash (golden/README.md).
#include <algorithm>
#include <cmath>
#include <cstdio>
#include <fstream>
#include <nlohmann/json.hpp>
#include <set>

#include "support.hpp"
#include "tl/io/state_dict.hpp"
#include "tl/models/create.hpp"
#include "tl/nn/freeze.hpp"
#include "tl/nn/layers.hpp"
#include "tl/nn/staged.hpp"
#include "tl/ops/loss.hpp"
#include "tl/ops/pool.hpp"
#include "tl/ops/view.hpp"
#include "tl/optim/optimizer.hpp"

namespace {

using namespace tl;
using namespace tl_test;
using nlohmann::json;

uint64_t fnv1a(const std::string& text) {
  uint64_t key = 0xcbf29ce484222325;
  for (const char c : text) key = (key ^ static_cast<unsigned char>(c)) * 0x100000001b3;
  return key;
}

/// Value i of a tensor, in [-1, 1).
double hash_value(uint64_t key, int64_t i) {
  uint64_t z = key + static_cast<uint64_t>(i + 1) * 0x9e3779b97f4a7c15;
  z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9;
  z = (z ^ (z >> 27)) * 0x94d049bb133111eb;
  z = z ^ (z >> 31);
  return static_cast<double>(z >> 40) * 0x1p-23 - 1;
}

Tensor hashed(const std::string& name, const Shape& shape, double scale, double shift) {
  const uint64_t key = fnv1a(name);
  Tensor out = Tensor::empty(shape);
  float* to = out.mutable_data<float>();
  for (int64_t i = 0; i < out.numel(); ++i) to[i] = static_cast<float>(shift + scale * hash_value(key, i));
  return out;
}

/// Gives every parameter and buffer its values.
void fill(nn::Module& net, double gain) {
  const NoGrad no_grad;
  const auto one = [&](const std::string& name, Tensor& value, nn::FileLayout layout) {
    const Shape& shape = value.shape();
    if (shape.rank() >= 2) {
      const bool oihw = layout == nn::FileLayout::oihw;
      const Shape stored = oihw ? Shape{shape[0], shape[3], shape[1], shape[2]} : shape;
      const Tensor drawn = hashed(name, stored, std::sqrt(gain / static_cast<double>(shape.numel() / shape[0])), 0);
      value.copy_from(oihw ? permute(drawn, {0, 2, 3, 1}) : drawn);
    } else if (name.ends_with("weight") || name.ends_with("running_var")) {
      value.copy_from(hashed(name, shape, 0.5, 1));
    } else {
      value.copy_from(hashed(name, shape, 0.1, 0));
    }
  };
  for (const auto& p : nn::named_parameters(net)) one(p.name, p.parameter->value(), p.parameter->layout());
  for (const auto& b : nn::named_buffers(net)) {
    if (b.name.ends_with("num_batches_tracked")) b.buffer->value().zero_();
    else one(b.name, b.buffer->value(), nn::FileLayout::same);
  }
}

Tensor picture(const json& shape) {
  const auto sizes = shape.get<std::vector<int64_t>>();
  return hashed("input", Shape(sizes.begin(), sizes.end()), 1, 0);
}

void check_rows(const Tensor& got, const json& want) {
  for (size_t row = 0; row < want["first"].size(); ++row) {
    const auto values =
        got.values<float>().subspan(row * static_cast<size_t>(got.size(1)), static_cast<size_t>(got.size(1)));
    double sum = 0, abs_sum = 0;
    for (const float v : values) sum += static_cast<double>(v), abs_sum += std::abs(static_cast<double>(v));
    for (size_t i = 0; i < want["first"][row].size(); ++i)
      CHECK(std::abs(static_cast<double>(values[i]) - want["first"][row][i].get<double>()) < 1e-3);
    const double scale = want["abs_sum"][row];
    CHECK(std::abs(sum - want["sum"][row].get<double>()) < 1e-5 * scale);
    CHECK(std::abs(abs_sum - scale) < 1e-5 * scale);
  }
}

const json& golden_file() {
  static const json file = json::parse(std::ifstream(golden("resnets.json")));
  return file;
}

void check_names(nn::Module& net, const json& want) {
  std::vector<std::string> names;
  int64_t values = 0;
  for (const auto& t : state_dict(net)) {
    if (t.name.ends_with("num_batches_tracked")) continue;
    names.push_back(t.name);
    values += t.tensor.numel();
  }
  CHECK(names.size() == want["tensors"].get<size_t>());
  CHECK(values == want["values"].get<int64_t>());
  std::sort(names.begin(), names.end());
  std::string joined;
  for (const auto& name : names) joined += (joined.empty() ? "" : "\n") + name;
  char hex[17];
  std::snprintf(hex, sizeof(hex), "%016llx", static_cast<unsigned long long>(fnv1a(joined)));
  CHECK(std::string(hex) == want["names_fnv1a"].get<std::string>());
}

void check_training(models::ImageClassifier& net, const json& train) {
  net.train();
  const json& setting = golden_file()["training"];
  const Tensor x = picture(train["shape"]), y = Tensor::from(setting["labels"].get<std::vector<int32_t>>(), {4});
  optim::Sgd optimizer(optim::param_groups(net, train["rate"], setting["weight_decay"]),
                       {.momentum = setting["momentum"]});
  for (size_t step = 0; step < 3; ++step) {
    const Tensor loss = cross_entropy(net(x), y);
    const double want = train["losses"][step], float32 = train["losses_float32_difference"][step];
    CHECK(std::abs(loss.item() - want) < std::max(1e-4, 10 * float32) * want);
    optimizer.zero_grad();
    loss.backward();
    if (step == 0)
      for (const auto& [name, gradient] : train["first_gradients"].items()) {
        CAPTURE(name);
        const auto p = nn::select_parameters(net, name).at(0).parameter;
        double squares = 0;
        for (const float g : p->value().grad().values<float>())
          squares += static_cast<double>(g) * static_cast<double>(g);
        const double tolerance = std::max(1e-4, 10 * gradient["float32_difference"].get<double>());
        CHECK(std::sqrt(squares) == doctest::Approx(gradient["norm"].get<double>()).epsilon(tolerance));
      }
    optimizer.step();
  }
  for (const auto& b : nn::named_buffers(net)) {
    if (!train["running_statistics"].contains(b.name)) continue;
    CAPTURE(b.name);
    const json& want = train["running_statistics"][b.name];
    double sum = 0, scale = 0;
    for (const float v : b.buffer->value().values<float>())
      sum += static_cast<double>(v), scale += std::abs(static_cast<double>(v));
    for (size_t i = 0; i < want["first"].size(); ++i)
      CHECK(std::abs(static_cast<double>(b.buffer->value().values<float>()[i]) - want["first"][i].get<double>()) <
            1e-3);
    CHECK(std::abs(sum - want["sum"].get<double>()) < 1e-3 * scale);
  }
}

void check_network(const std::string& arch, const std::string& model) {
  for (const json& want : golden_file()["cases"]) {
    if (want["model"] != model) continue;
    const auto net = models::create(
        arch, {.classes = model.starts_with("lenet") || model.starts_with("cifar") ? 10 : 1000, .dropout = 0});
    check_names(*net, want);
    fill(*net, want["gain"]);
    for (const json& entry : want["eval"]) {
      CAPTURE(entry["shape"].dump());
      net->eval();
      const NoGrad no_grad;
      Tensor features = net->features(picture(entry["shape"]));
      check_rows(net->classify(features), entry["logits"]);
      if (features.rank() == 4) features = global_avg_pool(features);
      check_rows(features, entry["features"]);
    }
    if (want.contains("train")) check_training(*net, want["train"]);
    return;
  }
  FAIL("no golden case for " << model);
}

std::string bytes_of(const Tensor& t) { return {static_cast<const char*>(t.raw_data()), t.bytes()}; }

/// A small batch that the network takes.
Tensor small_batch(const models::ImageClassifier& net) {
  const Preprocess input = net.preprocess();
  const int64_t size = input.size <= 32 ? input.size : 64;
  return hashed("input", {1, size, size, input.channels()}, 1, 0);
}

}  // namespace

TEST_CASE("the hash is that of golden/README.md") {
  const json& check = golden_file()["hash_check"];
  for (size_t i = 0; i < check["first"].size(); ++i)
    CHECK(hash_value(fnv1a(check["name"]), static_cast<int64_t>(i)) ==
          doctest::Approx(check["first"][i].get<double>()).epsilon(1e-8));
}

TEST_CASE("resnet18 is torchvision's") { check_network("resnet18", "resnet18"); }
TEST_CASE("resnet34 is torchvision's") { check_network("resnet34", "resnet34"); }
TEST_CASE("resnet50 is torchvision's") { check_network("resnet50", "resnet50"); }
TEST_CASE("mobilenet_v2 is torchvision's") { check_network("mobilenet_v2", "mobilenet_v2"); }
TEST_CASE("squeezenet1_1 is torchvision's") { check_network("squeezenet1_1", "squeezenet1_1"); }
TEST_CASE("efficientnet_lite0 is timm's") { check_network("efficientnet_lite0", "efficientnet_lite0"); }
TEST_CASE("efficientnet_lite1 is timm's") { check_network("efficientnet_lite1", "efficientnet_lite1"); }
TEST_CASE("efficientnet_lite2 is timm's") { check_network("efficientnet_lite2", "efficientnet_lite2"); }
TEST_CASE("cifar_resnet20 is akamaster's") { check_network("cifar_resnet20", "cifar_resnet20"); }
TEST_CASE("lenet is PyTorch's, flattened by channel") { check_network("lenet", "lenet_chw"); }

TEST_CASE(
    "every network: stages hold each parameter once, the head is the last and can be replaced, the mode matters") {
  for (const std::string& arch : models::model_names()) {
    if (arch == "resnet34" || arch == "resnet50" || arch == "cifar_resnet110")
      continue;  // as resnet18, as cifar_resnet20
    CAPTURE(arch);
    manual_seed(1);
    const auto net = models::create(arch, {.classes = 6});
    std::map<std::string, int> seen;
    const auto stages = net->stages();
    for (size_t stage = 0; stage < stages.size(); ++stage) {
      std::set<std::string> in_stage;
      for (const std::string& glob : stages[stage])
        for (const auto& p : nn::select_parameters(*net, glob)) {
          CHECK_MESSAGE(in_stage.insert(p.name).second, p.name);
          ++seen[p.name];
          CHECK((stage + 1 == stages.size()) == p.name.starts_with(net->head_name() + "."));
        }
    }
    for (const auto& p : nn::named_parameters(*net)) CHECK_MESSAGE(seen[p.name] == 1, p.name);

    net->eval();
    const NoGrad no_grad;
    const Tensor x = small_batch(*net), before = net->features(x);
    CHECK((*net)(x).shape() == Shape{1, 6});
    net->replace_head(3);
    CHECK((*net)(x).shape() == Shape{1, 3});
    CHECK(bytes_of(net->features(x)) == bytes_of(before));
    CHECK(nn::select_parameters(*net, net->head_name()).size() == 2);
    CHECK(!nn::select_parameters(*net, net->head_name())[0].parameter->frozen());
    net->preprocess().check();
    const std::string printed = nn::to_string(*net);
    CHECK(printed.starts_with(net->describe()));
    CHECK(printed.find("frozen") == std::string::npos);
  }
}

TEST_CASE("every network: a stage runs the layers that its globs name, and no others") {
  for (const std::string arch : {"cifar_resnet20", "lenet", "squeezenet1_1", "resnet18", "mobilenet_v2",
                                 "mobilenet_v2_gluon", "efficientnet_lite0"}) {
    CAPTURE(arch);
    manual_seed(1);
    const auto net = models::create(arch, {.classes = 5});
    const auto by_stage = nn::modules_by_stage(*net);
    REQUIRE(by_stage.size() == net->stage_count());
    std::map<const nn::Module*, size_t> stage_of;
    for (size_t stage = 0; stage < by_stage.size(); ++stage)
      for (const auto& module : by_stage[stage]) CHECK(stage_of.emplace(module.module, stage).second);
    CHECK(stage_of.size() == nn::named_modules(*net).size());
    net->eval();
    const NoGrad no_grad;
    Tensor y = small_batch(*net);
    for (size_t stage = 0; stage < by_stage.size(); ++stage) {
      const auto see = [&](nn::Module& module, const Tensor&) {
        const bool random = dynamic_cast<nn::Dropout*>(&module) || dynamic_cast<nn::DropPath*>(&module);
        bool own_parameters = false;
        for (const auto& member : module.members()) own_parameters = own_parameters || member.parameter;
        if (own_parameters || random) CHECK_MESSAGE(stage_of.at(&module) == stage, module.describe());
      };
      const nn::Observe observe(see);
      y = net->run_stage(stage, y);
    }
    CHECK(y.shape() == Shape{1, 5});
  }
}

TEST_CASE("features_at gives the output of any layer; a convolution is seen at its BatchNorm") {
  for (const std::string arch : {"cifar_resnet20", "lenet", "squeezenet1_1", "mobilenet_v2", "mobilenet_v2_folded",
                                 "mobilenet_v2_gluon", "efficientnet_lite0"}) {
    CAPTURE(arch);
    manual_seed(1);
    const auto net = models::create(arch, {.classes = 5});
    net->eval();
    const NoGrad no_grad;
    const Tensor x = small_batch(*net), logits = (*net)(x);
    CHECK(bytes_of(models::features_at(*net, x, "")) == bytes_of(logits));
    std::set<const nn::Module*> seen;
    const auto see = [&](nn::Module& module, const Tensor& result) {
      CHECK(result.defined());
      seen.insert(&module);
    };
    {
      const nn::Observe observe(see);
      (*net)(x);
    }
    bool norms = false;
    for (const auto& module : nn::named_modules(*net)) norms = norms || dynamic_cast<nn::BatchNorm2d*>(module.module);
    for (const auto& module : nn::named_modules(*net)) {
      const bool conv = norms && dynamic_cast<nn::Conv2d*>(module.module);
      const bool unused = module.name.ends_with("drop_path");  // off in evaluation
      CHECK_MESSAGE(seen.count(module.module) == (conv || unused ? 0 : 1), module.name);
    }
    if (arch != "squeezenet1_1")  // whose head gives a map
      CHECK(bytes_of(models::features_at(*net, x, net->head_name())) == bytes_of(logits));
  }
  manual_seed(1);
  const auto net = models::create("cifar_resnet20", {.classes = 5});
  net->eval();
  const NoGrad no_grad;
  const Tensor x = small_batch(*net), map = models::features_at(*net, x, "layer3");
  CHECK(map.shape() == Shape{1, 8, 8, 64});
  CHECK(bytes_of(global_avg_pool(map)) == bytes_of(net->features(x)));
  CHECK(models::features_at(*net, x, "layer2.1.bn1").shape() == Shape{1, 16, 16, 32});
  CHECK_THROWS_WITH_AS(models::features_at(*net, x, "layer2.1.conv1"),
                       "features_at: \"layer2.1.conv1\" took no part in the forward pass. "
                       "Hint: a convolution followed by a BatchNorm is seen at the BatchNorm.",
                       UsageError);
  CHECK_THROWS_AS(models::features_at(*net, x, "layer4"), UsageError);
}

TEST_CASE("create: unknown names come with the nearest ones, and sizes that cannot be are refused") {
  CHECK_THROWS_WITH_AS(models::create("resnet19"),
                       "create: unknown architecture \"resnet19\". Nearest: resnet18, resnet34, resnet50, lenet",
                       UsageError);
  CHECK_THROWS_WITH_AS(models::create("resnet18", {.classes = 0}), "create: a network needs at least one class, got 0",
                       UsageError);
  const auto lenet = models::create("lenet", {.classes = 10});
  CHECK_THROWS_WITH_AS((*lenet)(Tensor::zeros({1, 28, 28, 3})), "lenet: x must be [N, 28, 28, 1]; got [1, 28, 28, 3]",
                       ShapeError);
}

TEST_CASE("FR15: eps and padding can be those of the weights instead of the architecture's") {
  manual_seed(1);
  const auto net = models::create("resnet18", {.classes = 2, .batch_norm_eps = 1e-3});
  for (const auto& module : nn::named_modules(*net))
    if (const auto* norm = dynamic_cast<nn::BatchNorm2d*>(module.module)) CHECK(norm->config.eps == 1e-3);
  const auto same = models::create("efficientnet_lite0", {.classes = 2}),
             torch = models::create("efficientnet_lite0", {.classes = 2, .same_padding = false});
  for (const auto& [made, is_same] : {std::pair{same.get(), true}, std::pair{torch.get(), false}})
    for (const auto& module : nn::named_modules(*made))
      if (const auto* conv = dynamic_cast<nn::Conv2d*>(module.module); conv && conv->config.kernel.h > 1)
        CHECK(conv->config.padding.same == is_same);
}
