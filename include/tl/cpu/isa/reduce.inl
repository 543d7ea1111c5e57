// Bodies of cpu/reduce.hpp, and sums for other families. Included once per instruction set (see bodies.inl).

/// Sum of term(i, n) over the vectors of [first, last): in blocks, each in T, the blocks in double.
/// term gives zeros for lanes that are not there.
template <class T, class Term>
TL_ALWAYS_INLINE double sum_of(int64_t first, int64_t last, const Term& term) {
  constexpr int64_t kLanes = Vec<T>::kLanes, kStep = 4 * kLanes, kBlock = 32 * kStep;
  double total = 0;
  for (int64_t block = first; block < last; block += kBlock) {
    const int64_t end = std::min(block + kBlock, last);
    Vec<T> a(0), b(0), c(0), d(0);
    int64_t i = block;
    for (; i + kStep <= end; i += kStep) {
      a += term(i, Whole{});
      b += term(i + kLanes, Whole{});
      c += term(i + 2 * kLanes, Whole{});
      d += term(i + 3 * kLanes, Whole{});
    }
    for_each_vector<T>(i, end, [&](int64_t j, auto n) TL_INLINE_LAMBDA { a += term(j, n); });
    total += static_cast<double>(sum((a + b) + (c + d)));
  }
  return total;
}

/// The largest value of v(i, n) over the vectors of [first, last); NaN if there is one, -inf if there is nothing.
template <class T, class Value>
TL_ALWAYS_INLINE Wide<T> max_of(int64_t first, int64_t last, const Value& value) {
  constexpr Wide<T> kLowest = -std::numeric_limits<Wide<T>>::infinity();
  Vec<T> best(kLowest);
  for_each_vector<T>(first, last, [&](int64_t i, auto n) TL_INLINE_LAMBDA {
    best = maximum_fn::value(best, fill_rest(value(i, n), n, kLowest));
  });
  return max_lane(best);
}

/// The first place in x [n] that holds `value`, or a NaN if value is one; 0 if none does.
template <class T>
int64_t find_first(const T* x, int64_t n, Wide<T> value) {
  constexpr int64_t kBlock = 16 * Vec<T>::kLanes;
  const auto matches = [&](Wide<T> element) { return element == value || (element != element && value != value); };
  // Blocks are tested as a whole first. (A partial vector's missing zeros may match too: then the search goes on.)
  for (int64_t first = 0; first < n; first += kBlock) {
    const int64_t last = std::min(first + kBlock, n);
    Vec<T> found(0);
    for_each_vector<T>(first, last, [&](int64_t i, auto count) TL_INLINE_LAMBDA {
      const auto element = Vec<T>::load(x + i, count);
      const auto match = value == value ? element == Vec<T>(value) : element != element;
      found = select(match, Vec<T>(1), found);
    });
    if (max_lane(found) == 0) continue;
    for (int64_t i = first; i < last; ++i)
      if (matches(widened(x[i]))) return i;
  }
  return 0;
}

/// total[j] += sum of the column j of x [rows, cols], whose rows are `stride` apart.
template <class T>
void add_rows(const T* x, int64_t rows, int64_t cols, int64_t stride, Wide<T>* total) {
  for (int64_t r = 0; r < rows; ++r, x += stride) {
    for_each_vector<T>(0, cols, [&](int64_t j, auto n) TL_INLINE_LAMBDA {
      (Vec<T>::load(total + j, n) + Vec<T>::load(x + j, n)).store(total + j, n);
    });
  }
}

/// Rows whose sums are kept in T before they go on in double.
inline constexpr int64_t kSumRows = 128;

template <class T>
void reduce_sum(const ReduceArgs<T>& args, double divisor) {
  const int64_t outer = args.outer, axis = args.axis, inner = args.inner;
  // The axis is cut into chunks, whose sums are added in order.
  const int64_t chunk = inner == 1 ? kGrain : kSumRows;
  const int64_t chunks = std::max<int64_t>(1, (axis + chunk - 1) / chunk);
  if (inner == 1) {
    double* partial = scratch(ScratchUse::partial).get<double>(outer * chunks);
    parallel_for(outer * chunks, row_grain(std::min(axis, chunk)), [&](int64_t first, int64_t last) {
      for (int64_t item = first; item < last; ++item) {
        const T* row = args.x + item / chunks * axis;
        const int64_t begin = item % chunks * chunk, end = std::min(begin + chunk, axis);
        partial[item] =
            sum_of<T>(begin, end, [&](int64_t i, auto n) TL_INLINE_LAMBDA { return Vec<T>::load(row + i, n); });
      }
    });
    for (int64_t o = 0; o < outer; ++o) {
      double total = 0;
      for (int64_t c = 0; c < chunks; ++c) total += partial[o * chunks + c];
      args.y[o] = static_cast<Wide<T>>(total / divisor);
    }
    return;
  }

  constexpr int64_t kCols = 4096;
  const int64_t blocks = (inner + kCols - 1) / kCols, items = outer * chunks * blocks;
  using W = Wide<T>;
  W* partial = scratch(ScratchUse::partial).get<W>(outer * chunks * inner);  // [outer, chunks, inner]
  parallel_for(items, row_grain(std::min(axis, chunk) * std::min(inner, kCols)), [&](int64_t first, int64_t last) {
    for (int64_t item = first; item < last; ++item) {
      const int64_t col = item % blocks * kCols, part = item / blocks, o = part / chunks, row = part % chunks * chunk;
      W* total = partial + part * inner + col;
      const int64_t cols = std::min(kCols, inner - col);
      std::fill(total, total + cols, W(0));
      add_rows(args.x + (o * axis + row) * inner + col, std::min(chunk, axis - row), cols, inner, total);
    }
  });
  parallel_for(outer * inner, row_grain(chunks), [&](int64_t first, int64_t last) {
    for (int64_t i = first; i < last; ++i) {
      const W* column = partial + i / inner * chunks * inner + i % inner;
      double total = 0;
      for (int64_t c = 0; c < chunks; ++c) total += static_cast<double>(column[c * inner]);
      args.y[i] = static_cast<W>(total / divisor);
    }
  });
}

