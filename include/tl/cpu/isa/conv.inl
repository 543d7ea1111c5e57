// Convolutions as matrix products whose left (or right) matrix is gathered from the picture while it is packed.

/// The matrix of patches (im2col): a row for each place, in it all taps, in each the channels. It is never stored
/// whole.
template <class T>
struct Patches {
  const T* x;
  TapAxis down, across;
  int64_t pixel;     // elements from one pixel to the next
  int64_t channels;  // that are read, of one group

  /// A place in the picture, advanced without dividing.
  struct Place {
    int64_t image, y, x;
  };
  Place place(int64_t row) const {
    return {row / (down.places * across.places), row / across.places % down.places, row % across.places};
  }
  void advance(Place& at) const {
    if (++at.x < across.places) return;
    at.x = 0;
    if (++at.y < down.places) return;
    at.y = 0;
    ++at.image;
  }

  /// Elements [first, first + count) of the row of `at`, zero outside of the picture.
  void copy_row(const Place& at, int64_t first, int64_t count, T* out) const {
    if (count == 0) return;  // of a phase that no tap reaches
    // Neighbouring taps lie one after the other in memory when they do so in the picture: then a run is a row of taps.
    const int64_t run_taps = across.tap_step == 1 && channels == pixel ? across.taps : 1;
    const int64_t run = run_taps * channels, runs_across = across.taps / run_taps;
    const int64_t top = down.origin + at.y * down.step, left = across.origin + at.x * across.step;
    int64_t number = first / run, skip = first % run;
    int64_t tap_y = number / runs_across, tap_x = number % runs_across;
    while (count > 0) {
      const int64_t y = top + tap_y * down.tap_step, x_first = left + tap_x * across.tap_step;
      const int64_t end = std::min(run, skip + count);
      int64_t inside_first = end, inside_last = end;
      if (y >= 0 && y < down.size) {
        inside_first = std::clamp(std::clamp<int64_t>(-x_first, 0, run_taps) * channels, skip, end);
        inside_last = std::clamp(std::clamp<int64_t>(across.size - x_first, 0, run_taps) * channels, inside_first, end);
      }
      out = std::fill_n(out, inside_first - skip, T{});
      if (inside_last > inside_first) {
        // Runs may be as short as 21 numbers (a first layer's), too short to call a function for each.
        const T* const from = x + ((at.image * down.size + y) * across.size + x_first) * pixel + inside_first;
        for_each_vector<T>(0, inside_last - inside_first, [from, out](int64_t i, auto n) TL_INLINE_LAMBDA {
          Vec<T>::load(from + i, n).store(out + i, n);
        });
        out += inside_last - inside_first;
      }
      out = std::fill_n(out, end - inside_last, T{});
      count -= end - skip;
      skip = 0;
      if (++tap_x == runs_across) {
        tap_x = 0;
        ++tap_y;
      }
    }
  }

  int64_t size() const { return down.taps * across.taps * channels; }

  /// Whether `count` places from `at` on share a line, and all their taps lie in the picture.
  bool within(const Place& at, int64_t count) const {
    const auto reaches = [](const TapAxis& axis, int64_t first, int64_t last) {
      const int64_t from = axis.origin + first * axis.step, to = axis.origin + last * axis.step;
      const int64_t reach = (axis.taps - 1) * axis.tap_step;
      return std::min(from, from + reach) >= 0 && std::max(to, to + reach) < axis.size;
    };
    return at.x + count <= across.places && reaches(down, at.y, at.y) && reaches(across, at.x, at.x + count - 1);
  }

  /// Whole rows of such places, run by run, so that where a run begins is found once for all of them.
  void copy_rows_within(const Place& at, int64_t count, T* out, int64_t stride) const {
    const int64_t run_taps = across.tap_step == 1 && channels == pixel ? across.taps : 1;
    const int64_t run = run_taps * channels, next = across.step * pixel;
    const int64_t top = down.origin + at.y * down.step, left = across.origin + at.x * across.step;
    for (int64_t tap_y = 0; tap_y < down.taps; ++tap_y)
      for (int64_t tap_x = 0; tap_x < across.taps; tap_x += run_taps, out += run) {
        const int64_t y = top + tap_y * down.tap_step, x_first = left + tap_x * across.tap_step;
        const T* const from = x + ((at.image * down.size + y) * across.size + x_first) * pixel;
        for_each_vector<T>(0, run, [=](int64_t i, auto n) TL_INLINE_LAMBDA {
          for (int64_t row = 0; row < count; ++row)
            Vec<T>::load(from + row * next + i, n).store(out + row * stride + i, n);
        });
      }
  }
};

