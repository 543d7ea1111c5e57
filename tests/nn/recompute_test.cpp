// Modules that are computed again in backward: the bits of plain training, in less memory.
#include <functional>
#include <memory>
#include <optional>
#include <string>

#include "support.hpp"
#include "tl/autograd/capture.hpp"
#include "tl/autograd/engine.hpp"
#include "tl/autograd/gradcheck.hpp"
#include "tl/core/parallel.hpp"
#include "tl/models/cifar_resnet.hpp"
#include "tl/models/efficientnet_lite.hpp"
#include "tl/models/lenet.hpp"
#include "tl/models/mobilenet_v2.hpp"
#include "tl/models/resnet.hpp"
#include "tl/models/squeezenet.hpp"
#include "tl/nn/freeze.hpp"
#include "tl/nn/layers.hpp"
#include "tl/nn/linear.hpp"
#include "tl/nn/norm.hpp"
#include "tl/nn/sequential.hpp"
#include "tl/ops/attention.hpp"
#include "tl/ops/loss.hpp"
#include "tl/ops/reduce.hpp"
#include "tl/ops/view.hpp"
#include "tl/optim/optimizer.hpp"
#include "tl/transfer/adapters.hpp"
#include "tl/transfer/regularize.hpp"
#include "train/tasks.hpp"

namespace {

using namespace tl;
using tl_test::bytes_of;
using tl_test::cycling_labels;
using tl_test::labels;
using tl_test::normal_tensor;
using Tensors = std::vector<Tensor>;
using Bytes = std::map<std::string, std::string>;

/// A block with all that has state or randomness, whose input goes two ways. It counts its runs, and fails when told.
struct Block : nn::Module {
  nn::Linear first{8, 16}, second{16, 8};
  nn::BatchNorm2d norm{16};
  nn::Dropout dropout{0.3};
  nn::DropPath path{0.25};
  TL_MEMBERS(first, norm, dropout, second, path)

  int runs = 0, fails_in_run = 0;

  Tensor forward(const Tensor& x) override {
    ++runs;
    const Tensor y = second(dropout(relu(norm(first(x)))));
    if (runs == fails_in_run) throw std::runtime_error("told to fail");
    return x + path(y) * sigmoid(x);
  }
};

/// A chain of blocks between two layers.
struct Net : nn::Module {
  nn::Linear stem{5, 8};
  nn::ModuleList<Block> blocks;
  nn::Linear head{8, 3};
  TL_MEMBERS(stem, blocks, head)

  explicit Net(int64_t count = 3) {
    for (int64_t i = 0; i < count; ++i) blocks.push_back(Block());
  }
  Tensor forward(const Tensor& x) override { return head(blocks(stem(x))); }
};

/// A chain of chains.
struct Nested : nn::Module {
  nn::ModuleList<nn::ModuleList<Block>> groups;
  nn::Linear head{8, 3};
  TL_MEMBERS(groups, head)

  Nested() {
    for (int64_t g = 0; g < 2; ++g) {
      nn::ModuleList<Block> group;
      for (int64_t i = 0; i < 2; ++i) group.push_back(Block());
      groups.push_back(std::move(group));
    }
  }
  Tensor forward(const Tensor& x) override { return head(groups(x)); }
};

/// A layer of a text encoder.
struct EncoderLayer : nn::Module {
  static constexpr int64_t kWidth = 32;
  nn::Linear query{kWidth, kWidth}, key{kWidth, kWidth}, value{kWidth, kWidth}, output{kWidth, kWidth};
  nn::Linear up{kWidth, 4 * kWidth}, down{4 * kWidth, kWidth};
  nn::LayerNorm norm1{kWidth}, norm2{kWidth};
  nn::Dropout dropout{0.1};
  TL_MEMBERS(query, key, value, output, up, down, norm1, norm2, dropout)

  Tensor forward(const Tensor& x) override {
    const Tensor y = norm1(x, dropout(output(multi_head_attention(query(x), key(x), value(x), 4))));
    return norm2(y, dropout(down(up(y, Activation::gelu))));
  }
};

struct Encoder : nn::Module {
  nn::ModuleList<EncoderLayer> layers;
  nn::Linear head{EncoderLayer::kWidth, 2};
  TL_MEMBERS(layers, head)

