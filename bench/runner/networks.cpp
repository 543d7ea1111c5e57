#include "runner/networks.hpp"

#include <algorithm>
#include <functional>
#include <memory>
#include <vector>

#include "runner/encoder.hpp"
#include "runner/program.hpp"

namespace bench {
namespace {

struct Network {
  std::string name;
  std::vector<int64_t> batches;
  int64_t size;  ///< of a picture, or the number of tokens
  double gflop;  ///< of one sample's forward pass: 2 for each multiply-add of convolutions and matrix products
  std::string arch = "";
};

const std::vector<Network>& networks() {
  static const std::vector<Network> list = {
      {"resnet18", {16, 1}, 224, 3.628, "resnet18"},
      {"mobilenet_v2", {16, 1}, 224, 0.602, "mobilenet_v2"},
      {"efficientnet_lite0", {16, 1}, 224, 0.770, "efficientnet_lite0"},
      {"resnet20", {128}, 32, 0.0816, "cifar_resnet20"},
      {"encoder", {16, 1}, 128, 2.869},
  };
  return list;
}

std::string name_of(Task task) {
  switch (task) {
    case Task::inference:
      return "inference";
    case Task::training:
      return "training";
    case Task::frozen_step:
      return "frozen_step";
  }
  return "?";
}

/// Whether the network has what the way of tuning learns: the CIFAR ResNet no 1x1 convolution, the others no attention.
bool suits(const Network& network, const std::string& tuning) {
  if (tuning == "lora_attention") return network.name == "encoder";
  return tuning != "lora" || network.name != "resnet20";
}

/// Leaves the head, and what the way of tuning adds or unfreezes, to learn.
void tune(tl::nn::Module& net, const std::string& head, const std::string& tuning, const tl::Tensor& sample) {
  tl::freeze_all_but(net, head);
  if (tuning == "lora") tl::add_lora(net, "**");
  if (tuning == "lora_attention")
    for (const char* projection : {"query", "key", "value", "output"})
      tl::add_lora(net, tl::text("layers.*.", projection));
  if (tuning == "ia3") tl::add_ia3(net, "**");
  if (tuning == "norms") tl::unfreeze_norms(net);
  if (tuning == "biases") tl::unfreeze_biases(net);
  if (tuning != "bottleneck") return;
  const auto modules = tl::nn::named_modules(net);
  for (const char* glob : {"layers.*.output", "layers.*.down", "blocks.*.*", "layer[1-4].*", "features.*"})
    if (std::any_of(modules.begin(), modules.end(), [&](const auto& m) { return tl::glob_match(glob, m.name); }))
      tl::add_bottlenecks(net, glob, {}, sample);
}

struct Work {
  std::function<void()> call;  ///< what is measured, with everything that it needs
  int64_t trained_parameters = 0;
};

/// With `capture` it is recorded once and replayed. A way of tuning learns two classes.
Work prepare(const Network& network, Task task, const std::string& tuning, int64_t batch, bool capture) {
  struct State {
    std::unique_ptr<tl::nn::Module> net;
    tl::Tensor x, y;
    std::unique_ptr<tl::optim::Optimizer> optimizer;
    std::unique_ptr<tl::Capture> capture;
  };
  const auto state = std::make_shared<State>();
  const bool text = network.arch.empty();
  std::vector<int32_t> labels, ids;
  for (int64_t i = 0; i < batch; ++i) labels.push_back(static_cast<int32_t>(i % 2));
  state->y = tl::Tensor::from(labels, {batch});
  std::string head;
  if (text) {
    state->net = std::make_unique<Encoder>();
    head = "head";
    for (int64_t i = 0; i < batch * network.size; ++i) ids.push_back(static_cast<int32_t>(i * 7919 % Encoder::kWords));
    state->x = tl::Tensor::from(ids, {batch, network.size});
  } else {
    auto net = tl::models::create(network.arch, {.classes = tuning.empty() ? 1000 : 2});
    head = net->head_name();
    state->net = std::move(net);
    state->x = tl::Tensor::empty({batch, network.size, network.size, 3});
    tl::nn::normal_(state->x, 0, 1);
  }
  state->net->train(task != Task::inference);
  const auto predict = [s = state.get()] { return (*s->net)(tl::in_precision(s->x)); };
  const auto work = [=, s = state.get()](const std::vector<tl::Tensor>&) {
    if (task == Task::inference) return std::vector<tl::Tensor>{predict()};
    const tl::Tensor loss = tl::cross_entropy(predict(), s->y);
    loss.backward();
    return std::vector<tl::Tensor>{loss};
  };
  if (capture) state->capture = std::make_unique<tl::Capture>(tl::Capture::Function(work));
  const auto call = [state, work] { return state->capture ? state->capture->run() : work({}); };
  if (task == Task::inference)
    return {[call] {
      const tl::NoGrad no_grad;
      call();
    }};
  if (task == Task::frozen_step) tl::freeze_all_but(*state->net, head);
  if (tuning == "recompute") {
    tl::nn::recompute_blocks(*state->net);
  } else if (!tuning.empty() && tuning != "full") {
    const tl::Tensor& x = state->x;
    tune(*state->net, head, tuning, tl::Tensor::view_of(x.storage(), 0, x.shape().with(0, 1), x.dtype()));
  }
  const auto groups = tl::optim::param_groups(*state->net, 1e-3, 1e-4);
  if (text) state->optimizer = std::make_unique<tl::optim::AdamW>(groups);
  else state->optimizer = std::make_unique<tl::optim::Sgd>(groups, tl::optim::SgdOptions{.momentum = 0.9});
  const auto step = [state, call] {
    state->optimizer->zero_grad();
    call();
    state->optimizer->step();
  };
  return {step, tl::nn::parameter_count(*state->net, /*trainable_only=*/true)};
}

int serve_network(const Network& network, Task task, const std::string& tuning, int64_t batch, bool capture) {
  int64_t trained = 0;
  const auto make = [&] {
    const Work work = prepare(network, task, tuning, batch, capture);
    trained = work.trained_parameters;
    return work.call;
  };
  return serve(capture ? "tl " TL_VERSION_STRING " captured" : "tl " TL_VERSION_STRING, make,
               {.trained_parameters = [&] { return trained; }});
}

struct NetworkCase {
  const Network& network;
  Task task;
  std::string tuning;  ///< empty: not such a run
  int64_t batch;
  int threads;

