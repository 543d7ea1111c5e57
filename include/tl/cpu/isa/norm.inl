// Bodies of cpu/norm.hpp. Included once per instruction set (see bodies.inl).

/// x [rows, channels] seen as [rows / k, k * channels], so that a few channels still fill whole vectors.
/// Column j of the folded rows belongs to channel j % channels. Rows that are left over make a last one, cut short.
struct Folded {
  int64_t channels, copies, cols, rows, rest;

  Folded(int64_t rows_given, int64_t channels_given)
      : channels(channels_given),
        copies(channels < kCols ? kCols / std::max<int64_t>(channels, 1) : 1),
        cols(copies * channels),
        rows(rows_given / copies),
        rest(rows_given % copies * channels) {}

  int64_t rows_with_rest() const { return rows + (rest > 0); }
  int64_t cols_of(int64_t row) const { return row < rows ? cols : rest; }

  /// Writes `value(channel)` for all columns of a folded row.
  template <class T, class Value>
  void spread(T* out, const Value& value) const {
    for (int64_t c = 0; c < channels; ++c) out[c] = value(c);
    for (int64_t j = channels; j < cols; ++j) out[j] = out[j - channels];
  }

 private:
  static constexpr int64_t kCols = 64;
};

/// For each column of x [rows, cols], rows > 0: the mean's distance from the first row, and the sum of squared
/// distances from the mean. The first row is near the mean when the deviation is small beside it, so that neither is
/// swallowed.
template <class T>
void column_moments(const T* x, int64_t rows, int64_t cols, Wide<T>* mean, Wide<T>* m2) {
  std::fill(mean, mean + cols, Wide<T>(0));
  std::fill(m2, m2 + cols, Wide<T>(0));
  for (int64_t r = 0; r < rows; ++r) {
    for_each_vector<T>(0, cols, [&](int64_t j, auto n) TL_INLINE_LAMBDA {
      const auto distance = Vec<T>::load(x + r * cols + j, n) - Vec<T>::load(x + j, n);
      (Vec<T>::load(mean + j, n) + distance).store(mean + j, n);
      fma(distance, distance, Vec<T>::load(m2 + j, n)).store(m2 + j, n);
    });
  }
  const Vec<T> weight(Wide<T>(1) / static_cast<Wide<T>>(rows));
  for_each_vector<T>(0, cols, [&](int64_t j, auto n) TL_INLINE_LAMBDA {
    const auto total = Vec<T>::load(mean + j, n), distance = total * weight;
    distance.store(mean + j, n);
    max(Vec<T>(0), Vec<T>::load(m2 + j, n) - total * distance).store(m2 + j, n);
  });
}

template <class T>
void batch_statistics(const BatchStatisticsArgs<T>& args) {
  using W = Wide<T>;
  if (args.rows == 0) {
    std::fill(args.mean, args.mean + args.channels, W(0));
    std::fill(args.variance, args.variance + args.channels, W(0));
    return;
  }
  const Folded fold(args.rows, args.channels);
  const int64_t full = (fold.rows + kSumRows - 1) / kSumRows, blocks = full + (fold.rest > 0);
  W* partial = scratch(ScratchUse::partial).get<W>(blocks * 2 * fold.cols);  // [blocks, {mean, m2}, cols]
  const auto block_x = [&](int64_t b) { return args.x + (b < full ? b * kSumRows : fold.rows) * fold.cols; };
  const auto block_rows = [&](int64_t b) { return b < full ? std::min(kSumRows, fold.rows - b * kSumRows) : 1; };
  const auto block_cols = [&](int64_t b) { return b < full ? fold.cols : fold.rest; };
  parallel_for(blocks, row_grain(kSumRows * fold.cols), [&](int64_t first, int64_t last) {
    for (int64_t b = first; b < last; ++b) {
      W* mean = partial + b * 2 * fold.cols;
      column_moments(block_x(b), block_rows(b), block_cols(b), mean, mean + fold.cols);
    }
  });

  parallel_for(args.channels, row_grain(2 * blocks * fold.copies), [&](int64_t first, int64_t last) {
    for (int64_t c = first; c < last; ++c) {
      // Means count from the channel's first element: nothing is lost to a large one here either.
      const auto origin = static_cast<double>(widened(args.x[c])), rows = static_cast<double>(args.rows);
      const auto for_each_block = [&](auto body) {
        for (int64_t b = 0; b < blocks; ++b) {
          const T* x = block_x(b);
          const W *mean = partial + b * 2 * fold.cols, *m2 = mean + fold.cols;
          for (int64_t j = c; j < block_cols(b); j += fold.channels)
            body(static_cast<double>(block_rows(b)),
                 (static_cast<double>(widened(x[j])) - origin) + static_cast<double>(mean[j]),
                 static_cast<double>(m2[j]));
        }
      };
      double total = 0, m2_total = 0;
      for_each_block([&](double count, double mean, double) { total += count * mean; });
      const double mean_of_all = total / rows;
      for_each_block([&](double count, double mean, double m2) {
        m2_total += m2 + count * (mean - mean_of_all) * (mean - mean_of_all);
      });
      args.mean[c] = static_cast<W>(origin + mean_of_all);
      args.variance[c] = static_cast<W>(m2_total / rows);
    }
  });
}

