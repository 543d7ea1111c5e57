// Folders of pictures or IDX files as data for the programs, and the report about a run.
#pragma once
#include <algorithm>
#include <filesystem>
#include <fstream>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "tl/core/cpu_features.hpp"
#include "tl/core/log.hpp"
#include "tl/data/dataset.hpp"
#include "tl/data/split.hpp"
#include "tl/train/report.hpp"
#include "tl/train/strategies.hpp"
#include "tl/train/tensorboard.hpp"
#include "tl/transfer/features.hpp"

namespace example {

struct PictureOptions {
  std::string folder = {};
  double val_fraction = 0.2;
  std::string group_regex = {}, class_names = {}, extensions = {};
  std::vector<std::string> usual_names = {};  ///< of IDX files with as many classes, unless class_names says otherwise
  int64_t per_class = 0, val_limit = 0, size = 0, cache_mib = 512;
  uint64_t seed = 0;

  void add_to(CLI::App& app) {
    app.add_option("dir", folder, "folder: train/<class>/... and val/<class>/..., <class>/... alone, or IDX files")
        ->required();
    app.add_option("--val-fraction", val_fraction, "share kept for validation if the folder has none")
        ->check(within(0.001, 0.999))
        ->capture_default_str();
    app.add_option("--group-regex", group_regex,
                   "pictures whose paths agree in this (POSIX, first group) stay on one side of the split");
    app.add_option("--per-class", per_class, "train on so many pictures of each class only; 0: on all")
        ->check(count(0))
        ->capture_default_str();
    app.add_option("--val-limit", val_limit, "validate on so many pictures only; 0: on all")
        ->check(count(0))
        ->capture_default_str();
    app.add_option("--size", size, "width and height of the network's input; 0: what the weights were trained with")
        ->check(count(0, 4096));
    app.add_option("--class-names", class_names, "file with a class name on each line (IDX files have numbers only)");
    app.add_option("--cache-mib", cache_mib,
                   "memory for decoded training pictures, and as much for validation, so that later epochs decode none")
        ->check(count(0, 1 << 20))
        ->capture_default_str();
    app.add_option("--extensions", extensions, "take only files with these, such as jpg,png");
  }
};

struct PictureData {
  std::shared_ptr<tl::PictureDataset> train_data, val_data, test_data;  ///< test: if there is one besides val
  std::vector<int64_t> train, val, test;                                ///< positions
  int64_t equal_pairs = 0;       ///< validation pictures that are also trained on, byte by byte
  int64_t equal_test_pairs = 0;  ///< test pictures that are also trained on
  std::vector<std::string> warnings;
};

inline std::vector<std::string> lines_of(const std::string& path) {
  std::ifstream in(path);
  tl::require<tl::IoError>(in.good(), path, ": cannot be read");
  std::vector<std::string> out;
  for (std::string line; std::getline(in, line);)
    if (!line.empty()) out.push_back(line);
  return out;
}

inline std::vector<int64_t> labels_of(const tl::PictureDataset& data, const std::vector<int64_t>& positions) {
  std::vector<int64_t> out;
  for (const int64_t i : positions) out.push_back(data.label(i));
  return out;
}

inline std::vector<int64_t> all_positions(const tl::PictureDataset& data) {
  std::vector<int64_t> out(static_cast<size_t>(data.size()));
  for (size_t i = 0; i < out.size(); ++i) out[i] = static_cast<int64_t>(i);
  return out;
}

/// positions[chosen[i]]
inline std::vector<int64_t> pick(const std::vector<int64_t>& positions, const std::vector<int64_t>& chosen) {
  std::vector<int64_t> out;
  for (const int64_t i : chosen) out.push_back(positions[static_cast<size_t>(i)]);
  return out;
}

inline PictureData open_idx(const std::vector<tl::IdxPair>& pairs, const PictureOptions& options) {
  const auto find = [&](std::initializer_list<const char*> wanted) -> const tl::IdxPair* {
    for (const char* name : wanted)
      for (const auto& pair : pairs)
        if (pair.name == name || pair.name.ends_with(std::string("-") + name)) return &pair;
    return nullptr;
  };
  const tl::IdxPair* train = find({"train"});
  const tl::IdxPair* val = find({"val", "validation", "t10k", "test"});
  const tl::IdxPair* test = find({"t10k", "test"});
  tl::require<tl::UsageError>(train || val, options.folder, ": its IDX files are neither train nor test files");
  if (!train) std::swap(train, val);
  std::vector<tl::IdxPictures> parts{tl::load_idx(*train)};
  if (val) parts.push_back(tl::load_idx(*val));
  if (val && test && test != val) parts.push_back(tl::load_idx(*test));

  int64_t classes = 0;
  for (const auto& part : parts) classes = std::max(classes, part.classes);
  std::vector<std::string> names = options.usual_names;
  if (!options.class_names.empty()) names = lines_of(options.class_names);
  else if (static_cast<int64_t>(names.size()) != classes) names.clear();
  const auto equal_pairs = [&](const tl::IdxTensor& a, const tl::IdxTensor& b) -> int64_t {
    if (a.shape.with(0, 0) != b.shape.with(0, 0)) return 0;
    return std::ssize(tl::equal_rows(a.bytes, b.bytes, a.shape.numel() / std::max<int64_t>(a.shape[0], 1)));
  };
  PictureData out;
  if (parts.size() > 1) out.equal_pairs = equal_pairs(parts[0].images, parts[1].images);
  if (parts.size() > 2) out.equal_test_pairs = equal_pairs(parts[0].images, parts[2].images);
  std::shared_ptr<tl::PictureDataset>* const places[] = {&out.train_data, &out.val_data, &out.test_data};
  for (size_t i = 0; i < parts.size(); ++i) {
    parts[i].classes = classes;
    *places[i] = tl::picture_array(std::move(parts[i]), names);
  }
  if (!val) out.val_data = out.train_data;
  return out;
}

inline PictureData open_folder(const PictureOptions& options) {
  tl::ImageFolderOptions folder_options;
  if (!options.extensions.empty()) {
    folder_options.extensions.clear();
    for (size_t at = 0; at <= options.extensions.size();) {
      const size_t comma = std::min(options.extensions.find(',', at), options.extensions.size());
      folder_options.extensions.push_back(options.extensions.substr(at, comma - at));
      at = comma + 1;
    }
  }
  const tl::ImageFolder folder = tl::open_image_folder(options.folder, folder_options);
  PictureData out;
  tl::Samples train = folder.train, val;
  if (folder.val) val = *folder.val;
  else {
    tl::TrainVal parts =
        tl::split(folder.train, {.val_fraction = options.val_fraction, .seed = options.seed}, options.group_regex);
    train = std::move(parts.train), val = std::move(parts.val);
  }
  out.equal_pairs = std::ssize(tl::equal_pictures(train, val));
  const std::filesystem::path test_folder = std::filesystem::path(options.folder) / "test";
  if (folder.val && std::filesystem::is_directory(test_folder)) {
    folder_options.classes = folder.train.classes;
    tl::Samples test = tl::list_image_folder(test_folder.string(), folder_options);
    if (test.items != val.items) {  // without a val/ it is what validates
      out.equal_test_pairs = std::ssize(tl::equal_pictures(train, test));
      out.test_data = tl::picture_files(std::move(test), {}, options.cache_mib << 20);
    }
  }
  if (const int64_t n = folder.train.skipped; n > 0)
    out.warnings.push_back(
        tl::text(n, n == 1 ? " file is no picture and was" : " files are no pictures and were", " skipped"));
  out.train_data = tl::picture_files(std::move(train), {}, options.cache_mib << 20);
  out.val_data = tl::picture_files(std::move(val), {}, options.cache_mib << 20);
  return out;
}

/// Opens the data, splits it if need be, and takes the subsets that were asked for.
inline PictureData open_pictures(const PictureOptions& options) {
  tl::require<tl::IoError>(std::filesystem::is_directory(options.folder), options.folder, ": is not a folder");
  const auto pairs = tl::find_idx(options.folder);
  PictureData out = pairs.empty() ? open_folder(options) : open_idx(pairs, options);
  out.train = all_positions(*out.train_data);
  out.val = all_positions(*out.val_data);
  if (out.test_data) out.test = all_positions(*out.test_data);
  if (out.train_data == out.val_data) {
    const auto parts = tl::split_indices(labels_of(*out.train_data, out.train),
                                         {.val_fraction = options.val_fraction, .seed = options.seed});
    out.train = parts.train, out.val = parts.val;
  }
  const auto warn_of_equal = [&](int64_t count, const char* kind) {
    if (count == 0) return;
    out.warnings.push_back(tl::text(count, " pairs of a training and a ", kind,
                                    " picture are equal byte by byte: the accuracy is too good"));
    tl::warn(out.warnings.back());
  };
  warn_of_equal(out.equal_pairs, "validation");
  warn_of_equal(out.equal_test_pairs, "test");
  if (options.per_class > 0)
    out.train =
        pick(out.train, tl::subset_indices(labels_of(*out.train_data, out.train), options.per_class, options.seed));
  if (options.val_limit > 0 && options.val_limit < static_cast<int64_t>(out.val.size())) {
    const auto classes = static_cast<int64_t>(out.val_data->classes().size());
    const int64_t each = (options.val_limit + classes - 1) / classes;
    out.val = pick(out.val, tl::subset_indices(labels_of(*out.val_data, out.val), each, 0));
    if (static_cast<int64_t>(out.val.size()) > options.val_limit)
      out.val.resize(static_cast<size_t>(options.val_limit));
  }
  tl::require<tl::UsageError>(!out.train.empty() && !out.val.empty(), options.folder,
                              ": needs pictures to train and to validate with; has ", out.train.size(), " and ",
                              out.val.size());
  return out;
}

/// The input of a network at another size than its weights were trained with.
inline tl::Preprocess with_size(tl::Preprocess preprocess, int64_t size) {
  if (size <= 0) return preprocess;
  preprocess.resize = preprocess.resize > 0 ? preprocess.resize * size / preprocess.size : 0;
  preprocess.size = size;
  preprocess.check();
  return preprocess;
}

/// A picture small enough for a report.
inline tl::PictureCard card_of(const tl::PictureDataset& data, const tl::SampleResult& result) {
  tl::Generator unused;
  const tl::Image picture = tl::Resize{112, tl::Interpolation::bicubic}(data.picture(result.index), unused);
  const auto name = [&](int64_t c) { return data.classes()[static_cast<size_t>(c)]; };
  return {"image/jpeg",       tl::encode_jpeg(picture, 80),
          name(result.truth), name(result.predicted),
          result.probability, std::filesystem::path(data.name(result.index)).filename().string()};
}

/// The parts of a report that show what a network says: confusion, the surest mistakes, and some predictions.
inline void describe_predictions(tl::Report& report, const std::string& run, const tl::PictureDataset& data,
                                 const tl::Evaluation& evaluation) {
  constexpr size_t kMistakes = 12, kExamples = 12;
  report.judged_run = run;
  report.classes = data.classes();
  report.confusion = evaluation.confusion;
  report.calibration.insert(report.calibration.begin(), {"As trained", tl::reliability(evaluation.samples)});
  std::vector<tl::SampleResult> wrong;
  for (const auto& sample : evaluation.samples)
    if (sample.truth != sample.predicted) wrong.push_back(sample);
  std::stable_sort(wrong.begin(), wrong.end(),
                   [](const auto& a, const auto& b) { return a.probability > b.probability; });
  if (wrong.size() > kMistakes) wrong.resize(kMistakes);
  for (const auto& sample : wrong) report.mistakes.push_back(card_of(data, sample));
  const size_t step = std::max<size_t>(evaluation.samples.size() / kExamples, 1);
  for (size_t i = 0; i < evaluation.samples.size() && report.examples.size() < kExamples; i += step)
    report.examples.push_back(card_of(data, evaluation.samples[i]));
}

/// What the head gets to see of up to 500 pictures, spread evenly over a view, as a map.
inline tl::FeatureMap map_of(tl::models::ImageClassifier& net, const tl::View& view, const std::string& title) {
  constexpr size_t kMost = 500;
  const size_t step = (view.indices.size() + kMost - 1) / kMost;
  std::vector<int64_t> some;
  for (size_t i = 0; i < view.indices.size(); i += step) some.push_back(view.indices[i]);
  tl::Loader loader(tl::View(view.data, some, view.pipeline), {.batch = 16});
  const tl::FeatureSet seen = tl::extract_features(net, loader, [&](const tl::Tensor& x) { return net.features(x); });
  tl::FeatureMap map = tl::map_features(seen.x, seen.y);
  map.title = title;
  return map;
}

/// Tries rates for a strategy with a fresh head: one that was fitted first would have little left to lose, and the
/// curve little to say.
inline tl::RateCurve find_rate(const tl::Strategy& strategy, tl::models::ImageModel& model, const tl::View& train,
                               const tl::View& validation, const tl::StrategyOptions& options) {
  tl::RateCurve curve;
  const auto try_rates = [&](tl::TransferRun& run) {
    if (!strategy.pretrained) run.start_from_scratch();
    if (strategy.name == "features") tl::freeze_all_but(run.net(), run.net().head_name());
    const bool decays = strategy.name == "finetune" || strategy.name == "gradual";
    curve = run.find_rate(decays ? tl::FineTunePhase() : tl::FineTunePhase{.backbone_factor = 1, .layer_decay = 1});
    return tl::FitResult();
  };
  const tl::Strategy finder{.name = "find_rate", .run = try_rates, .pretrained = strategy.pretrained};
  tl::train_with_strategy(finder, model, train, validation, options);
  return curve;
}

/// Writes rate_finder.tsv and rate_finder.html.
inline void write_rate_curve(const std::string& folder, const tl::RateCurve& curve,
                             const std::vector<std::pair<std::string, std::string>>& facts) {
  std::error_code error;
  std::filesystem::create_directories(folder, error);
  tl::require<tl::IoError>(!error, "cannot make the folder ", folder, ": ", error.message());
  const auto write = [&](const char* name, const std::string& content) {
    tl::write_atomically(folder + name, [&](tl::FileWriter& out) { out.write(content); });
  };
  write("/rate_finder.tsv", curve.to_tsv());
  write("/rate_finder.html",
        tl::render_html({.title = "Which learning rate to begin with", .facts = facts, .rate_curve = curve}));
}

/// The last epoch's measures as events, and how the weights are spread that learn.
inline void add_events(tl::EventWriter& events, const tl::RunLog& log, tl::nn::Module& net) {
  const int64_t epoch = log.epochs.back().epoch;
  tl::add_epoch(events, log.epochs.back());
  for (const auto& p : tl::nn::named_parameters(net)) {
    const tl::Tensor& weight = p.parameter->value();
    if (weight.rank() > 1 && !p.parameter->frozen())
      events.add_histogram("weights/" + p.name, weight.detach().to(tl::kCpu).values<float>(), epoch);
  }
  events.flush();
}

inline std::string machine() {
  std::string model = "unknown processor";
  std::ifstream in("/proc/cpuinfo");
  for (std::string line; std::getline(in, line);)
    if (line.starts_with("model name")) {
      model = line.substr(line.find(':') + 2);
      break;
    }
  return tl::text(model, ", ", tl::active_isa(), ", ", tl::threads(), " threads");
}

/// Writes the report of one training and of what its network says to `data`. `report`: what else it shall say.
inline void write_report(const std::string& folder, tl::Report report, const std::string& run, const tl::RunLog& log,
                         const PictureData& pictures, const tl::PictureDataset& data,
                         const tl::Evaluation& evaluation) {
  report.facts = {{"pictures", tl::text(pictures.train.size(), " to train, ", evaluation.samples.size(), " judged")},
                  {"machine", machine()},
                  {"tl", TL_VERSION_STRING}};
  report.warnings = pictures.warnings;
  report.runs = {{.name = run, .seeds = {log}}};
  describe_predictions(report, run, data, evaluation);
  tl::write_report(folder, report);
  std::printf("report: %s/report.html\n", folder.c_str());
}

/// Weights of classes for a loss, as if all had as many pictures: n / (classes n_c), [C].
/// scikit-learn: compute_class_weight("balanced").
inline tl::Tensor balancing_weights(const PictureData& pictures) {
  std::vector<float> weights(pictures.train_data->classes().size());
  for (const int64_t i : pictures.train) ++weights[static_cast<size_t>(pictures.train_data->label(i))];
  const float mean = static_cast<float>(pictures.train.size()) / static_cast<float>(weights.size());
  for (float& weight : weights) weight = mean / std::max(weight, 1.0f);
  return tl::Tensor::from(weights, {std::ssize(weights)});
}

}  // namespace example
