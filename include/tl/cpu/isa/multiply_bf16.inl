// Matrix products of bfloat16 numbers, summed in float: what multiply.inl is for float. Included once per instruction
// set (see bodies.inl).
//
// Numbers go in pairs along k, as vdpbf16ps and AMX take them. B is packed into panels of 32 columns, [k / 2, 32, 2];
// rows of A lie as they are, or are copied where they must be transposed, gathered or filled up with zeros. For each
// element of C the pairs are added in the order of k, so neither the split of m and n nor the number of threads changes
// a bit. What multiplies a tile is chosen at run time (see cpu/bf16_tile.hpp).

/// 16-bit numbers in the low halves of words.
typedef VecOf<float>::Words Words;
inline constexpr int64_t kWordLanes = VecOf<float>::kLanes;

template <class Count>
TL_ALWAYS_INLINE Words load_halves(const BFloat16* p, Count n) {
  return (Words)VecOf<float>::load(p, n).v >> 16;
}
template <class Count>
TL_ALWAYS_INLINE Words load_halves(const float* p, Count n) {
  BFloat16 rounded[kWordLanes];
  VecOf<float>::load(p, n).store(rounded);
  return load_halves(rounded, Whole{});
}

/// Two rows of halves, side by side: a word holds a number of `even` and the one of `odd` below it. A null row is zero.
template <class S, class Count>
TL_ALWAYS_INLINE Words pair_up(const S* even, const S* odd, Count n) {
  Words pair{};
  if (even) pair = load_halves(even, n);
  if (odd) pair |= load_halves(odd, n) << 16;
  return pair;
}
/// The same where any number of lanes may be left, or none.
template <class S>
TL_ALWAYS_INLINE Words pair_up_rest(const S* even, const S* odd, int64_t rest) {
  if (rest >= kWordLanes) return pair_up(even, odd, Whole{});
  return rest > 0 ? pair_up(even, odd, rest) : Words{};
}

/// Turns the pairs of kWordLanes rows and as many pairs along k around.
TL_ALWAYS_INLINE void transpose_pairs(VecOf<float> (&square)[kWordLanes]) {
  transpose<static_cast<int>(kWordLanes / 2)>(square);
}

/// Words that hold the numbers [0, count) of `from`, two each; zeros behind them.
template <class S>
TL_ALWAYS_INLINE VecOf<float> load_pairs(const S* from, int64_t count) {
  BFloat16 pairs[2 * kWordLanes] = {};
  for (int64_t half = 0; half < 2; ++half) {
    const int64_t rest = count - half * kWordLanes;
    if (rest >= kWordLanes) VecOf<float>::load(from + half * kWordLanes).store(pairs + half * kWordLanes);
    else if (rest > 0) VecOf<float>::load(from + half * kWordLanes, rest).store(pairs + half * kWordLanes);
  }
  VecOf<float> out;
  __builtin_memcpy(&out.v, pairs, sizeof out.v);
  return out;
}

inline void store_pairs(VecOf<float> pairs, BFloat16* to) { __builtin_memcpy(to, &pairs.v, sizeof pairs.v); }

/// How the right matrix lies when packed: blocks of columns one after the other, in each the blocks of k, in these
/// panels.
struct PairBlocking {
  static constexpr int64_t kPanel = Bf16Tile::kCols, kHalfPanel = kPanel / 2;
  static constexpr int64_t kUnitK = Bf16Tile::kUnitK;
  static constexpr int64_t kBlockK = 2048, kBlockBytes = int64_t(4) << 20;

  int64_t n, k, block_k, block_n;

  /// With `cut_k` sums go on from block to block, which needs a C of float.
  PairBlocking(int64_t cols, int64_t depth, bool cut_k)
      : n(cols), k(depth), block_k(round_up(std::max<int64_t>(depth, 1), kUnitK)) {
    if (cut_k) block_k = std::min(block_k, kBlockK);
    block_n = std::max<int64_t>(kBlockBytes / 2 / block_k / kPanel, 1) * kPanel;
  }

