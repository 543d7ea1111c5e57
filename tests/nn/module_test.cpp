// Modules: names, freezing, tied parameters, selection, printing.
#include <cmath>
#include <cstring>
#include <memory>
#include <string>
#include <vector>

#include "support.hpp"
#include "tl/autograd/engine.hpp"
#include "tl/nn/conv.hpp"
#include "tl/nn/freeze.hpp"
#include "tl/nn/layers.hpp"
#include "tl/nn/linear.hpp"
#include "tl/nn/norm.hpp"
#include "tl/nn/sequential.hpp"
#include "tl/ops/loss.hpp"
#include "tl/ops/reduce.hpp"
#include "tl/tensor/print.hpp"

namespace {

using tl::Tensor;
namespace nn = tl::nn;

/// torchvision's BasicBlock and a small ResNet of two stages.
struct BasicBlock : nn::Module {
  nn::Conv2d conv1, conv2;
  nn::BatchNorm2d bn1, bn2;
  nn::Sequential downsample;
  TL_MEMBERS(conv1, bn1, conv2, bn2, downsample)

  BasicBlock(int64_t in, int64_t out, int64_t stride)
      : conv1(in, out, {.stride = stride, .padding = 1, .bias = false}),
        conv2(out, out, {.padding = 1, .bias = false}),
        bn1(out),
        bn2(out) {
    if (stride != 1)
      downsample =
          nn::Sequential(nn::Conv2d(in, out, {.kernel = 1, .stride = stride, .bias = false}), nn::BatchNorm2d(out));
  }
  Tensor forward(const Tensor& x) override {
    const Tensor y = conv_bn(conv1, bn1, x, tl::Activation::relu);
    return conv_bn(conv2, bn2, y, tl::Activation::relu, downsample.empty() ? x : downsample(x));
  }
};

struct Net : nn::Module {
  nn::Conv2d conv1;
  nn::BatchNorm2d bn1;
  nn::Sequential layer1, layer2;
  nn::Dropout dropout{0.5};
  nn::Linear fc;
  TL_MEMBERS(conv1, bn1, layer1, layer2, dropout, fc)

