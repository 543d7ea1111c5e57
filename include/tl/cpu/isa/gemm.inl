// Matrix products of matrices in memory.

/// One product of the batch.
template <class T>
void gemm_one(const GemmArgs<T>& args, int64_t index) {
  const T *const a = args.a + index * args.stride_a, *const b = args.b + index * args.stride_b;
  const StridedLeft<T> left = args.transpose_a ? StridedLeft<T>{a, 1, args.lda} : StridedLeft<T>{a, args.lda, 1};
  const StoreTiles<T, EvenRows> result{.c = args.c + index * args.stride_c,
                                       .place = {args.ldc},
                                       .alpha = args.alpha,
                                       .beta = args.beta,
                                       .bias = args.bias,
                                       .activation = args.activation};
  if (args.transpose_b) multiply<T>(args.m, args.n, args.k, left, ColsRight<T>{b, args.ldb}, result);
  else multiply<T>(args.m, args.n, args.k, left, RowsRight<T>{b, args.ldb}, result);
}

template <class T>
void gemm(const GemmArgs<T>& args) {
  // Products of a batch are independent, so threads share them out whole, unless there are too few.
  const auto some = [&args](int64_t first, int64_t last) {
    for (int64_t i = first; i < last; ++i) gemm_one(args, i);
  };
  if (args.batch >= 2 * threads()) parallel_for(args.batch, 1, some);
  else some(0, args.batch);
}