/// Patches as the left matrix.
template <class T>
struct PatchesLeft {
  const Patches<T>& patches;

  RowView<T> rows(int64_t first, int64_t count, int64_t k_first, int64_t k_count, int64_t, T* buffer) const {
    const int64_t stride = copied_stride<T>(k_count);
    copy_rows(first, count, k_first, k_count, buffer, stride);
    return {buffer, stride, 1};
  }
  void copy_rows(int64_t first, int64_t count, int64_t k_first, int64_t k_count, T* to, int64_t stride) const {
    auto place = patches.place(first);
    if (k_count == patches.size() && patches.within(place, count)) {
      patches.copy_rows_within(place, count, to, stride);
      return;
    }
    for (int64_t i = 0; i < count; ++i, patches.advance(place))
      patches.copy_row(place, k_first, k_count, to + i * stride);
  }
};

/// Patches as the right matrix.
template <class T>
struct PatchesRight {
  const Patches<T>& patches;
  int64_t first_row;

  void pack(int64_t k_first, int64_t k_count, int64_t col_first, int64_t cols, T* packed, int64_t place_in_panel,
            int64_t panel_rows) const {
    constexpr int64_t kSlice = 16;
    T* const rows = scratch(ScratchUse::rows).get<T>(kSlice * cols);
    auto place = patches.place(first_row + k_first);
    for (int64_t p = 0; p < k_count; p += kSlice) {
      const int64_t count = std::min(kSlice, k_count - p);
      for (int64_t i = 0; i < count; ++i, patches.advance(place))
        patches.copy_row(place, col_first, cols, rows + i * cols);
      pack_rows(rows, cols, count, cols, packed, place_in_panel + p, panel_rows);
    }
  }
};

#if TL_BF16_KERNELS
inline void pack_pairs(const PatchesRight<BFloat16>& right, int64_t k_first, int64_t k_count, int64_t col_first,
                       int64_t cols, BFloat16* packed) {
  constexpr int64_t kUnit = PairBlocking::kUnitK;
  BFloat16* const gathered = scratch(ScratchUse::rows).get<BFloat16>(kUnit * cols);
  const int64_t padded = round_up(k_count, kUnit);
  const BFloat16* rows[kUnit];
  auto place = right.patches.place(right.first_row + k_first);
  for (int64_t first = 0; first < padded; first += kUnit) {
    for (int64_t p = 0; p < kUnit; ++p) {
      rows[p] = first + p < k_count ? gathered + p * cols : nullptr;
      if (!rows[p]) continue;
      right.patches.copy_row(place, col_first, cols, gathered + p * cols);
      right.patches.advance(place);
    }
    pack_pair_unit(first, padded, cols, packed, rows);
  }
}
#endif

/// The picture that the kernel's taps see, channels of one group.
template <class T>
Patches<T> patches_of(const ConvGeometry& g, const T* x) {
  return {.x = x,
          .down = {g.h, g.oh, -g.pad_top, g.stride_h, g.kh, g.dilation_h},
          .across = {g.w, g.ow, -g.pad_left, g.stride_w, g.kw, g.dilation_w},
          .pixel = g.cin,
          .channels = g.cin / g.groups};
}

/// Whether each output place reads exactly the input place of the same number.
inline bool is_pointwise(const ConvGeometry& g) {
  return g.kh == 1 && g.kw == 1 && g.stride_h == 1 && g.stride_w == 1 && g.pad_top == 0 && g.pad_left == 0 &&
         g.oh == g.h && g.ow == g.w;
}