template <class T>
void channel_affine(const ChannelAffineArgs<T>& args) {
  const Folded fold(args.rows, args.channels);
  Wide<T>* scale = scratch(ScratchUse::rows).get<Wide<T>>(2 * fold.cols);
  Wide<T>* shift = scale + fold.cols;
  fold.spread(scale, [&](int64_t c) { return args.scale[c]; });
  fold.spread(shift, [&](int64_t c) { return args.shift[c]; });
  parallel_for(fold.rows_with_rest(), row_grain(fold.cols), [&](int64_t first, int64_t last) {
    const Bounds<T> bounds(args.activation);
    for (int64_t row = first; row < last; ++row) {
      const int64_t start = row * fold.cols;
      for_each_vector<T>(0, fold.cols_of(row), [&](int64_t j, auto n) TL_INLINE_LAMBDA {
        auto y = fma(Vec<T>::load(args.x + start + j, n), Vec<T>::load(scale + j, n), Vec<T>::load(shift + j, n));
        if (args.residual) y += Vec<T>::load(args.residual + start + j, n);
        bounds.value(y).store(args.y + start + j, n);
      });
    }
  });
}

template <class T>
void batch_norm_backward(const BatchNormBackwardArgs<T>& args) {
  using W = Wide<T>;
  const bool masked = args.activation != Activation::none;
  const Bounds<T> bounds(args.activation);
  const Folded fold(args.rows, args.channels);
  const int64_t rows = fold.rows_with_rest(), blocks = (rows + kSumRows - 1) / kSumRows;
  const bool wants_sums = args.grad_gamma || args.grad_beta || (args.grad_x && !args.frozen_statistics);
  const bool reads_x = wants_sums && args.x;  // the gradient of beta alone needs no x
  const auto slope = [&](int64_t c) { return args.gamma ? args.gamma[c] * args.rstd[c] : args.rstd[c]; };

  W* mean = scratch(ScratchUse::rows).get<W>(4 * fold.cols);
  W *of_g = mean + fold.cols, *of_x = of_g + fold.cols, *of_1 = of_x + fold.cols;
  fold.spread(mean, [&](int64_t c) { return reads_x ? args.mean[c] : W(0); });
  fold.spread(of_g, slope);

  // First pass: sums of g and of g (x - mean). With frozen statistics it does all the work.
  const auto load_g = [&](int64_t at, auto n) TL_INLINE_LAMBDA {
    const auto grad_y = Vec<T>::load(args.grad_y + at, n);
    return masked ? bounds.gradient(Vec<T>::load(args.y + at, n), grad_y) : grad_y;
  };
  W* partial = scratch(ScratchUse::partial).get<W>(blocks * 2 * fold.cols);  // [blocks, 2, cols]
  parallel_for(blocks, row_grain(kSumRows * fold.cols), [&](int64_t first, int64_t last) {
    for (int64_t b = first; b < last; ++b) {
      W *sum_g = partial + b * 2 * fold.cols, *sum_gx = sum_g + fold.cols;
      std::fill(sum_g, sum_gx + fold.cols, W(0));
      for (int64_t row = b * kSumRows; row < std::min((b + 1) * kSumRows, rows); ++row) {
        for_each_vector<T>(0, fold.cols_of(row), [&](int64_t j, auto n) TL_INLINE_LAMBDA {
          const int64_t at = row * fold.cols + j;
          const auto g = load_g(at, n);
          if (args.grad_residual) g.store(args.grad_residual + at, n);
          if (args.frozen_statistics && args.grad_x) (g * Vec<T>::load(of_g + j, n)).store(args.grad_x + at, n);
          if (wants_sums) (Vec<T>::load(sum_g + j, n) + g).store(sum_g + j, n);
          if (reads_x) {
            const auto centered = Vec<T>::load(args.x + at, n) - Vec<T>::load(mean + j, n);
            fma(g, centered, Vec<T>::load(sum_gx + j, n)).store(sum_gx + j, n);
          }
        });
      }
    }
  });
  if (!wants_sums) return;

  const double count = static_cast<double>(args.rows);
  parallel_for(args.channels, row_grain(2 * blocks * fold.copies), [&](int64_t first, int64_t last) {
    for (int64_t c = first; c < last; ++c) {
      double sum_g = 0, sum_gx = 0;
      for (int64_t b = 0; b < blocks; ++b)
        for (int64_t j = c; j < fold.cols; j += fold.channels) {
          sum_g += static_cast<double>(partial[b * 2 * fold.cols + j]);
          sum_gx += static_cast<double>(partial[(b * 2 + 1) * fold.cols + j]);
        }
      const auto rstd = static_cast<double>(args.rstd[c]), k = static_cast<double>(slope(c));
      if (args.grad_gamma) args.grad_gamma[c] = static_cast<W>(sum_gx * rstd);
      if (args.grad_beta) args.grad_beta[c] = static_cast<W>(sum_g);
      of_x[c] = static_cast<W>(-k * rstd * rstd * sum_gx / count);
      of_1[c] = static_cast<W>(-k * sum_g / count);
    }
  });
  if (args.frozen_statistics || !args.grad_x) return;

  // Second pass: grad_x = gamma rstd (g - mean(g) - (x - mean) rstd^2 mean(g (x - mean)))
  fold.spread(of_x, [&](int64_t c) { return of_x[c]; });
  fold.spread(of_1, [&](int64_t c) { return of_1[c]; });
  parallel_for(rows, row_grain(fold.cols), [&](int64_t first, int64_t last) {
    for (int64_t row = first; row < last; ++row) {
      for_each_vector<T>(0, fold.cols_of(row), [&](int64_t j, auto n) TL_INLINE_LAMBDA {
        const int64_t at = row * fold.cols + j;
        const auto g = args.grad_residual ? Vec<T>::load(args.grad_residual + at, n) : load_g(at, n);
        const auto centered = Vec<T>::load(args.x + at, n) - Vec<T>::load(mean + j, n);
        fma(g, Vec<T>::load(of_g + j, n), fma(centered, Vec<T>::load(of_x + j, n), Vec<T>::load(of_1 + j, n)))
            .store(args.grad_x + at, n);
      });
    }
  });
}

