// A whole job: EfficientNet-Lite0 learns to tell ants from bees. The head first, on features of all pictures, then all
// layers; decoding, augmentation and a validation after each epoch included. Beside the same job in PyTorch.
//
//   bench_finetune --python PYTHON_WITH_PEERS --pictures hymenoptera_data --weights efficientnet_lite0.safetensors
//
// Unlike in other benches one round is the default: a job takes minutes.
#include "runner/program.hpp"
#include "tl/tl.hpp"

namespace {

struct Job {
  std::string pictures, weights;
  int64_t epochs = 10, size = 0;

  std::vector<std::string> arguments() const {
    return {"--pictures",           pictures, "--weights",         weights, "--epochs",
            std::to_string(epochs), "--size", std::to_string(size)};
  }

  /// Accuracy on the validation pictures after the last epoch.
  double run() const {
    tl::models::ImageModel model = tl::models::load_image_model(weights);
    const tl::ImageFolder folder = tl::open_image_folder(pictures);
    tl::require<tl::UsageError>(folder.val.has_value(), "--pictures: needs train/<class>/... and val/<class>/...");
    tl::Preprocess& input = model.info.preprocess;
    if (size > 0) input.size = input.resize = size;
    const tl::View train(tl::picture_files(folder.train), tl::train_transform(input, tl::small_data_augmentation()));
    const tl::View validation(tl::picture_files(*folder.val), tl::eval_transform(input));
    return tl::train_with_strategy("finetune", model, train, validation, {.epochs = epochs}).last_accuracy;
  }
};

}  // namespace

int main(int argc, char** argv) {
  CLI::App app("Fine-tuning EfficientNet-Lite0 on a folder of pictures from start to end, beside PyTorch");
  bench::ProgramOptions options;
  options.rounds = 1;
  Job job;
  bool worker = false;
  options.add_to(app);
  app.add_option("--pictures", job.pictures, "folder with train/<class>/... and val/<class>/...");
  app.add_option("--weights", job.weights, "EfficientNet-Lite0 in a file of tl's");
  app.add_option("--epochs", job.epochs, "of all layers")->check(CLI::PositiveNumber)->capture_default_str();
  app.add_option("--size", job.size, "width and height of the network's input; 0: 224")
      ->check(CLI::NonNegativeNumber)
      ->capture_default_str();
  app.add_flag("--worker", worker, "")->group("");  // how the program starts itself
  return example::run(app, argc, argv, [&] {
    double accuracy = 0;
    if (worker) {
      tl::set_threads(options.threads.at(0));
      return bench::serve("tl " TL_VERSION_STRING, [&] { return [&] { accuracy = job.run(); }; },
                          {.warm_up_calls = 0, .accuracy = [&] { return accuracy; }});
    }

    tl::require<tl::UsageError>(options.precision == "f32", "bench_finetune: this bench measures f32 alone");
    bench::Comparison comparison = options.comparison("finetune");
    for (const int threads : options.thread_counts()) {
      const std::string shape = tl::text(job.epochs, " epochs");
      if (!options.wants("efficientnet_lite0/finetune", shape, threads)) continue;
      tl::require<tl::UsageError>(!job.pictures.empty() && !job.weights.empty(),
                                  "bench_finetune: --pictures and --weights are needed");
      std::vector<std::string> common = job.arguments();
      common.insert(common.end(), {"--threads", std::to_string(threads)});
      std::vector<std::string> own = {"/proc/self/exe", "--worker"};
      own.insert(own.end(), common.begin(), common.end());
      std::vector<bench::Worker> workers;
      workers.emplace_back(own, "tl");
      if (options.wants_peer("torch")) workers.emplace_back(options.peer_command("torch_finetune.py", common), "torch");
      std::vector<bench::Side> sides;
      for (bench::Worker& one : workers) sides.push_back(bench::side_of(one));
      comparison.run({"efficientnet_lite0/finetune", shape, threads, {.unit = "s"}}, std::move(sides));
    }
    comparison.finish();
    return 0;
  });
}
