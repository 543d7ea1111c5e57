// Several questions about each sample, answered by one network: heads on a shared backbone, losses in balance.
//
// The heads are blocks of columns of the network's last linear layer, so that any network of the library, any strategy
// and any file serves several tasks at one backbone's cost.
#pragma once
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "tl/train/objective.hpp"

namespace tl::inline TL_ABI {

/// A question with its possible answers.
struct Task {
  std::string name;
  std::vector<std::string> classes;
  double weight = 1;  ///< of its loss, with TaskBalance::fixed
};

/// How the losses of tasks are weighed against each other.
enum class TaskBalance {
  fixed,        ///< sum_t weight_t L_t
  uncertainty,  ///< sum_t exp(-s_t) L_t + s_t / 2, s_t learnt (Kendall, Gal and Cipolla, 2018)
  grad_norm,    ///< sum_t w_t L_t, w_t moved so that tasks train at similar rates (Chen et al., 2018)
};

/// Answers of samples to all tasks; kUnknown where one was never given.
class TaskLabels {
 public:
  static constexpr int32_t kUnknown = -100;

  /// `samples` samples whose answers are unknown.
  TaskLabels(int64_t samples, size_t tasks) : tasks_(tasks), values_(static_cast<size_t>(samples) * tasks, kUnknown) {}

  int64_t samples() const { return static_cast<int64_t>(values_.size() / tasks_); }
  size_t tasks() const { return tasks_; }
  int32_t& at(int64_t sample, size_t task) { return values_.at(static_cast<size_t>(sample) * tasks_ + task); }
  int32_t at(int64_t sample, size_t task) const { return values_.at(static_cast<size_t>(sample) * tasks_ + task); }

 private:
  size_t tasks_;
  std::vector<int32_t> values_;  // [samples, tasks]
};

struct MultiTaskOptions {
  TaskBalance balance = TaskBalance::uncertainty;
  double label_smoothing = 0;
  double alpha = 1.5;           ///< grad_norm: how strongly slow tasks are pulled along
  double balance_rate = 0.025;  ///< at which the balance moves: that of s_t, or of w_t
};

/// Cross-entropy of each task over the samples whose answer to it is known, in balance. Labels are found by
/// Batch::indices, so each data set has its table; a task without a label in a batch counts for nothing there.
///
/// uncertainty: s_t = log of the task's variance, a parameter that the optimizer moves (see Objective::module).
/// grad_norm, after each batch, with G_t = w_t |dL_t / dz|, z [N, F] what the head takes, r_t = (L_t / L_t(0)) over its
/// mean, and target_t = mean(G) r_t^alpha held constant:
///   w_t -= rate d/dw_t |G_t - target_t|,  then w_t := w_t T / sum(w).
/// The paper takes norms at the last shared weights; z gives the same balance without another backward pass.
class MultiTask final : public Objective {
 public:
  /// Errors: UsageError for no task, a task of fewer than two classes, tables with other numbers of tasks.
  MultiTask(std::vector<Task> tasks, TaskLabels train, TaskLabels validation, const MultiTaskOptions& options = {});
  TL_INLINE ~MultiTask() override;

  const std::vector<Task>& tasks() const { return tasks_; }
  /// The columns [first, last) of the outputs that answer a task.
  std::pair<int64_t, int64_t> columns(size_t task) const { return {offsets_.at(task), offsets_.at(task + 1)}; }
  /// "task: class" for each output.
  TL_INLINE std::vector<std::string> output_names() const override;
  /// What each task's loss is multiplied by now.
  std::vector<double> weights() const;

  int64_t outputs() const override { return offsets_.back(); }
  TL_INLINE void check(const Tensor& output) const override;
  TL_INLINE std::vector<Tensor> targets(const Batch& batch) const override;
  TL_INLINE double divisor(const Batch& batch) const override;
  TL_INLINE Tensor loss(const Tensor& output, const std::vector<Tensor>& targets) const override;
  TL_INLINE Accuracy accuracy(const Tensor& output, const Batch& batch) const override;
  TL_INLINE Validation validate(nn::Module& net, BatchSource& source, const Forward& forward,
                                Progress* progress) const override;
  TL_INLINE NamedValues extras() const override;
  TL_INLINE nn::Module* module() const override;
  TL_INLINE std::vector<optim::ParamGroup> groups() const override;
  TL_INLINE void after_batch(nn::Module& net, const Tensor& output, const Batch& batch) const override;

 private:
  struct State;  // what is learnt about the balance

  std::vector<int32_t> labels_of(const TaskLabels& table, const Batch& batch, size_t task) const;

  std::vector<Task> tasks_;
  std::vector<int64_t> offsets_{0};
  TaskLabels train_, validation_;
  MultiTaskOptions options_;
  std::unique_ptr<State> state_;
};

/// Positions 0 ... sum(sizes) - 1 of data sets laid end to end, small sets repeated so that set i is met in proportion
/// to sizes[i]^temperature, and the largest once: 1 leaves the sizes, 0 makes all sets equal. For View::indices.
std::vector<int64_t> mixed_positions(const std::vector<int64_t>& sizes, double temperature);

}  // namespace tl::inline TL_ABI

#if TL_HEADER_ONLY
#include "tl/train/multitask.inl"
#endif
