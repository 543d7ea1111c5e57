// The inverted residual, a few lines at a time: expansion into a ring of lines, depthwise convolution, projection.

/// finish(tile, width, row, rows, col, cols) for all tiles of left [rows, k] * right [k, n], right as pack_right left
/// it
template <class T, class Finish>
TL_ALWAYS_INLINE void multiply_packed(int64_t rows, int64_t n, int64_t k, const RowView<T>& left, const T* right,
                                      const Finish& finish) {
  constexpr int64_t kRows = Tile<T>::kRows, kCols = Tile<T>::kCols;
  alignas(64) T tile[kRows * kCols], more[kRows * kCols];
  const Blocking<T> blocking(n, k);
  const int64_t panels = divide_up(rows, kRows);
  for (int64_t col_first = 0; col_first < n; col_first += blocking.block_n)
    for (int64_t panel = 0; panel < panels; ++panel) {
      const int64_t row = rows * panel / panels, count = rows * (panel + 1) / panels - row;
      const int64_t cols = blocking.cols_at(col_first);
      for (int64_t col = 0; col < cols; col += kCols) {
        const int64_t width = panel_width<T>(cols - col);
        const auto multiply_tile = pick_multiply_tile<T>(count, width);
        for (int64_t p = 0; p < k; p += blocking.block_k) {
          const RowView<T> view{left.data + row * left.row_stride + p, left.row_stride, 1};
          multiply_tile(blocking.rows_at(p), view, {view.data, 0},
                        right + blocking.offset(col_first, p) + col * blocking.rows_at(p), p == 0 ? tile : more);
          if (p == 0) continue;
          for (int64_t i = 0; i < count * width; i += Vec<T>::kLanes)
            (Vec<T>::load(tile + i) + Vec<T>::load(more + i)).store(tile + i);
        }
        finish(tile, width, row, count, col_first + col, std::min(width, cols - col));
      }
    }
}

template <class T, int kTaps, int kStep>
class InvertedResidual {
 public:
  explicit InvertedResidual(const InvertedResidualArgs<T>& args)
      : args_(args),
        g_(args.depthwise),
        bands_(g_.n < 4 * threads() ? threads() / std::gcd(g_.n, static_cast<int64_t>(threads())) : 1),
        stride_(copied_stride<T>(g_.cin)),
        expanded_(ChannelMap<T>{nullptr, nullptr, args.expand_activation}),
        filtered_(ChannelMap<T>{nullptr, nullptr, args.depthwise_activation}) {
    // As many lines at a time as the second cache holds, in equal steps.
    constexpr int64_t kBytes = 512 * 1024;
    const int64_t line = (g_.w + kTaps) * g_.cin, out_line = g_.ow * stride_;
    const int64_t most = kBytes / static_cast<int64_t>(sizeof(T)) - (kTaps - kStep) * line;
    const int64_t band = divide_up(g_.oh, bands_);
    const int64_t lines = std::clamp<int64_t>(most / (kStep * line + out_line), 1, band);
    lines_ = divide_up(band, divide_up(band, lines));
  }

  void run() const {
    parallel_for(g_.n * bands_, 1, [this](int64_t first, int64_t last) {
      const LineRing<T> ring((lines_ - 1) * kStep + kTaps, kTaps, g_.w, kLinePlaces * kStep + kTaps, g_.cin);
      T* const filtered = scratch(ScratchUse::partial).template get<T>(lines_ * g_.ow * stride_);
      for (int64_t task = first; task < last; ++task) {
        const int64_t band = task % bands_;
        run_band(ring, filtered, task / bands_, g_.oh * band / bands_, g_.oh * (band + 1) / bands_);
      }
    });
  }

 private:
  void run_band(const LineRing<T>& ring, T* filtered, int64_t image, int64_t first, int64_t last) const {
    int64_t filled = std::max<int64_t>(first * kStep - g_.pad_top, 0);
    for (int64_t y = first; y < last; y += lines_) {
      const int64_t lines = std::min(lines_, last - y);
      const int64_t end = std::min((y + lines - 1) * kStep - g_.pad_top + kTaps, g_.h);
      if (end > filled) expand(ring, image, filled, end - filled);
      filled = std::max(filled, end);
      for (int64_t i = 0; i < lines; ++i) filter(ring, y + i, filtered + i * g_.ow * stride_);
      project(filtered, (image * g_.oh + y) * g_.ow, lines * g_.ow);
    }
  }

