// Activations of results that are about to be stored.

/// Those that are bounds are applied to each vector.
template <class T>
TL_ALWAYS_INLINE Vec<T> bounded(Activation activation, Vec<T> x) {
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
