// Bodies of cpu/elementwise.hpp. Included once per instruction set (see bodies.inl).

template <class T, class Function>
void unary_as(const UnaryArgs<T>& args) {
  parallel_vectors<T>(args.n, [&](int64_t i, auto n) TL_INLINE_LAMBDA {
    Function::value(Vec<T>::load(args.x + i, n)).store(args.y + i, n);
  });
}

template <class T>
void unary(const UnaryArgs<T>& args) {
  switch (args.function) {
#define TL_CASE(name)       \
  case UnaryFunction::name: \
    return unary_as<T, name##_fn>(args);
    TL_UNARY_FUNCTIONS(TL_CASE)
#undef TL_CASE
  }
}

template <class T, class Function>
void unary_backward_as(const UnaryBackwardArgs<T>& args) {
  parallel_vectors<T>(args.n, [&](int64_t i, auto n) TL_INLINE_LAMBDA {
    const auto kept = Vec<T>::load(args.kept + i, n), grad_y = Vec<T>::load(args.grad_y + i, n);
    Function::gradient(kept, grad_y).store(args.grad_x + i, n);
  });
}

template <class T>
void unary_backward(const UnaryBackwardArgs<T>& args) {
  switch (args.function) {
#define TL_CASE(name)       \
  case UnaryFunction::name: \
    return unary_backward_as<T, name##_fn>(args);
    TL_UNARY_FUNCTIONS(TL_CASE)
#undef TL_CASE
  }
}

/// A loop nest over two strided operands, without dimensions of size 1 and with neighbours merged where both operands
/// allow it: a bias over [N, H, W, C] becomes two loops, equal shapes become one.
struct LoopNest {
  int rank = 0;
  int64_t numel = 1;
  int64_t shape[kMaxRank], stride_a[kMaxRank], stride_b[kMaxRank];

  LoopNest(int rank_given, const int64_t* sizes, const int64_t* strides_a, const int64_t* strides_b) {
    for (int d = 0; d < rank_given; ++d) {
      numel *= sizes[d];
      if (sizes[d] == 1) continue;
      const int outer = rank - 1;
      if (rank > 0 && stride_a[outer] == strides_a[d] * sizes[d] && stride_b[outer] == strides_b[d] * sizes[d]) {
        shape[outer] *= sizes[d];
        stride_a[outer] = strides_a[d];
        stride_b[outer] = strides_b[d];
      } else {
        shape[rank] = sizes[d];
        stride_a[rank] = strides_a[d];
        stride_b[rank++] = strides_b[d];
      }
    }
    if (rank == 0) {
      shape[0] = 1;
      stride_a[0] = stride_b[0] = 0;
      rank = 1;
    }
  }

  /// Calls body(place, offset_a, offset_b, count) for the parts of innermost rows that make up places [first, last).
  template <class Body>
  TL_ALWAYS_INLINE void for_each_row(int64_t first, int64_t last, const Body& body) const {
    int64_t index[kMaxRank], offset_a = 0, offset_b = 0;
    for (int64_t d = rank - 1, rest = first; d >= 0; --d) {
      index[d] = rest % shape[d];
      rest /= shape[d];
      offset_a += index[d] * stride_a[d];
      offset_b += index[d] * stride_b[d];
    }
    const int inner = rank - 1;
    for (int64_t place = first; place < last;) {
      const int64_t count = std::min(shape[inner] - index[inner], last - place);
      body(place, offset_a, offset_b, count);
      place += count;
      index[inner] += count;
      offset_a += count * stride_a[inner];
      offset_b += count * stride_b[inner];
      for (int d = inner; d > 0 && index[d] == shape[d]; --d) {
        offset_a += stride_a[d - 1] - shape[d] * stride_a[d];
        offset_b += stride_b[d - 1] - shape[d] * stride_b[d];
        index[d] = 0;
        ++index[d - 1];
      }
    }
  }
};

