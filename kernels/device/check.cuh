// Turns a CUDA status into an exception.
#pragma once
#include <cuda_runtime.h>

#include "tl/core/error.hpp"

namespace tl::cuda {

inline void check(cudaError_t status, const char* what) {
  if (status == cudaSuccess) return;
  fail<CudaError>("cuda: ", what, " failed: ", cudaGetErrorString(status), " (", cudaGetErrorName(status), ")");
}

}  // namespace tl::cuda
