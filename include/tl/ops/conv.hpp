// Convolution.
#pragma once
#include "tl/cpu/conv.hpp"
#include "tl/tensor/tensor.hpp"

namespace tl::inline TL_ABI {

/// A number for both directions, or one for each: `2` or `{.h = 2, .w = 1}`.
struct Pair {
  int64_t h = 1, w = 1;
  constexpr Pair() = default;
  constexpr Pair(int64_t both) : h(both), w(both) {}  // implicit, so that options read `.stride = 2`
  constexpr Pair(int64_t height, int64_t width) : h(height), w(width) {}
};

/// Zeros around a picture.
struct Padding {
  int64_t top = 0, left = 0, bottom = 0, right = 0;
  bool same = false;

  constexpr Padding() = default;
  constexpr Padding(int64_t all) : Padding(all, all, all, all) {}
  constexpr Padding(int64_t t, int64_t l, int64_t b, int64_t r) : top(t), left(l), bottom(b), right(r) {}

  /// TensorFlow's SAME: an output of ceil(size / stride); an odd zero goes below and to the right. With stride 2 on an
  /// even size this is not PyTorch's padding = 1.
  static constexpr Padding same_tf() {
    Padding padding;
    padding.same = true;
    return padding;
  }
};

/// The side of the largest tile by which 3x3 convolutions of stride 1 may be computed with fewer products (Winograd):
/// 4, the default, 2, or 0 for plain sums. Program-wide; the environment variable TL_WINOGRAD sets it at the start.
///
/// Errors relative to the largest sum of absolute products of a tile, measured against double precision beside a plain
/// sum's: tile 2 up to 4 times, tile 4 up to 40 times as large (some 1e-5 of an output's typical size).
int64_t winograd_tile();
/// Errors: UsageError unless `side` is 0, 2 or 4.
void set_winograd_tile(int64_t side);

struct Conv2dOptions {
  Pair stride = 1;
  Padding padding = 0;
  Pair dilation = 1;
  int64_t groups = 1;
};

/// y[n, i, j, o] = bias[o] + sum over r, s, c of x[n, i stride + r dilation - top, j stride + s dilation - left, c] *
/// weight[o, r, s, c], places outside of x counting as 0.
///
/// x [N, H, W, Cin], weight [Cout, kH, kW, Cin/groups], bias [Cout] or undefined; y [N, OH, OW, Cout] with
/// OH = floor((H + top + bottom - dilation (kH - 1) - 1) / stride) + 1. Group g maps the g-th share of the channels.
/// x may be bfloat16: then y is too, while weight, bias and their gradients stay f32.
/// Errors: ShapeError, DTypeError. Differentiable in x, weight and bias. FLOPs: 2 N OH OW Cout kH kW Cin/groups.
/// PyTorch: torch.nn.functional.conv2d, whose x is [N, C, H, W] and whose weight is [Cout, Cin/groups, kH, kW].
Tensor conv2d(const Tensor& x, const Tensor& weight, const Tensor& bias = {}, const Conv2dOptions& options = {});

/// activation(conv2d(x, weight, bias) + residual) in one pass over y; residual is like y or undefined.
/// For use without gradients: with a gradient wanted it computes the same from separate operations.
///
/// `packed`, from pack_conv2d, stands for the numbers of the weight, whose shape alone is then read.
Tensor conv2d_fused(const Tensor& x, const Tensor& weight, const Tensor& bias, const Tensor& residual,
                    Activation activation, const Conv2dOptions& options, const Tensor& packed = {});

/// The weight of a convolution in the order in which the kernels read it (transformed, for Winograd's tiles), so that
/// one that serves many times is not packed each time. Good for this process and for inputs of type `dtype` and of a
/// shape for which conv2d_path is the same as for x. Errors: those of conv2d.
Tensor pack_conv2d(const Shape& x, DType dtype, const Tensor& weight, const Conv2dOptions& options);

/// How conv2d computes for an input of this shape and type. Errors: those of conv2d.
ConvPath conv2d_path(const Shape& x, DType dtype, const Tensor& weight, const Conv2dOptions& options);

namespace detail {
/// The sizes of conv2d's operands and result. Errors: those of conv2d.
ConvGeometry conv_geometry(const Shape& x, DType dtype, const Tensor& weight, const Conv2dOptions& options);
}  // namespace detail

}  // namespace tl::inline TL_ABI

#if TL_HEADER_ONLY
#include "tl/ops/conv.inl"
#endif
