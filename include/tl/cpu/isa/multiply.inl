// The core of all matrix products: C[m, n] = A[m, k] * B[k, n], for matrices that need not exist in memory.
//
// C is formed in tiles that stay in registers while k runs. For each element the products are added in the order of k,
// in blocks whose length follows from k alone, so neither the split of m and n nor the number of threads changes a bit.
//   Left    gives rows of A for a range of k, from where they lie or copied into a buffer (a gather, for convolutions);
//   Right   packs a range of B into panels as wide as a tile;
//   Result  takes finished tiles: whole ones from registers where takes_sums(), else from a buffer.

/// The tile: its accumulators, the vectors of B and one number of A fill the registers of this instruction set.
template <class T>
struct Tile {
  static constexpr int kRows = TL_VECTOR_BYTES == 64 ? 14 : TL_VECTOR_BYTES == 32 ? 6 : 4;
  static constexpr int kVectors = 2;
  static constexpr int64_t kLanes = Vec<T>::kLanes, kCols = kVectors * kLanes;
};

constexpr int64_t divide_up(int64_t a, int64_t b) { return (a + b - 1) / b; }
constexpr int64_t round_up(int64_t a, int64_t b) { return divide_up(a, b) * b; }

/// How wide the panel is that begins where `cols_left` columns are left.
template <class T>
constexpr int64_t panel_width(int64_t cols_left) {
  return cols_left > Tile<T>::kLanes ? Tile<T>::kCols : Tile<T>::kLanes;
}

/// Some rows of A: element (i, p) is at data[i * row_stride + p * k_stride].
template <class T>
struct RowView {
  const T* data;
  int64_t row_stride, k_stride;
  // The rows that follow, if they are worth fetching while these are used: in `shares`, `next_stride` apart, of one
  // tile each, which fetches every `next_step`-th element.
  const T* next = nullptr;
  int64_t shares = 0, next_stride = 0, next_step = 1;
};

/// What a tile fetches for later: `step` elements from `data` on in each step of k.
template <class T>
struct Ahead {
  const T* data;
  int64_t step;
};

/// Where a tile of sums goes: C = bounded(activation, sums + C + bias + residual), each only where there is one.
template <class T>
struct TileStore {
  T* c = nullptr;
  int64_t stride = 0;                            // from row to row of C, and of the residual
  bool adds = false;                             // to what C holds
  const T *bias = nullptr, *residual = nullptr;  // those of the tile
  Activation activation = Activation::none;      // one that needs more than bounds is left to others
};

/// The distance of rows that are copied side by side: an odd number of cache lines, lest they share cache sets.
template <class T>
constexpr int64_t copied_stride(int64_t k) {
  constexpr int64_t kLine = 64 / static_cast<int64_t>(sizeof(T));
  return (divide_up(k, kLine) | 1) * kLine;
}

/// Applies change(sum, row, vector) to all sums of a tile.
template <class T, int kRows, int kVectors, class Change>
TL_ALWAYS_INLINE void change_sums(VecOf<T> (&sums)[kRows][kVectors], const Change& change) {
  TL_UNROLL
  for (int i = 0; i < kRows; ++i) {
    TL_UNROLL
    for (int v = 0; v < kVectors; ++v) sums[i][v] = change(sums[i][v], i, v);
  }
}

