// What multiplies a tile of bfloat16 pairs: AMX, vdpbf16ps or vectors of float, chosen once at run time.
#pragma once
#include <cstdint>

#include "tl/core/dtype.hpp"
#include "tl/cpu/gemm.hpp"

namespace tl::cpu {

/// Where a tile of sums goes: C = bounded(activation, sums + bias + residual), each only where there is one.
struct Bf16Store {
  BFloat16* c = nullptr;
  float* wide_c = nullptr;  // if given, sums go here instead
  bool rounds = true;       // what goes to wide_c
  int64_t stride = 0;       // from row to row of C, and of the residual
  const float* bias = nullptr;
  const BFloat16* residual = nullptr;
  Activation activation = Activation::none;  // none, relu or relu6
};

/// out[rows, width] = a[rows, k] * b[k, width], b as a packed panel [k / 2, width, 2], width 16 or 32.
struct Bf16Tile {
  static constexpr int64_t kCols = 32, kUnitK = 32, kMostRows = 32;

  int64_t rows = 0;         // of a tile, at most
  int64_t row_unit = 1;     // a's rows are readable up to a multiple of this; what they hold there does not matter
  int64_t k_unit = kUnitK;  // and so are its columns; there they hold zeros
  void (*multiply)(int64_t rows, int64_t k, const BFloat16* a, int64_t stride, const BFloat16* b, int64_t width,
                   float* out) = nullptr;
  // The first `cols` columns of the same, from registers to where they belong; null: by way of a buffer.
  void (*multiply_into)(int64_t rows, int64_t k, const BFloat16* a, int64_t stride, const BFloat16* b, int64_t cols,
                        const Bf16Store& out) = nullptr;
  void (*begin)() = nullptr;  // around a thread's tiles
  void (*end)() = nullptr;
};

/// Brackets the tiles that one thread multiplies in a row.
class Bf16Session {
 public:
  explicit Bf16Session(const Bf16Tile& tile) : tile_(tile) {
    if (tile_.begin) tile_.begin();
  }
  ~Bf16Session() {
    if (tile_.end) tile_.end();
  }
  Bf16Session(const Bf16Session&) = delete;
  Bf16Session& operator=(const Bf16Session&) = delete;

 private:
  const Bf16Tile& tile_;
};

}  // namespace tl::cpu
