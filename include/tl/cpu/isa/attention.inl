// Bodies of cpu/attention.hpp: a block of queries against one block of keys after another, with a running maximum and
// sum (Dao et al., "FlashAttention", 2022). Only the weights of two blocks exist at once, in the second cache.

template <class T>
struct AttentionTile {
  static constexpr int64_t kQueries = 128, kKeys = 128;

  int64_t query_first, queries, key_first, keys;
  const int32_t* mask;  // of these keys, or null
  bool causal;

  /// How many keys of the block a query may see, if the mask allows.
  int64_t seen(int64_t query) const {
    return causal ? std::clamp<int64_t>(query_first + query + 1 - key_first, 0, keys) : keys;
  }
  bool all_hidden() const { return causal && query_first + queries <= key_first; }

  /// The scores of some keys; the mask's are minus infinity.
  template <class Count>
  TL_ALWAYS_INLINE Vec<T> scores(const T* row, int64_t key, Count n) const {
    const auto score = Vec<T>::load(row + key, n);
    if (!mask) return score;
    const auto hidden = IndexVec<T>::load(mask + key, n) == IndexVec<T>(0);
    return select(hidden, Vec<T>(-std::numeric_limits<T>::infinity()), score);
  }
};

/// Calls body(tile) for the blocks of one sample's queries [query_first, query_last) and keys that see each other.
template <class T, class Args, class Body>
TL_ALWAYS_INLINE void for_each_attention_tile(const Args& args, int64_t sample, int64_t query_first, int64_t query_last,
                                              const Body& body) {
  using Tile = AttentionTile<T>;
  for (int64_t query = query_first; query < query_last; query += Tile::kQueries)
    for (int64_t key = 0; key < args.size.keys; key += Tile::kKeys) {
      const Tile tile{.query_first = query,
                      .queries = std::min(Tile::kQueries, query_last - query),
                      .key_first = key,
                      .keys = std::min(Tile::kKeys, args.size.keys - key),
                      .mask = args.key_mask ? args.key_mask + sample * args.size.keys + key : nullptr,
                      .causal = args.causal};
      if (!tile.all_hidden()) body(tile);
    }
}

/// scores[queries, kKeys] = alpha * a[queries, depth] * b[keys, depth]^T
template <class T>
void attention_product(const AttentionTile<T>& tile, int64_t depth, const T* a, int64_t a_stride, const T* b,
                       int64_t b_stride, T alpha, T* scores) {
  multiply<T>(tile.queries, tile.keys, depth, StridedLeft<T>{a + tile.query_first * a_stride, a_stride, 1},
              ColsRight<T>{b + tile.key_first * b_stride, b_stride},
              StoreTiles<T, EvenRows>{.c = scores, .place = {AttentionTile<T>::kKeys}, .alpha = alpha});
}

template <class T>
void attention_forward(const AttentionForwardArgs<T>& args) {
  using Tile = AttentionTile<T>;
  constexpr T kInfinity = std::numeric_limits<T>::infinity();
  const AttentionSize& size = args.size;
  const int64_t blocks = divide_up(size.queries, Tile::kQueries);

  parallel_for(size.n * size.heads * blocks, 1, [&](int64_t first, int64_t last) {
    T* const scores = scratch(ScratchUse::rows).get<T>(Tile::kQueries * Tile::kKeys);
    T largest[Tile::kQueries], total[Tile::kQueries];
    for (int64_t task = first; task < last; ++task) {
      const int64_t sample = task / blocks / size.heads, head = task / blocks % size.heads;
      const int64_t query_first = task % blocks * Tile::kQueries;
      const int64_t queries = std::min(Tile::kQueries, size.queries - query_first);
      T* const y = args.y.at(sample, head) + query_first * args.y.row_stride;
      std::fill_n(largest, queries, -kInfinity);
      std::fill_n(total, queries, T(0));
      for (int64_t i = 0; i < queries; ++i) std::fill_n(y + i * args.y.row_stride, size.value_width, T(0));

      for_each_attention_tile<T>(args, sample, query_first, query_first + queries, [&](const Tile& tile) {
        attention_product(tile, size.width, args.q.at(sample, head), args.q.row_stride, args.k.at(sample, head),
                          args.k.row_stride, args.scale, scores);
        for (int64_t i = 0; i < queries; ++i) {
          T* const row = scores + i * Tile::kKeys;
          const int64_t seen = tile.seen(i);
          std::fill(row + seen, row + tile.keys, T(0));
          const T before = largest[i];
          const T most =
              max_of<T>(0, seen, [&](int64_t key, auto n) TL_INLINE_LAMBDA { return tile.scores(row, key, n); });
          if (most > before || most != most) largest[i] = most;
          // exp(-infinity - shift) is 0 for any finite shift.
          const Vec<T> shift(largest[i] == -kInfinity ? T(0) : largest[i]);
          const T sum = static_cast<T>(sum_of<T>(0, seen, [&](int64_t key, auto n) TL_INLINE_LAMBDA {
            const auto weight = exp(tile.scores(row, key, n) - shift);
            weight.store(row + key, n);
            return fill_rest(weight, n, T(0));
          }));
          if (tile.key_first == 0) {
            total[i] = sum;
            continue;
          }
          if (largest[i] == before) {
            total[i] += sum;
            continue;
          }
          const T shrink = std::exp(before - largest[i]);
          total[i] = total[i] * shrink + sum;
          T* const to = y + i * args.y.row_stride;
          for_each_vector<T>(0, size.value_width, [&](int64_t j, auto n) TL_INLINE_LAMBDA {
            (Vec<T>::load(to + j, n) * Vec<T>(shrink)).store(to + j, n);
          });
        }
        multiply<T>(queries, size.value_width, tile.keys, StridedLeft<T>{scores, Tile::kKeys, 1},
                    RowsRight<T>{args.v.at(sample, head) + tile.key_first * args.v.row_stride, args.v.row_stride},
                    StoreTiles<T, EvenRows>{.c = y, .place = {args.y.row_stride}, .beta = 1});
      });

      for (int64_t i = 0; i < queries; ++i) {
        T* const to = y + i * args.y.row_stride;
        const Vec<T> scale(total[i] == 0 ? T(0) : 1 / total[i]);
        for_each_vector<T>(0, size.value_width, [&](int64_t j, auto n) TL_INLINE_LAMBDA {
          (Vec<T>::load(to + j, n) * scale).store(to + j, n);
        });
        if (args.log_sum_exp)
          args.log_sum_exp[(sample * size.heads + head) * size.queries + query_first + i] =
              total[i] == 0 ? kInfinity : largest[i] + std::log(total[i]);
      }
    }
  });
}