  Encoder() {
    for (int64_t i = 0; i < 6; ++i) layers.push_back(EncoderLayer());
  }
  Tensor forward(const Tensor& x) override { return head(mean(layers(x), {1})); }
};

/// What some steps leave.
struct Trained {
  std::vector<double> losses;
  std::vector<Bytes> gradients;
  Bytes weights;
  Generator::State random;
  int64_t peak_bytes = 0;  // of a step, beside what is there without it; of a capture what it planned
  friend bool operator==(const Trained& a, const Trained& b) {
    return a.losses == b.losses && a.gradients == b.gradients && a.weights == b.weights && a.random == b.random;
  }
};

Bytes gradients_of(nn::Module& net) {
  Bytes out;
  for (const auto& p : nn::named_parameters(net))
    out[p.name] = p.parameter->value().grad() ? bytes_of(p.parameter->value().grad()) : "none";
  return out;
}

struct Way {
  bool recomputed = false, captured = false;
};

Trained train(nn::Module& net, const Shape& x_shape, int64_t classes, Way way, int steps) {
  manual_seed(5);
  optim::Sgd optimizer(optim::param_groups(net, 0.02, 1e-3), {.momentum = 0.9});
  Trained out;
  const auto body = [&](const Tensors& in) {
    const Tensor loss = cross_entropy(cast(net(in_precision(in[0])), DType::f32), in[1]);
    loss.backward();
    return Tensors{loss};
  };
  Capture capture{Capture::Function(body)};
  for (int step = 0; step < steps; ++step) {
    const Tensors in{normal_tensor(x_shape, static_cast<uint64_t>(step)), cycling_labels(x_shape[0], classes, step)};
    reset_peak_bytes();
    const int64_t before = memory_stats().live_bytes;
    const Tensor loss = (way.captured ? capture.run(in) : body(in))[0];
    out.peak_bytes = way.captured ? capture.planned_bytes() : memory_stats().peak_bytes - before;
    out.losses.push_back(loss.item());
    out.gradients.push_back(gradients_of(net));
    optimizer.step();
    optimizer.zero_grad();
  }
  out.weights = bytes_of(net);
  out.random = default_generator().state();
  return out;
}

using Make = std::function<std::unique_ptr<nn::Module>()>;

Trained train(const Make& make, const Shape& x_shape, int64_t classes, Way way, int steps = 3) {
  manual_seed(1);
  const auto net = make();
  if (way.recomputed) nn::recompute_blocks(*net);
  return train(*net, x_shape, classes, way, steps);
}

/// Trains in four ways, on one and two threads, to the same bits.
void check_training(const Make& make, const Shape& x_shape, int64_t classes, int steps = 3) {
  for (const int count : {1, 2}) {
    CAPTURE(count);
    set_threads(count);
    const Trained plain = train(make, x_shape, classes, {}, steps);
    CHECK(train(make, x_shape, classes, {.recomputed = true}, steps) == plain);
    CHECK(train(make, x_shape, classes, {.recomputed = true, .captured = true}, steps) == plain);
  }
  set_threads(available_threads());
}

template <class M>
Make making(int64_t classes) {
  return [classes] { return std::make_unique<M>(models::ModelOptions{.classes = classes}); };
}

/// A net of one seed, and a loss of it.
struct Ready {
  Net net;
  Tensor x = normal_tensor({6, 5});
  Tensor loss() { return cross_entropy(net(x), cycling_labels(6, 3, 0)); }
  explicit Ready(bool recomputed, int64_t count = 3) : net((manual_seed(1), count)) {
    if (!recomputed) return;
    for (int64_t i = 0; i < count; ++i) net.blocks[static_cast<size_t>(i)].set_recomputed(true);
  }
};

}  // namespace

