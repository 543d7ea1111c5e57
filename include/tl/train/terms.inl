// Definitions of train/terms.hpp.
#pragma once
#include <algorithm>
#include <charconv>
#include <cmath>

#include "tl/nn/linear.hpp"
#include "tl/ops/elementwise.hpp"
#include "tl/ops/softmax.hpp"
#include "tl/ops/view.hpp"
#include "tl/train/terms.hpp"
#include "tl/transfer/features.hpp"

namespace tl::inline TL_ABI {
namespace detail {

TL_INLINE void stand_by(models::ImageClassifier& net) {
  net.set_frozen(true);
  net.eval();
}

/// What a network that stands by says to a batch, f32.
TL_INLINE Tensor without_gradient(models::ImageClassifier& net, const Tensor& x) {
  const NoGrad no_grad;
  return cast(net(in_precision(x)), DType::f32);
}

/// The training pictures as validation would see them, their features under `source`, and their labels.
TL_INLINE FeatureSet plain_features(models::ImageClassifier& source, const View& train) {
  Loader loader(View(train.data, train.indices, eval_transform(train.pipeline.preprocess())), {.batch = 32});
  return extract_features(source, loader, [&](const Tensor& x) { return source.features(x); });
}

TL_INLINE Tensor relationship_of(models::ImageClassifier& source, const View& train) {
  const FeatureSet known = plain_features(source, train);
  const nn::ModeScope evaluation(source, false);
  const NoGrad no_grad;
  const Tensor logits = source.classify(known.x.to(device_of(source)));
  return category_relationship(softmax(cast(logits, DType::f32)), known.y, std::ssize(train.data->classes()));
}

/// The stages whose feature maps DELTA compares unless told otherwise.
TL_INLINE std::vector<size_t> last_stages(const models::ImageClassifier& net) {
  const size_t head = net.stage_count() - 1;
  std::vector<size_t> out;
  for (size_t stage = head - std::min<size_t>(head, 4); stage < head; ++stage) out.push_back(stage);
  return out;
}

/// The weight of a stage's last convolution.
TL_INLINE nn::Parameter& last_filters(models::ImageClassifier& net, size_t stage) {
  nn::Parameter* found = nullptr;
  const std::vector<std::string> globs = net.stages().at(stage);
  for (const std::string& glob : globs)
    for (const auto& p : nn::select_parameters(net, glob))
      if (p.parameter->value().rank() == 4) found = p.parameter;
  require<UsageError>(found, "delta: there is no convolution in stage ", stage);
  return *found;
}

/// DELTA's attention for each stage: how much the loss of a linear probe on the source's features rises without each
/// filter, over a few pictures.
TL_INLINE std::vector<Tensor> delta_attention_of(models::ImageClassifier& source, const std::vector<size_t>& stages,
                                                 const View& train) {
  const FeatureSet known = plain_features(source, train);
  const int64_t classes = std::ssize(train.data->classes());
  nn::Linear probe(known.x.size(1), classes);
  TensorSource features(known.x, known.y, {.batch = 16, .shuffle = true});
  optim::AdamW optimizer(optim::param_groups(probe, 3e-3, 1e-2));
  fit(probe, optimizer, features, nullptr, classes, {.epochs = 30});

  Loader loader(View(train.data, train.indices, eval_transform(train.pipeline.preprocess())),
                {.batch = 32, .shuffle = true});
  Batch batch;
  loader.epoch(0)->next(batch);
  require<UsageError>(!batch.indices.empty(), "delta: no picture could be read");
  const NoGrad no_grad;
  const Tensor x = in_precision(batch.x.to(device_of(source)));
  std::vector<Tensor> out;
  for (const size_t stage : stages) {
    const Tensor below = source.run_stages(x, 0, stage);  // which the stage's filters do not change
    const auto loss = [&] {
      const Tensor logits = probe(source.run_stages(below, stage, source.stage_count() - 1));
      return cross_entropy(cast(logits, DType::f32), batch.y).item();
    };
    out.push_back(channel_attention(filter_importance(last_filters(source, stage), loss)));
  }
  return out;
}

}  // namespace detail

TL_INLINE Inside::Inside(models::ImageClassifier& net, std::vector<size_t> stages)
    : net_(net), stages_(std::move(stages)) {
  for (const size_t stage : stages_)
    require<UsageError>(stage + 1 < net.stage_count(), "Inside: stage ", stage, " of a network with ",
                        net.stage_count() - 1, " below its head");
}

TL_INLINE Tensor Inside::operator()(const Tensor& x) {
  std::vector<Tensor> results;
  features_ = in_precision(x);
  for (size_t stage = 0; stage + 1 < net_.stage_count(); ++stage) {
    features_ = net_.run_stage(stage, features_);
    if (!stages_.empty()) results.push_back(features_);
  }
  maps_.clear();
  for (const size_t stage : stages_) maps_.push_back(results[stage]);
  return net_.classify(features_);
}

TL_INLINE std::shared_ptr<Inside> look_inside(models::ImageClassifier& net, FitOptions& fit,
                                              std::vector<size_t> stages) {
  auto inside = std::make_shared<Inside>(net, std::move(stages));
  fit.forward = [inside](const Tensor& x) { return (*inside)(x); };
  if (!fit.validation_forward) fit.validation_forward = detail::whole(net);
  return inside;
}

TL_INLINE LossTerm l2_sp_term(models::ImageClassifier& net, const L2SpOptions& options) {
  return {"l2_sp", [pull = L2Sp(net, net.head_name(), options)](const StepView&) { return pull(); }};
}

TL_INLINE LossTerm delta_term(std::shared_ptr<const Inside> inside, std::shared_ptr<Inside> source, double strength,
                              std::vector<Tensor> attention) {
  return {"delta", [=](const StepView& step) {
            {
              const NoGrad no_grad;
              (*source)(step.x);
            }
            return feature_map_distance(inside->maps(), source->maps(), attention) * strength;
          }};
}

TL_INLINE LossTerm bss_term(std::shared_ptr<const Inside> inside, double strength, int64_t k) {
  return {"bss", [=](const StepView&) {
            const Tensor features = flatten(cast(inside->features(), DType::f32));
            const int64_t most = std::min(features.size(0), features.size(1));
            if (most < 2) return Tensor::zeros({});
            return spectral_shrinkage(features, std::min(k, most)) * strength;
          }};
}

TL_INLINE LossTerm co_tuning_term(std::shared_ptr<const Inside> inside, models::ImageClassifier& source,
                                  Tensor relationship, double strength) {
  detail::stand_by(source);
  return {"co_tuning", [=, &source](const StepView& step) {
            const Tensor logits = cast(source.classify(inside->features()), DType::f32);
            return co_tuning_loss(logits, relationship, step.targets[0]) * strength;
          }};
}

TL_INLINE LossTerm distillation_term(models::ImageClassifier& teacher, double strength, double temperature) {
  detail::stand_by(teacher);
  return {"distill", [=, &teacher](const StepView& step) {
            return distillation_loss(step.output, detail::without_gradient(teacher, step.x), temperature) * strength;
          }};
}

TL_INLINE LossTerm lwf_term(std::shared_ptr<const Inside> inside, models::ImageClassifier& source, double strength,
                            double temperature) {
  detail::stand_by(source);
  return {"lwf", [=, &source](const StepView& step) {
            const Tensor now = cast(source.classify(inside->features()), DType::f32);
            return distillation_loss(now, detail::without_gradient(source, step.x), temperature) * strength;
          }};
}

TL_INLINE const std::vector<RegularizerInfo>& regularizers() {
  static const std::vector<RegularizerInfo> all{
      {"l2_sp", "weights stay near the pretrained ones", 0.1},
      {"delta", "feature maps stay near the pretrained network's", 0.01},
      {"delta_attention", "delta, the channels weighed by what the source loses without them", 0.01},
      {"bss", "the batch's weakest feature directions shrink", 1e-3},
      {"co_tuning", "the pretrained head learns along, by way of related classes", 1},
      {"lwf", "the pretrained head goes on saying what it said", 1},
      {"distill", "a teacher's answers", 1},
  };
  return all;
}

TL_INLINE Regularizer parse_regularizer(std::string_view text) {
  const size_t equal = text.find('=');
  Regularizer out{std::string(text.substr(0, equal))};
  std::string names;
  for (const auto& info : regularizers()) names += (names.empty() ? "" : ", ") + info.name;
  const auto known = [&](const RegularizerInfo& info) { return info.name == out.name; };
  require<UsageError>(std::any_of(regularizers().begin(), regularizers().end(), known), "regularizer: expected one of ",
                      names, "; got \"", out.name, "\"");
  if (equal == std::string_view::npos) return out;
  const std::string_view number = text.substr(equal + 1);
  const auto [end, error] = std::from_chars(number.data(), number.data() + number.size(), out.strength);
  require<UsageError>(
      error == std::errc() && end == number.data() + number.size() && out.strength >= 0 && std::isfinite(out.strength),
      "regularizer: expected NAME or NAME=STRENGTH, the strength at least 0; got \"", text, "\"");
  return out;
}

TL_INLINE void regularize(models::ImageClassifier& net, FitOptions& fit, const RegularizeOptions& options) {
  const auto has = [&](std::string_view prefix) {
    return std::any_of(options.terms.begin(), options.terms.end(),
                       [&](const Regularizer& term) { return term.name.starts_with(prefix); });
  };
  const auto needed = [](auto* given, const std::string& term, const char* what) -> auto& {
    require<UsageError>(given, "regularize: ", term, " needs ", what);
    return *given;
  };
  std::vector<size_t> stages;
  if (has("delta")) stages = options.stages.empty() ? detail::last_stages(net) : options.stages;
  std::shared_ptr<Inside> inside;
  if (has("delta") || has("bss") || has("co_tuning") || has("lwf")) inside = look_inside(net, fit, stages);

  if (has("distill") && !fit.forward) fit.forward = detail::whole(net);  // the teacher needs the pictures themselves

  for (const Regularizer& term : options.terms) {
    const std::string& name = term.name;
    const auto info = std::find_if(regularizers().begin(), regularizers().end(),
                                   [&](const RegularizerInfo& one) { return one.name == name; });
    if (info == regularizers().end()) parse_regularizer(name);  // says which there are
    const double strength = term.strength >= 0 ? term.strength : info->strength;
    if (name == "l2_sp") {
      fit.terms.push_back(l2_sp_term(net, {.alpha = strength, .beta = strength / 10}));
    } else if (name == "bss") {
      fit.terms.push_back(bss_term(inside, strength));
    } else if (name == "distill") {
      fit.terms.push_back(distillation_term(needed(options.teacher, name, "a teacher"), strength));
    } else {
      models::ImageClassifier& source = needed(options.source, name, "the source network with its own head");
      detail::stand_by(source);
      if (name == "lwf") {
        fit.terms.push_back(lwf_term(inside, source, strength));
      } else if (name == "co_tuning") {
        const View& train = needed(options.train, name, "the training pictures");
        fit.terms.push_back(co_tuning_term(inside, source, detail::relationship_of(source, train), strength));
      } else {
        std::vector<Tensor> attention;
        if (name == "delta_attention")
          attention = detail::delta_attention_of(source, stages, needed(options.train, name, "the training pictures"));
        fit.terms.push_back(delta_term(inside, std::make_shared<Inside>(source, stages), strength, attention));
      }
    }
  }
}

}  // namespace tl::inline TL_ABI