  void expand(const LineRing<T>& ring, int64_t image, int64_t first, int64_t lines) const {
    const T* const x = args_.x + (image * g_.h + first) * g_.w * args_.cin;
    if (!args_.expand) {
      for (int64_t y = 0; y < lines; ++y) std::copy_n(x + y * g_.w * g_.cin, g_.w * g_.cin, ring.line(first + y));
      return;
    }
    multiply_packed<T>(lines * g_.w, g_.cin, args_.cin, {x, args_.cin, 1}, args_.expand,
                       [&](const T* tile, int64_t width, int64_t row, int64_t rows, int64_t col, int64_t cols) {
                         T* out[Tile<T>::kRows];
                         for (int64_t i = 0; i < rows; ++i)
                           out[i] = ring.line(first + (row + i) / g_.w) + (row + i) % g_.w * g_.cin + col;
                         for_each_vector<T>(0, cols, [&](int64_t j, auto n) TL_INLINE_LAMBDA {
                           const auto bias = Vec<T>::load(args_.expand_bias + col + j, n);
                           for (int64_t i = 0; i < rows; ++i)
                             expanded_.bounded(Vec<T>::load(tile + i * width + j) + bias).store(out[i] + j, n);
                         });
                       });
  }

  /// One line of the depthwise convolution.
  void filter(const LineRing<T>& ring, int64_t y, T* out) const {
    const int64_t channels = g_.cin, top = y * kStep - g_.pad_top;
    for (int64_t c = 0; c < channels; c += kChannelChunk)
      for (int64_t first = 0; first < g_.ow; first += kLinePlaces) {
        const T* lines[kTaps];
        for (int t = 0; t < kTaps; ++t)
          lines[t] = (top + t >= 0 && top + t < g_.h ? ring.line(top + t) : ring.zeros()) +
                     (first * kStep - g_.pad_left) * channels;
        const int64_t places = std::min<int64_t>(kLinePlaces, g_.ow - first);
        ring_places<T, kTaps, kStep>(lines, channels, c, std::min(c + kChannelChunk, channels), args_.kernel,
                                     [&](int64_t at, auto n, const Vec<T>(&sums)[kLinePlaces]) TL_INLINE_LAMBDA {
                                       const auto bias = Vec<T>::load(args_.kernel_bias + at, n);
                                       TL_UNROLL
                                       for (int o = 0; o < kLinePlaces; ++o)
                                         if (o < places)
                                           filtered_.bounded(sums[o] + bias).store(out + (first + o) * stride_ + at, n);
                                     });
      }
  }

  void project(const T* filtered, int64_t first, int64_t rows) const {
    const int64_t channels = args_.cout;
    multiply_packed<T>(rows, channels, g_.cin, {filtered, stride_, 1}, args_.project,
                       [&](const T* tile, int64_t width, int64_t row, int64_t count, int64_t col, int64_t cols) {
                         for_each_vector<T>(0, cols, [&](int64_t j, auto n) TL_INLINE_LAMBDA {
                           const int64_t at = (first + row) * channels + col + j;
                           const auto bias = Vec<T>::load(args_.project_bias + col + j, n);
                           for (int64_t i = 0; i < count; ++i) {
                             auto y = Vec<T>::load(tile + i * width + j) + bias;
                             if (args_.residual) y += Vec<T>::load(args_.residual + at + i * channels, n);
                             y.store(args_.y + at + i * channels, n);
                           }
                         });
                       });
  }

  const InvertedResidualArgs<T>& args_;
  const ConvGeometry& g_;
  int64_t bands_, stride_, lines_;
  Mapping<T> expanded_, filtered_;
};

template <class T>
void inverted_residual(const InvertedResidualArgs<T>& args) {
  const ConvGeometry& g = args.depthwise;
  if (g.kh == 3) return g.stride_h == 1 ? InvertedResidual<T, 3, 1>(args).run() : InvertedResidual<T, 3, 2>(args).run();
  g.stride_h == 1 ? InvertedResidual<T, 5, 1>(args).run() : InvertedResidual<T, 5, 2>(args).run();
}
