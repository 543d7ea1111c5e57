// Vectors and the functions on them, for every instruction set, against the standard library in double precision.
#include <bit>
#include <cstdio>

#include "cpu/outputs_check.hpp"
#include "tl/cpu/isa/includes.hpp"

// Opens the same target regions as include/tl/cpu/isa/*.inl, to reach what no kernel shows by itself.
using namespace tl;
#define TL_PROBE                                                                                                       \
  template <class F>                                                                                                   \
  void map(const float* x, float* y, int64_t n, F f) {                                                                 \
    for_each_vector<float>(                                                                                            \
        0, n, [&](int64_t i, auto count) TL_INLINE_LAMBDA { f(Vec<float>::load(x + i, count)).store(y + i, count); }); \
  }                                                                                                                    \
  inline void probe(const char* name, const float* x, float* y, int64_t n) {                                           \
    const std::string_view f = name;                                                                                   \
    if (f == "exp") map(x, y, n, [](Vec<float> v) TL_INLINE_LAMBDA { return exp(v); });                                \
    if (f == "log") map(x, y, n, [](Vec<float> v) TL_INLINE_LAMBDA { return log(v); });                                \
    if (f == "tanh") map(x, y, n, [](Vec<float> v) TL_INLINE_LAMBDA { return tanh(v); });                              \
    if (f == "erf") map(x, y, n, [](Vec<float> v) TL_INLINE_LAMBDA { return erf(v); });                                \
    if (f == "sqrt") map(x, y, n, [](Vec<float> v) TL_INLINE_LAMBDA { return sqrt(v); });                              \
    if (f == "copy") map(x, y, n, [](Vec<float> v) TL_INLINE_LAMBDA { return v; });                                    \
  }                                                                                                                    \
  inline void lanes(const float* x, float* sums, float* maxima) {                                                      \
    *sums = sum(Vec<float>::load(x));                                                                                  \
    *maxima = max_lane(Vec<float>::load(x));                                                                           \
  }                                                                                                                    \
  inline void between(const float* a, const float* b, float* larger, float* smaller) {                                 \
    max(Vec<float>::load(a), Vec<float>::load(b)).store(larger);                                                       \
    min(Vec<float>::load(a), Vec<float>::load(b)).store(smaller);                                                      \
  }

namespace probe_baseline {
#define TL_VECTOR_BYTES 16
#include "tl/cpu/isa/simd.inl"
//
#include "tl/cpu/isa/math.inl"
TL_PROBE
#undef TL_VECTOR_BYTES
}  // namespace probe_baseline

#if TL_X86
#if defined(__clang__)
#pragma clang attribute push(__attribute__((target("avx2,fma"))), apply_to = function)
#else
#pragma GCC push_options
#pragma GCC target("avx2,fma")
#endif
namespace probe_avx2 {
#define TL_VECTOR_BYTES 32
#include "tl/cpu/isa/simd.inl"
//
#include "tl/cpu/isa/math.inl"
TL_PROBE
#undef TL_VECTOR_BYTES
}  // namespace probe_avx2
#if defined(__clang__)
#pragma clang attribute pop
#pragma clang attribute push(__attribute__((target("avx512f,avx512bw,avx512dq,avx512vl,avx2,fma"))), \
                             apply_to = function)
#else
#pragma GCC pop_options
#pragma GCC push_options
#pragma GCC target("avx512f,avx512bw,avx512dq,avx512vl,avx2,fma,prefer-vector-width=512")
#endif
namespace probe_avx512 {
#define TL_VECTOR_BYTES 64
#include "tl/cpu/isa/simd.inl"
//
#include "tl/cpu/isa/math.inl"
TL_PROBE
#undef TL_VECTOR_BYTES
}  // namespace probe_avx512
#if defined(__clang__)
#pragma clang attribute pop
#else
#pragma GCC pop_options
#endif
#endif

namespace {

using namespace tl_test;

struct Probe {
  const char* isa;
  int64_t lanes;
  void (*map)(const char*, const float*, float*, int64_t);
  void (*across)(const float*, float*, float*);
  void (*between)(const float*, const float*, float*, float*);
};

std::vector<Probe> probes() {
  std::vector<Probe> out{{"baseline", 4, probe_baseline::probe, probe_baseline::lanes, probe_baseline::between}};
#if TL_X86
  if (tl::best_isa() >= tl::Isa::avx2)
    out.push_back({"avx2", 8, probe_avx2::probe, probe_avx2::lanes, probe_avx2::between});
  if (tl::best_isa() >= tl::Isa::avx512)
    out.push_back({"avx512", 16, probe_avx512::probe, probe_avx512::lanes, probe_avx512::between});
#endif
  return out;
}

/// Distance in units of the last place of `want`, which counts as a float's, from the rounded result.
double ulps(float got, double want) {
  const auto nearest = static_cast<float>(want);
  if (std::isnan(want)) return std::isnan(got) ? 0 : kInfinity;
  if (std::isinf(nearest) || std::isinf(got)) return got == nearest ? 0 : kInfinity;
  int exponent = 0;
  std::frexp(static_cast<double>(nearest), &exponent);
  return std::abs(static_cast<double>(got) - want) / std::ldexp(1.0, std::max(exponent, -125) - 24);
}

}  // namespace

