// The emulator must find what it is there to find. Each kernel here has one mistake, next to its correct form.
#include "emulator/emulator.hpp"

#include <doctest/doctest.h>

#include <array>
#include <string>
#include <vector>

#include "device/pack.cuh"
#include "device/reduce.cuh"
#include "emulator/guarded.hpp"
#include "schedules.hpp"

namespace tl::device {
namespace {

/// The emulator's report for a launch under `schedule`; empty if it had nothing to say.
template <class... Parameters>
std::string report_of(const emulator::Schedule& schedule, void (*kernel)(Parameters...), const LaunchShape& shape,
                      typename Identity<Parameters>::type... arguments) {
  emulator::set_schedule(schedule);
  try {
    launch(kernel, shape, arguments...);
    cuda::synchronize();
  } catch (const emulator::Error& error) {
    return error.what();
  }
  return "";
}

template <class... Parameters>
std::string report_of(void (*kernel)(Parameters...), const LaunchShape& shape,
                      typename Identity<Parameters>::type... arguments) {
  return report_of(emulator::Schedule{}, kernel, shape, arguments...);
}

bool contains(const std::string& text, const std::string& part) { return text.find(part) != std::string::npos; }

/// ThreadSanitizer would stop at the races that some kernels here have on purpose (race_test.cpp is about that).
constexpr bool kRacesAreErrors = emulator::kUnderThreadSanitizer;

// ---- missing barriers show in the numbers of at least one order

/// y = x with each block of 64 reversed.
template <bool kBarrier>
TL_KERNEL void reverse_in_block(const float* x, float* y) {
  TL_SHARED(tile, float[64]);
  const unsigned t = thread_idx().x, first = block_idx().x * 64;
  tile[t] = x[first + t];
  if (kBarrier) sync_block();
  y[first + t] = tile[63 - t];
}

/// y[t] = x[0] + x[1] + ..., one value at a time through a single shared place.
template <bool kBarrier>
TL_KERNEL void sum_through_one_place(const float* x, float* y, int count) {
  TL_SHARED(place, float[1]);
  float sum = 0;
  for (int i = 0; i < count; ++i) {
    if (thread_idx().x == 0) place[0] = x[i];
    sync_block();
    sum += place[0];
    if (kBarrier) sync_block();  // before the place is written again
  }
  y[thread_idx().x] = sum;
}

template <class Kernel>
bool right_in_all_orders(Kernel kernel_is_right) {
  bool right = true;
  for (const auto& schedule : test::kSchedules) right = kernel_is_right(schedule) && right;
  return right;
}

template <bool kBarrier>
bool reverses(const emulator::Schedule& schedule) {
  std::vector<float> x(128);
  for (std::size_t i = 0; i < x.size(); ++i) x[i] = static_cast<float>(i);
  const emulator::Guarded<float> in(x);
  emulator::Guarded<float> out(x.size());
  REQUIRE(report_of(schedule, reverse_in_block<kBarrier>, {.grid = {2}, .block = {64}}, in.data(), out.data()) == "");
  for (std::size_t i = 0; i < x.size(); ++i) {
    if (out.data()[i] != x[i / 64 * 64 + 63 - i % 64]) return false;
  }
  return true;
}

template <bool kBarrier>
bool sums(const emulator::Schedule& schedule) {
  const emulator::Guarded<float> in(std::vector<float>{1, 2, 4, 8});
  emulator::Guarded<float> out(64);
  if (report_of(schedule, sum_through_one_place<kBarrier>, {.block = {64}}, in.data(), out.data(), 4) != "")
    return false;
  for (float y : out.values()) {
    if (y != 15) return false;
  }
  return true;
}

TEST_CASE("emulator: a missing barrier between write and read gives a wrong result") {
  CHECK(right_in_all_orders(reverses<true>));
  if (kRacesAreErrors) return;
  CHECK_FALSE(right_in_all_orders(reverses<false>));
}

TEST_CASE("emulator: a missing barrier between read and next write gives a wrong result") {
  CHECK(right_in_all_orders(sums<true>));
  if (kRacesAreErrors) return;
  CHECK_FALSE(right_in_all_orders(sums<false>));
}

/// Lanes hand values on through shared memory; without the warp barrier the reader may come first.
template <bool kBarrier>
TL_KERNEL void rotate_in_warp(float* y) {
  TL_SHARED(tile, float[32]);
  tile[lane()] = static_cast<float>(lane());
  if (kBarrier) sync_warp();
  y[lane()] = tile[(lane() + 1) % kWarpSize];
}

template <bool kBarrier>
bool rotates(const emulator::Schedule& schedule) {
  emulator::Guarded<float> out(32);
  REQUIRE(report_of(schedule, rotate_in_warp<kBarrier>, {.block = {32}}, out.data()) == "");
  for (int i = 0; i < 32; ++i) {
    if (out.data()[i] != static_cast<float>((i + 1) % 32)) return false;
  }
  return true;
}

TEST_CASE("emulator: a missing warp barrier gives a wrong result") {
  CHECK(right_in_all_orders(rotates<true>));
  if (kRacesAreErrors) return;
  CHECK_FALSE(right_in_all_orders(rotates<false>));
}

// ---- what hangs or is undefined on a GPU is reported

TL_KERNEL void half_of_the_threads_wait(int threads) {
  if (static_cast<int>(thread_idx().x) < threads) sync_block();
}

TL_KERNEL void two_different_barriers() {
  if (thread_idx().x < 32) {
    sync_block();
  } else {
    sync_block();
  }
}

TEST_CASE("emulator: barriers that not all threads reach") {
  for (const auto& schedule : test::kSchedules) {
    const std::string missed = report_of(schedule, half_of_the_threads_wait, {.block = {96}}, 40);
    CHECK_MESSAGE(contains(missed, "deadlock: threads 0-39 wait at emulator_test.cpp:"), missed);
    CHECK_MESSAGE(contains(missed, "threads 40-95 have returned"), missed);
    const std::string divergent = report_of(schedule, two_different_barriers, {.block = {64}});
    CHECK_MESSAGE(contains(divergent, "divergent barrier: some threads wait at emulator_test.cpp:"), divergent);
  }
  CHECK(report_of(half_of_the_threads_wait, {.block = {96}}, 96) == "");
}

TL_KERNEL void shuffle_with_mask(unsigned mask, int callers, int source, float* y) {
  if (lane() >= callers) return;
  y[lane()] = shuffle(static_cast<float>(lane()), source, mask);
}

TL_KERNEL void ballot_or_shuffle(unsigned* y) {
  if (lane() < 16) {
    y[lane()] = ballot(true);
  } else {
    y[lane()] = shuffle(1u, 0);
  }
}

TL_KERNEL void overlapping_masks(unsigned* y) { y[lane()] = ballot(true, lane() < 16 ? 0x0001FFFFu : 0xFFFF0000u); }

TEST_CASE("emulator: masks of warp collectives") {
  emulator::Guarded<float> y(32);
  emulator::Guarded<unsigned> words(32);
  const LaunchShape warp{.block = {32}};
  for (const auto& schedule : test::kSchedules) {
    CHECK(report_of(schedule, shuffle_with_mask, warp, 0x00FFu, 8, 3, y.data()) == "");
    CHECK(y.data()[7] == 3.0f);
    CHECK(contains(report_of(schedule, shuffle_with_mask, warp, 0x007Fu, 8, 3, y.data()),
                   "lane 7 is not in its own mask"));
    const std::string gone = report_of(schedule, shuffle_with_mask, warp, kFullMask, 8, 3, y.data());
    CHECK_MESSAGE(contains(gone, "which has returned"), gone);
    CHECK(contains(report_of(schedule, shuffle_with_mask, warp, 0x00FFu, 8, 20, y.data()),
                   "reads lane 20, which is not in the mask"));
    CHECK(contains(report_of(schedule, ballot_or_shuffle, warp, words.data()), "divergent warp collective"));
    const std::string overlap = report_of(schedule, overlapping_masks, warp, words.data());
    CHECK_MESSAGE((contains(overlap, "the mask disagrees") || contains(overlap, "which has returned")), overlap);
  }
  CHECK(contains(report_of(shuffle_with_mask, {.block = {8}}, kFullMask, 8, 3, y.data()),
                 "which the block does not have"));
}

// ---- shared memory

TL_KERNEL void index_shared(int i, int j, float* y) {
  TL_SHARED(tile, float[4][8]);
  tile[i][j] = 1;
  y[0] = tile[i][j];
}

TL_KERNEL void read_unwritten_shared(float* y) {
  TL_SHARED(tile, float[8]);
  y[0] = tile[3];
}

TL_KERNEL void write_shared_by_pointer(int i) {
  TL_SHARED(tile, float[8]);
  float* p = &tile[0];
  p[i] = 1;
}

TL_KERNEL void load_pack_from_shared(int i, float* y) {
  TL_SHARED(tile, float[10]);
  y[0] = load_pack<4>(&tile[i])[0];
}

TL_KERNEL void use_dynamic_shared(int i, float* y) {
  TL_DYNAMIC_SHARED(buffer, float);
  buffer[i] = 2;
  y[0] = buffer[i];
}

TEST_CASE("emulator: shared arrays know their extents and start as NaN") {
  emulator::Guarded<float> y(1);
  CHECK(report_of(index_shared, {}, 3, 7, y.data()) == "");
  CHECK(contains(report_of(index_shared, {}, 3, 8, y.data()), "index 8 is outside of shared array 'tile'"));
  CHECK(contains(report_of(index_shared, {}, 4, 0, y.data()), "index 4 is outside of shared array 'tile'"));
  CHECK(contains(report_of(index_shared, {}, -1, 0, y.data()), "index -1 is outside of shared array 'tile'"));
  CHECK(report_of(read_unwritten_shared, {}, y.data()) == "");
  CHECK(y.data()[0] != y.data()[0]);
  CHECK(report_of(load_pack_from_shared, {}, 4, y.data()) == "");
  CHECK(contains(report_of(load_pack_from_shared, {}, 8, y.data()), "access beyond the end of shared array 'tile'"));
  CHECK(contains(report_of(load_pack_from_shared, {}, 2, y.data()), "misaligned access of 16 bytes"));
  CHECK(report_of(use_dynamic_shared, {.shared_bytes = 64}, 15, y.data()) == "");
  CHECK(
      contains(report_of(use_dynamic_shared, {.shared_bytes = 64}, 16, y.data()), "outside of dynamic shared memory"));
#if !defined(TL_EMULATOR_ASAN)  // which stops the program at the write itself
  CHECK(contains(report_of(write_shared_by_pointer, {}, 9), "write outside of shared array 'tile'"));
#endif
}

TL_KERNEL void write_global(float* y, int i) { y[i] = 1; }

TEST_CASE("emulator: writes beside a buffer are noticed") {
  emulator::Guarded<float> y(5);
  CHECK(report_of(write_global, {}, y.data(), 4) == "");
  CHECK(y.intact());
#if !defined(TL_EMULATOR_ASAN)
  CHECK(report_of(write_global, {}, y.data(), 5) == "");
  CHECK_FALSE(y.intact());
#endif
}

// ---- launches

TL_KERNEL void number_threads(int* y) {
  const Dim3 b = block_idx(), t = thread_idx(), n = block_dim(), g = grid_dim();
  const unsigned block = b.x + g.x * (b.y + g.y * b.z), thread = t.x + n.x * (t.y + n.y * t.z);
  y[block * n.x * n.y * n.z + thread] = static_cast<int>(thread);
}

TEST_CASE("emulator: every thread of every block runs once, in any order") {
  for (const auto& schedule : test::kSchedules) {
    emulator::Guarded<int> y(3 * 2 * 2 * 5 * 4 * 3);
    CHECK(report_of(schedule, number_threads, {.grid = {3, 2, 2}, .block = {5, 4, 3}}, y.data()) == "");
    for (std::size_t i = 0; i < y.size(); ++i) CHECK(y.data()[i] == static_cast<int>(i % 60));
    CHECK(y.intact());
  }
}

TEST_CASE("emulator: launches that no GPU takes") {
  emulator::Guarded<int> y(1);
  CHECK(contains(report_of(number_threads, {.block = {1025}}, y.data()), "between 1 and 1024"));
  CHECK(contains(report_of(number_threads, {.grid = {0}}, y.data()), "a grid of (0,1,1) blocks"));
  CHECK(contains(report_of(number_threads, {.grid = {1, 65536}}, y.data()), "65535 in y and z"));
  CHECK(contains(report_of(number_threads, {.shared_bytes = 1 << 20}, y.data()), "no GPU has that many"));
}

TL_KERNEL void last_value_wins(int* y) { y[0] = static_cast<int>(block_idx().x * 64 + thread_idx().x); }

TEST_CASE("emulator: the orders differ") {
  if (kRacesAreErrors) return;
  std::vector<int> last;
  for (const auto& schedule : test::kSchedules) {
    emulator::Guarded<int> y(1);
    report_of(schedule, last_value_wins, {.grid = {8}, .block = {64}}, y.data());
    last.push_back(y.data()[0]);
  }
  CHECK(last[0] == 511);
  CHECK(last[1] == 0);
  CHECK(last[2] != last[3]);
}

TL_KERNEL void count_and_reduce(const float* x, float* sums, int* count) {
  const float sum = BlockReducer<96>{}(x[block_idx().x * 96 + thread_idx().x], 0.0f, Sum{});
  if (thread_idx().x == 0) sums[block_idx().x] = sum;
  atomic_add(count, 1);
}

TEST_CASE("emulator: a launch runs at the next synchronization, with the arguments of the call") {
  std::vector<float> ones(192, 1.0f);
  const emulator::Guarded<float> x(ones);
  emulator::Guarded<float> sums(2);
  emulator::Guarded<int> count(std::vector<int>{0});
  launch(count_and_reduce, {.grid = {2}, .block = {96}}, x.data(), sums.data(), count.data());
  CHECK(count.data()[0] == 0);
  cuda::synchronize();
  CHECK(count.data()[0] == 192);
  CHECK(sums.values() == std::vector<float>{96, 96});
}

TEST_CASE("emulator: the launch after a failed one is clean") {
  CHECK(report_of(half_of_the_threads_wait, {.block = {64}}, 10) != "");
  CHECK(report_of(half_of_the_threads_wait, {.block = {64}}, 64) == "");
}

}  // namespace
}  // namespace tl::device
