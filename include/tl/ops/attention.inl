// Definitions of ops/attention.hpp.
#pragma once
#include <cmath>
#include <limits>

#include "tl/ops/attention.hpp"
#include "tl/ops/elementwise.hpp"
#include "tl/ops/matmul.hpp"
#include "tl/ops/softmax.hpp"

namespace tl::inline TL_ABI {

TL_INLINE Tensor attention(const Tensor& q, const Tensor& k, const Tensor& v, const AttentionOptions& options) {
  require<ShapeError>(q.rank() == 4 && k.rank() == 4 && v.rank() == 4,
                      "attention: q must be [N, H, T, D], k [N, H, S, D] and v [N, H, S, E]; got ", q.shape(), ", ",
                      k.shape(), " and ", v.shape());
  const int64_t n = q.size(0), queries = q.size(2), keys = k.size(2);
  require<ShapeError>(v.size(2) == keys, "attention: k and v must have one length S; got ", k.shape(), " and ",
                      v.shape());
  constexpr double kHidden = -std::numeric_limits<double>::infinity();

  const double scale = options.scale != 0 ? options.scale : 1 / std::sqrt(static_cast<double>(q.size(3)));
  Tensor scores = matmul(affine(q, scale, 0), k, {.transpose_a = false, .transpose_b = true});
  if (options.key_mask.defined()) {
    const Tensor mask = options.key_mask.to(kCpu);
    require<ShapeError>(mask.shape() == Shape{n, keys}, "attention: key_mask must be [N, S] = ", Shape{n, keys},
                        "; got ", mask.shape());
    Tensor bias = Tensor::zeros({n, 1, 1, keys}, q.dtype());
    visit_floating(q.dtype(), "attention", [&](auto type) {
      using T = typename decltype(type)::type;
      T* out = bias.mutable_data<T>();
      for (const int32_t counts : mask.values<int32_t>()) *out++ = counts != 0 ? T(0) : static_cast<T>(kHidden);
    });
    scores = scores + bias.to(q.device());
  }
  if (options.causal) {
    Tensor bias = Tensor::zeros({queries, keys}, q.dtype());
    visit_floating(q.dtype(), "attention", [&](auto type) {
      using T = typename decltype(type)::type;
      T* out = bias.mutable_data<T>();
      for (int64_t t = 0; t < queries; ++t)
        for (int64_t s = t + 1; s < keys; ++s) out[t * keys + s] = static_cast<T>(kHidden);
    });
    scores = scores + bias.to(q.device());
  }
  return matmul(softmax(scores), v);
}

}  // namespace tl::inline TL_ABI
