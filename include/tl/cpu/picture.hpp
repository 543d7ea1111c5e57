// Antialiased resizing of pictures, with mirroring and normalisation on the way out.
#pragma once
#include <cstdint>

namespace tl {

/// Weights are integers in units of 2^-22: 8 bits of sample and 2 of headroom fill a 32-bit sum.
inline constexpr int kResizeWeightBits = 32 - 8 - 2;

/// One axis: out[i] = sum over k < count[i] of weights[i * stride + k] * in[first[i] + k], rounded to a byte. Weights
/// from count[i] on are zero; `most` is the largest count.
struct ResizeTaps {
  const int32_t *first, *count, *weights;
  int64_t size, stride, most;
};

/// Resizes x [height, width, channels] of bytes, along rows and along columns, each rounded to bytes.
///
/// What comes out, [rows.size, columns.size, channels], goes to `bytes`, or, of RGB pictures, normalised to `y`:
/// y[i, j, c] = values[c][sample from[c] of pixel j, or of columns.size - 1 - j if mirrored]. Either may be null.
template <class T>
struct ResizeArgs {
  const uint8_t* x = nullptr;
  int64_t pitch = 0;  // bytes from row to row of x
  int64_t height = 0, width = 0, channels = 0;
  ResizeTaps columns = {}, rows = {};
  bool columns_first = false;  // the pass along columns comes first
  uint8_t* bytes = nullptr;
  T* y = nullptr;
  const T (*values)[256] = nullptr;
  int from[3] = {0, 1, 2};
  bool mirrored = false;
};

}  // namespace tl
