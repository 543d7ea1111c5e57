// Replays do what the function does, bit for bit; what cannot be recorded is refused; memory is planned by lifetimes.
#include "tl/autograd/capture.hpp"

#include <cmath>
#include <string>

#include "support.hpp"
#include "tl/autograd/engine.hpp"
#include "tl/core/parallel.hpp"
#include "tl/models/cifar_resnet.hpp"
#include "tl/models/efficientnet_lite.hpp"
#include "tl/models/mobilenet_v2.hpp"
#include "tl/nn/freeze.hpp"
#include "tl/nn/layers.hpp"
#include "tl/nn/linear.hpp"
#include "tl/nn/sequential.hpp"
#include "tl/ops/index.hpp"
#include "tl/ops/loss.hpp"
#include "tl/ops/reduce.hpp"
#include "tl/ops/softmax.hpp"
#include "tl/optim/optimizer.hpp"
#include "train/tasks.hpp"

namespace {

using namespace tl;
using tl_test::bytes_of;
using tl_test::cycling_labels;
using tl_test::labels;
using tl_test::normal_tensor;
using Tensors = std::vector<Tensor>;

/// What 20 steps leave: the losses, and all parameters and buffers.
struct Trained {
  std::vector<double> losses;
  std::map<std::string, std::string> weights;
  int64_t records = 0, planned_bytes = 0;
};

template <class Net>
Trained train(Net& net, const Shape& x_shape, int64_t classes, bool captured, int steps = 20) {
  manual_seed(5);
  optim::Sgd optimizer(optim::param_groups(net, 0.02, 1e-3), {.momentum = 0.9});
  Trained out;
  const auto body = [&](const Tensors& in) {
    ++out.records;
    const Tensor loss = cross_entropy(net(in[0]), in[1], {.label_smoothing = 0.1});
    loss.backward();
    return Tensors{loss};
  };
  Capture capture{Capture::Function(body)};
  for (int step = 0; step < steps; ++step) {
    const Tensors inputs{normal_tensor(x_shape, static_cast<uint64_t>(step)),
                         cycling_labels(x_shape[0], classes, step)};
    const Tensor loss = captured ? capture.run(inputs)[0] : body(inputs)[0];
    out.losses.push_back(loss.item());
    optimizer.step();
    optimizer.zero_grad();
  }
  out.weights = bytes_of(net);
  if (captured) out.planned_bytes = capture.planned_bytes();
  return out;
}

/// Trains a network twice, once by replays, on one and two threads.
template <class Make>
void check_training(const Make& make, const Shape& x_shape, int64_t classes, int steps = 20) {
  Trained first;
  for (const int count : {1, 2}) {
    CAPTURE(count);
    set_threads(count);
    manual_seed(1);
    auto eager_net = make();
    const Trained eager = train(*eager_net, x_shape, classes, false, steps);
    manual_seed(1);
    auto captured_net = make();
    const Trained captured = train(*captured_net, x_shape, classes, true, steps);
    CHECK(captured.losses == eager.losses);
    CHECK(captured.weights == eager.weights);
    CHECK(captured.records == 2);  // both dry runs of the first call, and none after
    CHECK(std::isfinite(eager.losses.back()));
    if (count == 1) first = captured;
    else CHECK(captured.weights == first.weights);
  }
  set_threads(available_threads());
}

/// What is not a kernel: random masks, statistics that move, a constant.
struct Mlp : nn::Module {
  nn::Linear first, second, last;
  nn::Dropout dropout;
  nn::DropPath path;
  nn::BatchNorm2d norm;
  TL_MEMBERS(first, second, last, dropout, path, norm)

  Mlp() : first(12, 32), second(32, 32), last(32, 5), dropout(0.4), path(0.3), norm(32) {}

  Tensor forward(const Tensor& x) override {
    Tensor y = dropout(relu(first(x)));
    y = y + path(norm(second(y))) * Tensor::from<float>({0.5f}, {1});
    return last(dropout(y));
  }
};

}  // namespace

TEST_CASE("replayed training steps equal eager ones: an MLP with dropout and BatchNorm") {
  check_training([] { return std::make_unique<Mlp>(); }, {9, 12}, 5);
}

TEST_CASE("replayed training steps equal eager ones: ResNet-20") {
  check_training([] { return std::make_unique<models::CifarResNet>(20, models::ModelOptions{.classes = 10}); },
                 {4, 16, 16, 3}, 10, 4);
}

