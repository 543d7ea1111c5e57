// Threads: coverage, nesting, exceptions, executors, the number of threads, and denormal numbers.
#include <fenv.h>
#include <sched.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <mutex>
#include <numeric>
#include <set>
#include <stdexcept>
#include <thread>
#include <vector>

#include "support.hpp"
#include "tl/core/parallel.hpp"
#include "tl/ops/matmul.hpp"

#if TL_X86
#include <immintrin.h>
#endif

namespace {

/// Restores the number of threads.
struct Threads {
  int before = tl::threads();
  explicit Threads(int count) { tl::set_threads(count); }
  ~Threads() { tl::set_threads(before); }
};

TEST_CASE("ranges cover everything once, and begin at multiples of the grain") {
  for (const int threads : {1, 2, 3, 8}) {
    const Threads guard(threads);
    for (const int64_t count : {0, 1, 2, 7, 64, 1000, 1001})
      for (const int64_t grain : {1, 3, 64, 5000}) {
        CAPTURE(threads);
        CAPTURE(count);
        CAPTURE(grain);
        std::vector<std::atomic<int>> visits(static_cast<size_t>(count));
        std::atomic<bool> aligned{true};
        tl::parallel_for(count, grain, [&](int64_t first, int64_t last) {
          if (first % grain != 0 || (last % grain != 0 && last != count) || first >= last) aligned = false;
          for (int64_t i = first; i < last; ++i) ++visits[static_cast<size_t>(i)];
        });
        CHECK(aligned);
        for (const auto& visit : visits) CHECK_UNARY(visit == 1);
      }
  }
}

TEST_CASE("several threads work") {
  const Threads guard(3);
  std::mutex mutex;
  std::set<std::thread::id> ids;
  std::atomic<int> arrived{0};
  tl::parallel_for(3, 1, [&](int64_t, int64_t) {
    ++arrived;
    while (arrived < 3) std::this_thread::yield();  // ends only if three threads are inside at once
    const std::lock_guard lock(mutex);
    ids.insert(std::this_thread::get_id());
  });
  CHECK(ids.size() == 3);
}

TEST_CASE("nested calls run in the calling thread") {
  const Threads guard(3);
  std::atomic<int> total{0}, strayed{0};
  tl::parallel_for(8, 1, [&](int64_t first, int64_t last) {
    for (int64_t i = first; i < last; ++i) {
      const auto self = std::this_thread::get_id();
      tl::parallel_for(100, 1, [&](int64_t a, int64_t b) {
        total += static_cast<int>(b - a);
        if (std::this_thread::get_id() != self) ++strayed;
      });
    }
  });
  CHECK(total == 800);
  CHECK(strayed == 0);
}

TEST_CASE("an exception reaches the caller after all ranges ended, and the pool works on") {
  for (const int threads : {1, 2, 4}) {
    const Threads guard(threads);
    std::atomic<int> inside{0};
    const auto failing = [&] {
      tl::parallel_for(64, 1, [&](int64_t first, int64_t) {
        ++inside;
        std::this_thread::sleep_for(std::chrono::microseconds(50));
        --inside;
        if (first == 0) throw std::domain_error("no");
      });
    };
    CHECK_THROWS_WITH_AS(failing(), "no", std::domain_error);
    CHECK(inside == 0);
    std::atomic<int64_t> sum{0};
    tl::parallel_for(100, 1, [&](int64_t first, int64_t last) { sum += last - first; });
    CHECK(sum == 100);
  }
}

TEST_CASE("work may come from several threads of the program at once") {
  const Threads guard(2);
  std::atomic<int64_t> sum{0};
  std::vector<std::thread> callers;
  for (int c = 0; c < 4; ++c)
    callers.emplace_back([&] {
      for (int i = 0; i < 50; ++i) tl::parallel_for(100, 1, [&](int64_t first, int64_t last) { sum += last - first; });
    });
  for (auto& caller : callers) caller.join();
  CHECK(sum == 4 * 50 * 100);
}

TEST_CASE("an executor of the embedding program takes the work over") {
  struct Backwards final : tl::Executor {
    int calls = 0;
    int concurrency() const override { return 5; }
    void run(int count, tl::FunctionRef<void(int)> task) override {
      ++calls;
      for (int i = count; i-- > 0;) task(i);
    }
  } executor;
  tl::set_executor(&executor);
  CHECK(tl::threads() == 5);
  std::vector<int> visits(1000);
  tl::parallel_for(1000, 10, [&](int64_t first, int64_t last) {
    for (int64_t i = first; i < last; ++i) ++visits[static_cast<size_t>(i)];
  });
  tl::set_executor(nullptr);
  CHECK(executor.calls == 1);
  CHECK(std::accumulate(visits.begin(), visits.end(), 0) == 1000);
  tl::parallel_for(1000, 10, [](int64_t, int64_t) {});
  CHECK(executor.calls == 1);
}

TEST_CASE("numbers of threads that cannot be are refused") {
  CHECK_THROWS_WITH_AS(tl::set_threads(0), "set_threads: expected 1 to 1024 threads, got 0", tl::UsageError);
  CHECK_THROWS_AS(tl::set_threads(1025), tl::UsageError);
  CHECK_THROWS_AS(tl::set_threads(-1), tl::UsageError);
}

// ---- FR12 ----

TEST_CASE("FR12: a process that may run on one CPU uses one thread") {
  const pid_t child = fork();
  if (child == 0) {  // as `taskset -c N` does before it starts the program
    cpu_set_t set;
    sched_getaffinity(0, sizeof set, &set);
    int first = 0;
    while (!CPU_ISSET(first, &set)) ++first;
    CPU_ZERO(&set);
    CPU_SET(first, &set);
    sched_setaffinity(0, sizeof set, &set);
    _exit(tl::available_threads());
  }
  REQUIRE(child > 0);
  int status = 0;
  REQUIRE(waitpid(child, &status, 0) == child);
  CHECK(WIFEXITED(status));
  CHECK(WEXITSTATUS(status) == 1);
}

TEST_CASE("FR12: threads are at most those that the machine grants") {
  CHECK(tl::available_threads() >= 1);
  CHECK(tl::available_threads() <= static_cast<int>(std::max(1u, std::thread::hardware_concurrency())));
}

tl::Tensor filled(const tl::Shape& shape, float value) {
  tl::Tensor out = tl::Tensor::empty(shape);
  std::fill_n(out.mutable_data<float>(), out.numel(), value);
  return out;
}

TEST_CASE("FR12: denormal weights and inputs are as fast as normal ones") {
  for (const int threads : {1, 2}) {
    CAPTURE(threads);
    const Threads guard(threads);
    const tl::Tensor normal = filled({256, 256}, 1e-3f), tiny = filled({256, 256}, 1e-39f);
    double normal_seconds = 1e30, tiny_seconds = 1e30;
    const auto measure = [](const tl::Tensor& x, double& best) {
      const auto start = std::chrono::steady_clock::now();
      tl::linear(x, x);
      best = std::min(best, std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count());
    };
    for (int i = 0; i < 40 || (i < 400 && tiny_seconds > 1.5 * normal_seconds); ++i) {
      measure(normal, normal_seconds);  // the fastest of many: what else the machine does only adds
      measure(tiny, tiny_seconds);
    }
    MESSAGE("threads ", threads, ": normal ", normal_seconds * 1e6, " us, denormal ", tiny_seconds * 1e6, " us");
    CHECK(tiny_seconds < 1.5 * normal_seconds);
  }
}

#if TL_X86
unsigned modes() { return _mm_getcsr() & ~0x3fu; }  // without the flags of what happened

TEST_CASE("FR12: the caller's floating-point environment is what it was") {
  for (const int threads : {1, 2}) {
    const Threads guard(threads);
    const tl::Tensor x = filled({256, 256}, 1e-39f);
    fenv_t before, after;
    fegetenv(&before);
    const unsigned modes_before = modes();
    tl::linear(x, x);
    fegetenv(&after);
    CHECK(modes() == modes_before);
    CHECK(before.__control_word == after.__control_word);
    CHECK((before.__mxcsr & ~0x3fu) == (after.__mxcsr & ~0x3fu));
    volatile float tiny = 1e-39f;
    const float half = tiny * 0.5f;  // denormals are back
    CHECK(half != 0.0f);
  }
}

TEST_CASE("FR12: a caller that flushes denormals, or rounds differently, keeps its setting") {
  const unsigned before = _mm_getcsr();
  _mm_setcsr(before | 0x8040u);
  const tl::Tensor x = filled({64, 64}, 1.0f);
  tl::linear(x, x);
  CHECK((modes() & 0x8040u) == 0x8040u);
  _mm_setcsr(before);
  fesetround(FE_UPWARD);
  tl::linear(x, x);
  CHECK(fegetround() == FE_UPWARD);
  fesetround(FE_TONEAREST);
}

TEST_CASE("FR12: every thread of a region flushes denormals, and none afterwards") {
  const Threads guard(3);
  std::atomic<int> flushing{0}, ranges{0};
  tl::parallel_for(64, 1, [&](int64_t, int64_t) {
    ++ranges;
    if ((_mm_getcsr() & 0x8040u) == 0x8040u) ++flushing;
  });
  CHECK(ranges == flushing);
  CHECK((_mm_getcsr() & 0x8040u) == 0);
  try {  // an exception restores it as well
    tl::parallel_for(1, 1, [](int64_t, int64_t) { throw 1; });
  } catch (int) {
  }
  CHECK((_mm_getcsr() & 0x8040u) == 0);
}
#endif

}  // namespace
