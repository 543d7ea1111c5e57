// Reductions over one axis of [outer, axis, inner], and top-k.
#pragma once
#include <cstdint>

#include "tl/core/dtype.hpp"

namespace tl {

enum class Reduction : int { sum, mean, max, min };

/// y[outer, inner] = reduction of x[outer, axis, inner] over axis. Max and min also give the first place in `index`
/// (may be null), and a NaN wins. Sums are in blocks: the error grows slower than with the length. Any number of
/// threads gives the same bits.
template <class T>
struct ReduceArgs {
  Reduction reduction;
  const T* x;
  Wide<T>* y;
  int32_t* index;  // [outer, inner]
  int64_t outer, axis, inner;
};

/// The backward pass of max and min: grad_x[outer, axis, inner] = grad_y[outer, inner] at index, 0 elsewhere.
template <class T>
struct ScatterAxisArgs {
  const T* grad_y;
  const int32_t* index;
  T* grad_x;
  int64_t outer, axis, inner;
};

/// The k largest of each row of x [rows, cols], in descending order (ties: the lower index first).
template <class T>
struct TopKArgs {
  const T* x;
  T* values;       // [rows, k]
  int32_t* index;  // [rows, k]
  int64_t rows, cols, k;
};

}  // namespace tl
