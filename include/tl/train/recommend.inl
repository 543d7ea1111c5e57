// Definitions of train/recommend.hpp.
#pragma once
#include <algorithm>
#include <cmath>
#include <filesystem>
#include <numeric>
#include <utility>

#include "tl/core/stopwatch.hpp"
#include "tl/data/split.hpp"
#include "tl/nn/freeze.hpp"
#include "tl/ops/loss.hpp"
#include "tl/ops/pool.hpp"
#include "tl/ops/softmax.hpp"
#include "tl/ops/view.hpp"
#include "tl/train/recommend.hpp"
#include "tl/transfer/features.hpp"
#include "tl/transfer/transferability.hpp"

namespace tl::inline TL_ABI {
namespace detail {

/// The class of each of `positions`; every class has at least two of them.
TL_INLINE std::vector<int64_t> classes_at(const PictureDataset& data, const std::vector<int64_t>& positions) {
  const auto& names = data.classes();
  std::vector<int64_t> labels, counts(names.size());
  for (const int64_t i : positions) {
    labels.push_back(data.label(i));
    ++counts.at(static_cast<size_t>(labels.back()));
  }
  require<UsageError>(names.size() >= 2, "recommend: all ", positions.size(), " pictures are of one class, ",
                      names.empty() ? "" : names[0], ". Hint: a folder for each class, and at least two of them.");
  for (size_t c = 0; c < counts.size(); ++c)
    require<UsageError>(counts[c] >= 2, "recommend: class ", names[c], " has ", counts[c],
                        counts[c] == 1 ? " picture" : " pictures",
                        ", but needs two at least. Hint: add pictures, or take the class out.");
  return labels;
}

/// At most `count` of the view's positions, of each class its share.
TL_INLINE std::vector<int64_t> stratified_sample(const View& view, int64_t count, uint64_t seed) {
  const auto labels = classes_at(*view.data, view.indices);
  const double share = static_cast<double>(count) / static_cast<double>(view.indices.size());
  if (share >= 1) return view.indices;
  std::vector<int64_t> out;
  for (const int64_t i : split_indices(labels, {.val_fraction = share, .seed = seed}).val)
    out.push_back(view.indices[static_cast<size_t>(i)]);
  return out;
}

TL_INLINE models::ImageModel load_candidate(const Candidate& candidate) {
  try {
    return models::load_image_model(candidate.weights, candidate.arch);
  } catch (const Error& error) {
    fail<IoError>("recommend: cannot use these weights: ", error.what(),
                  " Hint: leave them out, or fetch or convert them again (weights/fetch.py, weights/convert.py).");
  }
}

TL_INLINE std::string short_name(const std::string& path) { return std::filesystem::path(path).filename().string(); }

/// Whether the head came with the file, and so predicts the source's classes.
TL_INLINE bool has_source_head(const models::ImageModel& model) {
  const std::string head = model.net->head_name() + ".";
  const auto& missing = model.report.missing;
  return std::none_of(missing.begin(), missing.end(), [&](const auto& name) { return name.starts_with(head); });
}

/// The median time of `count` calls, after one that does not count, divided by `pictures`.
template <class Call>
double seconds_each(int64_t count, int64_t pictures, const Call& call) {
  call();
  std::vector<double> times;
  for (int64_t i = 0; i < std::max<int64_t>(count, 1); ++i) {
    const Stopwatch watch;
    call();
    times.push_back(watch.seconds());
  }
  std::nth_element(times.begin(), times.begin() + std::ssize(times) / 2, times.end());
  return times[times.size() / 2] / static_cast<double>(pictures);
}

/// Times prediction, a training step of all layers and one of the head, on a batch. Spoils the network.
TL_INLINE void take_times(models::ImageClassifier& net, const Tensor& x, const Tensor& y, int64_t classes,
                          const RecommendOptions& options, CandidateReport& report) {
  const int64_t pictures = x.size(0);
  net.set_frozen(false);
  net.replace_head(classes);
  Tensor features;
  {
    const nn::ModeScope evaluation_mode(net, false);
    const NoGrad no_grad;
    report.forward_seconds = seconds_each(options.timed_steps, pictures, [&] { net(x); });
    features = net.features(x);
  }
  const auto step = [&](optim::Optimizer& optimizer, const auto& logits) {
    optimizer.zero_grad();
    cross_entropy(logits(), y).backward();
    optimizer.step();
  };
  const nn::ModeScope training_mode(net, true);
  freeze_batch_norms(net);
  optim::AdamW whole(optim::param_groups(net, 1e-4));
  report.step_seconds =
      seconds_each(options.timed_steps, pictures, [&] { step(whole, [&] { return cast(net(x), DType::f32); }); });
  freeze_all_but(net, net.head_name());
  optim::AdamW head(optim::param_groups(net, 1e-3));
  report.head_seconds = seconds_each(options.timed_steps, pictures,
                                     [&] { step(head, [&] { return cast(net.classify(features), DType::f32); }); });
}

/// Mean entropy of rows of probabilities, over that of equal ones.
TL_INLINE double mean_entropy(const Tensor& probabilities) {
  double sum = 0;
  for (const float p : probabilities.values<float>())
    if (p > 0) sum -= static_cast<double>(p) * std::log(static_cast<double>(p));
  return sum / (static_cast<double>(probabilities.size(0)) * std::log(static_cast<double>(probabilities.size(1))));
}

/// Labels in random order, `options.shuffles` times, behind the true ones.
TL_INLINE std::vector<Tensor> with_shuffles(const Tensor& labels, const RecommendOptions& options) {
  std::vector<Tensor> out{labels};
  const auto values = labels.values<int32_t>();
  std::vector<int32_t> shuffled(values.begin(), values.end());
  Generator generator(options.seed, 1);
  for (int64_t i = 0; i < std::max<int64_t>(options.shuffles, 2); ++i) {
    generator.shuffle(shuffled);
    out.push_back(Tensor::from(shuffled, labels.shape()));
  }
  return out;
}

/// Fills in the scores. `seen` holds features and, where the network `predicts`, the source's probabilities behind
/// them.
TL_INLINE void take_scores(const FeatureSet& seen, bool predicts, const RecommendOptions& options,
                           CandidateReport& report) {
  const NoGrad no_grad;
  const Tensor features = slice(seen.x, 1, 0, report.features);
  const std::vector<double> scores = log_me(features, with_shuffles(seen.y, options));
  const double count = static_cast<double>(scores.size() - 1);
  report.log_me = scores[0];
  report.chance = std::accumulate(scores.begin() + 1, scores.end(), 0.0) / count;
  double squares = 0;
  for (size_t i = 1; i < scores.size(); ++i) squares += (scores[i] - report.chance) * (scores[i] - report.chance);
  report.deviation = std::max(std::sqrt(squares / (count - 1)), 1e-12);
  report.shrunk_h_score = shrunk_h_score(features, seen.y);
  report.trans_rate = trans_rate(features, seen.y, {.unit_trace = true});
  if (!predicts) return;
  const Tensor probabilities = slice(seen.x, 1, report.features, seen.x.size(1));
  report.leep = leep(probabilities, seen.y);
  report.nce = nce(argmax(probabilities, 1), seen.y);
  if (probabilities.size(1) > 1) report.source_entropy = mean_entropy(probabilities);
}

TL_INLINE CandidateReport examine(const Candidate& candidate, const View& train, const std::vector<int64_t>& sample,
                                  const RecommendOptions& options, Progress& progress, int64_t number) {
  models::ImageModel model = load_candidate(candidate);
  models::ImageClassifier& net = *model.net;
  CandidateReport report{.weights = candidate.weights, .arch = model.info.arch, .size = model.info.preprocess.size};
  for (const auto& named : nn::named_parameters(net)) report.parameters += named.parameter->value().numel();
  const bool predicts = has_source_head(model);
  Tensor first_batch;
  Loader loader(View(train.data, sample, eval_transform(model.info.preprocess)), {.batch = options.batch});
  progress.start_phase(number, short_name(candidate.weights), loader.batches());
  const FeatureSet seen = extract_features(
      net, loader,
      [&](const Tensor& x) {
        if (!first_batch.defined()) first_batch = x;
        const Tensor raw = net.features(x);
        const Tensor pooled = cast(raw.rank() == 4 ? global_avg_pool(raw) : raw, DType::f32);
        report.features = pooled.size(1);
        return predicts ? concat({pooled, softmax(cast(net.classify(raw), DType::f32))}, 1) : pooled;
      },
      [&](int64_t pictures) { progress.step(pictures); });
  classes_at(*train.data, seen.indices);  // once more: pictures that cannot be read are missing
  take_scores(seen, predicts, options, report);
  take_times(net, first_batch, Tensor::view_of(seen.y.storage(), 0, {first_batch.size(0)}, DType::i32),
             static_cast<int64_t>(train.data->classes().size()), options, report);
  return report;
}

/// A strategy that suits a number of pictures, and why.
struct SuitedStrategy {
  std::string name;
  double weight_decay;
  std::string why;
};

TL_INLINE std::vector<SuitedStrategy> suited_strategies(int64_t pictures, bool unlike) {
  std::vector<SuitedStrategy> out;
  if (pictures < 100) {
    out = {
        {"features", 0.1, "so few pictures teach a strongly regularised head at most, and the backbone stays as it is"},
        {"lp_ft", 0.1, "a head first, then a few careful steps of all layers: more can be learnt, and more forgotten"}};
  } else if (pictures < 1000) {
    out = {{"features", 1e-2, "hundreds of pictures suffice for a head on frozen features, computed once"},
           {"lp_ft", 1e-2, "all layers learn after the head, which pays where the pictures look unlike the source's"}};
  } else {
    out = {{"finetune", 1e-2, "thousands of pictures can teach all layers, the lower the slower"},
           {"features", 1e-2,
            "only a head learns: less accurate with so many pictures, but done in a fraction of the time"}};
  }
  if (unlike && out[0].name == "features") std::swap(out[0], out[1]);
  return out;
}

/// "12.3 s" below two minutes, else as format_duration; milliseconds where they count.
TL_INLINE std::string duration(double seconds) {
  if (seconds < 0.1) return text(std::round(1e4 * seconds) / 10, " ms");
  return seconds < 120 ? text(std::round(10 * seconds) / 10, " s") : format_duration(seconds);
}

TL_INLINE double rounded(double value) { return std::round(1e3 * value) / 1e3; }

TL_INLINE Choice choose(const CandidateReport& report, const SuitedStrategy& strategy, int64_t pictures,
                        uint64_t seed) {
  const int64_t head_epochs = HeadPhase().epochs, epochs = FineTunePhase().epochs;
  const double n = static_cast<double>(pictures);
  const bool features = strategy.name == "features";
  Choice out{.weights = report.weights, .arch = report.arch, .strategy = strategy.name, .log_me = report.log_me};
  out.options.epochs = features ? head_epochs : epochs;
  out.options.weight_decay = strategy.weight_decay;
  out.options.seed = seed;
  // A head learns on features of so many augmentations of each picture in turns, in every strategy the first thing.
  constexpr int64_t kVariants = 4;
  if (features) out.options.variants = kVariants;
  const double extraction = kVariants * n * report.forward_seconds, head_epoch = n * report.head_seconds;
  out.setup_seconds = extraction + (features ? 0 : static_cast<double>(head_epochs) * head_epoch);
  out.epoch_seconds = features ? head_epoch : n * report.step_seconds;
  out.seconds = out.setup_seconds + static_cast<double>(out.options.epochs) * out.epoch_seconds;
  out.why = text(strategy.name, " with ", short_name(report.weights), " (", report.arch, "): ", strategy.why, ". ",
                 features ? "Features of all pictures take " : "A head to begin with takes ",
                 duration(out.setup_seconds), ", each of ", out.options.epochs, " epochs ", duration(out.epoch_seconds),
                 ", together about ", duration(out.seconds), " without validation. LogME ", rounded(report.log_me),
                 " (labels at random ", rounded(report.chance), ")");
  if (report.leep == report.leep)
    out.why += text(", LEEP ", rounded(report.leep), " and NCE ", rounded(report.nce), " of at most 0");
  out.why += ".";
  constexpr double kUnsure = 0.7;  // photographs: 0.2 to 0.5; blood cells, defects of tiles: 0.7 to 0.8, as noise
  if (report.source_entropy > kUnsure)
    out.why += text(" The source's own classes hardly fit these pictures (entropy ", rounded(report.source_entropy),
                    " of 1)", features ? ": if the accuracy disappoints, let all layers learn." : ".");
  return out;
}

/// Two sentences on why these weights come first.
TL_INLINE std::string compare(const std::vector<CandidateReport>& ranked) {
  if (ranked.size() == 1) return "There was one file to choose from.";
  const CandidateReport &best = ranked[0], &next = ranked[1];
  std::string out = text("Of ", ranked.size(), " files its features predict the labels best; next comes ",
                         short_name(next.weights), " with LogME ", rounded(next.log_me), ".");
  const auto fastest = std::min_element(
      ranked.begin(), ranked.end(), [](const auto& a, const auto& b) { return a.forward_seconds < b.forward_seconds; });
  if (fastest != ranked.begin())
    out += text(" The fastest is ", short_name(fastest->weights), ": ",
                std::round(10 * best.forward_seconds / fastest->forward_seconds) / 10, " times as fast at LogME ",
                rounded(fastest->log_me), ".");
  return out;
}

}  // namespace detail

TL_INLINE Recommendation recommend(const std::vector<Candidate>& candidates, const View& train,
                                   const RecommendOptions& options) {
  require<UsageError>(!candidates.empty(),
                      "recommend: no weights to choose from. Hint: python3 weights/fetch.py --list");
  require<UsageError>(options.pictures >= 4, "recommend: expected at least 4 pictures to look at, got ",
                      options.pictures);
  const auto sample = detail::stratified_sample(train, options.pictures, options.seed);
  manual_seed(options.seed);
  Recommendation out{.train_pictures = std::ssize(train.indices), .scored_pictures = std::ssize(sample)};
  {
    Progress progress(options.screen, {.epochs = std::ssize(candidates)});
    for (const Candidate& candidate : candidates)
      out.candidates.push_back(
          detail::examine(candidate, train, sample, options, progress, std::ssize(out.candidates) + 1));
  }
  std::stable_sort(out.candidates.begin(), out.candidates.end(),
                   [](const auto& a, const auto& b) { return a.log_me > b.log_me; });

  const bool unlike =
      std::all_of(out.candidates.begin(), out.candidates.end(), [](const auto& c) { return c.unlike(); });
  const auto strategies = detail::suited_strategies(out.train_pictures, unlike);
  // By the sum of both ranks, the better weights first among equals.
  for (size_t sum = 0; sum + 1 < out.candidates.size() + strategies.size(); ++sum)
    for (size_t i = 0; i <= sum && i < out.candidates.size(); ++i)
      if (sum - i < strategies.size())
        out.choices.push_back(detail::choose(out.candidates[i], strategies[sum - i], out.train_pictures, options.seed));
  out.why = out.choices[0].why + " " + detail::compare(out.candidates);
  out.choices[0].why = out.why;
  if (unlike)
    out.warning = text(
        "the task looks unlike what these networks were trained on: no features predict the labels better "
        "than shuffled ones (",
        detail::short_name(out.candidates[0].weights), " comes nearest, ",
        std::round(10 * out.candidates[0].above_chance()) / 10,
        " deviations above chance, of 4 that count). Look whether the labels are right and can be seen "
        "in the pictures; if so, try weights from a nearer source, or more pictures and training from "
        "scratch.");
  return out;
}

}  // namespace tl::inline TL_ABI
