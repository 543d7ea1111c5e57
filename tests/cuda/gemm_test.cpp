#include "device_test.hpp"
#include "rungs.hpp"

namespace tl::test {
namespace {

double activated(Activation activation, double x) {
  switch (activation) {
    case Activation::none:
      return x;
    case Activation::relu:
      return std::max(x, 0.0);
    case Activation::relu6:
      return std::clamp(x, 0.0, 6.0);
    case Activation::silu:
      return x / (1 + std::exp(-x));
    case Activation::gelu:
      return 0.5 * x * std::erfc(-x / std::sqrt(2.0));
    case Activation::hardswish:
      return x * std::clamp(x + 3, 0.0, 6.0) / 6;
  }
  return x;
}

struct Case {
  int64_t m, n, k;
  bool transpose_a = false, transpose_b = false;
  float alpha = 1, beta = 0;
  bool bias = false;
  Activation activation = Activation::none;
  int64_t batch = 1;
  int64_t extra_ld = 0;   // beyond the smallest leading dimension
  std::size_t shift = 0;  // elements off the alignment
  bool shared_b = false;  // one B for the whole batch
};

using Gemm = void (*)(const GemmArgs<float>&);

void check_gemm(const Case& c, Gemm gemm) {
  INFO("m ", c.m, " n ", c.n, " k ", c.k, " transposed ", c.transpose_a, c.transpose_b, " batch ", c.batch, " shift ",
       c.shift);
  const int64_t lda = (c.transpose_a ? c.m : c.k) + c.extra_ld, ldb = (c.transpose_b ? c.k : c.n) + c.extra_ld,
                ldc = c.n + c.extra_ld;
  const int64_t stride_a = (c.transpose_a ? c.k : c.m) * lda,
                stride_b = c.shared_b ? 0 : (c.transpose_b ? c.n : c.k) * ldb, stride_c = c.m * ldc;
  const auto size = [](int64_t n) { return static_cast<std::size_t>(n); };
  const auto a = random_floats(size(stride_a * c.batch), 1);
  const auto b = random_floats(size((c.transpose_b ? c.n : c.k) * ldb * (c.shared_b ? 1 : c.batch)), 2);
  const auto bias = random_floats(size(c.n), 3), old = random_floats(size(stride_c * c.batch), 4);
  std::vector<double> expected(old.begin(), old.end());
  for (int64_t i = 0; i < c.batch; ++i) {
    for (int64_t row = 0; row < c.m; ++row) {
      for (int64_t col = 0; col < c.n; ++col) {
        double sum = 0;
        for (int64_t k = 0; k < c.k; ++k) {
          sum += double{a[size(i * stride_a + (c.transpose_a ? k * lda + row : row * lda + k))]} *
                 b[size(i * stride_b + (c.transpose_b ? col * ldb + k : k * ldb + col))];
        }
        double& place = expected[size(i * stride_c + row * ldc + col)];
        const double added = (c.beta != 0 ? c.beta * place : 0) + (c.bias ? bias[size(col)] : 0);
        place = activated(c.activation, c.alpha * sum + added);
      }
    }
  }
  OnDevice<float> on_a(a, c.shift), on_b(b, c.shift), on_bias(bias, c.shift);
  in_every_order([&] {
    OnDevice<float> on_c(old, c.shift);
    gemm({.a = on_a.data(),
          .b = on_b.data(),
          .c = on_c.data(),
          .m = c.m,
          .n = c.n,
          .k = c.k,
          .lda = lda,
          .ldb = ldb,
          .ldc = ldc,
          .transpose_a = c.transpose_a,
          .transpose_b = c.transpose_b,
          .alpha = c.alpha,
          .beta = c.beta,
          .bias = c.bias ? on_bias.data() : nullptr,
          .activation = c.activation,
          .batch = c.batch,
          .stride_a = stride_a,
          .stride_b = stride_b,
          .stride_c = stride_c});
    CHECK_CLOSE(on_c.values(), expected, 2e-5);
  });
}

TEST_CASE("gemm: all transposes, odd sizes, aligned or not") {
  for (const bool transpose_a : {false, true}) {
    for (const bool transpose_b : {false, true}) {
      check_gemm({.m = 64, .n = 64, .k = 32, .transpose_a = transpose_a, .transpose_b = transpose_b}, cuda::gemm);
      check_gemm({.m = 67, .n = 35, .k = 41, .transpose_a = transpose_a, .transpose_b = transpose_b}, cuda::gemm);
      check_gemm(
          {.m = 5, .n = 72, .k = 20, .transpose_a = transpose_a, .transpose_b = transpose_b, .extra_ld = 4, .shift = 1},
          cuda::gemm);
      check_gemm({.m = 66, .n = 3, .k = 3, .transpose_a = transpose_a, .transpose_b = transpose_b, .extra_ld = 3},
                 cuda::gemm);
    }
  }
}

TEST_CASE("gemm: one row, one column, no depth") {
  check_gemm({.m = 1, .n = 100, .k = 50}, cuda::gemm);
  check_gemm({.m = 100, .n = 1, .k = 50}, cuda::gemm);
  check_gemm({.m = 3, .n = 5, .k = 0, .beta = 2, .bias = true}, cuda::gemm);
  check_gemm({.m = 0, .n = 5, .k = 4}, cuda::gemm);
}

TEST_CASE("gemm: alpha, beta, bias and activation") {
  for (const Activation activation : {Activation::none, Activation::relu, Activation::relu6, Activation::silu,
                                      Activation::gelu, Activation::hardswish}) {
    check_gemm({.m = 33, .n = 20, .k = 17, .alpha = 0.5f, .beta = -1, .bias = true, .activation = activation},
               cuda::gemm);
  }
  check_gemm({.m = 33, .n = 21, .k = 17, .alpha = -2, .bias = true}, cuda::gemm);
}

TEST_CASE("gemm: batches, also with one B for all") {
  check_gemm({.m = 17, .n = 18, .k = 19, .batch = 3}, cuda::gemm);
  check_gemm({.m = 17, .n = 18, .k = 19, .transpose_b = true, .batch = 3, .shared_b = true}, cuda::gemm);
}

TEST_CASE("gemm: every rung") {
  for (const Gemm rung :
       {rungs::gemm_v1, rungs::gemm_v2, rungs::gemm_v3_small, rungs::gemm_v3_large, rungs::gemm_v4_large}) {
    for (const bool transpose_a : {false, true}) {
      for (const bool transpose_b : {false, true}) {
        check_gemm({.m = 37, .n = 20, .k = 35, .transpose_a = transpose_a, .transpose_b = transpose_b, .batch = 2},
                   rung);
      }
    }
    check_gemm({.m = 130, .n = 129, .k = 33, .bias = true, .activation = Activation::relu}, rung);
  }
}

}  // namespace
}  // namespace tl::test