  static int64_t panel_width(int64_t cols_left) { return cols_left > kHalfPanel ? kPanel : kHalfPanel; }
  int64_t cols_at(int64_t col_first) const { return std::min(block_n, n - col_first); }
  int64_t rows_at(int64_t k_first) const { return std::min(block_k, k - k_first); }
  /// Where the block of columns begins in a matrix packed whole (whose k is not cut).
  int64_t offset(int64_t col_first) const { return col_first * block_k; }
};

/// A unit of rows, from row `first` on, of the panels [padded, cols]; rows[i] is where row first + i of B lies, null
/// behind the last one.
template <class S>
void pack_pair_unit(int64_t first, int64_t padded, int64_t cols, BFloat16* packed, const S* const* rows) {
  for (int64_t col = 0; col < cols; col += PairBlocking::kPanel) {
    const int64_t width = PairBlocking::panel_width(cols - col);
    BFloat16* to = packed + col * padded + first * width;
    for (int64_t p = 0; p < PairBlocking::kUnitK; p += 2, to += 2 * width) {
      const S *const even = rows[p], *const odd = rows[p + 1];
      for (int64_t j = 0; j < width; j += kWordLanes) {
        const int64_t at = col + j;
        const Words pair = pair_up_rest(even ? even + at : nullptr, odd ? odd + at : nullptr, cols - at);
        __builtin_memcpy(to + 2 * j, &pair, sizeof pair);
      }
    }
  }
}

/// Columns [col_first, col_first + cols) of a right matrix, rows [k_first, k_first + k_count), as panels.
template <class Right>
void pack_pairs(const Right& right, int64_t k_first, int64_t k_count, int64_t col_first, int64_t cols,
                BFloat16* packed) {
  constexpr int64_t kUnit = PairBlocking::kUnitK;
  const int64_t padded = round_up(k_count, kUnit);
  decltype(right.row(0)) rows[kUnit];
  for (int64_t first = 0; first < padded; first += kUnit) {
    for (int64_t p = 0; p < kUnit; ++p)
      rows[p] = first + p < k_count ? right.row(k_first + first + p) + col_first : nullptr;
    pack_pair_unit(first, padded, cols, packed, rows);
  }
}

template <class S>
void pack_pairs(const ColsRight<S>& right, int64_t k_first, int64_t k_count, int64_t col_first, int64_t cols,
                BFloat16* packed) {
  const int64_t padded = round_up(k_count, PairBlocking::kUnitK);
  for (int64_t col = 0; col < cols; col += PairBlocking::kPanel) {
    const int64_t width = PairBlocking::panel_width(cols - col);
    for (int64_t j = 0; j < width; j += kWordLanes)
      for (int64_t p = 0; p < padded; p += 2 * kWordLanes) {
        VecOf<float> square[kWordLanes];
        for (int64_t i = 0; i < kWordLanes; ++i) {
          const int64_t column = col + j + i;
          square[i] = column < cols
                          ? load_pairs(right.b + (col_first + column) * right.stride + k_first + p, k_count - p)
                          : VecOf<float>(0);
        }
        transpose_pairs(square);
        const int64_t pairs = std::min(kWordLanes, (padded - p) / 2);
        for (int64_t i = 0; i < pairs; ++i) store_pairs(square[i], packed + col * padded + (p + 2 * i) * width + 2 * j);
      }
  }
}

/// Rows of A for a tile: k lies side by side, padded with zeros to whole units of the tile's.
struct PairRows {
  const BFloat16* data;
  int64_t stride;
};

/// Copies kept for tiles: `rows` rows of k_count numbers, `stride` apart.
struct PairBuffer {
  BFloat16* data;
  int64_t stride, k_count, k_unit;

