// Bodies of cpu/picture.hpp. Included once per instruction set (see bodies.inl).
//
// Sums of integers are exact, so every instruction set gives the same bytes. The pass along columns adds rows up,
// sample by sample. The pass along rows does the same after 16 rows were transposed, since then the samples that have a
// weight in common lie side by side as well.

/// Samples that are summed side by side, and rows of a transposed block.
inline constexpr int64_t kResizeWidth = 16;

typedef uint8_t SampleVector __attribute__((vector_size(kResizeWidth)));
typedef int32_t SumVector __attribute__((vector_size(TL_VECTOR_BYTES)));

TL_ALWAYS_INLINE SampleVector interleave_low(SampleVector a, SampleVector b) {
  return __builtin_shufflevector(a, b, 0, 16, 1, 17, 2, 18, 3, 19, 4, 20, 5, 21, 6, 22, 7, 23);
}
TL_ALWAYS_INLINE SampleVector interleave_high(SampleVector a, SampleVector b) {
  return __builtin_shufflevector(a, b, 8, 24, 9, 25, 10, 26, 11, 27, 12, 28, 13, 29, 14, 30, 15, 31);
}

/// kResizeWidth weighted sums, which begin with one half so that dropping the fraction rounds.
struct WeightedSums {
  static constexpr int64_t kLanes = TL_VECTOR_BYTES / 4, kVectors = kResizeWidth / kLanes;
  SumVector v[kVectors];
#if TL_X86 && TL_VECTOR_BYTES == 64
  static constexpr __mmask16 kAll = 0xffff;  // g++ 12 warns of the instructions without a mask
#endif

  TL_ALWAYS_INLINE WeightedSums() {
    TL_UNROLL
    for (int64_t i = 0; i < kVectors; ++i) v[i] = (1 << (kResizeWeightBits - 1)) - SumVector{};
  }

  TL_ALWAYS_INLINE void add(const uint8_t* samples, int32_t weight) {
    TL_UNROLL
    for (int64_t i = 0; i < kVectors; ++i) v[i] += widened(samples + i * kLanes) * weight;
  }

  /// The sums as bytes, cut off at 0 and 255.
  TL_ALWAYS_INLINE void store(uint8_t* out) const {
#if TL_X86 && TL_VECTOR_BYTES == 64
    const __m512i whole = (__m512i)(v[0] >> kResizeWeightBits);
    _mm_storeu_si128(reinterpret_cast<__m128i*>(out),
                     _mm512_maskz_cvtusepi32_epi8(kAll, _mm512_maskz_max_epi32(kAll, whole, __m512i{})));
#elif TL_X86 && TL_VECTOR_BYTES == 32
    const __m256i words =
        _mm256_packs_epi32((__m256i)(v[0] >> kResizeWeightBits), (__m256i)(v[1] >> kResizeWeightBits));
    const __m256i ordered = _mm256_permute4x64_epi64(words, 0xd8);
    _mm_storeu_si128(reinterpret_cast<__m128i*>(out),
                     _mm_packus_epi16(_mm256_castsi256_si128(ordered), _mm256_extracti128_si256(ordered, 1)));
#else
    for (int64_t i = 0; i < kResizeWidth; ++i)
      out[i] = static_cast<uint8_t>(std::clamp(v[i / kLanes][i % kLanes] >> kResizeWeightBits, 0, 255));
#endif
  }

 private:
  static TL_ALWAYS_INLINE SumVector widened(const uint8_t* samples) {
#if TL_X86 && TL_VECTOR_BYTES == 64
    return (SumVector)_mm512_maskz_cvtepu8_epi32(kAll, _mm_loadu_si128(reinterpret_cast<const __m128i*>(samples)));
#elif TL_X86 && TL_VECTOR_BYTES == 32
    return (SumVector)_mm256_cvtepu8_epi32(_mm_loadl_epi64(reinterpret_cast<const __m128i*>(samples)));
#else
    SampleVector bytes = {};
    __builtin_memcpy(&bytes, samples, kLanes);
    return (SumVector)interleave_low(interleave_low(bytes, SampleVector{}), SampleVector{});
#endif
  }
};

