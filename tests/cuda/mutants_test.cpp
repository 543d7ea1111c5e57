// Proof that the kernel tests would notice: every barrier and every warp collective of the kernels is damaged, one at a
// time. A barrier then does nothing; a shuffle leaves the other half of its warp out of its mask. Each of these mutants
// must be caught in at least one order: by a report of the emulator, or by a result that is wrong.
//
// The sites are not listed here but found: the emulator says which ones the healthy kernels pass. So a kernel that gets
// a case below has all of its synchronization covered, and a barrier that is not needed fails this test too.
#include <cstdio>
#include <functional>

#include "device_test.hpp"
#include "emulator/sanitizers.hpp"
#include "rungs.hpp"
#include "support.hpp"

namespace tl::test {
namespace {

/// A kernel on data of its own; gives its results.
struct Victim {
  const char* name;
  std::function<std::vector<float>()> run;
};

std::vector<float> run_gemm(void (*gemm)(const GemmArgs<float>&)) {
  constexpr int64_t kM = 40, kN = 36, kK = 50;
  OnDevice<float> a(random_floats(kM * kK, 1)), b(random_floats(kK * kN, 2)), c(kM * kN);
  gemm({.a = a.data(), .b = b.data(), .c = c.data(), .m = kM, .n = kN, .k = kK, .lda = kK, .ldb = kN, .ldc = kN});
  return c.values();
}

std::vector<float> run_sum(void (*sum)(const float*, float*, int64_t, int64_t, int64_t), int64_t outer, int64_t axis,
                           int64_t inner) {
  OnDevice<float> x(random_floats(static_cast<std::size_t>(outer * axis * inner), 3)),
      y(static_cast<std::size_t>(outer * inner));
  sum(x.data(), y.data(), outer, axis, inner);
  return y.values();
}

std::vector<float> run_softmax(void (*softmax)(const SoftmaxArgs<float>&), int64_t cols) {
  constexpr int64_t kRows = 5;
  const auto size = static_cast<std::size_t>(kRows * cols);
  OnDevice<float> x(random_floats(size, 4)), y(size);
  softmax({x.data(), y.data(), kRows, cols, false});
  return y.values();
}

std::vector<float> run_cross_entropy(int64_t cols) {
  constexpr int64_t kRows = 3;
  OnDevice<float> x(random_floats(static_cast<std::size_t>(kRows * cols), 5)), loss(kRows), weight(kRows);
  OnDevice<int32_t> target(random_indices(kRows, static_cast<int32_t>(cols), 6));
  cuda::cross_entropy({x.data(), target.data(), nullptr, loss.data(), weight.data(), nullptr, kRows, cols, 0.1f, -100});
  return loss.values();
}

std::vector<float> run_largest() {
  OnDevice<float> x(random_floats(3 * 600, 7)), y(3);
  OnDevice<int32_t> index(3);
  rungs::largest_of_rows_v3(x.data(), y.data(), index.data(), 3, 600);
  return y.values();
}

std::vector<float> run_top_k() {
  OnDevice<float> x(random_floats(2 * 600, 8)), values(2 * 4);
  OnDevice<int32_t> index(2 * 4);
  cuda::top_k({x.data(), values.data(), index.data(), 2, 600, 4});
  return values.values();
}

std::vector<float> run_transposes() {
  OnDevice<float> x(random_floats(2 * 40 * 50, 9)), y(2 * 40 * 50);
  rungs::transpose_in_one_block_per_tile(x.data(), y.data(), 2, 40, 50);
  return y.values();
}

const Victim kVictims[] = {
    {"gemm_v2", [] { return run_gemm(rungs::gemm_v2); }},
    {"gemm_v3", [] { return run_gemm(rungs::gemm_v3_small); }},
    {"gemm_v4", [] { return run_gemm(cuda::gemm); }},
    {"reduce_rows_v2", [] { return run_sum(rungs::sum_rows_v2, 5, 70, 1); }},
    {"reduce_rows_v3", [] { return run_sum(rungs::sum_rows_v3, 3, 700, 1); }},
    {"reduce_columns_v2", [] { return run_sum(rungs::sum_columns_v2, 3, 50, 40); }},
    {"reduce_rows_v3 of places", run_largest},
    {"top_k_v1", run_top_k},
    {"copy_transposed_v2", run_transposes},
    {"softmax_v1 by warp", [] { return run_softmax(rungs::softmax_v1_warp, 70); }},
    {"softmax_v1 by block", [] { return run_softmax(rungs::softmax_v1_block, 500); }},
    {"softmax_v2", [] { return run_softmax(rungs::softmax_v2, 70); }},
    {"softmax_v3", [] { return run_softmax(rungs::softmax_v3, 500); }},
    {"cross_entropy_v1 by warp", [] { return run_cross_entropy(70); }},
    {"cross_entropy_v1 by block", [] { return run_cross_entropy(1100); }},
};

/// Whether the damage shows in the present order.
bool shows(const Victim& victim, const std::vector<float>& healthy) {
  try {
    return victim.run() != healthy;
  } catch (const emulator::Error&) {
    return true;
  }
}

const char* name_of(emulator::Synchronization kind) {
  switch (kind) {
    case emulator::Synchronization::block_barrier:
      return "sync_block";
    case emulator::Synchronization::warp_barrier:
      return "sync_warp";
    case emulator::Synchronization::warp_collective:
      return "shuffle or ballot";
  }
  return "";
}

TEST_CASE("mutants: every barrier and mask of every kernel is needed, and its loss is noticed") {
  if (emulator::kUnderThreadSanitizer)
    TL_SKIP("the mutants' data races are deliberate, and ThreadSanitizer would stop at them");
  int mutants = 0;
  for (const Victim& victim : kVictims) {
    emulator::take_visited_sites();
    emulator::set_schedule(kSchedules[0]);
    const auto healthy = victim.run();
    in_every_order([&] { CHECK(victim.run() == healthy); });
    for (const emulator::Site& site : emulator::take_visited_sites()) {
      ++mutants;
      emulator::damage(site);
      int caught = 0;
      for (const auto& schedule : kSchedules) {
        emulator::set_schedule(schedule);
        if (shows(victim, healthy)) ++caught;
      }
      emulator::repair();
      std::printf("%-26s without %-17s at %-26s caught in %d of %zu orders\n", victim.name, name_of(site.kind),
                  site.where.text().c_str(), caught, kSchedules.size());
      const std::string mutant =
          std::string(victim.name) + " without the " + name_of(site.kind) + " at " + site.where.text();
      CHECK_MESSAGE(caught > 0, mutant);
    }
  }
  std::printf("%d mutants\n", mutants);
  CHECK(mutants >= 20);
}

}  // namespace
}  // namespace tl::test
