// Bodies of cpu/conv_chain.hpp: each reads and writes every tensor once. What is computed from z on the way to a
// convolution lives in blocks of rows (1x1) or in a ring of lines (depthwise), small enough for the second cache.

/// activation(scale * x + shift) and the gradient through it.
template <class T>
struct Mapping {
  const T *scale, *shift;
  Bounds<T> bounds;

  explicit Mapping(const ChannelMap<T>& map) : scale(map.scale), shift(map.shift), bounds(map.activation) {}

  TL_ALWAYS_INLINE Vec<T> value(Vec<T> x, Vec<T> a, Vec<T> b) const { return bounds.value(fma(x, a, b)); }
  TL_ALWAYS_INLINE Vec<T> masked(Vec<T> x, Vec<T> a, Vec<T> b, Vec<T> gradient) const {
    return bounds.gradient(fma(x, a, b), gradient);
  }
};

/// body(0), ..., body(kCount - 1)
template <int kCount, class Body>
TL_ALWAYS_INLINE void repeat(std::integral_constant<int, kCount>, const Body& body) {
  [&]<int... i>(std::integer_sequence<int, i...>) TL_INLINE_LAMBDA { (body(i), ...); }
  (std::make_integer_sequence<int, kCount>{});
}

/// Calls body(row, c, n, count) for all vectors of `count` rows from `row` on, so that what belongs to a channel is
/// loaded once for a few rows.
template <class T, class Body>
TL_ALWAYS_INLINE void for_each_in_rows(int64_t rows, int64_t cols, const Body& body) {
  constexpr int kTogether = 4;
  int64_t row = 0;
  for (; row + kTogether <= rows; row += kTogether)
    for_each_vector<T>(0, cols, [&](int64_t c, auto n) TL_INLINE_LAMBDA {
      body(row, c, n, std::integral_constant<int, kTogether>{});
    });
  for (; row < rows; ++row)
    for_each_vector<T>(0, cols,
                       [&](int64_t c, auto n) TL_INLINE_LAMBDA { body(row, c, n, std::integral_constant<int, 1>{}); });
}

/// Loads from a tensor that is read once, and fetches what lies 1 KiB further.
template <class T, class Count>
TL_ALWAYS_INLINE Vec<T> load_stream(const T* p, Count n) {
  __builtin_prefetch(p + 1024 / sizeof(T));
  return Vec<T>::load(p, n);
}

/// out[row, c] = map(x[row, c]); rows of `out` lie `stride` apart.
template <class T>
void map_rows(const Mapping<T>& map, const T* x, int64_t rows, int64_t cols, T* out, int64_t stride) {
  for_each_in_rows<T>(rows, cols, [&](int64_t row, int64_t c, auto n, auto count) TL_INLINE_LAMBDA {
    if (!map.scale) {
      repeat(count, [=](int64_t i) TL_INLINE_LAMBDA {
        load_stream<T>(x + (row + i) * cols + c, n).store(out + (row + i) * stride + c, n);
      });
      return;
    }
    const auto scale = Vec<T>::load(map.scale + c, n), shift = Vec<T>::load(map.shift + c, n);
    repeat(count, [&](int64_t i) TL_INLINE_LAMBDA {
      map.value(load_stream<T>(x + (row + i) * cols + c, n), scale, shift).store(out + (row + i) * stride + c, n);
    });
  });
}

/// The same into panels of the right matrix of a product, filled up with zeros.
template <class T>
void map_panels(const Mapping<T>& map, const T* x, int64_t rows, int64_t cols, T* panels) {
  constexpr int64_t kCols = Tile<T>::kCols;
  for_each_in_rows<T>(rows, cols, [&](int64_t row, int64_t c, auto n, auto count) TL_INLINE_LAMBDA {
    const int64_t col = c - c % kCols, width = panel_width<T>(cols - col);
    T* const out = panels + col * rows + row * width + c % kCols;
    const auto scale = map.scale ? Vec<T>::load(map.scale + c, n) : Vec<T>(0);
    const auto shift = map.scale ? Vec<T>::load(map.shift + c, n) : Vec<T>(0);
    repeat(count, [&](int64_t i) TL_INLINE_LAMBDA {
      const auto number = load_stream<T>(x + (row + i) * cols + c, n);
      (map.scale ? map.value(number, scale, shift) : number).store(out + i * width);
    });
  });
}

