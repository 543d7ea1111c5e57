// What are pretrained weights worth? Trains one network on the same few pictures in several ways and sets them side by
// side.
//
//   compare_strategies PICTURES --weights efficientnet_lite0.safetensors --per-class 50 --report out
//
// Prints a table (accuracy over the seeds, seconds, memory) and writes a report with curves, confusion matrix, mistakes
// and predictions of the first strategy.
#include "common/program.hpp"

#include "common/pictures.hpp"

int main(int argc, char** argv) {
  CLI::App app("Trains a network in several ways and compares them.", "compare_strategies");
  example::CommonOptions common;
  example::PictureOptions pictures;
  std::string arch, weights, report_folder;
  std::vector<std::string> strategies{"features", "finetune", "scratch"};
  int64_t seeds = 1;
  std::map<std::string, int64_t> epochs;
  std::map<std::string, double> rates;
  for (const auto& strategy : tl::strategies()) epochs[strategy.name] = 0, rates[strategy.name] = 0;
  tl::StrategyOptions options;
  pictures.add_to(app);
  common.add_to(app);
  app.add_option("--arch", arch, "architecture, if the weights do not say it");
  app.add_option("--weights", weights, "file from weights/fetch.py or weights/convert.py")->required();
  app.add_option("--strategies", strategies, "which, in order")->delimiter(',')->capture_default_str();
  app.add_option("--seeds", seeds, "runs of each, with seeds from --seed on")
      ->check(example::count())
      ->capture_default_str();
  for (auto& [name, count] : epochs)
    app.add_option("--epochs-" + name, count, "0: the strategy's own")->check(example::count(0));
  for (auto& [name, value] : rates)
    app.add_option("--lr-" + name, value, "0: the strategy's own")->check(example::at_least_zero());
  app.add_option("--batch", options.batch)->check(example::count())->capture_default_str();
  app.add_option("--validate-every", options.validate_every, "epochs; the last one is always validated")
      ->check(example::count());
  app.add_option("--report", report_folder, "folder for report.html and the logs")->check(example::new_folder());

  return example::run(app, argc, argv, [&] {
    const tl::Device device = common.apply();
    tl::require<tl::UsageError>(device.is_cpu() || common.device == "auto",
                                "--device cuda: convolutions run on the CPU in this version");
    for (const auto& name : strategies) tl::find_strategy(name);
    pictures.seed = common.seed;
    options.screen = common.screen();
    const example::PictureData data = example::open_pictures(pictures);

    tl::Report report{
        .title = tl::text("What pretrained weights are worth: ", std::filesystem::path(weights).stem().string())};
    nlohmann::json rows = nlohmann::json::array();
    for (const auto& name : strategies) {
      tl::RunSummary summary{.name = name, .seeds = {}};
      for (int64_t s = 0; s < seeds; ++s) {
        options.seed = common.seed + static_cast<uint64_t>(s);
        options.epochs = epochs[name];
        options.rate = rates[name];
        auto model = tl::models::load_image_model(weights, arch);
        model.info.preprocess = example::with_size(model.info.preprocess, pictures.size);
        const tl::View train(data.train_data, data.train,
                             tl::train_transform(model.info.preprocess, tl::small_data_augmentation()));
        const tl::View validation(data.val_data, data.val, tl::eval_transform(model.info.preprocess));
        tl::reset_peak_bytes();
        const tl::FitResult result = tl::train_with_strategy(name, model, train, validation, options);
        rows.push_back({{"strategy", name},
                        {"seed", options.seed},
                        {"val_accuracy", example::number(result.last_accuracy)},
                        {"best_val_accuracy", example::number(result.best_accuracy)},
                        {"seconds", example::number(result.log.seconds)},
                        {"peak_bytes", tl::memory_stats().peak_bytes},
                        {"trainable_parameters", result.log.trainable_parameters()}});
        summary.seeds.push_back(result.log);
        if (!report_folder.empty() && name == strategies.front() && s == 0) {
          tl::Loader checked(validation, {.batch = options.batch});
          const auto evaluation = tl::evaluate(*model.net, checked, static_cast<int64_t>(model.info.classes.size()));
          example::describe_predictions(report, name, *data.val_data, evaluation);
        }
      }
      report.runs.push_back(std::move(summary));
    }
    std::printf("%s", tl::render_text(report.runs).c_str());
    if (!report_folder.empty()) {
      report.facts = {{"weights", weights},
                      {"pictures", tl::text(data.train.size(), " to train, ", data.val.size(), " to validate")},
                      {"machine", example::machine()},
                      {"tl", TL_VERSION_STRING}};
      report.warnings = data.warnings;
      tl::write_report(report_folder, report);
      std::printf("report: %s/report.html\n", report_folder.c_str());
    }
    example::print_json({{"train_images", data.train.size()}, {"val_images", data.val.size()}, {"runs", rows}});
    return 0;
  });
}
