// Definitions of train/fit.hpp.
#pragma once
#include <algorithm>
#include <cmath>
#include <filesystem>

#include "tl/autograd/capture.hpp"
#include "tl/core/stopwatch.hpp"
#include "tl/ops/elementwise.hpp"
#include "tl/ops/reduce.hpp"
#include "tl/ops/softmax.hpp"
#include "tl/train/fit.hpp"

namespace tl::inline TL_ABI {
namespace detail {

TL_INLINE bool all_finite(const Tensor& tensor) {
  if (!is_floating(tensor.dtype())) return true;
  const double total = sum(tensor.detach()).item();  // one NaN or infinity makes the sum so
  return std::isfinite(total);
}

/// Says which layer first gave something that is not a number, by running the batch again.
TL_INLINE std::string first_bad_layer(nn::Module& net, const Forward& forward, const Tensor& x) {
  for (const auto& p : nn::named_parameters(net))
    if (!all_finite(p.parameter->value())) return "the parameter " + p.name + " is not finite";
  if (!all_finite(x)) return "the input is not finite";
  std::map<const nn::Module*, std::string> names;
  for (const auto& module : nn::named_modules(net)) names[module.module] = module.name;
  std::string found;
  const auto look = [&](nn::Module& module, const Tensor& result) {
    if (found.empty() && !all_finite(result)) found = names.count(&module) ? names[&module] : module.describe();
  };
  const NoGrad no_grad;
  const nn::Observe observe(look);
  forward(x);
  return found.empty() ? "all layers' outputs are finite: the loss itself overflowed"
                       : "the first layer whose output is not finite is " + found;
}

TL_INLINE void scale_gradients(optim::Optimizer& optimizer, double factor) {
  for (auto& group : optimizer.groups())
    for (auto& p : group.parameters) {
      Tensor grad = p.parameter->value().grad();
      if (!grad.defined()) continue;
      visit_floating(grad.dtype(), "fit", [&](auto type) {
        using T = typename decltype(type)::type;
        kernel::affine(grad.device(), AffineArgs<T>{.x = nullptr,
                                                    .y = grad.mutable_data<T>(),
                                                    .n = grad.numel(),
                                                    .alpha = 0,
                                                    .beta = static_cast<T>(factor),
                                                    .gamma = 0});
      });
    }
}

/// The state of one call of fit.
class FitRun {
 public:
  FitRun(nn::Module& net, optim::Optimizer& optimizer, BatchSource& train, BatchSource* validation,
         const Objective& objective, const FitOptions& options)
      : net_(net),
        optimizer_(optimizer),
        train_(train),
        validation_(validation),
        objective_(objective),
        options_(options),
        forward_(options.forward ? options.forward : whole(net)),
        device_(device_of(net)),
        pass_([this](const std::vector<Tensor>& in) { return pass(in); }, {.lenient = true}) {
    require<UsageError>(options.epochs >= 0 && options.accumulate >= 1 && options.validate_every >= 1,
                        "fit: epochs must be at least 0, accumulate and validate_every at least 1; got ",
                        options.epochs, ", ", options.accumulate, " and ", options.validate_every);
    require<UsageError>(validation || (options.patience == 0 && !options.plateau),
                        "fit: patience and plateau look at validation, and there is no source for it");
    state_.log.name = options.name;
    state_.log.seed = options.seed;
    if (!options.checkpoint.empty() && std::filesystem::exists(options.checkpoint))
      state_ = load_checkpoint(options.checkpoint, net, optimizer);
    if (objective.module() && !state_.objective.empty()) restore_weights(*objective.module(), state_.objective);
    if (options.average > 0) {
      average_.emplace(net, options.average);
      if (!state_.average.empty()) average_->load_state(state_.average);
    }
  }

  FitResult run() {
    Progress progress(options_.screen, {.epochs = options_.epochs, .first_epoch = state_.epoch + 1});
    while (state_.epoch < options_.epochs && !out_of_patience()) {
      if (state_.batch == 0 && options_.before_epoch) options_.before_epoch(state_.epoch, state_.log);
      if (!train_epoch(progress)) return result(false);
      finish_epoch(progress);
    }
    if (average_) average_->swap();
    if (options_.keep_best && !state_.best_weights.empty()) restore_weights(net_, state_.best_weights);
    return result(true);
  }

 private:
  bool out_of_patience() const {
    return options_.patience > 0 && state_.best_epoch > 0 && state_.epoch - state_.best_epoch >= options_.patience;
  }