  std::string name() const { return network.name + "/" + (tuning.empty() ? name_of(task) : tuning); }
  std::string shape() const {
    return network.arch.empty() ? tl::text("[", batch, ", ", network.size, "]")
                                : tl::text("[", batch, ", ", network.size, ", ", network.size, ", 3]");
  }
  Measure measure() const {
    if (!tuning.empty()) return {.unit = "ms"};
    const auto samples = static_cast<double>(batch);
    return {.unit = "samples/s", .work = samples, .gflop = samples * network.gflop * (task == Task::training ? 3 : 1)};
  }
};

/// Starts tl and its peers, and lets them take turns.
void measure(Comparison& comparison, const ProgramOptions& options, const NetworkCase& one, bool capture) {
  std::vector<std::string> common = {"--batch",     std::to_string(one.batch), "--threads", std::to_string(one.threads),
                                     "--precision", options.precision};
  if (!one.tuning.empty()) common.insert(common.end(), {"--tuning", one.tuning});
  std::vector<std::string> own = {"/proc/self/exe", "--worker", one.network.name};
  own.insert(own.end(), common.begin(), common.end());
  std::vector<Worker> workers;
  workers.emplace_back(own, "tl");
  if (capture) {
    own.push_back("--capture");
    workers.emplace_back(own, "tl captured");
  }
  const auto add = [&](const std::string& script, const std::string& form, const std::string& peer) {
    if (!options.wants_peer(form)) return;
    std::vector<std::string> arguments = {"--form", form, "--network", one.network.name, "--task", name_of(one.task)};
    arguments.insert(arguments.end(), common.begin(), common.end());
    workers.emplace_back(options.peer_command(script, arguments), peer);
  };
  add("torch_networks.py", "eager", "torch eager");
  add("torch_networks.py", "compile", "torch compile");
  if (one.task == Task::inference) {
    add("onnx_networks.py", "onnxruntime", "onnxruntime");
    add("onnx_networks.py", "openvino", "openvino");
  }
  std::vector<Side> sides;
  for (Worker& worker : workers) sides.push_back(side_of(worker));
  comparison.run({one.name(), one.shape(), one.threads, one.measure()}, std::move(sides));
}

}  // namespace

int network_program(int argc, char** argv, Task task, const std::string& about) {
  CLI::App app(about);
  ProgramOptions options;
  options.add_to(app);
  std::string worker;
  std::vector<std::string> tunings;
  int64_t batch = 0;
  bool capture = false;
  app.add_option("--batch", batch, "another batch size than 16, 1 and (CIFAR) 128")->check(CLI::PositiveNumber);
  app.add_flag("--capture", capture, "measure tl also as a peer of itself that records its work once and replays it");
  if (task == Task::training)
    app.add_option("--tuning", tunings, "steps in which only this learns beside the head, in milliseconds")
        ->delimiter(',')
        ->check(CLI::IsMember(
            {"full", "recompute", "lora", "lora_attention", "bottleneck", "ia3", "norms", "biases", "head"}));
  app.add_option("--worker", worker, "")->group("");  // how the program starts itself, one process for each case
  return example::run(app, argc, argv, [&] {
    const bool tuned = !tunings.empty();
    if (!tuned) tunings = {""};
    if (!worker.empty()) {
      tl::set_threads(options.threads.at(0));
      tl::set_precision(tl::parse_precision(options.precision));
      for (const Network& network : networks())
        if (network.name == worker) return serve_network(network, task, tunings[0], batch, capture);
      tl::fail<tl::UsageError>("no network ", worker);
    }

    Comparison comparison = options.comparison(tuned ? "tuning" : name_of(task));
    for (const Network& network : networks()) {
      std::vector<int64_t> batches = network.batches;
      if (batch > 0) batches = {batch};
      else if (tuned) batches.resize(1);
      for (const std::string& tuning : tunings)
        for (const int64_t size : batches)
          for (const int threads : options.thread_counts()) {
            const NetworkCase one{network, task, tuning, size, threads};
            if (suits(network, tuning) && options.wants(one.name(), one.shape(), threads))
              measure(comparison, options, one, capture);
          }
    }
    comparison.finish();
    return 0;
  });
}

}  // namespace bench