template <class T>
void conv_forward_dense(const ConvForwardArgs<T>& args) {
  const ConvGeometry& g = args.geometry;
  const int64_t group_in = g.cin / g.groups, group_out = g.cout / g.groups;
  const int64_t m = g.n * g.oh * g.ow, k = g.kh * g.kw * group_in;
  for (int64_t group = 0; group < g.groups; ++group) {
    const int64_t out = group * group_out;
    const PackedRight<T> right{args.packed + group * gemm_packed_size(group_out, k)};
    const StoreTiles<T, EvenRows> result{.c = args.y + out,
                                         .place = {g.cout},
                                         .bias = args.bias ? args.bias + out : nullptr,
                                         .residual = args.residual ? args.residual + out : nullptr,
                                         .activation = args.activation};
    const T* const x = args.x + group * group_in;
    if (is_pointwise(g)) {
      multiply<T>(m, group_out, k, StridedLeft<T>{x, g.cin, 1}, right, result);
    } else {
      const Patches<T> patches = patches_of(g, x);
      multiply<T>(m, group_out, k, PatchesLeft<T>{patches}, right, result);
    }
  }
}

/// Where the rows of one pair of phases lie in grad_x.
struct PhaseRows {
  int64_t across_places, down_places;
  int64_t image, line, pixel;  // elements from one to the next

  int64_t offset(int64_t row) const {
    const int64_t line_number = row / across_places;
    return line_number / down_places * image + line_number % down_places * line + row % across_places * pixel;
  }
};

/// The kernel as the right matrix of the backward pass: [taps of a phase * cout, cin].
template <class T>
struct KernelRight {
  const T* weight;  // [cout, kh, kw, cin]
  const Phase &down, &across;
  int64_t kw, cout, cin, kernel_size;

  const T* row(int64_t k) const {
    const int64_t tap = k / cout, out = k % cout;
    const int64_t y = down.kernel_first + tap / across.taps * down.kernel_step;
    const int64_t x = across.kernel_first + tap % across.taps * across.kernel_step;
    return weight + out * kernel_size + (y * kw + x) * cin;
  }
  void pack(int64_t k_first, int64_t k_count, int64_t col_first, int64_t cols, T* packed, int64_t place,
            int64_t panel_rows) const {
    for (int64_t p = 0; p < k_count;) {
      const int64_t count = std::min(cout - (k_first + p) % cout, k_count - p);
      pack_rows(row(k_first + p) + col_first, kernel_size, count, cols, packed, place + p, panel_rows);
      p += count;
    }
  }
};

template <class T>
void conv_backward_data_dense(const ConvBackwardDataArgs<T>& args) {
  const ConvGeometry& g = args.geometry;
  const int64_t group_in = g.cin / g.groups, group_out = g.cout / g.groups, kernel_size = g.kh * g.kw * group_in;
  for (int64_t group = 0; group < g.groups; ++group) {
    const T* const grad_y = args.grad_y + group * group_out;
    const Wide<T>* const weight = args.weight + group * group_out * kernel_size;
    T* const grad_x = args.grad_x + group * group_in;
    if (is_pointwise(g)) {
      multiply<T>(g.n * g.h * g.w, group_in, group_out, StridedLeft<T>{grad_y, g.cout, 1},
                  RowsRight<Wide<T>>{weight, kernel_size}, StoreTiles<T, EvenRows>{.c = grad_x, .place = {g.cin}});
      continue;
    }
    for (int64_t y = 0; y < std::min(g.stride_h, g.h); ++y)
      for (int64_t x = 0; x < std::min(g.stride_w, g.w); ++x) {
        const Phase down(y, g.h, g.kh, g.stride_h, g.dilation_h, g.pad_top);
        const Phase across(x, g.w, g.kw, g.stride_w, g.dilation_w, g.pad_left);
        const Patches<T> patches{.x = grad_y,
                                 .down = {g.oh, down.places, down.origin, 1, down.taps, down.tap_step},
                                 .across = {g.ow, across.places, across.origin, 1, across.taps, across.tap_step},
                                 .pixel = g.cout,
                                 .channels = group_out};
        const KernelRight<Wide<T>> right{weight, down, across, g.kw, group_out, group_in, kernel_size};
        const StoreTiles<T, PhaseRows> result{
            .c = grad_x + (y * g.w + x) * g.cin,
            .place = {across.places, down.places, g.h * g.w * g.cin, g.stride_h * g.w * g.cin, g.stride_w * g.cin}};
        multiply<T>(g.n * down.places * across.places, group_in, down.taps * across.taps * group_out,
                    PatchesLeft<T>{patches}, right, result);
      }
  }
}