TEST_CASE("replayed training steps equal eager ones: inverted residuals with stochastic depth") {
  check_training(
      [] {
        return std::make_unique<models::EfficientNetLite>(0, models::ModelOptions{.classes = 7, .drop_path = 0.2});
      },
      {2, 32, 32, 3}, 7, 3);
}

TEST_CASE("replayed training steps equal eager ones: a frozen backbone") {
  check_training(
      [] {
        auto net = std::make_unique<models::MobileNetV2>(models::MobileNetV2::Variant::torchvision,
                                                         models::ModelOptions{.classes = 3});
        freeze_all_but(*net, net->head_name());
        return net;
      },
      {2, 32, 32, 3}, 3, 6);
}

TEST_CASE("replayed predictions equal eager ones, and follow the weights") {
  manual_seed(1);
  models::MobileNetV2 net(models::MobileNetV2::Variant::torchvision, {.classes = 6});
  net.eval();
  const NoGrad no_grad;
  int64_t calls = 0;
  Capture predict([&](const Tensor& x) {
    ++calls;
    return softmax(net(x));
  });
  for (uint64_t seed = 0; seed < 3; ++seed) {
    const Tensor x = normal_tensor({1, 64, 64, 3}, seed);
    CHECK(bytes_of(predict(x)) == bytes_of(softmax(net(x))));
  }
  CHECK(calls == 2);
  CHECK(predict.recorded());
  CHECK(predict.report().steps >= 20);
  CHECK(predict.report().planned_bytes < predict.report().requested_bytes / 2);

  const Tensor x = normal_tensor({1, 64, 64, 3}, 9);
  const auto again = [&](const char* what) {
    CAPTURE(what);
    const int64_t before = calls;
    CHECK(bytes_of(predict(x)) == bytes_of(softmax(net(x))));
    CHECK(calls == before + 2);
    CHECK(bytes_of(predict(x)) == bytes_of(softmax(net(x))));
    CHECK(calls == before + 2);
  };
  net.classifier.weight.value().fill_(0.125);
  again("a weight of which the layer keeps a packed copy changed");
  net.first.unit.bn.running_mean.value().fill_(0.5);
  again("a statistic that is folded into a weight changed");
  net.replace_head(9);
  net.eval();
  again("another head");
  net.blocks[0].set_training_flag(true);
  again("a module's mode");
  net.dropout = nn::Dropout(0);
  again("another module");
  net.first.unit.bn.running_var = nn::Buffer(Tensor::full(net.first.unit.bn.running_var.value().shape(), 2));
  again("another statistic");
  CHECK(predict(normal_tensor({2, 64, 64, 3}, 1)).shape() == Shape{2, 9});
  CHECK(bytes_of(predict(x)) == bytes_of(softmax(net(x))));
}

TEST_CASE("an evaluation in between leaves a record as it is") {
  Mlp net;
  int64_t calls = 0;
  Capture step(Capture::Function([&](const Tensors& in) {
    ++calls;
    const Tensor loss = cross_entropy(net(in[0]), in[1]);
    loss.backward();
    return Tensors{loss};
  }));
  const Tensors inputs{normal_tensor({4, 12}, 1), cycling_labels(4, 5, 0)};
  for (int i = 0; i < 3; ++i) {
    step.run(inputs);
    net.zero_grad();
    const nn::ModeScope evaluation(net, false);
    net(inputs[0]);
  }
  CHECK(calls == 2);
}

