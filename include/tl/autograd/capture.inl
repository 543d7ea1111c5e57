// Definitions of capture.hpp.
#pragma once
#include <algorithm>
#include <cstring>
#include <exception>
#include <string_view>
#include <unordered_map>
#include <unordered_set>

#include "tl/autograd/capture.hpp"
#include "tl/autograd/node.hpp"
#include "tl/core/precision.hpp"
#include "tl/tensor/arena.hpp"
#include "tl/tensor/memory_plan.hpp"

namespace tl::inline TL_ABI {
namespace detail {

/// What the function left where it was called is not what it would have computed: nobody can go on with that.
struct SpoiltState : UsageError {
  using UsageError::UsageError;
};

/// Storages that a dry run made and that it has not seen released.
struct Made {
  size_t order;
  std::weak_ptr<Storage> storage = {};  // once it was used
};
using MadeStorages = std::unordered_map<const Storage*, Made>;

/// A leaf whose gradient the function adds to or replaces.
struct RecordedLeaf {
  std::shared_ptr<AutogradMeta> meta;
  bool had_gradient;     // before the function
  bool replaced;         // by the function, before it added anything: what was there does not count
  const Storage* added;  // the gradient to which the function added, or null
  Tensor before;         // what was there, if the function puts another tensor in its place
  Tensor after = {};     // what the function left
};

/// A call of the function in which nothing is computed.
class DryRun : public Recorder {
 protected:
  /// The results, without history.
  std::vector<Tensor> call(const Capture::Function& function, const std::vector<Tensor>& inputs) {
    struct Scope {
      explicit Scope(Recorder* recorder) : before(std::exchange(current(), recorder)) {}
      ~Scope() { current() = before; }
      Recorder* before;
    } scope(this);
    inputs_ = inputs;
    std::vector<Tensor> results = function(inputs);
    for (Tensor& result : results)
      if (result.defined()) result = result.detach();
    return results;
  }

  bool is_input(const std::shared_ptr<Storage>& storage) const {
    for (const Tensor& input : inputs_)
      if (input.defined() && input.storage() == storage) return true;
    return false;
  }

  void restore_gradients() {
    for (RecordedLeaf& leaf : leaves_)
      if (!leaf.had_gradient || leaf.before.defined()) leaf.meta->grad = leaf.before;
  }

  void gradient_of(const std::shared_ptr<AutogradMeta>& leaf, bool replaced) override {
    for (const RecordedLeaf& known : leaves_)
      if (known.meta == leaf) return;
    const Tensor& grad = leaf->grad;
    const bool had = grad.defined();
    leaves_.push_back({.meta = leaf,
                       .had_gradient = had,
                       .replaced = replaced,
                       .added = had && !replaced ? grad.storage().get() : nullptr,
                       .before = had && (replaced || !grad.is_sole_owner()) ? grad : Tensor()});
  }

  /// Keeps what steps hold addresses of. The function's own tensors and gradients it must not own as well: those that
  /// nobody else holds are changed in place.
  void touched(const std::shared_ptr<Storage>& storage, bool writes) override {
    require_cpu(storage->device());
    require<UsageError>(!writes || !is_input(storage), "capture: the function changes an input of ", storage->bytes(),
                        " bytes in place, and a replay works on a copy of it. Hint: let it change a clone().");
    require<UsageError>(!writes || !constants_.contains(storage), "capture: the function changes a tensor of ",
                        storage->bytes(),
                        " bytes that it fills with given numbers, and a replay would not fill it again. "
                        "Hint: let it change a clone().");
    if (const auto own = own_.find(storage.get()); own != own_.end()) {
      own->second.storage = storage;
      return;
    }
    if (is_input(storage)) return;
    const auto old = made_before_.find(storage.get());
    require<UsageError>(old == made_before_.end() || old->second.storage.lock() != storage,
                        "capture: the function keeps a tensor of ", storage->bytes(),
                        " bytes from one call for the next");
    for (const RecordedLeaf& leaf : leaves_)
      if (leaf.added == storage.get()) return;
    outside_.insert(storage);
  }
  void constant(const std::shared_ptr<Storage>& storage) override { constants_.insert(storage); }

  static void require_cpu(Device device) {
    require<DeviceError>(device.is_cpu(), "capture: work on ", device,
                         " cannot be recorded yet. Hint: call the function as it is.");
  }

