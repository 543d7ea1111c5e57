// From files to batches: decoding, resizing, augmenting, and whole epochs of a loader, beside Pillow, torchvision and
// PyTorch's DataLoader.
//
//   bench_loader --python PYTHON_WITH_PEERS --pictures hymenoptera_data/train --threads 1
#include <algorithm>
#include <functional>
#include <optional>

#include "runner/pictures.hpp"
#include "runner/program.hpp"
#include "tl/tl.hpp"

namespace {

constexpr size_t kFiles = 32;  // the first ones, which one call works through
constexpr uint64_t kMostBytes = 64 << 20;

struct Pictures {
  std::vector<std::string> paths, bytes;
  std::shared_ptr<tl::PictureDataset> data;  ///< nothing decoded is kept
};

Pictures open_pictures(const std::string& folder) {
  Pictures out;
  tl::Samples samples = tl::list_image_folder(folder);
  // From all classes: the first of each, then the second of each, and so on.
  std::vector<size_t> rank(samples.items.size());
  std::vector<size_t> seen(samples.classes.size());
  for (size_t i = 0; i < rank.size(); ++i) rank[i] = seen[static_cast<size_t>(samples.items[i].label)]++;
  std::vector<size_t> order(rank.size());
  for (size_t i = 0; i < order.size(); ++i) order[i] = i;
  std::stable_sort(order.begin(), order.end(), [&](size_t a, size_t b) { return rank[a] < rank[b]; });
  order.resize(std::min(order.size(), kFiles));
  tl::Samples kept{.items = {}, .classes = samples.classes};
  for (const size_t i : order) kept.items.push_back(samples.items[i]);
  for (const auto& item : kept.items) {
    out.paths.push_back(item.path);
    out.bytes.push_back(tl::read_file(item.path, kMostBytes));
  }
  out.data = tl::picture_files(kept, {}, 0);
  return out;
}

tl::Image decode(const Pictures& pictures, size_t i) {
  const std::string& bytes = pictures.bytes[i];
  return tl::decode_image({reinterpret_cast<const uint8_t*>(bytes.data()), bytes.size()}, pictures.paths[i]);
}

}  // namespace

int main(int argc, char** argv) {
  CLI::App app("From picture files to batches, beside Pillow, torchvision and PyTorch's DataLoader");
  bench::ProgramOptions options;
  std::string folder;
  options.add_to(app);
  app.add_option("--pictures", folder, "folder <class>/... (default: made JPEGs of 500 x 375)");
  return example::run(app, argc, argv, [&] {
    const Pictures pictures = open_pictures(folder.empty() ? bench::made_pictures() : folder);
    const tl::Preprocess input;  // 224 x 224, bilinear, ImageNet's mean
    std::vector<float> out(static_cast<size_t>(input.numel()));
    tl::Generator generator(0);
    const auto each = [&](const std::function<void(size_t)>& one) {
      return [&pictures, one] {
        for (size_t i = 0; i < pictures.paths.size(); ++i) one(i);
      };
    };

    struct Job {
      std::string name, shape;
      bool threaded;
      std::function<void()> call;
    };
    const auto epoch = [&](tl::Pipeline pipeline) {
      return [&pictures, pipeline] {
        tl::Loader loader(tl::View(pictures.data, pipeline), {.batch = 16, .shuffle = true});
        const auto stream = loader.epoch(0);
        for (tl::Batch batch; stream->next(batch);) {
        }
      };
    };
    const tl::Pipeline evaluate = tl::eval_transform(input), train = tl::train_transform(input);
    const std::vector<Job> jobs = {
        {"decode", "JPEG", false, each([&](size_t i) { decode(pictures, i); })},
        {"decode_resize", "JPEG to 224x224", false,
         each([&](size_t i) { tl::ResizeTo{.width = 224, .height = 224}(decode(pictures, i), generator); })},
        {"eval_transform", "JPEG to [224, 224, 3]", false,
         each([&](size_t i) { evaluate(decode(pictures, i), out.data()); })},
        {"train_transform", "JPEG to [224, 224, 3]", false,
         each([&](size_t i) { train(decode(pictures, i), out.data(), 0, 0, i); })},
        {"epoch", "files to [16, 224, 224, 3]", true, epoch(train)},
    };

    bench::Comparison comparison = options.comparison("loader");
    std::optional<bench::Worker> torch;
    if (options.wants_peer("torch")) torch.emplace(options.peer_command("pictures.py", {}), "torchvision");
    for (const Job& job : jobs)
      for (const int threads : job.threaded ? options.thread_counts() : std::vector<int>{1}) {
        if (!options.wants(job.name, job.shape, threads)) continue;
        tl::set_threads(threads);
        std::vector<bench::Side> sides = {bench::side_of("tl " TL_VERSION_STRING, job.call)};
        if (torch) {
          torch->load(nlohmann::json{{"op", job.name}, {"paths", pictures.paths}, {"threads", threads}}.dump());
          sides.push_back(bench::side_of(*torch));
        }
        comparison.run(
            {job.name, job.shape, threads, {.unit = "pictures/s", .work = static_cast<double>(pictures.paths.size())}},
            std::move(sides));
      }
    comparison.finish();
    return 0;
  });
}