/// The gradient of z: of_grad * grad + of_z * (z - mean) + of_1, rows of `out` `stride` apart.
template <class T>
void grad_z_rows(const ChainBackwardArgs<T>& args, int64_t first, int64_t rows, T* out, int64_t stride) {
  const int64_t cols = args.geometry.cout;
  const T* const grad = args.grad + first * cols;
  const T* const z = args.z ? args.z + first * cols : nullptr;
  for_each_in_rows<T>(rows, cols, [&](int64_t row, int64_t c, auto n, auto count) TL_INLINE_LAMBDA {
    const auto of_grad = Vec<T>::load(args.of_grad + c, n);
    if (!z) {
      repeat(count, [=](int64_t i) TL_INLINE_LAMBDA {
        (of_grad * Vec<T>::load(grad + (row + i) * cols + c, n)).store(out + (row + i) * stride + c, n);
      });
      return;
    }
    const auto mean = Vec<T>::load(args.mean + c, n);
    const auto of_z = Vec<T>::load(args.of_z + c, n), of_1 = Vec<T>::load(args.of_1 + c, n);
    repeat(count, [&](int64_t i) TL_INLINE_LAMBDA {
      const int64_t at = (row + i) * cols + c;
      const auto centered = load_stream<T>(z + at, n) - mean;
      fma(of_grad, load_stream<T>(grad + at, n), fma(of_z, centered, of_1)).store(out + (row + i) * stride + c, n);
    });
  });
}

/// Whether a tensor of `count` numbers, `channels` in a row, is stored past the caches: when it is too large to stay
/// in the last one until it is read again, a store that fetches its line first only wastes bandwidth.
template <class T>
bool stores_past_caches(const T* data, int64_t count, int64_t channels) {
  constexpr int64_t kBytes = int64_t{16} << 20;
  return count * static_cast<int64_t>(sizeof(T)) > kBytes && channels % Vec<T>::kLanes == 0 &&
         reinterpret_cast<uintptr_t>(data) % TL_VECTOR_BYTES == 0;
}

template <class T, class Count>
TL_ALWAYS_INLINE void put(Vec<T> value, T* to, Count n, bool past_caches) {
  if (past_caches) value.stream(to);
  else value.store(to, n);
}

/// Rows (of a matrix, or lines of a picture) cut into groups of whole units. Groups are the tasks of threads and the
/// terms of sums, so they follow from the shape alone.
struct RowGroups {
  int64_t rows, unit, count;
  int64_t first(int64_t group) const { return std::min(divide_up(rows, unit) * group / count * unit, rows); }
};

/// Sums of z - origin and of its square for each channel of a group of rows, whose first row is the origin, so that a
/// large mean does not swallow the variance.
template <class T>
struct Moments {
  static constexpr int64_t kArrays = 3;
  T *origin, *sum, *square;
  int64_t channels;

  Moments(T* memory, int64_t cols) : origin(memory), sum(memory + cols), square(memory + 2 * cols), channels(cols) {}

  template <class Count>
  TL_ALWAYS_INLINE void start(Vec<T> from, int64_t c, Count n) const {
    from.store(origin + c, n);
    Vec<T>(0).store(sum + c, n);
    Vec<T>(0).store(square + c, n);
  }
  template <class Count>
  TL_ALWAYS_INLINE void add(Vec<T> distances, Vec<T> squares, int64_t c, Count n) const {
    (Vec<T>::load(sum + c, n) + distances).store(sum + c, n);
    (Vec<T>::load(square + c, n) + squares).store(square + c, n);
  }
};

