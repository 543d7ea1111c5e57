#include "runner/peak.hpp"

#include <sys/mman.h>

#include <algorithm>
#include <barrier>
#include <chrono>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <new>
#include <thread>
#include <vector>

#include "tl/core/cpu_features.hpp"

#if TL_X86
#include <immintrin.h>
#endif

namespace bench {
namespace {

constexpr int kRuns = 25;                         // many: others on the machine disturb short loops
constexpr int64_t kSteps = 2'000'000;             // of a loop over registers
constexpr int64_t kElements = int64_t{24} << 20;  // of an array for each thread: 96 MiB, above any cache
constexpr int kRegisters = 12;                    // independent sums: more than a multiply-add's latency times its rate

/// What a loop did: operations, or bytes.
using Loop = double (*)(float* memory);

/// Keeps the compiler from leaving out a loop whose result nobody reads.
template <class V>
inline void keep(V& value) {
#if TL_X86
  asm volatile("" : "+v"(value));
#else
  asm volatile("" : "+w"(value));
#endif
}

/// The same for what was written to memory.
inline void keep_memory(float* memory) { asm volatile("" : : "r"(memory) : "memory"); }

#if TL_X86
__attribute__((target("avx512f"))) double multiply_add_avx512(float*) {
  __m512 sum[kRegisters], x = _mm512_set1_ps(0.5f), y = _mm512_set1_ps(1.0f);
  for (auto& s : sum) {
    s = y;
    keep(s);  // or the compiler sees that all sums are equal, and computes one
  }
  keep(x);
  for (int64_t i = 0; i < kSteps; ++i)
    for (auto& s : sum) s = _mm512_fmadd_ps(s, x, y);
  for (auto& s : sum) keep(s);
  return 2.0 * 16 * kRegisters * kSteps;
}

__attribute__((target("avx512bf16,avx512f"))) double multiply_add_bf16(float*) {
  __m512 sum[kRegisters];
  for (auto& s : sum) {
    s = _mm512_setzero_ps();
    keep(s);
  }
  __m512i x = _mm512_set1_epi32(0x3f803f80);
  keep(x);
  for (int64_t i = 0; i < kSteps; ++i)
    for (auto& s : sum) s = _mm512_dpbf16_ps(s, reinterpret_cast<__m512bh>(x), reinterpret_cast<__m512bh>(x));
  for (auto& s : sum) keep(s);
  return 2.0 * 32 * kRegisters * kSteps;
}

/// Tiles 0 to 3 are sums, 4 and 5 rows, 6 and 7 columns, each full of zeros.
__attribute__((target("amx-tile,amx-bf16"))) double multiply_add_amx(float*) {
  struct alignas(64) Config {
    uint8_t palette = 1, start_row = 0, reserved[14] = {};
    uint16_t row_bytes[16] = {64, 64, 64, 64, 64, 64, 64, 64};
    uint8_t rows[16] = {16, 16, 16, 16, 16, 16, 16, 16};
  };
  const Config config;
  _tile_loadconfig(&config);
  _tile_zero(0);
  _tile_zero(1);
  _tile_zero(2);
  _tile_zero(3);
  _tile_zero(4);
  _tile_zero(5);
  _tile_zero(6);
  _tile_zero(7);
  constexpr int64_t kTileSteps = kSteps / 4;
  for (int64_t i = 0; i < kTileSteps; ++i) {
    _tile_dpbf16ps(0, 4, 6);
    _tile_dpbf16ps(1, 4, 7);
    _tile_dpbf16ps(2, 5, 6);
    _tile_dpbf16ps(3, 5, 7);
  }
  _tile_release();
  return 2.0 * 16 * 16 * 32 * 4 * kTileSteps;
}

__attribute__((target("avx2,fma"))) double multiply_add_avx2(float*) {
  __m256 sum[kRegisters], x = _mm256_set1_ps(0.5f), y = _mm256_set1_ps(1.0f);
  for (auto& s : sum) {
    s = y;
    keep(s);
  }
  keep(x);
  for (int64_t i = 0; i < kSteps; ++i)
    for (auto& s : sum) s = _mm256_fmadd_ps(s, x, y);
  for (auto& s : sum) keep(s);
  return 2.0 * 8 * kRegisters * kSteps;
}
#endif

double multiply_add_baseline(float*) {
  typedef float Vector __attribute__((vector_size(16)));
  Vector sum[kRegisters], x = {0.5f, 0.5f, 0.5f, 0.5f}, y = {1, 1, 1, 1};
  for (auto& s : sum) {
    s = y;
    keep(s);
  }
  keep(x);
  for (int64_t i = 0; i < kSteps; ++i)
    for (auto& s : sum) s = s * x + y;
  for (auto& s : sum) keep(s);
  return 2.0 * 4 * kRegisters * kSteps;
}

Loop multiply_add() {
#if TL_X86
  if (tl::best_isa() == tl::Isa::avx512) return multiply_add_avx512;
  if (tl::best_isa() == tl::Isa::avx2) return multiply_add_avx2;
#endif
  return multiply_add_baseline;
}

typedef float Line __attribute__((vector_size(64)));

double read_memory(float* memory) {
  const Line* from = reinterpret_cast<const Line*>(memory);
  Line sum[4] = {};
  for (int64_t i = 0; i < kElements / 16; i += 4)
    for (int j = 0; j < 4; ++j) sum[j] += from[i + j];
  float total = 0;
  for (const Line& s : sum) total += s[0];
  keep(total);
  return 4.0 * kElements;
}

double triad(float* memory) {
  constexpr int64_t kPart = kElements / 3 / 16;  // in lines
  Line *a = reinterpret_cast<Line*>(memory), *b = a + kPart, *c = b + kPart;
  for (int64_t i = 0; i < kPart; ++i) a[i] = b[i] + 3.0f * c[i];
  keep_memory(memory);
  return 12.0 * 16 * kPart;
}

struct Release {
  void operator()(float* memory) const { std::free(memory); }
};

/// kElements zeros on large pages, so that memory is measured and not the look-up of addresses.
std::unique_ptr<float[], Release> large_array() {
  constexpr size_t kPage = size_t{2} << 20;
  void* memory = std::aligned_alloc(kPage, kElements * sizeof(float));
  if (memory == nullptr) throw std::bad_alloc();
  madvise(memory, kElements * sizeof(float), MADV_HUGEPAGE);
  std::memset(memory, 0, kElements * sizeof(float));
  return std::unique_ptr<float[], Release>(static_cast<float*>(memory));
}

/// The most per second, in 1e9, that all threads did together in one run: from the first start to the last end.
double fastest(int threads, Loop loop, const std::vector<float*>& memory) {
  using Clock = std::chrono::steady_clock;
  double best = 0;
  for (int run = 0; run <= kRuns; ++run) {
    struct Part {
      double done = 0;
      Clock::time_point start, end;
    };
    std::vector<Part> parts(static_cast<size_t>(threads));
    std::barrier together(threads);
    std::vector<std::thread> team;
    for (size_t t = 0; t < parts.size(); ++t)
      team.emplace_back([&, t] {
        together.arrive_and_wait();
        parts[t].start = Clock::now();
        parts[t].done = loop(memory[t]);
        parts[t].end = Clock::now();
      });
    for (auto& thread : team) thread.join();
    Part whole = parts[0];
    for (size_t t = 1; t < parts.size(); ++t)
      whole = {whole.done + parts[t].done, std::min(whole.start, parts[t].start), std::max(whole.end, parts[t].end)};
    const double seconds = std::chrono::duration<double>(whole.end - whole.start).count();
    if (run > 0) best = std::max(best, whole.done / seconds * 1e-9);  // the first run touches the memory
  }
  return best;
}

}  // namespace

Peak measure_peak(int threads) {
  const auto count = static_cast<size_t>(threads);
  const std::vector<float*> nothing(count);
  Peak peak{.threads = threads, .gflops = fastest(threads, multiply_add(), nothing)};
#if TL_X86
  if (tl::best_bf16_path() == tl::Bf16Path::amx) peak.bf16_gflops = fastest(threads, multiply_add_amx, nothing);
  else if (tl::best_bf16_path() == tl::Bf16Path::avx512_bf16)
    peak.bf16_gflops = fastest(threads, multiply_add_bf16, nothing);
#endif
  std::vector<std::unique_ptr<float[], Release>> owned;
  std::vector<float*> memory;
  for (size_t t = 0; t < count; ++t) {
    owned.push_back(large_array());
    memory.push_back(owned.back().get());
  }
  peak.read_gbs = fastest(threads, read_memory, memory);
  peak.triad_gbs = fastest(threads, triad, memory);
  return peak;
}

}  // namespace bench