TEST_CASE("gradients that are there are added to, others begin anew") {
  const Tensor x = normal_tensor({3, 12}, 1), y = cycling_labels(3, 5, 0);
  const auto gradients = [&](bool captured, bool zeroes) {
    manual_seed(3);
    nn::Linear net(12, 5);
    const auto body = [&](const Tensors& in) {
      if (zeroes) net.zero_grad();
      cross_entropy(net(in[0]), in[1]).backward();
      return Tensors{};
    };
    Capture capture{Capture::Function(body)};
    std::string out;
    for (int i = 0; i < 7; ++i) {
      if (i == 3 || i == 5) net.zero_grad();
      const Tensors inputs{normal_tensor({3, 12}, static_cast<uint64_t>(i)), y};
      if (captured) capture.run(inputs);
      else body(inputs);
      out += bytes_of(net.weight.value().grad()) + bytes_of(net.bias.value().grad());
    }
    return out;
  };
  for (const bool zeroes : {false, true}) CHECK(gradients(true, zeroes) == gradients(false, zeroes));

  Tensor held;
  nn::Linear net(12, 5);
  Capture capture(Capture::Function([&](const Tensors& in) {
    cross_entropy(net(in[0]), in[1]).backward();
    return Tensors{};
  }));
  cross_entropy(net(x), y).backward();
  held = net.weight.value().grad();
  const std::string before = bytes_of(held);
  capture.run({x, y});
  CHECK(bytes_of(held) == before);  // a sum is a new tensor where somebody holds the old one
  for (int64_t i = 0; i < held.numel(); ++i)
    CHECK(net.weight.value().grad().data<float>()[i] == 2 * held.data<float>()[i]);
}

TEST_CASE("what the host does is part of the record or refused") {
  const Tensor x = normal_tensor({4, 6}, 1);
  Tensor table = normal_tensor({5, 6}, 2);
  const auto refuses = [&](const char* part, const Capture::Function& function) {
    CAPTURE(part);
    Capture capture(function);
    std::string message;
    try {
      capture.run({x});
    } catch (const UsageError& error) {
      message = error.what();
    }
    CHECK_MESSAGE(message.find(part) != std::string::npos, message);
    Capture lenient(function, {.lenient = true});
    const Tensors eager = function({x}), results = lenient.run({x});
    CHECK_FALSE(lenient.recorded());
    for (size_t i = 0; i < eager.size(); ++i) CHECK(bytes_of(results[i]) == bytes_of(eager[i]));
  };
  refuses("item: not possible inside of a captured function",
          [](const Tensors& in) { return Tensors{in[0] * sum(in[0]).item()}; });
  refuses("Tensor::values: not possible",
          [](const Tensors& in) { return Tensors{in[0] * static_cast<double>(in[0].values<float>()[0])}; });
  refuses("reads or writes the numbers of a tensor of 96 bytes, after binary", [](const Tensors& in) {
    Tensor y = in[0] + in[0];
    y.mutable_data<float>()[0] = 0;
    return Tensors{y};
  });
  refuses("before its first step",
          [&](const Tensors& in) { return Tensors{affine(in[0], static_cast<double>(table.data<float>()[0]), 0)}; });
  refuses("of 96 bytes, after binary", [](const Tensors& in) {  // also if a step uses the same tensor
    const Tensor y = in[0] + in[0];
    return Tensors{affine(y, 1.0 + 0 * static_cast<double>(y.data<float>()[0]), 0)};
  });
  Generator noise_of(1);
  refuses("the function itself", [noise_of](const Tensors& in) mutable {
    Tensor noise = Tensor::empty(in[0].shape());
    noise_of = Generator(1);
    nn::normal_(noise, 0, 1, noise_of);
    return Tensors{in[0] + noise};
  });
  refuses("changes a tensor of 4 bytes that it fills", [](const Tensors& in) {
    Tensor total = Tensor::from<float>({1}, {});
    total.copy_from(sum(in[0]));
    return Tensors{total + 0.0};
  });
  Capture changes(Capture::Function([](const Tensors& in) {
                    Tensor own = in[0];
                    own.fill_(2);
                    return Tensors{own + own};
                  }),
                  {.lenient = true});
  Tensor changed = x.clone();
  CHECK(changes.run({changed})[0].data<float>()[0] == 4);
  CHECK(changed.data<float>()[0] == 2);
  CHECK_FALSE(changes.recorded());
  int64_t size = 0;
  Capture grows([&](const Tensor& in) { return Tensor::zeros({++size}) + sum(in); });
  CHECK_THROWS_WITH_AS(grows(x), "capture: the function makes other tensors when it is called again", UsageError);
  Capture wants([&](const Tensor& in) { return in + in; });
  CHECK_THROWS_AS(wants(x.clone().set_requires_grad()), UsageError);

  nn::Linear net(6, 2);
  optim::Sgd optimizer(optim::param_groups(net, 0.1));
  Capture steps([&](const Tensor& in) {
    const Tensor loss = sum(net(in));
    loss.backward();
    optimizer.step();
    return loss;
  });
  const std::string before = bytes_of(net.weight.value());
  net.zero_grad();
  CHECK_THROWS_AS(steps(x), UsageError);
  CHECK(bytes_of(net.weight.value()) == before);
  CHECK_FALSE(net.weight.value().grad().defined());

  net.weight.value().set_grad(Tensor::full({2, 6}, 3));
  Capture anew([&](const Tensor& in) {
    net.zero_grad();
    const Tensor loss = sum(net(in));
    loss.backward();
    return loss * loss.item();
  });
  CHECK_THROWS_AS(anew(x), UsageError);
  CHECK(net.weight.value().grad().data<float>()[0] == 3);
}