/// n lanes that lie `stride` apart.
template <class T, class Count>
TL_ALWAYS_INLINE Vec<T> load_strided(const T* p, int64_t stride, Count n) {
  if (stride == 1) return Vec<T>::load(p, n);
  if (stride == 0) return Vec<T>(widened(*p));
  Vec<T> out(0);
  int64_t count = Vec<T>::kLanes;
  if constexpr (!std::is_same_v<Count, Whole>) count = n;
  for (int64_t i = 0; i < count; ++i) out.v[i] = widened(p[i * stride]);
  return out;
}

/// Calls body(place, a, b, n) for all vectors of a broadcast operation; place counts elements of the contiguous result.
template <class T, class Body>
TL_ALWAYS_INLINE void for_each_broadcast(const LoopNest& nest, const T* a, const T* b, const Body& body) {
  const int64_t stride_a = nest.stride_a[nest.rank - 1], stride_b = nest.stride_b[nest.rank - 1];
  parallel_for(nest.numel, kGrain, [&](int64_t first, int64_t last) {
    nest.for_each_row(first, last, [&](int64_t place, int64_t at_a, int64_t at_b, int64_t count) TL_INLINE_LAMBDA {
      for_each_vector<T>(0, count, [&](int64_t i, auto n) TL_INLINE_LAMBDA {
        body(place + i, load_strided(a + at_a + i * stride_a, stride_a, n),
             load_strided(b + at_b + i * stride_b, stride_b, n), n);
      });
    });
  });
}

template <class T, class Function>
void binary_as(const BinaryArgs<T>& args) {
  const LoopNest nest(args.rank, args.shape, args.stride_a, args.stride_b);
  for_each_broadcast(nest, args.a, args.b, [&](int64_t place, Vec<T> a, Vec<T> b, auto n) TL_INLINE_LAMBDA {
    Function::value(a, b).store(args.y + place, n);
  });
}

template <class T>
void binary(const BinaryArgs<T>& args) {
  switch (args.function) {
#define TL_CASE(name)        \
  case BinaryFunction::name: \
    return binary_as<T, name##_fn>(args);
    TL_BINARY_FUNCTIONS(TL_CASE)
#undef TL_CASE
  }
}

template <class T, class Function>
void binary_backward_as(const BinaryBackwardArgs<T>& args) {
  const LoopNest nest(args.rank, args.shape, args.stride_a, args.stride_b);
  for_each_broadcast(nest, args.a, args.b, [&](int64_t place, Vec<T> a, Vec<T> b, auto n) TL_INLINE_LAMBDA {
    const auto grad_y = Vec<T>::load(args.grad_y + place, n);
    if (args.grad_a) Function::gradient_a(a, b, grad_y).store(args.grad_a + place, n);
    if (args.grad_b) Function::gradient_b(a, b, grad_y).store(args.grad_b + place, n);
  });
}

template <class T>
void binary_backward(const BinaryBackwardArgs<T>& args) {
  switch (args.function) {
#define TL_CASE(name)        \
  case BinaryFunction::name: \
    return binary_backward_as<T, name##_fn>(args);
    TL_BINARY_FUNCTIONS(TL_CASE)
#undef TL_CASE
  }
}

template <class T, bool kReadX, bool kReadY>
void affine_as(const AffineArgs<T>& args) {
  const Vec<T> alpha(args.alpha), beta(args.beta), gamma(args.gamma);
  parallel_vectors<T>(args.n, [&](int64_t i, auto n) TL_INLINE_LAMBDA {
    Vec<T> y = gamma;
    if constexpr (kReadY) y = fma(beta, Vec<T>::load(args.y + i, n), y);
    if constexpr (kReadX) y = fma(alpha, Vec<T>::load(args.x + i, n), y);
    y.store(args.y + i, n);
  });
}

template <class T>
void affine(const AffineArgs<T>& args) {
  const bool read_x = args.alpha != 0, read_y = args.beta != 0;
  if (read_x && read_y) affine_as<T, true, true>(args);
  else if (read_x) affine_as<T, true, false>(args);
  else if (read_y) affine_as<T, false, true>(args);
  else affine_as<T, false, false>(args);
}

