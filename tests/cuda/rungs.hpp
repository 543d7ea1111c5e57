// The rungs that the launchers do not choose, or not for small sizes, as functions: tests run every rung of the ladder.
#pragma once
#include <cstdint>

#include "tl/cpu/gemm.hpp"
#include "tl/cpu/softmax.hpp"

namespace tl::test::rungs {

void relu_v1(const float* x, float* y, int64_t n);
/// y[i] = x[i] transposed, for `count` matrices of [rows, cols], all by the same blocks.
void transpose_in_one_block_per_tile(const float* x, float* y, int64_t count, int64_t rows, int64_t cols);

void sum_rows_v1(const float* x, float* y, int64_t outer, int64_t axis, int64_t inner);
void sum_rows_v2(const float* x, float* y, int64_t outer, int64_t axis, int64_t inner);
void sum_rows_v3(const float* x, float* y, int64_t outer, int64_t axis, int64_t inner);
void largest_of_rows_v3(const float* x, float* y, int32_t* index, int64_t rows, int64_t cols);
void sum_columns_v1(const float* x, float* y, int64_t outer, int64_t axis, int64_t inner);
void sum_columns_v2(const float* x, float* y, int64_t outer, int64_t axis, int64_t inner);

void gemm_v1(const GemmArgs<float>& args);
void gemm_v2(const GemmArgs<float>& args);
void gemm_v3_small(const GemmArgs<float>& args);
void gemm_v3_large(const GemmArgs<float>& args);
void gemm_v4_large(const GemmArgs<float>& args);

void softmax_v1_warp(const SoftmaxArgs<float>& args);
void softmax_v1_block(const SoftmaxArgs<float>& args);
void softmax_v2(const SoftmaxArgs<float>& args);
void softmax_v3(const SoftmaxArgs<float>& args);

}  // namespace tl::test::rungs
