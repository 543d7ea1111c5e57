// What every row of the table must pass. CTest runs it once more for each instruction set, with TL_ISA set.
#include <chrono>
#include <cmath>
#include <cstdio>
#include <cstring>

#include "ops/cases.hpp"
#include "ops/isa.hpp"
#include "ops/outcome.hpp"
#include "ops/refusals.hpp"
#include "support.hpp"
#include "tl/autograd/engine.hpp"
#include "tl/autograd/gradcheck.hpp"
#include "tl/core/parallel.hpp"

namespace {

using tl::Device;
using tl::DType;
using tl::Tensor;
using namespace tl_test;

TEST_CASE("the names of the rows are unique") {
  std::vector<std::string> names;
  for (const Row& row : tl_test::rows()) names.push_back(row.name);
  std::sort(names.begin(), names.end());
  CHECK(std::adjacent_find(names.begin(), names.end()) == names.end());
  MESSAGE(names.size(), " rows, ", tl_test::refusals().size(), " refusals");
}

TEST_CASE("in double precision every operation gives what plain loops give") {
  TL_NEEDS_ISA();
  for (const Row& row : tl_test::rows()) {
    if (!row.reference) continue;
    CAPTURE(row.name);
    const Tensor y = row.run(tensors_of(row, DType::f64, kNone));
    CHECK(difference(y, row.reference(arrays_of(row)), 1e-12, 1e-14) == "");
  }
}

TEST_CASE("in double precision every gradient is that of finite differences") {
  TL_NEEDS_ISA();
  for (const Row& row : tl_test::rows()) {
    const Tensors inputs = tensors_of(row, DType::f64, kAll);
    if (!row.options.gradcheck || !row.run(inputs).requires_grad()) continue;
    CAPTURE(row.name);
    const tl::GradcheckResult result =
        tl::gradcheck(row.run, inputs, {.relative_tolerance = 2e-6, .absolute_tolerance = 2e-8});
    INFO(result.message);
    CHECK(result.passed);
  }
}

TEST_CASE("in single precision values and gradients are those of double precision") {
  TL_NEEDS_ISA();
  MESSAGE("instruction set: ", std::string(tl::name_of(tl::active_isa())));
  for (const Row& row : tl_test::rows()) {
    CAPTURE(row.name);
    const Outcome wide = outcome_of(row, DType::f64), narrow = outcome_of(row, DType::f32);
    CHECK(difference(narrow.value, wide.value, row.options.tolerance) == "");
    for (size_t i = 0; i < wide.gradients.size(); ++i) {
      CAPTURE(i);
      CHECK(difference(narrow.gradients[i], wide.gradients[i], row.options.grad_tolerance) == "");
    }
  }
}

TEST_CASE("a gradient does not depend on which other gradients are wanted") {
  TL_NEEDS_ISA();
  for (const Row& row : tl_test::rows()) {
    CAPTURE(row.name);
    const Outcome all = outcome_of(row, DType::f32);
    for (size_t i = 0; i < row.inputs.size(); ++i) {
      if (!row.inputs[i].defined || !row.inputs[i].differentiable) continue;
      CAPTURE(i);
      const Outcome one = outcome_of(row, DType::f32, i);
      CHECK(same_bits(one.value, all.value));
      for (size_t j = 0; j < row.inputs.size(); ++j)
        CHECK(difference(one.gradients[j], i == j ? all.gradients[j] : Tensor(), row.options.grad_tolerance) == "");
    }
    const tl::NoGrad no_grad;
    const Outcome without = outcome_of(row, DType::f32);
    CHECK(difference(without.value, all.value, row.options.tolerance) == "");
    for (const Tensor& gradient : without.gradients) CHECK_FALSE(gradient.defined());
  }
}

TEST_CASE("the number of threads changes no bit") {
  TL_NEEDS_ISA();
  const int before = tl::threads();
  for (const Row& row : tl_test::rows()) {
    CAPTURE(row.name);
    tl::set_threads(1);
    const Outcome one = outcome_of(row, DType::f32);
    for (const int count : {2, 3}) {
      CAPTURE(count);
      tl::set_threads(count);
      CHECK(same_bits(outcome_of(row, DType::f32), one));
    }
  }
  tl::set_threads(before);
}

// ---- fresh memory ----

constexpr unsigned char kPoison = 0xff;  // a NaN in every floating type, -1 as an index

/// Fills the allocator's cache with blocks of all sizes up to 64 KiB that hold poison.
void poison_cache() {
  std::vector<Tensor> blocks;
  const auto add = [&](int64_t bytes, int copies) {
    for (int i = 0; i < copies; ++i) {
      blocks.push_back(Tensor::empty({bytes}, DType::u8));
      std::memset(blocks.back().raw_mutable_data(), kPoison, static_cast<size_t>(bytes));
    }
  };
  tl::release_cached_memory();
  for (int64_t bytes = 64; bytes < 4096; bytes += 64) add(bytes, bytes < 512 ? 64 : 8);  // more than a row takes
  for (int64_t bytes = 4096; bytes <= 65536; bytes += 4096) add(bytes, 16);
}

/// Whether the poison between the end of a tensor and the end of its last 64 bytes is untouched.
bool tail_intact(const Tensor& tensor) {
  if (!tensor.defined() || tensor.bytes() > 65536 || !(tensor.bytes() == tensor.storage()->bytes())) return true;
  const auto* bytes = static_cast<const unsigned char*>(tensor.raw_data());
  const size_t end = (std::max<size_t>(tensor.bytes(), 1) + 63) / 64 * 64;
  return std::all_of(bytes + tensor.bytes(), bytes + end, [](unsigned char byte) { return byte == kPoison; });
}

TEST_CASE("every element of a result is assigned, and nothing behind it") {
  TL_NEEDS_ISA();
  for (const DType dtype : {DType::f32, DType::f64})
    for (const Row& row : tl_test::rows()) {
      CAPTURE(row.name);
      CAPTURE(tl::name_of(dtype));
      const Outcome clean = outcome_of(row, dtype);
      poison_cache();
      const bool poisoned = tl::memory_stats().cached_bytes > 0;  // not under a sanitizer, which wants fresh memory
      const Outcome dirty = outcome_of(row, dtype);
      CHECK(same_bits(dirty, clean));
      if (!poisoned) continue;
      CHECK(tail_intact(dirty.value));
      for (const Tensor& gradient : dirty.gradients) CHECK(tail_intact(gradient));
    }
}

TEST_CASE("every refusal has its kind of error and its words") {
  TL_NEEDS_ISA();
  for (const auto& refusal : tl_test::refusals()) {
    CAPTURE(refusal.name);
    try {
      refusal.call();
      FAIL_CHECK("not refused");
    } catch (const tl::Error& error) {
      CHECK(std::string(error.what()) == refusal.message);
      CHECK(static_cast<int>(error.code()) == static_cast<int>(refusal.code));
    }
  }
}

TEST_CASE("on a CUDA device values and gradients are those of double precision on the CPU") {
  TL_NEEDS_ISA();
  if (!tl::cuda_available()) TL_SKIP("no CUDA device, or built without tl::cuda");
  int without_kernel = 0;
  for (const Row& row : tl_test::rows()) {
    CAPTURE(row.name);
    Outcome narrow;
    try {
      narrow = outcome_of(row, DType::f32, kAll, tl::kCuda);
    } catch (const tl::DeviceError&) {
      ++without_kernel;
      continue;
    }
    const Outcome wide = outcome_of(row, DType::f64);
    CHECK(difference(narrow.value, wide.value, row.options.tolerance) == "");
    for (size_t i = 0; i < wide.gradients.size(); ++i)
      CHECK(difference(narrow.gradients[i], wide.gradients[i], row.options.grad_tolerance) == "");
  }
  MESSAGE(without_kernel, " rows have no CUDA kernel");
}

// Run by hand: test_ops_table --no-skip --test-case="speed*"
TEST_CASE("speed of every row" * doctest::skip()) {
  const auto microseconds = [](const auto& work) {
    using Clock = std::chrono::steady_clock;
    double best = 1e30, total = 0;
    for (int i = 0; i < 1000 && (total < 5000 || i < 3); ++i) {
      const auto start = Clock::now();
      work();
      const double took = std::chrono::duration<double, std::micro>(Clock::now() - start).count();
      best = std::min(best, took), total += took;
    }
    return best;
  };
  std::printf("%-60s %12s %12s\n", "microseconds", "forward", "with grad");
  for (const Row& row : tl_test::rows()) {
    const Tensors plain = tensors_of(row, DType::f32, kNone), learning = tensors_of(row, DType::f32, kAll);
    const double forward = microseconds([&] { row.run(plain); });
    const double both = microseconds([&] {
      const Tensor y = row.run(learning);
      if (y.requires_grad()) y.backward(y.detach());
    });
    std::printf("%-60s %12.2f %12.2f\n", row.name.c_str(), forward, both);
  }
}

}  // namespace