  std::vector<Tensor> inputs_;
  std::vector<RecordedLeaf> leaves_;
  MadeStorages own_, made_before_;                        // of this run, and of the one before
  std::unordered_set<std::shared_ptr<Storage>> outside_;  // that the function uses without being given them
  std::unordered_set<std::shared_ptr<Storage>> constants_;
};

/// The first run: how large the function's tensors are, and how long they live.
class Lifetimes final : public DryRun {
 public:
  /// Tells in `made`, also if it fails, what the function made.
  Lifetimes(const Capture::Function& function, const std::vector<Tensor>& inputs, MadeStorages& made) {
    struct Restore {
      Lifetimes* run;
      MadeStorages& made;
      ~Restore() { run->restore_gradients(), made = run->own_; }
    } restore{this, made};
    const std::vector<Tensor> results = call(function, inputs);
    constants_.clear();
  }

  /// By order of allocation; `last` is kEnd for what outlives the function.
  const std::vector<PlannedBuffer>& buffers() const { return buffers_; }
  int64_t time() const { return time_; }

 private:
  void add(std::string_view, void (*)(const void*), std::span<const std::byte>) override {}
  void derived_from(const std::shared_ptr<Storage>&) override {}

  void* allocate(const Storage& storage, std::shared_ptr<const void>& owner) override {
    require_cpu(storage.device());
    own_[&storage] = {.order = buffers_.size()};
    buffers_.push_back({.bytes = storage.bytes(), .first = ++time_});
    // Addresses are all that is needed: pages that nobody writes to cost nothing.
    const size_t bytes = (storage.bytes() / Arena::kUnit + 1) * Arena::kUnit;
    void* const data = addresses_->allocate(bytes);
    if (!data) return nullptr;
    owner = std::shared_ptr<const void>(
        data, [addresses = addresses_, bytes](void* block) { addresses->release(block, bytes); });
    return data;
  }

  void released(const Storage& storage) noexcept override {
    const auto found = own_.find(&storage);
    if (found == own_.end()) return;
    buffers_[found->second.order].last = ++time_;
    own_.erase(found);
  }

  std::vector<PlannedBuffer> buffers_;
  std::shared_ptr<Arena> addresses_ = std::make_shared<Arena>();
  int64_t time_ = 0;
};

/// The second run, on planned memory, and what it recorded.
class Record final : public DryRun {
 public:
  Record(const Capture::Function& function, const std::vector<Tensor>& inputs)
      : grad_enabled_(grad_enabled()), precision_(precision()) {
    std::vector<Tensor> own_inputs;
    for (const Tensor& input : inputs) {
      if (input.defined()) require_cpu(input.device());
      require<UsageError>(!input.defined() || !input.requires_grad(),
                          "capture: inputs get no gradient. Hint: let the function use the tensor without being given "
                          "it.");
      own_inputs.push_back(input.defined() ? Tensor::empty(input.shape(), input.dtype()) : Tensor());
    }
    try {
      const Lifetimes lifetimes(function, own_inputs, made_before_);
      plan(lifetimes.buffers());
      results_ = call(function, own_inputs);
      finish(lifetimes.time());
    } catch (const std::exception& error) {
      give_up(error.what());
      throw;
    }
    for (RecordedLeaf& leaf : leaves_) leaf.after = leaf.meta->grad, leaf.before = Tensor();
    own_.clear(), made_before_.clear();
    configuration_ = Configuration::number();
    report_.steps = static_cast<int64_t>(steps_.size());
    for (const Tensor& input : inputs_) report_.result_bytes += static_cast<int64_t>(input ? input.bytes() : 0);
  }

  /// Whether a replay would do what the function would do now.
  bool holds(const std::vector<Tensor>& inputs) const {
    if (inputs.size() != inputs_.size() || grad_enabled_ != grad_enabled() || precision_ != precision() ||
        configuration_ != Configuration::number())
      return false;
    for (size_t i = 0; i < inputs.size(); ++i) {
      const Tensor &given = inputs[i], &own = inputs_[i];
      if (given.defined() != own.defined()) return false;
      if (given.defined() && (given.requires_grad() || given.shape() != own.shape() || given.dtype() != own.dtype() ||
                              given.device() != own.device()))
        return false;
    }
    for (const auto& [storage, version] : sources_)
      if (storage->version() != version) return false;
    for (const auto& storage : outside_)
      if (storage.use_count() == 1) return false;  // another tensor has taken its place
    for (const RecordedLeaf& leaf : leaves_) {
      const Tensor& now = leaf.meta->grad;
      if (!leaf.replaced && (now.defined() ? now.storage().get() : nullptr) != leaf.added) return false;
    }
    return true;
  }