/// Transposes 16 x 16 bytes: each round rotates the address of a byte, 4 bits of row and 4 of column, by one bit.
TL_ALWAYS_INLINE void transpose_bytes(SampleVector (&m)[kResizeWidth]) {
  constexpr int64_t kHalf = kResizeWidth / 2;
  for (int round = 0; round < 4; ++round) {
    SampleVector turned[kResizeWidth];
    TL_UNROLL
    for (int64_t i = 0; i < kHalf; ++i) {
      const SampleVector a = m[i], b = m[i + kHalf];
      turned[2 * i] = interleave_low(a, b);
      turned[2 * i + 1] = interleave_high(a, b);
    }
    TL_UNROLL
    for (int64_t i = 0; i < kResizeWidth; ++i) m[i] = turned[i];
  }
}

inline uint8_t weighted_sample(const uint8_t* x, int64_t step, int64_t count, const int32_t* weights) {
  int32_t sum = 1 << (kResizeWeightBits - 1);
  for (int64_t k = 0; k < count; ++k) sum += weights[k] * x[k * step];
  return static_cast<uint8_t>(std::clamp(sum >> kResizeWeightBits, 0, 255));
}

/// The pass along columns for one row: `size` samples from the `count` rows that begin at x.
inline void resize_columns(const uint8_t* x, int64_t pitch, int64_t size, int64_t count, const int32_t* weights,
                           uint8_t* out) {
  constexpr int64_t kAtOnce = 4;
  int64_t i = 0;
  for (; i + kAtOnce * kResizeWidth <= size; i += kAtOnce * kResizeWidth) {
    WeightedSums sums[kAtOnce];
    for (int64_t k = 0; k < count; ++k) {
      TL_UNROLL
      for (int64_t j = 0; j < kAtOnce; ++j) sums[j].add(x + k * pitch + i + j * kResizeWidth, weights[k]);
    }
    TL_UNROLL
    for (int64_t j = 0; j < kAtOnce; ++j) sums[j].store(out + i + j * kResizeWidth);
  }
  for (; i + kResizeWidth <= size; i += kResizeWidth) {
    WeightedSums sums;
    for (int64_t k = 0; k < count; ++k) sums.add(x + k * pitch + i, weights[k]);
    sums.store(out + i);
  }
  for (; i < size; ++i) out[i] = weighted_sample(x + i, pitch, count, weights);
}

/// Working memory for a block of resize_rows, whose rows have `width` pixels: samples in, samples out. Wider ones than
/// pictures have would take too much; they are not transposed.
struct ResizeBlock {
  bool transposed;
  int64_t in, out;

  ResizeBlock(int64_t width, int64_t channels, const ResizeTaps& taps)
      : transposed(width < (1 << 17)),
        in(transposed ? round_up((width + taps.most) * channels) : 0),
        out(round_up(taps.size * channels)) {}

  static constexpr int64_t round_up(int64_t samples) {
    return (samples + kResizeWidth - 1) / kResizeWidth * kResizeWidth;
  }
};

