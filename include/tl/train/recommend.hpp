// Choosing before training: which pretrained weights, taught in which way, suit a set of pictures, and why.
//
//     const Recommendation advice = recommend({{"efficientnet_lite0.safetensors"}, {"squeezenet1_1.safetensors"}},
//     train); std::puts(advice.why.c_str());
#pragma once
#include <string>
#include <vector>

#include "tl/data/dataset.hpp"
#include "tl/train/metrics.hpp"
#include "tl/train/strategies.hpp"

namespace tl::inline TL_ABI {

/// A file of pretrained weights, and its architecture if the file does not say it.
struct Candidate {
  std::string weights;
  std::string arch = {};
};

struct RecommendOptions {
  int64_t pictures = 500;   ///< how many the scores look at, at most: drawn at random, each class by its share
  int64_t batch = 16;       ///< of extraction and of the steps whose time is taken
  int64_t timed_steps = 3;  ///< the time is their median, after one step that does not count
  int64_t shuffles = 20;    ///< labellings at random that the scores are compared with
  uint64_t seed = 0;
  ProgressScreen screen = {};
};

/// What was measured of one candidate. Scores: see transfer/transferability.hpp. NaN where there is none: LEEP, NCE and
/// the entropy need the head that the network was pretrained with, which some files lack.
struct CandidateReport {
  std::string weights = {}, arch = {};
  int64_t parameters = 0;
  int64_t features = 0;  ///< numbers a picture that the head takes, averaged over pixels
  int64_t size = 0;      ///< width and height of the network's input
  double log_me = kNoValue, shrunk_h_score = kNoValue, trans_rate = kNoValue, leep = kNoValue, nce = kNoValue;
  double chance = kNoValue;          ///< mean LogME of shuffled labels
  double deviation = kNoValue;       ///< of those LogMEs
  double source_entropy = kNoValue;  ///< mean entropy of the source's predictions over that of guessing, 0 to 1
  double forward_seconds = 0;        ///< a picture, predicting
  double step_seconds = 0;           ///< a picture, when all layers learn
  double head_seconds = 0;           ///< a picture, when the head learns on features that are there

  /// How many deviations LogME lies above what labels without meaning get.
  double above_chance() const { return (log_me - chance) / deviation; }
  /// Whether the features know no more of the labels than of shuffled ones: above_chance() below 4.
  bool unlike() const { return !(above_chance() >= 4); }
};

/// One way to go.
struct Choice {
  std::string weights = {}, arch = {};
  std::string strategy = {};     ///< its name, for train_with_strategy
  StrategyOptions options = {};  ///< that suit the number of pictures
  double log_me = kNoValue;      ///< of the weights
  double setup_seconds = 0;      ///< once: features of all pictures, and what the head learns on them
  double epoch_seconds = 0;      ///< each epoch, without validation
  double seconds = 0;            ///< of the whole training
  std::string why = {};          ///< one paragraph
};

struct Recommendation {
  std::vector<Choice> choices = {};              ///< best first
  std::vector<CandidateReport> candidates = {};  ///< best LogME first
  int64_t train_pictures = 0, scored_pictures = 0;
  std::string why = {};      ///< the first choice's paragraph
  std::string warning = {};  ///< empty, or that the task looks unlike every source, and what to do
};

/// Ranks weights and strategies for the pictures of `train`, without training.
///
/// Weights are ranked by LogME of their features of a stratified sample. Strategies are ranked by the number of
/// training pictures N, as the field's rules of thumb have it:
///
///     N < 100            features with strong weight decay, then lp_ft
///     100 <= N < 1,000   features, then lp_ft
///     1,000 <= N         finetune, then features
///
/// and those that let the backbone learn come first where the features tell no more than chance. Pairs are ranked by
/// the sum of both ranks, the better weights first among equals. Times are measured on this machine, a few steps of
/// each candidate, and extrapolated to N pictures.
///
/// The task counts as unlike every source when no candidate's LogME lies 4 deviations above its LogME of shuffled
/// labels: its features cannot tell the classes apart, so a transfer has nothing to start from.
///
/// `train` gives pictures and labels; each candidate brings its own preprocessing, so the view's is not used.
/// Errors: UsageError without candidates, for a class with fewer than two pictures, and for a single class; IoError for
/// a file that cannot be used, with the reason.
Recommendation recommend(const std::vector<Candidate>& candidates, const View& train,
                         const RecommendOptions& options = {});

}  // namespace tl::inline TL_ABI

#if TL_HEADER_ONLY
#include "tl/train/recommend.inl"
#endif
