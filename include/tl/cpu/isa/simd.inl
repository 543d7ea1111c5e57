// Vectors of this instruction set. Included once per set (see bodies.inl).

template <class T>
struct VectorTypes;
template <>
struct VectorTypes<float> {
  typedef float Native __attribute__((vector_size(TL_VECTOR_BYTES)));
  typedef int32_t Bits __attribute__((vector_size(TL_VECTOR_BYTES)));
  typedef int32_t Lane;
};
/// Double precision is for checking: a single lane has no partial vectors, which halves its code.
template <>
struct VectorTypes<double> {
  typedef double Native __attribute__((vector_size(8)));
  typedef int64_t Bits __attribute__((vector_size(8)));
  typedef int64_t Lane;
};

template <class T>
concept Number = std::is_arithmetic_v<T>;

/// The count of a full vector, known to the compiler: `Vec::load(p, Whole{})` is one instruction.
struct Whole {};

/// A choice for each lane: one bit each in AVX-512, all ones or all zeros elsewhere.
template <class T>
struct MaskOf {
#if TL_X86 && TL_VECTOR_BYTES == 64
  using Bits = std::conditional_t<sizeof(T) == 4, __mmask16, __mmask8>;
#else
  using Bits = typename VectorTypes<T>::Bits;
#endif
  Bits v;

  friend TL_ALWAYS_INLINE MaskOf operator&(MaskOf a, MaskOf b) { return {static_cast<Bits>(a.v & b.v)}; }
  friend TL_ALWAYS_INLINE MaskOf operator|(MaskOf a, MaskOf b) { return {static_cast<Bits>(a.v | b.v)}; }
};

/// kLanes numbers with the arithmetic of T, which is float or double.
template <class T>
struct VecOf {
  using Native = typename VectorTypes<T>::Native;
  using Bits = typename VectorTypes<T>::Bits;
  typedef uint32_t Words __attribute__((vector_size(TL_VECTOR_BYTES)));
  typedef uint16_t Halves __attribute__((vector_size(TL_VECTOR_BYTES / 2)));
  static constexpr int64_t kLanes = sizeof(Native) / sizeof(T);

  Native v;

  VecOf() = default;
  TL_ALWAYS_INLINE VecOf(Native native) : v(native) {}
  template <Number N>
  TL_ALWAYS_INLINE VecOf(N value) : v(static_cast<T>(value) - Native{}) {}  // every lane

  static TL_ALWAYS_INLINE VecOf load(const T* p) {
    VecOf out;
    __builtin_memcpy(&out.v, p, sizeof out.v);
    return out;
  }
  TL_ALWAYS_INLINE void store(T* p) const { __builtin_memcpy(p, &v, sizeof v); }
  static TL_ALWAYS_INLINE VecOf load(const T* p, Whole) { return load(p); }
  TL_ALWAYS_INLINE void store(T* p, Whole) const { store(p); }

  /// Numbers that memory holds in half the bits. Stores round to nearest even; a NaN stays a NaN.
  static TL_ALWAYS_INLINE VecOf load(const BFloat16* p) requires(sizeof(T) == 4) {
    Halves halves;
    __builtin_memcpy(&halves, p, sizeof halves);
    return VecOf((Native)(__builtin_convertvector(halves, Words) << 16));
  }
  TL_ALWAYS_INLINE void store(BFloat16* p) const requires(sizeof(T) == 4) {
    const Halves rounded = halves();
    __builtin_memcpy(p, &rounded, sizeof rounded);
  }
  static TL_ALWAYS_INLINE VecOf load(const BFloat16* p, Whole) requires(sizeof(T) == 4) { return load(p); }
  TL_ALWAYS_INLINE void store(BFloat16* p, Whole) const requires(sizeof(T) == 4) { store(p); }

  /// Stores past the caches, to an address that is a multiple of the vector's size. See store_fence.
  TL_ALWAYS_INLINE void stream(T* p) const {
#if TL_X86 && TL_VECTOR_BYTES == 64
    _mm512_stream_si512(reinterpret_cast<__m512i*>(p), (__m512i)v);
#elif TL_X86 && TL_VECTOR_BYTES == 32
    _mm256_stream_si256(reinterpret_cast<__m256i*>(p), (__m256i)v);
#else
    store(p);
#endif
  }

