// From the start of a process to its first prediction: MobileNetV2 from a file, one JPEG. And the loading alone.
//
//   bench_startup --python PYTHON_WITH_PEERS --threads 2
//
// tl's process is this program's own --once, the peers' are Python's, import included: that is how they are used.
#include <sys/resource.h>

#include <optional>

#include "runner/pictures.hpp"
#include "runner/program.hpp"
#include "tl/tl.hpp"

namespace {

/// A file with MobileNetV2 and random weights.
std::string made_weights() {
  const auto path = bench::scratch_folder() / ("mobilenet_v2_" TL_VERSION_STRING ".safetensors");
  if (!std::filesystem::exists(path)) {
    const auto net = tl::models::create("mobilenet_v2");
    tl::models::save_image_model(path.string(), *net, {.arch = "mobilenet_v2", .preprocess = net->preprocess()});
  }
  return path.string();
}

std::string made_photograph() {
  const auto path = bench::scratch_folder() / "photograph.jpg";
  if (!std::filesystem::exists(path)) tl::save_jpeg(path.string(), bench::made_picture(500, 375, 7));
  return path.string();
}

int64_t peak_of_children() {
  rusage used{};
  getrusage(RUSAGE_CHILDREN, &used);
  return int64_t{used.ru_maxrss} << 10;
}

}  // namespace

int main(int argc, char** argv) {
  CLI::App app("From the start of a process to its first prediction, beside PyTorch, ONNX Runtime and OpenVINO");
  bench::ProgramOptions options;
  std::string weights, picture;
  bool once = false, worker = false;
  options.add_to(app);
  app.add_option("--weights", weights, "MobileNetV2 in a file of tl's (default: random weights)");
  app.add_option("--picture", picture, "a picture (default: a made JPEG of 500 x 375)");
  app.add_flag("--once", once, "predict once and end: what is measured");
  app.add_flag("--worker", worker, "")->group("");  // how the program starts itself
  return example::run(app, argc, argv, [&] {
    if (once) {
      tl::set_threads(options.threads.at(0));
      tl::models::ImagePredictor predict(weights);
      std::printf("%s\n", predict.predict_file(picture).name.c_str());
      return 0;
    }
    if (weights.empty()) weights = made_weights();
    if (picture.empty()) picture = made_photograph();
    if (worker) {
      const std::vector<std::string> process = {
          "/proc/self/exe", "--once", "--weights", weights,
          "--picture",      picture,  "--threads", std::to_string(options.threads.at(0))};
      return bench::serve("tl " TL_VERSION_STRING, [&] { return [process] { bench::run_program(process); }; },
                          {.peak_bytes = peak_of_children});
    }

    tl::require<tl::UsageError>(options.precision == "f32", "bench_startup: this bench measures f32 alone");
    bench::Comparison comparison = options.comparison("startup");
    for (const int threads : options.thread_counts()) {
      if (!options.wants("mobilenet_v2/first_prediction", "500x375 JPEG", threads)) continue;
      std::vector<bench::Worker> workers;
      workers.emplace_back(std::vector<std::string>{"/proc/self/exe", "--worker", "--weights", weights, "--picture",
                                                    picture, "--threads", std::to_string(threads)},
                           "tl");
      for (const std::string form : {"torch", "onnxruntime", "openvino"})
        if (options.wants_peer(form))
          workers.emplace_back(options.peer_command("startup.py", {"--form", form, "--picture", picture, "--threads",
                                                                   std::to_string(threads)}),
                               form);
      std::vector<bench::Side> sides;
      for (bench::Worker& one : workers) sides.push_back(bench::side_of(one));
      comparison.run({"mobilenet_v2/first_prediction", "500x375 JPEG", threads, {.unit = "ms"}}, std::move(sides));
    }
    const std::string file_size = tl::text(std::filesystem::file_size(weights) / 1000000, " MB");
    if (options.wants("mobilenet_v2/load", file_size, 1)) {
      std::vector<bench::Side> sides = {
          bench::side_of("tl " TL_VERSION_STRING, [&] { tl::models::load_image_model(weights); })};
      std::optional<bench::Worker> torch;
      if (options.wants_peer("torch")) {
        torch.emplace(options.peer_command("startup.py", {"--form", "torch", "--load"}), "torch");
        sides.push_back(bench::side_of(*torch));
      }
      comparison.run({"mobilenet_v2/load", file_size, 1, {.unit = "ms"}}, std::move(sides));
    }
    comparison.finish();
    return 0;
  });
}
