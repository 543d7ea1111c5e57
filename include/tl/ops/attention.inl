// Definitions of ops/attention.hpp.
#pragma once
#include <cmath>
#include <limits>

#include "tl/autograd/function.hpp"
#include "tl/ops/attention.hpp"
#include "tl/ops/elementwise.hpp"
#include "tl/ops/matmul.hpp"
#include "tl/ops/softmax.hpp"
#include "tl/ops/view.hpp"

namespace tl::inline TL_ABI {
namespace detail {

/// In one kernel, for heads in either layout.
struct FusedAttention {
  static constexpr std::string_view kName = "attention";
  AttentionSize size;
  bool side_by_side;  // [N, T, H D], not [N, H, T, D]
  Tensor key_mask;
  float scale;
  bool causal;
  Kept q, k, v, y;
  Tensor log_sum_exp;

  Tensor forward(const Needs& needs, const Tensor& queries, const Tensor& keys, const Tensor& values) {
    Tensor out = Tensor::empty(
        queries.shape().with(-1, side_by_side ? size.heads * size.value_width : size.value_width), queries.dtype());
    if (needs.any()) log_sum_exp = Tensor::empty({size.n, size.heads, size.queries});
    kernel::attention_forward(
        out.device(),
        AttentionForwardArgs<float>{.size = size,
                                    .q = rows(queries.data<float>(), size.queries, size.width),
                                    .k = rows(keys.data<float>(), size.keys, size.width),
                                    .v = rows(values.data<float>(), size.keys, size.value_width),
                                    .y = rows(out.mutable_data<float>(), size.queries, size.value_width),
                                    .key_mask = mask(),
                                    .log_sum_exp = log_sum_exp ? log_sum_exp.mutable_data<float>() : nullptr,
                                    .scale = scale,
                                    .causal = causal});
    if (needs.any()) q.keep(queries), k.keep(keys), v.keep(values), y.keep(out);
    return out;
  }

  Gradients backward(const Needs& needs, const Tensor& grad_y) const {
    Gradients out(3);
    const auto read = [&](const Kept& kept, int64_t count, int64_t width) {
      return rows(kept.get(kName).data<float>(), count, width);
    };
    const auto write = [&](size_t input, const Kept& kept, int64_t count, int64_t width) {
      if (!needs[input]) return HeadRows<float>{};
      out[input] = Tensor::empty(kept.get(kName).shape());
      return rows(out[input].mutable_data<float>(), count, width);
    };
    kernel::attention_backward(
        grad_y.device(),
        AttentionBackwardArgs<float>{.size = size,
                                     .q = read(q, size.queries, size.width),
                                     .k = read(k, size.keys, size.width),
                                     .v = read(v, size.keys, size.value_width),
                                     .y = read(y, size.queries, size.value_width),
                                     .grad_y = rows(grad_y.data<float>(), size.queries, size.value_width),
                                     .grad_q = write(0, q, size.queries, size.width),
                                     .grad_k = write(1, k, size.keys, size.width),
                                     .grad_v = write(2, v, size.keys, size.value_width),
                                     .key_mask = mask(),
                                     .log_sum_exp = log_sum_exp.data<float>(),
                                     .scale = scale,
                                     .causal = causal});
    return out;
  }