template <class T>
void layer_norm(const LayerNormArgs<T>& args) {
  parallel_for(args.rows, row_grain(args.cols), [&](int64_t first, int64_t last) {
    for (int64_t r = first; r < last; ++r) {
      const T* x = args.x + r * args.cols;
      T* y = args.y + r * args.cols;
      const auto cols = static_cast<double>(args.cols);
      double total;
      if (args.residual) {
        const T *const a = x, *const b = args.residual + r * args.cols;
        T* const s = args.sum + r * args.cols;
        total = sum_of<T>(0, args.cols, [=](int64_t c, auto n) TL_INLINE_LAMBDA {
          const auto value = Vec<T>::load(a + c, n) + Vec<T>::load(b + c, n);
          value.store(s + c, n);
          return value;
        });
        x = s;
      } else {
        total = sum_of<T>(0, args.cols, [=](int64_t c, auto n) TL_INLINE_LAMBDA { return Vec<T>::load(x + c, n); });
      }
      const auto mean = static_cast<Wide<T>>(total / cols);
      const double m2 = sum_of<T>(0, args.cols, [&](int64_t c, auto n) TL_INLINE_LAMBDA {
        const auto distance = fill_rest(Vec<T>::load(x + c, n) - Vec<T>(mean), n, 0);
        return distance * distance;
      });
      const auto rstd = static_cast<Wide<T>>(1 / std::sqrt(m2 / cols + static_cast<double>(args.eps)));
      for_each_vector<T>(0, args.cols, [&](int64_t c, auto n) TL_INLINE_LAMBDA {
        auto value = (Vec<T>::load(x + c, n) - Vec<T>(mean)) * Vec<T>(rstd);
        if (args.gamma) value *= Vec<T>::load(args.gamma + c, n);
        if (args.beta) value += Vec<T>::load(args.beta + c, n);
        value.store(y + c, n);
      });
      if (args.mean) args.mean[r] = mean;
      if (args.rstd) args.rstd[r] = rstd;
    }
  });
}