/// a[kRows, k] * b[k, kVectors * lanes], stored as `out` says; rows of b are `b_step` apart.
template <class T, int kRows, int kVectors>
TL_NOINLINE void multiply_tile(int64_t k, const RowView<T>& a, Ahead<T> ahead, const T* b, int64_t b_step,
                               const TileStore<T>& out) {
  constexpr int64_t kLanes = Vec<T>::kLanes;
  constexpr int kGroup = 5;  // rows 0 to 4 of a group are addressed as base + {0, 1, 2, 3, 4} * stride
  Vec<T> sums[kRows][kVectors];
  const T* group[(kRows + kGroup - 1) / kGroup];
  TL_UNROLL
  for (int i = 0; i < kRows; ++i) {
    TL_UNROLL
    for (int v = 0; v < kVectors; ++v) sums[i][v] = Vec<T>(T(0));
  }
  TL_UNROLL
  for (int g = 0; g * kGroup < kRows; ++g) group[g] = a.data + g * kGroup * a.row_stride;
  const int64_t row_stride = a.row_stride, k_stride = a.k_stride, stride = out.stride;
  // The rows below, which are next, are fetched as well, one in each of the first steps: many at once hold up what
  // follows.
  T* below = out.c + kRows * stride;
  int64_t below_step = stride, steps = std::min<int64_t>(k, kRows);
  for (k -= steps; steps > 0; steps = std::exchange(k, 0), below_step = 0) {
    for (; steps > 0; --steps) {
      __builtin_prefetch(ahead.data);
      ahead.data += ahead.step;
      TL_UNROLL
      for (int v = 0; v < kVectors; ++v) __builtin_prefetch(below + v * kLanes, 1);
      below += below_step;
      Vec<T> right[kVectors];
      TL_UNROLL
      for (int v = 0; v < kVectors; ++v) right[v] = Vec<T>::load(b + v * kLanes);
      TL_UNROLL
      for (int i = 0; i < kRows; ++i) {
        const Vec<T> left(group[i / kGroup][i % kGroup * row_stride]);
        TL_UNROLL
        for (int v = 0; v < kVectors; ++v) sums[i][v] = fma(left, right[v], sums[i][v]);
      }
      TL_UNROLL
      for (int g = 0; g * kGroup < kRows; ++g) group[g] += k_stride;
      b += b_step;
    }
  }
  T* row = out.c;
  if (out.adds)
    change_sums(sums, [=](Vec<T> sum, int i, int v)
                          TL_INLINE_LAMBDA { return sum + Vec<T>::load(row + i * stride + v * kLanes); });
  if (const T* const bias = out.bias)
    change_sums(sums, [=](Vec<T> sum, int, int v) TL_INLINE_LAMBDA { return sum + Vec<T>::load(bias + v * kLanes); });
  if (const T* const residual = out.residual)
    change_sums(sums, [=](Vec<T> sum, int i, int v)
                          TL_INLINE_LAMBDA { return sum + Vec<T>::load(residual + i * stride + v * kLanes); });
  if (out.activation == Activation::relu)
    change_sums(sums, [](Vec<T> sum, int, int) TL_INLINE_LAMBDA { return relu_fn::value(sum); });
  else if (out.activation == Activation::relu6)
    change_sums(sums, [](Vec<T> sum, int, int) TL_INLINE_LAMBDA { return relu6_fn::value(sum); });
  TL_UNROLL
  for (int i = 0; i < kRows; ++i, row += stride) {
    TL_UNROLL
    for (int v = 0; v < kVectors; ++v) sums[i][v].store(row + v * kLanes);
  }
}

template <class T>
using MultiplyTile = void (*)(int64_t k, const RowView<T>& a, Ahead<T> ahead, const T* b, int64_t b_step,
                              const TileStore<T>& out);

/// multiply_tile for each number of rows, so that the rows at the end cost no more than they are.
template <class T, int kVectors, int... kRowsLessOne>
constexpr MultiplyTile<T> pick_multiply_tile(int64_t rows, std::integer_sequence<int, kRowsLessOne...>) {
  constexpr MultiplyTile<T> kTiles[] = {&multiply_tile<T, kRowsLessOne + 1, kVectors>...};
  return kTiles[rows - 1];
}
template <class T>
MultiplyTile<T> pick_multiply_tile(int64_t rows, int64_t width) {
  constexpr auto kHeights = std::make_integer_sequence<int, Tile<T>::kRows>{};
  return width == Tile<T>::kCols ? pick_multiply_tile<T, 2>(rows, kHeights) : pick_multiply_tile<T, 1>(rows, kHeights);
}