  std::vector<Tensor> replay(const std::vector<Tensor>& inputs) {
    std::vector<Tensor> given = inputs;
    for (Tensor& input : given)  // a result may be an input of the call before
      if (input.defined() && is_input(input.storage())) input = input.clone();
    for (size_t i = 0; i < given.size(); ++i)
      if (given[i].defined()) inputs_[i].copy_from(given[i]);
    for (Storage* const storage : written_) storage->bump_version();
    for (const Step& step : steps_) step.run(step.closure.get());
    for (const RecordedLeaf& leaf : leaves_) leaf.meta->grad = leaf.after;
    return results_;
  }

  const CaptureReport& report() const { return report_; }

 private:
  struct Place {
    size_t bytes, offset;
    int64_t last;
    bool planned() const { return last != PlannedBuffer::kEnd; }
  };

  struct Step {
    void (*run)(const void*);
    std::unique_ptr<std::byte[]> closure;
  };

  /// An address that was asked for, and that no step has had yet.
  struct Touch {
    const char* data;
    size_t bytes;
    std::string_view after;  // the step before

    bool has(const char* address) const { return address >= data && address < data + std::max<size_t>(bytes, 1); }
  };

  void plan(std::vector<PlannedBuffer> buffers) {
    std::vector<PlannedBuffer> shared;
    for (PlannedBuffer buffer : buffers) {
      places_.push_back({buffer.bytes, 0, buffer.last});
      if (!places_.back().planned()) continue;
      report_.requested_bytes += static_cast<int64_t>(buffer.bytes);
      const size_t unit = buffer.bytes < Arena::kUnit ? 64 : Arena::kUnit;
      buffer.bytes = (std::max<size_t>(buffer.bytes, 1) + unit - 1) / unit * unit;
      shared.push_back(buffer);
    }
    const size_t total = plan_memory(shared);
    report_.buffers = static_cast<int64_t>(shared.size());
    report_.planned_bytes = static_cast<int64_t>(total);
    block_ = std::make_shared<Storage>(total, kCpu);
    auto buffer = shared.begin();
    for (Place& place : places_)
      if (place.planned()) place.offset = (buffer++)->offset;
  }

  static std::shared_ptr<Storage> left_of(const MadeStorages& made) {
    for (const auto& [address, one] : made)
      if (auto storage = one.storage.lock()) return storage;
    return nullptr;
  }

  /// Takes over what outlives the function, and looks for what should not be there. `time` is that of the first run.
  void finish(int64_t time) {
    require<UsageError>(next_ == places_.size() && time_ == time, kChanges);
    if (const auto left = left_of(made_before_))
      fail<UsageError>("capture: the function keeps a tensor of ", left->bytes(), " bytes of each call");
    for (const auto& [address, made] : own_)
      if (const auto storage = made.storage.lock()) {
        report_.result_bytes += static_cast<int64_t>(storage->bytes());
        kept_.push_back(storage);
      }
    for (const auto& changed : changed_)
      if (const auto storage = changed.lock()) {
        if (!own_.contains(storage.get()) && !outside_.contains(storage)) kept_.push_back(storage);
        written_.push_back(storage.get());
      }
    if (touches_.empty()) return;
    const Touch& touch = touches_.front();
    fail<UsageError>("capture: the function itself reads or writes the numbers of a tensor of ", touch.bytes,
                     " bytes, ", touch.after.empty() ? "before its first step" : text("after ", touch.after),
                     "; a replay would not. Hint: use operations, and read results after the call.");
  }

  /// Puts back what was there before. Errors: SpoiltState if there is more than that.
  void give_up(const char* why) {
    results_.clear(), constants_.clear(), kept_.clear();
    restore_gradients();
    auto left = left_of(own_);
    if (!left) left = left_of(made_before_);
    if (!left) return;
    fail<SpoiltState>(why, ". While the function was recorded it put aside a tensor of ", left->bytes(),
                      " bytes, which was not computed and must not be used. Hint: let it change tensors that are there "
                      "before by copy_from, call it once before it is captured, or do not capture it.");
  }