TEST_CASE("gradients, weights, statistics and random numbers are those of plain training, eager and captured") {
  SUBCASE("blocks with dropout, stochastic depth and BatchNorm") {
    check_training([] { return std::make_unique<Net>(); }, {6, 5}, 3, 8);
  }
  SUBCASE("chains of chains") {
    check_training([] { return std::make_unique<Nested>(); }, {6, 8}, 3);
  }
  SUBCASE("stochastic norms, which look at running statistics") {
    check_training(
        [] {
          auto net = std::make_unique<Net>();
          set_stochastic_norms(*net);
          return net;
        },
        {6, 5}, 3, 6);
  }
  SUBCASE("an encoder") {
    check_training([] { return std::make_unique<Encoder>(); }, {3, 7, EncoderLayer::kWidth}, 2);
  }
  SUBCASE("ResNet-20") {
    check_training([] { return std::make_unique<models::CifarResNet>(20, models::ModelOptions{.classes = 10}); },
                   {3, 16, 16, 3}, 10);
  }
  SUBCASE("ResNet-18") {
    check_training([] { return std::make_unique<models::ResNet>(18, models::ModelOptions{.classes = 4}); },
                   {2, 40, 40, 3}, 4, 2);
  }
  SUBCASE("SqueezeNet") { check_training(making<models::SqueezeNet>(4), {2, 40, 40, 3}, 4); }
  const auto efficientnet = [] {
    return std::make_unique<models::EfficientNetLite>(0, models::ModelOptions{.classes = 5, .drop_path = 0.2});
  };
  SUBCASE("EfficientNet-Lite0 with stochastic depth") { check_training(efficientnet, {2, 32, 32, 3}, 5, 2); }
  SUBCASE("a half frozen EfficientNet-Lite0 with the statistics that it came with") {
    check_training(
        [&] {
          auto net = efficientnet();
          freeze_batch_norms(*net);
          freeze(*net, "conv_stem");
          freeze(*net, "blocks.[0-2].**");
          freeze(*net, "blocks.4.1.conv_pw");
          return net;
        },
        {2, 32, 32, 3}, 5, 2);
  }
  SUBCASE("MobileNetV2 with adapters") {
    check_training(
        [] {
          auto net = std::make_unique<models::MobileNetV2>(models::MobileNetV2::Variant::torchvision,
                                                           models::ModelOptions{.classes = 3});
          freeze_all_but(*net, net->head_name());
          add_lora(*net, "features.[2-8].**");
          add_bottlenecks(*net, "features.1?", {.width = 4}, Tensor::zeros({1, 32, 32, 3}));
          return net;
        },
        {2, 32, 32, 3}, 3, 2);
  }
}

TEST_CASE("bfloat16 training has its own bits again") {
  if (active_isa() != Isa::avx512) TL_SKIP("this processor has no AVX-512");
  const PrecisionScope half(Precision::bf16);
  check_training([] { return std::make_unique<models::CifarResNet>(20, models::ModelOptions{.classes = 10}); },
                 {4, 16, 16, 3}, 10);
  check_training([] { return std::make_unique<Encoder>(); }, {3, 7, EncoderLayer::kWidth}, 2);
}

TEST_CASE("the second run has the precision of the first") {
  if (active_isa() != Isa::avx512) TL_SKIP("this processor has no AVX-512");
  struct InPrecision : nn::Module {
    nn::Linear layer{8, 8};
    TL_MEMBERS(layer)
    Tensor forward(const Tensor& x) override { return cast(layer(in_precision(x)), DType::f32); }
  };
  std::string bytes[2];
  for (const bool recomputed : {false, true}) {
    manual_seed(1);
    InPrecision block;
    block.set_recomputed(recomputed);
    Tensor loss;
    {
      const PrecisionScope half(Precision::bf16);
      loss = sum(block(normal_tensor({4, 8})));
    }
    loss.backward();
    bytes[recomputed] = bytes_of(block.layer.weight.value().grad());
  }
  CHECK(bytes[0] == bytes[1]);
}

TEST_CASE("blocks in blocks are computed again, too") {
  const auto train_nested = [](bool groups, bool blocks) {
    manual_seed(1);
    Nested net;
    for (size_t g = 0; g < 2; ++g) {
      net.groups[g].set_recomputed(groups);
      for (size_t i = 0; i < 2; ++i) net.groups[g][i].set_recomputed(blocks);
    }
    net.set_recomputed(groups && blocks);
    const Trained out = train(net, {6, 8}, 3, {}, 4);
    CHECK(net.groups[0][0].runs == 4 * (1 + (groups ? 1 : 0) + (blocks ? 1 : 0) + (groups && blocks ? 1 : 0)));
    return out;
  };
  const Trained plain = train_nested(false, false);
  CHECK(train_nested(true, false) == plain);
  CHECK(train_nested(false, true) == plain);
  CHECK(train_nested(true, true) == plain);
}

