// Definitions of train/fit.hpp.
#pragma once
#include <cmath>
#include <filesystem>

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

TL_INLINE Device device_of(nn::Module& net) {
  const auto parameters = nn::named_parameters(net);
  return parameters.empty() ? kCpu : parameters[0].parameter->value().device();
}

/// Share of a batch's labelled samples that the logits get right, with their number.
TL_INLINE Accuracy accuracy_of(const Tensor& logits, const Tensor& labels, int32_t ignored) {
  const Tensor host = logits.detach().to(kCpu).to(DType::f32);
  Accuracy out;
  for (int64_t i = 0; i < labels.numel(); ++i) {
    const auto row =
        host.values<float>().subspan(static_cast<size_t>(i * host.size(1)), static_cast<size_t>(host.size(1)));
    const int32_t truth = labels.data<int32_t>()[i];
    if (truth != ignored) out.add(predicted_class(row) == truth);
  }
  return out;
}

/// The whole network, in this thread's precision.
TL_INLINE Forward whole(nn::Module& net) {
  return [&net](const Tensor& x) { return net(in_precision(x)); };
}

/// The state of one call of fit.
class FitRun {
 public:
  FitRun(nn::Module& net, optim::Optimizer& optimizer, BatchSource& train, BatchSource* validation, int64_t classes,
         const FitOptions& options)
      : net_(net),
        optimizer_(optimizer),
        train_(train),
        validation_(validation),
        classes_(classes),
        options_(options),
        forward_(options.forward ? options.forward : whole(net)),
        device_(device_of(net)) {
    require<UsageError>(options.epochs >= 0 && options.accumulate >= 1 && options.validate_every >= 1,
                        "fit: epochs must be at least 0, accumulate and validate_every at least 1; got ",
                        options.epochs, ", ", options.accumulate, " and ", options.validate_every);
    state_.log.name = options.name;
    state_.log.seed = options.seed;
    if (!options.checkpoint.empty() && std::filesystem::exists(options.checkpoint))
      state_ = load_checkpoint(options.checkpoint, net, optimizer);
  }

  FitResult run() {
    Progress progress(options_.screen, {.epochs = options_.epochs, .first_epoch = state_.epoch + 1});
    while (state_.epoch < options_.epochs) {
      if (state_.batch == 0 && options_.before_epoch) options_.before_epoch(state_.epoch);
      if (!train_epoch(progress)) return result(false);
      finish_epoch(progress);
    }
    if (options_.keep_best && !state_.best_weights.empty()) restore_weights(net_, state_.best_weights);
    return result(true);
  }

 private:
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

  /// Adds the batch's summed loss to the gradients; returns what the mean divides by.
  double backward(const Batch& batch, Progress& progress) {
    CrossEntropyOptions loss_options = options_.loss;
    loss_options.reduction = LossReduction::sum;
    const double divisor = cross_entropy_divisor(batch.y, loss_options);
    const Tensor x = batch.x.to(device_), y = batch.y.to(device_);
    const Tensor logits = cast(forward_(x), DType::f32);
    require<ShapeError>(logits.rank() == 2 && logits.size(1) == classes_, "fit: the network must give [N, ", classes_,
                        "] logits; got ", logits.shape());
    Tensor loss = cross_entropy(logits, y, loss_options);
    const double total = loss.item();
    require<NumericError>(std::isfinite(total), "fit: the loss became ", total, " in epoch ", state_.epoch + 1,
                          ", step ", state_.step + 1, "; ",
                          std::isfinite(total) ? "" : first_bad_layer(net_, forward_, x),
                          ". Hint: a smaller rate, a warm-up, or clip_norm.");
    const auto samples = static_cast<int64_t>(batch.indices.size());
    if (divisor > 0) {
      state_.loss.add(total / divisor, divisor);
      // One micro-batch is divided here; several only when all of them have come, once, by their common sum.
      if (options_.accumulate == 1) loss = loss * (1 / divisor);
      loss.backward();
    }
    const Accuracy accuracy = accuracy_of(logits, batch.y, options_.loss.ignore_index);
    state_.accuracy.add(accuracy.value(), static_cast<double>(accuracy.count()));
    progress.step(samples, state_.loss.value(), state_.accuracy.value());
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
    optimizer_.step(options_.schedule(state_.step));
    optimizer_.zero_grad();
    ++state_.step;
  }