template <class T>
void backward_weight_piece(const ConvBackwardWeightArgs<T>& args, int64_t in, int64_t out, int64_t group_out, int64_t n,
                           int64_t first, int64_t last, Wide<T>* result) {
  const ConvGeometry& g = args.geometry;
  const StridedLeft<T> left{args.grad_y + first * g.cout + out, 1, g.cout};
  const StoreTiles<Wide<T>, EvenRows> store{.c = result, .place = {n}};
  if (is_pointwise(g)) {
    multiply<T>(group_out, n, last - first, left, RowsRight<T>{args.x + first * g.cin + in, g.cin}, store);
  } else {
    const Patches<T> patches = patches_of(g, args.x + in);
    multiply<T>(group_out, n, last - first, left, PatchesRight<T>{patches, first}, store);
  }
}

/// grad_weight [group_out, n] = grad_y [places, group_out]^T * patches [places, n]
template <class T>
void backward_weight_group(const ConvBackwardWeightArgs<T>& args, int64_t in, int64_t out, int64_t group_out, int64_t n,
                           int64_t places) {
  Wide<T>* const grad_weight = args.grad_weight + out * n;
  // Where the result is small and the sum long, the sum is cut into pieces that are computed side by side.
  constexpr int64_t kMostPieces = 16, kShortestPiece = 1024, kLargestResult = 1 << 18;
  const int64_t size = group_out * n;
  const int64_t pieces = size > kLargestResult ? 1 : std::clamp<int64_t>(places / kShortestPiece, 1, kMostPieces);
  if (pieces == 1) {
    backward_weight_piece(args, in, out, group_out, n, 0, places, grad_weight);
    return;
  }
  Wide<T>* const partial = scratch(ScratchUse::partial).get<Wide<T>>(pieces * size);
  parallel_for(pieces, 1, [&, partial](int64_t first, int64_t last) {
    for (int64_t piece = first; piece < last; ++piece)
      backward_weight_piece(args, in, out, group_out, n, places * piece / pieces, places * (piece + 1) / pieces,
                            partial + piece * size);
  });
  parallel_for(size, 4096,
               [=](int64_t first, int64_t last) { sum_pieces(partial, pieces, size, first, last, grad_weight); });
}

template <class T>
void conv_backward_weight_dense(const ConvBackwardWeightArgs<T>& args) {
  const ConvGeometry& g = args.geometry;
  const int64_t group_in = g.cin / g.groups, group_out = g.cout / g.groups, n = g.kh * g.kw * group_in;
  const int64_t places = g.n * g.oh * g.ow;
  for (int64_t group = 0; group < g.groups; ++group)
    backward_weight_group(args, group * group_in, group * group_out, group_out, n, places);
  if (args.grad_bias) sum_rows(args.grad_y, places, g.cout, args.grad_bias);
}

/// Calls body(Winograd4{}) or body(Winograd2{}) if that is the path and compiled here, or returns false.
template <class T, class Body>
bool with_winograd(ConvPath path, const Body& body) {
  if constexpr (std::is_same_v<Wide<T>, float> && TL_VECTOR_BYTES >= 32) {
    if (path == ConvPath::winograd2) {
      body(Winograd2{});
      return true;
    }
    if constexpr (std::is_same_v<T, float>) {
      if (path != ConvPath::winograd4) return false;
      body(Winograd4{});
      return true;
    }
  }
  return false;
}

template <class T>
void conv_pack(const ConvPackArgs<T>& args) {
  const ConvGeometry& g = args.geometry;
  const ConvPath path = conv_path(g);
  if (path == ConvPath::depthwise) return depthwise_pack(g, args.weight, args.packed);
  const bool done = with_winograd<T>(path, [&](auto filter) {
    winograd_pack<decltype(filter)>(args.weight, g.cin, g.cout, /*turned=*/false, args.packed);
  });
  if (done) return;
  const int64_t group_out = g.cout / g.groups, k = g.kh * g.kw * (g.cin / g.groups);
  for (int64_t group = 0; group < g.groups; ++group)
    pack_right(group_out, k, ColsRight<Wide<T>>{args.weight + group * group_out * k, k},
               args.packed + group * gemm_packed_size(group_out, k));
}

