// Matrix products against a reference in double precision.
#include "cpu/kernel_check.hpp"

namespace {

using tl::Activation;
using tl::GemmArgs;
using namespace tl_test;

double activated(Activation activation, double x) {
  switch (activation) {
    case Activation::none:
      return x;
    case Activation::relu:
      return std::max(x, 0.0);
    case Activation::relu6:
      return std::min(std::max(x, 0.0), 6.0);
    case Activation::silu:
      return x / (1 + std::exp(-x));
    case Activation::gelu:
      return x * 0.5 * std::erfc(-x / std::sqrt(2.0));
    case Activation::hardswish:
      return x * std::min(std::max(x + 3, 0.0), 6.0) / 6;
  }
  return x;
}

struct Case {
  int64_t m, n, k;
  bool transpose_a = false, transpose_b = false;
  double alpha = 1, beta = 0;
  bool bias = false;
  Activation activation = Activation::none;
  int64_t batch = 1;
  bool repeat_b = false;                    // one B for the whole batch
  int64_t gap_a = 0, gap_b = 0, gap_c = 0;  // by how much rows lie further apart than they are long
};

template <class T>
void check(const Case& c) {
  CAPTURE(c.m);
  CAPTURE(c.n);
  CAPTURE(c.k);
  CAPTURE(c.transpose_a);
  CAPTURE(c.transpose_b);
  CAPTURE(c.batch);
  CAPTURE(static_cast<int>(c.activation));
  std::mt19937 random(static_cast<unsigned>(c.m * 10007 + c.n * 101 + c.k));
  const int64_t lda = (c.transpose_a ? c.m : c.k) + c.gap_a, ldb = (c.transpose_b ? c.k : c.n) + c.gap_b,
                ldc = c.n + c.gap_c;
  const int64_t size_a = (c.transpose_a ? c.k : c.m) * lda, size_b = (c.transpose_b ? c.n : c.k) * ldb,
                size_c = c.m * ldc;
  const auto a = random_numbers<T>(c.batch * size_a, random);
  const auto b = random_numbers<T>((c.repeat_b ? 1 : c.batch) * size_b, random);
  const auto bias = random_numbers<T>(c.n, random), old = random_numbers<T>(c.batch * size_c, random);
  const int64_t stride_b = c.repeat_b ? 0 : size_b;

  Guarded<T> before(c.batch * size_c);
  // With beta = 0 the old C must not be read: it stays NaN, except in the gaps, which must stay as they are.
  for (int64_t i = 0; i < before.size(); ++i)
    if (c.beta != 0 || i % ldc >= c.n) before.data()[i] = old[static_cast<size_t>(i)];

  std::vector<Reference> want(static_cast<size_t>(before.size()));
  for (int64_t i = 0; i < before.size(); ++i) {
    Reference& out = want[static_cast<size_t>(i)];
    const int64_t index = i / std::max<int64_t>(size_c, 1), row = i % std::max<int64_t>(size_c, 1) / ldc, col = i % ldc;
    if (col >= c.n) {
      out.add(static_cast<double>(before[i]));
      continue;
    }
    for (int64_t p = 0; p < c.k; ++p) {
      const int64_t at_a = index * size_a + (c.transpose_a ? p * lda + row : row * lda + p);
      const int64_t at_b = index * stride_b + (c.transpose_b ? col * ldb + p : p * ldb + col);
      out.add(static_cast<double>(static_cast<T>(c.alpha)) * static_cast<double>(a[static_cast<size_t>(at_a)]) *
              static_cast<double>(b[static_cast<size_t>(at_b)]));
    }
    if (c.beta != 0) out.add(static_cast<double>(static_cast<T>(c.beta)) * static_cast<double>(before[i]));
    if (c.bias) out.add(static_cast<double>(bias[static_cast<size_t>(col)]));
    out.value = activated(c.activation, out.value);
  }

  for_each_isa<T>([&](const tl::KernelTable<T>& kernels) {
    GemmArgs<T> args{.a = a.data(),
                     .b = b.data(),
                     .c = nullptr,
                     .m = c.m,
                     .n = c.n,
                     .k = c.k,
                     .lda = lda,
                     .ldb = ldb,
                     .ldc = ldc,
                     .transpose_a = c.transpose_a,
                     .transpose_b = c.transpose_b,
                     .alpha = static_cast<T>(c.alpha),
                     .beta = static_cast<T>(c.beta),
                     .bias = c.bias ? bias.data() : nullptr,
                     .activation = c.activation,
                     .batch = c.batch,
                     .stride_a = size_a,
                     .stride_b = stride_b,
                     .stride_c = size_c};
    const auto run = [&](T* out) {
      args.c = out;
      kernels.gemm(args);
    };
    check_result<T>(want, c.k, before, run);
    if (c.batch != 1 && !c.repeat_b) return;
    Guarded<T> packed(tl::gemm_packed_size(c.n, c.k));
    kernels.gemm_pack({b.data(), c.n, c.k, ldb, c.transpose_b, packed.data()});
    CHECK(packed.intact());
    args.b = nullptr;
    args.packed_b = packed.data();
    check_result<T>(want, c.k, before, run);
  });
}

template <class T>
void check_transposes(Case c) {
  for (const bool transpose_a : {false, true})
    for (const bool transpose_b : {false, true}) {
      c.transpose_a = transpose_a;
      c.transpose_b = transpose_b;
      check<T>(c);
    }
}

}  // namespace

