// Says what is on pictures, with a network that finetune_images saved or weights/convert.py made.
//
//   predict_images mine.safetensors ant.jpg bee.png
//
// The model file knows its classes and how pictures are prepared, so nothing else is needed. Each picture gives one
// JSON object on a line; one that cannot be read gives its error, and the rest go on.
#include "common/program.hpp"

#include "tl/core/stopwatch.hpp"
#include "tl/models/predict.hpp"

int main(int argc, char** argv) {
  CLI::App app("Predicts the classes of pictures.", "predict_images");
  example::CommonOptions common;
  std::string model, arch, adapters;
  std::vector<std::string> images;
  bool all_logits = false;
  app.add_option("model", model, "model file")->required();
  app.add_option("images", images, "pictures")->required();
  app.add_option("--arch", arch, "architecture, if the file does not say it");
  app.add_option("--adapters", adapters,
                 "file of finetune_images --save-adapters; the model is then the one that was trained on");
  app.add_flag("--logits", all_logits, "print all logits");
  common.add_to(app);

  return example::run(app, argc, argv, [&] {
    const tl::Device device = common.apply();
    tl::require<tl::UsageError>(device.is_cpu() || common.device == "auto",
                                "--device cuda: convolutions run on the CPU in this version");
    tl::models::ImageModel loaded = tl::models::load_image_model(model, arch);
    if (!adapters.empty()) tl::models::load_image_adapters(loaded, adapters);
    tl::models::ImagePredictor predictor(std::move(loaded));
    const tl::Stopwatch watch;
    int64_t failed = 0;
    for (const auto& path : images) {
      nlohmann::json line{{"file", path}};
      try {
        const auto prediction = predictor.predict_file(path);
        line["class"] = prediction.name;
        line["probability"] = example::number(prediction.probability);
        line["top5"] = nlohmann::json::array();
        for (const int64_t c : prediction.top(5))
          line["top5"].push_back({predictor.class_name(c), example::number(static_cast<double>(
                                                               prediction.probabilities[static_cast<size_t>(c)]))});
        if (all_logits) line["logits"] = prediction.logits;
      } catch (const tl::Error& error) {
        if (error.code() != tl::ErrorCode::io && error.code() != tl::ErrorCode::format) throw;
        line["error"] = error.what();
        ++failed;
      }
      example::print_json(line);
    }
    example::print_json({{"images", images.size()}, {"failed", failed}, {"seconds", watch.seconds()}});
    return failed > 0 ? 1 : 0;
  });
}
