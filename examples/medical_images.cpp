// What does a picture from the laboratory show, and how sure may one be?
//
// You learn what an accuracy does not say: how many of the ill are found (sensitivity) and how many of the healthy are
// left in peace (specificity), that the threshold between them is chosen on pictures that are not tested on, and
// whether a probability of 0.9 means right nine times out of ten (calibration), which one number mends.
// This is a lecture and no medical device: it must not be used to diagnose anybody.
//
//   ./medical_images pneumonia_mnist --weights efficientnet_lite0.safetensors --size 96 --per-class 400
//   ./medical_images blood_cells_bccd --weights efficientnet_lite0.safetensors --size 128
//
// The folder holds train, val and test: folders of classes, or IDX files.
// Expected (seed 0): pneumonia on chest X-rays, 800 to learn from: ROC AUC 0.928; at the threshold that is best on
// validation, 0.525, sensitivity 0.874 and specificity 0.821; a temperature of 1.89 brings the calibration error from
// 0.078 to 0.034; a warning of 8 training pictures that are also in val. Blood cells: accuracy 0.991, recalls of 0.986
// and more; no cell of validation is wrong, so there is nothing to learn a temperature from.
#include "common/program.hpp"

#include "common/pictures.hpp"
#include "tl/tl.hpp"

using namespace tl;

namespace {

/// The probability of the second class, the illness, for each picture.
std::vector<float> illness(const Tensor& probabilities) {
  const Tensor values = slice(probabilities, 1, 1, 2);
  return {values.values<float>().begin(), values.values<float>().end()};
}

}  // namespace

int main(int argc, char** argv) {
  CLI::App app("Classifies medical pictures and says how far to trust the result.", "medical_images");
  example::CommonOptions common;
  example::PictureOptions pictures{.usual_names = {"normal", "pneumonia"}};
  StrategyOptions options;
  std::string weights, strategy = "features", report;
  pictures.add_to(app);
  common.add_to(app);
  app.add_option("--weights", weights, "pretrained weights")->required();
  app.add_option("--strategy", strategy, "how the network is taught, as in finetune_images")->capture_default_str();
  app.add_option("--epochs", options.epochs, "0: the strategy's own")->check(example::count(0));
  app.add_option("--report", report, "folder for report.html")->check(example::new_folder());

  return example::run(app, argc, argv, [&] {
    common.apply();
    pictures.seed = options.seed = common.seed;
    options.screen = common.screen();
    const example::PictureData data = example::open_pictures(pictures);  // warns of pictures that are on both sides
    require<UsageError>(data.test_data != nullptr, pictures.folder,
                        ": has no test pictures besides train and val, on which thresholds are chosen");
    models::ImageModel model = models::load_image_model(weights);
    model.info.preprocess = example::with_size(model.info.preprocess, pictures.size);
    const Preprocess& input = model.info.preprocess;
    const View train(data.train_data, data.train, train_transform(input, small_data_augmentation()));
    const View validation(data.val_data, data.val, eval_transform(input));
    const View test(data.test_data, data.test, eval_transform(input));
    const FitResult result = train_with_strategy(strategy, model, train, validation, options);

    // What the network says, as logits, to pictures that it did not learn from.
    auto& net = *model.net;
    const auto logits_of = [&](const View& view) {
      Loader loader(view, {.batch = 32});
      return extract_features(net, loader, [&](const Tensor& x) { return net(in_precision(x)); });
    };
    const FeatureSet val = logits_of(validation), unseen = logits_of(test);

    // How sure may one be? The temperature is fitted on validation, its effect is measured on test.
    const double temperature = fit_temperature(val.x, val.y);
    const Reliability before = reliability(unseen.x, unseen.y);
    const Reliability after = reliability(unseen.x, unseen.y, {.temperature = temperature});
    for (const ReliabilityBin& bin : after.bins)
      if (bin.count > 0)
        std::printf("%4lld answers with a probability of %.2f to %.2f: %.2f of them are right\n",
                    static_cast<long long>(bin.count), bin.low, bin.high, bin.accuracy);

    const auto& names = data.test_data->classes();
    Loader loader(test, {.batch = 32});
    const Evaluation evaluation = evaluate(net, loader, std::ssize(names));
    nlohmann::json json{{"test_accuracy", example::number(evaluation.accuracy)},
                        {"temperature", temperature},
                        {"calibration_error", before.expected_error},
                        {"calibration_error_after", after.expected_error},
                        {"train_images", data.train.size()},
                        {"test_images", data.test.size()},
                        {"on_both_sides", data.equal_pairs + data.equal_test_pairs},
                        {"seconds", result.log.seconds}};
    const Tensor probabilities = softmax(unseen.x / temperature);
    const auto truths = unseen.y.values<int32_t>();
    if (names.size() == 2) {
      const auto ill = illness(probabilities), val_ill = illness(softmax(val.x / temperature));
      const RocPoint chosen = best_roc_point(roc_curve(val_ill, val.y.values<int32_t>()));
      for (const auto& [name, threshold] : {std::pair("chosen", chosen.threshold), std::pair("one half", 0.5)}) {
        const RocPoint point = roc_point(ill, truths, threshold);
        std::printf("threshold %s (%.3f): sensitivity %.3f, specificity %.3f\n", name, threshold, point.sensitivity,
                    point.specificity);
        if (threshold != chosen.threshold) continue;
        json["threshold"] = example::number(threshold);
        json["sensitivity"] = example::number(point.sensitivity);
        json["specificity"] = example::number(point.specificity);
      }
      json["auc"] = example::number(auc(ill, truths));
    } else {
      const auto areas = one_vs_rest_auc(probabilities.values<float>(), truths);
      for (size_t c = 0; c < names.size(); ++c) {
        const double recall = evaluation.confusion.recall(static_cast<int64_t>(c));
        std::printf("%-12s recall %.3f, ROC AUC against the others %.4f\n", names[c].c_str(), recall, areas[c]);
        json["recall"][names[c]] = example::number(recall);
        json["auc"][names[c]] = example::number(areas[c]);
      }
    }
    if (!report.empty())
      example::write_report(
          report, {.title = "Medical pictures", .judged_on = "Test", .calibration = {{"After scaling", after}}},
          strategy, result.log, data, *data.test_data, evaluation);
    example::print_json(json);
    return 0;
  });
}
