// Bodies of cpu/pool.hpp. Included once per instruction set (see bodies.inl).
//
// Backward passes gather: each place of x looks up the windows that cover it, so that threads never write to one place.

/// The part of the window `out` that lies in [0, size).
struct Window {
  int64_t first, last;

  Window(int64_t out, int64_t kernel, int64_t stride, int64_t pad, int64_t size)
      : first(std::max<int64_t>(out * stride - pad, 0)), last(std::min(out * stride - pad + kernel, size)) {}
};

/// The windows [first, last) that cover place `at`.
struct Covering {
  int64_t first, last;

  Covering(int64_t at, int64_t kernel, int64_t stride, int64_t pad, int64_t windows)
      : first(at + pad < kernel ? 0 : (at + pad - kernel) / stride + 1),
        last(std::min((at + pad) / stride + 1, windows)) {}
};

template <class T>
void max_pool(const MaxPoolArgs<T>& args) {
  const PoolGeometry& g = args.geometry;
  parallel_for(g.n * g.oh, row_grain(g.ow * g.c * g.kh * g.kw), [&](int64_t begin, int64_t end) {
    for (int64_t item = begin; item < end; ++item) {
      const T* image = args.x + item / g.oh * g.h * g.w * g.c;
      const Window rows(item % g.oh, g.kh, g.stride_h, g.pad_top, g.h);
      for (int64_t ow = 0; ow < g.ow; ++ow) {
        const Window cols(ow, g.kw, g.stride_w, g.pad_left, g.w);
        const bool empty = rows.first >= rows.last || cols.first >= cols.last;
        const int64_t out = (item * g.ow + ow) * g.c;
        for_each_vector<T>(0, g.c, [&](int64_t c, auto n) TL_INLINE_LAMBDA {
          Vec<T> best(-std::numeric_limits<Wide<T>>::infinity());
          IndexVec<T> place(empty ? -1 : rows.first * g.w + cols.first);
          for (int64_t h = rows.first; h < rows.last; ++h)
            for (int64_t w = cols.first; w < cols.last; ++w) {
              const auto value = Vec<T>::load(image + (h * g.w + w) * g.c + c, n);
              const auto better = (value > best) | (value != value);
              best = select(better, value, best);
              place = select(better, IndexVec<T>(h * g.w + w), place);
            }
          best.store(args.y + out + c, n);
          if (args.index) place.store(args.index + out + c, n);
        });
      }
    }
  });
}

/// Calls body(place of x, image, windows that cover its row, windows that cover its column) for all places of x.
template <class Body>
TL_ALWAYS_INLINE void for_each_covered(const PoolGeometry& g, const Body& body) {
  parallel_for(g.n * g.h, row_grain(g.w * g.c), [&](int64_t begin, int64_t end) {
    for (int64_t item = begin; item < end; ++item) {
      const Covering rows(item % g.h, g.kh, g.stride_h, g.pad_top, g.oh);
      for (int64_t w = 0; w < g.w; ++w)
        body(item * g.w + w, item / g.h, rows, Covering(w, g.kw, g.stride_w, g.pad_left, g.ow));
    }
  });
}

template <class T>
void max_pool_backward(const MaxPoolBackwardArgs<T>& args) {
  const PoolGeometry& g = args.geometry;
  for_each_covered(g, [&](int64_t at, int64_t image, Covering rows, Covering cols) {
    const IndexVec<T> place(at - image * g.h * g.w);
    for_each_vector<T>(0, g.c, [&](int64_t c, auto n) TL_INLINE_LAMBDA {
      Vec<T> total(0);
      for (int64_t oh = rows.first; oh < rows.last; ++oh)
        for (int64_t ow = cols.first; ow < cols.last; ++ow) {
          const int64_t out = ((image * g.oh + oh) * g.ow + ow) * g.c + c;
          const auto chosen = IndexVec<T>::load(args.index + out, n) == place;
          total += select(chosen, Vec<T>::load(args.grad_y + out, n), Vec<T>(0));
        }
      total.store(args.grad_x + at * g.c + c, n);
    });
  });
}

/// 1 / the number of places that the window (oh, ow) averages over.
inline double average_weight(const PoolGeometry& g, int64_t oh, int64_t ow) {
  const auto extent = [&](int64_t out, int64_t kernel, int64_t stride, int64_t pad, int64_t size) {
    const int64_t start = out * stride - pad;
    if (g.count_include_pad) return std::min(start + kernel, size + pad) - start;
    return std::min(start + kernel, size) - std::max<int64_t>(start, 0);
  };
  const int64_t count = extent(oh, g.kh, g.stride_h, g.pad_top, g.h) * extent(ow, g.kw, g.stride_w, g.pad_left, g.w);
  return count > 0 ? 1 / static_cast<double>(count) : 0;
}

template <class T>
void avg_pool(const AvgPoolArgs<T>& args) {
  const PoolGeometry& g = args.geometry;
  parallel_for(g.n * g.oh, row_grain(g.ow * g.c * g.kh * g.kw), [&](int64_t begin, int64_t end) {
    for (int64_t item = begin; item < end; ++item) {
      const int64_t oh = item % g.oh;
      const T* image = args.x + item / g.oh * g.h * g.w * g.c;
      const Window rows(oh, g.kh, g.stride_h, g.pad_top, g.h);
      for (int64_t ow = 0; ow < g.ow; ++ow) {
        const Window cols(ow, g.kw, g.stride_w, g.pad_left, g.w);
        const Vec<T> weight(average_weight(g, oh, ow));
        for_each_vector<T>(0, g.c, [&](int64_t c, auto n) TL_INLINE_LAMBDA {
          Vec<T> total(0);
          for (int64_t h = rows.first; h < rows.last; ++h) {
            Vec<T> row(0);  // sums of rows first: the error of a whole picture's mean stays small
            for (int64_t w = cols.first; w < cols.last; ++w) row += Vec<T>::load(image + (h * g.w + w) * g.c + c, n);
            total += row;
          }
          (total * weight).store(args.y + (item * g.ow + ow) * g.c + c, n);
        });
      }
    }
  });
}

template <class T>
void avg_pool_backward(const AvgPoolBackwardArgs<T>& args) {
  const PoolGeometry& g = args.geometry;
  for_each_covered(g, [&](int64_t at, int64_t image, Covering rows, Covering cols) {
    T* grad_x = args.grad_x + at * g.c;
    bool first = true;
    for (int64_t oh = rows.first; oh < rows.last; ++oh)
      for (int64_t ow = cols.first; ow < cols.last; ++ow) {
        const T* grad_y = args.grad_y + ((image * g.oh + oh) * g.ow + ow) * g.c;
        const Vec<T> weight(average_weight(g, oh, ow));
        for_each_vector<T>(0, g.c, [&](int64_t c, auto n) TL_INLINE_LAMBDA {
          const auto part = Vec<T>::load(grad_y + c, n) * weight;
          (first ? part : Vec<T>::load(grad_x + c, n) + part).store(grad_x + c, n);
        });
        first = false;
      }
    if (first) std::fill(grad_x, grad_x + g.c, T{});
  });
}