/// Mean and biased variance from the moments of all groups; a row of the groups has `places` places.
template <class T>
void combine_moments(T* memory, const RowGroups& groups, int64_t places, int64_t channels, T* mean, T* variance) {
  parallel_for(channels, row_grain(16 * groups.count), [=](int64_t first, int64_t last) {
    for (int64_t c = first; c < last; ++c) {
      const auto origin = static_cast<double>(memory[c]);
      const auto for_each_group = [&](auto body) {
        for (int64_t group = 0; group < groups.count; ++group) {
          const Moments<T> moments(memory + group * Moments<T>::kArrays * channels, channels);
          const auto count = static_cast<double>((groups.first(group + 1) - groups.first(group)) * places);
          body(count, static_cast<double>(moments.origin[c]) - origin, static_cast<double>(moments.sum[c]),
               static_cast<double>(moments.square[c]));
        }
      };
      double total = 0, squares = 0;
      for_each_group([&](double count, double distance, double sum, double) { total += count * distance + sum; });
      const auto rows = static_cast<double>(groups.rows * places);
      const double mean_of_all = total / rows;
      for_each_group([&](double count, double distance, double sum, double square) {
        const double own = square - sum * sum / count, away = distance + sum / count - mean_of_all;
        squares += (own < 0 ? 0 : own) + count * away * away;
      });
      mean[c] = static_cast<T>(origin + mean_of_all);
      variance[c] = static_cast<T>(squares / rows);
    }
  });
}

// ---- 1x1 ----

/// Rows of a block: what is computed for it stays in the second cache.
template <class T>
int64_t block_rows(const ConvGeometry& g) {
  constexpr int64_t kBytes = 384 * 1024, kRows = Tile<T>::kRows;
  const int64_t row_bytes = (g.cin + g.cout) * static_cast<int64_t>(sizeof(T));
  return std::clamp<int64_t>(kBytes / row_bytes / kRows, divide_up(96, kRows), divide_up(448, kRows)) * kRows;
}

template <class T>
RowGroups pointwise_groups(const ConvGeometry& g, int64_t most) {
  constexpr int64_t kEven = 8;  // a multiple of most numbers of threads
  const int64_t rows = g.n * g.h * g.w, tiles = divide_up(rows, Tile<T>::kRows);
  return {rows, Tile<T>::kRows, std::min({tiles, most, std::max(tiles / 4 / kEven * kEven, kEven)})};
}

/// The rows of each block but the last, when a group is cut into blocks of about one size.
template <class T>
int64_t even_block(int64_t rows, int64_t most) {
  return round_up(divide_up(rows, divide_up(rows, most)), Tile<T>::kRows);
}

constexpr int64_t kMostGroups = 64;

/// The right matrix [k, n] as panels that lie behind each other.
template <class T, class Right>
T* pack_whole(const Right& right, int64_t k, int64_t n) {
  constexpr int64_t kSlice = 16;
  T* const packed = scratch(ScratchUse::pack_b).get<T>(k * round_up(n, Tile<T>::kLanes));
  parallel_for(divide_up(k, kSlice), row_grain(kSlice * n), [=](int64_t first, int64_t last) {
    const int64_t row = first * kSlice;
    right.pack(row, std::min(last * kSlice, k) - row, 0, n, packed, row, k);
  });
  return packed;
}

/// What a product fetches while it computes, a line of the cache in each step: what the next block will read.
template <class T>
struct Later {
  const T *data, *end;

  Ahead<T> share(int64_t k) {
    constexpr int64_t kLine = 64 / static_cast<int64_t>(sizeof(T));
    if (data + k * kLine > end) return {data, 0};
    return {std::exchange(data, data + k * kLine), kLine};
  }
};

/// finish(tile, width, row, rows, col, cols) for all tiles of left [rows, k] * packed [k, n]
template <class T, class Finish>
TL_ALWAYS_INLINE void multiply_block(int64_t rows, int64_t n, int64_t k, const RowView<T>& left, const T* packed,
                                     Later<T> later, const Finish& finish) {
  constexpr int64_t kRows = Tile<T>::kRows, kCols = Tile<T>::kCols;
  alignas(64) T tile[kRows * kCols];
  const int64_t panels = divide_up(rows, kRows);
  for (int64_t panel = 0; panel < panels; ++panel) {
    const int64_t row = rows * panel / panels, count = rows * (panel + 1) / panels - row;
    const RowView<T> view{left.data + row * left.row_stride, left.row_stride, left.k_stride};
    for (int64_t col = 0; col < n; col += kCols) {
      const int64_t width = panel_width<T>(n - col);
      pick_multiply_tile<T>(count, width)(k, view, later.share(k), packed + col * k, width, {tile, width});
      finish(tile, width, row, count, col, std::min(width, n - col));
    }
  }
}