  /// The first n lanes (0 <= n < kLanes); the others are zero. Memory past them is not touched.
  static TL_ALWAYS_INLINE VecOf load(const T* p, int64_t n) {
#if TL_X86 && TL_VECTOR_BYTES == 64
    if constexpr (sizeof(T) == 4)
      return VecOf((Native)_mm512_maskz_loadu_ps(static_cast<__mmask16>((1u << n) - 1u), p));
#elif TL_X86 && TL_VECTOR_BYTES == 32
    if constexpr (sizeof(T) == 4) return VecOf((Native)_mm256_maskload_ps(p, first_lanes(n)));
#endif
    VecOf out(0);
    for (int64_t i = 0; i < n; ++i) out.v[i] = p[i];
    return out;
  }
  TL_ALWAYS_INLINE void store(T* p, int64_t n) const {
#if TL_X86 && TL_VECTOR_BYTES == 64
    if constexpr (sizeof(T) == 4) {
      _mm512_mask_storeu_ps(p, static_cast<__mmask16>((1u << n) - 1u), (__m512)v);
      return;
    }
#elif TL_X86 && TL_VECTOR_BYTES == 32
    if constexpr (sizeof(T) == 4) {
      _mm256_maskstore_ps(p, first_lanes(n), (__m256)v);
      return;
    }
#endif
    for (int64_t i = 0; i < n; ++i) p[i] = v[i];
  }

  static TL_ALWAYS_INLINE VecOf load(const BFloat16* p, int64_t n) requires(sizeof(T) == 4) {
#if TL_X86 && TL_VECTOR_BYTES == 64
    const auto some_halves = (Halves)_mm256_maskz_loadu_epi16(static_cast<__mmask16>((1u << n) - 1u), p);
    return VecOf((Native)(__builtin_convertvector(some_halves, Words) << 16));
#endif
    BFloat16 some[kLanes] = {};
    for (int64_t i = 0; i < n; ++i) some[i] = p[i];
    return load(some);
  }
  TL_ALWAYS_INLINE void store(BFloat16* p, int64_t n) const requires(sizeof(T) == 4) {
#if TL_X86 && TL_VECTOR_BYTES == 64
    _mm256_mask_storeu_epi16(p, static_cast<__mmask16>((1u << n) - 1u), (__m256i)halves());
    return;
#endif
    BFloat16 some[kLanes];
    store(some);
    for (int64_t i = 0; i < n; ++i) p[i] = some[i];
  }

  friend TL_ALWAYS_INLINE VecOf operator+(VecOf a, VecOf b) { return a.v + b.v; }
  friend TL_ALWAYS_INLINE VecOf operator-(VecOf a, VecOf b) { return a.v - b.v; }
  friend TL_ALWAYS_INLINE VecOf operator*(VecOf a, VecOf b) { return a.v * b.v; }
  friend TL_ALWAYS_INLINE VecOf operator/(VecOf a, VecOf b) { return a.v / b.v; }
  friend TL_ALWAYS_INLINE VecOf operator-(VecOf a) { return -a.v; }
  friend TL_ALWAYS_INLINE VecOf& operator+=(VecOf& a, VecOf b) { return a = a + b; }
  friend TL_ALWAYS_INLINE VecOf& operator*=(VecOf& a, VecOf b) { return a = a * b; }

#if TL_X86 && TL_VECTOR_BYTES == 64
#define TL_COMPARE(op, predicate)                                                                   \
  friend TL_ALWAYS_INLINE MaskOf<T> operator op(VecOf a, VecOf b) {                                 \
    if constexpr (sizeof(T) == 4) return {_mm512_cmp_ps_mask((__m512)a.v, (__m512)b.v, predicate)}; \
    else return {_mm512_cmp_pd_mask((__m512d)a.v, (__m512d)b.v, predicate)};                        \
  }
#else
#define TL_COMPARE(op, predicate) \
  friend TL_ALWAYS_INLINE MaskOf<T> operator op(VecOf a, VecOf b) { return {(Bits)(a.v op b.v)}; }
#endif
  TL_COMPARE(<, _CMP_LT_OQ)
  TL_COMPARE(>, _CMP_GT_OQ)
  TL_COMPARE(<=, _CMP_LE_OQ)
  TL_COMPARE(>=, _CMP_GE_OQ)
  TL_COMPARE(==, _CMP_EQ_OQ)
  TL_COMPARE(!=, _CMP_NEQ_UQ)
#undef TL_COMPARE

