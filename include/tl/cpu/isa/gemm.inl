// Matrix products of matrices in memory.

/// The product of few rows with a transposed B, as a batch of one sample in a linear layer has: dot products of rows of
/// A and B as they lie. Packing B would take longer than the arithmetic.
template <class T>
struct FewRows {
  static constexpr int64_t kMostRows = 16;
  static constexpr int kRows = TL_VECTOR_BYTES == 64 ? 4 : 2, kCols = 4;
  static constexpr int64_t kWidth = std::max<int64_t>(Vec<T>::kLanes, kCols);  // of a tile

  const GemmArgs<T>& args;
  const T *a, *b;
  const StoreTiles<T, EvenRows>& result;

  /// The first kCols columns of a tile of dot products.
  template <int kRowCount>
  void dots(int64_t row, const T* const (&cols)[kCols], T* tile) const {
    Vec<T> sums[kRowCount][kCols];
    TL_UNROLL
    for (int i = 0; i < kRowCount; ++i) {
      TL_UNROLL
      for (int j = 0; j < kCols; ++j) sums[i][j] = Vec<T>(T(0));
    }
    for_each_vector<T>(0, args.k, [&](int64_t p, auto n) TL_INLINE_LAMBDA {
      Vec<T> right[kCols];
      TL_UNROLL
      for (int j = 0; j < kCols; ++j) right[j] = Vec<T>::load(cols[j] + p, n);
      TL_UNROLL
      for (int i = 0; i < kRowCount; ++i) {
        const auto left = Vec<T>::load(a + (row + i) * args.lda + p, n);
        TL_UNROLL
        for (int j = 0; j < kCols; ++j) sums[i][j] = fma(left, right[j], sums[i][j]);
      }
    });
    for (int i = 0; i < kRowCount; ++i)
      for (int j = 0; j < kCols; ++j) tile[i * kWidth + j] = sum(sums[i][j]);
  }

  /// Columns [first, last) of C, a tile at a time.
  void columns(int64_t first, int64_t last) const {
    alignas(64) T tile[kMostRows * kWidth];
    for (int64_t col = first; col < last; col += kWidth) {
      const int64_t count = std::min(kWidth, last - col);
      for (int64_t j = 0; j < count; j += kCols) {
        const T* cols[kCols];  // past the last column its dot product is formed again, and dropped
        for (int64_t v = 0; v < kCols; ++v) cols[v] = b + std::min(col + j + v, args.n - 1) * args.ldb;
        int64_t row = 0;
        for (; row + kRows <= args.m; row += kRows) dots<kRows>(row, cols, tile + row * kWidth + j);
        for (; row < args.m; ++row) dots<1>(row, cols, tile + row * kWidth + j);
      }
      result.store(tile, kWidth, 0, args.m, col, count, true, true);
    }
  }

  void run() const {
    constexpr int64_t kWorthAThread = 1 << 16;  // numbers of B
    const int64_t grain = std::max<int64_t>(kWorthAThread / (kWidth * std::max<int64_t>(args.k, 1)), 1) * kWidth;
    parallel_for(args.n, grain, [this](int64_t first, int64_t last) { columns(first, last); });
  }
};

/// One product of the batch, into C of type S.
template <class T, class S>
void gemm_one(const GemmArgs<T>& args, int64_t index, S* c) {
  const T *const a = args.a + index * args.stride_a, *const b = args.b + index * args.stride_b;
  const StridedLeft<T> left = args.transpose_a ? StridedLeft<T>{a, 1, args.lda} : StridedLeft<T>{a, args.lda, 1};
  const StoreTiles<S, EvenRows> result{.c = c + index * args.stride_c,
                                       .place = {args.ldc},
                                       .alpha = args.alpha,
                                       .beta = args.beta,
                                       .bias = args.bias,
                                       .activation = args.activation};
  if (args.packed_b) {
    multiply<T>(args.m, args.n, args.k, left, PackedRight<T>{args.packed_b}, result);
    return;
  }
  if constexpr (!std::is_same_v<T, BFloat16>) {
    const bool few_rows = args.m <= std::min(1 + args.k / 64, FewRows<T>::kMostRows);
    if (few_rows && args.m > 0 && args.transpose_b && !args.transpose_a) return FewRows<T>{args, a, b, result}.run();
  }
  if (args.transpose_b) multiply<T>(args.m, args.n, args.k, left, ColsRight<T>{b, args.ldb}, result);
  else multiply<T>(args.m, args.n, args.k, left, RowsRight<T>{b, args.ldb}, result);
}

template <class T>
void gemm(const GemmArgs<T>& args) {
  // Products of a batch are independent, so threads share them out whole, unless there are too few.
  const auto some = [&args](int64_t first, int64_t last) {
    for (int64_t i = first; i < last; ++i) {
      if (args.wide_c) gemm_one(args, i, args.wide_c);
      else gemm_one(args, i, args.c);
    }
  };
  if (args.batch >= 2 * threads()) parallel_for(args.batch, 1, some);
  else some(0, args.batch);
}

template <class T>
void gemm_pack(const GemmPackArgs<T>& args) {
  if (args.transpose_b) pack_right(args.n, args.k, ColsRight<Wide<T>>{args.b, args.ldb}, args.packed);
  else pack_right(args.n, args.k, RowsRight<Wide<T>>{args.b, args.ldb}, args.packed);
}