template <class T>
void attention_backward(const AttentionBackwardArgs<T>& args) {
  using Tile = AttentionTile<T>;
  const AttentionSize& size = args.size;

  // A head is one thread's, so that its sums over blocks have one order.
  parallel_for(size.n * size.heads, 1, [&](int64_t first, int64_t last) {
    T* const weights = scratch(ScratchUse::rows).get<T>(2 * Tile::kQueries * Tile::kKeys + size.queries);
    T *const slopes = weights + Tile::kQueries * Tile::kKeys, *const inner = slopes + Tile::kQueries * Tile::kKeys;
    for (int64_t task = first; task < last; ++task) {
      const int64_t sample = task / size.heads, head = task % size.heads;
      const T *const q = args.q.at(sample, head), *const k = args.k.at(sample, head),
                     *const v = args.v.at(sample, head), *const grad_y = args.grad_y.at(sample, head);
      const T* const log_sum_exp = args.log_sum_exp + task * size.queries;

      const auto clear = [&](const HeadRows<T>& rows, int64_t count, int64_t width) {
        if (!rows) return;
        for (int64_t i = 0; i < count; ++i) std::fill_n(rows.at(sample, head) + i * rows.row_stride, width, T(0));
      };
      clear(args.grad_q, size.queries, size.width);
      clear(args.grad_k, size.keys, size.width);
      clear(args.grad_v, size.keys, size.value_width);

      // sum over keys of weight * (its gradient) = y . grad_y
      for (int64_t i = 0; i < size.queries; ++i) {
        const T *const y = args.y.at(sample, head) + i * args.y.row_stride, *const g =
                                                                                grad_y + i * args.grad_y.row_stride;
        inner[i] = static_cast<T>(sum_of<T>(0, size.value_width, [&](int64_t j, auto n) TL_INLINE_LAMBDA {
          return Vec<T>::load(y + j, n) * Vec<T>::load(g + j, n);
        }));
      }

      for_each_attention_tile<T>(args, sample, 0, size.queries, [&](const Tile& tile) {
        attention_product(tile, size.width, q, args.q.row_stride, k, args.k.row_stride, args.scale, weights);
        attention_product(tile, size.value_width, grad_y, args.grad_y.row_stride, v, args.v.row_stride, T(1), slopes);
        for (int64_t i = 0; i < tile.queries; ++i) {
          T *const weight = weights + i * Tile::kKeys, *const slope = slopes + i * Tile::kKeys;
          const int64_t seen = tile.seen(i);
          std::fill(weight + seen, weight + tile.keys, T(0));
          std::fill(slope + seen, slope + tile.keys, T(0));
          const Vec<T> shift(log_sum_exp[tile.query_first + i]), mean(inner[tile.query_first + i]);
          for_each_vector<T>(0, seen, [&](int64_t key, auto n) TL_INLINE_LAMBDA {
            const auto p = exp(tile.scores(weight, key, n) - shift);
            p.store(weight + key, n);
            (p * (Vec<T>::load(slope + key, n) - mean) * Vec<T>(args.scale)).store(slope + key, n);
          });
        }
        // grad [rows, width] += left [rows, depth] * right [depth, width]
        const auto add = [&](const HeadRows<T>& grad, int64_t row_first, int64_t rows, int64_t width, int64_t depth,
                             const StridedLeft<T>& left, const T* right, int64_t stride) {
          if (!grad) return;
          multiply<T>(
              rows, width, depth, left, RowsRight<T>{right, stride},
              StoreTiles<T, EvenRows>{
                  .c = grad.at(sample, head) + row_first * grad.row_stride, .place = {grad.row_stride}, .beta = 1});
        };
        add(args.grad_q, tile.query_first, tile.queries, size.width, tile.keys, {slopes, Tile::kKeys, 1},
            k + tile.key_first * args.k.row_stride, args.k.row_stride);
        add(args.grad_k, tile.key_first, tile.keys, size.width, tile.queries, {slopes, 1, Tile::kKeys},
            q + tile.query_first * args.q.row_stride, args.q.row_stride);
        add(args.grad_v, tile.key_first, tile.keys, size.value_width, tile.queries, {weights, 1, Tile::kKeys},
            grad_y + tile.query_first * args.grad_y.row_stride, args.grad_y.row_stride);
      });
    }
  });
}