 private:
  TL_ALWAYS_INLINE Halves halves() const requires(sizeof(T) == 4) {
    const Words bits = (Words)v, rounded = bits + 0x7fff + ((bits >> 16) & 1);
    return __builtin_convertvector((v == v ? rounded : bits | 0x400000) >> 16, Halves);
  }
#if TL_X86 && TL_VECTOR_BYTES == 32
  static TL_ALWAYS_INLINE __m256i first_lanes(int64_t n) {
    return _mm256_cmpgt_epi32(_mm256_set1_epi32(static_cast<int>(n)), _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7));
  }
#endif
};

/// The vectors that a kernel for numbers T computes in: of float where T is a half-precision type.
template <class T>
using Vec = VecOf<Wide<T>>;
template <class T>
using Mask = MaskOf<Wide<T>>;

/// Makes a thread's streamed stores visible before whatever follows.
inline void store_fence() {
#if TL_X86
  _mm_sfence();
#endif
}

/// The first n lanes.
template <class T>
TL_ALWAYS_INLINE Mask<T> first_lanes(int64_t n) {
#if TL_X86 && TL_VECTOR_BYTES == 64
  return {static_cast<typename Mask<T>::Bits>((1u << n) - 1u)};
#else
  using Types = VectorTypes<Wide<T>>;
  typename Types::Bits lane{};
  for (int64_t i = 0; i < Vec<T>::kLanes; ++i) lane[i] = static_cast<typename Types::Lane>(i);
  return {lane < static_cast<typename Types::Lane>(n)};
#endif
}

/// if_true where the mask is set, else if_false.
template <class T>
TL_ALWAYS_INLINE VecOf<T> select(MaskOf<T> mask, VecOf<T> if_true, VecOf<T> if_false) {
  using Native = typename VecOf<T>::Native;
#if TL_X86 && TL_VECTOR_BYTES == 64
  if constexpr (sizeof(T) == 4)
    return VecOf<T>((Native)_mm512_mask_blend_ps(mask.v, (__m512)if_false.v, (__m512)if_true.v));
  else return VecOf<T>((Native)_mm512_mask_blend_pd(mask.v, (__m512d)if_false.v, (__m512d)if_true.v));
#else
#if TL_X86 && TL_VECTOR_BYTES == 32
  if constexpr (sizeof(T) == 4)
    return VecOf<T>((Native)_mm256_blendv_ps((__m256)if_false.v, (__m256)if_true.v, (__m256)mask.v));
#endif
  using Bits = typename VecOf<T>::Bits;
  return VecOf<T>((Native)((mask.v & (Bits)if_true.v) | (~mask.v & (Bits)if_false.v)));
#endif
}

/// One int32 for each lane of a VecOf<T>: places of maxima.
template <class T>
struct IndexVecOf {
  using Bits = typename VectorTypes<T>::Bits;
  using Lane = typename VectorTypes<T>::Lane;
  Bits v;

  IndexVecOf() = default;
  TL_ALWAYS_INLINE IndexVecOf(Bits bits) : v(bits) {}
  explicit TL_ALWAYS_INLINE IndexVecOf(int64_t value) : v(static_cast<Lane>(value) - Bits{}) {}