TEST_CASE("where nothing learns nothing is run again or kept") {
  Ready ready(true);
  freeze(ready.net, "stem");
  freeze(ready.net, "blocks.[0-1].**");
  ready.loss().backward();
  CHECK(ready.net.blocks[0].runs == 1);
  CHECK(ready.net.blocks[1].runs == 1);
  CHECK(ready.net.blocks[2].runs == 2);

  Block& frozen = ready.net.blocks[0];
  const Tensor x = normal_tensor({6, 8});
  const int64_t before = memory_stats().live_bytes;
  const Tensor y = frozen(x);
  CHECK(!y.requires_grad());
  CHECK(memory_stats().live_bytes - before <= static_cast<int64_t>(y.bytes()) + 64);

  const NoGrad no_grad;
  CHECK(!ready.net.blocks[2](x).requires_grad());
  CHECK(ready.net.blocks[2].runs == 3);
}

TEST_CASE("predictions are as ever, and do not run blocks again") {
  Ready plain(false), recomputed(true);
  plain.net.eval(), recomputed.net.eval();
  CHECK(bytes_of(recomputed.net(recomputed.x)) == bytes_of(plain.net(plain.x)));
  const NoGrad no_grad;
  CHECK(bytes_of(recomputed.net(recomputed.x)) == bytes_of(plain.net(plain.x)));
  CHECK(recomputed.net.blocks[0].runs == 2);
}

TEST_CASE("inputs that others use as well, shared blocks and several backward passes add up in the same order") {
  Bytes gradients[2];
  std::string of_input[2], statistics[2];
  for (const bool recomputed : {false, true}) {
    manual_seed(1);
    Block block;
    block.set_recomputed(recomputed);
    Tensor x = normal_tensor({5, 8}).set_requires_grad();
    for (int pass = 0; pass < 2; ++pass) {
      const Tensor y = x * 0.7;
      const Tensor z = block(block(y) + y) * sigmoid(y) + block(x);
      (mean(z * z) + sum(y)).backward();
    }
    gradients[recomputed] = gradients_of(block);
    of_input[recomputed] = bytes_of(x.grad());
    statistics[recomputed] =
        bytes_of(block.norm.running_var.value()) + bytes_of(block.norm.num_batches_tracked.value());
  }
  CHECK(gradients[0] == gradients[1]);
  CHECK(of_input[0] == of_input[1]);
  CHECK(statistics[0] == statistics[1]);
}

TEST_CASE("backward may come under a NoGrad, and after other forward passes") {
  Bytes gradients[2];
  for (const bool recomputed : {false, true}) {
    Ready ready(recomputed);
    const Tensor first = ready.loss(), second = ready.loss();
    {
      const NoGrad no_grad;
      first.backward();
      CHECK(!grad_enabled());
    }
    second.backward();
    gradients[recomputed] = gradients_of(ready.net);
  }
  CHECK(gradients[0] == gradients[1]);
}

TEST_CASE("gradients of a recomputed module pass the gradient check") {
  struct Smooth : nn::Module {
    nn::Linear first{3, 5}, second{5, 3};
    nn::BatchNorm2d norm{5};
    TL_MEMBERS(first, norm, second)
    Tensor forward(const Tensor& x) override { return x * second(sigmoid(norm(first(x)))); }
  } block;
  block.to(DType::f64);
  block.set_recomputed(true);
  const std::vector<Tensor> inputs{normal_tensor({4, 3}, 2, DType::f64).set_requires_grad(), block.first.weight,
                                   block.norm.bias, block.second.weight};
  const GradcheckResult result = gradcheck([&](const std::vector<Tensor>& in) { return block(in[0]); }, inputs);
  CHECK_MESSAGE(result.passed, result.message);
}

TEST_CASE("a second backward pass is refused") {
  Ready ready(true);
  const Tensor y = ready.net.blocks[0](ready.net.stem(ready.x));
  const Tensor loss = sum(y);
  loss.backward();
  CHECK_THROWS_WITH_AS(loss.backward(), doctest::Contains("was freed by an earlier backward pass"), UsageError);
  const Bytes before = gradients_of(ready.net);
  CHECK_THROWS_WITH_AS(mean(y).backward(), doctest::Contains("graph behind recompute was freed"), UsageError);
  CHECK(gradients_of(ready.net) == before);
}