template <class T>
void narrow(const NarrowArgs<T>& args) {
  parallel_vectors<T>(args.n,
                      [&](int64_t i, auto n) TL_INLINE_LAMBDA { Vec<T>::load(args.x + i, n).store(args.y + i, n); });
}

template <class T>
void widen(const WidenArgs<T>& args) {
  parallel_vectors<T>(args.n,
                      [&](int64_t i, auto n) TL_INLINE_LAMBDA { Vec<T>::load(args.x + i, n).store(args.y + i, n); });
}

template <class T>
TL_ALWAYS_INLINE void copy_or_add(const T* x, T* y, bool accumulate) {
  *y = accumulate ? narrowed<T>(widened(*y) + widened(*x)) : *x;
}

/// y[i, j] (= or +=) x[i, j] where x is contiguous along i and y along j: square by square, in registers.
template <class T>
void copy_transposed(const T* x, int64_t stride_x, T* y, int64_t stride_y, int64_t rows, int64_t cols,
                     bool accumulate) {
  constexpr int64_t kLanes = Vec<T>::kLanes;
  const int64_t whole_rows = rows / kLanes * kLanes, whole_cols = cols / kLanes * kLanes;
  for (int64_t j = 0; j < whole_cols; j += kLanes)
    for (int64_t i = 0; i < whole_rows; i += kLanes) {
      Vec<T> square[kLanes];
      TL_UNROLL
      for (int64_t k = 0; k < kLanes; ++k) square[k] = Vec<T>::load(x + i + (j + k) * stride_x);
      transpose<kLanes / 2>(square);
      TL_UNROLL
      for (int64_t k = 0; k < kLanes; ++k) {
        T* to = y + (i + k) * stride_y + j;
        (accumulate ? Vec<T>::load(to) + square[k] : square[k]).store(to);
      }
    }
  for (int64_t i = 0; i < rows; ++i)
    for (int64_t j = i < whole_rows ? whole_cols : 0; j < cols; ++j)
      copy_or_add(x + i + j * stride_x, y + i * stride_y + j, accumulate);
}