  template <class Count>
  static TL_ALWAYS_INLINE IndexVecOf load(const int32_t* p, Count n) {
    if constexpr (sizeof(T) == 4) {
      return IndexVecOf((Bits)VecOf<float>::load(reinterpret_cast<const float*>(p), n).v);
    } else {
      IndexVecOf out(0);
      for (int64_t i = 0; i < lanes(n); ++i) out.v[i] = p[i];
      return out;
    }
  }
  template <class Count>
  TL_ALWAYS_INLINE void store(int32_t* p, Count n) const {
    if constexpr (sizeof(T) == 4) {
      VecOf<float>((typename VecOf<float>::Native)v).store(reinterpret_cast<float*>(p), n);
    } else {
      for (int64_t i = 0; i < lanes(n); ++i) p[i] = static_cast<int32_t>(v[i]);
    }
  }

  friend TL_ALWAYS_INLINE MaskOf<T> operator==(IndexVecOf a, IndexVecOf b) {
#if TL_X86 && TL_VECTOR_BYTES == 64
    if constexpr (sizeof(T) == 4) return {_mm512_cmpeq_epi32_mask((__m512i)a.v, (__m512i)b.v)};
    else return {_mm512_cmpeq_epi64_mask((__m512i)a.v, (__m512i)b.v)};
#else
    return {(Bits)(a.v == b.v)};
#endif
  }

 private:
  static constexpr int64_t lanes(Whole) { return VecOf<T>::kLanes; }
  static constexpr int64_t lanes(int64_t n) { return n; }
};

template <class T>
TL_ALWAYS_INLINE IndexVecOf<T> select(MaskOf<T> mask, IndexVecOf<T> if_true, IndexVecOf<T> if_false) {
  using Native = typename VecOf<T>::Native;
  using Bits = typename VecOf<T>::Bits;
  return IndexVecOf<T>((Bits)select(mask, VecOf<T>((Native)if_true.v), VecOf<T>((Native)if_false.v)).v);
}

template <class T>
using IndexVec = IndexVecOf<Wide<T>>;

/// Replaces the lanes that a vector of n lanes does not have.
template <class T>
TL_ALWAYS_INLINE VecOf<T> fill_rest(VecOf<T> a, Whole, std::type_identity_t<T>) {
  return a;
}
template <class T>
TL_ALWAYS_INLINE VecOf<T> fill_rest(VecOf<T> a, int64_t n, std::type_identity_t<T> value) {
  return select(first_lanes<T>(n), a, VecOf<T>(value));
}

/// a * b + c, rounded once where the instruction set has it.
template <class T>
TL_ALWAYS_INLINE VecOf<T> fma(VecOf<T> a, VecOf<T> b, VecOf<T> c) {
  using Native = typename VecOf<T>::Native;
#if TL_X86 && TL_VECTOR_BYTES == 64
  if constexpr (sizeof(T) == 4) return VecOf<T>((Native)_mm512_fmadd_ps((__m512)a.v, (__m512)b.v, (__m512)c.v));
  else return VecOf<T>((Native)_mm512_fmadd_pd((__m512d)a.v, (__m512d)b.v, (__m512d)c.v));
#elif TL_X86 && TL_VECTOR_BYTES == 32
  if constexpr (sizeof(T) == 4) return VecOf<T>((Native)_mm256_fmadd_ps((__m256)a.v, (__m256)b.v, (__m256)c.v));
  else return VecOf<T>((Native)_mm256_fmadd_pd((__m256d)a.v, (__m256d)b.v, (__m256d)c.v));
#else
  return VecOf<T>((Native)(a.v * b.v + c.v));
#endif
}

/// a * b + c, rounded once on every instruction set. Float goes through double where there is no such instruction, and
/// is rounded twice in one case of 2^29.
template <class T>
TL_ALWAYS_INLINE VecOf<T> fused(VecOf<T> a, VecOf<T> b, VecOf<T> c) {
#if TL_X86 && TL_VECTOR_BYTES == 16
  if constexpr (sizeof(T) == 4) {
    for (int64_t i = 0; i < VecOf<T>::kLanes; ++i)
      c.v[i] = static_cast<T>(static_cast<double>(a.v[i]) * static_cast<double>(b.v[i]) + static_cast<double>(c.v[i]));
    return c;
  }
#endif
  return fma(a, b, c);
}