  /// Zeros behind each row, up to a whole unit.
  void finish(int64_t rows) const {
    for (int64_t i = 0; i < rows; ++i)
      std::fill(data + i * stride + k_count, data + i * stride + round_up(k_count, k_unit), BFloat16{});
  }
};

inline PairRows pair_rows(const StridedLeft<BFloat16>& left, int64_t first, int64_t count, int64_t k_first,
                          const PairBuffer& buffer, bool in_place) {
  const BFloat16* const from = left.a + first * left.row_stride + k_first * left.k_stride;
  const int64_t k_count = buffer.k_count;
  if (left.k_stride == 1) {
    constexpr int64_t kHalfOfTheSets = 1024;  // rows this far apart share cache sets
    if (in_place && k_count % buffer.k_unit == 0 && left.row_stride % kHalfOfTheSets != 0)
      return {from, left.row_stride};
    for (int64_t i = 0; i < count; ++i)
      std::copy_n(from + i * left.row_stride, k_count, buffer.data + i * buffer.stride);
    buffer.finish(count);
  } else {  // [k, m]
    for (int64_t i = 0; i < count; i += kWordLanes)
      for (int64_t p = 0; p < k_count; p += 2 * kWordLanes) {
        const int64_t rows = std::min(kWordLanes, count - i);
        VecOf<float> square[kWordLanes];
        const auto row = [&](int64_t at) { return at < k_count ? from + at * left.k_stride + i : nullptr; };
        for (int64_t q = 0; q < kWordLanes; ++q)
          square[q].v = (VecOf<float>::Native)pair_up_rest(row(p + 2 * q), row(p + 2 * q + 1), rows);
        transpose_pairs(square);
        const int64_t width = std::min(2 * kWordLanes, round_up(k_count, buffer.k_unit) - p);
        for (int64_t q = 0; q < rows; ++q)
          __builtin_memcpy(buffer.data + (i + q) * buffer.stride + p, &square[q].v,
                           static_cast<size_t>(width) * sizeof(BFloat16));
      }
  }
  return {buffer.data, buffer.stride};
}

/// A left matrix that is gathered.
template <class Left>
PairRows pair_rows(const Left& left, int64_t first, int64_t count, int64_t k_first, const PairBuffer& buffer, bool) {
  left.copy_rows(first, count, k_first, buffer.k_count, buffer.data, buffer.stride);
  buffer.finish(count);
  return {buffer.data, buffer.stride};
}

/// The same as for float, with bias and sums of float.
template <class Rows>
struct StoreTiles<BFloat16, Rows> {
  BFloat16* c;
  Rows place;
  float alpha = 1, beta = 0;
  const float* bias = nullptr;
  const BFloat16* residual = nullptr;
  Activation activation = Activation::none;
  float* wide_c = nullptr;  // if given, the rounded results go here instead, as floats; then beta is 0
};

template <class Rows, class Count>
TL_ALWAYS_INLINE void put_sums(const StoreTiles<float, Rows>& result, VecOf<float> value, int64_t at, Count n) {
  value.store(result.c + at, n);
}
template <class Rows, class Count>
TL_ALWAYS_INLINE void put_sums(const StoreTiles<BFloat16, Rows>& result, VecOf<float> value, int64_t at, Count n) {
  if (!result.wide_c) return value.store(result.c + at, n);
  BFloat16 halves[VecOf<float>::kLanes];
  value.store(halves);
  VecOf<float>::load(halves).store(result.wide_c + at, n);
}

/// Whether tiles go from registers to where they belong, without a buffer.
template <class C, class Rows>
bool goes_straight(const Bf16Tile& tile, const StoreTiles<C, Rows>& result) {
  const bool plain = result.alpha == 1 && result.beta == 0 && result.activation <= Activation::relu6;
  return tile.multiply_into && plain && std::is_same_v<Rows, EvenRows> &&
         (std::is_same_v<C, BFloat16> || !result.residual);
}