/// A finished tile becomes rows of z and terms of its moments.
template <class T>
void store_z(T* z, const Moments<T>& moments, bool starts, bool past, const T* tile, int64_t width, int64_t row,
             int64_t rows, int64_t col, int64_t cols) {
  for_each_vector<T>(0, cols, [&](int64_t j, auto n) TL_INLINE_LAMBDA {
    const int64_t c = col + j;
    T* const out = z + row * moments.channels + c;
    if (starts) moments.start(Vec<T>::load(tile + j), c, n);
    const auto origin = Vec<T>::load(moments.origin + c, n);
    Vec<T> total(0), squares(0);
    for (int64_t i = 0; i < rows; ++i) {
      const auto value = Vec<T>::load(tile + i * width + j), distance = value - origin;
      put(value, out + i * moments.channels, n, past);
      total += distance;
      squares = fma(distance, distance, squares);
    }
    moments.add(total, squares, c, n);
  });
}

template <class T>
void chain_pointwise_forward(const ChainForwardArgs<T>& args) {
  const ConvGeometry& g = args.geometry;
  const int64_t k = g.cin, n = g.cout, block = block_rows<T>(g), stride = copied_stride<T>(k);
  const RowGroups groups = pointwise_groups<T>(g, kMostGroups);
  const Mapping<T> map(args.before);
  const T* const end = args.x + groups.rows * k;
  const bool past = stores_past_caches(args.z, groups.rows * n, n);
  const T* const packed = pack_whole<T>(ColsRight<T>{args.weight, k}, k, n);
  T* const memory = scratch(ScratchUse::partial).get<T>(groups.count * Moments<T>::kArrays * n);
  parallel_for(groups.count, 1, [&, packed, memory](int64_t group_first, int64_t group_last) {
    T* const a = scratch(ScratchUse::pack_a).get<T>(block * stride);
    for (int64_t group = group_first; group < group_last; ++group) {
      const Moments<T> moments(memory + group * Moments<T>::kArrays * n, n);
      const int64_t first = groups.first(group), last = groups.first(group + 1);
      const int64_t even = even_block<T>(last - first, block);
      for (int64_t row = first; row < last; row += even) {
        const int64_t rows = std::min(even, last - row);
        const T* const x = args.x + row * k;
        map_rows(map, x, rows, k, a, stride);
        multiply_block<T>(rows, n, k, {a, stride, 1}, packed, {x + rows * k, end},
                          [&](const T* tile, int64_t width, int64_t at, auto... rest) {
                            store_z(args.z + row * n, moments, row + at == first, past, tile, width, at, rest...);
                          });
      }
    }
    if (past) store_fence();
  });
  if (args.mean) combine_moments(memory, groups, 1, n, args.mean, args.variance);
}

/// A finished tile of conv^T(grad_z) becomes rows of grad_x and terms of its sums.
template <class T>
void store_grad_x(const ChainBackwardArgs<T>& args, const Mapping<T>& map, const T* tile, int64_t width, int64_t row,
                  int64_t rows, int64_t col, int64_t cols, T* sum, T* sum_centered, bool past) {
  const int64_t channels = args.geometry.cin;
  for_each_vector<T>(0, cols, [&](int64_t j, auto n) TL_INLINE_LAMBDA {
    const int64_t c = col + j, start = row * channels + c;
    if (!map.scale) {
      for (int64_t i = 0; i < rows; ++i) {
        auto gradient = Vec<T>::load(tile + i * width + j);
        if (args.residual) gradient += Vec<T>::load(args.residual + start + i * channels, n);
        put(gradient, args.grad_x + start + i * channels, n, past);
      }
      return;
    }
    const auto scale = Vec<T>::load(map.scale + c, n), shift = Vec<T>::load(map.shift + c, n);
    const auto mean = args.x_mean ? Vec<T>::load(args.x_mean + c, n) : Vec<T>(0);
    auto total = Vec<T>::load(sum + c, n), centered = Vec<T>::load(sum_centered + c, n);
    for (int64_t i = 0; i < rows; ++i) {
      const auto x = Vec<T>::load(args.x + start + i * channels, n);
      const auto gradient = map.masked(x, scale, shift, Vec<T>::load(tile + i * width + j));
      put(gradient, args.grad_x + start + i * channels, n, past);
      total += gradient;
      centered = fma(gradient, x - mean, centered);
    }
    total.store(sum + c, n);
    centered.store(sum_centered + c, n);
  });
}

