// Activations of results that are about to be stored.

/// An activation as bounds; where it has none they are NaN, which no number is beyond.
template <class T>
struct Bounds {
  using Number = Wide<T>;
  Vec<T> low, high;

  explicit Bounds(Activation activation)
      : low(activation == Activation::none ? std::numeric_limits<Number>::quiet_NaN() : Number(0)),
        high(activation == Activation::relu6 ? Number(6) : std::numeric_limits<Number>::quiet_NaN()) {}

  TL_ALWAYS_INLINE Vec<T> value(Vec<T> x) const { return min(high, max(low, x)); }
  /// The gradient at x (or at value(x)).
  TL_ALWAYS_INLINE Vec<T> gradient(Vec<T> x, Vec<T> grad_y) const {
    return select(x <= low, Vec<T>(0), select(x >= high, Vec<T>(0), grad_y));
  }
};

/// Those that are bounds are applied to each vector.
template <class T>
TL_ALWAYS_INLINE VecOf<T> bounded(Activation activation, VecOf<T> x) {
  if (activation == Activation::relu) return relu_fn::value(x);
  if (activation == Activation::relu6) return relu6_fn::value(x);
  return x;
}

template <class Function, class T>
TL_NOINLINE void apply_in_place(T* x, int64_t count) {
  for_each_vector<T>(
      0, count, [=](int64_t i, auto n) TL_INLINE_LAMBDA { Function::value(Vec<T>::load(x + i, n)).store(x + i, n); });
}

/// Those that need an exponential (and hardswish) are applied to finished rows, which the first cache still holds.
template <class T>
void smooth_in_place(Activation activation, T* x, int64_t count) {
  switch (activation) {
    case Activation::silu:
      return apply_in_place<silu_fn>(x, count);
    case Activation::gelu:
      return apply_in_place<gelu_fn>(x, count);
    case Activation::hardswish:
      return apply_in_place<hardswish_fn>(x, count);
    case Activation::none:
    case Activation::relu:
    case Activation::relu6:
      return;
  }
}