  void add(std::string_view name, void (*step)(const void*), std::span<const std::byte> closure) override {
    for (size_t at = 0; at + sizeof(char*) <= closure.size() && !touches_.empty(); at += sizeof(char*)) {
      const char* address = nullptr;
      std::memcpy(&address, closure.data() + at, sizeof(char*));
      // One each: an address that was had more often than the step needs served something else.
      const auto touch =
          std::find_if(touches_.begin(), touches_.end(), [&](const Touch& one) { return one.has(address); });
      if (touch != touches_.end()) touches_.erase(touch);
    }
    steps_.push_back({step, std::make_unique<std::byte[]>(closure.size())});
    std::memcpy(steps_.back().closure.get(), closure.data(), closure.size());
    last_step_ = name;
  }

  void* allocate(const Storage& storage, std::shared_ptr<const void>& owner) override {
    require<UsageError>(next_ < places_.size() && places_[next_].bytes == storage.bytes(), kChanges);
    const Place& place = places_[next_];
    own_[&storage] = {.order = next_++};
    ++time_;
    if (!place.planned()) return nullptr;
    owner = block_;
    return static_cast<char*>(block_->data()) + place.offset;
  }

  void released(const Storage& storage) noexcept override {
    const auto found = own_.find(&storage);
    if (found == own_.end()) return;
    if (++time_ != places_[found->second.order].last) time_ = PlannedBuffer::kEnd / 2;  // never the first run's again
    own_.erase(found);
  }

  void touched(const std::shared_ptr<Storage>& storage, bool writes) override {
    DryRun::touched(storage, writes);
    const auto* const data = static_cast<const char*>(storage->data());
    touches_.push_back({data, storage->bytes(), last_step_});
    const auto* const block = static_cast<const char*>(block_->data());
    if (writes && (data < block || data >= block + block_->bytes())) changed_.push_back(storage);
  }

  void constant(const std::shared_ptr<Storage>& storage) override {
    DryRun::constant(storage);
    std::erase_if(touches_, [&](const Touch& touch) { return touch.has(static_cast<const char*>(storage->data())); });
  }

  void derived_from(const std::shared_ptr<Storage>& storage) override {
    outside_.insert(storage);
    sources_.emplace_back(storage.get(), storage->version());
  }

  static constexpr std::string_view kChanges = "capture: the function makes other tensors when it is called again";

  bool grad_enabled_;
  Precision precision_;
  uint64_t configuration_ = 0;
  std::vector<std::pair<const Storage*, uint64_t>> sources_;

  std::vector<Tensor> results_;
  std::vector<Step> steps_;
  std::shared_ptr<Storage> block_;
  std::vector<std::shared_ptr<Storage>> kept_;  // what outlives the function
  std::vector<Storage*> written_;               // beside the block

  std::vector<Place> places_;
  size_t next_ = 0;
  int64_t time_ = 0;
  std::vector<std::weak_ptr<Storage>> changed_;  // beside the block
  std::vector<Touch> touches_;
  std::string_view last_step_;
  CaptureReport report_;
};

}  // namespace detail

TL_INLINE Capture::Capture(Function function, const CaptureOptions& options)
    : function_(std::move(function)), options_(options) {}
TL_INLINE Capture::~Capture() = default;
TL_INLINE Capture::Capture(Capture&&) noexcept = default;
TL_INLINE Capture& Capture::operator=(Capture&&) noexcept = default;

TL_INLINE std::vector<Tensor> Capture::run(const std::vector<Tensor>& inputs) {
  if (refused_ || detail::Recorder::current()) return function_(inputs);  // in a capture, a part of that
  if (!record_ || !record_->holds(inputs)) {
    record_.reset();  // first, so that its memory serves the next one
    try {
      record_ = std::make_unique<detail::Record>(function_, inputs);
    } catch (const detail::SpoiltState&) {
      throw;
    } catch (const UsageError&) {
      if (!options_.lenient) throw;
      refused_ = true;
    } catch (const DeviceError&) {
      if (!options_.lenient) throw;
      refused_ = true;
    }
    if (refused_) return function_(inputs);
  }
  return record_->replay(inputs);
}

TL_INLINE CaptureReport Capture::report() const {
  require<UsageError>(record_ != nullptr, "Capture::report: nothing was recorded yet. Hint: call it first.");
  return record_->report();
}

}  // namespace tl::inline TL_ABI
