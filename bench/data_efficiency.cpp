// What pretrained weights are worth: learning curves, accuracy over training pictures per class, of strategies that
// start from a file against networks trained from scratch; and how many times fewer pictures, and how much less time,
// the same accuracy takes.
//
//   bench_data_efficiency hymenoptera_data --weights efficientnet_lite0.safetensors --scratch cifar_resnet20@48
//     --runs runs.jsonl --json report.json --tsv curves.tsv
//
// Each finished run is appended to the file --runs and never made again: runs can be cut anywhere, made in parts, and
// added to. The report is about all runs in the file. Accuracy is that of the last epoch on all validation pictures;
// seconds are those of processors (threads that wait for others on the machine cost nothing), with decoding and
// augmentation, without the validation. The features of all pictures are computed once; each run is charged for those
// of its own pictures.
#include <ctime>
#include <fstream>
#include <map>
#include <optional>
#include <unordered_map>

#include "common/program.hpp"

#include "common/pictures.hpp"
#include "runner/learning_curve.hpp"
#include "runner/machine.hpp"
#include "tl/tl.hpp"

namespace {

using nlohmann::json;
using tl::Tensor;

/// Seconds of processors that this process has used.
double cpu_seconds() { return static_cast<double>(std::clock()) / CLOCKS_PER_SEC; }

std::string now() {
  const std::time_t time = std::time(nullptr);
  char out[32];
  std::strftime(out, sizeof(out), "%Y-%m-%dT%H:%M:%SZ", std::gmtime(&time));
  return out;
}

/// What a pretrained backbone says to each picture, in several augmentations.
class KnownFeatures {
 public:
  static constexpr int64_t kVariants = 4;  // as the strategy `features`

  KnownFeatures(tl::models::ImageClassifier& net, const tl::View& train, const tl::View& validation) {
    tl::freeze_all_but(net, net.head_name());
    tl::FeatureCache cache(net, {.storage = tl::CacheStorage::none, .batch = 64});
    const double start = cpu_seconds();
    for (int64_t variant = 0; variant < kVariants; ++variant) {
      tl::CachedSource source(cache, train, {.batch = 64}, kVariants);
      train_.push_back(read(source, variant));
    }
    seconds_per_picture_ = (cpu_seconds() - start) / static_cast<double>(train.indices.size());
    tl::CachedSource source(cache, validation, {.batch = 64});
    validation_ = read(source, 0);
  }

  /// Of the features of one picture in all augmentations.
  double seconds_per_picture() const { return seconds_per_picture_; }

  tl::TensorSource train(int64_t variant, const std::vector<int64_t>& chosen, const tl::LoaderOptions& options) const {
    const Table& table = train_[static_cast<size_t>(variant)];
    const int64_t width = table.x.numel() / table.x.size(0);
    Tensor x = Tensor::empty(table.x.shape().with(0, static_cast<int64_t>(chosen.size())));
    std::vector<int32_t> labels;
    for (size_t i = 0; i < chosen.size(); ++i) {
      const int64_t row = table.row_of.at(chosen[i]);
      const float* from = table.x.data<float>() + row * width;
      std::copy(from, from + width, x.mutable_data<float>() + static_cast<int64_t>(i) * width);
      labels.push_back(table.y[static_cast<size_t>(row)]);
    }
    return {x, Tensor::from(labels, {static_cast<int64_t>(labels.size())}), options};
  }
  tl::TensorSource validation() const {
    return {validation_.x, Tensor::from(validation_.y, {validation_.x.size(0)}), {.batch = 256}};
  }

 private:
  struct Table {
    Tensor x;                                     ///< [N, ...]
    std::vector<int32_t> y;                       ///< [N]
    std::unordered_map<int64_t, int64_t> row_of;  ///< by position in the data set
  };

