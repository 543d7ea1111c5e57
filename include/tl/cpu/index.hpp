// Rows picked by index: gather, embedding, and their backward pass.
#pragma once
#include <cstdint>

namespace tl {

/// y[i, :] = x[index[i], :]; x is [rows, cols], y is [count, cols]. Indices are checked by the caller.
template <class T>
struct GatherRowsArgs {
  const T* x;
  const int32_t* index;
  T* y;
  int64_t count, rows, cols;
};

/// x[index[i], :] += y[i, :], in order of i. The row `skip` (padding) is left alone; -1 skips none.
template <class T>
struct ScatterAddRowsArgs {
  const T* y;
  const int32_t* index;
  T* x;
  int64_t count, rows, cols;
  int32_t skip;
};

}  // namespace tl