template <class T>
void copy_strided(const CopyStridedArgs<T>& args) {
  // Dimensions in the order of y's strides (an insertion sort), so that y is written from front to back.
  int64_t shape[kMaxRank], stride_x[kMaxRank], stride_y[kMaxRank];
  for (int d = 0; d < args.rank; ++d) {
    int at = d;
    for (; at > 0 && std::abs(stride_y[at - 1]) < std::abs(args.stride_y[d]); --at) {
      shape[at] = shape[at - 1];
      stride_x[at] = stride_x[at - 1];
      stride_y[at] = stride_y[at - 1];
    }
    shape[at] = args.shape[d];
    stride_x[at] = args.stride_x[d];
    stride_y[at] = args.stride_y[d];
  }
  LoopNest nest(args.rank, shape, stride_x, stride_y);
  if (nest.numel == 0) return;

  // Places of y that overlap (sums) are taken in order by one thread.
  bool overlap = false;
  for (int64_t d = nest.rank - 1, reach = 0; d >= 0; --d) {
    const int64_t step = std::abs(nest.stride_b[d]);
    if (nest.shape[d] > 1 && step <= reach) overlap = true;
    reach += (nest.shape[d] - 1) * step;
  }
  const auto grain = [&](int64_t items, int64_t length) { return overlap ? items : row_grain(length); };

  const int inner = nest.rank - 1;
  int along_x = inner;
  for (int d = 0; d < inner; ++d)
    if (nest.stride_a[d] == 1) along_x = d;
  if (along_x != inner && nest.stride_b[inner] == 1) {
    // A transpose of [rows, cols] for each place of the other dimensions.
    const int64_t rows = nest.shape[along_x], cols = nest.shape[inner];
    const int64_t row_stride = nest.stride_b[along_x], col_stride = nest.stride_a[inner];
    std::swap(nest.shape[along_x], nest.shape[inner - 1]);
    std::swap(nest.stride_a[along_x], nest.stride_a[inner - 1]);
    std::swap(nest.stride_b[along_x], nest.stride_b[inner - 1]);
    // Long rows are cut up, so that a single matrix is shared out too.
    constexpr int64_t kRows = 64;  // a multiple of every vector's lanes
    const int64_t parts = (rows + kRows - 1) / kRows, matrices = nest.numel / (rows * cols);
    nest.rank -= 2;
    const LoopNest outer(nest.rank, nest.shape, nest.stride_a, nest.stride_b);
    parallel_for(matrices * parts, grain(matrices * parts, kRows * cols), [&](int64_t first, int64_t last) {
      for (int64_t item = first; item < last; ++item) {
        outer.for_each_row(item / parts, item / parts + 1, [&](int64_t, int64_t offset_x, int64_t offset_y, int64_t) {
          const int64_t row = item % parts * kRows;
          copy_transposed(args.x + offset_x + row, col_stride, args.y + offset_y + row * row_stride, row_stride,
                          std::min(kRows, rows - row), cols, args.accumulate);
        });
      }
    });
    return;
  }

  const int64_t step_x = nest.stride_a[inner], step_y = nest.stride_b[inner];
  parallel_for(nest.numel, grain(nest.numel, 1), [&](int64_t first, int64_t last) {
    nest.for_each_row(first, last, [&](int64_t, int64_t offset_x, int64_t offset_y, int64_t count) TL_INLINE_LAMBDA {
      const T* x = args.x + offset_x;
      T* y = args.y + offset_y;
      if (step_y != 1) {
        for (int64_t i = 0; i < count; ++i) copy_or_add(x + i * step_x, y + i * step_y, args.accumulate);
      } else if (args.accumulate) {
        for_each_vector<T>(0, count, [&](int64_t i, auto n) TL_INLINE_LAMBDA {
          (Vec<T>::load(y + i, n) + load_strided(x + i * step_x, step_x, n)).store(y + i, n);
        });
      } else {
        for_each_vector<T>(0, count, [&](int64_t i, auto n) TL_INLINE_LAMBDA {
          load_strided(x + i * step_x, step_x, n).store(y + i, n);
        });
      }
    });
  });
}

/// Draw d of dropout is word d % 4 of Philox at position d / 4 of the stream `counter`. A vector of draws takes one
/// counter for each 64-bit lane and interleaves the words, so that the bits are those of Philox::at.
struct DrawVectors {
  typedef uint64_t Wide __attribute__((vector_size(TL_VECTOR_BYTES)));
  static constexpr int64_t kCounters = TL_VECTOR_BYTES / 8;

  IndexVec<float> low, high;  // draws [first, first + kLanes) and the kLanes after them

  /// `first` is a multiple of 4.
  TL_ALWAYS_INLINE DrawVectors(uint64_t seed, uint64_t counter, int64_t first) {
    Wide position;
    for (int64_t i = 0; i < kCounters; ++i) position[i] = static_cast<uint64_t>(first / 4 + i);
    Wide c0 = position, c1 = position >> 32, c2 = (counter & 0xffffffffu) - Wide{}, c3 = (counter >> 32) - Wide{};
    uint64_t k0 = seed & 0xffffffffu, k1 = seed >> 32;
    for (int round = 0; round < 10; ++round) {  // only the low halves of the lanes count
      const Wide p0 = multiply(c0, 0xD2511F53u), p1 = multiply(c2, 0xCD9E8D57u);
      c0 = (p1 >> 32) ^ c1 ^ k0, c2 = (p0 >> 32) ^ c3 ^ k1;
      c1 = p1, c3 = p0;
      k0 = (k0 + 0x9E3779B9u) & 0xffffffffu, k1 = (k1 + 0xBB67AE85u) & 0xffffffffu;
    }
    const Wide even = (c0 & 0xffffffffu) | (c1 << 32), odd = (c2 & 0xffffffffu) | (c3 << 32);
    interleave(even, odd, std::make_integer_sequence<int, kCounters>{});
  }

