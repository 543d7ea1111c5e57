// Definitions of parallel.hpp.
#pragma once
#include <sched.h>

#include <algorithm>
#include <atomic>
#include <condition_variable>
#include <cstdio>
#include <exception>
#include <memory>
#include <mutex>
#include <thread>
#include <utility>
#include <vector>

#include "tl/core/error.hpp"
#include "tl/core/parallel.hpp"
#if TL_X86
#include <immintrin.h>
#endif

namespace tl {

TL_INLINE void wait_a_moment(int turn) {
  constexpr int kTurnsAwake = 4000;
  if (turn % kTurnsAwake == kTurnsAwake - 1) std::this_thread::yield();
#if TL_X86
  else _mm_pause();
#endif
}

namespace core_detail {

inline thread_local bool in_parallel_region = false;

/// Workers that wait for a job, first spinning (a kernel follows a kernel within microseconds), then asleep.
class ThreadPool final : public Executor {
 public:
  explicit ThreadPool(int threads) {
    for (int i = 1; i < threads; ++i) workers_.emplace_back([this] { work(); });
  }
  ~ThreadPool() override {
    {
      const std::lock_guard lock(mutex_);
      stop_ = true;
      generation_.fetch_add(1, std::memory_order_release);
    }
    wake_.notify_all();
    for (auto& worker : workers_) worker.join();
  }

  int concurrency() const override { return static_cast<int>(workers_.size()) + 1; }

  void run(int count, FunctionRef<void(int)> task) override {
    const std::lock_guard one_job_at_a_time(job_mutex_);
    task_ = &task;
    done_.store(0, std::memory_order_relaxed);
    ticket_.store(static_cast<uint64_t>(count) << 32, std::memory_order_release);
    {
      const std::lock_guard lock(mutex_);
      generation_.fetch_add(1, std::memory_order_release);
    }
    wake_.notify_all();
    take_tasks();
    for (int turn = 0; done_.load(std::memory_order_acquire) != count; ++turn) wait_a_moment(turn);
  }

 private:
  static constexpr int kSpins = 4000;

  // A job waits for its tasks, not for the workers: one that the system has not woken yet, on a busy machine, finds
  // nothing left to take, or takes from the next job. task_ holds still while a task that was taken is not done.
  void take_tasks() {
    for (;;) {
      const uint64_t ticket = ticket_.fetch_add(1, std::memory_order_acquire);
      const auto next = static_cast<uint32_t>(ticket), count = static_cast<uint32_t>(ticket >> 32);
      if (next >= count) return;
      (*task_)(static_cast<int>(next));
      done_.fetch_add(1, std::memory_order_release);
    }
  }

  void work() {
    uint64_t seen = 0;
    for (;;) {
      for (int turn = 0; turn < kSpins && generation_.load(std::memory_order_acquire) == seen; ++turn)
        wait_a_moment(turn);
      if (generation_.load(std::memory_order_acquire) == seen) {
        std::unique_lock lock(mutex_);
        wake_.wait(lock, [&] { return generation_.load(std::memory_order_acquire) != seen; });
      }
      seen = generation_.load(std::memory_order_acquire);
      if (stop_) return;
      take_tasks();
    }
  }