/// How the right matrix [k, n] is cut: along k, so that tiles of A stay in the first cache, and along n, so that a
/// packed block stays in the second. Blocks follow each other in memory, those of one range of columns in the order of
/// k; in a block lie panels, each [rows of the block, width].
template <class T>
struct Blocking {
  static constexpr int64_t kBlockK = 384, kBlockBytes = 640 * 1024;

  int64_t n, k, block_k, block_n;

  Blocking(int64_t cols, int64_t depth) : n(cols), k(depth) {
    const auto even_share = [](int64_t size, int64_t most, int64_t unit) {
      return round_up(divide_up(std::max<int64_t>(size, 1), std::max<int64_t>(divide_up(size, most), 1)), unit);
    };
    block_k = even_share(k, kBlockK, 8);
    const int64_t most = kBlockBytes / static_cast<int64_t>(sizeof(T)) / block_k;
    block_n = even_share(n, std::max(most / Tile<T>::kCols, int64_t(1)) * Tile<T>::kCols, Tile<T>::kCols);
  }

  int64_t cols_at(int64_t col_first) const { return std::min(block_n, n - col_first); }
  int64_t rows_at(int64_t k_first) const { return std::min(block_k, k - k_first); }
  int64_t offset(int64_t col_first, int64_t k_first) const {
    return col_first * k + round_up(cols_at(col_first), Tile<T>::kLanes) * k_first;
  }
};

/// Columns past the last whole vector that are few enough to be dot products along k, rather than a vector of their
/// own.
template <class T>
constexpr int64_t kMostDots = Tile<T>::kLanes / 4;

/// One column of a tile, kRows rows of it: dot products of rows of A, which lie along k, with the numbers of `column`.
template <class T, int kRows>
TL_ALWAYS_INLINE void dot_rows(int64_t k, const T* a, int64_t a_stride, const T* column, T* out, int64_t out_stride) {
  Vec<T> sums[kRows];
  TL_UNROLL
  for (int i = 0; i < kRows; ++i) sums[i] = Vec<T>(T(0));
  for_each_vector<T>(0, k, [&](int64_t p, auto n) TL_INLINE_LAMBDA {
    const auto right = Vec<T>::load(column + p, n);
    TL_UNROLL
    for (int i = 0; i < kRows; ++i) sums[i] = fma(Vec<T>::load(a + i * a_stride + p, n), right, sums[i]);
  });
  TL_UNROLL
  for (int i = 0; i < kRows; ++i) out[i * out_stride] = sum(sums[i]);
}

/// The first `cols` columns of a tile `out`, as dot products with columns of a panel whose rows are `b_step` apart.
template <class T>
TL_NOINLINE void multiply_dots(int64_t rows, int64_t cols, int64_t k, const RowView<T>& a, const T* b, int64_t b_step,
                               T* out, int64_t out_stride) {
  constexpr int kRows = 4;
  constexpr int64_t kColumn = Blocking<T>::kBlockK;
  alignas(64) T columns[std::max<int64_t>(kMostDots<T>, 1) * kColumn];
  for (int64_t p = 0; p < k; ++p)
    for (int64_t j = 0; j < cols; ++j) columns[j * kColumn + p] = b[p * b_step + j];
  for (int64_t j = 0; j < cols; ++j) {
    const T* const column = columns + j * kColumn;
    int64_t i = 0;
    for (; i + kRows <= rows; i += kRows)
      dot_rows<T, kRows>(k, a.data + i * a.row_stride, a.row_stride, column, out + i * out_stride + j, out_stride);
    for (; i < rows; ++i) dot_rows<T, 1>(k, a.data + i * a.row_stride, 0, column, out + i * out_stride + j, out_stride);
  }
}

/// A right matrix that was packed whole, by pack_right.
template <class T>
struct PackedRight {
  const T* panels;
};

