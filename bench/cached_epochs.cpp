// Epochs of the head on a frozen EfficientNet-Lite0: the backbone run anew for each batch, its results kept (the fill),
// and read again in each later epoch; beside PyTorch's frozen step over the same pictures, which it has in memory as
// tensors, decoded and resized before.
//
//   bench_cached_epochs --python PYTHON_WITH_PEERS --pictures hymenoptera_data/train --threads 2
//   bench_cached_epochs --python PYTHON_WITH_PEERS --idx /usr/share/datasets/fashion-mnist --count 1000
//
// A call is an epoch. Weights do not matter to the time, and are random. Whether what is kept teaches as much is seen
// from whole trainings on pretrained ones, whose accuracies stand beside those of a Loader's pictures and the whole
// network:
//
//   bench_cached_epochs --trainings hymenoptera_data --weights efficientnet_lite0.safetensors --threads 2 --rounds 1
#include <filesystem>
#include <optional>

#include "runner/machine.hpp"
#include "runner/pictures.hpp"
#include "runner/program.hpp"
#include "tl/tl.hpp"

namespace {

constexpr int64_t kBatch = 32;

struct Pictures {
  std::string folder, idx;  ///< one of them
  int64_t count = 0;        ///< the first ones of the data set; 0: all
  int64_t size = 224;

  tl::View view(const tl::Preprocess& input) const {
    std::shared_ptr<const tl::PictureDataset> data;
    if (idx.empty()) data = tl::picture_files(tl::list_image_folder(folder));
    else data = tl::picture_array(tl::load_idx(pair()));
    tl::View out(data, tl::eval_transform(input));
    if (count > 0) out.indices.resize(std::min(out.indices.size(), static_cast<size_t>(count)));
    return out;
  }
  std::vector<std::string> arguments(int64_t samples) const {
    std::vector<std::string> out = {"--size", std::to_string(size), "--count", std::to_string(samples)};
    if (idx.empty()) out.insert(out.end(), {"--pictures", folder});
    else out.insert(out.end(), {"--images", pair().images, "--labels", pair().labels});
    return out;
  }

 private:
  tl::IdxPair pair() const {
    const auto pairs = tl::find_idx(idx);
    for (const auto& one : pairs)
      if (one.name.find("train") != std::string::npos) return one;
    tl::require<tl::UsageError>(!pairs.empty(), "--idx: there are no IDX files in ", idx);
    return pairs[0];
  }
};

/// The head learns for an epoch from a source of the cache.
struct Head {
  tl::models::ImageClassifier& net;
  int64_t classes;
  tl::optim::AdamW optimizer{tl::optim::param_groups(net, 1e-3, 1e-2)};

  void epoch(tl::FeatureCache& cache, tl::BatchSource& source) {
    tl::FitOptions options;
    options.epochs = 1;
    options.forward = cache.forward();
    tl::fit(net, optimizer, source, nullptr, classes, options);
  }
};

/// Trainings of a new head on pretrained weights, from the same seeds with the backbone's results kept and without.
struct Trainings {
  static constexpr int64_t kVariants = 4;

  std::string folder, weights;
  int64_t epochs = 10, seeds = 3;

  /// Accuracy on the validation pictures after the last epoch.
  double accuracy(bool cached, bool augmented, uint64_t seed) const {
    tl::manual_seed(seed);
    const tl::models::ImageModel model = tl::models::load_image_model(weights);
    const tl::ImageFolder pictures = tl::open_image_folder(folder);
    tl::require<tl::UsageError>(pictures.val.has_value(), "--trainings: needs train/<class>/... and val/<class>/...");
    const tl::Preprocess& input = model.info.preprocess;
    const tl::View train(
        tl::picture_files(pictures.train),
        augmented ? tl::train_transform(input, tl::small_data_augmentation()) : tl::eval_transform(input)),
        val(tl::picture_files(*pictures.val), tl::eval_transform(input));
    const tl::LoaderOptions shuffled{.batch = kBatch, .shuffle = true, .seed = seed}, in_order{.batch = kBatch};
    const auto classes = static_cast<int64_t>(pictures.train.classes.size());
    model.net->replace_head(classes);
    tl::freeze_all_but(*model.net, model.net->head_name());
    tl::optim::AdamW optimizer(tl::optim::param_groups(*model.net, 1e-3, 1e-2));
    tl::FitOptions options;
    options.epochs = epochs;
    if (!cached) {
      tl::Loader batches(train, shuffled), validation(val, in_order);
      return tl::fit(*model.net, optimizer, batches, &validation, classes, options).last_accuracy;
    }
    tl::FeatureCache cache(*model.net);
    tl::CachedSource batches(cache, train, shuffled, kVariants), validation(cache, val, in_order);
    options.forward = cache.forward();
    return tl::fit(*model.net, optimizer, batches, &validation, classes, options).last_accuracy;
  }

  bench::Side side(const char* name, bool cached, bool augmented, uint64_t seed) const {
    return {.name = name, .turn = [=, this](double) {
              const tl::Stopwatch watch;
              const double reached = accuracy(cached, augmented, seed);
              return bench::Turn{watch.seconds(), 1, bench::resident_memory().peak, reached};
            }};
  }

