// Matrix products C [m, n] = A [m, k] B [k, n], beside oneDNN, OpenBLAS and PyTorch.
//
//   bench_gemm --python PYTHON_WITH_TORCH --threads 1 --filter "512x49x4608"
//
// sgemm: B as it lies. sgemm_packed: B brought into the kernel's own order before the timing, as frozen weights are.
#include <cstdlib>
#include <memory>
#include <optional>
#include <unistd.h>

#include "runner/onednn.hpp"
#include "runner/program.hpp"
#include "tl/tl.hpp"
#if defined(TL_BENCH_OPENBLAS)
#include <cblas.h>
#endif

namespace {

struct Product {
  int64_t m, n, k;
};

const std::vector<Product>& products() {
  static const std::vector<Product> list = {{256, 256, 256},    {512, 512, 512},  {1024, 1024, 1024},
                                            {2048, 2048, 2048}, {64, 3136, 576},  {256, 196, 2304},
                                            {512, 49, 4608},    {512, 1536, 384}, {2048, 384, 1536}};
  return list;
}

/// A, B and C in memory, and the same product by each library. T is float or BFloat16.
template <class T>
struct Matrices {
  tl::Tensor a, b, c, packed;
  Product p;

  explicit Matrices(const Product& product) : p(product) {
    a = tl::Tensor::empty({p.m, p.k});
    b = tl::Tensor::empty({p.k, p.n});
    c = tl::Tensor::empty({p.m, p.n});
    packed = tl::Tensor::empty({tl::gemm_packed_size(p.n, p.k)}, tl::dtype_of<T>);
    tl::nn::normal_(a, 0, 1);
    tl::nn::normal_(b, 0, 1);
    tl::kernel::gemm_pack<T>(tl::kCpu, {.b = b.data<float>(),
                                        .n = p.n,
                                        .k = p.k,
                                        .ldb = p.n,
                                        .transpose_b = false,
                                        .packed = packed.mutable_data<T>()});
    a = a.to(tl::dtype_of<T>), b = b.to(tl::dtype_of<T>), c = c.to(tl::dtype_of<T>);
  }

  void multiply(bool use_packed) {
    tl::kernel::gemm<T>(tl::kCpu, {.a = a.data<T>(),
                                   .b = b.data<T>(),
                                   .c = c.mutable_data<T>(),
                                   .m = p.m,
                                   .n = p.n,
                                   .k = p.k,
                                   .lda = p.k,
                                   .ldb = p.n,
                                   .ldc = p.n,
                                   .packed_b = use_packed ? packed.data<T>() : nullptr});
  }

#if defined(TL_BENCH_OPENBLAS)
  void multiply_openblas(int threads) requires std::is_same_v<T, float> {
    openblas_set_num_threads(threads);
    cblas_sgemm(CblasRowMajor, CblasNoTrans, CblasNoTrans, static_cast<int>(p.m), static_cast<int>(p.n),
                static_cast<int>(p.k), 1, a.data<float>(), static_cast<int>(p.k), b.data<float>(),
                static_cast<int>(p.n), 0, c.mutable_data<float>(), static_cast<int>(p.n));
  }
#endif
};

#if defined(TL_BENCH_OPENBLAS)
std::string openblas_name() {
  const std::string version = OPENBLAS_VERSION;  // " OpenBLAS 0.3.21 "
  const size_t first = version.find_first_of("0123456789");
  return "openblas " + version.substr(first, version.find_last_not_of(' ') + 1 - first);
}
#endif

/// Debian's OpenBLAS chooses its kernels when it is loaded, and does not know newer processors: it is told to use its
/// AVX-512 kernels by starting this program anew.
void choose_openblas_kernels(char** argv) {
#if defined(TL_BENCH_OPENBLAS)
  if (std::getenv("OPENBLAS_CORETYPE") || tl::best_isa() != tl::Isa::avx512) return;
  setenv("OPENBLAS_CORETYPE", "SkylakeX", 1);
  execv("/proc/self/exe", argv);
#else
  static_cast<void>(argv);
#endif
}

/// All shapes in one precision.
template <class T>
void run_all(const bench::ProgramOptions& options, bench::Comparison& comparison) {
  constexpr bool kHalf = std::is_same_v<T, tl::BFloat16>;
  std::optional<bench::Worker> torch;
  if (options.wants_peer("torch")) torch.emplace(options.peer_command("torch_kernels.py", {}), "torch");
  for (const Product& p : products())
    for (const int threads : options.thread_counts())
      for (const bool packed : {false, true}) {
        const std::string name = std::string(kHalf ? "bf16gemm" : "sgemm") + (packed ? "_packed" : "");
        const std::string shape = tl::text(p.m, "x", p.n, "x", p.k);
        if (!options.wants(name, shape, threads)) continue;
        tl::set_threads(threads);
        const auto matrices = std::make_shared<Matrices<T>>(p);
        std::vector<bench::Side> sides = {
            bench::side_of("tl " TL_VERSION_STRING, [matrices, packed] { matrices->multiply(packed); })};
#if defined(TL_BENCH_ONEDNN)
        if (options.wants_peer("onednn"))
          sides.push_back(bench::side_of(bench::onednn::name(packed ? " packed" : ""),
                                         bench::onednn::gemm(p.m, p.n, p.k, packed, kHalf, threads)));
#endif
#if defined(TL_BENCH_OPENBLAS)
        if constexpr (!kHalf)
          if (options.wants_peer("openblas"))
            sides.push_back(
                bench::side_of(openblas_name(), [matrices, threads] { matrices->multiply_openblas(threads); }));
#endif
        if (torch) {
          torch->load(nlohmann::json{
              {"op", "gemm"}, {"shape", {p.m, p.n, p.k}}, {"threads", threads}, {"precision", options.precision}}
                          .dump());
          sides.push_back(bench::side_of(*torch));
        }
        const double gflop = 2e-9 * static_cast<double>(p.m * p.n * p.k);
        comparison.run({name, shape, threads, {.unit = "GFLOP/s", .work = gflop, .gflop = gflop}}, std::move(sides));
      }
}

}  // namespace

int main(int argc, char** argv) {
  choose_openblas_kernels(argv);
  CLI::App app("Matrix products, beside oneDNN, OpenBLAS and PyTorch");
  bench::ProgramOptions options;
  options.add_to(app);
  return example::run(app, argc, argv, [&] {
    bench::Comparison comparison = options.comparison("gemm");
    if (options.precision == "bf16") run_all<tl::BFloat16>(options, comparison);
    else run_all<float>(options, comparison);
    comparison.finish();
    return 0;
  });
}