/// One product, block by block: of each, first all of B is packed, then tasks multiply, each some rows of A with some
/// columns. Threads take these steps in this order, and wait only for what a step needs: so they meet once, at the end,
/// and the one that is done with a block packs the next while others still multiply.
template <class T, class Left, class Right, class Result>
struct Product {
  static constexpr int64_t kLanes = Tile<T>::kLanes, kRows = Tile<T>::kRows, kCols = Tile<T>::kCols;
  static constexpr bool kPacks = !std::is_same_v<Right, PackedRight<T>>;
  static constexpr int64_t kPackUnit = 16;           // rows of B that are packed together, at least
  static constexpr int64_t kWorthAStep = 1 << 14;    // numbers of B to pack
  static constexpr int64_t kWorthAThread = 1 << 17;  // products that outweigh waking a thread

  int64_t m, n, k;
  const Left& left;
  const Right& right;
  const Result& result;
  int64_t col_origin = 0;  // the first of the n columns, in `right` and `result`

  const Blocking<T> blocking{n, k};
  const int64_t blocks_down = std::max<int64_t>(divide_up(k, blocking.block_k), 1);
  const int64_t blocks = divide_up(n, blocking.block_n) * blocks_down;
  const int64_t ways = std::clamp<int64_t>(m * n * k / kWorthAThread, 1, threads_here());
  int64_t row_panels = 0, chunks = 0;  // tasks: panels of rows times chunks of columns
  int64_t packs = 0, slice = 0;        // steps that pack a block, and their rows of B
  T* buffers[2] = {};                  // for packed blocks, in turn
  std::atomic<int64_t> next{0}, packed{0}, multiplied{0};
  std::atomic<bool> failed{false};

  void run() {
    const int64_t cols = std::min(blocking.block_n, n), wanted_tasks = 32 * ways;
    row_panels = divide_up(m, kRows);
    chunks = std::clamp<int64_t>(divide_up(wanted_tasks, row_panels), 1, divide_up(cols, kCols));
    if constexpr (kPacks) {
      slice = round_up(divide_up(kWorthAStep, cols), kPackUnit);
      packs = divide_up(blocking.block_k, slice);
      const int64_t size = blocking.block_k * blocking.block_n;
      const bool takes_turns = ways > 1 && blocks > 1;
      buffers[0] = scratch(ScratchUse::pack_b).get<T>(takes_turns ? 2 * size : size);
      buffers[1] = takes_turns ? buffers[0] + size : buffers[0];
    }
    parallel_for(ways, 1, [this](int64_t, int64_t) { take_steps(); });
  }

  void take_steps() {
    try {
      T* const buffer =
          scratch(ScratchUse::pack_a).get<T>(std::max(kRows, Vec<T>::kLanes) * copied_stride<T>(blocking.block_k));
      const auto halvings = static_cast<int64_t>(std::bit_width(static_cast<uint64_t>(row_panels * chunks)));
      const int64_t runs = ways * halvings, steps = packs + runs;
      for (int64_t step = next++; step < blocks * steps; step = next++) {
        const int64_t block = step / steps, place = step % steps;
        if (place < packs) {
          wait_for(multiplied, (block - 1) * runs);  // the former content of the buffer
          if constexpr (kPacks) pack(block, place);
          packed.fetch_add(1, std::memory_order_release);
        } else {
          wait_for(packed, (block + 1) * packs);
          wait_for(multiplied, block * runs);
          run_tasks(block, place - packs, buffer);
          multiplied.fetch_add(1, std::memory_order_release);
        }
      }
    } catch (...) {
      failed = true;
      throw;
    }
  }

  /// Steps before this one are taken, and so will be done, unless one fails: then nobody looks at the result.
  void wait_for(const std::atomic<int64_t>& done, int64_t count) const {
    for (int turn = 0; done.load(std::memory_order_acquire) < count && !failed; ++turn) wait_a_moment(turn);
  }

  struct Block {
    int64_t col_first, cols, k_first, k_count;
  };
  Block block_at(int64_t index) const {
    const int64_t col = index / blocks_down * blocking.block_n, row = index % blocks_down * blocking.block_k;
    return {col, blocking.cols_at(col), row, blocking.rows_at(row)};
  }