  void finish_epoch(Progress& progress) {
    EpochRecord record{
        .epoch = state_.epoch + 1, .train_loss = state_.loss.value(), .train_accuracy = state_.accuracy.value()};
    const bool last = state_.epoch + 1 == options_.epochs;
    const bool validate = validation_ && (last || (state_.epoch + 1) % options_.validate_every == 0);
    if (validate) {
      progress.start_phase(state_.epoch + 1, "validate", validation_->batches());
      const Evaluation evaluation = evaluate(net_, *validation_, classes_, forward_, &progress);
      record.val_loss = evaluation.loss;
      record.val_accuracy = evaluation.accuracy;
      if (better(evaluation.accuracy, state_.best)) {
        state_.best = evaluation.accuracy;
        state_.best_epoch = state_.epoch + 1;
        state_.best_weights = copy_weights(net_);
      }
    }
    const double factor = options_.schedule(std::max<int64_t>(state_.step - 1, 0));
    for (const auto& group : optimizer_.groups()) record.rates.emplace_back(group.name, group.rate * factor);
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
    checkpoint();
    progress.finish_epoch(summary);
  }

  void checkpoint() {
    if (!options_.checkpoint.empty()) save_checkpoint(options_.checkpoint, net_, optimizer_, state_);
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
  int64_t classes_;
  const FitOptions& options_;
  Forward forward_;
  Device device_;
  TrainState state_;
  int64_t steps_ = 0;
  Stopwatch epoch_watch_;
};

}  // namespace detail

TL_INLINE Evaluation evaluate(nn::Module& net, BatchSource& source, int64_t classes, const Forward& forward,
                              Progress* progress) {
  const nn::ModeScope evaluation_mode(net, false);
  const NoGrad no_grad;
  const Device device = detail::device_of(net);
  Evaluation out;
  out.confusion = ConfusionMatrix(classes);
  Mean loss;
  Accuracy accuracy;
  const auto stream = source.epoch(0);
  Batch batch;
  while (stream->next(batch)) {
    if (batch.indices.empty()) continue;
    const Tensor x = batch.x.to(device);
    const Tensor logits = cast((forward ? forward : detail::whole(net))(x), DType::f32);
    require<ShapeError>(logits.rank() == 2 && logits.size(1) == classes, "evaluate: the network must give [N, ",
                        classes, "] logits; got ", logits.shape());
    const Tensor losses = cross_entropy(logits, batch.y.to(device), {.reduction = LossReduction::none}).to(kCpu);
    const Tensor probabilities = softmax(logits).to(kCpu);
    for (int64_t i = 0; i < batch.y.numel(); ++i) {
      const auto row =
          probabilities.values<float>().subspan(static_cast<size_t>(i * classes), static_cast<size_t>(classes));
      const int64_t truth = batch.y.data<int32_t>()[i], predicted = predicted_class(row);
      if (truth == CrossEntropyOptions().ignore_index) continue;
      out.samples.push_back({batch.indices[static_cast<size_t>(i)], truth, predicted,
                             static_cast<double>(row[static_cast<size_t>(predicted)])});
      out.confusion.add(truth, predicted);
      accuracy.add(truth == predicted);
      loss.add(static_cast<double>(losses.data<float>()[i]));
    }
    if (progress) progress->step(batch.y.numel(), loss.value(), accuracy.value());
  }
  out.loss = loss.value();
  out.accuracy = accuracy.value();
  return out;
}

TL_INLINE FitResult fit(nn::Module& net, optim::Optimizer& optimizer, BatchSource& train, BatchSource* validation,
                        int64_t classes, const FitOptions& options) {
  return detail::FitRun(net, optimizer, train, validation, classes, options).run();
}

}  // namespace tl::inline TL_ABI
