// Operations that are neither matrix product nor convolution, in the shapes in which networks have them: through tl's
// public functions, with gradients where a training step needs them, beside PyTorch.
//
//   bench_layers --python PYTHON_WITH_TORCH --threads 2 --filter attention
#include <functional>
#include <memory>
#include <optional>

#include "runner/program.hpp"
#include "tl/tl.hpp"

namespace {

using tl::Shape;
using tl::Tensor;
using Prepare = std::function<std::function<void()>(const Shape&)>;

Tensor leaf(const Shape& shape) {
  Tensor x = Tensor::empty(shape);
  tl::nn::normal_(x, 0, 1);
  return x.set_requires_grad();
}

/// `function` without gradients, or with those of `leaves` for a given gradient of its result.
std::function<void()> call_of(bool training, std::vector<Tensor> leaves, std::function<Tensor()> function) {
  if (!training)
    return [function] {
      const tl::NoGrad no_grad;
      function();
    };
  const Tensor y = function();
  Tensor grad = Tensor::empty(y.shape());
  tl::nn::normal_(grad, 0, 1);
  return [leaves, function, grad]() mutable {
    for (Tensor& x : leaves) x.zero_grad();
    function().backward(grad);
  };
}

struct Layer {
  std::string name;  ///< operation/forward, operation/training or optimizer/step, as peers/torch_kernels.py knows it
  Shape shape;
  double passes = 0;  ///< how often a tensor of `shape` must be read or written at least, or
  double gflop = 0;   ///< the arithmetic, where that is the limit
  Prepare prepare;
};

Prepare on_one_input(bool training, Tensor (*function)(const Tensor&)) {
  return [training, function](const Shape& shape) {
    const Tensor x = leaf(shape);
    return call_of(training, {x}, [x, function] { return function(x); });
  };
}

template <class Rule>
Prepare optimizer_step(std::function<Rule(tl::nn::Module&)> make) {
  return [make](const Shape& shape) {
    const auto net = std::make_shared<tl::nn::Linear>(shape[0], 1, false);
    Tensor grad = Tensor::empty({1, shape[0]});
    tl::nn::normal_(grad, 0, 1);
    net->weight.value().set_grad(grad);
    const auto rule = std::make_shared<Rule>(make(*net));
    return [net, rule] { rule->step(); };
  };
}

Prepare batch_norm_relu() {
  return [](const Shape& shape) {
    const Tensor x = leaf(shape), gamma = leaf({shape[3]}), beta = leaf({shape[3]});
    Tensor mean = Tensor::zeros({shape[3]}), variance = Tensor::ones({shape[3]});
    return call_of(true, {x, gamma, beta}, [=]() mutable {
      return tl::batch_norm(x, gamma, beta, mean, variance, {.training = true, .activation = tl::Activation::relu});
    });
  };
}

Prepare attention(bool training) {
  return [training](const Shape& shape) {
    const Tensor q = leaf(shape), k = leaf(shape), v = leaf(shape);
    return call_of(training, {q, k, v}, [=] { return tl::attention(q, k, v); });
  };
}

Prepare linear_gelu(bool training) {
  return [training](const Shape& shape) {
    const Tensor x = leaf({shape[0], shape[1]}), weight = leaf({shape[2], shape[1]}), bias = leaf({shape[2]});
    return call_of(training, {x, weight, bias}, [=] { return tl::gelu(tl::linear(x, weight, bias)); });
  };
}

std::function<void()> layer_norm(const Shape& shape) {
  const Tensor x = leaf(shape), gamma = leaf({shape[1]}), beta = leaf({shape[1]});
  return call_of(true, {x, gamma, beta}, [=] { return tl::layer_norm(x, gamma, beta); });
}

std::function<void()> cross_entropy(const Shape& shape) {
  std::vector<int32_t> labels;
  for (int64_t i = 0; i < shape[0]; ++i) labels.push_back(static_cast<int32_t>(i % shape[1]));
  const Tensor x = leaf(shape), y = Tensor::from(labels, {shape[0]});
  return call_of(true, {x}, [=] { return tl::cross_entropy(x, y); });
}

const std::vector<Layer>& layers() {
  // A layer of the encoder at batch 16: 2 x 16 x 12 x 128 x 128 x 32 x 2 operations, three times that with gradients.
  constexpr double kAttention = 4e-9 * 16 * 12 * 128 * 128 * 32, kLinear = 2e-9 * 2048 * 384 * 1536;
  static const std::vector<Layer> list = {
      {.name = "batch_norm_relu/training", .shape = {16, 56, 56, 64}, .passes = 6, .prepare = batch_norm_relu()},
      {.name = "batch_norm_relu/training", .shape = {16, 14, 14, 384}, .passes = 6, .prepare = batch_norm_relu()},
      {.name = "max_pool/forward",
       .shape = {16, 112, 112, 64},
       .passes = 1.25,
       .prepare = on_one_input(
           false, [](const Tensor& x) { return tl::max_pool2d(x, {.kernel = 3, .stride = 2, .padding = 1}); })},
      {.name = "global_avg_pool/forward",
       .shape = {16, 7, 7, 1280},
       .passes = 1,
       .prepare = on_one_input(false, [](const Tensor& x) { return tl::global_avg_pool(x); })},
      {.name = "attention/forward", .shape = {16, 12, 128, 32}, .gflop = kAttention, .prepare = attention(false)},
      {.name = "attention/training", .shape = {16, 12, 128, 32}, .gflop = 3 * kAttention, .prepare = attention(true)},
      {.name = "layer_norm/training", .shape = {2048, 384}, .passes = 5, .prepare = layer_norm},
      {.name = "linear_gelu/forward", .shape = {2048, 384, 1536}, .gflop = kLinear, .prepare = linear_gelu(false)},
      {.name = "linear_gelu/training", .shape = {2048, 384, 1536}, .gflop = 3 * kLinear, .prepare = linear_gelu(true)},
      {.name = "gelu/forward",
       .shape = {2048, 1536},
       .passes = 2,
       .prepare = on_one_input(false, [](const Tensor& x) { return tl::gelu(x); })},
      {.name = "softmax/forward",
       .shape = {24576, 128},
       .passes = 2,
       .prepare = on_one_input(false, [](const Tensor& x) { return tl::softmax(x); })},
      {.name = "cross_entropy/training", .shape = {128, 1000}, .passes = 2, .prepare = cross_entropy},
      {.name = "sgd/step",
       .shape = {11'000'000},
       .passes = 5,
       .prepare = optimizer_step<tl::optim::Sgd>([](tl::nn::Module& net) {
         return tl::optim::Sgd(tl::optim::param_groups(net, 1e-3, 1e-4), {.momentum = 0.9});
       })},
      {.name = "adamw/step",
       .shape = {22'000'000},
       .passes = 7,
       .prepare = optimizer_step<tl::optim::AdamW>(
           [](tl::nn::Module& net) { return tl::optim::AdamW(tl::optim::param_groups(net, 1e-3, 1e-4)); })},
  };
  return list;
}

}  // namespace

