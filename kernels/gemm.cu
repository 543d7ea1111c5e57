#include "gemm.cuh"

#include <algorithm>

#include "launchers.hpp"

namespace tl::cuda {

using namespace device;

namespace {

template <int kPer>
void launch_gemm(const GemmArgs<float>& args, const GemmProblem& problem, int64_t batch) {
  constexpr int kEdge = kSide * kPer;
  const auto kernel = args.transpose_a ? (args.transpose_b ? gemm_v4<kPer, true, true> : gemm_v4<kPer, true, false>)
                                       : (args.transpose_b ? gemm_v4<kPer, false, true> : gemm_v4<kPer, false, false>);
  const int64_t tiles = ceil_div(args.m, kEdge) * ceil_div(args.n, kEdge);
  launch(kernel, {.grid = {static_cast<unsigned>(tiles), 1, static_cast<unsigned>(batch)}, .block = {kGemmThreads}},
         problem);
}

}  // namespace

void gemm(const GemmArgs<float>& args) {
  if (args.m * args.n == 0) return;
  // Large tiles read less per product, but leave most of the GPU idle unless there are many.
  constexpr int64_t kEnoughTiles = 256;
  const bool large = ceil_div(args.m, 128) * ceil_div(args.n, 128) * args.batch >= kEnoughTiles;
  constexpr int64_t kMostInZ = 65535;
  for (int64_t first = 0; first < args.batch; first += kMostInZ) {
    GemmProblem problem{.a = args.a + first * args.stride_a,
                        .b = args.b + first * args.stride_b,
                        .m = args.m,
                        .n = args.n,
                        .k = args.k,
                        .lda = args.lda,
                        .ldb = args.ldb,
                        .stride_a = args.stride_a,
                        .stride_b = args.stride_b,
                        .stride_c = args.stride_c,
                        .epilogue = {.alpha = args.alpha,
                                     .beta = args.beta,
                                     .bias = args.bias,
                                     .activation = args.activation,
                                     .c = args.c + first * args.stride_c,
                                     .ldc = args.ldc}};
    const int64_t batch = std::min(args.batch - first, kMostInZ);
    if (large) launch_gemm<8>(args, problem, batch);
    else launch_gemm<4>(args, problem, batch);
  }
}

}  // namespace tl::cuda
