// Calls that must be refused, with the exact words of the error.
#pragma once
#include "ops/cases.hpp"

namespace tl_test {

inline const std::vector<Refusal>& refusals() {
  using tl::DType;
  using tl::ErrorCode;
  const auto t = [](const Shape& shape, DType dtype = DType::f32) { return Tensor::zeros(shape, dtype); };
  const auto ids = [](std::initializer_list<int32_t> values) {
    return Tensor::from(values, {static_cast<int64_t>(values.size())});
  };
  static const std::vector<Refusal> all = {
      // arithmetic
      {"add of shapes that do not broadcast",
       [=] {
         t({2, 3}) + t({2});
       },
       ErrorCode::shape,
       "add: [2, 3] and [2] do not broadcast. Hint: sizes are aligned at the last dimension and must be equal or 1."},
      {"multiply of two types", [=] { t({2}) * t({2}, DType::f64); }, ErrorCode::dtype,
       "multiply: both sides must have one type, got f32 and f64"},
      {"divide of integers", [=] { t({2}, DType::i32) / t({2}, DType::i32); }, ErrorCode::dtype,
       "divide: expected f32 (or f64, for checking), got i32"},
      {"subtract of an undefined tensor", [=] { t({2}) - Tensor(); }, ErrorCode::usage,
       "dtype: the tensor is undefined (default-constructed, never assigned)"},
      {"relu of half precision", [=] { tl::relu(t({2}, DType::f16)); }, ErrorCode::dtype,
       "unary: expected f32 (or f64, for checking), got f16"},
      // reductions
      {"sum over a missing axis",
       [=] {
         tl::sum(t({2, 3}), {2});
       },
       ErrorCode::shape, "sum: axis 2 is outside of a tensor with 2 dimensions"},
      {"mean over one axis twice",
       [=] {
         tl::mean(t({2, 3}), {1, -1});
       },
       ErrorCode::usage, "mean: a dimension is named twice"},
      {"max over nothing",
       [=] {
         tl::max(t({2, 0}), 1);
       },
       ErrorCode::shape, "max: a dimension of size 0 has no extreme, got [2, 0]"},
      {"argmax over nothing",
       [=] {
         tl::argmax(t({0, 2}), 0);
       },
       ErrorCode::shape, "argmax: a dimension of size 0 has no largest element, got [0, 2]"},
      {"top_k of too many",
       [=] {
         tl::top_k(t({2, 3}), 4);
       },
       ErrorCode::shape, "top_k: k must be within the last dimension of [2, 3]; got 4"},
      // matrices
      {"matmul of a vector",
       [=] {
         tl::matmul(t({3}), t({3, 2}));
       },
       ErrorCode::shape, "matmul: expected matrices, got [3] and [3, 2]"},
      {"matmul of sizes that do not fit",
       [=] {
         tl::matmul(t({2, 3}), t({3, 4}), {.transpose_b = true});
       },
       ErrorCode::shape, "matmul: a must be [..., M, K] and b [..., K, N]; got [2, 3] and [3, 4] transposed"},
      {"matmul of unequal batches",
       [=] {
         tl::matmul(t({2, 3, 4}), t({5, 4, 2}));
       },
       ErrorCode::shape, "matmul: leading sizes must be equal, or b a single matrix; got [2, 3, 4] and [5, 4, 2]"},
      {"matmul of two types",
       [=] {
         tl::matmul(t({2, 3}), t({3, 4}, DType::f64));
       },
       ErrorCode::dtype, "matmul: both sides must have one type, got f32 and f64"},
      {"add_matmul to another shape",
       [=] {
         tl::add_matmul(t({2, 4}), t({2, 3}), t({3, 5}));
       },
       ErrorCode::shape,
       "add_matmul: expected c [..., M, N], a [..., M, K] and b [K, N]; got [2, 4], [2, 3] and [3, 5]"},
      {"add_matmul of batches",
       [=] {
         tl::add_matmul(t({2, 4}), t({2, 3}), t({2, 3, 4}));
       },
       ErrorCode::shape,
       "add_matmul: expected c [..., M, N], a [..., M, K] and b [K, N]; got [2, 4], [2, 3] and [2, 3, 4]"},
      {"linear of the wrong width",
       [=] {
         tl::linear(t({2, 5}), t({3, 4}));
       },
       ErrorCode::shape, "linear: x must be [..., In] with In = 4; got [2, 5]"},
      {"linear with a bias of the wrong size",
       [=] {
         tl::linear(t({2, 4}), t({3, 4}), t({4}));
       },
       ErrorCode::shape, "linear: bias must be [Out] with Out = 3; got [4]"},
      {"linear with another weight packed",
       [=] {
         tl::linear(t({2, 4}), t({3, 4}), {}, tl::Activation::none, tl::pack_linear(t({17, 4})));
       },
       ErrorCode::shape, "linear: packed must be [512], from pack_linear; got [1024]"},
      {"pack_linear of what is no matrix", [=] { tl::pack_linear(t({4})); }, ErrorCode::shape,
       "pack_linear: weight must be [Out, In]; got [4]"},
      {"linear with a weight that is no matrix",
       [=] {
         tl::linear(t({2, 4}), t({4}));
       },
       ErrorCode::shape, "linear: weight must be [Out, In]; got [4]"},
      // windows
      {"conv2d of a weight with other channels",
       [=] {
         tl::conv2d(t({8, 224, 224, 3}), t({64, 7, 7, 4}));
       },
       ErrorCode::shape,
       "conv2d: weight must be [Cout, kH, kW, Cin/groups] with Cin/groups = 3; got [64, 7, 7, 4]. "
       "Hint: x is [8, 224, 224, 3], groups = 1."},
      {"conv2d of a row",
       [=] {
         tl::conv2d(t({8, 3}), t({4, 1, 1, 3}));
       },
       ErrorCode::shape, "conv2d: x must be [N, H, W, C]; got [8, 3]"},
      {"conv2d with groups that do not divide",
       [=] {
         tl::conv2d(t({1, 4, 4, 3}), t({4, 1, 1, 3}), {}, {.groups = 2});
       },
       ErrorCode::usage, "conv2d: groups must divide Cin = 3 and Cout = 4; got 2"},
      {"conv2d with no groups",
       [=] {
         tl::conv2d(t({1, 4, 4, 3}), t({4, 1, 1, 3}), {}, {.groups = 0});
       },
       ErrorCode::usage, "conv2d: groups must divide Cin = 3 and Cout = 4; got 0"},
      {"conv2d of a window that does not fit",
       [=] {
         tl::conv2d(t({1, 4, 4, 3}), t({4, 5, 3, 3}));
       },
       ErrorCode::shape, "conv2d: a window of 5 does not fit into 4 + padding 0"},
      {"conv2d with stride 0",
       [=] {
         tl::conv2d(t({1, 4, 4, 3}), t({4, 3, 3, 3}), {}, {.stride = 0});
       },
       ErrorCode::usage,
       "conv2d: kernel, stride and dilation must be at least 1 and padding at least 0; got 3, 0, 1 and 0, 0"},
      {"conv2d with negative padding",
       [=] {
         tl::conv2d(t({1, 4, 4, 3}), t({4, 3, 3, 3}), {}, {.padding = -1});
       },
       ErrorCode::usage,
       "conv2d: kernel, stride and dilation must be at least 1 and padding at least 0; got 3, 1, 1 and -1, -1"},
      {"conv2d with a bias of the wrong size",
       [=] {
         tl::conv2d(t({1, 4, 4, 3}), t({4, 3, 3, 3}), t({3}));
       },
       ErrorCode::shape, "conv2d: bias must be [Cout] with Cout = 4; got [3]"},
      {"conv2d_fused with another residual",
       [=] {
         tl::conv2d_fused(t({1, 4, 4, 3}), t({4, 3, 3, 3}), {}, t({1, 4, 4, 4}), tl::Activation::relu, {});
       },
       ErrorCode::shape, "conv2d_fused: residual must be like y; got [1, 4, 4, 4]"},
      {"conv2d_fused with a weight packed for another kernel",
       [=] {
         const Tensor packed = tl::pack_conv2d({1, 8, 8, 3}, tl::DType::f32, t({4, 5, 5, 3}), {});
         tl::conv2d_fused(t({1, 4, 4, 3}), t({4, 3, 3, 3}), {}, {}, tl::Activation::none, {}, packed);
       },
       ErrorCode::shape, "conv2d_fused: packed must be [512], from pack_conv2d; got [1536]"},
      {"max_pool2d of a matrix",
       [=] {
         tl::max_pool2d(t({4, 4}));
       },
       ErrorCode::shape, "max_pool2d: x must be [N, H, W, C]; got [4, 4]"},
      {"avg_pool2d with too much padding",
       [=] {
         tl::avg_pool2d(t({1, 4, 4, 1}), {.kernel = 2, .padding = 2});
       },
       ErrorCode::usage, "avg_pool2d: padding must be smaller than the kernel, so that no window is empty"},
      {"max_pool2d of a window that does not fit",
       [=] {
         tl::max_pool2d(t({1, 1, 4, 1}));
       },
       ErrorCode::shape, "max_pool2d: a window of 2 does not fit into 1 + padding 0"},
      {"global_avg_pool of a matrix",
       [=] {
         tl::global_avg_pool(t({4, 4}));
       },
       ErrorCode::shape, "global_avg_pool: x must be [N, H, W, C]; got [4, 4]"},
      // normalisation
      {"batch_norm training on one row",
       [=] {
         Tensor mean = t({3}), variance = t({3});
         tl::batch_norm(t({1, 3}), {}, {}, mean, variance, {.training = true});
       },
       ErrorCode::usage,
       "batch_norm: training needs more than one value a channel, got [1, 3]. "
       "Hint: a last batch of one picture; drop it, or freeze the layer."},
      {"batch_norm with another gamma",
       [=] {
         Tensor mean = t({3}), variance = t({3});
         tl::batch_norm(t({4, 3}), t({4}), {}, mean, variance);
       },
       ErrorCode::shape, "batch_norm: gamma must be [C] with C = 3; got [4]"},
      {"batch_norm without statistics",
       [=] {
         Tensor mean, variance;
         tl::batch_norm(t({4, 3}), {}, {}, mean, variance);
       },
       ErrorCode::shape, "batch_norm: running_mean must be [C] with C = 3; got []"},
      {"batch_norm fused with gelu",
       [=] {
         Tensor mean = t({3}), variance = t({3});
         tl::batch_norm(t({4, 3}), {}, {}, mean, variance, {.activation = tl::Activation::gelu});
       },
       ErrorCode::usage, "batch_norm: only relu and relu6 can be fused"},
      {"batch_norm with another residual",
       [=] {
         Tensor mean = t({3}), variance = t({3});
         tl::batch_norm(t({4, 3}), {}, {}, mean, variance, {}, t({3, 4}));
       },
       ErrorCode::shape, "batch_norm: residual must be like x, [4, 3]; got [3, 4]"},
      {"layer_norm with another beta",
       [=] {
         tl::layer_norm(t({4, 3}), t({3}), t({4}));
       },
       ErrorCode::shape, "layer_norm: beta must be [C] with C = 3; got [4]"},
      {"layer_norm with another residual",
       [=] {
         tl::layer_norm(t({4, 3}), {}, {}, 1e-5, t({3}));
       },
       ErrorCode::shape, "layer_norm: residual must be like x, [4, 3]; got [3]"},
      {"layer_norm with a residual of another type",
       [=] {
         tl::layer_norm(t({4, 3}), {}, {}, 1e-5, t({4, 3}, DType::f64));
       },
       ErrorCode::dtype, "layer_norm: residual must be like x, f32; got f64"},
      {"softmax of a number", [=] { tl::softmax(t({})); }, ErrorCode::shape, "softmax: x must be [..., C]; got []"},
      // losses
      {"cross_entropy of one row of logits", [=] { tl::cross_entropy(t({3}), ids({1})); }, ErrorCode::shape,
       "cross_entropy: logits must be [N, C]; got [3]"},
      {"cross_entropy with too few targets",
       [=] {
         tl::cross_entropy(t({2, 3}), ids({1}));
       },
       ErrorCode::shape, "cross_entropy: target must be [N] with N = 2; got [1]"},
      {"cross_entropy with a target that is no class",
       [=] {
         tl::cross_entropy(t({2, 3}), ids({1, 3}));
       },
       ErrorCode::usage, "cross_entropy: a target must be in [0, 3) or -100 (ignored), got 3"},
      {"cross_entropy with i64 targets",
       [=] {
         tl::cross_entropy(t({1, 3}), Tensor::zeros({1}, DType::i64));
       },
       ErrorCode::dtype, "cross_entropy: target must be i32, got i64"},
      {"cross_entropy with too few weights",
       [=] {
         tl::cross_entropy(t({1, 3}), ids({1}), {.class_weight = t({2})});
       },
       ErrorCode::shape, "cross_entropy: class_weight must be [C] with C = 3; got [2]"},
      {"cross_entropy with smoothing beyond 1",
       [=] {
         tl::cross_entropy(t({1, 3}), ids({1}), {.label_smoothing = 1.5});
       },
       ErrorCode::usage, "cross_entropy: label_smoothing must be in [0, 1], got 1.5"},
      {"mse_loss of two shapes",
       [=] {
         tl::mse_loss(t({2, 1}), t({2}));
       },
       ErrorCode::shape, "mse_loss: both must have one shape, got [2, 1] and [2]"},
      {"bce_with_logits of two shapes", [=] { tl::bce_with_logits(t({2}), t({3})); }, ErrorCode::shape,
       "bce_with_logits: both must have one shape, got [2] and [3]"},
      {"bce_loss with a target that learns", [=] { tl::bce_loss(t({2}), t({2}).set_requires_grad()); },
       ErrorCode::usage, "bce_loss: targets get no gradient. Hint: detach() them."},
      // attention
      {"attention of three dimensions",
       [=] {
         tl::attention(t({2, 3, 4}), t({2, 3, 4}), t({2, 3, 4}));
       },
       ErrorCode::shape,
       "attention: q must be [N, H, T, D], k [N, H, S, D] and v [N, H, S, E]; got [2, 3, 4], [2, 3, 4] and [2, 3, 4]"},
      {"attention with fewer values than keys",
       [=] {
         tl::attention(t({1, 1, 2, 4}), t({1, 1, 3, 4}), t({1, 1, 2, 4}));
       },
       ErrorCode::shape, "attention: k and v must have one length S; got [1, 1, 3, 4] and [1, 1, 2, 4]"},
      {"attention with another mask",
       [=] {
         tl::attention(t({1, 1, 2, 4}), t({1, 1, 3, 4}), t({1, 1, 3, 4}), {.key_mask = t({1, 2}, DType::i32)});
       },
       ErrorCode::shape, "attention: key_mask must be [N, S] = [1, 3]; got [1, 2]"},
      {"attention of two numbers of heads",
       [=] {
         tl::attention(t({1, 2, 2, 4}), t({1, 1, 3, 4}), t({1, 1, 3, 4}));
       },
       ErrorCode::shape,
       "attention: q, k and v must have one N and one H, q and k one D; got [1, 2, 2, 4], [1, 1, 3, 4] and "
       "[1, 1, 3, 4]"},
      {"multi_head_attention of four dimensions",
       [=] {
         tl::multi_head_attention(t({1, 1, 2, 4}), t({1, 2, 4}), t({1, 2, 4}), 2);
       },
       ErrorCode::shape,
       "multi_head_attention: q must be [N, T, H D], k [N, S, H D] and v [N, S, H E]; got [1, 1, 2, 4], [1, 2, 4] and "
       "[1, 2, 4]"},
      {"multi_head_attention of two batches",
       [=] {
         tl::multi_head_attention(t({2, 2, 4}), t({1, 2, 4}), t({1, 2, 4}), 2);
       },
       ErrorCode::shape,
       "multi_head_attention: q, k and v must have one N, k and v one S, q and k one width; got [2, 2, 4], [1, 2, 4] "
       "and [1, 2, 4]"},
      {"multi_head_attention of heads that do not fit",
       [=] {
         tl::multi_head_attention(t({1, 2, 4}), t({1, 2, 4}), t({1, 2, 4}), 3);
       },
       ErrorCode::shape, "multi_head_attention: the widths must be multiples of H = 3; got [1, 2, 4] and [1, 2, 4]"},
      // arrangement
      {"gather of an index outside",
       [=] {
         tl::gather(t({2, 3}), 1, ids({0, 3}));
       },
       ErrorCode::usage, "gather: an index must be in [0, 3), got 3"},
      {"gather of a negative index",
       [=] {
         tl::gather(t({2, 3}), 0, ids({-1}));
       },
       ErrorCode::usage, "gather: an index must be in [0, 2), got -1"},
      {"gather with float indices",
       [=] {
         tl::gather(t({2, 3}), 0, t({1}));
       },
       ErrorCode::dtype, "gather: indices must be i32, got f32"},
      {"gather with a matrix of indices",
       [=] {
         tl::gather(t({2, 3}), 0, t({1, 1}, DType::i32));
       },
       ErrorCode::shape, "gather: index must be [K]; got [1, 1]"},
      {"embedding of an id outside",
       [=] {
         tl::embedding(t({5, 3}), ids({5}));
       },
       ErrorCode::usage, "embedding: an index must be in [0, 5), got 5"},
      {"embedding with padding outside",
       [=] {
         tl::embedding(t({5, 3}), ids({0}), 5);
       },
       ErrorCode::usage, "embedding: padding_idx must be in [0, 5) or -1, got 5"},
      {"embedding of a vector", [=] { tl::embedding(t({5}), ids({0})); }, ErrorCode::shape,
       "embedding: table must be [V, D]; got [5]"},
      {"reshape to another count",
       [=] {
         tl::reshape(t({2, 3}), {4, 2});
       },
       ErrorCode::shape, "reshape: [2, 3] has 6 elements; [4, 2] has 8"},
      {"reshape with two unknown sizes",
       [=] {
         tl::reshape(t({2, 3}), {-1, -1});
       },
       ErrorCode::shape, "reshape: at most one size may be -1"},
      {"reshape that does not divide",
       [=] {
         tl::reshape(t({2, 3}), {-1, 4});
       },
       ErrorCode::shape, "reshape: [2, 3] cannot be divided by 4 for the size -1"},
      {"reshape to a negative size",
       [=] {
         tl::reshape(t({2, 3}), {-2, 3});
       },
       ErrorCode::shape, "reshape: a size is at least 0, or -1 for the one to work out; got -2"},
      {"reshape to sizes whose product overflows",
       [=] {
         tl::reshape(t({2, 3}), {int64_t{1} << 40, int64_t{1} << 40, -1});
       },
       ErrorCode::shape, "shape: the number of elements overflows"},
      {"permute that names a dimension twice",
       [=] {
         tl::permute(t({2, 3}), {0, 0});
       },
       ErrorCode::shape, "permute: each dimension must be named once, from 0 to 1; got 0"},
      {"permute that names too few",
       [=] {
         tl::permute(t({2, 3}), {0});
       },
       ErrorCode::shape, "permute: [2, 3] needs 2 dimensions named, got 1"},
      {"transpose of a vector", [=] { tl::transpose(t({3})); }, ErrorCode::shape,
       "transpose: expected at least two dimensions, got [3]"},
      {"slice beyond the end",
       [=] {
         tl::slice(t({2, 3}), 1, 1, 4);
       },
       ErrorCode::shape, "slice: expected 0 <= first <= last <= 3 and step >= 1 along axis 1 of [2, 3]; got 1, 4, 1"},
      {"slice with step 0",
       [=] {
         tl::slice(t({2, 3}), 1, 0, 3, 0);
       },
       ErrorCode::shape, "slice: expected 0 <= first <= last <= 3 and step >= 1 along axis 1 of [2, 3]; got 0, 3, 0"},
      {"concat of nothing", [=] { tl::concat(std::span<const Tensor>(), 0); }, ErrorCode::usage,
       "concat: expected at least one tensor"},
      {"concat of shapes that differ",
       [=] {
         tl::concat({t({2, 3}), t({2, 4})}, 0);
       },
       ErrorCode::shape, "concat: shapes must agree outside of axis 0; got [2, 3] and [2, 4]"},
      {"concat of two types",
       [=] {
         tl::concat({t({2}), t({2}, DType::f64)}, 0);
       },
       ErrorCode::dtype, "concat: expected f32, got f64"},
      {"pad with too few widths",
       [=] {
         tl::pad(t({2, 3}), {{1, 1}});
       },
       ErrorCode::shape, "pad: [2, 3] needs 2 widths, got 1"},
      {"pad with a negative width",
       [=] {
         tl::pad(t({3}), {{-1, 0}});
       },
       ErrorCode::shape, "pad: widths must not be negative, got -1 and 0"},
      {"expand to a smaller shape",
       [=] {
         tl::expand(t({2, 3}), {2, 1});
       },
       ErrorCode::shape, "expand: [2, 3] cannot become [2, 1]"},
      {"expand of sizes that differ",
       [=] {
         tl::expand(t({2, 3}), {2, 4});
       },
       ErrorCode::shape,
       "expand: [2, 3] and [2, 4] do not broadcast. Hint: sizes are aligned at the last dimension and must be equal or "
       "1."},
      {"dropout of everything",
       [=] {
         tl::Generator random;
         tl::dropout(t({2}), 1, random);
       },
       ErrorCode::usage, "dropout: probability must be in [0, 1), got 1"},
      {"drop_path of a number",
       [=] {
         tl::Generator random;
         tl::drop_path(t({}), 0.5, random);
       },
       ErrorCode::shape, "drop_path: x must be [N, ...]; got []"},
  };
  return all;
}

}  // namespace tl_test