/// The pass along rows for 16 rows at x, of which those from `height` on repeat the last one and go nowhere. Rows of
/// `out` are block.out bytes long, of which the last few are undefined.
inline void resize_rows(const uint8_t* x, int64_t pitch, int64_t height, int64_t width, int64_t channels,
                        const ResizeTaps& taps, const ResizeBlock& block, uint8_t* memory, uint8_t* out) {
  if (!block.transposed) {
    for (int64_t row = 0; row < std::min(height, kResizeWidth); ++row)
      for (int64_t i = 0; i < taps.size * channels; ++i) {
        const int64_t place = i / channels;
        out[row * block.out + i] = weighted_sample(x + row * pitch + taps.first[place] * channels + i % channels,
                                                   channels, taps.count[place], taps.weights + place * taps.stride);
      }
    return;
  }
  uint8_t *const in_block = memory, *const out_block = memory + block.in * kResizeWidth;
  const int64_t samples = width * channels;
  const uint8_t* rows[kResizeWidth];
  for (int64_t i = 0; i < kResizeWidth; ++i) rows[i] = x + std::min(i, height - 1) * pitch;
  SampleVector m[kResizeWidth] = {};
  for (int64_t s = 0; s < samples; s += kResizeWidth) {
    if (const int64_t left = samples - s; left >= kResizeWidth) {
      TL_UNROLL
      for (int64_t i = 0; i < kResizeWidth; ++i) __builtin_memcpy(&m[i], rows[i] + s, kResizeWidth);
    } else {
      for (int64_t i = 0; i < kResizeWidth; ++i) std::memcpy(&m[i], rows[i] + s, static_cast<size_t>(left));
    }
    transpose_bytes(m);
    TL_UNROLL
    for (int64_t i = 0; i < kResizeWidth; ++i) __builtin_memcpy(in_block + (s + i) * kResizeWidth, &m[i], kResizeWidth);
  }

  // All outputs take `most` samples, so that the branches are foreseen; beyond a row's end they have no weight.
  for (int64_t i = 0; i < taps.size; ++i)
    for (int64_t c = 0; c < channels; ++c) {
      const uint8_t* from = in_block + (taps.first[i] * channels + c) * kResizeWidth;
      const int32_t* weights = taps.weights + i * taps.stride;
      WeightedSums sums;
      for (int64_t k = 0; k < taps.most; ++k, from += channels * kResizeWidth) sums.add(from, weights[k]);
      sums.store(out_block + (i * channels + c) * kResizeWidth);
    }

  for (int64_t s = 0; s < block.out; s += kResizeWidth) {
    TL_UNROLL
    for (int64_t i = 0; i < kResizeWidth; ++i)
      __builtin_memcpy(&m[i], out_block + (s + i) * kResizeWidth, kResizeWidth);
    transpose_bytes(m);
    for (int64_t i = 0; i < std::min(height, kResizeWidth); ++i)
      __builtin_memcpy(out + i * block.out + s, &m[i], kResizeWidth);
  }
}

/// Hands out row i of the result.
template <class T>
void put_resized(const ResizeArgs<T>& args, int64_t i, const uint8_t* row) {
  const int64_t width = args.columns.size, samples = width * args.channels;
  if (args.bytes) std::memcpy(args.bytes + i * samples, row, static_cast<size_t>(samples));
  if (!args.y) return;
  T* y = args.y + i * samples;
  const uint8_t* pixel = args.mirrored ? row + samples - 3 : row;
  const int64_t step = args.mirrored ? -3 : 3;
  for (int64_t j = 0; j < width; ++j, y += 3, pixel += step)
    for (int c = 0; c < 3; ++c) y[c] = args.values[c][pixel[args.from[c]]];
}

template <class T>
void resize(const ResizeArgs<T>& args) {
  const ResizeTaps &columns = args.columns, &rows = args.rows;
  const ResizeBlock block(args.width, args.channels, columns);
  const int64_t samples = args.width * args.channels, block_bytes = (block.in + block.out) * kResizeWidth;
  if (args.columns_first) {
    const int64_t pitch = ResizeBlock::round_up(samples);
    uint8_t* const memory = scratch(ScratchUse::rows).get<uint8_t>(block_bytes + (pitch + block.out) * kResizeWidth);
    uint8_t *const flat = memory + block_bytes, *const done = flat + pitch * kResizeWidth;
    for (int64_t first = 0; first < rows.size; first += kResizeWidth) {
      const int64_t count = std::min(rows.size - first, kResizeWidth);
      for (int64_t i = first; i < first + count; ++i)
        resize_columns(args.x + rows.first[i] * args.pitch, args.pitch, samples, rows.count[i],
                       rows.weights + i * rows.stride, flat + (i - first) * pitch);
      resize_rows(flat, pitch, count, args.width, args.channels, columns, block, memory, done);
      for (int64_t i = 0; i < count; ++i) put_resized(args, first + i, done + i * block.out);
    }
    return;
  }
  const int64_t blocks = (args.height + kResizeWidth - 1) / kResizeWidth;
  uint8_t* const memory = scratch(ScratchUse::rows).get<uint8_t>(block_bytes + (blocks * kResizeWidth + 1) * block.out);
  uint8_t *const done = memory + block_bytes, *const narrow = done + block.out;
  for (int64_t first = 0; first < args.height; first += kResizeWidth)
    resize_rows(args.x + first * args.pitch, args.pitch, args.height - first, args.width, args.channels, columns, block,
                memory, narrow + first * block.out);
  for (int64_t i = 0; i < rows.size; ++i) {
    resize_columns(narrow + rows.first[i] * block.out, block.out, block.out, rows.count[i],
                   rows.weights + i * rows.stride, done);
    put_resized(args, i, done);
  }
}