/// Adds up what the groups have: [groups, size], of which the last 2 * channels are the sums of grad_x.
template <class T>
void finish_sums(const ChainBackwardArgs<T>& args, const T* partial, int64_t groups, int64_t size) {
  const int64_t channels = args.geometry.cin;
  if (!args.sum) return;
  sum_pieces(partial + size - 2 * channels, groups, size, 0, channels, args.sum);
  sum_pieces(partial + size - channels, groups, size, 0, channels, args.sum_centered);
}

template <class T>
void chain_pointwise_backward(const ChainBackwardArgs<T>& args) {
  constexpr int64_t kMostWeights = 1 << 20;  // in the partial sums of all groups, where they are many
  const ConvGeometry& g = args.geometry;
  const int64_t cin = g.cin, cout = g.cout, block = block_rows<T>(g), stride = copied_stride<T>(cout);
  const RowGroups groups = pointwise_groups<T>(g, std::clamp<int64_t>(kMostWeights / (cin * cout), 8, kMostGroups));
  const Mapping<T> map(args.before);
  const bool past = stores_past_caches(args.grad_x, groups.rows * cin, cin);
  const T* const packed = args.grad_x ? pack_whole<T>(RowsRight<T>{args.weight, cin}, cout, cin) : nullptr;
  const int64_t size = cin * cout + 2 * cin;
  T* const partial = scratch(ScratchUse::partial).get<T>(groups.count * size);  // [groups, {grad_weight, sums}]
  parallel_for(groups.count, 1, [&, packed, partial](int64_t group_first, int64_t group_last) {
    T* const grad_z = scratch(ScratchUse::pack_a).get<T>(block * (stride + round_up(cin, Tile<T>::kLanes)));
    T* const panels = grad_z + block * stride;
    for (int64_t group = group_first; group < group_last; ++group) {
      T *const grad_weight = partial + group * size, *const sum = grad_weight + cin * cout;
      std::fill_n(sum, 2 * cin, T(0));
      const int64_t first = groups.first(group), last = groups.first(group + 1);
      const int64_t even = even_block<T>(last - first, block);
      for (int64_t row = first; row < last; row += even) {
        const int64_t rows = std::min(even, last - row);
        const T* const next = args.grad + (row + rows) * cout;
        const T* const next_z = (args.z ? args.z : args.grad) + (row + rows) * cout;
        const int64_t fetched = std::min(block, groups.rows - row - rows) * cout;
        grad_z_rows(args, row, rows, grad_z, stride);
        if (args.grad_weight) {
          map_panels(map, args.x + row * cin, rows, cin, panels);
          const StoreTiles<T, EvenRows> store{.c = grad_weight, .place = {cin}};
          multiply_block<T>(
              cout, cin, rows, {grad_z, 1, stride}, panels, {next, next + fetched},
              [&](const T* tile, int64_t width, auto... at) { store.store(tile, width, at..., row == first, true); });
        }
        if (!args.grad_x) continue;
        multiply_block<T>(rows, cin, cout, {grad_z, stride, 1}, packed, {next_z, next_z + fetched},
                          [&](const T* tile, int64_t width, int64_t at, auto... rest) {
                            store_grad_x(args, map, tile, width, row + at, rest..., sum, sum + cin, past);
                          });
      }
    }
    if (past) store_fence();
  });
  if (args.grad_weight)
    parallel_for(cin * cout, 4096, [=](int64_t first, int64_t last) {
      sum_pieces(partial, groups.count, size, first, last, args.grad_weight);
    });
  finish_sums(args, partial, groups.count, size);
}

// ---- depthwise ----

/// The lines of a picture that a depthwise kernel is reading, with zeros on both sides, so that no tap falls outside.
template <class T>
class LineRing {
 public:
  LineRing(ScratchUse use, int64_t lines, int64_t before, int64_t places, int64_t after, int64_t channels)
      : lines_(lines), first_(before * channels), size_((before + places + after) * channels) {
    data_ = scratch(use).get<T>((lines_ + 1) * size_);
    std::fill_n(data_, (lines_ + 1) * size_, T(0));
  }
  /// The first place of line y.
  T* line(int64_t y) const { return data_ + y % lines_ * size_ + first_; }
  const T* zeros() const { return data_ + lines_ * size_ + first_; }