  void pack(int64_t index, int64_t part) const {
    const Block block = block_at(index);
    const int64_t row = part * slice, count = std::min(slice, block.k_count - row);
    if (count > 0)
      right.pack(block.k_first + row, count, col_origin + block.col_first, block.cols, buffers[index % 2], row,
                 block.k_count);
  }

  /// Each thread gets half of its share in one run, then half of what is left: neighbours, which fetch for each other,
  /// and small ones at the end, which come out even.
  void run_tasks(int64_t block, int64_t run, T* buffer) const {
    const int64_t tasks = row_panels * chunks, left_before = tasks >> (run / ways), left_after = left_before / 2;
    const int64_t taken = left_before - left_after, first = tasks - left_before, i = run % ways;
    for (int64_t task = first + taken * i / ways; task < first + taken * (i + 1) / ways; ++task)
      multiply(block, task, buffer);
  }

  /// How many of a panel's `count` columns are dot products: these need A along k, and enough of it to be worth it.
  static int64_t dot_columns(int64_t count, const RowView<T>& view, int64_t k_count) {
    const int64_t rest = count % kLanes;
    return rest <= kMostDots<T> && view.k_stride == 1 && k_count >= 4 * kLanes ? rest : 0;
  }

  void multiply(int64_t index, int64_t task, T* buffer) const {
    const auto [col_first, cols, k_first, k_count] = block_at(index);
    const T* panels;
    if constexpr (kPacks) panels = buffers[index % 2];
    else panels = right.panels + blocking.offset(col_first, k_first);
    alignas(64) T tile[kRows * kCols];
    const int64_t col_panels = divide_up(cols, kCols), panel = task % row_panels, chunk = task / row_panels;
    const int64_t row = m * panel / row_panels, rows = m * (panel + 1) / row_panels - row;
    const int64_t panel_first = col_panels * chunk / chunks, panel_last = col_panels * (chunk + 1) / chunks;
    if (panel_first == panel_last) return;
    const RowView<T> view = left.rows(row, rows, k_first, k_count, panel_last - panel_first, buffer);
    const int64_t tiles = panel_last - panel_first;
    const int64_t per_tile = view.next_step == 1 && view.next_stride == k_count ? divide_up(view.shares, tiles) : 1;
    for (int64_t j = panel_first; j < panel_last; ++j) {
      const int64_t col = j * kCols, width = panel_width<T>(cols - col), count = std::min(width, cols - col);
      const int64_t to_col = col_origin + col_first + col, share = (j - panel_first) * per_tile;
      const Ahead<T> ahead = share < view.shares
                                 ? Ahead<T>{view.next + share * view.next_stride, per_tile * view.next_step}
                                 : Ahead<T>{view.data, 0};
      const bool first_block = k_first == 0, last_block = k_first + k_count == k;
      const T* const panel_of_b = panels + col * k_count;
      const int64_t dots = dot_columns(count, view, k_count), tiled = dots > 0 ? count - dots : width;
      if (tiled > 0) {
        const auto product = pick_multiply_tile<T>(rows, tiled);
        const int64_t kept = std::min(tiled, count);
        if (kept == tiled && result.takes_sums()) {
          product(k_count, view, ahead, panel_of_b, width, result.whole_tile(row, to_col, first_block, last_block));
          if (last_block) result.smooth(row, rows, to_col, kept);
        } else {
          product(k_count, view, ahead, panel_of_b, width, {tile, tiled});
          result.store(tile, tiled, row, rows, to_col, kept, first_block, last_block);
        }
      }
      if (dots > 0) {
        multiply_dots(rows, dots, k_count, view, panel_of_b + tiled, width, tile, kLanes);
        result.store(tile, kLanes, row, rows, to_col + tiled, dots, first_block, last_block);
      }
    }
  }
};