  static Table read(tl::CachedSource& source, int64_t epoch) {
    Table out;
    std::vector<Tensor> parts;
    const auto stream = source.epoch(epoch);
    for (tl::Batch batch; stream->next(batch);) {
      if (batch.indices.empty()) continue;
      for (const int64_t position : batch.indices) out.row_of.emplace(position, out.row_of.size());
      const auto labels = batch.y.values<int32_t>();
      out.y.insert(out.y.end(), labels.begin(), labels.end());
      parts.push_back(batch.x);
    }
    out.x = tl::concat(parts, 0);
    return out;
  }

  std::vector<Table> train_;
  Table validation_;
  double seconds_per_picture_ = 0;
};

/// The augmentations of the same samples, one in each epoch.
class Alternating final : public tl::BatchSource {
 public:
  explicit Alternating(std::vector<tl::TensorSource> sources) : sources_(std::move(sources)) {}
  int64_t batches() const override { return sources_[0].batches(); }
  int64_t samples() const override { return sources_[0].samples(); }
  std::unique_ptr<tl::BatchStream> epoch(int64_t epoch, int64_t first) override {
    return sources_[static_cast<size_t>(epoch) % sources_.size()].epoch(epoch, first);
  }

 private:
  std::vector<tl::TensorSource> sources_;
};

/// The strategy `features`, on features that are known.
tl::Strategy head_on(const KnownFeatures& known, const std::vector<int64_t>& chosen) {
  return {.name = "features", .run = [&](tl::TransferRun& run) {
            const tl::HeadPhase phase;
            const tl::StrategyOptions& options = run.options();
            tl::freeze_all_but(run.net(), run.net().head_name());
            std::vector<tl::TensorSource> sources;
            for (int64_t variant = 0; variant < KnownFeatures::kVariants; ++variant)
              sources.push_back(
                  known.train(variant, chosen, {.batch = options.batch, .shuffle = true, .seed = options.seed}));
            Alternating train(std::move(sources));
            tl::FitOptions fit;
            fit.epochs = phase.epochs;
            fit.schedule = tl::optim::one_cycle(phase.epochs * train.batches());
            fit.forward = [&](const Tensor& x) { return run.net().classify(x); };
            tl::optim::AdamW optimizer(tl::optim::param_groups(run.net(), phase.rate, options.weight_decay));
            return tl::fit(run.net(), optimizer, train, nullptr, run.objective(), fit);
          }};
}

/// A strategy with the network that it trains.
struct Way {
  std::string strategy, network;
  int64_t size = 0;  ///< of the network's input

  std::string name() const { return tl::text(strategy, " ", network, "@", size); }
};

struct Options {
  example::CommonOptions common;
  example::PictureOptions pictures;
  std::string name, weights, runs, json, tsv;
  std::vector<std::string> transfer{"features"}, scratch;
  std::vector<int64_t> counts{1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 0};
  int64_t seeds = 5;
  double seconds = 0;
  struct {
    int64_t epochs = 40, least_steps = 400, batch = 16;
    double rate = 1e-3, weight_decay = 5e-2, crop = 0.35;
  } fresh;

