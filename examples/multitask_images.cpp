// One network, two answers about each picture: what it shows, and in which style.
//
// You learn: heads on a shared backbone, losses whose balance is learnt (uncertainty weights), and that a picture
// teaches also when one of its labels is missing. It is compared with one network for each question.
//
//   ./multitask_images pacs_subset --weights efficientnet_lite0.safetensors --size 96 --epochs 5
//   ./multitask_images pacs_subset --weights efficientnet_lite0.safetensors --size 96 --epochs 5 --missing 0.3
//
// The folder holds <style>/<object>/<picture>: each of its two levels is a label.
// Expected (seed 0, 1,120 pictures to learn from): style 0.900 and object 0.800 from one network, in 52 s; 0.904 and
// 0.807 from two of them, which have twice the parameters and take 89 s.
#include "common/program.hpp"

#include <set>

#include "common/pictures.hpp"
#include "tl/tl.hpp"

using namespace tl;

int main(int argc, char** argv) {
  CLI::App app("Teaches a network two labels of the same pictures.", "multitask_images");
  example::CommonOptions common;
  StrategyOptions options;
  std::string folder, weights, strategy = "finetune";
  double val_fraction = 0.2, missing = 0;
  int64_t size = 0;
  common.add_to(app);
  app.add_option("dir", folder, "folder with <first label>/<second label>/<picture>")->required();
  app.add_option("--weights", weights, "pretrained weights")->required();
  app.add_option("--strategy", strategy, "how the network is taught, as in finetune_images")->capture_default_str();
  app.add_option("--epochs", options.epochs, "0: the strategy's own")->check(example::count(0));
  app.add_option("--size", size, "width and height of the network's input; 0: what the weights were trained with")
      ->check(example::count(0, 4096));
  app.add_option("--val-fraction", val_fraction, "share kept for validation")
      ->check(example::within(0.001, 0.999))
      ->capture_default_str();
  app.add_option("--missing", missing, "share of the labels to hide while training")->check(example::within(0, 0.95));

  return example::run(app, argc, argv, [&] {
    common.apply();
    options.seed = common.seed;
    options.screen = common.screen();

    // The first level of folders is the data set's own label, the second one is read from the paths.
    Samples samples = list_image_folder(folder);
    const auto object_of = [](const Sample& sample) {
      return std::filesystem::path(sample.path).parent_path().filename().string();
    };
    std::set<std::string> objects;
    for (const Sample& sample : samples.items) {
      objects.insert(object_of(sample));
      require<UsageError>(std::filesystem::path(sample.path).parent_path().parent_path() != folder, sample.path,
                          ": expected <style>/<object>/<picture> below ", folder);
    }
    const std::vector<Task> tasks{{.name = "style", .classes = samples.classes},
                                  {.name = "object", .classes = {objects.begin(), objects.end()}}};
    TaskLabels labels(samples.size(), tasks.size());
    std::vector<int64_t> pairs;  // of labels, all of which shall be on both sides of the split
    for (int64_t i = 0; i < samples.size(); ++i) {
      const Sample& sample = samples.items[static_cast<size_t>(i)];
      labels.at(i, 0) = static_cast<int32_t>(sample.label);
      labels.at(i, 1) = static_cast<int32_t>(std::distance(objects.begin(), objects.find(object_of(sample))));
      pairs.push_back(sample.label * std::ssize(objects) + labels.at(i, 1));
    }
    const SplitIndices parts = split_indices(pairs, {.val_fraction = val_fraction, .seed = common.seed});
    const auto data = picture_files(std::move(samples));

    // Each label of a training picture is hidden with this probability. Validation knows them all.
    TaskLabels known = labels;
    Generator generator(common.seed);
    int64_t hidden = 0;
    for (const int64_t i : parts.train)
      for (size_t t = 0; t < tasks.size(); ++t)
        if (generator.uniform() < missing) known.at(i, t) = TaskLabels::kUnknown, ++hidden;

    struct Outcome {
      NamedValues measures;  // accuracy and weight of each task
      double seconds;
      int64_t parameters;
    };
    const auto teach = [&](const std::vector<size_t>& asked) -> Outcome {
      std::vector<Task> some;
      TaskLabels train_labels(labels.samples(), asked.size()), val_labels = train_labels;
      for (const size_t t : asked) {
        for (int64_t i = 0; i < labels.samples(); ++i) {
          train_labels.at(i, some.size()) = known.at(i, t);
          val_labels.at(i, some.size()) = labels.at(i, t);
        }
        some.push_back(tasks[t]);
      }
      const MultiTask objective(some, train_labels, val_labels, {.label_smoothing = 0.1});
      options.objective = &objective;
      models::ImageModel model = models::load_image_model(weights);
      const Preprocess input = example::with_size(model.info.preprocess, size);
      const FitResult result = train_with_strategy(
          strategy, model, View(data, parts.train, train_transform(input, small_data_augmentation())),
          View(data, parts.val, eval_transform(input)), options);
      return {result.log.epochs.back().extras, result.log.seconds, nn::parameter_count(*model.net)};
    };

    // Both questions to one network, then each to a network of its own, all with the same settings.
    nlohmann::json runs;
    for (const std::vector<size_t>& asked : {std::vector<size_t>{0, 1}, {0}, {1}}) {
      const Outcome outcome = teach(asked);
      const std::string name = asked.size() == 2 ? "both" : tasks[asked[0]].name + " alone";
      std::printf("%-13s %5.1f s, %.2f million parameters:", name.c_str(), outcome.seconds,
                  static_cast<double>(outcome.parameters) / 1e6);
      runs[name] = {{"seconds", outcome.seconds}, {"parameters", outcome.parameters}};
      for (const auto& [measure, value] : outcome.measures) {
        std::printf("  %s %.3f", measure.c_str(), value);
        runs[name][measure] = example::number(value);
      }
      std::printf("\n");
    }
    example::print_json(
        {{"train_images", parts.train.size()}, {"val_images", parts.val.size()}, {"hidden", hidden}, {"runs", runs}});
    return 0;
  });
}