/// With few rows packing takes a good part of the time, and panels that another core has just written arrive slower
/// than a thread packs them: so each thread gets columns, and packs these for itself.
template <class T, class Left, class Right, class Result>
void multiply_blocks(int64_t m, int64_t n, int64_t k, const Left& left, const Right& right, const Result& result) {
  using Blocks = Product<T, Left, Right, Result>;
  constexpr int64_t kFewRows = 256, kLeastCols = 256;
  const int64_t ways = threads_here(), rounds = std::min<int64_t>(n / (ways * kLeastCols), 4);
  if (!Blocks::kPacks || m > kFewRows || ways == 1 || rounds == 0 || m * n * k < 2 * Blocks::kWorthAThread) {
    Blocks{m, n, k, left, right, result}.run();
    return;
  }
  const int64_t cols = round_up(divide_up(n, ways * rounds), Tile<T>::kCols);
  parallel_for(n, cols,
               [&](int64_t first, int64_t last) { Blocks{m, last - first, k, left, right, result, first}.run(); });
}

/// C[m, n] = left * right. Called by a task it runs in that task alone, as for a block of rows whose C stays in cache.
template <class T, class Left, class Right, class Result>
void multiply(int64_t m, int64_t n, int64_t k, const Left& left, const Right& right, const Result& result) {
  if (m <= 0 || n <= 0) return;
  if constexpr (std::is_same_v<T, BFloat16>) multiply_pairs(m, n, k, left, right, result);
  else multiply_blocks<T>(m, n, k, left, right, result);
}

/// Packs all of a right matrix [k, n] into `panels`, gemm_packed_size(n, k) numbers, for products by PackedRight: these
/// have the same bits as if each had packed for itself.
template <class T, class Right>
void pack_right(int64_t n, int64_t k, const Right& right, T* panels) {
  const Blocking<T> blocking(n, k);
  const int64_t across = divide_up(n, blocking.block_n), down = divide_up(k, blocking.block_k);
  parallel_for(across * down, 1, [&](int64_t first, int64_t last) {
    for (int64_t block = first; block < last; ++block) {
      const int64_t col = block / down * blocking.block_n, row = block % down * blocking.block_k;
      const int64_t rows = blocking.rows_at(row);
      right.pack(row, rows, col, blocking.cols_at(col), panels + blocking.offset(col, row), 0, rows);
    }
  });
}

/// A as it lies in memory; one of the strides is 1. Rows are copied when all share one cache set, columns when they are
/// used more than once.
template <class T>
struct StridedLeft {
  const T* a;
  int64_t row_stride, k_stride;

  RowView<T> rows(int64_t first, int64_t count, int64_t k_first, int64_t k_count, int64_t uses, T* buffer) const {
    constexpr int64_t kSameSet = 4096 / static_cast<int64_t>(sizeof(T));
    const T* const from = a + first * row_stride + k_first * k_stride;
    if (k_stride == 1) {
      const T* const next = from + count * row_stride;
      if (row_stride % kSameSet != 0 || uses < 2) return {from, row_stride, 1, next, count, row_stride};
      const int64_t stride = copied_stride<T>(k_count);
      for (int64_t i = 0; i < count; ++i) std::copy_n(from + i * row_stride, k_count, buffer + i * stride);
      return {buffer, stride, 1, next, count, row_stride};
    }
    if (uses < 2) return {from, row_stride, k_stride};
    constexpr int64_t kPadded = round_up(Tile<T>::kRows, Vec<T>::kLanes);
    for (int64_t p = 0; p < k_count; ++p)
      for_each_vector<T>(0, count, [&](int64_t i, auto n) TL_INLINE_LAMBDA {
        Vec<T>::load(from + p * k_stride + i, n).store(buffer + p * kPadded + i);
      });
    return {buffer, 1, kPadded, from + 2 * count - 1, 1, 0, k_stride};
  }
};

