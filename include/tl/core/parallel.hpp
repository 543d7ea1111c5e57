// Work split over threads: one pool for the process, or the executor of the program that embeds tl.
#pragma once
#include <cstdint>

#include "tl/core/config.hpp"
#include "tl/core/function_ref.hpp"

namespace tl {

/// Runs tasks for tl in place of its own pool.
class Executor {
 public:
  virtual ~Executor() = default;
  /// Upper bound of tasks that run at the same time.
  virtual int concurrency() const = 0;
  /// Calls task(0) ... task(count - 1), in any order and on any thread, and returns when all are done.
  virtual void run(int count, FunctionRef<void(int)> task) = 0;
};

/// Threads that tl may use: those of this process' affinity, bounded by its cgroup's quota (rounded up).
int available_threads();

/// Sets the number of threads, 1 to 1024. 1 means that everything runs in the calling thread.
void set_threads(int count);
int threads();
/// Threads that parallel_for would use if it were called here: one within a task of another call.
int threads_here();

/// Hands all parallel work to `executor`, which must outlive its use; nullptr restores tl's own pool.
void set_executor(Executor* executor);

/// Calls body(first, last) on disjoint ranges that cover [0, count); each but the last is a multiple of `grain` long.
///
/// Nested calls run in the calling thread. An exception in body reaches the caller, after all ranges ended.
/// How many ranges there are depends on the number of threads. So that results do not, a body computes each element
/// from its index alone, and a reduction keeps one partial result per grain, combined in order of the grains.
void parallel_for(int64_t count, int64_t grain, FunctionRef<void(int64_t, int64_t)> body);

/// Lets some time pass, awake, before the `turn`-th look at what another thread is about to finish: a few cycles, and
/// now and then, where threads outnumber cores, all that others want.
void wait_a_moment(int turn);

/// While it lives, this thread's denormal results and operands count as zero; the former setting returns afterwards.
/// Every kernel runs under it: arithmetic on denormals is a hundred times slower than on other numbers.
class FlushDenormals {
 public:
  FlushDenormals();
  ~FlushDenormals();
  FlushDenormals(const FlushDenormals&) = delete;
  FlushDenormals& operator=(const FlushDenormals&) = delete;

 private:
  uint64_t saved_;
};

}  // namespace tl

#if TL_HEADER_ONLY
#include "tl/core/parallel.inl"
#endif
