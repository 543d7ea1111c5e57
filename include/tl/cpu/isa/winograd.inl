// Winograd's minimal filtering for 3x3 kernels of stride 1: a tile of kOut x kOut results takes (kOut + 2)^2 products a
// channel instead of 9 kOut^2. Paper: Lavin and Gray, "Fast Algorithms for Convolutional Neural Networks", 2015.
//
//   y = A^T [(G w G^T) * (B^T x B)] A        x [kIn, kIn], w [3, 3], y [kOut, kOut]; * element by element
//
// Summed over input channels, each of the kIn^2 elements (here: points) is a matrix product over all tiles. A block of
// tiles goes through all three stages while its points are in cache. The gradient of x is the same with w turned; that
// of w is G^T [sum of (B^T x B) * (A grad_y A^T) over tiles] G.
//
// In bfloat16 the points of pictures and kernels are rounded to it, what is summed from them stays float. Points of the
// small tile are sums of four pixels, of the large one of up to a hundred, hence there is no large one.

/// The transforms along one axis of F(4, 3), from the points 0, 1, -1, 2, -2 and infinity.
struct Winograd4 {
  static constexpr int kOut = 4, kIn = 6;

  template <class V>
  static TL_ALWAYS_INLINE void input(const V (&x)[6], V (&to)[6]) {  // B^T x
    const V even = fma(V(-4), x[2], x[4]), odd = fma(V(-4), x[1], x[3]);
    const V near = x[4] - x[2], far = (x[3] - x[1]) * V(2);
    to[0] = fma(V(4), x[0], fma(V(-5), x[2], x[4]));
    to[1] = even + odd;
    to[2] = even - odd;
    to[3] = near + far;
    to[4] = near - far;
    to[5] = fma(V(4), x[1], fma(V(-5), x[3], x[5]));
  }
  template <class V>
  static TL_ALWAYS_INLINE void kernel(const V (&w)[3], V (&to)[6]) {  // G w
    const V ends = w[0] + w[2], spread = fma(V(4), w[2], w[0]) * V(1.0 / 24), middle = w[1] * V(1.0 / 12);
    to[0] = w[0] * V(0.25);
    to[1] = (ends + w[1]) * V(-1.0 / 6);
    to[2] = (ends - w[1]) * V(-1.0 / 6);
    to[3] = spread + middle;
    to[4] = spread - middle;
    to[5] = w[2];
  }
  template <class V>
  static TL_ALWAYS_INLINE void output(const V (&m)[6], V (&to)[4]) {  // A^T m
    const V sum1 = m[1] + m[2], sum2 = m[3] + m[4], gap1 = m[1] - m[2], gap2 = m[3] - m[4];
    to[0] = m[0] + sum1 + sum2;
    to[1] = fma(V(2), gap2, gap1);
    to[2] = fma(V(4), sum2, sum1);
    to[3] = fma(V(8), gap2, gap1) + m[5];
  }
  template <class V>
  static TL_ALWAYS_INLINE void output_gradient(const V (&y)[4], V (&to)[6]) {  // A y
    const V even1 = y[0] + y[2], odd1 = y[1] + y[3];
    const V even2 = fma(V(4), y[2], y[0]), odd2 = fma(V(8), y[3], y[1] * V(2));
    to[0] = y[0];
    to[1] = even1 + odd1;
    to[2] = even1 - odd1;
    to[3] = even2 + odd2;
    to[4] = even2 - odd2;
    to[5] = y[3];
  }
  template <class V>
  static TL_ALWAYS_INLINE void kernel_gradient(const V (&u)[6], V (&to)[3]) {  // G^T u
    const V sum1 = u[1] + u[2], gap1 = u[1] - u[2], sum2 = u[3] + u[4], gap2 = u[3] - u[4];
    to[0] = fma(V(0.25), u[0], fma(V(-1.0 / 6), sum1, sum2 * V(1.0 / 24)));
    to[1] = fma(V(-1.0 / 6), gap1, gap2 * V(1.0 / 12));
    to[2] = fma(V(-1.0 / 6), sum1, fma(V(1.0 / 6), sum2, u[5]));
  }
};

/// F(2, 3), from the points 0, 1, -1 and infinity: fewer products saved, hardly any digits lost.
struct Winograd2 {
  static constexpr int kOut = 2, kIn = 4;

