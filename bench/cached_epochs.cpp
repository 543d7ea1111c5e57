// Epochs of the head on a frozen EfficientNet-Lite0: the backbone run anew for each batch, its results kept (the fill),
// and read again in each later epoch; beside PyTorch's frozen step over the same pictures, which it has in memory as
// tensors, decoded and resized before.
//
//   bench_cached_epochs --python PYTHON_WITH_PEERS --pictures hymenoptera_data/train --threads 2
//   bench_cached_epochs --python PYTHON_WITH_PEERS --idx /usr/share/datasets/fashion-mnist --count 1000
//
// A call is an epoch. Weights do not matter to the time, and are random.
#include <filesystem>
#include <optional>

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

}  // namespace

int main(int argc, char** argv) {
  CLI::App app("Epochs on a frozen backbone whose results are kept, beside PyTorch's frozen step");
  bench::ProgramOptions options;
  options.rounds = 3;
  Pictures pictures;
  options.add_to(app);
  app.add_option("--pictures", pictures.folder, "folder <class>/... (default: made JPEGs of 500 x 375)");
  app.add_option("--idx", pictures.idx, "folder with IDX files instead, such as Fashion-MNIST");
  app.add_option("--count", pictures.count, "only so many pictures, the first ones; 0: all")
      ->check(CLI::NonNegativeNumber)
      ->capture_default_str();
  app.add_option("--size", pictures.size, "width and height of the network's input")
      ->check(CLI::Range(32, 1024))
      ->capture_default_str();
  return example::run(app, argc, argv, [&] {
    tl::require<tl::UsageError>(options.precision == "f32", "bench_cached_epochs: this bench measures f32 alone");
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
          if (!torch) torch.emplace(options.peer_command("torch_frozen_epochs.py", arguments));
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