/// Packs rows of B, `stride` apart, into the panels at row `place`; the last panel is filled up with zeros.
template <class T>
void pack_rows(const T* rows, int64_t stride, int64_t count, int64_t cols, T* packed, int64_t place,
               int64_t panel_rows) {
  constexpr int64_t kLanes = Tile<T>::kLanes, kCols = Tile<T>::kCols, kAhead = 2 * kCols;
  for (int64_t col = 0; col < cols; col += kCols) {
    const int64_t width = panel_width<T>(cols - col);
    T* to = packed + col * panel_rows + place * width;
    const T* from = rows + col;
    if (cols - col >= width) {
      for (int64_t p = 0; p < count; ++p, from += stride, to += width)
        for (int64_t j = 0; j < width; j += kLanes) {
          __builtin_prefetch(from + kAhead + j);
          Vec<T>::load(from + j).store(to + j);
        }
    } else {
      for (int64_t p = 0; p < count; ++p, from += stride, to += width) {
        Vec<T>(T(0)).store(to + width - kLanes);
        for_each_vector<T>(0, cols - col,
                           [&](int64_t j, auto n) TL_INLINE_LAMBDA { Vec<T>::load(from + j, n).store(to + j); });
      }
    }
  }
}

/// B as it lies in memory, [k, n].
template <class T>
struct RowsRight {
  const T* b;
  int64_t stride;

  const T* row(int64_t p) const { return b + p * stride; }
  void pack(int64_t k_first, int64_t k_count, int64_t col_first, int64_t cols, T* packed, int64_t place,
            int64_t panel_rows) const {
    constexpr int64_t kSlice = 16;  // rows at a time: each is in a page of its own
    for (int64_t p = 0; p < k_count; p += kSlice)
      pack_rows(b + (k_first + p) * stride + col_first, stride, std::min(kSlice, k_count - p), cols, packed, place + p,
                panel_rows);
  }
};

/// B as the transpose of what lies in memory, [n, k].
template <class T>
struct ColsRight {
  const T* b;
  int64_t stride;

  void pack(int64_t k_first, int64_t k_count, int64_t col_first, int64_t cols, T* packed, int64_t place,
            int64_t panel_rows) const {
    constexpr int64_t kLanes = Tile<T>::kLanes, kCols = Tile<T>::kCols;
    for (int64_t col = 0; col < cols; col += kCols) {
      const int64_t width = panel_width<T>(cols - col);
      for (int64_t j = 0; j < width; j += kLanes)
        for (int64_t p = 0; p < k_count; p += kLanes)
          pack_square(b + (col_first + col + j) * stride + k_first + p, std::min(kLanes, cols - col - j),
                      std::min(kLanes, k_count - p), packed + col * panel_rows + (place + p) * width + j, width);
    }
  }

  void pack_square(const T* from, int64_t cols, int64_t rows, T* to, int64_t to_stride) const {
    constexpr int64_t kLanes = Tile<T>::kLanes;
    Vec<T> square[kLanes];
    if (cols == kLanes && rows == kLanes) {
      TL_UNROLL
      for (int64_t i = 0; i < kLanes; ++i) square[i] = Vec<T>::load(from + i * stride);
    } else {
      for (int64_t i = 0; i < kLanes; ++i)
        square[i] = i >= cols        ? Vec<T>(T(0))
                    : rows == kLanes ? Vec<T>::load(from + i * stride)
                                     : Vec<T>::load(from + i * stride, rows);
    }
    transpose<static_cast<int>(kLanes / 2)>(square);
    if (rows == kLanes) {
      TL_UNROLL
      for (int64_t i = 0; i < kLanes; ++i) square[i].store(to + i * to_stride);
    } else {
      for (int64_t i = 0; i < rows; ++i) square[i].store(to + i * to_stride);
    }
  }
};

/// How many neighbouring rows and columns of a right matrix pack_some_rows and pack_some_cols take, or multiples of it.
template <class T>
constexpr int64_t packed_rows(const T*) {
  return 8;
}
template <class T>
constexpr int64_t packed_cols(const T*) {
  return Tile<T>::kCols;
}