#if TL_X86 && TL_VECTOR_BYTES == 64
#define TL_VECTOR_REGISTER "v"
#elif TL_X86
#define TL_VECTOR_REGISTER "x"
#else
#define TL_VECTOR_REGISTER "w"
#endif
/// The value as it is: keeps the compiler from fusing a product with the sum that follows, where each must be rounded.
template <class T>
TL_ALWAYS_INLINE VecOf<T> rounded(VecOf<T> a) {
  if constexpr (VecOf<T>::kLanes == 1) {
    T lane = a.v[0];
    __asm__("" : "+" TL_VECTOR_REGISTER(lane));
    return VecOf<T>(lane);
  }
  __asm__("" : "+" TL_VECTOR_REGISTER(a.v));
  return a;
}
#undef TL_VECTOR_REGISTER

/// The larger of each lane; b where either is NaN.
template <class T>
TL_ALWAYS_INLINE VecOf<T> max(VecOf<T> a, VecOf<T> b) {
#if TL_X86
  using Native = typename VecOf<T>::Native;
  if constexpr (sizeof(T) == 4) {
#if TL_VECTOR_BYTES == 64
    return VecOf<T>((Native)_mm512_maskz_max_ps(static_cast<__mmask16>(-1), (__m512)a.v, (__m512)b.v));
#elif TL_VECTOR_BYTES == 32
    return VecOf<T>((Native)_mm256_max_ps((__m256)a.v, (__m256)b.v));
#else
    return VecOf<T>((Native)_mm_max_ps((__m128)a.v, (__m128)b.v));
#endif
  }
#endif
  return select(a > b, a, b);
}

/// The smaller of each lane; b where either is NaN.
template <class T>
TL_ALWAYS_INLINE VecOf<T> min(VecOf<T> a, VecOf<T> b) {
#if TL_X86
  using Native = typename VecOf<T>::Native;
  if constexpr (sizeof(T) == 4) {
#if TL_VECTOR_BYTES == 64
    return VecOf<T>((Native)_mm512_maskz_min_ps(static_cast<__mmask16>(-1), (__m512)a.v, (__m512)b.v));
#elif TL_VECTOR_BYTES == 32
    return VecOf<T>((Native)_mm256_min_ps((__m256)a.v, (__m256)b.v));
#else
    return VecOf<T>((Native)_mm_min_ps((__m128)a.v, (__m128)b.v));
#endif
  }
#endif
  return select(a < b, a, b);
}

template <class T>
TL_ALWAYS_INLINE VecOf<T> abs(VecOf<T> a) {
  using Native = typename VecOf<T>::Native;
  using Bits = typename VecOf<T>::Bits;
  return VecOf<T>((Native)((Bits)a.v & std::numeric_limits<typename VectorTypes<T>::Lane>::max()));
}

/// |magnitude| with the sign of `sign`.
template <class T>
TL_ALWAYS_INLINE VecOf<T> copysign(VecOf<T> magnitude, VecOf<T> sign) {
  using Native = typename VecOf<T>::Native;
  using Bits = typename VecOf<T>::Bits;
  const Bits bit = std::numeric_limits<typename VectorTypes<T>::Lane>::min() - Bits{};
  return VecOf<T>((Native)((~bit & (Bits)magnitude.v) | (bit & (Bits)sign.v)));
}

template <class T>
TL_ALWAYS_INLINE VecOf<T> sqrt(VecOf<T> a) {
#if TL_X86
  using Native = typename VecOf<T>::Native;
  if constexpr (sizeof(T) == 4) {
#if TL_VECTOR_BYTES == 64
    return VecOf<T>((Native)_mm512_maskz_sqrt_ps(static_cast<__mmask16>(-1), (__m512)a.v));
#elif TL_VECTOR_BYTES == 32
    return VecOf<T>((Native)_mm256_sqrt_ps((__m256)a.v));
#else
    return VecOf<T>((Native)_mm_sqrt_ps((__m128)a.v));
#endif
  }
#endif
  for (int64_t i = 0; i < VecOf<T>::kLanes; ++i) a.v[i] = std::sqrt(a.v[i]);
  return a;
}

