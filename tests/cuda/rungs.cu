#include "rungs.hpp"

#include "elementwise.cuh"
#include "gemm.cuh"
#include "reduce.cuh"
#include "softmax.cuh"

namespace tl::test::rungs {

using namespace device;

void relu_v1(const float* x, float* y, int64_t n) { launch(unary_v1<functions::relu_fn>, grid_for(n), x, y, n); }

void transpose_in_one_block_per_tile(const float* x, float* y, int64_t count, int64_t rows, int64_t cols) {
  Nest matrices;
  matrices.append(count, rows * cols, rows * cols);
  matrices.numel = count;
  const LaunchShape shape{
      .grid = {static_cast<unsigned>(ceil_div(rows, kTile)), static_cast<unsigned>(ceil_div(cols, kTile))},
      .block = {kTile, kTileRows}};
  launch(copy_transposed_v2, shape, x, y, cols, rows, cols, rows, matrices, false);
}

namespace {

using SumKernel = void (*)(const float*, StoreSum, CutAxis);

void launch_sum(SumKernel kernel, LaunchShape shape, const float* x, float* y, int64_t outer, int64_t axis,
                int64_t inner) {
  launch(kernel, shape, x, StoreSum{y, 1.0f}, CutAxis{outer, axis, inner, axis, 1});
}

}  // namespace

void sum_rows_v1(const float* x, float* y, int64_t outer, int64_t axis, int64_t inner) {
  launch_sum(reduce_rows_v1<SumOf, float, StoreSum>, grid_for(outer), x, y, outer, axis, inner);
}
void sum_rows_v2(const float* x, float* y, int64_t outer, int64_t axis, int64_t inner) {
  launch_sum(reduce_rows_v2<SumOf, float, StoreSum>, {.block = {kRowWarps * kWarpSize}}, x, y, outer, axis, inner);
}
// One block, so that it goes from row to row: what it keeps in shared memory is used again.
void sum_rows_v3(const float* x, float* y, int64_t outer, int64_t axis, int64_t inner) {
  launch_sum(reduce_rows_v3<SumOf, float, StoreSum>, {.block = {kRowThreads}}, x, y, outer, axis, inner);
}
void largest_of_rows_v3(const float* x, float* y, int32_t* index, int64_t rows, int64_t cols) {
  launch(reduce_rows_v3<BestOf<1>, float, StoreBest<1>>, {.block = {kRowThreads}}, x, StoreBest<1>{y, index},
         CutAxis{rows, cols, 1, cols, 1});
}
void sum_columns_v1(const float* x, float* y, int64_t outer, int64_t axis, int64_t inner) {
  launch_sum(reduce_columns_v1<SumOf, float, StoreSum>, grid_for(outer * inner), x, y, outer, axis, inner);
}
void sum_columns_v2(const float* x, float* y, int64_t outer, int64_t axis, int64_t inner) {
  launch_sum(reduce_columns_v2<SumOf, float, StoreSum>,
             {.grid = {static_cast<unsigned>(ceil_div(inner, kColumns))}, .block = {kColumns, kColumnThreads}}, x, y,
             outer, axis, inner);
}

namespace {

using GemmKernel = void (*)(GemmProblem);

/// kernels: not transposed, B, A, both.
void launch_gemm(const GemmKernel (&kernels)[4], int64_t edge, Dim3 block, const GemmArgs<float>& args) {
  const GemmProblem problem{.a = args.a,
                            .b = args.b,
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
                                         .c = args.c,
                                         .ldc = args.ldc}};
  const auto tiles = static_cast<unsigned>(ceil_div(args.m, edge) * ceil_div(args.n, edge));
  launch(kernels[(args.transpose_a ? 2 : 0) + (args.transpose_b ? 1 : 0)],
         {.grid = {tiles, 1, static_cast<unsigned>(args.batch)}, .block = block}, problem);
}

}  // namespace

void gemm_v1(const GemmArgs<float>& args) {
  launch_gemm({device::gemm_v1<false, false>, device::gemm_v1<false, true>, device::gemm_v1<true, false>,
               device::gemm_v1<true, true>},
              kSquare, {kElementThreads}, args);
}
void gemm_v2(const GemmArgs<float>& args) {
  launch_gemm({device::gemm_v2<false, false>, device::gemm_v2<false, true>, device::gemm_v2<true, false>,
               device::gemm_v2<true, true>},
              kSquare, {kSquare, kSquare}, args);
}
void gemm_v3_small(const GemmArgs<float>& args) {
  launch_gemm({gemm_v3<4, false, false>, gemm_v3<4, false, true>, gemm_v3<4, true, false>, gemm_v3<4, true, true>}, 64,
              {kGemmThreads}, args);
}
void gemm_v3_large(const GemmArgs<float>& args) {
  launch_gemm({gemm_v3<8, false, false>, gemm_v3<8, false, true>, gemm_v3<8, true, false>, gemm_v3<8, true, true>}, 128,
              {kGemmThreads}, args);
}
void gemm_v4_large(const GemmArgs<float>& args) {
  launch_gemm({gemm_v4<8, false, false>, gemm_v4<8, false, true>, gemm_v4<8, true, false>, gemm_v4<8, true, true>}, 128,
              {kGemmThreads}, args);
}

namespace {

// Fewer blocks than rows, so that a block goes from row to row.
void launch_softmax(void (*kernel)(const float*, float*, int64_t, int64_t, bool), LaunchShape shape,
                    const SoftmaxArgs<float>& args) {
  launch(kernel, shape, args.x, args.y, args.rows, args.cols, args.logarithm);
}

}  // namespace

void softmax_v1_warp(const SoftmaxArgs<float>& args) {
  launch_softmax(softmax_v1<kWarpSize>, {.block = {kSoftmaxWarps * kWarpSize}}, args);
}
void softmax_v1_block(const SoftmaxArgs<float>& args) {
  launch_softmax(softmax_v1<kSoftmaxThreads>, {.block = {kSoftmaxThreads}}, args);
}
void softmax_v2(const SoftmaxArgs<float>& args) {
  launch_softmax(device::softmax_v2<32>, {.block = {kSoftmaxWarps * kWarpSize}}, args);
}
void softmax_v3(const SoftmaxArgs<float>& args) {
  launch_softmax(device::softmax_v3,
                 {.block = {kSoftmaxThreads}, .shared_bytes = static_cast<std::size_t>(args.cols) * sizeof(float)},
                 args);
}

}  // namespace tl::test::rungs
