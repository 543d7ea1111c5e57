// Bodies of cpu/index.hpp. Included once per instruction set (see bodies.inl).

template <class T>
void gather_rows(const GatherRowsArgs<T>& args) {
  parallel_for(args.count, row_grain(args.cols), [&](int64_t first, int64_t last) {
    for (int64_t i = first; i < last; ++i) {
      const T* row = args.x + args.index[i] * args.cols;
      std::copy(row, row + args.cols, args.y + i * args.cols);
    }
  });
}

template <class T>
void scatter_add_rows(const ScatterAddRowsArgs<T>& args) {
  // Threads share out the columns: each takes all indices in order, and rows that occur twice are nobody's problem.
  constexpr int64_t kLine = 16;
  const int64_t grain = (row_grain(args.count) + kLine - 1) / kLine * kLine;
  parallel_for(args.cols, grain, [&](int64_t first, int64_t last) {
    for (int64_t i = 0; i < args.count; ++i) {
      if (args.index[i] == args.skip) continue;
      const T* y = args.y + i * args.cols;
      T* x = args.x + args.index[i] * args.cols;
      for_each_vector<T>(first, last, [&](int64_t c, auto n) TL_INLINE_LAMBDA {
        (Vec<T>::load(x + c, n) + Vec<T>::load(y + c, n)).store(x + c, n);
      });
    }
  });
}