/// Packs `count` rows, from row `first` on, of a right matrix [k, n], which lie at `from`, as pack_right packs all.
template <class T>
void pack_some_rows(int64_t n, int64_t k, const T* from, int64_t stride, int64_t first, int64_t count, T* packed) {
  const Blocking<T> blocking(n, k);
  const int64_t row = first / blocking.block_k * blocking.block_k;
  for (int64_t col = 0; col < n; col += blocking.block_n)
    RowsRight<T>{from + col, stride}.pack(0, count, 0, blocking.cols_at(col), packed + blocking.offset(col, row),
                                          first - row, blocking.rows_at(row));
}

/// The same for columns.
template <class T>
void pack_some_cols(int64_t n, int64_t k, const T* from, int64_t stride, int64_t first, int64_t count, T* packed) {
  const Blocking<T> blocking(n, k);
  const int64_t col = first / blocking.block_n * blocking.block_n;
  for (int64_t row = 0; row < k; row += blocking.block_k) {
    const int64_t rows = blocking.rows_at(row);
    ColsRight<T>{from, stride}.pack(row, rows, 0, count, packed + blocking.offset(col, row) + (first - col) * rows, 0,
                                    rows);
  }
}

/// Rows of C at a fixed distance.
struct EvenRows {
  int64_t stride;
  int64_t offset(int64_t row) const { return row * stride; }
};

/// C = activation(alpha * tile + beta * C + bias + residual); sums over blocks of k accumulate in C.
template <class T, class Rows>
struct StoreTiles {
  T* c;
  Rows place;
  T alpha = 1, beta = 0;
  const T *bias = nullptr, *residual = nullptr;  // [n]; like C
  Activation activation = Activation::none;

  /// Whether whole_tile() can say all that there is to do, but for smooth().
  bool takes_sums() const { return std::is_same_v<Rows, EvenRows> && alpha == 1 && (beta == 0 || beta == 1); }

  TileStore<T> whole_tile(int64_t row, int64_t col, bool first_block, bool last_block) const {
    const int64_t at = place.offset(row) + col;
    TileStore<T> out{c + at, place.offset(1), !first_block || beta != 0};
    if (!last_block) return out;
    if (bias) out.bias = bias + col;
    if (residual) out.residual = residual + at;
    out.activation = activation;
    return out;
  }

  void smooth(int64_t row_first, int64_t rows, int64_t col_first, int64_t cols) const {
    if (activation <= Activation::relu6) return;
    for (int64_t i = 0; i < rows; ++i) smooth_in_place(activation, c + place.offset(row_first + i) + col_first, cols);
  }

  /// A tile from a buffer, of which `cols` columns count.
  void store(const T* tile, int64_t width, int64_t row_first, int64_t rows, int64_t col_first, int64_t cols,
             bool first_block, bool last_block) const {
    constexpr int64_t kLine = 64 / static_cast<int64_t>(sizeof(T));
    const Vec<T> scale(alpha), kept(first_block ? beta : T(1));
    const bool reads = !first_block || beta != 0;
    const bool plain = !last_block || (!bias && !residual && activation == Activation::none);
    for (int64_t i = 0; i < rows; ++i) {
      const int64_t at = place.offset(row_first + i) + col_first;
      // The rows below are next. Fetched here, one by one, as too many fetches at once are dropped.
      const T* const below = c + place.offset(row_first + rows + i) + col_first;
      for (int64_t j = 0; j < cols; j += kLine) __builtin_prefetch(below + j, 1);
      for_each_vector<T>(0, cols, [&](int64_t j, auto n) TL_INLINE_LAMBDA {
        Vec<T> sum = Vec<T>::load(tile + i * width + j) * scale;
        if (reads) sum = fma(kept, Vec<T>::load(c + at + j, n), sum);
        if (!plain) {
          if (bias) sum += Vec<T>::load(bias + col_first + j, n);
          if (residual) sum += Vec<T>::load(residual + at + j, n);
          sum = bounded(activation, sum);
        }
        sum.store(c + at + j, n);
      });
      if (!plain) smooth_in_place(activation, c + at, cols);
    }
  }
};