TEST_CASE("what a function keeps from call to call is refused, also by a lenient capture") {
  const Tensor x = normal_tensor({4, 6}, 1);
  Tensor state, mask;
  Tensors all;
  const auto refuses = [&](const char* part, const std::function<Tensor(const Tensor&)>& function) {
    CAPTURE(part);
    for (const bool lenient : {false, true}) {
      state = Tensor::zeros({4, 6}), mask = Tensor(), all.clear();
      Capture capture([&](const Tensor& in) { return function(in); }, {.lenient = lenient});
      CHECK_THROWS_WITH_AS(capture(x), doctest::Contains(part), UsageError);
    }
  };
  const auto masked = [&](const Tensor& in) {
    if (!mask.defined()) mask = Tensor::full({4, 6}, 2);
    return in * mask;
  };
  refuses("from one call for the next", [&](const Tensor& in) { return state = state + in; });
  refuses("of each call", [&](const Tensor& in) { return all.emplace_back(in + in); });
  refuses("it put aside a tensor of 96 bytes", masked);

  mask = Tensor();
  masked(x);  // as the message advises
  Capture good(masked);
  CHECK(bytes_of(good(x)) == bytes_of(masked(x)));
  Tensor last;  // what is written before it is read keeps nothing
  Capture shown([&](const Tensor& in) { return last = in + in; });
  for (uint64_t seed = 0; seed < 3; ++seed) {
    const Tensor in = normal_tensor({4, 6}, seed);
    CHECK(bytes_of(shown(in)) == bytes_of(in + in));
    CHECK(bytes_of(last) == bytes_of(in + in));
  }
}

TEST_CASE("results can be inputs of the next call, in any order") {
  Capture swaps(Capture::Function([](const Tensors& in) { return Tensors{in[1], in[0], in[0] + in[1]}; }));
  const Tensor a = normal_tensor({5}, 1), b = normal_tensor({5}, 2);
  Tensors out = swaps.run({a, b});
  CHECK(bytes_of(out[0]) == bytes_of(b));
  out = swaps.run({out[0], out[1]});
  CHECK(bytes_of(out[0]) == bytes_of(a));
  CHECK(bytes_of(out[1]) == bytes_of(b));
  CHECK(bytes_of(swaps.run({out[2], out[2]})[2]) == bytes_of((a + b) + (a + b)));
}

TEST_CASE("bfloat16: replayed training steps and predictions equal eager ones") {
  if (active_isa() != Isa::avx512) TL_SKIP("this processor has no AVX-512");
  const PrecisionScope half(Precision::bf16);
  const auto train = [](bool captured) {
    manual_seed(1);
    models::CifarResNet net(20, models::ModelOptions{.classes = 10});
    optim::Sgd optimizer(optim::param_groups(net, 0.02), {.momentum = 0.9});
    const auto body = [&](const Tensors& in) {
      const Tensor logits = cast(net(in_precision(in[0])), DType::f32);
      const Tensor loss = cross_entropy(logits, in[1]);
      loss.backward();
      return Tensors{loss, logits};
    };
    Capture capture{Capture::Function(body)};
    std::string out;
    for (int step = 0; step < 4; ++step) {
      const Tensors in{normal_tensor({4, 16, 16, 3}, static_cast<uint64_t>(step)), cycling_labels(4, 10, step)};
      for (const Tensor& result : captured ? capture.run(in) : body(in)) out += bytes_of(result);
      optimizer.step();
      optimizer.zero_grad();
    }
    net.eval();
    const NoGrad no_grad;
    const auto logits = [&](const Tensor& x) { return cast(net(in_precision(x)), DType::f32); };
    Capture predict(logits);
    for (uint64_t seed = 0; seed < 3; ++seed) {
      const Tensor x = normal_tensor({2, 16, 16, 3}, seed);
      out += bytes_of(captured ? predict(x) : logits(x));
    }
    for (const auto& [name, bytes] : bytes_of(net)) out += bytes;
    return out;
  };
  CHECK(train(true) == train(false));
}

