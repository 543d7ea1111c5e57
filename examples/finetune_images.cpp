// Teaches a pretrained image network your classes, from a folder of pictures.
//
//   finetune_images PICTURES --weights efficientnet_lite0.safetensors --strategy finetune --save mine.safetensors
//   --report out
//
// PICTURES holds train/<class>/... and val/<class>/..., or <class>/... alone and is then split. Strategies:
//   features  the network stays as it is, a new head learns on its features      100 to 1,000 pictures, seconds
//   lp_ft     the head to its best on features, then all layers with one small rate
//   gradual   from the head down one more stage learns with each epoch
//   finetune  all layers learn, the lower the slower                             1,000 to 10,000 pictures, minutes
//   surgical  the head and the stages that want to change most learn
//   wise_ft   lp_ft, then weights between before and after: robust when pictures change later
//   lora, adapters, bitfit, norms
//             the network stays as it is, and a few per cent as many numbers learn: small files (--save-adapters),
//             little memory
//   scratch   random weights: what the pretrained ones are worth
// With the weights of EfficientNet-Lite0, 244 pictures of ants and bees give about 94 % with any but the last, which
// hardly does more than guess.
#include "common/program.hpp"

#include "common/pictures.hpp"
#include "common/regularize.hpp"

int main(int argc, char** argv) {
  CLI::App app("Teaches a pretrained image network new classes.", "finetune_images");
  example::CommonOptions common;
  example::PictureOptions pictures;
  std::string arch, weights, strategy_name = "finetune", save, save_adapters, report_folder, events_folder;
  tl::StrategyOptions options;
  bool keep_best = false, augment = true, find_lr = false;
  example::Regularization regularization;
  pictures.add_to(app);
  common.add_to(app);
  regularization.add_to(app);
  app.add_option("--arch", arch, "architecture, if the weights do not say it");
  app.add_option("--weights", weights,
                 "file from weights/fetch.py or weights/convert.py; not needed with --strategy scratch");
  std::string names;
  for (const auto& strategy : tl::strategies()) names += "\n" + strategy.name + ": " + strategy.summary;
  app.add_option("--strategy", strategy_name, "one of" + names)->capture_default_str();
  app.add_option("--epochs", options.epochs, "0: the strategy's own (features 60 of the head, others 10)")
      ->check(example::count(0));
  app.add_option("--lr", options.rate, "learning rate of the head; 0: the strategy's own")
      ->check(example::at_least_zero());
  app.add_option("--backbone-factor", options.backbone_factor,
                 "rate of the stage below the head over the head's; 0: the strategy's own")
      ->check(example::within(0, 1));
  app.add_flag("!--no-head-first", options.head_first,
               "finetune, gradual: begin with a random head instead of one fitted on features");
  app.add_flag("!--train-norms", options.freeze_norms, "let BatchNorm's statistics and scales move (large data)");
  app.add_option("--layer-decay", options.layer_decay, "factor of the rate from stage to stage towards the input")
      ->check(example::within(0, 1));
  app.add_option("--weight-decay", options.weight_decay, "AdamW's")
      ->check(example::at_least_zero())
      ->capture_default_str();
  app.add_option("--label-smoothing", options.label_smoothing, "0.1 where the backbone learns, else 0, unless given")
      ->check(example::within(0, 1));
  app.add_option("--batch", options.batch)->check(example::count())->capture_default_str();
  app.add_flag("!--no-augment", augment, "train on the pictures as they are");
  app.add_option("--epochs-per-stage", options.unfreeze.epochs_per_stage,
                 "gradual: epochs until the next stage learns; 0: when the validation loss stands still")
      ->check(example::count(0))
      ->capture_default_str();
  app.add_option("--surgical-stages", options.surgical_stages, "surgical: stages besides the head that learn")
      ->check(example::count())
      ->capture_default_str();
  app.add_option("--rank", options.lora.rank, "lora: of the change to each weight")
      ->check(example::count(1, 4096))
      ->capture_default_str();
  app.add_option("--lora-alpha", options.lora.alpha, "lora: the change counts alpha / rank times")
      ->check(example::within(0, 1e6))
      ->capture_default_str();
  app.add_option("--adapter-width", options.adapter_width, "adapters: width of each")
      ->check(example::count(1, 4096))
      ->capture_default_str();
  app.add_option("--targets", options.targets,
                 "lora, adapters: glob of the modules that get one, such as \"blocks.[3-6].**\"; all unless given");
  app.add_option("--alpha", options.alpha, "wise_ft: share of the fine-tuned weights")
      ->check(example::within(0, 1))
      ->capture_default_str();
  app.add_option("--average", options.average, "validate and keep a moving average of the weights with this decay")
      ->check(example::within(0, 0.99999));
  app.add_option("--patience", options.patience, "stop after so many epochs without a better validation accuracy")
      ->check(example::count(0));
  app.add_flag(
      "--recompute", options.recompute,
      "keep only each block's input and run the block again in backward: less memory, more time, the same bits");
  app.add_flag("--test-flips", options.test_flips, "validate on the mean of each picture and its mirror image");
  app.add_option("--variants", options.variants,
                 "augmentations of each picture whose features are kept; 0: 4 while only the head learns, else none")
      ->check(example::count(0, 1000));
  const std::map<std::string, tl::CacheStorage> storages{
      {"memory", tl::CacheStorage::memory}, {"disk", tl::CacheStorage::disk}, {"none", tl::CacheStorage::none}};
  std::string storage = "memory";
  app.add_option("--feature-cache", storage, "where features of the frozen part are kept: memory, disk or none")
      ->check(CLI::IsMember({"memory", "disk", "none"}))
      ->capture_default_str();
  app.add_option("--feature-cache-dir", options.cache.folder, "folder for --feature-cache disk, for later runs too")
      ->check(example::new_folder());
  app.add_flag("--keep-best", keep_best, "save the best epoch instead of the last");
  app.add_option("--save", save, "file for the trained network")->check(example::new_file());
  app.add_option("--save-adapters", save_adapters,
                 "file for what was trained alone; predict_images takes it beside the weights that were trained on")
      ->check(example::new_file());
  app.add_option("--checkpoint", options.checkpoint, "file to write after each epoch, and to go on from")
      ->check(example::new_file());
  app.add_flag("--find-lr", find_lr, "try rates instead of training, and suggest one for --lr; curve in --report");
  app.add_option("--report", report_folder, "folder for report.html and the logs")->check(example::new_folder());
  app.add_option("--tensorboard", events_folder, "folder for TensorBoard's event files, written after each epoch")
      ->check(example::new_folder());

  return example::run(app, argc, argv, [&] {
    const tl::Device device = common.apply();
    tl::require<tl::UsageError>(device.is_cpu() || common.device == "auto",
                                "--device cuda: convolutions run on the CPU in this version");
    const tl::Strategy& strategy = tl::find_strategy(strategy_name);
    tl::require<tl::UsageError>(
        !weights.empty() || !strategy.pretrained,
        "--weights is needed for this strategy. Hint: python3 weights/fetch.py efficientnet_lite0");
    pictures.seed = options.seed = common.seed;
    options.screen = common.screen();
    options.keep_best = keep_best;
    options.cache.storage = storages.at(storage);

    tl::models::ImageModel model;
    if (!weights.empty()) model = tl::models::load_image_model(weights, arch);
    else {
      tl::require<tl::UsageError>(!arch.empty(), "--arch or --weights is needed to know which network to train");
      model.info.arch = arch;
      model.net = tl::models::create(arch);
      model.info.preprocess = model.net->preprocess();
    }
    for (const auto& note : model.report.notes) std::fprintf(stderr, "note: %s\n", note.c_str());

    const example::PictureData data = example::open_pictures(pictures);
    model.info.preprocess = example::with_size(model.info.preprocess, pictures.size);
    const tl::Preprocess& input = model.info.preprocess;
    const tl::View train(data.train_data, data.train,
                         augment ? tl::train_transform(input, regularization.augmented(tl::small_data_augmentation()))
                                 : tl::eval_transform(input));
    const tl::View validation(data.val_data, data.val, tl::eval_transform(input));
    regularization.apply(options, weights, arch, train);

    const std::vector<std::pair<std::string, std::string>> facts = {
        {"network", model.info.arch},
        {"weights", weights.empty() ? "random" : weights},
        {"strategy", strategy_name},
        {"pictures", tl::text(data.train.size(), " to train, ", data.val.size(), " to validate")},
        {"seed", std::to_string(common.seed)},
        {"machine", example::machine()},
        {"tl", TL_VERSION_STRING}};
    if (find_lr) {
      const tl::RateCurve curve = example::find_rate(strategy, model, train, validation, options);
      std::printf("%s", curve.to_string().c_str());
      if (!report_folder.empty()) example::write_rate_curve(report_folder, curve, facts);
      example::print_json({{"suggestion", example::number(curve.suggestion())},
                           {"steepest", example::number(curve.steepest)},
                           {"before_minimum", example::number(curve.before_minimum)},
                           {"steps", curve.rates.size()},
                           {"arch", model.info.arch},
                           {"strategy", strategy_name},
                           {"seed", common.seed}});
      return 0;
    }
    tl::Report report{
        .title = "Fine-tuning " + model.info.arch + " on " + std::filesystem::path(pictures.folder).filename().string(),
        .facts = facts};
    if (!report_folder.empty() && strategy.pretrained)
      report.feature_maps.push_back(example::map_of(*model.net, validation, "before training"));
    std::optional<tl::EventWriter> events;
    if (!events_folder.empty()) {
      events.emplace(events_folder);
      events->add_table("run", facts);
      options.after_epoch = [&](const tl::RunLog& log) { example::add_events(*events, log, *model.net); };
    }

    tl::reset_peak_bytes();
    const tl::FitResult result = tl::train_with_strategy(strategy, model, train, validation, options);
    const int64_t peak_bytes = tl::memory_stats().peak_bytes;
    if (!save.empty()) tl::models::save_image_model(save, *model.net, model.info);
    if (!save_adapters.empty()) tl::models::save_image_adapters(save_adapters, *model.net, model.info);
    if (!report_folder.empty()) {
      tl::Loader checked(validation, {.batch = options.batch});
      const auto evaluation = tl::evaluate(*model.net, checked, static_cast<int64_t>(model.info.classes.size()));
      report.warnings = data.warnings;
      for (const auto& broken : checked.broken()) report.warnings.push_back(broken.path + ": " + broken.error);
      report.runs = {{.name = strategy_name, .seeds = {result.log}}};
      example::describe_predictions(report, strategy_name, *data.val_data, evaluation);
      report.feature_maps.push_back(example::map_of(*model.net, validation, "after training"));
      tl::write_report(report_folder, report);
      std::printf("report: %s/report.html\n", report_folder.c_str());
    }
    example::print_json({{"train_images", data.train.size()},
                         {"val_images", data.val.size()},
                         {"val_accuracy", example::number(result.last_accuracy)},
                         {"best_val_accuracy", example::number(result.best_accuracy)},
                         {"epochs", result.log.epochs.size()},
                         {"seconds", example::number(result.log.seconds)},
                         {"trainable_parameters", result.log.trainable_parameters()},
                         {"peak_bytes", peak_bytes},
                         {"arch", model.info.arch},
                         {"strategy", strategy_name},
                         {"seed", common.seed},
                         {"threads", tl::threads()}});
    return 0;
  });
}