  void add_to(CLI::App& app) {
    pictures.add_to(app);
    common.add_to(app);
    app.add_option("--name", name, "of the data in the report (default: the folder's)");
    app.add_option("--weights", weights, "file from weights/fetch.py or weights/convert.py");
    app.add_option("--transfer", transfer, "strategies that start from it")->delimiter(',')->capture_default_str();
    app.add_option("--scratch", scratch, "networks to train from random weights, such as lenet or cifar_resnet20@48")
        ->delimiter(',');
    app.add_option("--counts", counts, "training pictures per class; 0: all")
        ->delimiter(',')
        ->check(CLI::NonNegativeNumber)
        ->capture_default_str();
    app.add_option("--seeds", seeds, "runs of each, from --seed on: of the subset and of all that is random")
        ->check(CLI::PositiveNumber)
        ->capture_default_str();
    app.add_option("--runs", runs, "file of finished runs, to which new ones are appended")->required();
    app.add_option("--seconds", seconds, "start no further run after so many; 0: make them all");
    app.add_option("--json", json, "file for the report");
    app.add_option("--tsv", tsv, "file for the curves");
    app.add_option("--epochs", fresh.epochs, "from scratch")->check(CLI::PositiveNumber)->capture_default_str();
    app.add_option("--least-steps", fresh.least_steps, "from scratch: more epochs if they would be fewer steps")
        ->capture_default_str();
    app.add_option("--batch", fresh.batch, "from scratch")->check(CLI::PositiveNumber)->capture_default_str();
    app.add_option("--lr", fresh.rate, "from scratch")->check(CLI::PositiveNumber)->capture_default_str();
    app.add_option("--weight-decay", fresh.weight_decay, "from scratch")->capture_default_str();
    app.add_option("--crop", fresh.crop, "from scratch: least part of a picture that a random crop keeps")
        ->check(CLI::Range(0.01, 1.0))
        ->capture_default_str();
  }
};

class DataEfficiency {
 public:
  explicit DataEfficiency(Options options)
      : options_(std::move(options)), data_(example::open_pictures(options_.pictures)) {
    if (options_.name.empty())
      options_.name = std::filesystem::path(options_.pictures.folder).lexically_normal().filename().string();
    std::ifstream in(options_.runs);
    for (std::string line; std::getline(in, line);) {
      json run = json::parse(line, nullptr, false);  // a cut last line is no run
      if (run.is_object()) runs_.push_back(std::move(run));
    }
    for (const int64_t label : example::labels_of(*data_.train_data, data_.train)) ++most_[label];
  }

  void run_all() {
    const tl::Stopwatch watch;
    std::vector<Way> ways;
    if (!options_.weights.empty()) {
      const auto info = tl::models::load_image_model(options_.weights).info;
      const auto input = example::with_size(info.preprocess, options_.pictures.size);
      for (const auto& strategy : options_.transfer) {
        tl::find_strategy(strategy);
        ways.push_back({strategy, info.arch, input.size});
      }
    }
    for (const auto& spec : options_.scratch) ways.push_back(from_scratch(spec));
    for (const Way& way : ways)
      for (const int64_t count : options_.counts)
        for (int64_t s = 0; s < options_.seeds; ++s) {
          if (options_.seconds > 0 && watch.seconds() > options_.seconds) return;
          run(way, count, options_.common.seed + static_cast<uint64_t>(s));
        }
  }

  json report() const;

 private:
  static Way from_scratch(const std::string& spec) {
    const size_t at = spec.find('@');
    Way way{"scratch", spec.substr(0, at), 0};
    const auto net = tl::models::create(way.network);
    way.size = at == std::string::npos ? net->preprocess().size : std::strtoll(spec.c_str() + at + 1, nullptr, 10);
    tl::require<tl::UsageError>(way.size > 0, "--scratch: expected NETWORK or NETWORK@SIZE; got \"", spec, "\"");
    return way;
  }

  tl::models::ImageModel model_of(const Way& way) const {
    tl::models::ImageModel model;
    if (way.strategy != "scratch") model = tl::models::load_image_model(options_.weights);
    else {
      model.info.arch = way.network;
      model.net = tl::models::create(way.network);
      model.info.preprocess = model.net->preprocess();
    }
    model.info.preprocess = example::with_size(model.info.preprocess, way.size);
    return model;
  }

