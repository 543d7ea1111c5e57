// Definitions of data/loader.hpp.
#pragma once
#include <algorithm>
#include <condition_variable>
#include <exception>
#include <map>
#include <numeric>
#include <system_error>
#include <thread>

#include "tl/core/log.hpp"
#include "tl/core/parallel.hpp"
#include "tl/data/loader.hpp"

namespace tl::inline TL_ABI {
namespace detail {

TL_INLINE int64_t batch_count(int64_t samples, const LoaderOptions& options) {
  return options.drop_last ? samples / options.batch : (samples + options.batch - 1) / options.batch;
}

}  // namespace detail

TL_INLINE std::vector<int64_t> epoch_order(int64_t count, bool shuffle, uint64_t seed, int64_t epoch) {
  constexpr uint64_t kOrderStream = 0x6f72646572;  // apart from the streams of samples
  std::vector<int64_t> order(static_cast<size_t>(count));
  std::iota(order.begin(), order.end(), 0);
  if (shuffle) {
    Generator generator(seed, kOrderStream + static_cast<uint64_t>(epoch));
    generator.shuffle(order);
  }
  return order;
}

struct Loader::Broken {
  std::mutex mutex;
  std::map<int64_t, BrokenPicture> pictures;

  void report(int64_t index, const std::string& name, const std::string& error) {
    const std::lock_guard lock(mutex);
    if (pictures.emplace(index, BrokenPicture{name, error}).second) warn("left out a picture: " + error);
  }
};

class Loader::Stream final : public BatchStream {
 public:
  Stream(std::shared_ptr<const View> view, const LoaderOptions& options, std::shared_ptr<Broken> broken,
         std::vector<int64_t> order, int64_t epoch, int64_t first)
      : view_(std::move(view)),
        options_(options),
        broken_(std::move(broken)),
        epoch_(epoch),
        next_(first),
        claimed_(first),
        total_(detail::batch_count(static_cast<int64_t>(order.size()), options)),
        order_(std::move(order)) {
    const int count =
        static_cast<int>(std::min<int64_t>(options.workers > 0 ? options.workers : threads(), total_ - first));
    try {
      for (int i = 0; i < count; ++i) workers_.emplace_back([this] { work(); });
    } catch (const std::system_error&) {
      if (workers_.empty()) throw;  // else fewer threads do the same work
    }
  }

  ~Stream() override {
    {
      const std::lock_guard lock(mutex_);
      stop_ = true;
    }
    changed_.notify_all();
    for (auto& worker : workers_) worker.join();
  }

  bool next(Batch& batch) override {
    std::unique_lock lock(mutex_);
    if (next_ >= total_) return false;
    changed_.wait(lock, [&] { return error_ || ready_.count(next_) > 0; });
    if (error_) std::rethrow_exception(error_);
    batch = std::move(ready_.at(next_));
    ready_.erase(next_++);
    lock.unlock();
    changed_.notify_all();
    return true;
  }

 private:
  void work() {
    for (;;) {
      int64_t which = 0;
      {
        std::unique_lock lock(mutex_);
        changed_.wait(lock, [&] { return stop_ || claimed_ >= total_ || claimed_ < next_ + options_.prefetch; });
        if (stop_ || claimed_ >= total_) return;
        which = claimed_++;
      }
      try {
        Batch batch = make(which);
        const std::lock_guard lock(mutex_);
        ready_.emplace(which, std::move(batch));
      } catch (...) {
        const std::lock_guard lock(mutex_);
        if (!error_) error_ = std::current_exception();
        stop_ = true;
      }
      changed_.notify_all();
    }
  }

  Batch make(int64_t which) const {
    const Preprocess& input = view_->pipeline.preprocess();
    const int64_t first = which * options_.batch,
                  last = std::min(first + options_.batch, static_cast<int64_t>(order_.size()));
    Tensor x = Tensor::empty({last - first, input.size, input.size, input.channels()});
    float* to = x.mutable_data<float>();
    std::vector<int32_t> labels;
    Batch batch;
    for (int64_t i = first; i < last; ++i) {
      const int64_t index = view_->indices[static_cast<size_t>(order_[static_cast<size_t>(i)])];
      try {
        view_->pipeline(view_->data->picture(index), to, options_.seed, static_cast<uint64_t>(epoch_),
                        static_cast<uint64_t>(index));
      } catch (const Error& error) {
        if (error.code() != ErrorCode::format && error.code() != ErrorCode::io) throw;
        broken_->report(index, view_->data->name(index), error.what());
        continue;
      }
      to += input.numel();
      labels.push_back(static_cast<int32_t>(view_->data->label(index)));
      batch.indices.push_back(index);
    }
    const auto kept = static_cast<int64_t>(labels.size());
    batch.x = kept == x.size(0) ? x : Tensor::view_of(x.storage(), 0, x.shape().with(0, kept), DType::f32);
    batch.y = Tensor::from(labels, {kept});
    return batch;
  }