/// Max, or min as the max of -x.
template <class T, bool kMin>
void reduce_extreme(const ReduceArgs<T>& args) {
  const int64_t axis = args.axis, inner = args.inner;
  const auto signed_load = [](const T* p, auto n) TL_INLINE_LAMBDA {
    const auto value = Vec<T>::load(p, n);
    return kMin ? -value : value;
  };
  if (inner == 1) {
    parallel_for(args.outer, row_grain(axis), [&](int64_t first, int64_t last) {
      for (int64_t o = first; o < last; ++o) {
        const T* row = args.x + o * axis;
        auto best = max_of<T>(0, axis, [&](int64_t i, auto n) TL_INLINE_LAMBDA { return signed_load(row + i, n); });
        if (kMin) best = -best;
        args.y[o] = best;
        if (args.index) args.index[o] = static_cast<int32_t>(find_first(row, axis, best));
      }
    });
    return;
  }
  constexpr int64_t kCols = 256;
  const int64_t blocks = (inner + kCols - 1) / kCols;
  parallel_for(args.outer * blocks, row_grain(axis * std::min(inner, kCols)), [&](int64_t first, int64_t last) {
    for (int64_t item = first; item < last; ++item) {
      const int64_t o = item / blocks, col = item % blocks * kCols;
      const T* slice = args.x + o * axis * inner;
      for_each_vector<T>(col, std::min(col + kCols, inner), [&](int64_t j, auto n) TL_INLINE_LAMBDA {
        Vec<T> best(-std::numeric_limits<Wide<T>>::infinity());
        IndexVec<T> place(0);
        for (int64_t a = 0; a < axis; ++a) {
          const Vec<T> value = signed_load(slice + a * inner + j, n);
          const auto better = (value > best) | ((value != value) & (best == best));
          best = select(better, value, best);
          place = select(better, IndexVec<T>(a), place);
        }
        (kMin ? -best : best).store(args.y + o * inner + j, n);
        if (args.index) place.store(args.index + o * inner + j, n);
      });
    }
  });
}

template <class T>
void reduce(const ReduceArgs<T>& args) {
  switch (args.reduction) {
    case Reduction::sum:
      return reduce_sum(args, 1);
    case Reduction::mean:
      return reduce_sum(args, static_cast<double>(args.axis));
    case Reduction::max:
      return reduce_extreme<T, false>(args);
    case Reduction::min:
      return reduce_extreme<T, true>(args);
  }
}

template <class T>
void scatter_axis(const ScatterAxisArgs<T>& args) {
  const int64_t slice = args.axis * args.inner;
  parallel_for(args.outer, row_grain(slice), [&](int64_t first, int64_t last) {
    for (int64_t o = first; o < last; ++o) {
      std::fill(args.grad_x + o * slice, args.grad_x + (o + 1) * slice, T(0));
      for (int64_t j = o * args.inner; j < (o + 1) * args.inner; ++j)
        args.grad_x[o * slice + args.index[j] * args.inner + j % args.inner] = args.grad_y[j];
    }
  });
}

template <class T>
void top_k(const TopKArgs<T>& args) {
  parallel_for(args.rows, row_grain(args.cols * 4), [&](int64_t first, int64_t last) {
    int32_t* order = scratch(ScratchUse::rows).get<int32_t>(args.cols);
    for (int64_t r = first; r < last; ++r) {
      const T* row = args.x + r * args.cols;
      for (int64_t c = 0; c < args.cols; ++c) order[c] = static_cast<int32_t>(c);
      std::partial_sort(order, order + args.k, order + args.cols, [&](int32_t a, int32_t b) {
        const T x = row[a], y = row[b];
        const bool a_nan = x != x, b_nan = y != y;
        if (a_nan != b_nan) return a_nan;
        return x > y || (!(y > x) && a < b);
      });
      for (int64_t i = 0; i < args.k; ++i) {
        args.values[r * args.k + i] = row[order[i]];
        args.index[r * args.k + i] = order[i];
      }
    }
  });
}
