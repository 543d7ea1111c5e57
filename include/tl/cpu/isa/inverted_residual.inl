// The inverted residual, a few lines at a time: expansion into a ring of lines, depthwise convolution, projection.
//
// The ring holds floats, as each of its numbers is read many times; in bfloat16 they are rounded before, so that the
// results are those of three convolutions.

template <class T, int kTaps, int kStep>
class InvertedResidual {
  using Number = Wide<T>;  // of the ring

 public:
  explicit InvertedResidual(const InvertedResidualArgs<T>& args)
      : args_(args), g_(args.depthwise), bands_(bands_of(g_, threads())), stride_(copied_stride<T>(g_.cin)) {
    // As many lines at a time as the second cache holds, in equal steps.
    constexpr int64_t kBytes = 512 * 1024;
    const int64_t line = (g_.w + kTaps) * g_.cin;
    const int64_t out_line = g_.ow * stride_ * static_cast<int64_t>(sizeof(T)) / static_cast<int64_t>(sizeof(Number));
    const int64_t most = kBytes / static_cast<int64_t>(sizeof(Number)) - (kTaps - kStep) * line;
    const int64_t band = divide_up(g_.oh, bands_);
    const int64_t lines = std::clamp<int64_t>(most / (kStep * line + out_line), 1, band);
    lines_ = divide_up(band, divide_up(band, lines));
  }

  void run() {
    kernel_ = wide_kernel();
    parallel_for(g_.n * bands_, 1, [this](int64_t first, int64_t last) {
      // Products have the scratch memory of pack_a for themselves.
      const LineRing<Number> ring(ScratchUse::rows, (lines_ - 1) * kStep + kTaps, kTaps, g_.w,
                                  kLinePlaces * kStep + kTaps, g_.cin);
      T* const filtered = scratch(ScratchUse::partial).template get<T>(lines_ * g_.ow * stride_);
      for (int64_t task = first; task < last; ++task) {
        const int64_t band = task % bands_;
        run_band(ring, filtered, task / bands_, g_.oh * band / bands_, g_.oh * (band + 1) / bands_);
      }
    });
  }

 private:
  void run_band(const LineRing<Number>& ring, T* filtered, int64_t image, int64_t first, int64_t last) const {
    int64_t filled = std::max<int64_t>(first * kStep - g_.pad_top, 0);
    for (int64_t y = first; y < last; y += lines_) {
      const int64_t lines = std::min(lines_, last - y);
      for (const int64_t end = std::min((y + lines - 1) * kStep - g_.pad_top + kTaps, g_.h); filled < end; ++filled)
        expand((image * g_.h + filled) * g_.w, ring.line(filled));
      for (int64_t i = 0; i < lines; ++i) filter(ring, y + i, filtered + i * g_.ow * stride_);
      project(filtered, (image * g_.oh + y) * g_.ow, lines * g_.ow);
    }
  }

  /// One line of what the depthwise convolution reads.
  void expand(int64_t first, Number* out) const {
    const T* const x = args_.x + first * args_.cin;
    if (!args_.expand) {
      for_each_vector<T>(0, g_.w * g_.cin,
                         [=](int64_t i, auto n) TL_INLINE_LAMBDA { Vec<T>::load(x + i, n).store(out + i, n); });
      return;
    }
    StoreTiles<T, EvenRows> result{
        .c = nullptr, .place = {g_.cin}, .bias = args_.expand_bias, .activation = args_.expand_activation};
    if constexpr (std::is_same_v<T, Number>) result.c = out;
    else result.wide_c = out;
    multiply<T>(g_.w, g_.cin, args_.cin, StridedLeft<T>{x, args_.cin, 1}, PackedRight<T>{args_.expand}, result);
  }

  /// One line of the depthwise convolution.
  void filter(const LineRing<Number>& ring, int64_t y, T* out) const {
    const int64_t channels = g_.cin, stride = stride_, top = y * kStep - g_.pad_top;
    const Number* const biases = args_.kernel_bias;
    const Bounds<T> bounds(args_.depthwise_activation);
    for (int64_t c = 0; c < channels; c += kChannelChunk)
      for (int64_t first = 0; first < g_.ow; first += kLinePlaces) {
        const Number* lines[kTaps];
        for (int t = 0; t < kTaps; ++t)
          lines[t] = (top + t >= 0 && top + t < g_.h ? ring.line(top + t) : ring.zeros()) +
                     (first * kStep - g_.pad_left) * channels;
        const int64_t places = std::min<int64_t>(kLinePlaces, g_.ow - first);
        ring_places<Number, kTaps, kStep>(lines, channels, c, std::min(c + kChannelChunk, channels), kernel_,
                                          [=](int64_t at, auto n, const Vec<T>(&sums)[kLinePlaces]) TL_INLINE_LAMBDA {
                                            const auto bias = Vec<T>::load(biases + at, n);
                                            TL_UNROLL
                                            for (int o = 0; o < kLinePlaces; ++o)
                                              if (o < places)
                                                bounds.value(sums[o] + bias).store(out + (first + o) * stride + at, n);
                                          });
      }
  }

  void project(const T* filtered, int64_t first, int64_t rows) const {
    const int64_t at = first * args_.cout;
    multiply<T>(rows, args_.cout, g_.cin, StridedLeft<T>{filtered, stride_, 1}, PackedRight<T>{args_.project},
                StoreTiles<T, EvenRows>{.c = args_.y + at,
                                        .place = {args_.cout},
                                        .bias = args_.project_bias,
                                        .residual = args_.residual ? args_.residual + at : nullptr});
  }

  /// The depthwise kernel as it is multiplied.
  const Number* wide_kernel() const {
    if constexpr (std::is_same_v<T, Number>) {
      return args_.kernel;
    } else {
      const int64_t size = kTaps * kTaps * g_.cin;
      const T* const from = args_.kernel;
      Number* const to = scratch(ScratchUse::sums).template get<Number>(size);
      for_each_vector<T>(0, size,
                         [=](int64_t i, auto n) TL_INLINE_LAMBDA { Vec<T>::load(from + i, n).store(to + i, n); });
      return to;
    }
  }

  const InvertedResidualArgs<T>& args_;
  const ConvGeometry& g_;
  const Number* kernel_ = nullptr;
  int64_t bands_, stride_, lines_;
};

template <class T>
void inverted_residual(const InvertedResidualArgs<T>& args) {
  const ConvGeometry& g = args.depthwise;
  if (g.kh == 3) return g.stride_h == 1 ? InvertedResidual<T, 3, 1>(args).run() : InvertedResidual<T, 3, 2>(args).run();
  g.stride_h == 1 ? InvertedResidual<T, 5, 1>(args).run() : InvertedResidual<T, 5, 2>(args).run();
}