  std::mutex job_mutex_, mutex_;
  std::condition_variable wake_;
  std::atomic<uint64_t> generation_{0};
  std::atomic<uint64_t> ticket_{0};  // of the job: how many tasks it has (high half), and the next one to take
  std::atomic<int> done_{0};
  const FunctionRef<void(int)>* task_ = nullptr;
  std::atomic<bool> stop_{false};
  std::vector<std::thread> workers_;
};

struct ParallelState {
  std::mutex mutex;
  int threads = 0;  // 0: not chosen yet
  std::shared_ptr<ThreadPool> pool;
  Executor* executor = nullptr;
};

TL_INLINE ParallelState& parallel_state() {
  static ParallelState state;
  return state;
}

/// CPUs granted by the cgroup's quota, rounded up; 0 when there is none.
TL_INLINE int quota_threads() {
  const auto ceil_ratio = [](double quota, double period) {
    return quota > 0 && period > 0 ? static_cast<int>((quota + period - 1) / period) : 0;
  };
  int found = 0;
  if (std::FILE* file = std::fopen("/sys/fs/cgroup/cpu.max", "r")) {  // cgroup v2: "max 100000" or "150000 100000"
    double quota = 0, period = 0;
    if (std::fscanf(file, "%lf %lf", &quota, &period) == 2) found = ceil_ratio(quota, period);
    std::fclose(file);
    return found;
  }
  double quota = 0, period = 0;
  if (std::FILE* file = std::fopen("/sys/fs/cgroup/cpu/cpu.cfs_quota_us", "r")) {
    if (std::fscanf(file, "%lf", &quota) != 1) quota = 0;
    std::fclose(file);
  }
  if (std::FILE* file = std::fopen("/sys/fs/cgroup/cpu/cpu.cfs_period_us", "r")) {
    if (std::fscanf(file, "%lf", &period) != 1) period = 0;
    std::fclose(file);
  }
  return ceil_ratio(quota, period);
}

}  // namespace core_detail

TL_INLINE int available_threads() {
  cpu_set_t set;
  CPU_ZERO(&set);
  int count = sched_getaffinity(0, sizeof set, &set) == 0 ? CPU_COUNT(&set)
                                                          : static_cast<int>(std::thread::hardware_concurrency());
  if (const int quota = core_detail::quota_threads(); quota > 0) count = std::min(count, quota);
  return std::max(count, 1);
}

TL_INLINE void set_threads(int count) {
  require<UsageError>(count >= 1 && count <= 1024, "set_threads: expected 1 to 1024 threads, got ", count);
  auto& state = core_detail::parallel_state();
  const std::lock_guard lock(state.mutex);
  if (state.threads == count) return;
  state.threads = count;
  state.pool.reset();
}

TL_INLINE int threads() {
  auto& state = core_detail::parallel_state();
  const std::lock_guard lock(state.mutex);
  if (state.executor) return std::max(state.executor->concurrency(), 1);
  if (state.threads == 0) state.threads = available_threads();
  return state.threads;
}

TL_INLINE int threads_here() { return core_detail::in_parallel_region ? 1 : threads(); }

TL_INLINE void set_executor(Executor* executor) {
  auto& state = core_detail::parallel_state();
  const std::lock_guard lock(state.mutex);
  state.executor = executor;
}

TL_INLINE void parallel_for(int64_t count, int64_t grain, FunctionRef<void(int64_t, int64_t)> body) {
  if (count <= 0) return;
  const int64_t grains = (count + grain - 1) / grain;
  std::shared_ptr<core_detail::ThreadPool> pool;
  Executor* executor = nullptr;
  if (grains > 1 && !core_detail::in_parallel_region) {
    auto& state = core_detail::parallel_state();
    const std::lock_guard lock(state.mutex);
    executor = state.executor;
    if (!executor) {
      if (state.threads == 0) state.threads = available_threads();
      if (state.threads > 1 && !state.pool) state.pool = std::make_shared<core_detail::ThreadPool>(state.threads);
      pool = state.pool;
      executor = pool.get();
    }
  }
  const int64_t ways = executor ? std::max(executor->concurrency(), 1) : 1;
  if (ways == 1) {
    const FlushDenormals flush;
    body(0, count);
    return;
  }

  // Four ranges a thread even out what the machine does besides, unless the grain forbids it.
  const int64_t ranges = std::min(grains, ways * 4);
  std::atomic<bool> failed{false};
  std::exception_ptr error;
  executor->run(static_cast<int>(ranges), [&](int i) {
    const int64_t first = grains * i / ranges * grain, last = std::min(grains * (i + 1) / ranges * grain, count);
    const bool outer = std::exchange(core_detail::in_parallel_region, true);
    try {
      const FlushDenormals flush;
      body(first, last);
    } catch (...) {
      if (!failed.exchange(true)) error = std::current_exception();
    }
    core_detail::in_parallel_region = outer;
  });
  if (error) std::rethrow_exception(error);
}

#if TL_X86
TL_INLINE FlushDenormals::FlushDenormals() : saved_(_mm_getcsr()) {
  constexpr unsigned kFlushToZero = 0x8000, kDenormalsAreZero = 0x0040;
  const auto current = static_cast<unsigned>(saved_);
  if ((current & (kFlushToZero | kDenormalsAreZero)) != (kFlushToZero | kDenormalsAreZero))
    _mm_setcsr(current | kFlushToZero | kDenormalsAreZero);
}
TL_INLINE FlushDenormals::~FlushDenormals() {
  // Only the two mode bits return: exception flags raised meanwhile are left as the hardware set them.
  constexpr unsigned kModes = 0x8040;
  const unsigned current = _mm_getcsr(), wanted = (current & ~kModes) | (static_cast<unsigned>(saved_) & kModes);
  if (current != wanted) _mm_setcsr(wanted);
}
#else
TL_INLINE FlushDenormals::FlushDenormals() : saved_(0) {}
TL_INLINE FlushDenormals::~FlushDenormals() = default;
#endif

}  // namespace tl