template <class T, class Index, int... i>
TL_ALWAYS_INLINE VecOf<T> shuffle(VecOf<T> a, VecOf<T> b, Index index, std::integer_sequence<int, i...>) {
  return VecOf<T>(__builtin_shufflevector(a.v, b.v, index(i)...));
}

/// Lane i of the result is lane index(i) of a, then of b.
template <class T, class Index>
TL_ALWAYS_INLINE VecOf<T> shuffle(VecOf<T> a, VecOf<T> b, Index index) {
  return shuffle(a, b, index, std::make_integer_sequence<int, VecOf<T>::kLanes>{});
}

/// Transposes the square that the rows form: pairs of rows kWidth apart exchange the blocks of kWidth lanes that are on
/// the wrong side of the diagonal, from the largest blocks down to single lanes.
template <int kWidth, class T>
TL_ALWAYS_INLINE void transpose(VecOf<T> (&rows)[VecOf<T>::kLanes]) {
  constexpr int kLanes = VecOf<T>::kLanes;
  TL_UNROLL
  for (int i = 0; i < kLanes; ++i) {
    if (i & kWidth) continue;
    const VecOf<T> a = rows[i], b = rows[i + kWidth];
    rows[i] = shuffle(a, b, [](int lane) { return lane & kWidth ? kLanes + lane - kWidth : lane; });
    rows[i + kWidth] = shuffle(a, b, [](int lane) { return lane & kWidth ? kLanes + lane : lane + kWidth; });
  }
  if constexpr (kWidth > 1) transpose<kWidth / 2>(rows);
}

/// join(... join(lane 0, lane 1) ...), in a fixed tree.
template <int kDistance, class T, class Join>
TL_ALWAYS_INLINE T across(VecOf<T> a, const Join& join) {
  if constexpr (kDistance == 0) {
    return a.v[0];
  } else {
    const auto rotated = shuffle(a, a, [](int i) { return (i + kDistance) % VecOf<T>::kLanes; });
    return across<kDistance / 2>(join(a, rotated), join);
  }
}

template <class T>
TL_ALWAYS_INLINE T sum(VecOf<T> a) {
  return across<VecOf<T>::kLanes / 2>(a, [](VecOf<T> x, VecOf<T> y) TL_INLINE_LAMBDA { return x + y; });
}

/// The largest lane; NaN if one is NaN.
template <class T>
TL_ALWAYS_INLINE T max_lane(VecOf<T> a) {
  const auto larger = [](VecOf<T> x, VecOf<T> y) TL_INLINE_LAMBDA { return select(x == x, max(x, y), x); };
  return across<VecOf<T>::kLanes / 2>(a, larger);
}

/// Calls body(i, n) for the vectors of [first, last): n is Whole{}, or the number of lanes of a last, partial one.
template <class T, class Body>
TL_ALWAYS_INLINE void for_each_vector(int64_t first, int64_t last, Body&& body) {
  int64_t i = first;
  for (; i + Vec<T>::kLanes <= last; i += Vec<T>::kLanes) body(i, Whole{});
  if constexpr (Vec<T>::kLanes > 1)
    if (i < last) body(i, last - i);
}

/// Elements of light work that are worth another thread. A multiple of every vector's lanes.
inline constexpr int64_t kGrain = 32768;

/// Rows of `cols` elements that are worth another thread.
inline int64_t row_grain(int64_t cols) { return std::max<int64_t>(1, kGrain / std::max<int64_t>(cols, 1)); }

/// for_each_vector over [0, n), shared out among threads.
template <class T, class Body>
TL_ALWAYS_INLINE void parallel_vectors(int64_t n, const Body& body) {
  parallel_for(n, kGrain, [&](int64_t first, int64_t last) { for_each_vector<T>(first, last, body); });
}
