// What training minimises, and what validation reports about it.
#pragma once
#include <functional>
#include <string>
#include <vector>

#include "tl/ops/loss.hpp"
#include "tl/optim/param_group.hpp"
#include "tl/train/evaluate.hpp"
#include "tl/train/log.hpp"

namespace tl::inline TL_ABI {

/// What a pass over validation data gives.
struct Validation {
  double loss = kNoValue, accuracy = kNoValue;
  NamedValues extras = {};  ///< further measures by name, such as the accuracy of each task
};

/// A loss over batches, kept apart from the loop that steps through them. Losses are summed over samples and divided
/// once, so that micro-batches add up to the batch that they make (FR07, FR08).
class Objective {
 public:
  virtual ~Objective() = default;

  /// Width of the network's output.
  virtual int64_t outputs() const = 0;

  /// Errors: ShapeError unless the network's output has the form that the loss needs.
  virtual void check(const Tensor& output) const = 0;

  /// Tensors that the loss needs beside the output, labels as a rule.
  virtual std::vector<Tensor> targets(const Batch& batch) const { return {batch.y}; }

  /// What the summed loss of a batch is divided by; 0 when it has nothing to learn from.
  virtual double divisor(const Batch& batch) const = 0;

  /// The summed loss, a scalar. `targets` are on the output's device. Reads no value on the host, so that it can be
  /// captured.
  virtual Tensor loss(const Tensor& output, const std::vector<Tensor>& targets) const = 0;

  /// How many of a batch's labelled samples the output gets right.
  virtual Accuracy accuracy(const Tensor& output, const Batch& batch) const = 0;

  /// In evaluation mode and without gradients.
  virtual Validation validate(nn::Module& net, BatchSource& source, const Forward& forward,
                              Progress* progress) const = 0;

  /// What the epoch's record shall say besides, such as the weights of tasks.
  virtual NamedValues extras() const { return {}; }

  /// What each output stands for, for model files; empty where the data's classes say it.
  virtual std::vector<std::string> output_names() const { return {}; }

  /// Parameters and buffers of the loss itself, if it has any; checkpoints hold them.
  virtual nn::Module* module() const { return nullptr; }

  /// These parameters for an optimizer, named "objective.<parameter>".
  virtual std::vector<optim::ParamGroup> groups() const { return {}; }

  /// Called with the network's output after each training batch, with gradients in place.
  virtual void after_batch(nn::Module&, const Tensor& /*output*/, const Batch&) const {}
};

/// One label of `classes` for each sample: cross-entropy with label smoothing and class weights. Batches with class
/// probabilities instead of labels (Batch::mixed) are scored against these.
class Classification final : public Objective {
 public:
  explicit Classification(int64_t classes, CrossEntropyOptions options = CrossEntropyOptions())
      : classes_(classes), options_(std::move(options)) {}

  int64_t outputs() const override { return classes_; }
  TL_INLINE void check(const Tensor& output) const override;
  TL_INLINE std::vector<Tensor> targets(const Batch& batch) const override;
  TL_INLINE double divisor(const Batch& batch) const override;
  TL_INLINE Tensor loss(const Tensor& output, const std::vector<Tensor>& targets) const override;
  TL_INLINE Accuracy accuracy(const Tensor& output, const Batch& batch) const override;
  TL_INLINE Validation validate(nn::Module& net, BatchSource& source, const Forward& forward,
                                Progress* progress) const override;

 private:
  int64_t classes_;
  CrossEntropyOptions options_;
};

/// What a term of the loss may look at.
struct StepView {
  const Tensor& x;       ///< the batch, on the network's device
  const Tensor& output;  ///< of the network, f32
  const std::vector<Tensor>& targets;
};

/// Something added to the mean loss of each batch: a regulariser, the distance to a teacher.
struct LossTerm {
  std::string name;                              ///< under which the epoch's record gives its mean
  std::function<Tensor(const StepView&)> value;  ///< a scalar
};

}  // namespace tl::inline TL_ABI

#if TL_HEADER_ONLY
#include "tl/train/objective.inl"
#endif
