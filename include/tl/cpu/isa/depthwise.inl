// Depthwise convolution: each channel has its own kernel. No matrix product: vectors run over channels, and a few
// places of one line are computed together, so that the pixels they share are loaded once.

/// One line of places and the taps that they read. A weight's vector for tap (y, x) is at weight + y * down + x *
/// across.
template <class T>
struct DepthwiseLine {
  const T* x;  // the image
  TapAxis down, across;
  int64_t y;  // the place along `down`
  int64_t channels;
  const T* zeros;  // [channels], read in place of pixels outside of the picture

  const T* pixel(int64_t tap_y, int64_t at_x) const {
    const int64_t at_y = down.origin + y * down.step + tap_y * down.tap_step;
    const bool inside = at_y >= 0 && at_y < down.size && at_x >= 0 && at_x < across.size;
    return inside ? x + (at_y * across.size + at_x) * channels : zeros;
  }

  /// What the next line of places will read besides what this one reads: `down.step` lines of pixels from here.
  const T* ahead(int64_t first) const {
    const int64_t at_y = down.origin + (y + 1) * down.step + (down.taps - 1) * down.tap_step - (down.step - 1);
    return x + (at_y * across.size + first * across.step) * channels;
  }
};

/// Fetches kCount vectors. Called in the midst of arithmetic: too many fetches in a row are dropped, and the hardware
/// does not foresee these on its own, as neighbouring places walk through memory side by side.
template <class T, int kCount, bool kWrite>
TL_ALWAYS_INLINE void fetch(const T* p) {
  TL_UNROLL
  for (int i = 0; i < kCount; ++i) __builtin_prefetch(p + i * Vec<T>::kLanes, kWrite, 2);
}

template <class T>
struct DepthwiseOut {
  T* y;            // the first place of the line
  int64_t stride;  // from one place to the next
  int64_t line;    // from one line to the next
  const Wide<T>* bias;
  const T* residual;
  Activation activation;
};

constexpr int kLinePlaces = 4;  // computed together
constexpr int kMostLines = 7;   // of a kernel with a compiled width

/// The pixels that the taps of `kLinePlaces` neighbouring places read: kTaps taps, kStep pixels from place to place.
template <class T, int kTaps, int kStep>
struct PixelWindow {
  static constexpr int kPixels = (kLinePlaces - 1) * kStep + kTaps;
  const T* at[kMostLines][kPixels];

  PixelWindow(const DepthwiseLine<T>& line, int64_t first, int64_t places) {
    const int64_t used = (places - 1) * kStep + kTaps, left = line.across.origin + first * kStep;
    for (int64_t y = 0; y < line.down.taps; ++y)
      for (int64_t i = 0; i < kPixels; ++i) at[y][i] = i < used ? line.pixel(y, left + i) : line.zeros;
  }
};

template <class T, class Count>
TL_ALWAYS_INLINE void finish_place(const DepthwiseOut<T>& out, int64_t place, int64_t c, Count n, Vec<T> sum) {
  if (out.bias) sum += Vec<T>::load(out.bias + c, n);
  if (out.residual) sum += Vec<T>::load(out.residual + place * out.stride + c, n);
  bounded(out.activation, sum).store(out.y + place * out.stride + c, n);
}

template <class T, int kTaps, int kStep>
void depthwise_places(const DepthwiseLine<T>& line, const T* weight, int64_t weight_down, int64_t weight_across,
                      int64_t first, int64_t places, const DepthwiseOut<T>& out) {
  using Window = PixelWindow<T, kTaps, kStep>;
  const Window window(line, first, places);
  const int64_t lines = line.down.taps, row = line.across.size * line.channels;
  const T *const ahead = line.ahead(first), *const ahead_out = out.y + first * out.stride + out.line;
  for_each_vector<T>(0, line.channels, [&](int64_t c, auto n) TL_INLINE_LAMBDA {
    for (int y = 0; y < kStep; ++y) fetch<T, kLinePlaces * kStep, false>(ahead + y * row + c * kLinePlaces * kStep);
    fetch<T, kLinePlaces, true>(ahead_out + c * kLinePlaces);
    Vec<T> sums[kLinePlaces];
    TL_UNROLL
    for (int o = 0; o < kLinePlaces; ++o) sums[o] = Vec<T>(0);
    for (int64_t y = 0; y < lines; ++y) {
      Vec<T> w[kTaps];
      TL_UNROLL
      for (int t = 0; t < kTaps; ++t) w[t] = Vec<T>::load(weight + y * weight_down + t * weight_across + c, n);
      TL_UNROLL
      for (int i = 0; i < Window::kPixels; ++i) {
        const auto pixel = Vec<T>::load(window.at[y][i] + c, n);
        TL_UNROLL
        for (int o = 0; o < kLinePlaces; ++o)
          if (i - o * kStep >= 0 && i - o * kStep < kTaps) sums[o] = fma(pixel, w[i - o * kStep], sums[o]);
      }
    }
    TL_UNROLL
    for (int o = 0; o < kLinePlaces; ++o)
      if (o < places) finish_place(out, first + o, c, n, sums[o]);
  });
}

