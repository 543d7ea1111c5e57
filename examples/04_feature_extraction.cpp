// Lecture 4: a hundred pictures are enough, if somebody else's network looks at them first.
//
// You learn: why features are computed once, what freezing means, and how a head learns in a second. With --cache
// FOLDER the features stay there, and the next run begins where this one spent its time.
//
//   ./04_feature_extraction PICTURES --weights efficientnet_lite0.safetensors
//
// PICTURES holds train/<class>/... and val/<class>/.... Expected: ants and bees, 244 pictures, about 0.94 to 0.95.
#include "common/program.hpp"

#include "tl/tl.hpp"

using namespace tl;

int main(int argc, char** argv) {
  CLI::App app("Trains a linear head on the features of a frozen network.", "04_feature_extraction");
  example::CommonOptions common;
  std::string folder, weights, cache_folder;
  common.add_to(app);
  app.add_option("dir", folder, "folder with train/<class>/... and val/<class>/...")->required();
  app.add_option("--weights", weights, "pretrained weights")->required();
  app.add_option("--cache", cache_folder, "folder that keeps the features for later runs");

  return example::run(app, argc, argv, [&] {
    common.apply();
    models::ImageModel model = models::load_image_model(weights);
    const ImageFolder pictures = open_image_folder(folder);
    require<UsageError>(pictures.val.has_value(), folder,
                        ": has no val/ beside train/. Hint: finetune_images splits by itself.");
    const auto classes = static_cast<int64_t>(pictures.train.classes.size());
    const Pipeline transform = eval_transform(model.info.preprocess);

    // The backbone stays as it is. Frozen means free: nothing is kept for backward, BatchNorm is folded into the
    // convolutions, and one pass over the pictures is all it ever does.
    auto& net = *model.net;
    net.replace_head(classes);
    freeze_all_but(net, net.head_name());
    FeatureCache cache(
        net, {.storage = cache_folder.empty() ? CacheStorage::memory : CacheStorage::disk, .folder = cache_folder});
    CachedSource train(cache, View(picture_files(pictures.train), transform),
                       {.batch = 32, .shuffle = true, .seed = common.seed});
    CachedSource val(cache, View(picture_files(*pictures.val), transform), {.batch = 256});
    const Stopwatch watch;
    train.fill();
    val.fill();
    const double extraction = watch.seconds();

    // What is left is a linear classifier on a table of numbers: sixty epochs take a moment.
    optim::AdamW optimizer(optim::param_groups(net, 3e-3, 1e-2));
    FitOptions options;
    options.epochs = 60;
    options.schedule = optim::cosine(options.epochs * train.batches());
    options.forward = cache.forward();
    const FitResult result = fit(net, optimizer, train, &val, classes, options);
    example::print_json({{"val_accuracy", example::number(result.last_accuracy)},
                         {"extraction_seconds", extraction},
                         {"training_seconds", watch.seconds() - extraction},
                         {"trainable_parameters", nn::parameter_count(net, true)},
                         {"parameters", nn::parameter_count(net)}});
    return 0;
  });
}