TEST_CASE("checks of labels and indices are made in each replay") {
  const Tensor x = normal_tensor({3, 4}, 1);
  Capture loss(Capture::Function([](const Tensors& in) { return Tensors{cross_entropy(in[0], in[1])}; }));
  CHECK(loss.run({x, labels({0, 3, 1})})[0].item() == cross_entropy(x, labels({0, 3, 1})).item());
  CHECK(loss.run({x, labels({0, -100, 1})})[0].item() == cross_entropy(x, labels({0, -100, 1})).item());
  CHECK_THROWS_AS(loss.run({x, labels({0, 4, 1})}), UsageError);
  CHECK(loss.run({x, labels({-100, -100, -100})})[0].item() == 0);

  const Tensor table = normal_tensor({5, 2}, 3);
  Capture rows([&](const Tensor& ids) { return embedding(table, ids); });
  CHECK(bytes_of(rows(labels({4, 0}))) == bytes_of(embedding(table, labels({4, 0}))));
  CHECK(bytes_of(rows(labels({1, 3}))) == bytes_of(embedding(table, labels({1, 3}))));
  CHECK_THROWS_AS(rows(labels({1, 5})), UsageError);
}

TEST_CASE("tensors that the function uses without being given them are read where they are") {
  Tensor scale = Tensor::full({1}, 2);
  const Tensor x = Tensor::full({3}, 1);
  Capture twice([&](const Tensor& in) { return in * scale; });
  CHECK(twice(x).values<float>()[0] == 2);
  scale.fill_(5);
  CHECK(twice(x).values<float>()[0] == 5);
  scale.adopt_storage(Tensor::full({1}, 7));
  CHECK(twice(x).values<float>()[0] == 7);
  scale = Tensor::full({1}, 9);
  CHECK(twice(x).values<float>()[0] == 9);
  scale = Tensor::full({1}, 7);
  Capture outer([&](const Tensor& in) { return twice(in) + twice(in); });  // one in another is a part of it
  CHECK(outer(x).values<float>()[0] == 14);
}

TEST_CASE("memory of a frozen chain does not grow with its length, and stays below eager's peak") {
  const NoGrad no_grad;
  const Tensor x = normal_tensor({2, 16, 16, 8}, 1);
  const auto planned = [&](int64_t layers) {
    nn::Sequential net;
    for (int64_t i = 0; i < layers; ++i) {
      net.add(nn::Conv2d(8, 8, {.kernel = 3, .padding = 1}));
      net.add(nn::ReLU());
    }
    net.eval();
    Capture run([&](const Tensor& in) { return mean(net(in)); });
    CHECK(bytes_of(run(x)) == bytes_of(mean(net(x))));
    return run.planned_bytes();
  };
  const int64_t picture = static_cast<int64_t>(x.bytes());
  CHECK(planned(4) == planned(40));
  CHECK(planned(40) == 2 * picture);

  nn::Sequential net(nn::Linear(256, 256), nn::ReLU(), nn::Linear(256, 256), nn::ReLU(), nn::Linear(256, 2));
  const Tensor rows = normal_tensor({512, 256}, 2), truth = cycling_labels(512, 2, 0);
  const auto body = [&](const Tensors& in) {
    const Tensor loss = cross_entropy(net(in[0]), in[1]);
    loss.backward();
    return Tensors{loss};
  };
  const auto peak = [](const std::function<void()>& work) {
    reset_peak_bytes();
    const int64_t before = memory_stats().live_bytes;
    work();
    return memory_stats().peak_bytes - before;
  };
  bool& enabled = NoGrad::enabled();
  enabled = true;
  net.train();
  const int64_t eager = peak([&] { body({rows, truth}); });
  net.zero_grad();
  Capture step{Capture::Function(body)};
  const int64_t recorded = peak([&] { step.run({rows, truth}); });
  enabled = false;
  const CaptureReport report = step.report();
  CHECK(recorded <= report.planned_bytes + report.result_bytes + (1 << 16));  // recording itself takes nothing
  CHECK(report.planned_bytes <= eager);
}
