// Lecture 5: all layers learn, the lower the slower.
//
// You learn: freezing by name, a learning rate for each stage, what each stage costs, schedules, and the library's
// training loop with its checkpoint. finetune_images is this lecture with options.
//
//   ./05_finetune PICTURES --weights efficientnet_lite0.safetensors --epochs 10 --save mine.safetensors
//
// Expected: ants and bees, about 0.94 to 0.95 after ten epochs.
#include "common/program.hpp"

#include "tl/tl.hpp"

using namespace tl;

int main(int argc, char** argv) {
  CLI::App app("Fine-tunes a pretrained network, step by step.", "05_finetune");
  example::CommonOptions common;
  std::string folder, weights, save;
  FitOptions options;
  common.add_to(app);
  app.add_option("dir", folder, "folder with train/<class>/... and val/<class>/...")->required();
  app.add_option("--weights", weights, "pretrained weights")->required();
  app.add_option("--epochs", options.epochs)->check(example::count())->capture_default_str();
  app.add_option("--checkpoint", options.checkpoint, "file to go on from if the run is cut")
      ->check(example::new_file());
  app.add_option("--save", save, "file for the trained network")->check(example::new_file());

  return example::run(app, argc, argv, [&] {
    common.apply();
    models::ImageModel model = models::load_image_model(weights);
    const ImageFolder pictures = open_image_folder(folder);
    require<UsageError>(pictures.val.has_value(), folder,
                        ": has no val/ beside train/. Hint: finetune_images splits by itself.");
    auto& net = *model.net;
    model.info.classes = pictures.train.classes;
    const auto classes = static_cast<int64_t>(model.info.classes.size());
    net.replace_head(classes);

    // The first stage sees edges and colours, which are the same everywhere. Frozen, it has no gradient, no optimizer
    // state and no weight decay, and its BatchNorm statistics stay, also in training.
    const auto stages = net.stages();
    for (const auto& glob : stages.front()) freeze(net, glob);

    // The head learns with 2e-3, each stage below with 0.7 of the one above. Biases and norms get no weight decay.
    auto groups = optim::layerwise_groups(net, stages, 2e-3, 0.7, 1e-2);
    optim::AdamW optimizer(optim::without_decay_on_vectors(groups));

    // Augmentation belongs to the training view alone.
    Loader train(View(picture_files(pictures.train), train_transform(model.info.preprocess, small_data_augmentation())),
                 {.batch = 16, .shuffle = true, .seed = common.seed});
    Loader val(View(picture_files(*pictures.val), eval_transform(model.info.preprocess)), {.batch = 16});

    // What is frozen keeps nothing for the backward pass, and has none.
    Batch batch;
    train.epoch(0)->next(batch);
    std::fputs(to_string(explain(net, batch.x, optimizer.groups())).c_str(), stderr);

    options.schedule = optim::one_cycle(options.epochs * train.batches());
    options.screen = common.screen();
    const FitResult result = fit(net, optimizer, train, &val, classes, options);

    if (!save.empty()) models::save_image_model(save, net, model.info);
    example::print_json({{"val_accuracy", example::number(result.last_accuracy)},
                         {"best_val_accuracy", example::number(result.best_accuracy)},
                         {"epochs", result.log.epochs.size()},
                         {"seconds", example::number(result.log.total_seconds())}});
    return 0;
  });
}
