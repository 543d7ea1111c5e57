// What multiplies a tile of bfloat16 pairs: AMX, vdpbf16ps or vectors of float, chosen once at run time.
#pragma once
#include <cstdint>

#include "tl/core/dtype.hpp"

namespace tl::cpu {

/// out[rows, width] = a[rows, k] * b[k, width], b as a packed panel [k / 2, width, 2], width 16 or 32.
struct Bf16Tile {
  static constexpr int64_t kCols = 32, kUnitK = 32, kMostRows = 32;

  int64_t rows = 0;      // of a tile, at most
  int64_t row_unit = 1;  // a's rows are readable up to a multiple of this; what they hold there does not matter
  void (*multiply)(int64_t rows, int64_t k, const BFloat16* a, int64_t stride, const BFloat16* b, int64_t width,
                   float* out) = nullptr;
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