TEST_CASE("an error in the second run leaves nothing behind") {
  const auto rest = [](Ready& ready) {
    for (size_t i = 0; i < 3; ++i) ready.net.blocks[i].fails_in_run = 0;
    ready.net.zero_grad();
    ready.loss().backward();
    return std::pair(gradients_of(ready.net), bytes_of(ready.net));
  };
  Ready plain(false), failing(true);
  manual_seed(2);
  plain.loss();
  failing.net.blocks[1].fails_in_run = 2;
  manual_seed(2);
  const Tensor loss = failing.loss();
  const Bytes weights = bytes_of(failing.net);
  const Generator::State random = default_generator().state();
  const void* statistics = failing.net.blocks[1].norm.running_mean.value().identity();
  CHECK_THROWS_WITH(loss.backward(), "told to fail");
  CHECK(bytes_of(failing.net) == weights);
  CHECK(failing.net.blocks[1].norm.running_mean.value().identity() == statistics);
  CHECK(default_generator().state() == random);
  CHECK(gradients_of(failing.net)["blocks.1.first.weight"] == "none");
  CHECK(gradients_of(failing.net)["blocks.0.first.weight"] == "none");
  CHECK(grad_enabled());
  CHECK(nn::Observe::current() == nullptr);
  CHECK_THROWS_AS(loss.backward(), UsageError);
  manual_seed(3);
  const auto expected = rest(plain);
  manual_seed(3);
  CHECK(rest(failing) == expected);
}

TEST_CASE("what changed between forward and backward is refused, not computed with") {
  const auto refused = [](const char* what, const auto& change) {
    CAPTURE(what);
    Ready ready(true);
    Tensor x = ready.net.stem(ready.x).detach();
    const Tensor loss = sum(ready.net.blocks[0](x));
    change(ready.net, x);
    CHECK_THROWS_WITH_AS(loss.backward(), doctest::Contains(what), UsageError);
  };
  refused("changed between forward and backward",
          [](Net& net, Tensor&) { net.blocks[0].second.bias.value().fill_(1); });
  refused("changed between forward and backward", [](Net& net, Tensor&) { net.eval(); });
  refused("changed between forward and backward", [](Net& net, Tensor&) { net.blocks[0].first = nn::Linear(8, 16); });
  refused("changed in place", [](Net&, Tensor& x) { x.fill_(1); });
  refused("the module is gone", [](Net& net, Tensor&) { net.blocks = nn::ModuleList<Block>(); });
  refused("the module is gone", [](Net& net, Tensor&) { net.blocks[0] = Block(); });

  struct Fickle : nn::Module {
    int64_t width = 2;
    nn::Linear layer{4, 2};
    TL_MEMBERS(layer)
    Tensor forward(const Tensor& x) override { return concat(Tensors(static_cast<size_t>(width--), layer(x)), 1); }
  } fickle;
  fickle.set_recomputed(true);
  const Tensor loss = sum(fickle(normal_tensor({3, 4})));
  CHECK_THROWS_WITH_AS(loss.backward(), doctest::Contains("does not repeat itself: it gave [3, 4] in forward"),
                       UsageError);
}

TEST_CASE("parameters that were frozen since forward collect nothing") {
  Ready ready(true);
  const Tensor loss = ready.loss();
  ready.net.blocks[0].first.weight.set_frozen(true);
  for (auto& p : nn::named_parameters(ready.net.blocks[1])) p.parameter->set_frozen(true);
  loss.backward();
  const Bytes gradients = gradients_of(ready.net);
  CHECK(gradients.at("blocks.0.first.weight") == "none");
  CHECK(gradients.at("blocks.0.first.bias") != "none");
  CHECK(gradients.at("blocks.1.first.weight") == "none");
  CHECK(gradients.at("stem.weight") != "none");
}

TEST_CASE("a flag stays with a module that is moved, and a result that is the input stays the input") {
  Block block;
  block.set_recomputed(true);
  Block moved(std::move(block));
  CHECK(moved.recomputed());
  sum(moved(normal_tensor({3, 8}))).backward();
  CHECK(moved.runs == 2);

  nn::Identity identity;
  identity.set_recomputed(true);
  Tensor x = normal_tensor({3}).set_requires_grad();
  const Tensor y = x * 2.0;
  CHECK(identity(x).is(x));
  CHECK(identity(y).is(y));
}