  /// False when the call has made as many steps as it may.
  bool train_epoch(Progress& progress) {
    net_.train();
    const int64_t batches = train_.batches();
    progress.start_phase(state_.epoch + 1, "train", batches);
    const auto stream = train_.epoch(state_.epoch, state_.batch);
    Batch batch;
    double divisor = 0;
    int64_t gathered = 0;
    optimizer_.zero_grad();
    while (stream->next(batch)) {
      ++gathered;
      if (options_.on_batch && !batch.indices.empty())
        options_.on_batch(batch, state_.epoch * batches + state_.batch + gathered - 1);
      if (!batch.indices.empty()) divisor += backward(batch, progress);
      if (gathered < options_.accumulate && state_.batch + gathered < batches) continue;
      if (divisor > 0) update(divisor, batch);
      state_.batch += std::exchange(gathered, 0);
      divisor = 0;
      if (options_.checkpoint_steps > 0 && state_.step % options_.checkpoint_steps == 0) checkpoint();
      if (options_.stop_after_steps > 0 && ++steps_ >= options_.stop_after_steps) return false;
    }
    return true;
  }

  /// From x, targets, and last the divisor of the batch and the gradient of its summed loss: output, summed loss, and
  /// the value of each term; adds to the parameters' gradients.
  std::vector<Tensor> pass(const std::vector<Tensor>& in) {
    const std::vector<Tensor> targets(in.begin() + 1, in.end() - 2);
    const Tensor output = cast(forward_(in[0]), DType::f32);
    objective_.check(output);
    Tensor loss = objective_.loss(output, targets);
    std::vector<Tensor> out{output, loss};
    for (const LossTerm& term : options_.terms) {
      out.push_back(term.value({in[0], output, targets}));
      loss = loss + out.back() * in[in.size() - 2];
    }
    loss.backward(in.back());
    return out;
  }

  /// Adds the batch's summed loss to the gradients; returns what the mean divides by.
  double backward(const Batch& batch, Progress& progress) {
    const double divisor = objective_.divisor(batch);
    if (divisor <= 0) {  // nothing to learn, and no gradient: terms alone don't make a step
      progress.step(static_cast<int64_t>(batch.indices.size()), state_.loss.value(), state_.accuracy.value());
      return 0;
    }
    const Tensor x = batch.x.to(device_);
    std::vector<Tensor> in{x};
    for (const Tensor& target : objective_.targets(batch)) in.push_back(target.to(device_));
    in.push_back(Tensor::scalar(divisor, DType::f32, device_));
    // One micro-batch is divided here; several only when all of them have come, once, by their common sum.
    in.push_back(Tensor::scalar(options_.accumulate == 1 ? 1 / divisor : 1, DType::f32, device_));
    const auto out = options_.capture ? pass_.run(in) : pass(in);
    const Tensor &output = out[0], &loss = out[1];
    double total = loss.item() / divisor;
    for (size_t i = 0; i < options_.terms.size(); ++i) {
      const double value = out[2 + i].item();
      state_.terms[options_.terms[i].name].add(value, divisor);
      total += value;
    }
    require<NumericError>(std::isfinite(total), "fit: the loss became ", total, " in epoch ", state_.epoch + 1,
                          ", step ", state_.step + 1, "; ",
                          std::isfinite(total) ? "" : first_bad_layer(net_, forward_, x),
                          state_.step > 0 ? ". Hint: a smaller rate, a warm-up, or clip_norm."
                                          : ". Hint: nothing was learnt yet; look at the weights and the pictures.");
    objective_.after_batch(net_, output, batch);
    state_.loss.add(total, divisor);
    const Accuracy accuracy = objective_.accuracy(output, batch);
    state_.accuracy.add(accuracy.value(), static_cast<double>(accuracy.count()));
    progress.step(static_cast<int64_t>(batch.indices.size()), state_.loss.value(), state_.accuracy.value());
    return divisor;
  }

  void update(double divisor, const Batch& batch) {
    if (options_.accumulate > 1) scale_gradients(optimizer_, 1 / divisor);
    if (options_.clip_norm > 0) {
      const double norm = optim::clip_grad_norm(optimizer_.groups(), options_.clip_norm);
      require<NumericError>(std::isfinite(norm), "fit: the gradients' norm became ", norm, " in epoch ",
                            state_.epoch + 1, ", step ", state_.step + 1, "; ",
                            std::isfinite(norm) ? "" : first_bad_layer(net_, forward_, batch.x.to(device_)));
    }
    optimizer_.step(schedule(), state_.step);
    optimizer_.zero_grad();
    if (average_) average_->update();
    ++state_.step;
  }

