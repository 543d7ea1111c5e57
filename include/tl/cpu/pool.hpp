// Pooling over windows and over whole pictures, NHWC.
#pragma once
#include <cstdint>

namespace tl {

/// Windows of kh x kw over x [n, h, w, c] -> y [n, oh, ow, c]. Places outside of the picture are skipped; average
/// pooling divides by the places inside or, when count_include_pad, also by those in the padding, which then is as wide
/// below and to the right (a window that ceil mode lets stick out further does not count what is beyond).
struct PoolGeometry {
  int64_t n, h, w, c, oh, ow, kh, kw, stride_h, stride_w, pad_top, pad_left;
  bool count_include_pad;
};

template <class T>
struct MaxPoolArgs {
  PoolGeometry geometry;
  const T* x;
  T* y;
  int32_t* index;  // [n, oh, ow, c]: place h * w of the maximum (the first one), or null when no gradient is wanted
};

template <class T>
struct MaxPoolBackwardArgs {
  PoolGeometry geometry;
  const T* grad_y;
  const int32_t* index;
  T* grad_x;
};

template <class T>
struct AvgPoolArgs {
  PoolGeometry geometry;
  const T* x;
  T* y;
};

template <class T>
struct AvgPoolBackwardArgs {
  PoolGeometry geometry;
  const T* grad_y;
  T* grad_x;
};

}  // namespace tl