  /// Philox::uniform of the draws, times 2^24.
  static TL_ALWAYS_INLINE Vec<float> uniform24(IndexVec<float> words) {
    const auto shifted = (words.v >> 8) & 0xffffff;
    return Vec<float>(__builtin_convertvector(shifted, Vec<float>::Native));
  }

 private:
  /// Low and high half of even 0, odd 0, even 1, odd 1, ...
  template <int... i>
  TL_ALWAYS_INLINE void interleave(Wide even, Wide odd, std::integer_sequence<int, i...>) {
    constexpr int n = kCounters;
    low.v = (IndexVec<float>::Bits)__builtin_shufflevector(even, odd, (i % 2 * n + i / 2)...);
    high.v = (IndexVec<float>::Bits)__builtin_shufflevector(even, odd, (i % 2 * n + i / 2 + n / 2)...);
  }

  /// Products of the low halves of the lanes.
  static TL_ALWAYS_INLINE Wide multiply(Wide a, uint32_t b) {
#if TL_X86 && TL_VECTOR_BYTES == 64
    return (Wide)_mm512_maskz_mul_epu32(static_cast<__mmask8>(-1), (__m512i)a, _mm512_set1_epi64(b));
#elif TL_X86 && TL_VECTOR_BYTES == 32
    return (Wide)_mm256_mul_epu32((__m256i)a, _mm256_set1_epi64x(b));
#elif TL_X86
    return (Wide)_mm_mul_epu32((__m128i)a, _mm_set1_epi64x(b));
#else
    return (a & 0xffffffffu) * b;
#endif
  }
};

/// Every element has its own draw.
template <class T>
void dropout_elements(const DropoutArgs<T>& args, Wide<T> scale) {
  parallel_for(args.n, kGrain, [&](int64_t first, int64_t last) {
    int64_t i = first;
    if constexpr (sizeof(T) <= 4) {
      constexpr int64_t kLanes = Vec<T>::kLanes;
      const Vec<T> threshold(args.probability * 0x1p24f);
      for (; i + 2 * kLanes <= last; i += 2 * kLanes) {
        const DrawVectors draws(args.seed, args.counter, i);
        const auto take = [&](int64_t at, IndexVec<float> words) TL_INLINE_LAMBDA {
          const auto kept = DrawVectors::uniform24(words) >= threshold;
          select(kept, Vec<T>::load(args.x + at) * Vec<T>(scale), Vec<T>(0)).store(args.y + at);
        };
        take(i, draws.low);
        take(i + kLanes, draws.high);
      }
    }
    for (; i < last; ++i) {
      const auto words = Philox::at(args.seed, args.counter, static_cast<uint64_t>(i / 4));
      const bool keep = Philox::uniform(words.w[i % 4]) >= args.probability;
      args.y[i] = narrowed<T>(keep ? widened(args.x[i]) * scale : Wide<T>(0));
    }
  });
}

/// `group` neighbours share a draw.
template <class T>
void dropout_groups(const DropoutArgs<T>& args, Wide<T> scale) {
  parallel_for(args.n, kGrain, [&](int64_t first, int64_t last) {
    for (int64_t i = first; i < last;) {
      const int64_t draw = i / args.group, end = std::min(last, (draw + 1) * args.group);
      const auto words = Philox::at(args.seed, args.counter, static_cast<uint64_t>(draw / 4));
      const bool keep = Philox::uniform(words.w[draw % 4]) >= args.probability;
      for_each_vector<T>(i, end, [&](int64_t j, auto n) TL_INLINE_LAMBDA {
        (keep ? Vec<T>::load(args.x + j, n) * Vec<T>(scale) : Vec<T>(0)).store(args.y + j, n);
      });
      i = end;
    }
  });
}

template <class T>
void dropout(const DropoutArgs<T>& args) {
  using W = Wide<T>;
  const W scale = args.probability < 1 ? W(1) / (W(1) - static_cast<W>(args.probability)) : W(0);
  if (args.group == 1) dropout_elements(args, scale);
  else dropout_groups(args, scale);
}