  /// The run's schedule, times what a plateau makes of the epochs so far.
  optim::Schedule schedule() const {
    if (!options_.plateau) return options_.schedule;
    std::vector<double> losses;
    for (const EpochRecord& epoch : state_.log.epochs)
      if (std::isfinite(epoch.val_loss)) losses.push_back(epoch.val_loss);
    return [this, factor = options_.plateau->factor(losses)](int64_t step) { return options_.schedule(step) * factor; };
  }

  void finish_epoch(Progress& progress) {
    EpochRecord record{
        .epoch = state_.epoch + 1, .train_loss = state_.loss.value(), .train_accuracy = state_.accuracy.value()};
    const bool last = state_.epoch + 1 == options_.epochs;
    const bool validate = validation_ && (last || (state_.epoch + 1) % options_.validate_every == 0);
    if (validate) {
      progress.start_phase(state_.epoch + 1, "validate", validation_->batches());
      if (average_) average_->swap();
      const Validation validated = objective_.validate(
          net_, *validation_, options_.validation_forward ? options_.validation_forward : forward_, &progress);
      record.val_loss = validated.loss;
      record.val_accuracy = validated.accuracy;
      record.extras = validated.extras;
      if (better(validated.accuracy, state_.best)) {
        state_.best = validated.accuracy;
        state_.best_epoch = state_.epoch + 1;
        state_.best_weights = copy_weights(net_);
      }
      if (average_) average_->swap();
    }
    for (const auto& [name, value] : state_.terms) record.extras.emplace_back(name, value.value());
    for (const auto& extra : objective_.extras()) record.extras.push_back(extra);
    for (const auto& group : optimizer_.groups())
      record.rates.emplace_back(
          group.name,
          learns(group) ? group.rate * group.factor(schedule(), std::max<int64_t>(state_.step - 1, 0)) : kNoValue);
    record.seconds = epoch_watch_.seconds();
    epoch_watch_ = Stopwatch();
    record.peak_bytes = memory_stats(device_.type).peak_bytes;
    record.trainable_parameters = nn::parameter_count(net_, /*trainable_only=*/true);
    std::string summary = text("loss ", record.train_loss, "  accuracy ", record.train_accuracy);
    if (validate) summary += text("  val loss ", record.val_loss, "  val accuracy ", record.val_accuracy);
    state_.log.epochs.push_back(std::move(record));
    ++state_.epoch;
    state_.batch = 0;
    state_.loss = state_.accuracy = Mean();
    state_.terms.clear();
    if (options_.after_epoch) options_.after_epoch(state_.log);
    checkpoint();
    progress.finish_epoch(summary);
  }

  static bool learns(const optim::ParamGroup& group) {
    return std::any_of(group.parameters.begin(), group.parameters.end(),
                       [](const nn::NamedParameter& p) { return !p.parameter->frozen(); });
  }

  void checkpoint() {
    if (options_.checkpoint.empty()) return;
    if (average_) state_.average = average_->state();
    if (objective_.module()) state_.objective = copy_weights(*objective_.module());
    save_checkpoint(options_.checkpoint, net_, optimizer_, state_);
  }

  FitResult result(bool finished) {
    FitResult out{.log = state_.log,
                  .best_accuracy = state_.best,
                  .best_epoch = state_.best_epoch,
                  .steps = state_.step,
                  .finished = finished,
                  .best_weights = std::move(state_.best_weights)};
    if (!out.log.epochs.empty()) out.last_accuracy = out.log.epochs.back().val_accuracy;
    if (options_.keep_best) out.log.accuracy = out.best_accuracy;
    return out;
  }

  nn::Module& net_;
  optim::Optimizer& optimizer_;
  BatchSource& train_;
  BatchSource* validation_;
  const Objective& objective_;
  const FitOptions& options_;
  Forward forward_;
  Device device_;
  Capture pass_;
  TrainState state_;
  std::optional<optim::WeightAverage> average_;
  int64_t steps_ = 0;
  Stopwatch epoch_watch_;
};

}  // namespace detail

TL_INLINE FitResult fit(nn::Module& net, optim::Optimizer& optimizer, BatchSource& train, BatchSource* validation,
                        const Objective& objective, const FitOptions& options) {
  return detail::FitRun(net, optimizer, train, validation, objective, options).run();
}

TL_INLINE FitResult fit(nn::Module& net, optim::Optimizer& optimizer, BatchSource& train, BatchSource* validation,
                        int64_t classes, const FitOptions& options) {
  return fit(net, optimizer, train, validation, Classification(classes, options.loss), options);
}

}  // namespace tl::inline TL_ABI