template <class C, class Rows>
Bf16Store store_of(const StoreTiles<C, Rows>& result, int64_t row, int64_t col) {
  const int64_t at = result.place.offset(row) + col;
  Bf16Store out{.stride = result.place.offset(1),
                .bias = result.bias ? result.bias + col : nullptr,
                .activation = result.activation};
  if constexpr (std::is_same_v<C, float>) {
    out.wide_c = result.c + at;
    out.rounds = false;
  } else {
    if (result.wide_c) out.wide_c = result.wide_c + at;
    else out.c = result.c + at;
    out.residual = result.residual ? result.residual + at : nullptr;
  }
  return out;
}

/// Stores a tile of sums [rows, width].
template <class C, class Rows>
void store_pair_tile(const StoreTiles<C, Rows>& result, float* tile, int64_t width, int64_t row_first, int64_t rows,
                     int64_t col_first, int64_t cols, bool first_block, bool last_block) {
  using V = VecOf<float>;
  const V scale(result.alpha), kept(first_block ? result.beta : 1.0f);
  const bool reads = !first_block || result.beta != 0;
  const bool plain = !last_block || (!result.bias && !result.residual && result.activation == Activation::none);
  for (int64_t i = 0; i < rows; ++i) {
    const int64_t at = result.place.offset(row_first + i) + col_first;
    float* const row = tile + i * width;
    if (plain && !reads) {
      for_each_vector<float>(
          0, cols, [&](int64_t j, auto n) TL_INLINE_LAMBDA { put_sums(result, V::load(row + j) * scale, at + j, n); });
      continue;
    }
    for_each_vector<float>(0, cols, [&](int64_t j, auto n) TL_INLINE_LAMBDA {
      V sum = V::load(row + j) * scale;
      if (reads) sum = fma(kept, V::load(result.c + at + j, n), sum);
      if (!plain) {
        if (result.bias) sum += V::load(result.bias + col_first + j, n);
        if (result.residual) sum += V::load(result.residual + at + j, n);
        sum = bounded(result.activation, sum);
      }
      sum.store(row + j);
    });
    if (!plain) smooth_in_place(result.activation, row, cols);
    for_each_vector<float>(0, cols,
                           [&](int64_t j, auto n) TL_INLINE_LAMBDA { put_sums(result, V::load(row + j), at + j, n); });
  }
}

/// A tile by vectors of float, where the machine has nothing for pairs: one product for each half.
template <int kRows>
TL_NOINLINE void multiply_pairs_rows(int64_t pairs, const BFloat16* a, int64_t stride, const BFloat16* b, int64_t width,
                                     float* out) {
  constexpr int kVectors = 2;
  using V = VecOf<float>;
  const auto low = [](Words w) TL_INLINE_LAMBDA { return V((V::Native)(w << 16)); };
  const auto high = [](Words w) TL_INLINE_LAMBDA { return V((V::Native)(w & 0xffff0000u)); };
  for (int64_t col = 0; col < width; col += kVectors * kWordLanes) {
    V sums[kRows][kVectors];
    TL_UNROLL
    for (int i = 0; i < kRows; ++i) {
      TL_UNROLL
      for (int v = 0; v < kVectors; ++v) sums[i][v] = V(0);
    }
    for (int64_t p = 0; p < pairs; ++p) {
      Words right[kVectors];
      __builtin_memcpy(right, b + 2 * (p * width + col), sizeof right);
      TL_UNROLL
      for (int i = 0; i < kRows; ++i) {
        uint32_t left;
        __builtin_memcpy(&left, a + i * stride + 2 * p, sizeof left);
        const Words both = left - Words{};
        TL_UNROLL
        for (int v = 0; v < kVectors; ++v)
          sums[i][v] = fma(high(both), high(right[v]), fma(low(both), low(right[v]), sums[i][v]));
      }
    }
    TL_UNROLL
    for (int i = 0; i < kRows; ++i) {
      TL_UNROLL
      for (int v = 0; v < kVectors; ++v) sums[i][v].store(out + i * width + col + v * kWordLanes);
    }
  }
}