  void run(const bench::ProgramOptions& options) const {
    bench::Comparison comparison = options.comparison("cached_training");
    for (const int threads : options.thread_counts())
      for (const bool augmented : {false, true})
        for (uint64_t seed = 0; seed < static_cast<uint64_t>(seeds); ++seed) {
          const std::string name = std::filesystem::path(weights).stem().string() + "/cached_training",
                            shape = tl::text(epochs, " epochs, ",
                                             augmented ? tl::text(kVariants, " augmentations, ") : "", "seed ", seed);
          if (!options.wants(name, shape, threads)) continue;
          tl::set_threads(threads);
          comparison.run({name, shape, threads, {.unit = "s"}},
                         {side("tl, kept", true, augmented, seed), side("tl, run anew", false, augmented, seed)});
        }
    comparison.finish();
  }
};

}  // namespace

int main(int argc, char** argv) {
  CLI::App app("Epochs on a frozen backbone whose results are kept, beside PyTorch's frozen step");
  bench::ProgramOptions options;
  options.rounds = 3;
  Pictures pictures;
  Trainings trainings;
  options.add_to(app);
  app.add_option("--pictures", pictures.folder, "folder <class>/... (default: made JPEGs of 500 x 375)");
  app.add_option("--idx", pictures.idx, "folder with IDX files instead, such as Fashion-MNIST");
  app.add_option("--count", pictures.count, "only so many pictures, the first ones; 0: all")
      ->check(CLI::NonNegativeNumber)
      ->capture_default_str();
  app.add_option("--size", pictures.size, "width and height of the network's input")
      ->check(CLI::Range(32, 1024))
      ->capture_default_str();
  auto* weights = app.add_option("--weights", trainings.weights, "of a network in a file of tl's");
  app.add_option("--trainings", trainings.folder, "measure trainings on these train/ and val/ instead")->needs(weights);
  app.add_option("--epochs", trainings.epochs, "of a training")->check(CLI::PositiveNumber)->capture_default_str();
  app.add_option("--seeds", trainings.seeds, "of trainings: 0, 1, ...")
      ->check(CLI::PositiveNumber)
      ->capture_default_str();
  return example::run(app, argc, argv, [&] {
    tl::require<tl::UsageError>(options.precision == "f32", "bench_cached_epochs: this bench measures f32 alone");
    if (!trainings.folder.empty()) {
      trainings.run(options);
      return 0;
    }
    if (pictures.folder.empty() && pictures.idx.empty()) pictures.folder = bench::made_pictures();
    const auto net = tl::models::create("efficientnet_lite0");
    tl::Preprocess input = net->preprocess();
    input.size = pictures.size;
    input.resize = pictures.size + pictures.size / 7;
    const tl::View view = pictures.view(input);
    const auto samples = static_cast<int64_t>(view.indices.size());
    const auto classes = static_cast<int64_t>(view.data->classes().size());
    net->replace_head(classes);
    tl::freeze_all_but(*net, net->head_name());
    Head head{*net, classes};
    const tl::LoaderOptions loader{.batch = kBatch, .shuffle = true};
    const std::string folder = (bench::scratch_folder() / "cache").string();

    struct Job {
      std::string name;
      tl::CacheStorage storage;
      bool filled;  ///< before the call
    };
    const Job jobs[] = {{"frozen_epoch/uncached", tl::CacheStorage::none, false},
                        {"frozen_epoch/fill", tl::CacheStorage::memory, false},
                        {"frozen_epoch/cached", tl::CacheStorage::memory, true},
                        {"frozen_epoch/fill_disk", tl::CacheStorage::disk, false},
                        {"frozen_epoch/cached_disk", tl::CacheStorage::disk, true}};
    bench::Comparison comparison = options.comparison("cached_epochs");
    for (const int threads : options.thread_counts()) {
      std::optional<bench::Worker> torch;
      for (const Job& job : jobs) {
        const std::string name = "efficientnet_lite0/" + job.name,
                          shape = tl::text("[", samples, ", ", input.size, ", ", input.size, ", 3]",
                                           pictures.idx.empty() ? "" : " from IDX");
        if (!options.wants(name, shape, threads)) continue;
        tl::set_threads(threads);
        const tl::FeatureCacheOptions kept{.storage = job.storage, .folder = folder};
        tl::FeatureCache cache(*net, kept);
        tl::CachedSource source(cache, view, loader);
        if (job.filled) head.epoch(cache, source);
        const auto call = [&] {
          if (job.filled || job.storage == tl::CacheStorage::none) return head.epoch(cache, source);
          std::filesystem::remove_all(folder);
          tl::FeatureCache fresh(*net, kept);
          tl::CachedSource filling(fresh, view, loader);
          head.epoch(fresh, filling);
        };
        std::vector<bench::Side> sides = {bench::side_of("tl " TL_VERSION_STRING, call)};
        if (options.wants_peer("torch")) {
          std::vector<std::string> arguments = pictures.arguments(samples);
          arguments.insert(arguments.end(), {"--threads", std::to_string(threads), "--batch", std::to_string(kBatch)});
          if (!torch) torch.emplace(options.peer_command("torch_frozen_epochs.py", arguments), "torch");
          sides.push_back(bench::side_of(*torch));
        }
        comparison.run({name, shape, threads, {.unit = "s"}}, std::move(sides));
      }
    }
    std::filesystem::remove_all(folder);
    comparison.finish();
    return 0;
  });
}
