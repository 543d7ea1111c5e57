// Products of bfloat16 matrices: exact in float but for the order of the sum, whatever multiplies the tiles.
#include "cpu/kernel_check.hpp"
#include "tl/core/cpu_features.hpp"

namespace {

using namespace tl;
using namespace tl_test;

std::vector<BFloat16> random_halves(int64_t count, std::mt19937& random) {
  std::vector<BFloat16> out;
  for (const float x : random_numbers<float>(count, random)) out.push_back(to_bfloat16(x));
  return out;
}

struct Size {
  int64_t m, n, k;
};

/// What lies on both sides of tiles of 14 and 32 rows, panels of 16 and 32 columns, units of 32 and blocks of 2048 in k.
const Size kSizes[] = {{1, 1, 1},     {1, 40, 33},  {14, 16, 32},  {15, 17, 64},  {33, 31, 31}, {32, 32, 32},
                       {29, 33, 100}, {70, 49, 95}, {3, 5, 2050},  {17, 64, 4200}, {200, 130, 70}, {5, 3, 0}};

struct Product {
  Size size;
  bool transpose_a, transpose_b;
  std::vector<BFloat16> a, b;
  std::vector<float> wide_b, bias;
  std::vector<Reference> want;

  Product(Size s, bool ta, bool tb, std::mt19937& random)
      : size(s),
        transpose_a(ta),
        transpose_b(tb),
        a(random_halves(s.m * s.k, random)),
        b(random_halves(s.n * s.k, random)),
        bias(random_numbers<float>(s.n, random)),
        want(static_cast<size_t>(s.m * s.n)) {
    for (const BFloat16 x : b) wide_b.push_back(to_float(x));
    for (int64_t i = 0; i < s.m; ++i)
      for (int64_t j = 0; j < s.n; ++j) {
        Reference& out = want[static_cast<size_t>(i * s.n + j)];
        for (int64_t p = 0; p < s.k; ++p)
          out.add(static_cast<double>(to_float(a[static_cast<size_t>(ta ? p * s.m + i : i * s.k + p)])) *
                  static_cast<double>(to_float(b[static_cast<size_t>(tb ? j * s.k + p : p * s.n + j)])));
      }
  }

  GemmArgs<BFloat16> args() const {
    GemmArgs<BFloat16> out{.a = a.data(),
                           .b = b.data(),
                           .c = nullptr,
                           .m = size.m,
                           .n = size.n,
                           .k = size.k,
                           .lda = transpose_a ? size.m : size.k,
                           .ldb = transpose_b ? size.k : size.n,
                           .ldc = size.n};
    out.transpose_a = transpose_a;
    out.transpose_b = transpose_b;
    return out;
  }
};

template <class Check>
void for_each_product(const Check& check) {
  if (best_isa() != Isa::avx512) TL_SKIP("this processor has no AVX-512");
  std::mt19937 random(7);
  MESSAGE("tiles: ", std::string(name_of(active_bf16_path())));
  for (const Size size : kSizes)
    for (const bool transpose_a : {false, true})
      for (const bool transpose_b : {false, true}) {
        CAPTURE(size.m);
        CAPTURE(size.n);
        CAPTURE(size.k);
        CAPTURE(transpose_a);
        CAPTURE(transpose_b);
        const Product product(size, transpose_a, transpose_b, random);
        check(product, cpu::kernels_for<BFloat16>(Isa::avx512));
      }
}

/// The bias, and half of a product of which one element is negative, as the float reference has them.
std::vector<float> with_epilogue(const Product& p) {
  std::vector<float> out;
  for (size_t i = 0; i < p.want.size(); ++i) {
    const double sum = 0.5 * p.want[i].value + static_cast<double>(p.bias[i % static_cast<size_t>(p.size.n)]);
    out.push_back(static_cast<float>(std::max(sum, 0.0)));
  }
  return out;
}

}  // namespace

TEST_CASE("sums stay in float, with any number of threads") {
  for_each_product([](const Product& p, const KernelTable<BFloat16>& table) {
    check_result<float>(p.want, p.size.k, Guarded<float>(p.size.m * p.size.n), [&](float* c) {
      auto args = p.args();
      args.wide_c = c;
      table.gemm(args);
    });
  });
}

TEST_CASE("a result in bfloat16 is rounded once, after bias and activation; packing B first changes no bit") {
  for_each_product([](const Product& p, const KernelTable<BFloat16>& table) {
    const size_t count = p.want.size();
    std::vector<BFloat16> plain(count), packed_result(count);
    auto args = p.args();
    args.alpha = 0.5f;
    args.bias = p.bias.data();
    args.activation = Activation::relu;
    args.c = plain.data();
    table.gemm(args);
    const std::vector<float> want = with_epilogue(p);
    for (size_t i = 0; i < count; ++i) {
      const double error = std::abs(static_cast<double>(to_float(plain[i])) - static_cast<double>(want[i]));
      CHECK(error <= static_cast<double>(want[i]) / 256 + 2e-6 * (1 + p.want[i].magnitude));
    }

    const auto size = static_cast<size_t>(gemm_packed_size(p.size.n, p.size.k)) * sizeof(BFloat16);
    auto* const packed = static_cast<BFloat16*>(std::aligned_alloc(64, (size + 127) / 64 * 64));
    table.gemm_pack({p.wide_b.data(), p.size.n, p.size.k, args.ldb, p.transpose_b, packed});
    args.b = nullptr;
    args.packed_b = packed;
    args.c = packed_result.data();
    table.gemm(args);
    std::free(packed);
    if (count > 0) CHECK(std::memcmp(plain.data(), packed_result.data(), count * sizeof(BFloat16)) == 0);
  });
}