inline void multiply_pairs_tile(int64_t rows, int64_t k, const BFloat16* a, int64_t stride, const BFloat16* b,
                                int64_t width, float* out) {
  const int64_t pairs = k / 2;
  int64_t i = 0;
  for (; i + 4 <= rows; i += 4) multiply_pairs_rows<4>(pairs, a + i * stride, stride, b, width, out + i * width);
  for (; i < rows; ++i) multiply_pairs_rows<1>(pairs, a + i * stride, stride, b, width, out + i * width);
}

/// One product, block by block.
template <class Left, class Right, class Result, class C>
struct PairProduct {
  static constexpr int64_t kPanel = PairBlocking::kPanel;
  static constexpr int64_t kWorthAThread = 1 << 18;  // products that outweigh waking a thread
  static constexpr int64_t kLeftBytes = 192 * 1024;  // rows of A that stay in the second cache
  static constexpr bool kPacked = std::is_same_v<Right, PackedRight<BFloat16>>;
  static constexpr bool kCutK = !kPacked && std::is_same_v<C, float>;

  int64_t m, n, k;
  const Left& left;
  const Right& right;
  const Result& result;

  void run() const {
    const Bf16Tile tile = bf16_tile({.rows = 4, .multiply = &multiply_pairs_tile});
    const PairBlocking blocking(n, k, kCutK);
    const int64_t most = std::clamp<int64_t>(kLeftBytes / 2 / blocking.block_k / tile.rows, 1, 32) * tile.rows;
    const int64_t fewest_groups = divide_up(m, most), wanted_tasks = 4 * threads();
    for (int64_t col_first = 0; col_first < n; col_first += blocking.block_n) {
      const int64_t cols = blocking.cols_at(col_first), panels = divide_up(cols, kPanel);
      const int64_t chunks = std::clamp<int64_t>(divide_up(wanted_tasks, fewest_groups), 1, panels);
      const int64_t groups =
          std::max(fewest_groups, std::min(divide_up(wanted_tasks, chunks), divide_up(m, tile.rows)));
      int64_t k_first = 0;
      do {
        const int64_t k_count = blocking.rows_at(k_first), padded = round_up(k_count, PairBlocking::kUnitK);
        const BFloat16* packed;
        if constexpr (kPacked) packed = right.panels + blocking.offset(col_first);
        else packed = pack_block(k_first, k_count, col_first, cols);
        const int64_t task_size = std::max<int64_t>(m * cols * padded / (groups * chunks), 1);
        parallel_for(groups * chunks, std::max<int64_t>(kWorthAThread / task_size, 1),
                     [&](int64_t first, int64_t last) {
                       const Bf16Session session(tile);
                       for (int64_t task = first; task < last; ++task) {
                         const int64_t group = task % groups, chunk = task / groups;
                         const int64_t row_panels = divide_up(m, tile.rows);
                         const int64_t row_first = row_panels * group / groups * tile.rows;
                         const int64_t row_last = std::min(m, row_panels * (group + 1) / groups * tile.rows);
                         multiply(tile, row_first, row_last - row_first, k_first, k_count, packed, col_first, cols,
                                  panels * chunk / chunks, panels * (chunk + 1) / chunks);
                       }
                     });
        k_first += k_count;
      } while (k_first < k);
    }
  }

  const BFloat16* pack_block(int64_t k_first, int64_t k_count, int64_t col_first, int64_t cols) const {
    const int64_t padded = round_up(k_count, PairBlocking::kUnitK), panels = divide_up(cols, kPanel);
    BFloat16* const out = scratch(ScratchUse::pack_b).get<BFloat16>(padded * panels * kPanel);
    const int64_t grain = std::max<int64_t>((1 << 14) / (std::max<int64_t>(padded, 1) * kPanel), 1);
    parallel_for(panels, grain, [&](int64_t first, int64_t last) {
      const int64_t col = first * kPanel;
      pack_pairs(right, k_first, k_count, col_first + col, std::min(last * kPanel, cols) - col, out + col * padded);
    });
    return out;
  }