TEST_CASE("exp, log, tanh, erf and sqrt stay within their bounds over all floats") {
  struct Function {
    const char* name;
    double (*reference)(double);
    double bound;  // ulp
  };
  const Function functions[] = {{"exp", [](double x) { return std::exp(x); }, 1.0},
                                {"log", [](double x) { return std::log(x); }, 1.0},
                                {"tanh", [](double x) { return std::tanh(x); }, 2.0},
                                {"erf", [](double x) { return std::erf(x); }, 2.0},
                                {"sqrt", [](double x) { return std::sqrt(x); }, 0.5}};
  constexpr uint32_t kStride = 1021;  // 4.2 million of the 2^32 floats
  std::vector<float> x;
  for (uint64_t bits = 0; bits < uint64_t{1} << 32; bits += kStride) {
    const auto value = std::bit_cast<float>(static_cast<uint32_t>(bits));
    if (value == 0 || std::isnormal(value)) x.push_back(value);
  }
  std::vector<float> y(x.size());
  for (const Function& f : functions) {
    CAPTURE(f.name);
    std::vector<double> want(x.size());
    for (size_t i = 0; i < x.size(); ++i) want[i] = f.reference(static_cast<double>(x[i]));
    for (const Probe& probe : probes()) {
      CAPTURE(probe.isa);
      double worst = 0;
      float where = 0;
      probe.map(f.name, x.data(), y.data(), static_cast<int64_t>(x.size()));
      for (size_t i = 0; i < x.size(); ++i) {
        // A denormal result may be zero instead.
        if (std::abs(want[i]) < static_cast<double>(std::numeric_limits<float>::min()) && y[i] == 0) continue;
        const double error = ulps(y[i], want[i]);
        if (error > worst) worst = error, where = x[i];
      }
      std::printf("%-5s %-9s at most %.3f ulp off, at %a\n", f.name, probe.isa, worst, static_cast<double>(where));
      CHECK(worst <= f.bound);
    }
  }
}

TEST_CASE("the functions are right where they are special") {
  constexpr float kInf = std::numeric_limits<float>::infinity(), kQuiet = std::numeric_limits<float>::quiet_NaN();
  struct Row {
    const char* name;
    float x, y;
  };
  const Row rows[] = {{"exp", -kInf, 0},       {"exp", kInf, kInf},  {"exp", kQuiet, kQuiet}, {"exp", 0.f, 1},
                      {"exp", -0.f, 1},        {"exp", 88.8f, kInf}, {"exp", -104.f, 0},      {"exp", -3e38f, 0},
                      {"exp", 3e38f, kInf},    {"log", 0.f, -kInf},  {"log", -0.f, -kInf},    {"log", -1.f, kQuiet},
                      {"log", -kInf, kQuiet},  {"log", kInf, kInf},  {"log", kQuiet, kQuiet}, {"log", 1.f, 0},
                      {"tanh", -kInf, -1},     {"tanh", kInf, 1},    {"tanh", 0.f, 0},        {"tanh", kQuiet, kQuiet},
                      {"tanh", 3e38f, 1},      {"erf", -kInf, -1},   {"erf", kInf, 1},        {"erf", 0.f, 0},
                      {"erf", kQuiet, kQuiet}, {"erf", -3e38f, -1},  {"sqrt", -1.f, kQuiet},  {"sqrt", kInf, kInf},
                      {"exp", -kQuiet, kQuiet}};
  for (const Row& row : rows) {
    CAPTURE(row.name);
    CAPTURE(row.x);
    for (const Probe& probe : probes()) {
      CAPTURE(probe.isa);
      const std::vector<float> x(33, row.x);
      std::vector<float> y(33, 7.f);
      probe.map(row.name, x.data(), y.data(), 33);  // whole vectors and a part of one
      for (const float got : y) CHECK((std::isnan(row.y) ? std::isnan(got) : got == row.y));
    }
  }
}

TEST_CASE("partial vectors leave their neighbours alone") {
  std::mt19937 random(1);
  const auto x = random_numbers<float>(64, random);
  for (const Probe& probe : probes()) {
    CAPTURE(probe.isa);
    for (int64_t n = 0; n <= 40; ++n) {
      Guarded<float> y(n);
      probe.map("copy", x.data(), y.data(), n);
      CHECK(y.intact());
      CHECK(std::memcmp(y.data(), x.data(), static_cast<size_t>(n) * sizeof(float)) == 0);
    }
  }
}

TEST_CASE("sums and maxima across lanes, and the operand that max and min prefer beside a NaN") {
  constexpr float kQuiet = std::numeric_limits<float>::quiet_NaN();
  std::vector<float> x(16), b(16, 2.f);
  for (size_t i = 0; i < 16; ++i) x[i] = static_cast<float>((i * 7) % 16);
  std::vector<float> a(16, 1.f);
  a[1] = kQuiet, b[2] = kQuiet;
  for (const Probe& probe : probes()) {
    CAPTURE(probe.isa);
    float total = 0, largest = 0, expected_total = 0, expected_largest = 0;
    probe.across(x.data(), &total, &largest);
    for (size_t i = 0; i < static_cast<size_t>(probe.lanes); ++i) {
      expected_total += x[i];
      expected_largest = std::max(expected_largest, x[i]);
    }
    CHECK(total == expected_total);
    CHECK(largest == expected_largest);
    float larger[16], smaller[16];
    probe.between(a.data(), b.data(), larger, smaller);
    CHECK(larger[0] == 2);
    CHECK(smaller[0] == 1);
    CHECK(larger[1] == 2);
    CHECK(smaller[1] == 2);
    CHECK(std::isnan(larger[2]));
    CHECK(std::isnan(smaller[2]));
  }
}
