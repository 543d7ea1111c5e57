// Definitions of train/multitask.hpp.
#pragma once
#include <algorithm>
#include <cmath>

#include "tl/nn/linear.hpp"
#include "tl/ops/elementwise.hpp"
#include "tl/ops/matmul.hpp"
#include "tl/ops/reduce.hpp"
#include "tl/ops/softmax.hpp"
#include "tl/ops/view.hpp"
#include "tl/train/multitask.hpp"

namespace tl::inline TL_ABI {

struct MultiTask::State : nn::Module {
  nn::Parameter log_variance;     // uncertainty: [T]
  nn::Buffer weight, first_loss;  // grad_norm: [T]; a first loss of 0 is not known yet
  TL_MEMBERS(log_variance, weight, first_loss)
};

TL_INLINE MultiTask::MultiTask(std::vector<Task> tasks, TaskLabels train, TaskLabels validation,
                               const MultiTaskOptions& options)
    : tasks_(std::move(tasks)),
      train_(std::move(train)),
      validation_(std::move(validation)),
      options_(options),
      state_(std::make_unique<State>()) {
  require<UsageError>(!tasks_.empty(), "MultiTask: there is no task");
  require<UsageError>(train_.tasks() == tasks_.size() && validation_.tasks() == tasks_.size(),
                      "MultiTask: ", tasks_.size(), " tasks need as many labels for each sample; the tables have ",
                      train_.tasks(), " and ", validation_.tasks());
  for (size_t t = 0; t < tasks_.size(); ++t) {
    const auto count = static_cast<int64_t>(tasks_[t].classes.size());
    require<UsageError>(count >= 2, "MultiTask: the task \"", tasks_[t].name, "\" has ", count,
                        " classes. Hint: a question needs at least two possible answers.");
    offsets_.push_back(offsets_.back() + count);
    for (const TaskLabels* table : {&train_, &validation_})
      for (int64_t i = 0; i < table->samples(); ++i)
        require<UsageError>(
            table->at(i, t) == TaskLabels::kUnknown || (table->at(i, t) >= 0 && table->at(i, t) < count),
            "MultiTask: sample ", i, " has the label ", table->at(i, t), " for the task \"", tasks_[t].name,
            "\", which has ", count, " classes");
  }
  const auto count = static_cast<int64_t>(tasks_.size());
  if (options_.balance == TaskBalance::uncertainty) state_->log_variance = nn::Parameter(Tensor::zeros({count}));
  if (options_.balance == TaskBalance::grad_norm) {
    state_->weight = nn::Buffer(Tensor::ones({count}));
    state_->first_loss = nn::Buffer(Tensor::zeros({count}));
  }
}

TL_INLINE MultiTask::~MultiTask() = default;

TL_INLINE nn::Module* MultiTask::module() const {
  return options_.balance == TaskBalance::fixed ? nullptr : state_.get();
}

TL_INLINE std::vector<optim::ParamGroup> MultiTask::groups() const {
  if (options_.balance != TaskBalance::uncertainty) return {};
  auto groups = optim::param_groups(*state_, options_.balance_rate);
  for (auto& group : groups) {
    group.name = "objective";
    for (auto& p : group.parameters) p.name = "objective." + p.name;
  }
  return groups;
}

TL_INLINE std::vector<std::string> MultiTask::output_names() const {
  std::vector<std::string> out;
  for (const Task& task : tasks_)
    for (const std::string& name : task.classes) out.push_back(task.name + ": " + name);
  return out;
}

TL_INLINE std::vector<double> MultiTask::weights() const {
  std::vector<double> out;
  for (size_t t = 0; t < tasks_.size(); ++t) {
    const auto value = [t](const Tensor& of) { return static_cast<double>(of.to(kCpu).values<float>()[t]); };
    if (options_.balance == TaskBalance::fixed) out.push_back(tasks_[t].weight);
    else if (options_.balance == TaskBalance::uncertainty) out.push_back(std::exp(-value(state_->log_variance)));
    else out.push_back(value(state_->weight));
  }
  return out;
}

TL_INLINE void MultiTask::check(const Tensor& output) const {
  require<ShapeError>(output.rank() == 2 && output.size(1) == outputs(), "fit: the network must give [N, ", outputs(),
                      "] logits for ", tasks_.size(), " tasks; got ", output.shape());
}

TL_INLINE std::vector<int32_t> MultiTask::labels_of(const TaskLabels& table, const Batch& batch, size_t task) const {
  std::vector<int32_t> out;
  for (const int64_t index : batch.indices) {
    require<UsageError>(index >= 0 && index < table.samples(), "MultiTask: the table has ", table.samples(),
                        " samples, and a batch the sample ", index,
                        ". Hint: training and validation each have a table for their data set.");
    out.push_back(table.at(index, task));
  }
  return out;
}

TL_INLINE double MultiTask::divisor(const Batch& batch) const {
  for (size_t t = 0; t < tasks_.size(); ++t)
    for (const int32_t label : labels_of(train_, batch, t))
      if (label != TaskLabels::kUnknown) return static_cast<double>(batch.indices.size());
  return 0;
}

/// For each task its labels [N]; then [T], each task's fixed or balanced weight times N over its number of labels, so
/// that summed losses become means; then [T], N for tasks that have labels here and 0 for others.
TL_INLINE std::vector<Tensor> MultiTask::targets(const Batch& batch) const {
  const auto samples = static_cast<int64_t>(batch.indices.size());
  std::vector<Tensor> out;
  std::vector<float> scale, present;
  const auto weight = options_.balance == TaskBalance::uncertainty ? std::vector<double>(tasks_.size(), 1) : weights();
  for (size_t t = 0; t < tasks_.size(); ++t) {
    const auto labels = labels_of(train_, batch, t);
    const auto known = static_cast<double>(
        std::count_if(labels.begin(), labels.end(), [](int32_t y) { return y != TaskLabels::kUnknown; }));
    const auto count = static_cast<double>(samples);
    out.push_back(Tensor::from(labels, {samples}));
    scale.push_back(static_cast<float>(known > 0 ? weight[t] * count / known : 0));
    present.push_back(static_cast<float>(known > 0 ? count : 0));
  }
  const auto tasks = static_cast<int64_t>(tasks_.size());
  out.push_back(Tensor::from(scale, {tasks}));
  out.push_back(Tensor::from(present, {tasks}));
  return out;
}

TL_INLINE Tensor MultiTask::loss(const Tensor& output, const std::vector<Tensor>& targets) const {
  std::vector<Tensor> losses;
  for (size_t t = 0; t < tasks_.size(); ++t) {
    const Tensor logits = slice(output, 1, offsets_[t], offsets_[t + 1]);
    losses.push_back(reshape(cross_entropy(logits, targets[t],
                                           {.label_smoothing = options_.label_smoothing,
                                            .ignore_index = TaskLabels::kUnknown,
                                            .reduction = LossReduction::sum}),
                             {1}));
  }
  const Tensor scaled = concat(losses, 0) * targets[tasks_.size()];
  if (options_.balance != TaskBalance::uncertainty) return sum(scaled);
  const Tensor& s = state_->log_variance;
  return sum(exp(-s) * scaled + s * targets[tasks_.size() + 1] * 0.5);
}

TL_INLINE Accuracy MultiTask::accuracy(const Tensor& output, const Batch& batch) const {
  const Tensor host = output.detach().to(kCpu);
  Accuracy out;
  for (size_t t = 0; t < tasks_.size(); ++t) {
    const auto labels = labels_of(train_, batch, t);
    for (size_t i = 0; i < labels.size(); ++i) {
      if (labels[i] == TaskLabels::kUnknown) continue;
      const auto row =
          host.values<float>().subspan(i * static_cast<size_t>(outputs()) + static_cast<size_t>(offsets_[t]),
                                       static_cast<size_t>(offsets_[t + 1] - offsets_[t]));
      out.add(predicted_class(row) == labels[i]);
    }
  }
  return out;
}

TL_INLINE Validation MultiTask::validate(nn::Module& net, BatchSource& source, const Forward& forward,
                                         Progress* progress) const {
  const nn::ModeScope evaluation_mode(net, false);
  const NoGrad no_grad;
  const Device device = detail::device_of(net);
  std::vector<Mean> losses(tasks_.size());
  std::vector<Accuracy> accuracies(tasks_.size());
  const auto stream = source.epoch(0);
  for (Batch batch; stream->next(batch);) {
    if (batch.indices.empty()) continue;
    const Tensor output = cast((forward ? forward : detail::whole(net))(batch.x.to(device)), DType::f32).to(kCpu);
    check(output);
    for (size_t t = 0; t < tasks_.size(); ++t) {
      const auto labels = labels_of(validation_, batch, t);
      const Tensor logits = slice(output, 1, offsets_[t], offsets_[t + 1]);
      const Tensor y = Tensor::from(labels, {static_cast<int64_t>(labels.size())});
      const double known = cross_entropy_divisor(y);
      if (known == 0) continue;
      losses[t].add(cross_entropy(logits, y).item(), known);
      accuracies[t].add(logits.values<float>(), labels);
    }
    if (progress) progress->step(static_cast<int64_t>(batch.indices.size()));
  }
  Validation out;
  Mean loss, accuracy;
  for (size_t t = 0; t < tasks_.size(); ++t) {
    out.extras.emplace_back(tasks_[t].name + " accuracy", accuracies[t].value());
    if (accuracies[t].count() == 0) continue;
    loss.add(losses[t].value());
    accuracy.add(accuracies[t].value());
  }
  out.loss = loss.value();
  out.accuracy = accuracy.value();
  return out;
}

TL_INLINE NamedValues MultiTask::extras() const {
  NamedValues out;
  const auto now = weights();
  for (size_t t = 0; t < tasks_.size(); ++t) out.emplace_back(tasks_[t].name + " weight", now[t]);
  return out;
}

TL_INLINE void MultiTask::after_batch(nn::Module& net, const Tensor& output, const Batch& batch) const {
  if (options_.balance != TaskBalance::grad_norm) return;
  const NoGrad no_grad;
  nn::Linear* head = nullptr;
  for (const auto& module : nn::named_modules(net))
    if (auto* linear = dynamic_cast<nn::Linear*>(module.module); linear && linear->weight.value().size(0) == outputs())
      head = linear;
  require<UsageError>(head != nullptr,
                      "MultiTask: grad_norm looks at the gradient of the shared features through a "
                      "linear head of ",
                      outputs(), " outputs, and the network has none. Hint: TaskBalance::uncertainty.");
  const size_t count = tasks_.size();
  const Tensor host = output.detach().to(kCpu), matrix = head->weight.value().detach().to(kCpu).to(DType::f32);
  float* weight = state_->weight.value().mutable_data<float>();
  float* first = state_->first_loss.value().mutable_data<float>();
  std::vector<double> norm(count), progress(count);
  double mean_norm = 0, mean_progress = 0;
  for (size_t t = 0; t < count; ++t) {
    const auto labels = labels_of(train_, batch, t);
    const Tensor logits = slice(host, 1, offsets_[t], offsets_[t + 1]);
    const Tensor y = Tensor::from(labels, {static_cast<int64_t>(labels.size())});
    const double known = cross_entropy_divisor(y);
    if (known == 0) return;  // rates cannot be compared in a batch that lacks a task
    const double loss = cross_entropy(logits, y).item();
    if (first[t] == 0) first[t] = static_cast<float>(loss);
    Tensor grad = softmax(logits);
    for (size_t i = 0; i < labels.size(); ++i) {
      float* row = grad.mutable_data<float>() + static_cast<int64_t>(i) * grad.size(1);
      for (int64_t c = 0; c < grad.size(1); ++c)
        row[c] = labels[i] == TaskLabels::kUnknown
                     ? 0.0f
                     : static_cast<float>((static_cast<double>(row[c]) - (c == labels[i] ? 1 : 0)) / known);
    }
    const Tensor at_features = matmul(grad, slice(matrix, 0, offsets_[t], offsets_[t + 1]));
    norm[t] = std::sqrt(sum(at_features * at_features).item());
    progress[t] = loss / static_cast<double>(first[t]);
    mean_norm += static_cast<double>(weight[t]) * norm[t] / static_cast<double>(count);
    mean_progress += progress[t] / static_cast<double>(count);
  }
  double total = 0;
  for (size_t t = 0; t < count; ++t) {
    const double goal = mean_norm * std::pow(progress[t] / mean_progress, options_.alpha);
    const double distance = static_cast<double>(weight[t]) * norm[t] - goal;
    const double step = distance > 0 ? norm[t] : distance < 0 ? -norm[t] : 0;
    weight[t] = static_cast<float>(std::max(static_cast<double>(weight[t]) - options_.balance_rate * step, 1e-3));
    total += static_cast<double>(weight[t]);
  }
  for (size_t t = 0; t < count; ++t)
    weight[t] = static_cast<float>(static_cast<double>(weight[t]) * static_cast<double>(count) / total);
}

TL_INLINE std::vector<int64_t> mixed_positions(const std::vector<int64_t>& sizes, double temperature) {
  require<UsageError>(temperature >= 0 && temperature <= 1, "mixed_positions: temperature must be in [0, 1], got ",
                      temperature);
  int64_t largest = 0, offset = 0;
  for (const int64_t size : sizes) {
    require<UsageError>(size > 0, "mixed_positions: a data set has ", size, " samples");
    largest = std::max(largest, size);
  }
  std::vector<int64_t> out;
  for (const int64_t size : sizes) {
    const double share = std::pow(static_cast<double>(size) / static_cast<double>(largest), temperature);
    const auto wanted = std::max<int64_t>(std::llround(share * static_cast<double>(largest)), size);
    for (int64_t i = 0; i < wanted; ++i) out.push_back(offset + i % size);
    offset += size;
  }
  return out;
}

}  // namespace tl::inline TL_ABI