  void multiply(const Bf16Tile& tile, int64_t row_first, int64_t rows, int64_t k_first, int64_t k_count,
                const BFloat16* packed, int64_t col_first, int64_t cols, int64_t panel_first,
                int64_t panel_last) const {
    const int64_t padded = round_up(k_count, PairBlocking::kUnitK), stride = copied_stride<BFloat16>(padded);
    BFloat16* const buffer = scratch(ScratchUse::pack_a).get<BFloat16>(round_up(rows, tile.rows) * stride);
    const PairRows view =
        pair_rows(left, row_first, rows, k_first, {buffer, stride, k_count, tile.k_unit}, rows % tile.row_unit == 0);
    const int64_t depth = round_up(k_count, tile.k_unit);
    const bool first_block = k_first == 0, last_block = k_first + k_count == k;
    const bool straight = first_block && last_block && goes_straight(tile, result);
    alignas(64) float sums[Bf16Tile::kMostRows * kPanel];
    for (int64_t panel = panel_first; panel < panel_last; ++panel) {
      const int64_t col = panel * kPanel, width = PairBlocking::panel_width(cols - col);
      const int64_t count = std::min(width, cols - col);
      const BFloat16* const right_panel = packed + col * padded;
      for (int64_t row = 0; row < rows; row += tile.rows) {
        const int64_t height = std::min(tile.rows, rows - row);
        const BFloat16* const a = view.data + row * view.stride;
        if (straight) {
          tile.multiply_into(height, depth, a, view.stride, right_panel, count,
                             store_of(result, row_first + row, col_first + col));
          continue;
        }
        tile.multiply(height, depth, a, view.stride, right_panel, width, sums);
        store_pair_tile(result, sums, width, row_first + row, height, col_first + col, count, first_block, last_block);
      }
    }
  }
};

template <class Left, class Right, class C, class Rows>
void multiply_pairs(int64_t m, int64_t n, int64_t k, const Left& left, const Right& right,
                    const StoreTiles<C, Rows>& result) {
  if (m <= 0 || n <= 0) return;
  PairProduct<Left, Right, StoreTiles<C, Rows>, C>{m, n, k, left, right, result}.run();
}

/// Packs all of a right matrix for products by PackedRight, gemm_packed_size(n, k) numbers.
template <class Right>
void pack_right(int64_t n, int64_t k, const Right& right, BFloat16* panels) {
  constexpr int64_t kPanel = PairBlocking::kPanel;
  const PairBlocking blocking(n, k, false);
  const int64_t across = divide_up(n, kPanel);
  parallel_for(across, 1, [&](int64_t first, int64_t last) {
    for (int64_t panel = first; panel < last; ++panel) {
      const int64_t col = panel * kPanel;
      pack_pairs(right, 0, k, col, std::min(kPanel, n - col), panels + col * blocking.block_k);
    }
  });
}

constexpr int64_t packed_rows(const BFloat16*) { return PairBlocking::kUnitK; }
constexpr int64_t packed_cols(const BFloat16*) { return PairBlocking::kPanel; }

inline void pack_some_rows(int64_t n, int64_t k, const float* from, int64_t stride, int64_t first, int64_t count,
                           BFloat16* packed) {
  const float* rows[PairBlocking::kUnitK];
  for (int64_t p = 0; p < PairBlocking::kUnitK; ++p) rows[p] = p < count ? from + p * stride : nullptr;
  pack_pair_unit(first, PairBlocking(n, k, false).block_k, n, packed, rows);
}

inline void pack_some_cols(int64_t n, int64_t k, const float* from, int64_t stride, int64_t first, int64_t count,
                           BFloat16* packed) {
  pack_pairs(ColsRight<float>{from, stride}, 0, k, 0, count, packed + first * PairBlocking(n, k, false).block_k);
}