 private:
  int64_t lines_, first_, size_;
  T* data_;
};

/// Channels that are taken together: all that a few places need of them stays in the first cache.
constexpr int64_t kChannelChunk = 256;

/// kLinePlaces places of a line from the lines that their taps read; `lines` begin with the first place's first tap.
template <class T, int kTaps, int kStep, class Finish>
TL_ALWAYS_INLINE void ring_places(const T* const (&lines)[kTaps], int64_t channels, int64_t c_first, int64_t c_last,
                                  const T* weight, const Finish& finish) {
  for_each_vector<T>(c_first, c_last, [&](int64_t c, auto n) TL_INLINE_LAMBDA {
    Vec<T> sums[kLinePlaces];
    TL_UNROLL
    for (int o = 0; o < kLinePlaces; ++o) sums[o] = Vec<T>(T(0));
    for (int y = 0; y < kTaps; ++y) {
      Vec<T> w[kTaps];
      TL_UNROLL
      for (int t = 0; t < kTaps; ++t) w[t] = Vec<T>::load(weight + (y * kTaps + t) * channels + c, n);
      TL_UNROLL
      for (int i = 0; i < (kLinePlaces - 1) * kStep + kTaps; ++i) {
        const auto pixel = Vec<T>::load(lines[y] + i * channels + c, n);
        TL_UNROLL
        for (int o = 0; o < kLinePlaces; ++o)
          if (i - o * kStep >= 0 && i - o * kStep < kTaps) sums[o] = fma(pixel, w[i - o * kStep], sums[o]);
      }
    }
    finish(c, n, sums);
  });
}

inline RowGroups line_groups(int64_t lines) { return {lines, 1, std::clamp<int64_t>(lines / 7, 1, 32)}; }

template <class T, int kTaps, int kStep>
void chain_depthwise_forward(const ChainForwardArgs<T>& args) {
  const ConvGeometry& g = args.geometry;
  const int64_t channels = g.cin;
  const RowGroups groups = line_groups(g.n * g.oh);
  const Mapping<T> map(args.before);
  const bool past = stores_past_caches(args.z, groups.rows * g.ow * channels, channels);
  const T* const weight = weights_by_tap<T>(g, args.weight);
  T* const memory = scratch(ScratchUse::partial).get<T>(groups.count * Moments<T>::kArrays * channels);
  parallel_for(groups.count, 1, [&, weight, memory](int64_t group_first, int64_t group_last) {
    const LineRing<T> ring(ScratchUse::pack_a, kTaps, kTaps, g.w, kLinePlaces * kStep + kTaps, channels);
    for (int64_t group = group_first; group < group_last; ++group) {
      const Moments<T> moments(memory + group * Moments<T>::kArrays * channels, channels);
      int64_t image = -1, filled = 0;
      for (int64_t number = groups.first(group); number < groups.first(group + 1); ++number) {
        const int64_t top = number % g.oh * kStep - g.pad_top;
        if (number / g.oh != image) {
          image = number / g.oh;
          filled = std::max<int64_t>(top, 0);
        }
        for (; filled < std::min(top + kTaps, g.h); ++filled)
          map_rows(map, args.x + (image * g.h + filled) * g.w * channels, g.w, channels, ring.line(filled), channels);
        T* const z = args.z + number * g.ow * channels;
        for (int64_t c = 0; c < channels; c += kChannelChunk)
          for (int64_t first = 0; first < g.ow; first += kLinePlaces) {
            const T* lines[kTaps];
            for (int y = 0; y < kTaps; ++y)
              lines[y] = (top + y >= 0 && top + y < g.h ? ring.line(top + y) : ring.zeros()) +
                         (first * kStep - g.pad_left) * channels;
            const int64_t places = std::min<int64_t>(kLinePlaces, g.ow - first);
            const bool starts = number == groups.first(group) && first == 0;
            ring_places<T, kTaps, kStep>(lines, channels, c, std::min(c + kChannelChunk, channels), weight,
                                         [&](int64_t at, auto n, const Vec<T>(&sums)[kLinePlaces]) TL_INLINE_LAMBDA {
                                           if (starts) moments.start(sums[0], at, n);
                                           const auto origin = Vec<T>::load(moments.origin + at, n);
                                           Vec<T> total(0), squares(0);
                                           TL_UNROLL
                                           for (int o = 0; o < kLinePlaces; ++o) {
                                             if (o >= places) break;
                                             put(sums[o], z + (first + o) * channels + at, n, past);
                                             const auto distance = sums[o] - origin;
                                             total += distance;
                                             squares = fma(distance, distance, squares);
                                           }
                                           moments.add(total, squares, at, n);
                                         });
          }
      }
    }
    if (past) store_fence();
  });
  if (args.mean) combine_moments(memory, groups, g.ow, channels, args.mean, args.variance);
}

