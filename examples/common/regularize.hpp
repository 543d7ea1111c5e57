// Options for what keeps a network from learning its few pictures by heart: regularisers, mixed and changed pictures.
#pragma once
#include <string>
#include <utility>
#include <vector>

#include "tl/data/mix.hpp"
#include "tl/data/rand_augment.hpp"
#include "tl/train/strategies.hpp"
#include "tl/train/terms.hpp"

namespace example {

class Regularization {
 public:
  void add_to(CLI::App& app) {
    std::string names;
    for (const auto& info : tl::regularizers()) names += "\n" + info.name + ": " + info.summary;
    app.add_option("--regularizer", terms_, "NAME or NAME=STRENGTH, once or more:" + names);
    app.add_option("--teacher", teacher_file_, "distill: a network with the same classes that knows better");
    app.add_flag("--stochastic-norm", stochastic_norm_,
                 "BatchNorm takes the batch's or the running statistics by a coin for each channel");
    app.add_option("--mixup", mixing_.mixup, "alpha of mixup, 0.2 say")->check(within(0, 1000));
    app.add_option("--cutmix", mixing_.cutmix, "alpha of CutMix, 1 say")->check(within(0, 1000));
    app.add_option("--rand-augment", rand_augment_, "N,M: so many changes of each picture, of strength M from 0 to 30")
        ->delimiter(',')
        ->expected(2);
  }

  /// The steps for training pictures besides those of `options`.
  tl::AugmentOptions augmented(tl::AugmentOptions options) const {
    if (!rand_augment_.empty()) options.more.push_back(tl::RandAugment{rand_augment_[0], rand_augment_[1]});
    return options;
  }

  /// Brings all of it into fine-tuning. `weights`: the file that the network came from. This object and `train` must
  /// outlive training.
  void apply(tl::StrategyOptions& options, const std::string& weights, const std::string& arch, const tl::View& train) {
    tl::RegularizeOptions with{.train = &train};
    for (const auto& term : terms_) with.terms.push_back(tl::parse_regularizer(term));
    if (!terms_.empty() && !weights.empty()) {
      source_ = tl::models::load_image_model(weights, arch);
      with.source = source_.net.get();
    }
    if (!teacher_file_.empty()) {
      teacher_ = tl::models::load_image_model(teacher_file_);
      with.teacher = teacher_.net.get();
    }
    if (terms_.empty() && !stochastic_norm_ && mixing_.mixup == 0 && mixing_.cutmix == 0) return;
    if (stochastic_norm_) options.freeze_norms = false;
    tl::Mixing mixing = mixing_;
    mixing.classes = std::ssize(train.data->classes());
    mixing.seed = options.seed;
    options.customize = [=, this](tl::models::ImageClassifier& net, tl::FitOptions& fit) {
      tl::regularize(net, fit, with);
      if (stochastic_norm_) tl::set_stochastic_norms(net);
      if (mixing.mixup > 0 || mixing.cutmix > 0) fit.on_batch = mixing;
    };
  }

 private:
  std::vector<std::string> terms_;
  std::string teacher_file_;
  bool stochastic_norm_ = false;
  tl::Mixing mixing_;
  std::vector<int64_t> rand_augment_;
  tl::models::ImageModel source_, teacher_;
};

}  // namespace example