/// The same for any kernel and dilation, place by place.
template <class T>
void depthwise_places_any(const DepthwiseLine<T>& line, const T* weight, int64_t weight_down, int64_t weight_across,
                          int64_t first, int64_t places, const DepthwiseOut<T>& out) {
  const int64_t taps_across = line.across.taps, taps = line.down.taps * taps_across;
  const T** const pixels = scratch(ScratchUse::rows).get<const T*>(taps);
  for (int64_t place = first; place < first + places; ++place) {
    const int64_t at_x = line.across.origin + place * line.across.step;
    for (int64_t tap = 0; tap < taps; ++tap)
      pixels[tap] = line.pixel(tap / taps_across, at_x + tap % taps_across * line.across.tap_step);
    for_each_vector<T>(0, line.channels, [&](int64_t c, auto n) TL_INLINE_LAMBDA {
      Vec<T> sum(0);
      for (int64_t y = 0; y < line.down.taps; ++y)
        for (int64_t x = 0; x < taps_across; ++x)
          sum = fma(Vec<T>::load(pixels[y * taps_across + x] + c, n),
                    Vec<T>::load(weight + y * weight_down + x * weight_across + c, n), sum);
      finish_place(out, place, c, n, sum);
    });
  }
}

/// Where windows are worth compiling: not for checking, nor for a machine so old that it lacks AVX2.
template <class T>
inline constexpr bool kHasWindows = std::is_same_v<Wide<T>, float> && (TL_VECTOR_BYTES > 16 || !TL_X86);

template <class T, int kTaps, int kStep>
bool fits_window(const DepthwiseLine<T>& line) {
  return line.across.taps == kTaps && line.across.step == kStep && line.across.tap_step == 1 &&
         line.down.taps <= kMostLines;
}

template <class T>
void depthwise_line(const DepthwiseLine<T>& line, const T* weight, int64_t weight_down, int64_t weight_across,
                    const DepthwiseOut<T>& out) {
  auto* places = &depthwise_places_any<T>;
  if constexpr (kHasWindows<T>) {
    if (fits_window<T, 3, 1>(line)) places = &depthwise_places<T, 3, 1>;
    else if (fits_window<T, 3, 2>(line)) places = &depthwise_places<T, 3, 2>;
    else if (fits_window<T, 5, 1>(line)) places = &depthwise_places<T, 5, 1>;
    else if (fits_window<T, 5, 2>(line)) places = &depthwise_places<T, 5, 2>;
    else if (fits_window<T, 2, 1>(line)) places = &depthwise_places<T, 2, 1>;  // the phases of a backward pass
    else if (fits_window<T, 1, 1>(line)) places = &depthwise_places<T, 1, 1>;
  }
  for (int64_t first = 0; first < line.across.places; first += kLinePlaces) {
    const int64_t count = std::min<int64_t>(kLinePlaces, line.across.places - first);
    places(line, weight, weight_down, weight_across, first, count, out);
    for (int64_t place = first; place < first + count; ++place)
      smooth_in_place(out.activation, out.y + place * out.stride, line.channels);
  }
}

/// Weights as [taps, channels], then a row of zeros.
template <class T>
void depthwise_pack(const ConvGeometry& g, const Wide<T>* weight, T* by_tap) {
  const int64_t taps = g.kh * g.kw;
  for (int64_t c = 0; c < g.cin; ++c)
    for (int64_t tap = 0; tap < taps; ++tap) by_tap[tap * g.cin + c] = narrowed<T>(weight[c * taps + tap]);
  std::fill_n(by_tap + taps * g.cin, g.cin, T{});
}
template <class T>
T* weights_by_tap(const ConvGeometry& g, const Wide<T>* weight) {
  T* const by_tap = scratch(ScratchUse::pack_b).get<T>((g.kh * g.kw + 1) * g.cin);
  depthwise_pack(g, weight, by_tap);
  return by_tap;
}

/// Lines that make a range worth a thread.
inline int64_t depthwise_grain(int64_t line_size, int64_t taps) {
  return std::max<int64_t>((1 << 16) / std::max<int64_t>(line_size * taps, 1), 1);
}

