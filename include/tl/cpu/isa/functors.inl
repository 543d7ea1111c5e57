// Unary and binary functions, once for all backends: value and gradient stand side by side.
//
// Included into a namespace that has, for its number type V (a Vec here, float on CUDA): arithmetic, comparisons,
// V(constant), select(condition, a, b), max(a, b) and min(a, b) (b where either is NaN), abs, sqrt, exp, log, tanh and
// erf.
// At kinks the gradients are PyTorch's. They choose instead of multiplying by 0, so that a NaN stays where it was.

#define TL_FUNCTION  \
  template <class V> \
  static TL_HD TL_ALWAYS_INLINE V

/// f(x) and grad_x = grad_y * f'(x), where `kept` is y for the functions of slope_from_y, else x.
struct neg_fn {
  TL_FUNCTION value(V x) { return -x; }
  TL_FUNCTION gradient(V, V grad_y) { return -grad_y; }
};

struct abs_fn {
  TL_FUNCTION value(V x) { return abs(x); }
  TL_FUNCTION gradient(V x, V grad_y) { return grad_y * select(x > V(0), V(1), select(x < V(0), V(-1), V(0))); }
};

struct square_fn {
  TL_FUNCTION value(V x) { return x * x; }
  TL_FUNCTION gradient(V x, V grad_y) { return grad_y * (x + x); }
};

struct sqrt_fn {
  TL_FUNCTION value(V x) { return sqrt(x); }
  TL_FUNCTION gradient(V y, V grad_y) { return grad_y / (y + y); }
};

struct exp_fn {
  TL_FUNCTION value(V x) { return exp(x); }
  TL_FUNCTION gradient(V y, V grad_y) { return grad_y * y; }
};

struct log_fn {
  TL_FUNCTION value(V x) { return log(x); }
  TL_FUNCTION gradient(V x, V grad_y) { return grad_y / x; }
};

struct reciprocal_fn {
  TL_FUNCTION value(V x) { return V(1) / x; }
  TL_FUNCTION gradient(V y, V grad_y) { return -grad_y * (y * y); }
};

struct relu_fn {
  TL_FUNCTION value(V x) { return max(V(0), x); }
  TL_FUNCTION gradient(V y, V grad_y) { return select(y <= V(0), V(0), grad_y); }
};

struct relu6_fn {
  TL_FUNCTION value(V x) { return min(V(6), max(V(0), x)); }
  TL_FUNCTION gradient(V y, V grad_y) { return select(y <= V(0), V(0), select(y >= V(6), V(0), grad_y)); }
};

/// x Phi(x), Phi the normal distribution. Paper: Hendrycks and Gimpel, "Gaussian error linear units", 2016.
struct gelu_fn {
  TL_FUNCTION value(V x) { return x * phi(x); }
  TL_FUNCTION gradient(V x, V grad_y) {
    const V density = V(0.3989422804014327) * exp(V(-0.5) * (x * x));
    return grad_y * (phi(x) + x * density);
  }

 private:
  TL_FUNCTION phi(V x) { return V(0.5) * (V(1) + erf(x * V(0.7071067811865476))); }
};

/// x/2 (1 + tanh(sqrt(2/pi) (x + 0.044715 x^3))), the approximation of gelu in the same paper.
struct gelu_tanh_fn {
  TL_FUNCTION value(V x) { return V(0.5) * x * (V(1) + tanh(inner(x))); }
  TL_FUNCTION gradient(V x, V grad_y) {
    const V t = tanh(inner(x));
    const V slope = V(kScale) * (V(1) + V(3 * kCubic) * (x * x));
    return grad_y * (V(0.5) * (V(1) + t) + V(0.5) * x * (V(1) - t * t) * slope);
  }

 private:
  static constexpr double kScale = 0.7978845608028654, kCubic = 0.044715;
  TL_FUNCTION inner(V x) { return V(kScale) * (x + V(kCubic) * (x * x * x)); }
};

struct sigmoid_fn {
  TL_FUNCTION value(V x) { return V(1) / (V(1) + exp(-x)); }
  TL_FUNCTION gradient(V y, V grad_y) { return grad_y * (V(1) - y) * y; }
};

/// x sigmoid(x)
struct silu_fn {
  TL_FUNCTION value(V x) { return x / (V(1) + exp(-x)); }
  TL_FUNCTION gradient(V x, V grad_y) {
    const V s = sigmoid_fn::value(x);
    return grad_y * s * (V(1) + x * (V(1) - s));
  }
};

struct tanh_fn {
  TL_FUNCTION value(V x) { return tanh(x); }
  TL_FUNCTION gradient(V y, V grad_y) { return grad_y * (V(1) - y * y); }
};

/// x relu6(x + 3) / 6. Paper: Howard et al., "Searching for MobileNetV3", 2019.
struct hardswish_fn {
  TL_FUNCTION value(V x) { return x * relu6_fn::value(x + V(3)) * V(1.0 / 6.0); }
  TL_FUNCTION gradient(V x, V grad_y) {
    const V between = grad_y * (x * V(1.0 / 3.0) + V(0.5));
    return select(x <= V(-3), V(0), select(x >= V(3), grad_y, between));
  }
};

/// f(a, b) and its two gradients.
struct add_fn {
  TL_FUNCTION value(V a, V b) { return a + b; }
  TL_FUNCTION gradient_a(V, V, V grad_y) { return grad_y; }
  TL_FUNCTION gradient_b(V, V, V grad_y) { return grad_y; }
};

struct sub_fn {
  TL_FUNCTION value(V a, V b) { return a - b; }
  TL_FUNCTION gradient_a(V, V, V grad_y) { return grad_y; }
  TL_FUNCTION gradient_b(V, V, V grad_y) { return -grad_y; }
};

struct mul_fn {
  TL_FUNCTION value(V a, V b) { return a * b; }
  TL_FUNCTION gradient_a(V, V b, V grad_y) { return grad_y * b; }
  TL_FUNCTION gradient_b(V a, V, V grad_y) { return grad_y * a; }
};

struct div_fn {
  TL_FUNCTION value(V a, V b) { return a / b; }
  TL_FUNCTION gradient_a(V, V b, V grad_y) { return grad_y / b; }
  TL_FUNCTION gradient_b(V a, V b, V grad_y) { return -grad_y * ((a / b) / b); }
};

/// NaN where either is NaN. Equal operands share the gradient.
struct maximum_fn {
  TL_FUNCTION value(V a, V b) { return select(a == a, max(a, b), a); }
  TL_FUNCTION gradient_a(V a, V b, V grad_y) { return select(a < b, V(0), select(a == b, V(0.5) * grad_y, grad_y)); }
  TL_FUNCTION gradient_b(V a, V b, V grad_y) { return gradient_a(b, a, grad_y); }
};

struct minimum_fn {
  TL_FUNCTION value(V a, V b) { return select(a == a, min(a, b), a); }
  TL_FUNCTION gradient_a(V a, V b, V grad_y) { return select(a > b, V(0), select(a == b, V(0.5) * grad_y, grad_y)); }
  TL_FUNCTION gradient_b(V a, V b, V grad_y) { return gradient_a(b, a, grad_y); }
};

#undef TL_FUNCTION
