// What is wrong with a product, and where?
//
// You learn: class weights for defects that are rare, what recall shows that accuracy hides, and how a network that was
// only told which defect a picture shows also says where it is: its last feature map, seen through the head's weights.
//
//   ./product_defects magnetic_tile --extensions jpg --weights efficientnet_lite0.safetensors --report out
//
// A mask of the defect may lie beside its picture, of the same name but .png. Masks only measure the maps.
// Expected (seed 0, 474 pictures to learn from, 118 to ask about): accuracy 0.941, mean recall 0.929, the rarest defect
// (26 pictures of fray) 0.833; for 61 % of the 77 masks the strongest evidence lies in the mask or within 15 pixels
// (16 % by chance); the AUC over pixels is 0.835. Neighbours may show one tile: a kind split, see --group-regex.
#include "common/program.hpp"

#include "common/localisation.hpp"
#include "common/pictures.hpp"
#include "common/sheet.hpp"
#include "tl/tl.hpp"

using namespace tl;

namespace {

/// Evidence for a class at each place of the last feature map, from 0 to 255, at the network's input size. A logit is
/// the mean over places of head(map), so the head also says what each place adds to it (Zhou et al., 2016).
Image evidence_for(int64_t of, models::ImageClassifier& net, const std::string& layer, const Tensor& x) {
  const nn::ModeScope evaluation(net, false);
  const NoGrad no_grad;
  const auto* head = dynamic_cast<nn::Linear*>(&nn::find_module(net, net.head_name()));
  const Tensor map = models::features_at(net, x, layer);
  require<UsageError>(head && map.rank() == 4 && map.size(3) == head->weight.value().size(1), "--layer ", layer,
                      ": expected the map that a linear head averages, got ", map.shape());
  const Image heat = example::channel_of(linear(map, head->weight, head->bias), of);
  return resize(heat, x.size(2), x.size(1), Interpolation::bicubic);
}

}  // namespace

int main(int argc, char** argv) {
  CLI::App app("Tells which defect a product has, and where.", "product_defects");
  example::CommonOptions common;
  example::PictureOptions pictures;
  StrategyOptions options;
  std::string weights, strategy = "features", layer = "bn2", report;
  pictures.add_to(app);
  common.add_to(app);
  app.add_option("--weights", weights, "pretrained weights")->required();
  app.add_option("--strategy", strategy, "how the network is taught, as in finetune_images")->capture_default_str();
  app.add_option("--epochs", options.epochs, "0: the strategy's own")->check(example::count(0));
  app.add_option("--layer", layer, "whose map the head averages; ResNet: layer4")->capture_default_str();
  app.add_option("--report", report, "folder for report.html and where.png")->check(example::new_folder());

  return example::run(app, argc, argv, [&] {
    common.apply();
    pictures.seed = options.seed = common.seed;
    options.screen = common.screen();
    models::ImageModel model = models::load_image_model(weights);
    const example::PictureData data = example::open_pictures(pictures);
    const auto classes = std::ssize(data.train_data->classes());

    // The whole picture is squeezed into the input: a central crop would cut defects off.
    model.info.preprocess = example::with_size(model.info.preprocess, pictures.size);
    const Preprocess& input = model.info.preprocess;
    const ResizeTo squeeze{input.size, input.size, input.interpolation};
    const View train(data.train_data, data.train, Pipeline(input, {squeeze, RandomHorizontalFlip{}}));
    const View validation(data.val_data, data.val, Pipeline(input, {squeeze}));
    const Classification objective(classes, {.class_weight = example::balancing_weights(data)});
    options.objective = &objective;

    // What cannot be meant is refused before training: masks among the pictures, a layer that is none.
    for (const int64_t i : data.val) example::mask_of(data.val_data->name(i));
    const Tensor black = Tensor::zeros({1, input.size, input.size, input.channels()});
    evidence_for(0, *model.net, layer, black);
    const FitResult result = train_with_strategy(strategy, model, train, validation, options);

    // Which? A rare defect that is never found hardly changes the accuracy; its recall says so.
    Loader loader(validation, {.batch = 16});
    const Evaluation evaluation = evaluate(*model.net, loader, classes);
    nlohmann::json recall;
    for (int64_t c = 0; c < classes; ++c) {
      const std::string& name = data.val_data->classes()[static_cast<size_t>(c)];
      recall[name] = example::number(evaluation.confusion.recall(c));
      std::printf("%-14s %3lld pictures, recall %.3f\n", name.c_str(),
                  static_cast<long long>(evaluation.confusion.samples_of(c)), evaluation.confusion.recall(c));
    }

    // Where?
    Mean hits, chance, area;
    std::vector<std::vector<example::Tile>> sheet;
    for (const int64_t i : data.val) {
      const std::string mask_file = example::mask_of(data.val_data->name(i));
      if (mask_file.empty()) continue;
      Generator unused;
      const Image picture = squeeze(data.val_data->picture(i), unused), mask = squeeze(load_image(mask_file), unused);
      Tensor x = black.clone();
      validation.pipeline(picture, x.mutable_data<float>());
      const Image heat = evidence_for(data.val_data->label(i), *model.net, layer, x);
      const example::Localisation found = example::localise(heat, mask);
      if (std::isnan(found.auc)) continue;  // a mask that is empty at this size
      hits.add(found.hit), chance.add(found.chance), area.add(found.auc);
      sheet.push_back(
          {{picture}, {mask}, {example::heat_over(picture, heat), found.hit ? example::kGreen : example::kRed}});
    }
    if (!report.empty()) {
      example::save_sheet(report, "where.png", sheet, 128);
      example::write_report(report, {.title = "Product defects"}, strategy, result.log, data, *data.val_data,
                            evaluation);
    }
    example::print_json({{"val_accuracy", example::number(evaluation.accuracy)},
                         {"balanced_accuracy", example::number(evaluation.confusion.balanced_accuracy())},
                         {"recall", recall},
                         {"masks", std::ssize(sheet)},
                         {"pointing", example::number(hits.value())},
                         {"pointing_by_chance", example::number(chance.value())},
                         {"pixel_auc", example::number(area.value())},
                         {"train_images", data.train.size()},
                         {"val_images", data.val.size()},
                         {"seconds", example::number(result.log.seconds)}});
    return 0;
  });
}