/// Lines of grad_z that reach one line of x, and the row of the kernel through which they do.
template <class T, int kTaps>
struct Reaching {
  const T* line[kTaps];
  int tap[kTaps];
  int count = 0;
};

/// Backward of kLinePlaces places of a line of x, [first, last) of which exist: their gradients, and their share in
/// the kernel's gradient. The pixels of grad_z that they read are loaded once for both. `at` is the place of grad_z
/// that the first one's first tap reaches.
template <class T, int kTaps, int kStep>
void chain_backward_places(const ChainBackwardArgs<T>& args, const Mapping<T>& map, const T* weight,
                           const Reaching<T, kTaps>& reaching, int64_t at, int64_t start, int64_t first, int64_t last,
                           int64_t c_first, int64_t c_last, T* sums, bool past) {
  constexpr int kBefore = (kTaps - 1) / kStep, kAfter = (kLinePlaces - 1) / kStep;
  const int64_t channels = args.geometry.cin;
  T* const sum = sums + kTaps * kTaps * channels;
  for_each_vector<T>(c_first, c_last, [&](int64_t c, auto n) TL_INLINE_LAMBDA {
    const auto scale = map.scale ? Vec<T>::load(map.scale + c, n) : Vec<T>(0);
    const auto shift = map.scale ? Vec<T>::load(map.shift + c, n) : Vec<T>(0);
    Vec<T> a[kLinePlaces], out[kLinePlaces];
    TL_UNROLL
    for (int j = 0; j < kLinePlaces; ++j) {
      a[j] = out[j] = Vec<T>(T(0));
      if (j < first || j >= last) continue;
      a[j] = Vec<T>::load(args.x + start + j * channels + c, n);
      if (map.scale) a[j] = map.value(a[j], scale, shift);
    }
    for (int r = 0; r < reaching.count; ++r) {
      const T* const line = reaching.line[r] + (at - kBefore) * channels + c;
      const T* const kernel = weight + reaching.tap[r] * kTaps * channels + c;
      T* const grad_kernel = sums + reaching.tap[r] * kTaps * channels + c;
      Vec<T> w[kTaps], grad_w[kTaps];
      TL_UNROLL
      for (int t = 0; t < kTaps; ++t) {
        w[t] = Vec<T>::load(kernel + t * channels, n);
        grad_w[t] = Vec<T>::load(grad_kernel + t * channels, n);
      }
      TL_UNROLL
      for (int i = 0; i <= kBefore + kAfter; ++i) {
        const auto pixel = Vec<T>::load(line + i * channels, n);
        TL_UNROLL
        for (int j = 0; j < kLinePlaces; ++j) {
          const int t = j - (i - kBefore) * kStep;
          if (t < 0 || t >= kTaps) continue;
          out[j] = fma(pixel, w[t], out[j]);
          grad_w[t] = fma(pixel, a[j], grad_w[t]);
        }
      }
      TL_UNROLL
      for (int t = 0; t < kTaps; ++t) grad_w[t].store(grad_kernel + t * channels, n);
    }
    if (!args.grad_x) return;
    const auto mean = args.x_mean ? Vec<T>::load(args.x_mean + c, n) : Vec<T>(0);
    Vec<T> total(0), centered(0);
    TL_UNROLL
    for (int j = 0; j < kLinePlaces; ++j) {
      if (j < first || j >= last) continue;
      const int64_t place = start + j * channels + c;
      if (map.scale) {
        const auto x = Vec<T>::load(args.x + place, n);
        out[j] = map.masked(x, scale, shift, out[j]);
        total += out[j];
        centered = fma(out[j], x - mean, centered);
      }
      if (args.residual) out[j] += Vec<T>::load(args.residual + place, n);
      put(out[j], args.grad_x + place, n, past);
    }
    (Vec<T>::load(sum + c, n) + total).store(sum + c, n);
    (Vec<T>::load(sum + channels + c, n) + centered).store(sum + channels + c, n);
  });
}

