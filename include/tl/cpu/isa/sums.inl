// Sums in a fixed order, for gradients of weights.

template <class T>
void sum_block(const T* x, int64_t rows, int64_t cols, Wide<T>* sums) {
  std::fill_n(sums, cols, Wide<T>(0));
  for (int64_t row = 0; row < rows; ++row)
    for_each_vector<T>(0, cols, [=](int64_t j, auto n) TL_INLINE_LAMBDA {
      (Vec<T>::load(sums + j, n) + Vec<T>::load(x + row * cols + j, n)).store(sums + j, n);
    });
}

/// sums[cols] = sum of the rows of x [rows, cols]
template <class T>
void sum_rows(const T* x, int64_t rows, int64_t cols, Wide<T>* sums) {
  constexpr int64_t kBlock = 256;
  const int64_t blocks = std::max<int64_t>(divide_up(rows, kBlock), 1);
  auto* const partial = scratch(ScratchUse::partial).get<Wide<T>>(blocks * cols);
  parallel_for(blocks, 1, [=](int64_t first, int64_t last) {
    for (int64_t block = first; block < last; ++block)
      sum_block(x + block * kBlock * cols, std::min(kBlock, rows - block * kBlock), cols, partial + block * cols);
  });
  sum_block(partial, blocks, cols, sums);
}

/// sums[i] = sum over pieces of partial[piece, i], for i in [first, last)
template <class T>
void sum_pieces(const T* partial, int64_t pieces, int64_t size, int64_t first, int64_t last, T* sums) {
  for_each_vector<T>(first, last, [=](int64_t i, auto n) TL_INLINE_LAMBDA {
    auto total = Vec<T>::load(partial + i, n);
    for (int64_t piece = 1; piece < pieces; ++piece) total += Vec<T>::load(partial + piece * size + i, n);
    total.store(sums + i, n);
  });
}
