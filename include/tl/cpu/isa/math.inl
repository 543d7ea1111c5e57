// exp, log, tanh and erf of vectors. Included once per instruction set (see bodies.inl).
//
// Float has polynomials, minimax fits whose coefficients were rounded one after another, each time fitting the rest
// again. Errors over all floats (tests/cpu/simd_test.cpp): see each function. Denormal results are zero. Double, which
// is for checking, goes lane by lane through the standard library.

/// Bits that may wrap around, which signed ones must not.
typedef uint32_t WrappingBits __attribute__((vector_size(TL_VECTOR_BYTES)));

/// a + x (b + x (c + ...)).
template <class V, class... Coefficients>
TL_ALWAYS_INLINE V polynomial(V x, double a, Coefficients... rest) {
  if constexpr (sizeof...(rest) == 0) return V(a);
  else return fma(polynomial(x, rest...), x, V(a));
}

/// At most 1 ulp off.
TL_ALWAYS_INLINE Vec<float> exp(Vec<float> x) {
  using V = Vec<float>;
  constexpr double kRound = 0x1.8p23;  // adding it leaves the nearest integer in the low bits
  // x = n ln 2 + r with |r| <= ln 2 / 2; ln 2 in two parts, the first of which has few bits, so that n * part is exact
  const V shifted = fma(x, V(1.44269504), V(kRound));
  const V n = shifted - V(kRound);
  const V r = fma(n, V(2.12194440e-4), fma(n, V(-0.693359375), x));
  const V q = polynomial(r, 0.49999994, 0.166665167, 0.041668281, 0.00836924836, 0.0013820742);
  const V p = fma(q, r * r, r) + V(1);
  // n is added to the exponent; what lies outside of the exponent's range is replaced
  const V result((V::Native)((WrappingBits)p.v + ((WrappingBits)shifted.v << 23)));
  const V infinity(std::numeric_limits<float>::infinity());
  const V not_too_small = select(x < V(-87.3365402), V(0), result);
  return select(x <= V(88.7228394), not_too_small, x + infinity);  // the sum keeps a NaN
}

/// At most 1 ulp off. Denormals count as zero.
TL_ALWAYS_INLINE Vec<float> log(Vec<float> x) {
  using V = Vec<float>;
  // x = 2^e (1 + f) with 1 + f in [sqrt(1/2), sqrt(2))
  const WrappingBits bits = (WrappingBits)x.v, sqrt_half = 0x3f3504f3u - WrappingBits{};
  const V::Bits exponent = (V::Bits)(bits - sqrt_half) >> 23;
  const V e(__builtin_convertvector(exponent, V::Native));
  const V f = V((V::Native)(bits - ((WrappingBits)exponent << 23))) - V(1);
  const V p = polynomial(f, 0.333333135, -0.250000089, 0.200020716, -0.166679904, 0.142203629, -0.124062084,
                         0.118834712, -0.116701834, 0.0674954057);
  const V square = f * f;
  const V small = fma(e, V(-2.12194440e-4), fma(square * f, p, square * V(-0.5)));
  const V result = fma(e, V(0.693359375), f + small);
  const V infinity(std::numeric_limits<float>::infinity());
  const V nan(std::numeric_limits<float>::quiet_NaN());
  const V not_normal = select(x < V(0), nan, -infinity);
  return select(x < infinity, select(x >= V(std::numeric_limits<float>::min()), result, not_normal), x + x);
}

/// At most 2 ulp off.
TL_ALWAYS_INLINE Vec<float> tanh(Vec<float> x) {
  using V = Vec<float>;
  const V square = x * x, magnitude = abs(x);
  const V p = polynomial(square, -0.333332807, 0.133314088, -0.053737063, 0.020630898, -0.00569632277);
  const V small = fma(x * square, p, x);
  const V large = V(1) - V(2) / (exp(magnitude + magnitude) + V(1));
  return select(magnitude < V(0.625), small, copysign(large, x));
}

/// At most 2 ulp off.
TL_ALWAYS_INLINE Vec<float> erf(Vec<float> x) {
  using V = Vec<float>;
  const V square = x * x, magnitude = abs(x);
  const V p = polynomial(square, 0.128379151, -0.376125067, 0.112819783, -0.0267733987, 0.00500434591, -0.000605344598);
  const V small = fma(x, p, x);
  // log(1 - erf) is a tame function; beyond 4 the result rounds to 1
  const V q = polynomial(min(V(4), magnitude), -0.000166439087, -1.12779725, -0.636976123, -0.104113616, 0.0223151781,
                         -0.00306548341, 0.000198219554);
  const V large = V(1) - exp(q);
  return select(magnitude < V(0.9), small, copysign(large, x));
}

#define TL_LANE_BY_LANE(name)                                                     \
  TL_ALWAYS_INLINE Vec<double> name(Vec<double> x) {                              \
    for (int64_t i = 0; i < Vec<double>::kLanes; ++i) x.v[i] = std::name(x.v[i]); \
    return x;                                                                     \
  }
TL_LANE_BY_LANE(exp)
TL_LANE_BY_LANE(log)
TL_LANE_BY_LANE(tanh)
TL_LANE_BY_LANE(erf)
#undef TL_LANE_BY_LANE