  template <class V>
  static TL_ALWAYS_INLINE void input(const V (&x)[4], V (&to)[4]) {
    to[0] = x[0] - x[2];
    to[1] = x[1] + x[2];
    to[2] = x[2] - x[1];
    to[3] = x[3] - x[1];
  }
  template <class V>
  static TL_ALWAYS_INLINE void kernel(const V (&w)[3], V (&to)[4]) {
    const V half = (w[0] + w[2]) * V(0.5), middle = w[1] * V(0.5);
    to[0] = w[0];
    to[1] = half + middle;
    to[2] = half - middle;
    to[3] = w[2];
  }
  template <class V>
  static TL_ALWAYS_INLINE void output(const V (&m)[4], V (&to)[2]) {
    to[0] = m[0] + m[1] + m[2];
    to[1] = m[1] - m[2] + m[3];
  }
  template <class V>
  static TL_ALWAYS_INLINE void output_gradient(const V (&y)[2], V (&to)[4]) {
    to[0] = y[0];
    to[1] = y[0] + y[1];
    to[2] = y[0] - y[1];
    to[3] = y[1];
  }
  template <class V>
  static TL_ALWAYS_INLINE void kernel_gradient(const V (&u)[4], V (&to)[3]) {
    const V half = (u[1] + u[2]) * V(0.5);
    to[0] = u[0] + half;
    to[1] = (u[1] - u[2]) * V(0.5);
    to[2] = half + u[3];
  }
};

/// One of the transforms on both axes: `read(row, col)` of [kFrom, kFrom] to `write(row, col, value)` of [kTo, kTo].
template <int kFrom, int kTo, class T, class Along, class Read, class Write>
TL_ALWAYS_INLINE void transform_tile(const Along& along, const Read& read, const Write& write) {
  Vec<T> half[kTo][kFrom];
  TL_UNROLL
  for (int col = 0; col < kFrom; ++col) {
    Vec<T> from[kFrom], to[kTo];
    TL_UNROLL
    for (int row = 0; row < kFrom; ++row) from[row] = read(row, col);
    along(from, to);
    TL_UNROLL
    for (int row = 0; row < kTo; ++row) half[row][col] = to[row];
  }
  TL_UNROLL
  for (int row = 0; row < kTo; ++row) {
    Vec<T> to[kTo];
    along(half[row], to);
    TL_UNROLL
    for (int col = 0; col < kTo; ++col) write(row, col, to[col]);
  }
}

/// The points of one tile after another: element (point, tile, channel) is at data[point * plane + tile * row +
/// channel].
template <class T>
struct WinogradPoints {
  T* data;
  int64_t plane, row;

  static int64_t row_of(int64_t channels) { return copied_stride<T>(channels); }
  static int64_t plane_of(int64_t tiles, int64_t channels) { return copied_stride<T>(tiles * row_of(channels)); }
  WinogradPoints(T* memory, int64_t tiles, int64_t channels)
      : data(memory), plane(plane_of(tiles, channels)), row(row_of(channels)) {}
};

/// Tiles over a batch of pictures of the size of the results.
template <class F>
struct WinogradTiles {
  int64_t images, height, width;  // of the results
  int64_t down = divide_up(height, F::kOut), across = divide_up(width, F::kOut);

  int64_t count() const { return images * down * across; }
  struct Place {
    int64_t image, y, x;  // of the tile's first result
  };
  Place place(int64_t tile) const {
    return {tile / (down * across), tile / across % down * F::kOut, tile % across * F::kOut};
  }
};

/// x [images, height, width, channels] as tiles read it: what lies outside is zero.
template <class T>
struct WinogradPicture {
  const T* x;
  int64_t height, width, channels;
  const T* zeros = nullptr;  // [channels]

  const T* pixel(int64_t image, int64_t y, int64_t x_at) const {
    const bool inside = y >= 0 && y < height && x_at >= 0 && x_at < width;
    return inside ? x + ((image * height + y) * width + x_at) * channels : zeros;
  }
};