TEST_CASE_TEMPLATE("gemm agrees with the reference for every size around the tile's edges", T, float, double) {
  for (const int64_t m : {1, 2, 3, 5, 7, 13, 14, 15, 29})
    for (const int64_t n : {1, 3, 8, 15, 16, 17, 31, 32, 33, 50}) check_transposes<T>({.m = m, .n = n, .k = 9});
  for (const int64_t k : {1, 2, 15, 16, 17, 40}) check_transposes<T>({.m = 15, .n = 35, .k = k});
}

TEST_CASE_TEMPLATE("gemm agrees with the reference over several blocks", T, float, double) {
  check_transposes<T>({.m = 65, .n = 70, .k = 385, .alpha = 0.5, .beta = -2});
  check_transposes<T>({.m = 40, .n = 1000, .k = 800, .bias = true, .activation = Activation::relu});
  check_transposes<T>({.m = 300, .n = 20, .k = 1153});
  check_transposes<T>({.m = 1, .n = 900, .k = 1000, .bias = true});
  check_transposes<T>({.m = 2000, .n = 1, .k = 70});
  check_transposes<T>({.m = 20, .n = 33, .k = 1024});  // rows that share cache sets
}

TEST_CASE_TEMPLATE("gemm: columns past the last vector, few enough to be dot products", T, float, double) {
  for (const int64_t n : {1, 2, 4, 5, 17, 18, 20, 21, 33, 36, 49})
    for (const int64_t m : {3, 14, 31}) check_transposes<T>({.m = m, .n = n, .k = 64 + m, .beta = 1, .gap_c = 2});
  check_transposes<T>({.m = 44, .n = 49, .k = 1153, .bias = true, .activation = Activation::relu6});
  check_transposes<T>({.m = 33, .n = 1060, .k = 400, .alpha = 2, .bias = true, .activation = Activation::gelu});
}

TEST_CASE_TEMPLATE("gemm of empty matrices", T, float, double) {
  check_transposes<T>({.m = 0, .n = 5, .k = 4});
  check_transposes<T>({.m = 5, .n = 0, .k = 4});
  check_transposes<T>({.m = 5, .n = 4, .k = 0});
  check_transposes<T>({.m = 5, .n = 4, .k = 0, .beta = 2, .bias = true});
  check_transposes<T>({.m = 5, .n = 4, .k = 3, .batch = 0});
}

TEST_CASE_TEMPLATE("gemm: scaling, bias, activation", T, float, double) {
  for (const Activation activation : {Activation::none, Activation::relu, Activation::relu6, Activation::silu,
                                      Activation::gelu, Activation::hardswish})
    check_transposes<T>(
        {.m = 17, .n = 37, .k = 20, .alpha = 3, .beta = 0.5, .bias = true, .activation = activation, .gap_c = 3});
}

TEST_CASE_TEMPLATE("gemm: rows further apart than they are long", T, float, double) {
  check_transposes<T>({.m = 30, .n = 47, .k = 33, .beta = 1, .gap_a = 5, .gap_b = 1, .gap_c = 2});
}

TEST_CASE_TEMPLATE("gemm: batches", T, float, double) {
  check_transposes<T>({.m = 10, .n = 20, .k = 30, .beta = 1, .batch = 3});
  check_transposes<T>({.m = 10, .n = 20, .k = 30, .batch = 17, .repeat_b = true});
}

TEST_CASE_TEMPLATE("gemm: random cases", T, float, double) {
  std::mt19937 random(4);
  const auto up_to = [&](int64_t most) { return std::uniform_int_distribution<int64_t>(0, most)(random); };
  for (int i = 0; i < 150; ++i)
    check<T>({.m = up_to(60),
              .n = up_to(80),
              .k = up_to(500),
              .transpose_a = up_to(1) == 1,
              .transpose_b = up_to(1) == 1,
              .alpha = up_to(1) ? 1.0 : -0.3,
              .beta = up_to(2) ? 0.0 : 0.7,
              .bias = up_to(1) == 1,
              .activation = static_cast<Activation>(up_to(2)),
              .batch = 1 + up_to(2),
              .repeat_b = up_to(3) == 0,
              .gap_a = up_to(3),
              .gap_b = up_to(3),
              .gap_c = up_to(3)});
}

TEST_CASE("gemm: a NaN stays in its row and column") {
  std::mt19937 random(1);
  auto a = random_numbers<float>(20 * 30, random);
  const auto b = random_numbers<float>(30 * 40, random);
  a[3 * 30 + 7] = std::numeric_limits<float>::quiet_NaN();
  for_each_isa<float>([&](const tl::KernelTable<float>& kernels) {
    Guarded<float> c(20 * 40);
    kernels.gemm(
        {.a = a.data(), .b = b.data(), .c = c.data(), .m = 20, .n = 40, .k = 30, .lda = 30, .ldb = 40, .ldc = 40});
    for (int64_t i = 0; i < c.size(); ++i) CHECK(std::isnan(c[i]) == (i / 40 == 3));
  });
}