template <class T>
void conv_forward_packed(const ConvForwardArgs<T>& args) {
  const ConvGeometry& g = args.geometry;
  if (g.n * g.oh * g.ow == 0) return;
  const ConvPath path = conv_path(g);
  if (path == ConvPath::depthwise) return depthwise_forward(args);
  const bool done = with_winograd<T>(path, [&](auto filter) {
    WinogradForward<decltype(filter), T>{.x = {args.x, g.h, g.w, g.cin},
                                         .pad_top = g.pad_top,
                                         .pad_left = g.pad_left,
                                         .tiles = {g.n, g.oh, g.ow},
                                         .kernels = args.packed,
                                         .y = args.y,
                                         .cout = g.cout,
                                         .bias = args.bias,
                                         .residual = args.residual,
                                         .activation = args.activation}
        .run();
  });
  if (!done) conv_forward_dense(args);
}

template <class T>
void conv_forward(const ConvForwardArgs<T>& args) {
  if (args.packed) return conv_forward_packed(args);
  ConvForwardArgs<T> packed = args;
  T* const memory = scratch(ScratchUse::pack_b).get<T>(conv_packed_size(args.geometry));
  conv_pack(ConvPackArgs<T>{args.geometry, args.weight, memory});
  packed.packed = memory;
  conv_forward_packed(packed);
}

template <class T>
void conv_backward_data(const ConvBackwardDataArgs<T>& args) {
  const ConvGeometry& g = args.geometry;
  const ConvPath path = conv_path(g);
  if (path == ConvPath::depthwise) return depthwise_backward_data(args);
  const bool done = g.n * g.h * g.w > 0 && with_winograd<T>(path, [&](auto filter) {
                      using F = decltype(filter);
                      const int64_t size = kWinogradPoints<F> * gemm_packed_size(g.cin, g.cout) + g.cout;
                      T* const kernels = scratch(ScratchUse::pack_b).get<T>(size);
                      winograd_pack<F>(args.weight, g.cin, g.cout, /*turned=*/true, kernels);
                      WinogradForward<F, T>{.x = {args.grad_y, g.oh, g.ow, g.cout},
                                            .pad_top = 2 - g.pad_top,
                                            .pad_left = 2 - g.pad_left,
                                            .tiles = {g.n, g.h, g.w},
                                            .kernels = kernels,
                                            .y = args.grad_x,
                                            .cout = g.cin}
                          .run();
                    });
  if (!done) conv_backward_data_dense(args);
}

template <class T>
void conv_backward_weight(const ConvBackwardWeightArgs<T>& args) {
  const ConvGeometry& g = args.geometry;
  const ConvPath path = conv_path(g);
  if (path == ConvPath::depthwise) return depthwise_backward_weight(args);
  bool done = false;
  if constexpr (std::is_same_v<T, float>) {  // of bfloat16 the direct sums are exact but for float's roundings
    // With few channels the small tile's transforms outweigh the products that it saves here.
    const bool fits = (path == ConvPath::winograd4 || std::min(g.cin, g.cout) >= 32) && g.n * g.oh * g.ow > 0;
    done = fits && with_winograd<T>(path, [&](auto filter) {
             WinogradWeight<decltype(filter), T>{.x = {args.x, g.h, g.w, g.cin},
                                                 .grad_y = {args.grad_y, g.oh, g.ow, g.cout},
                                                 .pad_top = g.pad_top,
                                                 .pad_left = g.pad_left,
                                                 .tiles = {g.n, g.oh, g.ow},
                                                 .grad_weight = args.grad_weight}
                 .run();
             if (args.grad_bias) sum_rows(args.grad_y, g.n * g.oh * g.ow, g.cout, args.grad_bias);
           });
  }
  if (!done) conv_backward_weight_dense(args);
}