template <class T>
void depthwise_forward_lines(const ConvForwardArgs<T>& args, const T* weight, int64_t first, int64_t last) {
  const ConvGeometry& g = args.geometry;
  for (int64_t line = first; line < last; ++line) {
    const int64_t image = line / g.oh, at = line * g.ow * g.cout;
    depthwise_line<T>({.x = args.x + image * g.h * g.w * g.cin,
                       .down = {g.h, g.oh, -g.pad_top, g.stride_h, g.kh, g.dilation_h},
                       .across = {g.w, g.ow, -g.pad_left, g.stride_w, g.kw, g.dilation_w},
                       .y = line % g.oh,
                       .channels = g.cin,
                       .zeros = weight + g.kh * g.kw * g.cin},
                      weight, g.kw * g.cin, g.cin,
                      {.y = args.y + at,
                       .stride = g.cout,
                       .line = g.ow * g.cout,
                       .bias = args.bias,
                       .residual = args.residual ? args.residual + at : nullptr,
                       .activation = args.activation});
  }
}

template <class T>
void depthwise_forward(const ConvForwardArgs<T>& args) {
  const ConvGeometry& g = args.geometry;
  parallel_for(g.n * g.oh, depthwise_grain(g.ow * g.cin, g.kh * g.kw),
               [&args](int64_t first, int64_t last) { depthwise_forward_lines(args, args.packed, first, last); });
}

template <class T>
void depthwise_backward_data_lines(const ConvBackwardDataArgs<T>& args, const T* weight, int64_t first, int64_t last) {
  const ConvGeometry& g = args.geometry;
  for (int64_t line = first; line < last; ++line) {
    const int64_t image = line / g.h, y = line % g.h;
    const Phase down(y % g.stride_h, g.h, g.kh, g.stride_h, g.dilation_h, g.pad_top);
    for (int64_t x = 0; x < std::min(g.stride_w, g.w); ++x) {
      const Phase across(x, g.w, g.kw, g.stride_w, g.dilation_w, g.pad_left);
      depthwise_line<T>({.x = args.grad_y + image * g.oh * g.ow * g.cout,
                         .down = {g.oh, down.places, down.origin, 1, down.taps, down.tap_step},
                         .across = {g.ow, across.places, across.origin, 1, across.taps, across.tap_step},
                         .y = y / g.stride_h,
                         .channels = g.cin,
                         .zeros = weight + g.kh * g.kw * g.cin},
                        weight + (down.kernel_first * g.kw + across.kernel_first) * g.cin,
                        down.kernel_step * g.kw * g.cin, across.kernel_step * g.cin,
                        {.y = args.grad_x + (line * g.w + x) * g.cin,
                         .stride = g.stride_w * g.cin,
                         .line = g.w * g.cin,
                         .bias = nullptr,
                         .residual = nullptr,
                         .activation = Activation::none});
    }
  }
}

template <class T>
void depthwise_backward_data(const ConvBackwardDataArgs<T>& args) {
  const ConvGeometry& g = args.geometry;
  const T* const weight = weights_by_tap<T>(g, args.weight);
  parallel_for(g.n * g.h, depthwise_grain(g.w * g.cin, g.kh * g.kw), [&args, weight](int64_t first, int64_t last) {
    depthwise_backward_data_lines(args, weight, first, last);
  });
}

/// sums[tap, channels] += grad_y * pixel over some places of a line
template <class T, int kTaps, int kStep>
void depthwise_weight_places(const DepthwiseLine<T>& line, const T* grad_y, int64_t first, int64_t places,
                             Wide<T>* sums) {
  using Window = PixelWindow<T, kTaps, kStep>;
  const Window window(line, first, places);
  const int64_t lines = line.down.taps, channels = line.channels;
  const T* gradients[kLinePlaces];
  for (int64_t o = 0; o < kLinePlaces; ++o) gradients[o] = o < places ? grad_y + (first + o) * channels : line.zeros;
  const int64_t row = line.across.size * channels;
  const T *const ahead = line.ahead(first), *const ahead_gradient = grad_y + (line.across.places + first) * channels;
  for_each_vector<T>(0, channels, [&](int64_t c, auto n) TL_INLINE_LAMBDA {
    for (int y = 0; y < kStep; ++y) fetch<T, kLinePlaces * kStep, false>(ahead + y * row + c * kLinePlaces * kStep);
    fetch<T, kLinePlaces, false>(ahead_gradient + c * kLinePlaces);
    Vec<T> gradient[kLinePlaces];
    TL_UNROLL
    for (int o = 0; o < kLinePlaces; ++o) gradient[o] = Vec<T>::load(gradients[o] + c, n);
    for (int64_t y = 0; y < lines; ++y) {
      Wide<T>* const at = sums + y * kTaps * channels + c;
      Vec<T> sum[kTaps];
      TL_UNROLL
      for (int t = 0; t < kTaps; ++t) sum[t] = Vec<T>::load(at + t * channels, n);
      TL_UNROLL
      for (int i = 0; i < Window::kPixels; ++i) {
        const auto pixel = Vec<T>::load(window.at[y][i] + c, n);
        TL_UNROLL
        for (int o = 0; o < kLinePlaces; ++o)
          if (i - o * kStep >= 0 && i - o * kStep < kTaps)
            sum[i - o * kStep] = fma(pixel, gradient[o], sum[i - o * kStep]);
      }
      TL_UNROLL
      for (int t = 0; t < kTaps; ++t) sum[t].store(at + t * channels, n);
    }
  });
}