/// points[:, tile] = transform of the kFrom x kFrom pixels at (y, x), `count` channels from `first_channel` on
template <int kFrom, int kTo, class T, class Along>
void winograd_read(const WinogradPicture<T>& picture, int64_t image, int64_t y, int64_t x, int64_t first_channel,
                   int64_t count, const Along& along, const WinogradPoints<T>& points, int64_t tile) {
  const T* pixels[kFrom][kFrom];
  for (int row = 0; row < kFrom; ++row)
    for (int col = 0; col < kFrom; ++col) pixels[row][col] = picture.pixel(image, y + row, x + col) + first_channel;
  T* const out = points.data + tile * points.row;
  for_each_vector<T>(0, count, [&](int64_t c, auto n) TL_INLINE_LAMBDA {
    transform_tile<kFrom, kTo, T>(
        along, [&](int row, int col) TL_INLINE_LAMBDA { return Vec<T>::load(pixels[row][col] + c, n); },
        [&](int row, int col, Vec<T> value)
            TL_INLINE_LAMBDA { value.store(out + (row * kTo + col) * points.plane + c, n); });
  });
}

/// B^T x B at a tile of results: what forward and the gradient of w read.
template <class F, class T>
void winograd_read_input(const WinogradPicture<T>& picture, const typename WinogradTiles<F>::Place& at, int64_t pad_top,
                         int64_t pad_left, const WinogradPoints<T>& points, int64_t tile) {
  const auto along = [](const auto& from, auto& to) TL_INLINE_LAMBDA { F::input(from, to); };
  winograd_read<F::kIn, F::kIn>(picture, at.image, at.y - pad_top, at.x - pad_left, 0, picture.channels, along, points,
                                tile);
}

template <class F>
constexpr int kWinogradPoints = F::kIn* F::kIn;

/// slice[point, i, cin] = G w G^T of the kernels `out_first` + i of weight [cout, 3, 3, cin], turned around if asked.
template <class F, class T>
void winograd_transform_kernels(const T* weight, int64_t cin, int64_t out_first, int64_t outs, bool turned,
                                const WinogradPoints<T>& slice) {
  const auto along = [](const auto& from, auto& to) TL_INLINE_LAMBDA { F::kernel(from, to); };
  for (int64_t i = 0; i < outs; ++i) {
    const T* const kernel = weight + (out_first + i) * 9 * cin;
    T* const out = slice.data + i * slice.row;
    for_each_vector<T>(0, cin, [&](int64_t c, auto n) TL_INLINE_LAMBDA {
      transform_tile<3, F::kIn, T>(
          along,
          [&](int row, int col) TL_INLINE_LAMBDA {
            const int tap = row * 3 + col;
            return Vec<T>::load(kernel + (turned ? 8 - tap : tap) * cin + c, n);
          },
          [&](int row, int col, Vec<T> value)
              TL_INLINE_LAMBDA { value.store(out + (row * F::kIn + col) * slice.plane + c, n); });
    });
  }
}

/// Transforms weight [cout, 3, 3, cin] and packs each point as a right matrix: [cin, cout] or, turned (for the gradient
/// of x), [cout, cin]. Behind the points come zeros for a pixel of what the matrices multiply.
template <class F, class T>
void winograd_pack(const Wide<T>* weight, int64_t cin, int64_t cout, bool turned, T* packed) {
  using Points = WinogradPoints<Wide<T>>;
  const int64_t n = turned ? cin : cout, k = turned ? cout : cin, size = gemm_packed_size(n, k);
  std::fill_n(packed + kWinogradPoints<F> * size, k, T{});
  // Kernels are transformed a few at a time: whole panels of columns, or rows that are packed together.
  const int64_t share = turned ? packed_rows(packed) : packed_cols(packed);
  parallel_for(divide_up(cout, share), 1, [&](int64_t first, int64_t last) {
    const Points slice(scratch(ScratchUse::rows).get<Wide<T>>(kWinogradPoints<F> * Points::plane_of(share, cin)), share,
                       cin);
    for (int64_t out = first * share; out < std::min(last * share, cout); out += share) {
      const int64_t outs = std::min(share, cout - out);
      winograd_transform_kernels<F>(weight, cin, out, outs, turned, slice);
      for (int point = 0; point < kWinogradPoints<F>; ++point) {
        const Wide<T>* const from = slice.data + point * slice.plane;
        if (turned) pack_some_rows(n, k, from, slice.row, out, outs, packed + point * size);
        else pack_some_cols(n, k, from, slice.row, out, outs, packed + point * size);
      }
    }
  });
}

