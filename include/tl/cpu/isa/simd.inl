// Vectors of this instruction set. Included once per set (see bodies.inl).

template <class T>
struct VectorTypes;
template <>
struct VectorTypes<float> {
  typedef float Native __attribute__((vector_size(TL_VECTOR_BYTES)));
  typedef int32_t Bits __attribute__((vector_size(TL_VECTOR_BYTES)));
  typedef int32_t Lane;
};
template <>
struct VectorTypes<double> {
  typedef double Native __attribute__((vector_size(TL_VECTOR_BYTES)));
  typedef int64_t Bits __attribute__((vector_size(TL_VECTOR_BYTES)));
  typedef int64_t Lane;
};

/// Lanes that are all ones (true) or all zeros.
template <class T>
struct Mask {
  typename VectorTypes<T>::Bits v;
};

/// TL_VECTOR_BYTES / sizeof(T) numbers with the arithmetic of T.
template <class T>
struct Vec {
  using Native = typename VectorTypes<T>::Native;
  using Bits = typename VectorTypes<T>::Bits;
  static constexpr int64_t kLanes = TL_VECTOR_BYTES / static_cast<int64_t>(sizeof(T));

  Native v;

  Vec() = default;
  TL_ALWAYS_INLINE Vec(Native native) : v(native) {}
  TL_ALWAYS_INLINE Vec(T value) : v(value - Native{}) {}  // every lane

  static TL_ALWAYS_INLINE Vec load(const T* p) {
    Vec out;
    __builtin_memcpy(&out.v, p, sizeof out.v);
    return out;
  }
  TL_ALWAYS_INLINE void store(T* p) const { __builtin_memcpy(p, &v, sizeof v); }

  /// The first n lanes (0 < n < kLanes); the others are zero. Memory past them is not touched.
  static TL_ALWAYS_INLINE Vec load(const T* p, int64_t n) {
#if TL_X86 && TL_VECTOR_BYTES == 64
    if constexpr (sizeof(T) == 4)
      return Vec(Native(_mm512_maskz_loadu_ps(static_cast<__mmask16>((1u << n) - 1u), p)));
#endif
    Vec out(T(0));
    for (int64_t i = 0; i < n; ++i) out.v[i] = p[i];
    return out;
  }
  TL_ALWAYS_INLINE void store(T* p, int64_t n) const {
#if TL_X86 && TL_VECTOR_BYTES == 64
    if constexpr (sizeof(T) == 4) {
      _mm512_mask_storeu_ps(p, static_cast<__mmask16>((1u << n) - 1u), (__m512)v);
      return;
    }
#endif
    for (int64_t i = 0; i < n; ++i) p[i] = v[i];
  }

  friend TL_ALWAYS_INLINE Vec operator+(Vec a, Vec b) { return a.v + b.v; }
  friend TL_ALWAYS_INLINE Vec operator-(Vec a, Vec b) { return a.v - b.v; }
  friend TL_ALWAYS_INLINE Vec operator*(Vec a, Vec b) { return a.v * b.v; }
  friend TL_ALWAYS_INLINE Vec operator/(Vec a, Vec b) { return a.v / b.v; }
  friend TL_ALWAYS_INLINE Vec operator-(Vec a) { return -a.v; }
  friend TL_ALWAYS_INLINE Vec& operator+=(Vec& a, Vec b) { return a = a + b; }
  friend TL_ALWAYS_INLINE Vec& operator*=(Vec& a, Vec b) { return a = a * b; }
  friend TL_ALWAYS_INLINE Mask<T> operator<(Vec a, Vec b) { return {(Bits)(a.v < b.v)}; }
  friend TL_ALWAYS_INLINE Mask<T> operator>(Vec a, Vec b) { return {(Bits)(a.v > b.v)}; }
  friend TL_ALWAYS_INLINE Mask<T> operator<=(Vec a, Vec b) { return {(Bits)(a.v <= b.v)}; }
  friend TL_ALWAYS_INLINE Mask<T> operator>=(Vec a, Vec b) { return {(Bits)(a.v >= b.v)}; }
  friend TL_ALWAYS_INLINE Mask<T> operator==(Vec a, Vec b) { return {(Bits)(a.v == b.v)}; }
};

template <class T>
TL_ALWAYS_INLINE Mask<T> operator&(Mask<T> a, Mask<T> b) { return {a.v & b.v}; }

/// if_true where the mask is set, else if_false.
template <class T>
TL_ALWAYS_INLINE Vec<T> select(Mask<T> mask, Vec<T> if_true, Vec<T> if_false) {
  using Bits = typename Vec<T>::Bits;
  using Native = typename Vec<T>::Native;
  return Vec<T>((Native)((mask.v & (Bits)if_true.v) | (~mask.v & (Bits)if_false.v)));
}

/// a * b + c, rounded once where the instruction set has it.
template <class T>
TL_ALWAYS_INLINE Vec<T> fma(Vec<T> a, Vec<T> b, Vec<T> c) {
  using Native = typename Vec<T>::Native;
#if TL_X86 && TL_VECTOR_BYTES == 64
  if constexpr (sizeof(T) == 4) return Vec<T>((Native)_mm512_fmadd_ps((__m512)a.v, (__m512)b.v, (__m512)c.v));
  else return Vec<T>((Native)_mm512_fmadd_pd((__m512d)a.v, (__m512d)b.v, (__m512d)c.v));
#elif TL_X86 && TL_VECTOR_BYTES == 32
  if constexpr (sizeof(T) == 4) return Vec<T>((Native)_mm256_fmadd_ps((__m256)a.v, (__m256)b.v, (__m256)c.v));
  else return Vec<T>((Native)_mm256_fmadd_pd((__m256d)a.v, (__m256d)b.v, (__m256d)c.v));
#else
  return Vec<T>((Native)(a.v * b.v + c.v));
#endif
}

/// The larger (smaller) of each lane; b where either is NaN.
template <class T>
TL_ALWAYS_INLINE Vec<T> max(Vec<T> a, Vec<T> b) { return select(a > b, a, b); }
template <class T>
TL_ALWAYS_INLINE Vec<T> min(Vec<T> a, Vec<T> b) { return select(a < b, a, b); }

template <class T>
TL_ALWAYS_INLINE Vec<T> abs(Vec<T> a) {
  using Native = typename Vec<T>::Native;
  using Bits = typename Vec<T>::Bits;
  return Vec<T>((Native)((Bits)a.v & std::numeric_limits<typename VectorTypes<T>::Lane>::max()));
}

template <class T>
TL_ALWAYS_INLINE Vec<T> sqrt(Vec<T> a) {
  for (int64_t i = 0; i < Vec<T>::kLanes; ++i) a.v[i] = std::sqrt(a.v[i]);
  return a;
}

/// Sum of the lanes, in a fixed tree.
template <class T>
TL_ALWAYS_INLINE T sum(Vec<T> a) {
  T lanes[Vec<T>::kLanes];
  a.store(lanes);
  for (int64_t width = Vec<T>::kLanes / 2; width > 0; width /= 2)
    for (int64_t i = 0; i < width; ++i) lanes[i] += lanes[i + width];
  return lanes[0];
}

template <class T>
TL_ALWAYS_INLINE T max_lane(Vec<T> a) {
  T out = a.v[0];
  for (int64_t i = 1; i < Vec<T>::kLanes; ++i) out = a.v[i] > out ? a.v[i] : out;
  return out;
}