  void run(const Way& way, int64_t count, uint64_t seed) {
    int64_t largest = 0;
    for (const auto& [label, pictures] : most_) largest = std::max(largest, pictures);
    if (count == 0 || count > largest) count = largest;
    const json key = {{"data", options_.name}, {"way", way.name()}, {"per_class", count}, {"seed", seed}};
    for (const json& known : runs_)
      if (known.value("data", "") == key["data"] && known.value("way", "") == key["way"] &&
          known.value("per_class", int64_t{0}) == count && known.value("seed", uint64_t{0}) == seed)
        return;

    tl::models::ImageModel model = model_of(way);
    const bool scratch = way.strategy == "scratch", features = way.strategy == "features";
    tl::AugmentOptions augment = tl::small_data_augmentation();
    if (scratch) augment.scale[0] = options_.fresh.crop;
    const auto pipeline = tl::train_transform(model.info.preprocess, augment);
    const tl::View validation(data_.val_data, data_.val, tl::eval_transform(model.info.preprocess));
    if (features && !known_) known_.emplace(*model.net, tl::View(data_.train_data, data_.train, pipeline), validation);
    const auto labels = example::labels_of(*data_.train_data, data_.train);
    const tl::View train(data_.train_data, example::pick(data_.train, tl::subset_indices(labels, count, seed)),
                         pipeline);

    tl::StrategyOptions options{.seed = seed, .validate_every = 1 << 30};
    if (scratch) {
      options.batch = options_.fresh.batch;
      options.rate = options_.fresh.rate;
      options.weight_decay = options_.fresh.weight_decay;
      const auto batches = (static_cast<int64_t>(train.indices.size()) + options.batch - 1) / options.batch;
      options.epochs = std::max(options_.fresh.epochs, (options_.fresh.least_steps + batches - 1) / batches);
    }
    tl::Strategy strategy = features ? head_on(*known_, train.indices) : tl::find_strategy(way.strategy);
    // Validation is not part of the time: training sees a single picture of it.
    const tl::View glimpse(data_.val_data, {data_.val[0]}, validation.pipeline);
    const tl::Stopwatch watch;
    const double start = cpu_seconds();
    const tl::FitResult result = tl::train_with_strategy(strategy, model, train, glimpse, options);
    double seconds = cpu_seconds() - start;
    const double wall = watch.seconds();
    if (features) seconds += known_->seconds_per_picture() * static_cast<double>(train.indices.size());

    const auto classes = static_cast<int64_t>(model.info.classes.size());
    double accuracy = 0;
    if (features) {
      tl::TensorSource source = known_->validation();
      accuracy =
          tl::evaluate(*model.net, source, classes, [&](const Tensor& x) { return model.net->classify(x); }).accuracy;
    } else {
      tl::Loader source(validation, {.batch = 64});
      accuracy = tl::evaluate(*model.net, source, classes).accuracy;
    }
    json one = key;
    one.update({{"pictures", train.indices.size()},
                {"classes", classes},
                {"validation", data_.val.size()},
                {"accuracy", accuracy},
                {"cpu_seconds", seconds},
                {"wall_seconds", wall},
                {"epochs", result.log.epochs.size()},
                {"threads", tl::threads()},
                {"time", now()}});
    std::ofstream out(options_.runs, std::ios::app);
    out << one.dump() << std::endl;
    tl::require<tl::IoError>(out.good(), "cannot write ", options_.runs);
    if (!options_.common.quiet)
      std::fprintf(stderr, "%s  %s  %lld per class  seed %llu  %.2f %%  %.1f s\n", options_.name.c_str(),
                   way.name().c_str(), static_cast<long long>(count), static_cast<unsigned long long>(seed),
                   100 * accuracy, seconds);
    runs_.push_back(std::move(one));
  }

