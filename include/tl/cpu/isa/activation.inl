// Activations of results that are about to be stored.

/// A vector of `count` numbers, or of all lanes if there are as many.
template <class T>
TL_ALWAYS_INLINE Vec<T> load_up_to(const T* p, int64_t count) {
  return count >= Vec<T>::kLanes ? Vec<T>::load(p) : Vec<T>::load(p, count);
}
template <class T>
TL_ALWAYS_INLINE void store_up_to(Vec<T> v, T* p, int64_t count) {
  count >= Vec<T>::kLanes ? v.store(p) : v.store(p, count);
}

/// Those that are bounds are applied to each vector.
template <class T>
TL_ALWAYS_INLINE Vec<T> bounded(Activation activation, Vec<T> x) {
  if (activation == Activation::relu) return relu_fn::value(x);
  if (activation == Activation::relu6) return relu6_fn::value(x);
  return x;
}

template <class Function, class T>
TL_NOINLINE void apply_in_place(T* x, int64_t count) {
  for (int64_t i = 0; i < count; i += Vec<T>::kLanes)
    store_up_to(Function::value(load_up_to(x + i, count - i)), x + i, count - i);
}

/// Those that need an exponential (and hardswish) are applied to finished rows, which the first cache still holds.
template <class T>
void smooth_in_place(Activation activation, T* x, int64_t count) {
  switch (activation) {
    case Activation::silu: return apply_in_place<silu_fn>(x, count);
    case Activation::gelu: return apply_in_place<gelu_fn>(x, count);
    case Activation::hardswish: return apply_in_place<hardswish_fn>(x, count);
    case Activation::none:
    case Activation::relu:
    case Activation::relu6: return;
  }
}