  std::shared_ptr<const View> view_;
  LoaderOptions options_;
  std::shared_ptr<Broken> broken_;
  int64_t epoch_, next_, claimed_, total_;
  std::vector<int64_t> order_;
  std::mutex mutex_;
  std::condition_variable changed_;
  std::map<int64_t, Batch> ready_;
  std::exception_ptr error_;
  bool stop_ = false;
  std::vector<std::thread> workers_;
};

TL_INLINE Loader::Loader(View view, const LoaderOptions& options)
    : view_(std::make_shared<const View>(std::move(view))), options_(options), broken_(std::make_shared<Broken>()) {
  require<UsageError>(options.batch >= 1 && options.prefetch >= 1,
                      "Loader: batch and prefetch must be at least 1, got ", options.batch, " and ", options.prefetch);
  require<UsageError>(!view_->indices.empty(), "Loader: there are no samples");
}

TL_INLINE Loader::~Loader() = default;

TL_INLINE int64_t Loader::batches() const { return detail::batch_count(samples(), options_); }

TL_INLINE std::unique_ptr<BatchStream> Loader::epoch(int64_t epoch, int64_t first) {
  return std::make_unique<Stream>(view_, options_, broken_,
                                  epoch_order(samples(), options_.shuffle, options_.seed, epoch), epoch, first);
}

TL_INLINE std::unique_ptr<BatchStream> Loader::pass(std::vector<int64_t> places, int64_t batch, int64_t epoch) const {
  LoaderOptions options = options_;
  options.batch = batch;
  options.drop_last = false;
  return std::make_unique<Stream>(view_, options, broken_, std::move(places), epoch, 0);
}

TL_INLINE std::vector<BrokenPicture> Loader::broken() const {
  const std::lock_guard lock(broken_->mutex);
  std::vector<BrokenPicture> out;
  for (const auto& [index, picture] : broken_->pictures) out.push_back(picture);
  return out;
}

namespace detail {

class TensorStream final : public BatchStream {
 public:
  TensorStream(Tensor x, Tensor y, const LoaderOptions& options, int64_t epoch, int64_t first)
      : x_(std::move(x)),
        y_(std::move(y)),
        batch_(options.batch),
        next_(first),
        total_(batch_count(x_.size(0), options)) {
    order_ = epoch_order(x_.size(0), options.shuffle, options.seed, epoch);
  }

  bool next(Batch& batch) override {
    if (next_ >= total_) return false;
    const int64_t first = next_ * batch_, last = std::min(first + batch_, x_.size(0)), row = x_.numel() / x_.size(0);
    batch.x = Tensor::empty(x_.shape().with(0, last - first));
    batch.y = Tensor::empty({last - first}, DType::i32);
    batch.indices.assign(order_.begin() + first, order_.begin() + last);
    float* to = batch.x.mutable_data<float>();
    int32_t* label = batch.y.mutable_data<int32_t>();
    for (const int64_t i : batch.indices) {
      std::memcpy(to, x_.data<float>() + i * row, static_cast<size_t>(row) * sizeof(float));
      to += row;
      *label++ = y_.data<int32_t>()[i];
    }
    ++next_;
    return true;
  }

 private:
  Tensor x_, y_;
  int64_t batch_, next_, total_;
  std::vector<int64_t> order_;
};

}  // namespace detail

TL_INLINE TensorSource::TensorSource(Tensor x, Tensor y, const LoaderOptions& options)
    : x_(std::move(x)), y_(std::move(y)), options_(options) {
  require<ShapeError>(x_.rank() >= 1 && x_.size(0) > 0 && y_.shape() == Shape{x_.size(0)},
                      "TensorSource: x must be [N, ...] and y [N], N above 0; got ", x_.shape(), " and ", y_.shape());
  require<DTypeError>(x_.dtype() == DType::f32 && y_.dtype() == DType::i32,
                      "TensorSource: x must be f32 and y i32; got ", x_.dtype(), " and ", y_.dtype());
  require<UsageError>(options.batch >= 1, "TensorSource: batch must be at least 1, got ", options.batch);
  x_ = x_.to(kCpu);
  y_ = y_.to(kCpu);
}

TL_INLINE int64_t TensorSource::batches() const { return detail::batch_count(samples(), options_); }

TL_INLINE std::unique_ptr<BatchStream> TensorSource::epoch(int64_t epoch, int64_t first) {
  return std::make_unique<detail::TensorStream>(x_, y_, options_, epoch, first);
}

}  // namespace tl::inline TL_ABI
