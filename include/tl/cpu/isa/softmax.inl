// Bodies of cpu/softmax.hpp. Included once per instruction set (see bodies.inl).

template <class T>
TL_ALWAYS_INLINE Wide<T> max_of_row(const T* x, int64_t cols) {
  return max_of<T>(0, cols, [&](int64_t c, auto n) TL_INLINE_LAMBDA { return Vec<T>::load(x + c, n); });
}

/// Sum of exp(x - shift) over a row, which is also written to y unless that is null.
template <class T>
TL_ALWAYS_INLINE double sum_of_exp(const T* x, int64_t cols, Wide<T> shift, T* y) {
  return sum_of<T>(0, cols, [&](int64_t c, auto n) TL_INLINE_LAMBDA {
    const auto value = exp(Vec<T>::load(x + c, n) - Vec<T>(shift));
    if (y) value.store(y + c, n);
    return fill_rest(value, n, 0);
  });
}

template <class T>
void softmax(const SoftmaxArgs<T>& args) {
  parallel_for(args.rows, row_grain(args.cols), [&](int64_t first, int64_t last) {
    for (int64_t r = first; r < last; ++r) {
      const T* x = args.x + r * args.cols;
      T* y = args.y + r * args.cols;
      const auto largest = max_of_row(x, args.cols);
      if (args.logarithm) {
        const auto log_sum = static_cast<Wide<T>>(std::log(sum_of_exp<T>(x, args.cols, largest, nullptr)));
        for_each_vector<T>(0, args.cols, [&](int64_t c, auto n) TL_INLINE_LAMBDA {
          (Vec<T>::load(x + c, n) - Vec<T>(largest) - Vec<T>(log_sum)).store(y + c, n);
        });
      } else if (largest == -std::numeric_limits<Wide<T>>::infinity()) {
        std::fill(y, y + args.cols, T{});
      } else {
        const Vec<T> scale(1 / sum_of_exp<T>(x, args.cols, largest, y));
        for_each_vector<T>(0, args.cols, [&](int64_t c, auto n) TL_INLINE_LAMBDA {
          (Vec<T>::load(y + c, n) * scale).store(y + c, n);
        });
      }
    }
  });
}

template <class T>
void softmax_backward(const SoftmaxBackwardArgs<T>& args) {
  parallel_for(args.rows, row_grain(args.cols), [&](int64_t first, int64_t last) {
    for (int64_t r = first; r < last; ++r) {
      const T *y = args.y + r * args.cols, *grad_y = args.grad_y + r * args.cols;
      T* grad_x = args.grad_x + r * args.cols;
      const Vec<T> total(sum_of<T>(0, args.cols, [&](int64_t c, auto n) TL_INLINE_LAMBDA {
        const auto g = Vec<T>::load(grad_y + c, n);
        return args.logarithm ? g : g * Vec<T>::load(y + c, n);
      }));
      for_each_vector<T>(0, args.cols, [&](int64_t c, auto n) TL_INLINE_LAMBDA {
        const auto g = Vec<T>::load(grad_y + c, n), value = Vec<T>::load(y + c, n);
        (args.logarithm ? g - exp(value) * total : value * (g - total)).store(grad_x + c, n);
      });
    }
  });
}

template <class T>
void cross_entropy(const CrossEntropyArgs<T>& args) {
  const T spread = args.smoothing / static_cast<T>(args.cols);
  parallel_for(args.rows, row_grain(args.cols), [&](int64_t first, int64_t last) {
    for (int64_t r = first; r < last; ++r) {
      const T* x = args.x + r * args.cols;
      const int32_t target = args.target[r];
      if (target == args.ignore_index) {
        args.loss[r] = args.weight[r] = 0;
        if (args.log_sum_exp) args.log_sum_exp[r] = 0;
        continue;
      }
      const T largest = max_of_row(x, args.cols);
      const T log_sum = static_cast<T>(std::log(sum_of_exp<T>(x, args.cols, largest, nullptr)));
      const T weight = args.class_weight ? args.class_weight[target] : T(1);
      T loss = (1 - args.smoothing) * weight * ((largest - x[target]) + log_sum);
      if (args.smoothing != 0) {
        const double total = sum_of<T>(0, args.cols, [&](int64_t c, auto n) TL_INLINE_LAMBDA {
          auto term = (Vec<T>(largest) - Vec<T>::load(x + c, n)) + Vec<T>(log_sum);
          if (args.class_weight) term *= Vec<T>::load(args.class_weight + c, n);
          return fill_rest(term, n, T(0));
        });
        loss += spread * static_cast<T>(total);
      }
      args.loss[r] = loss;
      args.weight[r] = weight;
      if (args.log_sum_exp) args.log_sum_exp[r] = largest + log_sum;
    }
  });
}

template <class T>
void cross_entropy_backward(const CrossEntropyBackwardArgs<T>& args) {
  const T spread = args.smoothing / static_cast<T>(args.cols);
  T sum_of_weights = static_cast<T>(args.cols);
  if (args.class_weight) {
    sum_of_weights = static_cast<T>(sum_of<T>(
        0, args.cols, [&](int64_t c, auto n) TL_INLINE_LAMBDA { return Vec<T>::load(args.class_weight + c, n); }));
  }
  parallel_for(args.rows, row_grain(args.cols), [&](int64_t first, int64_t last) {
    for (int64_t r = first; r < last; ++r) {
      const T* x = args.x + r * args.cols;
      T* grad_x = args.grad_x + r * args.cols;
      const int32_t target = args.target[r];
      if (target == args.ignore_index) {
        std::fill(grad_x, grad_x + args.cols, T(0));
        continue;
      }
      // d loss / d x[c] = p[c] * (all weights) - (weight of class c)
      const T hard = (1 - args.smoothing) * (args.class_weight ? args.class_weight[target] : T(1));
      const Vec<T> all(hard + spread * sum_of_weights), grad_loss(args.grad_loss[r]), shift(args.log_sum_exp[r]);
      for_each_vector<T>(0, args.cols, [&](int64_t c, auto n) TL_INLINE_LAMBDA {
        auto g = exp(Vec<T>::load(x + c, n) - shift) * all;
        if (args.smoothing != 0) {
          const auto weight = args.class_weight ? Vec<T>::load(args.class_weight + c, n) : Vec<T>(1);
          g = g - Vec<T>(spread) * weight;
        }
        (grad_loss * g).store(grad_x + c, n);
      });
      grad_x[target] -= args.grad_loss[r] * hard;
    }
  });
}
