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

/// Leaves the head, and what the way of tuning adds or unfreezes, to learn.
void tune(tl::nn::Module& net, const std::string& head, const std::string& tuning, const tl::Tensor& sample) {
  tl::freeze_all_but(net, head);
  if (tuning == "lora") tl::add_lora(net, "**");
  if (tuning == "ia3") tl::add_ia3(net, "**");
  if (tuning == "norms") tl::unfreeze_norms(net);
  if (tuning == "biases") tl::unfreeze_biases(net);
  if (tuning != "bottleneck") return;
  const auto modules = tl::nn::named_modules(net);
  for (const char* glob : {"layers.*.output", "layers.*.down", "blocks.*.*", "layer?.*", "features.*"})
    if (std::any_of(modules.begin(), modules.end(), [&](const auto& m) { return tl::glob_match(glob, m.name); }))
      tl::add_bottlenecks(net, glob, {}, sample);
}

/// One call of what is measured, with everything that it needs; with `capture` recorded once and replayed.
std::function<void()> prepare(const Network& network, Task task, const std::string& tuning, int64_t batch,
                              bool capture) {
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
    auto net = tl::models::create(network.arch);
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
    return [call] {
      const tl::NoGrad no_grad;
      call();
    };
  if (task == Task::frozen_step) tl::freeze_all_but(*state->net, head);
  if (tuning != "full") tune(*state->net, head, tuning, tl::slice(state->x, 0, 0, 1));
  const auto groups = tl::optim::param_groups(*state->net, 1e-3, 1e-4);
  if (text) state->optimizer = std::make_unique<tl::optim::AdamW>(groups);
  else state->optimizer = std::make_unique<tl::optim::Sgd>(groups, tl::optim::SgdOptions{.momentum = 0.9});
  return [state, call] {
    state->optimizer->zero_grad();
    call();
    state->optimizer->step();
  };
}

}  // namespace

int network_program(int argc, char** argv, Task task, const std::string& about) {
  CLI::App app(about);
  ProgramOptions options;
  options.add_to(app);
  std::string worker, tuning = "full";
  int64_t batch = 0;
  bool capture = false;
  app.add_option("--batch", batch, "another batch size than 16, 1 and (CIFAR) 128")->check(CLI::PositiveNumber);
  app.add_flag("--capture", capture, "measure tl also as a peer of itself that records its work once and replays it");
  if (task == Task::training)
    app.add_option("--tuning", tuning, "what learns beside the head; ways other than full have no peer")
        ->check(CLI::IsMember({"full", "lora", "bottleneck", "ia3", "norms", "biases"}))
        ->capture_default_str();
  app.add_option("--worker", worker, "")->group("");  // how the program starts itself, one process for each case
  return example::run(app, argc, argv, [&] {
    if (!worker.empty()) {
      tl::set_threads(options.threads.at(0));
      tl::set_precision(tl::parse_precision(options.precision));
      for (const Network& network : networks())
        if (network.name == worker)
          return serve(capture ? "tl " TL_VERSION_STRING " captured" : "tl " TL_VERSION_STRING,
                       [&] { return prepare(network, task, tuning, batch, capture); });
      tl::fail<tl::UsageError>("no network ", worker);
    }

    const std::string program = name_of(task) + (tuning == "full" ? "" : "_" + tuning);
    Comparison comparison = options.comparison(program);
    for (const Network& network : networks())
      for (const int64_t size : batch > 0 ? std::vector<int64_t>{batch} : network.batches)
        for (const int threads : options.thread_counts()) {
          const std::string name = network.name + "/" + program;
          const std::string shape = network.arch.empty()
                                        ? tl::text("[", size, ", ", network.size, "]")
                                        : tl::text("[", size, ", ", network.size, ", ", network.size, ", 3]");
          if (!options.wants(name, shape, threads)) continue;
          const std::vector<std::string> common = {
              "--batch", std::to_string(size), "--threads", std::to_string(threads), "--precision", options.precision};
          std::vector<Worker> workers;
          std::vector<std::string> own = {"/proc/self/exe", "--worker", network.name};
          if (task == Task::training) own.insert(own.end(), {"--tuning", tuning});
          own.insert(own.end(), common.begin(), common.end());
          workers.emplace_back(own);
          if (capture) {
            own.push_back("--capture");
            workers.emplace_back(own);
          }
          const auto add = [&](const std::string& script, const std::string& form) {
            if (!options.wants_peer(form) || tuning != "full") return;
            std::vector<std::string> arguments = {"--form", form, "--network", network.name, "--task", program};
            arguments.insert(arguments.end(), common.begin(), common.end());
            workers.emplace_back(options.peer_command(script, arguments));
          };
          add("torch_networks.py", "eager");
          add("torch_networks.py", "compile");
          if (task == Task::inference) {
            add("onnx_networks.py", "onnxruntime");
            add("onnx_networks.py", "openvino");
          }
          std::vector<Side> sides;
          for (Worker& w : workers) sides.push_back(side_of(w));
          const auto samples = static_cast<double>(size);
          comparison.run({name,
                          shape,
                          threads,
                          {.unit = "samples/s",
                           .work = samples,
                           .gflop = samples * network.gflop * (task == Task::training ? 3 : 1)}},
                         std::move(sides));
        }
    comparison.finish();
    return 0;
  });
}

}  // namespace bench