TEST_CASE("observers see each result once, and the result of a recomputed module leads back through it") {
  Ready plain(false), recomputed(true);
  std::vector<std::string> seen[2];
  Bytes gradients[2];
  for (Ready* ready : {&plain, &recomputed}) {
    const bool which = ready == &recomputed;
    Tensor inside;
    const auto look = [&](nn::Module& module, const Tensor& result) {
      seen[which].push_back(module.describe());
      if (&module == &ready->net.blocks[1]) inside = result;
    };
    manual_seed(9);
    Tensor loss;
    {
      const nn::Observe observe(look);
      loss = ready->loss();
    }
    (loss + mean(inside * inside)).backward();
    gradients[which] = gradients_of(ready->net);
  }
  CHECK(seen[0] == seen[1]);
  CHECK(gradients[0] == gradients[1]);
}

TEST_CASE("a second run has the kernels of the first, and shows nothing to observers") {
  for (const bool observed_backward : {false, true}) {
    CAPTURE(observed_backward);
    int seen[2] = {0, 0};
    Bytes gradients[2];
    for (const bool recomputed : {false, true}) {
      manual_seed(1);
      models::EfficientNetLite net(0, {.classes = 3});
      if (recomputed) nn::recompute_blocks(net);
      const auto count = [&](nn::Module&, const Tensor&) { ++seen[recomputed]; };
      std::optional<nn::Observe> observe(count);  // under which chains run layer by layer
      const Tensor loss = cross_entropy(net(normal_tensor({2, 32, 32, 3})), cycling_labels(2, 3, 0));
      if (!observed_backward) observe.reset();
      loss.backward();
      gradients[recomputed] = gradients_of(net);
    }
    CHECK(seen[0] == seen[1]);
    CHECK(gradients[0] == gradients[1]);
  }
}

TEST_CASE("blocks are found in chains, and the last is not recomputed") {
  const auto recomputed = [](nn::Module& net) {
    std::vector<std::string> out;
    for (const auto& named : nn::named_modules(net))
      if (named.module->recomputed()) out.push_back(named.name);
    return out;
  };
  Nested nested;
  CHECK(nn::recompute_blocks(nested) == 3);
  CHECK(recomputed(nested) == std::vector<std::string>{"groups.0.0", "groups.0.1", "groups.1.0"});
  CHECK(nn::recompute_blocks(nested, false) == 3);
  CHECK(recomputed(nested).empty());

  models::EfficientNetLite net(0, {.classes = 2});
  CHECK(nn::recompute_blocks(net) == 15);
  CHECK(recomputed(net).front() == "blocks.0.0");
  CHECK(recomputed(net).back() == "blocks.5.3");
  models::ResNet with_shortcuts(18, {.classes = 2});
  CHECK(nn::recompute_blocks(with_shortcuts) == 7);
  models::LeNet plain{models::ModelOptions{.classes = 10}};
  CHECK_THROWS_WITH_AS(nn::recompute_blocks(plain), doctest::Contains("has 0 blocks. Hint: set_recomputed(true)"),
                       UsageError);
}

TEST_CASE("the peak of memory falls") {
  const auto check = [](const Make& make, const Shape& x, double at_most, double captured_at_most) {
    const auto bytes = [&](Way way) { return static_cast<double>(train(make, x, 2, way, 2).peak_bytes); };
    const double plain = bytes({}), recomputed = bytes({.recomputed = true});
    const double planned = bytes({.captured = true}), both = bytes({.recomputed = true, .captured = true});
    CAPTURE(plain);
    CAPTURE(planned);
    CHECK(recomputed < at_most * plain);
    CHECK(both < captured_at_most * planned);
    CHECK(both <= recomputed);
  };
  SUBCASE("EfficientNet-Lite0") {
    check([] { return std::make_unique<models::EfficientNetLite>(0, models::ModelOptions{.classes = 2}); },
          {16, 96, 96, 3}, 0.7, 0.6);
  }
  SUBCASE("encoder") {
    check([] { return std::make_unique<Encoder>(); }, {16, 64, EncoderLayer::kWidth}, 0.3, 0.3);
  }
}