  Options options_;
  example::PictureData data_;
  std::map<int64_t, int64_t> most_;  ///< training pictures by class
  std::optional<KnownFeatures> known_;
  std::vector<json> runs_;
};

json as_json(const bench::Estimate& estimate) {
  return {{"median", estimate.median}, {"low", estimate.low}, {"high", estimate.high}};
}

/// One row for each curve; those that start from pretrained weights are held against each that does not.
json DataEfficiency::report() const {
  std::vector<bench::LearningRun> runs;
  std::map<std::pair<std::string, std::string>, const json*> curves;  // any run of each
  for (const json& run : runs_) {
    runs.push_back({.data = run.at("data"),
                    .way = run.at("way"),
                    .per_class = run.at("per_class"),
                    .pictures = run.at("pictures"),
                    .seed = run.at("seed"),
                    .accuracy = run.at("accuracy"),
                    .seconds = run.at("cpu_seconds")});
    curves[{runs.back().data, runs.back().way}] = &run;
  }
  json rows = json::array();
  for (const auto& [names, run] : curves) {
    const auto& [data, way] = names;
    const bench::LearningCurve curve = bench::learning_curve(runs, data, way);
    json points = json::array(), against = json::array();
    for (const auto& point : curve)
      points.push_back({{"per_class", point.per_class},
                        {"pictures", point.pictures},
                        {"seeds", point.accuracies.size()},
                        {"accuracy", bench::mean_of(point.accuracies)},
                        {"deviation", bench::deviation_of(point.accuracies)},
                        {"seconds", bench::mean_of(point.seconds)}});
    for (const auto& [other, unused] : curves) {
      if (way.starts_with("scratch ") || other.first != data || !other.second.starts_with("scratch ")) continue;
      for (const auto& saving : bench::savings(bench::learning_curve(runs, data, other.second), curve))
        against.push_back({{"way", other.second},
                           {"per_class", saving.per_class},
                           {"accuracy", saving.accuracy},
                           {"bound", saving.bound == bench::Bound::at_least  ? ">="
                                     : saving.bound == bench::Bound::at_most ? "<="
                                                                             : ""},
                           {"pictures", as_json(saving.pictures)},
                           {"seconds", as_json(saving.seconds)}});
    }
    rows.push_back({{"name", data},
                    {"shape", way},
                    {"threads", run->at("threads")},
                    {"precision", "f32"},
                    {"classes", run->at("classes")},
                    {"validation", run->at("validation")},
                    {"time", run->at("time")},
                    {"points", points},
                    {"savings", against}});
  }
  return {
      {"program", "data_efficiency"}, {"machine", bench::describe_machine()}, {"peaks", json::array()}, {"rows", rows}};
}

void write_text(const std::string& path, const std::string& content) {
  std::ofstream file(path);
  file << content;
  tl::require<tl::IoError>(file.good(), "cannot write ", path);
}

std::string curves_tsv(const json& rows) {
  std::string out = "data\tway\tper_class\tpictures\tseeds\taccuracy\tdeviation\tseconds\n";
  for (const json& row : rows)
    for (const json& point : row["points"]) {
      out += row["name"].get<std::string>() + "\t" + row["shape"].get<std::string>();
      for (const char* column : {"per_class", "pictures", "seeds", "accuracy", "deviation", "seconds"})
        out += "\t" + point[column].dump();
      out += "\n";
    }
  return out;
}

void print_savings(const json& rows) {
  for (const json& row : rows)
    for (const json& saving : row["savings"])
      std::printf(
          "%s, %s: %.1f %% as %s with %lld per class takes %s %.1f (%.1f to %.1f) times fewer pictures, "
          "%.1f (%.1f to %.1f) times less time\n",
          row["name"].get<std::string>().c_str(), row["shape"].get<std::string>().c_str(),
          100 * saving["accuracy"].get<double>(), saving["way"].get<std::string>().c_str(),
          static_cast<long long>(saving["per_class"].get<int64_t>()), saving["bound"].get<std::string>().c_str(),
          saving["pictures"]["median"].get<double>(), saving["pictures"]["low"].get<double>(),
          saving["pictures"]["high"].get<double>(), saving["seconds"]["median"].get<double>(),
          saving["seconds"]["low"].get<double>(), saving["seconds"]["high"].get<double>());
}

}  // namespace

int main(int argc, char** argv) {
  CLI::App app("Learning curves of pretrained networks and of networks trained from scratch.", "bench_data_efficiency");
  Options options;
  options.add_to(app);
  return example::run(app, argc, argv, [&] {
    options.common.apply();
    DataEfficiency bench(options);
    bench.run_all();
    const json report = bench.report();
    print_savings(report["rows"]);
    if (!options.json.empty()) write_text(options.json, report.dump(1) + "\n");
    if (!options.tsv.empty()) write_text(options.tsv, curves_tsv(report["rows"]));
    example::print_json(report);
    return 0;
  });
}
