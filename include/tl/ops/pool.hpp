// Pooling.
#pragma once
#include "tl/cpu/pool.hpp"
#include "tl/ops/conv.hpp"
#include "tl/tensor/tensor.hpp"

namespace tl::inline TL_ABI {

struct PoolOptions {
  Pair kernel = 2;
  Pair stride = 0;  ///< 0: as far as the kernel
  Padding padding = 0;
  bool ceil_mode = false;         ///< a last window that begins inside of x or its front padding may hang over
  bool count_include_pad = true;  ///< average pooling divides by the whole window, padding included
};

/// Largest value of each window of x [N, H, W, C]; y [N, OH, OW, C]. Differentiable: the gradient goes to the first
/// place. PyTorch: torch.nn.functional.max_pool2d.
Tensor max_pool2d(const Tensor& x, const PoolOptions& options = {});

/// Mean of each window. PyTorch: torch.nn.functional.avg_pool2d.
Tensor avg_pool2d(const Tensor& x, const PoolOptions& options = {});

/// Mean over each picture: x [N, H, W, C], y [N, C]. PyTorch: adaptive_avg_pool2d(x, 1), flattened.
Tensor global_avg_pool(const Tensor& x);

}  // namespace tl::inline TL_ABI

#if TL_HEADER_ONLY
#include "tl/ops/pool.inl"
#endif