/// How many tiles go through the stages together: as many as keep their points in the second cache; more where the
/// transformed kernels are so large that each block has to read them from further away.
template <class F>
int64_t winograd_block(int64_t tiles, int64_t cin, int64_t cout) {
  constexpr int64_t kPointBytes = kWinogradPoints<F> * static_cast<int64_t>(sizeof(float));
  constexpr int64_t kCacheBytes = 640 * 1024, kLargeKernel = 4 << 20, kLeast = 28, kMost = 112;
  const int64_t in_cache = kCacheBytes / (kPointBytes * (cin + cout)) / 14 * 14;
  const int64_t least = kPointBytes * cin * cout > kLargeKernel ? kMost : kLeast;
  return std::min(std::clamp(in_cache, least, kMost), std::max<int64_t>(tiles, 1));
}

/// y = activation(conv(x) + bias + residual), kernels transformed and packed before.
template <class F, class T>
struct WinogradForward {
  WinogradPicture<T> x;
  int64_t pad_top, pad_left;
  WinogradTiles<F> tiles;
  const T* kernels;
  T* y;
  int64_t cout;
  const Wide<T>* bias = nullptr;
  const T* residual = nullptr;
  Activation activation = Activation::none;

  void run() {
    const int64_t count = tiles.count(), block = winograd_block<F>(count, x.channels, cout);
    x.zeros = kernels + kWinogradPoints<F> * gemm_packed_size(cout, x.channels);
    // A single block is shared out among threads stage by stage.
    parallel_for(divide_up(count, block), 1, [&](int64_t first, int64_t last) {
      for (int64_t b = first; b < last; ++b) run_block(b * block, std::min(block, count - b * block));
    });
  }

 private:
  void run_block(int64_t first_tile, int64_t count) const {
    constexpr int kPoints = kWinogradPoints<F>;
    using Points = WinogradPoints<T>;
    using Sums = WinogradPoints<Wide<T>>;
    const Points in(scratch(ScratchUse::rows).get<T>(kPoints * Points::plane_of(count, x.channels)), count, x.channels);
    const Sums out(scratch(ScratchUse::partial).get<Wide<T>>(kPoints * Sums::plane_of(count, cout)), count, cout);
    parallel_for(count, row_grain(kPoints * x.channels), [&](int64_t first, int64_t last) {
      for (int64_t tile = first; tile < last; ++tile)
        winograd_read_input<F>(x, tiles.place(first_tile + tile), pad_top, pad_left, in, tile);
    });
    const int64_t kernel = gemm_packed_size(cout, x.channels);
    parallel_for(kPoints, 1, [&](int64_t first, int64_t last) {
      for (int64_t point = first; point < last; ++point)
        multiply<T>(count, cout, x.channels, StridedLeft<T>{in.data + point * in.plane, in.row, 1},
                    PackedRight<T>{kernels + point * kernel},
                    StoreTiles<Wide<T>, EvenRows>{.c = out.data + point * out.plane, .place = {out.row}});
    });
    parallel_for(count, row_grain(kPoints * cout), [&](int64_t first, int64_t last) {
      for (int64_t tile = first; tile < last; ++tile) write(out, tile, tiles.place(first_tile + tile));
    });
  }

  void write(const WinogradPoints<Wide<T>>& points, int64_t tile, const typename WinogradTiles<F>::Place& at) const {
    const int64_t rows = std::min<int64_t>(F::kOut, tiles.height - at.y);
    const int64_t cols = std::min<int64_t>(F::kOut, tiles.width - at.x);
    const int64_t line = tiles.width * cout, origin = (at.image * tiles.height + at.y) * line + at.x * cout;
    const Wide<T>* const from = points.data + tile * points.row;
    const auto along = [](const auto& m, auto& to) TL_INLINE_LAMBDA { F::output(m, to); };
    for_each_vector<T>(0, cout, [&](int64_t c, auto n) TL_INLINE_LAMBDA {
      const Vec<T> shift = bias ? Vec<T>::load(bias + c, n) : Vec<T>(0);
      transform_tile<F::kIn, F::kOut, T>(
          along,
          [&](int row, int col)
              TL_INLINE_LAMBDA { return Vec<T>::load(from + (row * F::kIn + col) * points.plane + c, n); },
          [&](int row, int col, Vec<T> value) TL_INLINE_LAMBDA {
            if (row >= rows || col >= cols) return;
            const int64_t place = origin + row * line + col * cout + c;
            value += shift;
            if (residual) value += Vec<T>::load(residual + place, n);
            bounded(activation, value).store(y + place, n);
          });
    });
    for (int64_t row = 0; row < rows; ++row) smooth_in_place(activation, y + origin + row * line, cols * cout);
  }
};