template <class T>
void layer_norm_backward(const LayerNormBackwardArgs<T>& args) {
  constexpr int64_t kRows = 32;
  const int64_t cols = args.cols, blocks = (args.rows + kRows - 1) / kRows;
  const bool wants_sums = args.grad_gamma || args.grad_beta;
  // [blocks, {gamma, beta}, cols]
  using W = Wide<T>;
  W* partial = scratch(ScratchUse::partial).get<W>(wants_sums ? blocks * 2 * cols : 1);
  parallel_for(blocks, row_grain(kRows * cols), [&](int64_t first, int64_t last) {
    for (int64_t b = first; b < last; ++b) {
      W *sum_gx = partial + b * 2 * cols, *sum_g = sum_gx + cols;
      if (wants_sums) std::fill(sum_gx, sum_g + cols, W(0));
      for (int64_t r = b * kRows; r < std::min((b + 1) * kRows, args.rows); ++r) {
        const T *x = args.x + r * cols, *grad_y = args.grad_y + r * cols;
        const Vec<T> mean(args.mean[r]), rstd(args.rstd[r]);
        const auto xhat = [&](int64_t c, auto n) TL_INLINE_LAMBDA { return (Vec<T>::load(x + c, n) - mean) * rstd; };
        const auto scaled = [&](int64_t c, auto n) TL_INLINE_LAMBDA {
          const auto g = Vec<T>::load(grad_y + c, n);
          return args.gamma ? g * Vec<T>::load(args.gamma + c, n) : g;
        };
        if (wants_sums) {
          for_each_vector<T>(0, cols, [&](int64_t c, auto n) TL_INLINE_LAMBDA {
            const auto g = Vec<T>::load(grad_y + c, n);
            fma(g, xhat(c, n), Vec<T>::load(sum_gx + c, n)).store(sum_gx + c, n);
            (Vec<T>::load(sum_g + c, n) + g).store(sum_g + c, n);
          });
        }
        if (!args.grad_x) continue;
        const double mean_g = sum_of<T>(0, cols, scaled) / static_cast<double>(cols);
        const double mean_gx =
            sum_of<T>(0, cols, [&](int64_t c, auto n) TL_INLINE_LAMBDA { return scaled(c, n) * xhat(c, n); }) /
            static_cast<double>(cols);
        for_each_vector<T>(0, cols, [&](int64_t c, auto n) TL_INLINE_LAMBDA {
          ((scaled(c, n) - Vec<T>(mean_g) - xhat(c, n) * Vec<T>(mean_gx)) * rstd).store(args.grad_x + r * cols + c, n);
        });
      }
    }
  });
  if (!wants_sums) return;
  parallel_for(cols, row_grain(2 * blocks), [&](int64_t first, int64_t last) {
    for (int64_t c = first; c < last; ++c) {
      double sum_gx = 0, sum_g = 0;
      for (int64_t b = 0; b < blocks; ++b) {
        sum_gx += static_cast<double>(partial[b * 2 * cols + c]);
        sum_g += static_cast<double>(partial[(b * 2 + 1) * cols + c]);
      }
      if (args.grad_gamma) args.grad_gamma[c] = static_cast<W>(sum_gx);
      if (args.grad_beta) args.grad_beta[c] = static_cast<W>(sum_g);
    }
  });
}
