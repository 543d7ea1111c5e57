// The regularisers of transfer/regularize.hpp as terms of a training loop, one by one or by name.
#pragma once
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "tl/data/dataset.hpp"
#include "tl/models/image_classifier.hpp"
#include "tl/train/fit.hpp"
#include "tl/transfer/regularize.hpp"

namespace tl::inline TL_ABI {

/// What a network computes on its way to the logits, for terms that look at more than these: the head's features, and
/// the results of some stages. As FitOptions::forward it keeps those of the batch that passed last.
class Inside {
 public:
  /// `stages`: whose results are kept, counted from the input. Errors: UsageError for a stage that is not there.
  explicit Inside(models::ImageClassifier& net, std::vector<size_t> stages = {});

  /// The logits.
  Tensor operator()(const Tensor& x);
  const Tensor& features() const { return features_; }
  const std::vector<Tensor>& maps() const { return maps_; }  ///< of the stages, in their order

 private:
  models::ImageClassifier& net_;
  std::vector<size_t> stages_;
  Tensor features_;
  std::vector<Tensor> maps_;
};

/// Makes `fit` keep what the network computes inside, validation apart.
std::shared_ptr<Inside> look_inside(models::ImageClassifier& net, FitOptions& fit, std::vector<size_t> stages = {});

/// L2-SP towards the weights that the network has now; see L2Sp.
LossTerm l2_sp_term(models::ImageClassifier& net, const L2SpOptions& options = {});

/// DELTA; `inside` and `source` keep the same stages. `source` is run in evaluation on each batch.
LossTerm delta_term(std::shared_ptr<const Inside> inside, std::shared_ptr<Inside> source, double strength,
                    std::vector<Tensor> attention = {});

/// Batch spectral shrinkage of the head's features. A batch of one picture has none.
LossTerm bss_term(std::shared_ptr<const Inside> inside, double strength = 1e-3, int64_t k = 1);

/// Co-Tuning: the source network's head, kept as it is, on the new network's features. The paper trains it along.
LossTerm co_tuning_term(std::shared_ptr<const Inside> inside, models::ImageClassifier& source, Tensor relationship,
                        double strength = 1);

/// Knowledge distillation from a teacher with the same classes, which is run in evaluation on each batch.
LossTerm distillation_term(models::ImageClassifier& teacher, double strength = 1, double temperature = 2);

/// Learning without forgetting: the source network's head on the new features shall say what the source network says.
/// The head is kept as it is; the paper trains it along.
LossTerm lwf_term(std::shared_ptr<const Inside> inside, models::ImageClassifier& source, double strength = 1,
                  double temperature = 2);

/// A regulariser by name, and its share of the loss; below 0: the strength that is usual.
struct Regularizer {
  std::string name;
  double strength = -1;
};

struct RegularizerInfo {
  std::string name, summary;
  double strength;  ///< usual
};

/// l2_sp, delta, delta_attention, bss, co_tuning, lwf and distill.
const std::vector<RegularizerInfo>& regularizers();

/// "NAME" or "NAME=STRENGTH". Errors: UsageError for an unknown name, with all names, or a strength that is none.
Regularizer parse_regularizer(std::string_view text);

/// What regularisers compare with. Networks are frozen, put in evaluation, and must outlive training.
struct RegularizeOptions {
  std::vector<Regularizer> terms = {};
  models::ImageClassifier* source = nullptr;   ///< the pretrained network with its own head
  models::ImageClassifier* teacher = nullptr;  ///< distill: a network with the new classes
  const View* train = nullptr;                 ///< co_tuning and delta_attention learn from these pictures beforehand
  std::vector<size_t> stages = {};             ///< delta: whose maps count; empty: the last four below the head
};

/// Adds terms to the options of training, for StrategyOptions::customize:
///
///     options.customize = [&](auto& net, auto& fit) {
///       regularize(net, fit, {.terms = {{"l2_sp"}}});
///     };
///
/// Errors: UsageError for an unknown name, and for what a term needs and was not given.
void regularize(models::ImageClassifier& net, FitOptions& fit, const RegularizeOptions& options);

}  // namespace tl::inline TL_ABI

#if TL_HEADER_ONLY
#include "tl/train/terms.inl"
#endif
