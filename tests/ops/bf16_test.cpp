// Operations on bfloat16: the rows of the table, beside float on the same numbers. CTest runs it once more for each way
// to multiply bfloat16 numbers, with TL_BF16 set.
#include <algorithm>
#include <set>

#include "ops/cases.hpp"
#include "ops/outcome.hpp"
#include "support.hpp"
#include "tl/core/parallel.hpp"
#include "tl/core/precision.hpp"

/// Leaves the test case where there are no kernels for bfloat16.
#define TL_NEEDS_AVX512()                                                              \
  do {                                                                                 \
    if (tl::active_isa() != tl::Isa::avx512) TL_SKIP("this processor has no AVX-512"); \
  } while (false)

namespace {

using namespace tl_test;

/// Operations that compute in float alone, by the first word of their rows.
const std::set<std::string> kFloatAlone = {
    "argmax", "bce_loss", "bce_with_logits", "embedding", "gather", "soft_cross_entropy", "top_k"};

std::string first_word(const Row& row) { return row.name.substr(0, row.name.find(' ')); }

/// Calls body(row) for all rows that bfloat16 can do, and says which refused.
template <class Body>
std::set<std::string> for_each_half_row(const Body& body) {
  std::set<std::string> refused;
  for (const Row& row : rows()) {
    CAPTURE(row.name);
    try {
      body(row);
    } catch (const tl::DTypeError&) {
      refused.insert(first_word(row));
    }
  }
  return refused;
}

TEST_CASE("values and gradients are those of float on the same numbers, but for a rounding or two") {
  TL_NEEDS_AVX512();
  constexpr double kTolerance = 2.5 / 256;  // 8 bits; some operations round in between
  constexpr double kFloor = 2.0 / 256;      // of slopes like y (1 - y), which cancel
  const int64_t before = tl::winograd_tile();
  tl::set_winograd_tile(0);  // tiles have a bound of their own, below
  const std::set<std::string> refused = for_each_half_row([](const Row& row) {
    const Outcome half = outcome_of(row, DType::bf16);
    const Outcome full = outcome_of(row, DType::f32, kAll, tl::kCpu, /*as_halves=*/true);
    CHECK(difference(half.value, full.value, kTolerance, kFloor) == "");
    for (size_t i = 0; i < full.gradients.size() && !row.options.crosses_kinks; ++i) {
      CAPTURE(i);
      CHECK(difference(half.gradients[i], full.gradients[i], 2 * kTolerance, kFloor) == "");
      if (full.gradients[i].defined())
        CHECK(half.gradients[i].dtype() == (row.inputs[i].parameter ? DType::f32 : DType::bf16));
    }
  });
  tl::set_winograd_tile(before);
  for (const std::string& name : refused) CHECK_MESSAGE(kFloatAlone.count(name) == 1, name);
}

TEST_CASE("the number of threads changes no bit of bfloat16 results") {
  TL_NEEDS_AVX512();
  const int before = tl::threads();
  for_each_half_row([](const Row& row) {
    tl::set_threads(1);
    const Outcome one = outcome_of(row, DType::bf16);
    for (const int count : {2, 3}) {
      CAPTURE(count);
      tl::set_threads(count);
      CHECK(same_bits(outcome_of(row, DType::bf16), one));
    }
  });
  tl::set_threads(before);
}

/// The root of the mean square of a - b, or of a.
double deviation(const Tensor& a, const Tensor& b = {}) {
  const Tensor x = a.to(DType::f64), y = b.defined() ? b.to(DType::f64) : Tensor::zeros(a.shape(), DType::f64);
  double total = 0;
  for (int64_t i = 0; i < x.numel(); ++i) total += std::pow(x.data<double>()[i] - y.data<double>()[i], 2);
  return std::sqrt(total / static_cast<double>(x.numel()));
}

TEST_CASE(
    "by Winograd's small tiles errors are at most twice those of direct sums, and gradients of weights stay exact") {
  TL_NEEDS_AVX512();
  const int64_t before = tl::winograd_tile();
  for (const int64_t channels : {16, 64, 200}) {
    CAPTURE(channels);
    const auto normal = [&](const tl::Shape& shape, uint64_t seed) {
      Tensor out = Tensor::empty(shape);
      tl::Generator generator(seed);
      for (int64_t i = 0; i < out.numel(); ++i) out.mutable_data<float>()[i] = static_cast<float>(generator.normal());
      return out;
    };
    const Tensor x = tl::cast(normal({2, 13, 14, channels}, 1), DType::bf16), w = normal({channels, 3, 3, channels}, 2);
    const Tensor grad_y = tl::cast(normal({2, 13, 14, channels}, 3), DType::bf16);
    const auto outcome = [&](DType dtype, int64_t tile) {
      tl::set_winograd_tile(tile);  // where it pays
      const Tensor in = x.to(dtype).clone().set_requires_grad(), weight = w.clone().set_requires_grad();
      const Tensor y = tl::conv2d(in, weight, {}, {.padding = 1});
      y.backward(grad_y.to(dtype));
      return std::vector<Tensor>{y.detach(), in.grad(), weight.grad()};
    };
    const auto want = outcome(DType::f32, 0), direct = outcome(DType::bf16, 0), tiles = outcome(DType::bf16, 4);
    for (size_t i = 0; i < want.size(); ++i) {
      CAPTURE(i);
      CHECK(deviation(tiles[i], want[i]) <= 2 * deviation(direct[i], want[i]));
      CHECK(deviation(direct[i], want[i]) < (i == 2 ? 1e-6 : 1.5 / 512) * deviation(want[i]));
    }
  }
  tl::set_winograd_tile(before);
}

TEST_CASE("casts round to nearest even, and their gradients come back in the type of x") {
  TL_NEEDS_AVX512();
  Tensor x = Tensor::from({1.0f, 1.00390625f, 1.01171875f, -3e38f, 1e-3f}, {5}).set_requires_grad();
  const Tensor y = tl::cast(x, DType::bf16);
  CHECK(y.dtype() == DType::bf16);
  for (int64_t i = 0; i < 5; ++i) CHECK(y.data<tl::BFloat16>()[i].bits == tl::to_bfloat16(x.data<float>()[i]).bits);
  y.backward(Tensor::ones({5}, DType::bf16));
  CHECK(x.grad().dtype() == DType::f32);
  CHECK(x.grad().data<float>()[2] == 1.0f);
  CHECK_THROWS_AS(tl::cast(Tensor::zeros({2}, DType::i32), DType::f32), tl::DTypeError);
}

TEST_CASE("the precision of a thread is that of its innermost scope, else the process'") {
  TL_NEEDS_AVX512();
  const Tensor x = Tensor::ones({3});
  CHECK(tl::in_precision(x).dtype() == DType::f32);
  {
    const tl::PrecisionScope half(tl::Precision::bf16);
    CHECK(tl::in_precision(x).dtype() == DType::bf16);
    CHECK(tl::in_precision(Tensor::zeros({2}, DType::i32)).dtype() == DType::i32);
    const tl::PrecisionScope full(tl::Precision::f32);
    CHECK(tl::in_precision(x).dtype() == DType::f32);
  }
  CHECK(tl::precision() == tl::Precision::f32);
  CHECK_THROWS_AS(tl::parse_precision("f16"), tl::UsageError);
}

}  // namespace