template <class T>
void depthwise_weight_places_any(const DepthwiseLine<T>& line, const T* grad_y, int64_t first, int64_t places,
                                 Wide<T>* sums) {
  for (int64_t place = first; place < first + places; ++place)
    for (int64_t tap = 0; tap < line.down.taps * line.across.taps; ++tap) {
      const T* const pixel = line.pixel(tap / line.across.taps, line.across.origin + place * line.across.step +
                                                                    tap % line.across.taps * line.across.tap_step);
      const T* const gradient = grad_y + place * line.channels;
      Wide<T>* const at = sums + tap * line.channels;
      for_each_vector<T>(0, line.channels, [=](int64_t c, auto n) TL_INLINE_LAMBDA {
        fma(Vec<T>::load(pixel + c, n), Vec<T>::load(gradient + c, n), Vec<T>::load(at + c, n)).store(at + c, n);
      });
    }
}

/// sums[tap, channels] over lines [first, last) of all images
template <class T>
void depthwise_weight_lines(const ConvBackwardWeightArgs<T>& args, const T* zeros, int64_t first, int64_t last,
                            Wide<T>* sums) {
  const ConvGeometry& g = args.geometry;
  std::fill_n(sums, g.kh * g.kw * g.cin, Wide<T>(0));
  for (int64_t number = first; number < last; ++number) {
    const DepthwiseLine<T> line{.x = args.x + number / g.oh * g.h * g.w * g.cin,
                                .down = {g.h, g.oh, -g.pad_top, g.stride_h, g.kh, g.dilation_h},
                                .across = {g.w, g.ow, -g.pad_left, g.stride_w, g.kw, g.dilation_w},
                                .y = number % g.oh,
                                .channels = g.cin,
                                .zeros = zeros};
    auto* places = &depthwise_weight_places_any<T>;
    if constexpr (kHasWindows<T>) {
      if (fits_window<T, 3, 1>(line)) places = &depthwise_weight_places<T, 3, 1>;
      else if (fits_window<T, 3, 2>(line)) places = &depthwise_weight_places<T, 3, 2>;
      else if (fits_window<T, 5, 1>(line)) places = &depthwise_weight_places<T, 5, 1>;
      else if (fits_window<T, 5, 2>(line)) places = &depthwise_weight_places<T, 5, 2>;
    }
    for (int64_t place = 0; place < g.ow; place += kLinePlaces)
      places(line, args.grad_y + number * g.ow * g.cout, place, std::min<int64_t>(kLinePlaces, g.ow - place), sums);
  }
}

template <class T>
void depthwise_backward_weight(const ConvBackwardWeightArgs<T>& args) {
  const ConvGeometry& g = args.geometry;
  constexpr int64_t kMostPieces = 32;  // each sums up some lines; the pieces are added in their order
  const int64_t lines = g.n * g.oh, taps = g.kh * g.kw, size = taps * g.cin;
  const int64_t pieces = std::clamp<int64_t>(lines / depthwise_grain(g.ow * g.cin, taps), 1, kMostPieces);
  T* const zeros = scratch(ScratchUse::pack_b).get<T>(g.cin);
  Wide<T>* const partial = scratch(ScratchUse::partial).get<Wide<T>>(pieces * size);
  std::fill_n(zeros, g.cin, T{});
  parallel_for(pieces, 1, [&args, zeros, partial, lines, pieces, size](int64_t first, int64_t last) {
    for (int64_t piece = first; piece < last; ++piece)
      depthwise_weight_lines(args, zeros, lines * piece / pieces, lines * (piece + 1) / pieces, partial + piece * size);
  });
  sum_pieces(partial, pieces, size, 0, size, partial);
  for (int64_t c = 0; c < g.cin; ++c)
    for (int64_t tap = 0; tap < taps; ++tap) args.grad_weight[c * taps + tap] = partial[tap * g.cin + c];
  if (args.grad_bias) sum_rows(args.grad_y, lines * g.ow, g.cout, args.grad_bias);
}