 private:
  template <class T>
  HeadRows<T> rows(T* data, int64_t count, int64_t width) const {
    if (side_by_side) return {data, count * size.heads * width, width, size.heads * width};
    return {data, size.heads * count * width, count * width, width};
  }
  const int32_t* mask() const { return key_mask ? key_mask.data<int32_t>() : nullptr; }
};

inline bool has_attention_kernels(const Tensor& q, const Tensor& k, const Tensor& v) {
  for (const Tensor* x : {&q, &k, &v})
    if (x->dtype() != DType::f32 || x->device() != q.device()) return false;
  return has_kernel<float>(q.device(), kernel_tag::attention_forward()) &&
         has_kernel<float>(q.device(), kernel_tag::attention_backward());
}

/// Of several operations, for backends without the kernel; [N, H, T, D].
TL_INLINE Tensor composed_attention(const Tensor& q, const Tensor& k, const Tensor& v, const Tensor& key_mask,
                                    double scale, bool causal) {
  const int64_t n = q.size(0), queries = q.size(2), keys = k.size(2);
  constexpr double kHidden = -std::numeric_limits<double>::infinity();
  Tensor scores = matmul(affine(q, scale, 0), k, {.transpose_a = false, .transpose_b = true});
  if (key_mask.defined()) {
    Tensor bias = Tensor::empty({n, 1, 1, keys}, q.dtype());
    visit_floating(q.dtype(), "attention", [&](auto type) {
      using T = typename decltype(type)::type;
      perform("hide keys", [out = bias.mutable_data<T>(), mask = key_mask.data<int32_t>(), count = n * keys] {
        for (int64_t i = 0; i < count; ++i) out[i] = mask[i] != 0 ? T(0) : static_cast<T>(kHidden);
      });
    });
    scores = scores + bias.to(q.device());
  }
  if (causal) {
    Tensor bias = Tensor::zeros({queries, keys}, q.dtype());
    visit_floating(q.dtype(), "attention", [&](auto type) {
      using T = typename decltype(type)::type;
      perform("hide what follows", [out = bias.mutable_data<T>(), queries, keys] {
        for (int64_t t = 0; t < queries; ++t)
          for (int64_t s = t + 1; s < keys; ++s) out[t * keys + s] = static_cast<T>(kHidden);
      });
    });
    scores = scores + bias.to(q.device());
  }
  return matmul(softmax(scores), v);
}

TL_INLINE Tensor attention_of(const Tensor& q, const Tensor& k, const Tensor& v, const AttentionSize& size,
                              bool side_by_side, const AttentionOptions& options) {
  if (q.dtype() == DType::bf16) {  // the kernels work in float
    const auto full = [](const Tensor& x) { return cast(x, DType::f32); };
    return cast(attention_of(full(q), full(k), full(v), size, side_by_side, options), DType::bf16);
  }
  const double scale = options.scale != 0 ? options.scale : 1 / std::sqrt(static_cast<double>(size.width));
  Tensor mask;
  if (options.key_mask.defined()) {
    mask = options.key_mask.to(kCpu);
    require<ShapeError>(mask.shape() == Shape{size.n, size.keys},
                        "attention: key_mask must be [N, S] = ", Shape{size.n, size.keys}, "; got ", mask.shape());
  }
  if (has_attention_kernels(q, k, v))
    return apply(
        FusedAttention{size, side_by_side, mask, static_cast<float>(scale), options.causal, {}, {}, {}, {}, {}}, q, k,
        v);
  if (!side_by_side) return composed_attention(q, k, v, mask, scale, options.causal);
  const auto apart = [&](const Tensor& x, int64_t count, int64_t width) {
    return permute(reshape(x, {size.n, count, size.heads, width}), {0, 2, 1, 3});
  };
  const Tensor y = composed_attention(apart(q, size.queries, size.width), apart(k, size.keys, size.width),
                                      apart(v, size.keys, size.value_width), mask, scale, options.causal);
  return reshape(permute(y, {0, 2, 1, 3}), {size.n, size.queries, size.heads * size.value_width});
}

}  // namespace detail

TL_INLINE Tensor attention(const Tensor& q, const Tensor& k, const Tensor& v, const AttentionOptions& options) {
  require<ShapeError>(q.rank() == 4 && k.rank() == 4 && v.rank() == 4,
                      "attention: q must be [N, H, T, D], k [N, H, S, D] and v [N, H, S, E]; got ", q.shape(), ", ",
                      k.shape(), " and ", v.shape());
  require<ShapeError>(v.size(2) == k.size(2), "attention: k and v must have one length S; got ", k.shape(), " and ",
                      v.shape());
  require<ShapeError>(k.shape() == q.shape().with(2, k.size(2)) && v.shape() == k.shape().with(-1, v.size(-1)),
                      "attention: q, k and v must have one N and one H, q and k one D; got ", q.shape(), ", ",
                      k.shape(), " and ", v.shape());
  const AttentionSize size{.n = q.size(0),
                           .heads = q.size(1),
                           .queries = q.size(2),
                           .keys = k.size(2),
                           .width = q.size(3),
                           .value_width = v.size(3)};
  return detail::attention_of(q, k, v, size, false, options);
}

TL_INLINE Tensor multi_head_attention(const Tensor& q, const Tensor& k, const Tensor& v, int64_t heads,
                                      const AttentionOptions& options) {
  require<ShapeError>(q.rank() == 3 && k.rank() == 3 && v.rank() == 3,
                      "multi_head_attention: q must be [N, T, H D], k [N, S, H D] and v [N, S, H E]; got ", q.shape(),
                      ", ", k.shape(), " and ", v.shape());
  require<ShapeError>(k.shape() == q.shape().with(1, k.size(1)) && v.shape() == k.shape().with(-1, v.size(-1)),
                      "multi_head_attention: q, k and v must have one N, k and v one S, q and k one width; got ",
                      q.shape(), ", ", k.shape(), " and ", v.shape());
  require<ShapeError>(heads > 0 && q.size(2) % heads == 0 && v.size(2) % heads == 0,
                      "multi_head_attention: the widths must be multiples of H = ", heads, "; got ", q.shape(), " and ",
                      v.shape());
  const AttentionSize size{.n = q.size(0),
                           .heads = heads,
                           .queries = q.size(1),
                           .keys = k.size(1),
                           .width = q.size(2) / heads,
                           .value_width = v.size(2) / heads};
  return detail::attention_of(q, k, v, size, true, options);
}

}  // namespace tl::inline TL_ABI