  Net()
      : conv1(3, 4, {.stride = 2, .padding = 1, .bias = false}),
        bn1(4),
        layer1(BasicBlock(4, 4, 1)),
        layer2(BasicBlock(4, 8, 2)),
        fc(8, 5) {}
  Tensor features(const Tensor& x) { return layer2(layer1(conv_bn(conv1, bn1, x, tl::Activation::relu))); }
  Tensor forward(const Tensor& x) override { return fc(dropout(global_avg_pool(features(x)))); }
};

Tensor random(const tl::Shape& shape, double mean = 0, uint64_t seed = 1) {
  Tensor out = Tensor::empty(shape);
  tl::Generator generator(seed);
  nn::normal_(out, mean, 1, generator);
  return out;
}

bool equal(const Tensor& a, const Tensor& b) {
  return a.shape() == b.shape() && std::memcmp(a.raw_data(), b.raw_data(), a.bytes()) == 0;
}

double distance(const Tensor& a, const Tensor& b) {
  double worst = 0, scale = 1e-30;
  for (int64_t i = 0; i < a.numel(); ++i) {
    worst = std::max(worst, static_cast<double>(std::abs(a.data<float>()[i] - b.data<float>()[i])));
    scale = std::max(scale, static_cast<double>(std::abs(b.data<float>()[i])));
  }
  return worst / scale;
}

/// One step of plain SGD over what is not frozen.
void step(nn::Module& net, const Tensor& loss, float rate) {
  net.zero_grad();
  loss.backward();
  for (const auto& p : nn::named_parameters(net)) {
    if (p.parameter->frozen()) continue;
    const Tensor grad = p.parameter->value().grad();
    float* value = p.parameter->value().mutable_data<float>();
    for (int64_t i = 0; i < grad.numel(); ++i) value[i] -= rate * grad.data<float>()[i];
  }
}

Tensor labels(std::initializer_list<int32_t> values) {
  return Tensor::from(values, {static_cast<int64_t>(values.size())});
}

TEST_CASE("names are those of PyTorch's state_dict, in its order") {
  Net net;
  std::vector<std::string> names;
  for (const auto& p : nn::named_parameters(net)) names.push_back(p.name);
  CHECK(names == std::vector<std::string>{
                     "conv1.weight",
                     "bn1.weight",
                     "bn1.bias",
                     "layer1.0.conv1.weight",
                     "layer1.0.bn1.weight",
                     "layer1.0.bn1.bias",
                     "layer1.0.conv2.weight",
                     "layer1.0.bn2.weight",
                     "layer1.0.bn2.bias",
                     "layer2.0.conv1.weight",
                     "layer2.0.bn1.weight",
                     "layer2.0.bn1.bias",
                     "layer2.0.conv2.weight",
                     "layer2.0.bn2.weight",
                     "layer2.0.bn2.bias",
                     "layer2.0.downsample.0.weight",
                     "layer2.0.downsample.1.weight",
                     "layer2.0.downsample.1.bias",
                     "fc.weight",
                     "fc.bias",
                 });
  std::vector<std::string> buffers;
  for (const auto& b : nn::named_buffers(net)) buffers.push_back(b.name);
  CHECK(buffers.size() == 6 * 3);
  CHECK(buffers[0] == "bn1.running_mean");
  CHECK(buffers[1] == "bn1.running_var");
  CHECK(buffers[2] == "bn1.num_batches_tracked");
  CHECK(buffers[15] == "layer2.0.downsample.1.running_mean");
  CHECK(nn::named_modules(net).front().name == "");
}

TEST_CASE("a trailing underscore of a member is not part of its name, and empty members have none") {
  struct Odd : nn::Module {
    nn::Linear proj_{2, 2, false};
    std::unique_ptr<nn::Linear> extra, none;
    nn::Parameter scale{Tensor::ones({1})};
    TL_MEMBERS(proj_, extra, none, scale)
    Odd() : extra(std::make_unique<nn::Linear>(2, 1)) {}
  } odd;
  std::vector<std::string> names;
  for (const auto& p : nn::named_parameters(odd)) names.push_back(p.name);
  CHECK(names == std::vector<std::string>{"proj.weight", "extra.weight", "extra.bias", "scale"});
}

TEST_CASE("parameters are counted once, tied ones too, with all their names at hand") {
  struct Tied : nn::Module {
    nn::Embedding shared{10, 4};
    nn::Linear head{4, 10};
    TL_MEMBERS(shared, head)
    Tied() { head.weight.tie(shared.weight); }
  } net;
  CHECK(nn::parameter_count(net) == 40 + 10);
  CHECK(nn::named_parameters(net).size() == 2);
  CHECK(nn::named_parameters(net)[0].name == "shared.weight");
  CHECK(nn::named_parameters_with_aliases(net).size() == 3);

  // One gradient from both uses, and one value.
  const Tensor y = net.head(net.shared.forward(Tensor::from({1, 2}, {2})));
  sum(y).backward();
  CHECK(net.head.weight.value().grad().is(net.shared.weight.value().grad()));
  net.shared.weight.value().fill_(0.5);
  CHECK(net.head.weight.value().data<float>()[3] == 0.5f);
  net.to(tl::DType::f64);
  CHECK(net.head.weight.value().is(net.shared.weight.value()));

  tl::freeze(net, "shared");
  CHECK(net.head.weight.frozen());
  CHECK(nn::parameter_count(net, true) == 10);
}

TEST_CASE("freezing stops gradients, drops those collected, and survives train()") {
  Net net;
  step(net, tl::cross_entropy(net(random({4, 8, 8, 3})), labels({0, 1, 2, 3})), 0.1f);
  CHECK(net.conv1.weight.value().grad().defined());
  net.set_frozen(true);
  CHECK_FALSE(net.conv1.weight.value().grad().defined());
  net.train();
  CHECK_FALSE(net.training());
  CHECK_FALSE(net.bn1.training());
  CHECK_FALSE(net.dropout.training());
  CHECK(nn::parameter_count(net, true) == 0);
  CHECK_FALSE(net(random({4, 8, 8, 3})).requires_grad());
  net.set_frozen(false);
  CHECK(net.training());
  CHECK(nn::parameter_count(net, true) == nn::parameter_count(net));
  net.eval();
  CHECK_FALSE(net.bn1.training());
}

TEST_CASE("FR01: frozen BatchNorm statistics stay, whatever train() is called on") {
  Net net;
  net.train();
  for (int i = 0; i < 3; ++i)
    step(net, tl::cross_entropy(net(random({4, 8, 8, 3}, 0, 50 + static_cast<uint64_t>(i))), labels({0, 1, 2, 3})),
         0.05f);
  tl::freeze(net, "conv1"), tl::freeze(net, "bn1"), tl::freeze(net, "layer[12].**");
  net.eval();
  const Tensor shifted = random({4, 8, 8, 3}, 3);
  const Tensor expected = net.features(shifted).detach().clone();
  net.train();
  std::vector<Tensor> before;
  for (const auto& b : nn::named_buffers(net)) before.push_back(b.buffer->value().clone());
  const Tensor head = net.fc.weight.value().clone();
  for (uint64_t i = 0; i < 20; ++i) {
    net.train();
    net.layer1.train();
    step(net, tl::cross_entropy(net(random({4, 8, 8, 3}, 3, i)), labels({0, 1, 2, 3})), 0.05f);
  }
  const auto after = nn::named_buffers(net);
  REQUIRE(after.size() == before.size());
  for (size_t i = 0; i < before.size(); ++i) {
    CAPTURE(after[i].name);
    CHECK(equal(after[i].buffer->value(), before[i]));
  }
  CHECK_FALSE(equal(net.fc.weight.value(), head));  // the rest did learn
  CHECK(equal(net.features(shifted), expected));
}

TEST_CASE("FR01: a BatchNorm frozen alone uses its running statistics while the layers around it learn") {
  Net net;
  const Tensor x = random({4, 8, 8, 3}, 3);
  tl::freeze(net, "**.bn?"), tl::freeze(net, "bn1");
  net.train();
  const Tensor mean = net.bn1.running_mean.value().clone();
  const Tensor y = net.conv1(x), z = net.bn1(y);
  CHECK(equal(net.bn1.running_mean.value(), mean));
  CHECK(net.bn1.num_batches_tracked.value().item() == 0);
  CHECK(z.requires_grad());  // conv1 below it learns
  CHECK(distance(z.detach(), (y * (1 / std::sqrt(1 + 1e-5))).detach()) < 1e-6);
  sum(square(z)).backward();
  CHECK(net.conv1.weight.value().grad().defined());
  CHECK_FALSE(net.bn1.weight.value().grad().defined());
}

TEST_CASE("globs freeze what they name, count it, and are an error when they name nothing") {
  Net net;
  CHECK(tl::freeze(net, "layer[1-2].**") == 15);
  CHECK(net.layer1.frozen());
  CHECK_FALSE(net.conv1.frozen());
  CHECK(net.layer2[0].members()[0].module->frozen());
  CHECK(tl::unfreeze(net, "layer2") == 9);
  CHECK(tl::freeze(net, "**.bias") == 7);
  CHECK_FALSE(net.bn1.frozen());  // its weight still learns
  CHECK(tl::freeze(net, "bn1.weight") == 1);
  CHECK(net.bn1.frozen());
  CHECK_THROWS_WITH_AS(tl::freeze(net, "layer3.**"),
                       "freeze: nothing matches \"layer3.**\". Nearest: layer1, layer2, layer1.0", tl::UsageError);
  tl::freeze_all_but(net, "fc");
  CHECK(nn::parameter_count(net, true) == 8 * 5 + 5);
  CHECK_FALSE(net.frozen());
}

TEST_CASE("what is frozen can be saved and restored by name") {
  Net net, other;
  tl::freeze(net, "layer1"), tl::freeze(net, "dropout"), tl::freeze(net, "bn1.weight");
  tl::freeze(other, "fc");
  tl::set_frozen_names(other, tl::frozen_names(net));
  CHECK(tl::frozen_names(other) == tl::frozen_names(net));
  CHECK(other.dropout.frozen());
  CHECK_FALSE(other.fc.frozen());
  CHECK_THROWS_WITH_AS(tl::set_frozen_names(other, {"fc3.weight"}), "frozen: the network has no \"fc3.weight\"",
                       tl::StateDictError);
}

TEST_CASE("modules and parameters are found by name, and near names are offered") {
  Net net;
  CHECK(&nn::find_module(net, "layer2.0.downsample.1") == net.layer2[0].members()[4].module->members()[1].module);
  CHECK(&nn::find_module(net, "") == &net);
  CHECK_THROWS_WITH_AS(
      nn::find_module(net, "layer2.0.conv3"),
      "find_module: there is no module \"layer2.0.conv3\". Nearest: layer2.0.conv1, layer2.0.conv2, layer1.0.conv1",
      tl::UsageError);
  CHECK_THROWS_WITH_AS(nn::find_module(net, "x"),  // the network itself, whose name is "", is no help
                       "find_module: there is no module \"x\". Nearest: fc, bn1, conv1", tl::UsageError);
  CHECK(nn::select_parameters(net, "fc.*").size() == 2);
  CHECK(nn::select_parameters(net, "layer1").size() == 6);
  CHECK(nn::select_parameters(net, "**").size() == 20);
  CHECK_THROWS_WITH_AS(nn::select_parameters(net, "fc.wieght"),
                       "select: no parameter matches \"fc.wieght\". Nearest: fc.weight, bn1.weight, fc.bias",
                       tl::UsageError);
  CHECK(nn::nearest_names("x", {}) == "There are no names.");
}

TEST_CASE("a network prints itself") {
  nn::Sequential net(nn::Conv2d(3, 8, {.kernel = 5, .stride = 2, .padding = 2}), nn::BatchNorm2d(8), nn::ReLU(),
                     nn::Sequential(nn::Flatten(), nn::Linear(8, 2, false)));
  net[1].set_frozen(true);
  CHECK(to_string(net) ==
        "Sequential\n"
        "  (0) Conv2d(3, 8, kernel = 5x5, stride = 2, padding = 2)  # 608 parameters\n"
        "  (1) BatchNorm2d(8, eps = 1e-05)  # 16 parameters, frozen\n"
        "  (2) ReLU\n"
        "  (3) Sequential\n"
        "    (0) Flatten\n"
        "    (1) Linear(8, 2, no bias)  # 16 parameters\n");
}

TEST_CASE("sequences run in order, and places can be replaced") {
  nn::Sequential net(nn::Linear(3, 4), nn::ReLU());
  net.add(nn::Linear(4, 2));
  CHECK(net.size() == 3);
  CHECK(net(random({5, 3})).shape() == tl::Shape{5, 2});
  net.replace(2, nn::Linear(4, 7));
  CHECK(net(random({5, 3})).shape() == tl::Shape{5, 7});
  CHECK_THROWS_AS(net[3], std::out_of_range);
  nn::ModuleList<nn::Linear> list;
  list.push_back(nn::Linear(3, 3)), list.push_back(nn::Linear(3, 2));
  CHECK(list(random({5, 3})).shape() == tl::Shape{5, 2});
  CHECK(nn::named_parameters(list)[2].name == "1.weight");
  CHECK(nn::Sequential()(random({5, 3})).shape() == tl::Shape{5, 3});
}

TEST_CASE("a module without a forward for one tensor says so") {
  struct Pair : nn::Module {
    std::vector<nn::Member> members() override { return {}; }
    std::string describe() const override { return "Pair"; }
  } pair;
  CHECK_THROWS_WITH_AS(pair(random({1})), "Pair: this module has no forward for a single tensor", tl::UsageError);
}

TEST_CASE("dropout acts in training alone") {
  tl::manual_seed(1);
  nn::Dropout dropout(0.5);
  const Tensor x = Tensor::ones({1000});
  CHECK_FALSE(equal(dropout(x), x));
  dropout.eval();
  CHECK(equal(dropout(x), x));
  dropout.train();
  dropout.set_frozen(true);
  CHECK(equal(dropout(x), x));
  tl::manual_seed(7);
  nn::DropPath path(0.5);
  const Tensor first = path(Tensor::ones({100, 2}));
  tl::manual_seed(7);
  CHECK(equal(path(Tensor::ones({100, 2})), first));
}

TEST_CASE("converting a network keeps its values, and its gradients in double are right") {
  Net net;
  const Tensor x = random({2, 8, 8, 3});
  net.eval();
  const Tensor narrow = net(x).detach();
  net.to(tl::DType::f64);
  CHECK(net.bn1.num_batches_tracked.value().dtype() == tl::DType::i64);
  const Tensor wide = net(x.to(tl::DType::f64)).detach();
  CHECK(wide.dtype() == tl::DType::f64);
  CHECK(distance(narrow, wide.to(tl::DType::f32)) < 1e-5);
}

}  // namespace
