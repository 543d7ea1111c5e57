// Bodies of cpu/optim.hpp. Included once per instruction set (see bodies.inl).
//
// fused() and rounded() stand where PyTorch's CPU kernels round once and twice.

template <class T>
void sgd(const SgdArgs<T>& args) {
  const Vec<T> scale(args.grad_scale), decay(args.weight_decay), momentum(args.momentum), minus_rate(-args.rate);
  parallel_vectors<T>(args.n, [&](int64_t i, auto n) TL_INLINE_LAMBDA {
    const auto w = Vec<T>::load(args.weight + i, n);
    auto g = rounded(Vec<T>::load(args.grad + i, n) * scale);
    if (args.weight_decay != 0) g = fused(w, decay, g);
    auto step = g;
    if (args.velocity) {
      auto m = g;
      if (!args.first) m = rounded(Vec<T>::load(args.velocity + i, n) * momentum) + g;
      m.store(args.velocity + i, n);
      step = args.nesterov ? fused(m, momentum, g) : m;
    }
    fused(step, minus_rate, w).store(args.weight + i, n);
  });
}

template <class T>
void adam(const AdamArgs<T>& args) {
  const auto step = static_cast<double>(args.step);
  const double correction1 = 1 - std::pow(args.beta1, step), correction2 = 1 - std::pow(args.beta2, step);
  const Vec<T> scale(args.grad_scale), decay(args.weight_decay), shrink(1 - args.rate * args.weight_decay);
  const Vec<T> beta2(args.beta2), rest1(1 - args.beta1), rest2(1 - args.beta2), eps(args.eps);
  const Vec<T> root_correction2(std::sqrt(correction2)), minus_rate(-args.rate / correction1);
  const bool add_decay = args.weight_decay != 0 && !args.decoupled, shrinks = args.weight_decay != 0 && args.decoupled;
  parallel_vectors<T>(args.n, [&](int64_t i, auto n) TL_INLINE_LAMBDA {
    auto w = Vec<T>::load(args.weight + i, n);
    auto g = rounded(Vec<T>::load(args.grad + i, n) * scale);
    if (add_decay) g = fused(w, decay, g);
    if (shrinks) w = rounded(w * shrink);
    auto m = Vec<T>::load(args.first_moment + i, n);
    m = fused(rest1, g - m, m);
    const auto v = rounded(Vec<T>::load(args.second_moment + i, n) * beta2) + rounded(rounded(rest2 * g) * g);
    m.store(args.first_moment + i, n);
    v.store(args.second_moment + i, n);
    const auto denominator = rounded(sqrt(v) / root_correction2) + eps;
    (w + rounded(minus_rate * m) / denominator).store(args.weight + i, n);
  });
}