int main(int argc, char** argv) {
  CLI::App app("BatchNorm, pooling, attention, LayerNorm, losses and optimizers, beside PyTorch");
  bench::ProgramOptions options;
  options.add_to(app);
  return example::run(app, argc, argv, [&] {
    tl::require<tl::UsageError>(options.precision == "f32", "bench_layers: this bench measures f32 alone");
    bench::Comparison comparison = options.comparison("layers");
    std::optional<bench::Worker> torch;
    if (options.wants_peer("torch")) torch.emplace(options.peer_command("torch_kernels.py", {}), "torch");
    for (const Layer& layer : layers())
      for (const int threads : options.thread_counts()) {
        const std::string shape = tl::text(layer.shape);
        if (!options.wants(layer.name, shape, threads)) continue;
        tl::set_threads(threads);
        std::vector<bench::Side> sides = {bench::side_of("tl " TL_VERSION_STRING, layer.prepare(layer.shape))};
        if (torch) {
          torch->load(nlohmann::json{{"op", layer.name},
                                     {"shape", std::vector<int64_t>(layer.shape.begin(), layer.shape.end())},
                                     {"threads", threads},
                                     {"precision", options.precision}}
                          .dump());
          sides.push_back(bench::side_of(*torch));
        }
        double gigabytes = 4e-9 * layer.passes;
        for (const int64_t size : layer.shape) gigabytes *= static_cast<double>(size);
        bench::Measure measure{.unit = "GFLOP/s", .work = layer.gflop, .gflop = layer.gflop};
        if (layer.passes > 0) measure = {.unit = "GB/s", .work = gigabytes, .gigabytes = gigabytes};
        comparison.run({layer.name, shape, threads, measure}, std::move(sides));
      }
    comparison.finish();
    return 0;
  });
}