template <class T, int kTaps, int kStep>
void chain_depthwise_backward(const ChainBackwardArgs<T>& args) {
  const ConvGeometry& g = args.geometry;
  const int64_t channels = g.cin, size = (kTaps * kTaps + 2) * channels;
  const RowGroups groups = line_groups(g.n * g.h);
  const Mapping<T> map(args.before);
  const bool past = stores_past_caches(args.grad_x, groups.rows * g.w * channels, channels);
  const T* const weight = weights_by_tap<T>(g, args.weight);
  T* const partial = scratch(ScratchUse::partial).get<T>(groups.count * size);  // [groups, {grad_weight, sums}]
  parallel_for(groups.count, 1, [&, weight, partial](int64_t group_first, int64_t group_last) {
    const LineRing<T> ring(ScratchUse::pack_a, kTaps, kTaps, g.ow, kLinePlaces + kTaps, channels);
    for (int64_t group = group_first; group < group_last; ++group) {
      T* const sums = partial + group * size;
      std::fill_n(sums, size, T(0));
      int64_t image = -1, filled = 0;
      for (int64_t number = groups.first(group); number < groups.first(group + 1); ++number) {
        const int64_t bottom = number % g.h + g.pad_top;  // the first tap reads grad_z here, the others above
        if (number / g.h != image) {
          image = number / g.h;
          filled = divide_up(std::max<int64_t>(bottom - kTaps + 1, 0), kStep);
        }
        for (; filled < std::min(bottom / kStep + 1, g.oh); ++filled)
          grad_z_rows(args, (image * g.oh + filled) * g.ow, g.ow, ring.line(filled), channels);
        Reaching<T, kTaps> reaching;
        for (int tap = 0; tap < kTaps; ++tap) {
          const int64_t y = bottom - tap;
          if (y < 0 || y % kStep != 0 || y / kStep >= g.oh) continue;
          reaching.line[reaching.count] = ring.line(y / kStep);
          reaching.tap[reaching.count++] = tap;
        }
        for (int64_t c = 0; c < channels; c += kChannelChunk)
          for (int64_t x = -(g.pad_left % kStep); x < g.w; x += kLinePlaces)
            chain_backward_places<T, kTaps, kStep>(args, map, weight, reaching, (x + g.pad_left) / kStep,
                                                   (number * g.w + x) * channels, std::max<int64_t>(-x, 0),
                                                   std::min<int64_t>(kLinePlaces, g.w - x), c,
                                                   std::min(c + kChannelChunk, channels), sums, past);
      }
    }
    if (past) store_fence();
  });
  if (args.grad_weight)
    for (int64_t c = 0; c < channels; ++c)
      for (int64_t tap = 0; tap < kTaps * kTaps; ++tap) {
        T total = 0;
        for (int64_t group = 0; group < groups.count; ++group) total += partial[group * size + tap * channels + c];
        args.grad_weight[c * kTaps * kTaps + tap] = total;
      }
  finish_sums(args, partial, groups.count, size);
}

template <class T>
void chain_forward(const ChainForwardArgs<T>& args) {
  const ConvGeometry& g = args.geometry;
  if (g.groups == 1) return chain_pointwise_forward(args);
  if (g.kh == 3)
    return g.stride_h == 1 ? chain_depthwise_forward<T, 3, 1>(args) : chain_depthwise_forward<T, 3, 2>(args);
  g.stride_h == 1 ? chain_depthwise_forward<T, 5, 1>(args) : chain_depthwise_forward<T, 5, 2>(args);
}

template <class T>
void chain_backward(const ChainBackwardArgs<T>& args) {
  const ConvGeometry& g = args.geometry;
  if (g.groups == 1) return chain_pointwise_backward(args);
  if (g.kh == 3)
    return g.stride_h == 1 ? chain_depthwise_backward<T, 3, 1>(args) : chain_depthwise_backward<T, 3, 2>(args);
  g.stride_h == 1 ? chain_depthwise_backward<T, 5, 1>(args) : chain_depthwise_backward<T, 5, 2>(args);
}
