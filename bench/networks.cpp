// Whole image networks on the CPU: inference and full training steps in samples per second.
//
//   bench_networks --batch 16 --size 224 --threads 2 --runs 7 [--filter resnet18] [--json FILE]
//
// Inference is a forward pass in evaluation mode; training is forward, cross-entropy, backward and an SGD step with
// momentum; frozen is a training step of the head alone, the backbone run anew for each batch. bench/compare.py sets
// the numbers beside PyTorch's from the same minutes.
#include <algorithm>
#include <cstdio>
#include <fstream>
#include <functional>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "tl/tl.hpp"

using namespace tl;

namespace {

struct Arguments {
  int64_t batch = 16, size = 224;
  int runs = 7;
  std::string filter, json;
};

Arguments parse(int argc, char** argv) {
  Arguments out;
  for (int i = 1; i < argc; ++i) {
    const std::string option = argv[i];
    require<UsageError>(
        i + 1 < argc,
        "usage: bench_networks [--batch N] [--size N] [--threads N] [--runs N] [--filter TEXT] [--json FILE]");
    const std::string value = argv[++i];
    if (option == "--batch") out.batch = std::stoll(value);
    else if (option == "--size") out.size = std::stoll(value);
    else if (option == "--threads") set_threads(std::stoi(value));
    else if (option == "--runs") out.runs = std::stoi(value);
    else if (option == "--filter") out.filter = value;
    else if (option == "--json") out.json = value;
    else fail<UsageError>("unknown option ", option);
  }
  return out;
}

/// Seconds of each of `runs` calls, after two to warm up, sorted.
std::vector<double> time_calls(int runs, const std::function<void()>& call) {
  std::vector<double> seconds;
  for (int i = -2; i < runs; ++i) {
    const Stopwatch watch;
    call();
    if (i >= 0) seconds.push_back(watch.seconds());
  }
  std::sort(seconds.begin(), seconds.end());
  return seconds;
}

/// Multiply-adds of all convolutions and linear layers for one picture, counted as the network runs.
double multiply_adds(models::ImageClassifier& net, int64_t size) {
  double total = 0;
  const auto count = [&](nn::Module& module, const Tensor& y) {
    const auto* linear = dynamic_cast<const nn::Linear*>(&module);
    if (linear) total += static_cast<double>(linear->weight.value().numel());
    if (const auto* conv = dynamic_cast<const nn::Conv2d*>(&module))
      total += static_cast<double>(conv->weight.value().numel()) * static_cast<double>(y.size(1) * y.size(2));
  };
  const nn::Observe observe(count);
  net.train();  // unfused, so that every layer is seen
  net(Tensor::zeros({2, size, size, 3}));
  return total;
}

}  // namespace

int main(int argc, char** argv) {
  try {
    const Arguments arguments = parse(argc, argv);
    nlohmann::json rows = nlohmann::json::array();
    for (const std::string arch : {"resnet18", "mobilenet_v2", "efficientnet_lite0"}) {
      Tensor x = Tensor::empty({arguments.batch, arguments.size, arguments.size, 3});
      nn::normal_(x, 0, 1);
      std::vector<int32_t> labels;
      for (int64_t i = 0; i < arguments.batch; ++i) labels.push_back(static_cast<int32_t>(i * 37 % 1000));
      const Tensor y = Tensor::from(labels, {arguments.batch});
      for (const std::string mode : {"inference", "frozen", "training"}) {
        const std::string name = arch + "/" + mode;
        if (name.find(arguments.filter) == std::string::npos) continue;
        auto net = models::create(arch);
        const double gflop = 2e-9 * multiply_adds(*net, arguments.size);
        net->train(mode != "inference");
        if (mode == "frozen") freeze_all_but(*net, net->head_name());
        optim::Sgd optimizer(optim::param_groups(*net, 1e-3), {.momentum = 0.9});
        reset_peak_bytes();
        const auto seconds = time_calls(arguments.runs, [&] {
          if (mode == "inference") {
            const NoGrad no_grad;
            (*net)(x);
            return;
          }
          optimizer.zero_grad();
          cross_entropy((*net)(x), y).backward();
          optimizer.step();
        });
        const auto rate = [&](double s) { return static_cast<double>(arguments.batch) / s; };
        const double median = rate(seconds[seconds.size() / 2]);
        rows.push_back({{"name", name},
                        {"shape", text("[", arguments.batch, ", ", arguments.size, ", ", arguments.size, ", 3]")},
                        {"samples_per_second", median},
                        {"min", rate(seconds.back())},
                        {"max", rate(seconds.front())},
                        {"gflops", median * gflop * (mode == "training" ? 3 : 1)},
                        {"peak_bytes", memory_stats().peak_bytes}});
        std::fprintf(stderr, "%-32s %8.2f samples/s (%.2f to %.2f), %.0f MB\n", name.c_str(), median,
                     rate(seconds.back()), rate(seconds.front()), static_cast<double>(memory_stats().peak_bytes) / 1e6);
      }
    }
    const nlohmann::json out = {{"tl", TL_VERSION_STRING},  {"isa", name_of(active_isa())}, {"threads", threads()},
                                {"batch", arguments.batch}, {"size", arguments.size},       {"rows", rows}};
    if (!arguments.json.empty()) std::ofstream(arguments.json) << out.dump(1) << '\n';
    std::printf("%s\n", out.dump().c_str());
    return 0;
  } catch (const UsageError& error) {
    std::fprintf(stderr, "error: %s\n", error.what());
    return 2;
  } catch (const std::exception& error) {
    std::fprintf(stderr, "error: %s\n", error.what());
    return 1;
  }
}