/// grad_weight [cout, 3, 3, cin]
template <class F, class T>
struct WinogradWeight {
  static constexpr int kPoints = kWinogradPoints<F>;
  using Points = WinogradPoints<T>;

  WinogradPicture<T> x, grad_y;
  int64_t pad_top, pad_left;
  WinogradTiles<F> tiles;
  T* grad_weight;

  void run() {
    const int64_t cin = x.channels, cout = grad_y.channels, count = tiles.count();
    // Sums for a part of the outputs at a time, so that they stay in the third cache.
    constexpr int64_t kSumBytes = 6 << 20, kMostTiles = 192;
    const int64_t most = kSumBytes / (kPoints * cin * static_cast<int64_t>(sizeof(T))) / 16 * 16;
    const int64_t part = std::min(std::max<int64_t>(most, 16), cout), block = std::min(kMostTiles, count);
    const Points in(scratch(ScratchUse::rows).get<T>(kPoints * Points::plane_of(block, cin)), block, cin);
    const Points out(scratch(ScratchUse::partial).get<T>(kPoints * Points::plane_of(block, part)), block, part);
    const int64_t sums_size = kPoints * Points::plane_of(part, cin), pixel = std::max(cin, cout);
    const Points sums(scratch(ScratchUse::sums).get<T>(sums_size + pixel), part, cin);
    std::fill_n(sums.data + sums_size, pixel, T(0));
    x.zeros = grad_y.zeros = sums.data + sums_size;
    for (int64_t first_out = 0; first_out < cout; first_out += part) {
      const int64_t outs = std::min(part, cout - first_out);
      for (int64_t first_tile = 0; first_tile < count; first_tile += block)
        add_block(first_tile, std::min(block, count - first_tile), first_out, outs, in, out, sums);
      parallel_for(outs, 1, [&](int64_t first, int64_t last) {
        for (int64_t i = first; i < last; ++i) finish(sums, i, grad_weight + (first_out + i) * 9 * cin);
      });
    }
  }

 private:
  void add_block(int64_t first_tile, int64_t count, int64_t first_out, int64_t outs, const Points& in,
                 const Points& out, const Points& sums) const {
    const auto of_y = [](const auto& from, auto& to) TL_INLINE_LAMBDA { F::output_gradient(from, to); };
    parallel_for(count, row_grain(kPoints * (x.channels + outs)), [&](int64_t first, int64_t last) {
      for (int64_t tile = first; tile < last; ++tile) {
        const auto at = tiles.place(first_tile + tile);
        winograd_read_input<F>(x, at, pad_top, pad_left, in, tile);
        winograd_read<F::kOut, F::kIn>(grad_y, at.image, at.y, at.x, first_out, outs, of_y, out, tile);
      }
    });
    parallel_for(kPoints, 1, [&](int64_t first, int64_t last) {
      for (int64_t point = first; point < last; ++point)
        multiply<T>(
            outs, x.channels, count, StridedLeft<T>{out.data + point * out.plane, 1, out.row},
            RowsRight<T>{in.data + point * in.plane, in.row},
            StoreTiles<T, EvenRows>{
                .c = sums.data + point * sums.plane, .place = {sums.row}, .beta = first_tile == 0 ? T(0) : T(1)});
    });
  }

  void finish(const Points& sums, int64_t i, T* kernel) const {
    const T* const from = sums.data + i * sums.row;
    const auto along = [](const auto& u, auto& to) TL_INLINE_LAMBDA { F::kernel_gradient(u, to); };
    for_each_vector<T>(0, x.channels, [&](int64_t c, auto n) TL_INLINE_LAMBDA {
      transform_tile<F::kIn, 3, T>(
          along,
          [&](int row, int col)
              TL_INLINE_LAMBDA { return Vec<T>::load(from + (row * F::kIn + col) * sums.plane + c, n); },
          [&](int row, int col, Vec<T> value)
              TL_INLINE_LAMBDA { value.store(kernel + (row * 3 + col) * x.channels + c, n); });
    });
  }
};
