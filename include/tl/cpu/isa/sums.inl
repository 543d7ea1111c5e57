// Sums in a fixed order, for gradients of weights.

/// sums[cols] = sum of the rows of x [rows, cols]
template <class T>
void sum_block(const T* x, int64_t rows, int64_t cols, T* sums) {
  std::fill_n(sums, cols, T(0));
  for (int64_t row = 0; row < rows; ++row)
    for (int64_t j = 0; j < cols; j += Vec<T>::kLanes)
      store_up_to(load_up_to(sums + j, cols - j) + load_up_to(x + row * cols + j, cols - j), sums + j, cols - j);
}

/// sums[cols] = sum of the rows of x [rows, cols], in blocks of fixed length.
template <class T>
void sum_rows(const T* x, int64_t rows, int64_t cols, T* sums) {
  constexpr int64_t kBlock = 256;
  const int64_t blocks = std::max<int64_t>(divide_up(rows, kBlock), 1);
  T* const partial = scratch(ScratchUse::partial).get<T>(blocks * cols);
  parallel_for(blocks, 1, [=](int64_t first, int64_t last) {
    for (int64_t block = first; block < last; ++block)
      sum_block(x + block * kBlock * cols, std::min(kBlock, rows - block * kBlock), cols, partial + block * cols);
  });
  sum_block(partial, blocks, cols, sums);
}

/// sums[i] = sum over pieces of partial[piece, i], for i in [first, last)
template <class T>
void sum_pieces(const T* partial, int64_t pieces, int64_t size, int64_t first, int64_t last, T* sums) {
  for (int64_t i = first; i < last; i += Vec<T>::kLanes) {
    Vec<T> total = load_up_to(partial + i, last - i);
    for (int64_t piece = 1; piece < pieces; ++piece) total += load_up_to(partial + piece * size + i, last - i);
    store_up_to(total, sums + i, last - i);
  }
}
