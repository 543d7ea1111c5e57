// Definitions of ops/matmul.hpp.
#pragma once
#include "tl/autograd/function.hpp"
#include "tl/ops/elementwise.hpp"
#include "tl/ops/matmul.hpp"
#include "tl/ops/reduce.hpp"
#include "tl/ops/view.hpp"

namespace tl::inline TL_ABI {
namespace detail {

/// C = alpha op(A) op(B) + beta C for `batch` matrices side by side; b is shared by all of them when shared_b.
struct Product {
  int64_t batch, m, n, k;
  bool transpose_a, transpose_b;
  bool shared_a = false, shared_b = false;
  double alpha = 1, beta = 0;

  /// With packed_b the numbers of b are not read. c may be f32 where a is bfloat16.
  void run(const Tensor& a, const Tensor& b, Tensor& c, const Tensor& bias = {},
           Activation activation = Activation::none, const Tensor& packed_b = {}) const {
    visit_activation(a.dtype(), "matmul", [&](auto type) {
      using T = typename decltype(type)::type;
      GemmArgs<T> args{.a = a.data<T>(),
                       .b = packed_b ? nullptr : b.data<T>(),
                       .c = c.dtype() == a.dtype() ? c.mutable_data<T>() : nullptr,
                       .m = m,
                       .n = n,
                       .k = k,
                       .lda = transpose_a ? m : k,
                       .ldb = transpose_b ? k : n,
                       .ldc = n};
      args.transpose_a = transpose_a;
      args.transpose_b = transpose_b;
      args.alpha = static_cast<Wide<T>>(alpha);
      args.beta = static_cast<Wide<T>>(beta);
      args.bias = bias.defined() ? bias.data<Wide<T>>() : nullptr;
      args.activation = activation;
      args.batch = batch;
      args.stride_a = shared_a ? 0 : m * k;
      args.stride_b = shared_b ? 0 : k * n;
      args.stride_c = m * n;
      args.packed_b = packed_b.defined() ? packed_b.data<T>() : nullptr;
      if (!args.c) args.wide_c = c.mutable_data<Wide<T>>();
      kernel::gemm(a.device(), args);
    });
  }
};

struct Matmul {
  static constexpr std::string_view kName = "matmul";
  Product product;
  Shape result;
  Kept a, b;
  Shape shape_a, shape_b;

  Tensor forward(const Needs& needs, const Tensor& x, const Tensor& y) {
    Tensor out = Tensor::empty(result, x.dtype(), x.device());
    product.run(x, y, out);
    if (needs[1]) a.keep(x);
    if (needs[0]) b.keep(y);
    shape_a = x.shape(), shape_b = y.shape();
    return out;
  }

  Gradients backward(const Needs& needs, const Tensor& grad_y) const {
    const auto& [batch, m, n, k, ta, tb, shared_a, shared_b, alpha, beta] = product;
    Gradients out(2);
    if (needs[0]) {  // grad_a = grad_y b^T, or its transpose b grad_y^T
      out[0] = Tensor::empty(shape_a, grad_y.dtype(), grad_y.device());
      const Tensor& kept = b.get(kName);
      if (!ta) Product{batch, m, k, n, false, !tb, false, shared_b}.run(grad_y, kept, out[0]);
      else Product{batch, k, m, n, tb, true, shared_b, false}.run(kept, grad_y, out[0]);
    }
    if (needs[1]) {  // grad_b = a^T grad_y, or its transpose grad_y^T a; one b has one gradient, as the batch is then 1
      out[1] = Tensor::empty(shape_b, grad_y.dtype(), grad_y.device());
      const Tensor& kept = a.get(kName);
      if (!tb) Product{batch, k, n, m, !ta, false, false, false}.run(kept, grad_y, out[1]);
      else Product{batch, n, k, m, true, ta, false, false}.run(grad_y, kept, out[1]);
    }
    return out;
  }
};

/// c + alpha a op(b) for one matrix b.
struct AddMatmul {
  static constexpr std::string_view kName = "add_matmul";
  int64_t m, n, k;
  bool transpose_b;
  double alpha;
  Kept a = {}, b = {};
  Shape shape_a = {}, shape_b = {};

  Tensor forward(const Needs& needs, const Tensor& c, const Tensor& x, const Tensor& y) {
    Tensor out = c.clone();
    Product{1, m, n, k, false, transpose_b, false, false, alpha, 1}.run(x, y, out);
    if (needs[2]) a.keep(x);
    if (needs[1]) b.keep(y);
    shape_a = x.shape(), shape_b = y.shape();
    return out;
  }

  Gradients backward(const Needs& needs, const Tensor& grad_y) const {
    Gradients out(3);
    if (needs[0]) out[0] = grad_y;
    if (needs[1]) {
      out[1] = Tensor::empty(shape_a, grad_y.dtype(), grad_y.device());
      Product{1, m, k, n, false, !transpose_b, false, false, alpha}.run(grad_y, b.get(kName), out[1]);
    }
    if (needs[2]) {
      out[2] = Tensor::empty(shape_b, grad_y.dtype(), grad_y.device());
      const Tensor& kept = a.get(kName);
      if (!transpose_b) Product{1, k, n, m, true, false, false, false, alpha}.run(kept, grad_y, out[2]);
      else Product{1, n, k, m, true, false, false, false, alpha}.run(grad_y, kept, out[2]);
    }
    return out;
  }
};

/// A weight [Out, In] as the right matrix [k, n] of a product in `dtype`: its transpose, or itself.
TL_INLINE Tensor pack_weight(const Tensor& weight, DType dtype, int64_t n, int64_t k, bool transpose) {
  Tensor packed = Tensor::empty({gemm_packed_size(n, k)}, dtype, weight.device());
  visit_activation(dtype, "linear", [&](auto type) {
    using T = typename decltype(type)::type;
    kernel::gemm_pack(weight.device(), GemmPackArgs<T>{weight.data<Wide<T>>(), n, k, weight.size(1), transpose,
                                                       packed.mutable_data<T>()});
  });
  return packed;
}

struct Linear {
  static constexpr std::string_view kName = "linear";
  Activation activation;  // other than none: only where nothing wants a gradient
  Tensor packed;          // the weight's stand-in, or undefined
  Kept x = {}, weight = {};
  Shape input = {};
  int64_t outputs = 0;

  Tensor forward(const Needs& needs, const Tensor& in, const Tensor& w, const Tensor& bias) {
    input = in.shape();
    Tensor y = Tensor::empty(input.with(-1, w.size(0)), in.dtype(), in.device());
    const Product product{1, rows(), w.size(0), w.size(1), false, true};
    product.run(in, w, y, bias, activation,
                packed || !is_half(in) ? packed : pack_weight(w, DType::bf16, w.size(0), w.size(1), true));
    packed = Tensor();
    if (needs[1]) x.keep(in);
    if (needs[0]) weight.keep(w);
    outputs = w.size(0);
    return y;
  }

  Gradients backward(const Needs& needs, const Tensor& grad_y) const {
    Gradients out(3);
    const int64_t inputs = input[-1];
    if (needs[0]) {
      out[0] = Tensor::empty(input, grad_y.dtype(), grad_y.device());
      const Tensor& w = weight.get(kName);
      const Tensor halves = is_half(grad_y) ? pack_weight(w, DType::bf16, inputs, outputs, false) : Tensor();
      Product{1, rows(), inputs, outputs, false, false}.run(grad_y, w, out[0], {}, Activation::none, halves);
    }
    if (needs[1]) {
      out[1] = Tensor::empty({outputs, inputs}, wide(grad_y.dtype()), grad_y.device());
      Product{1, outputs, inputs, rows(), true, false}.run(grad_y, x.get(kName), out[1]);
    }
    if (needs[2]) out[2] = sum(grad_y.alias({rows(), outputs}), {0});
    return out;
  }

 private:
  static bool is_half(const Tensor& x) { return x.dtype() == DType::bf16; }
  int64_t rows() const { return input.product(0, input.rank() - 1); }
};

}  // namespace detail

TL_INLINE Tensor matmul(const Tensor& a, const Tensor& b, const MatmulOptions& options) {
  require<ShapeError>(a.rank() >= 2 && b.rank() >= 2, "matmul: expected matrices, got ", a.shape(), " and ", b.shape());
  require<DTypeError>(a.dtype() == b.dtype(), "matmul: both sides must have one type, got ", a.dtype(), " and ",
                      b.dtype());
  require<DeviceError>(a.device() == b.device(), "matmul: both sides must be on one device, got ", a.device(), " and ",
                       b.device());
  const bool ta = options.transpose_a, tb = options.transpose_b;
  const int64_t m = a.size(ta ? -1 : -2), k = a.size(ta ? -2 : -1), n = b.size(tb ? -2 : -1);
  require<ShapeError>(b.size(tb ? -1 : -2) == k, "matmul: a must be [..., M, K] and b [..., K, N]; got ", a.shape(),
                      ta ? " transposed" : "", " and ", b.shape(), tb ? " transposed" : "");
  const Shape result = a.shape().with(-2, m).with(-1, n);
  if (b.rank() == 2) {
    if (ta && a.rank() > 2) return matmul(transpose(a), b, {.transpose_a = false, .transpose_b = tb});
    const int64_t rows = a.shape().product(0, a.rank() - 2) * m;
    return apply(detail::Matmul{{1, rows, n, k, ta, tb}, result, {}, {}, {}, {}}, a, b);
  }
  bool same = a.rank() == b.rank();
  for (int d = 0; same && d < a.rank() - 2; ++d) same = a.size(d) == b.size(d);
  require<ShapeError>(same, "matmul: leading sizes must be equal, or b a single matrix; got ", a.shape(), " and ",
                      b.shape());
  return apply(detail::Matmul{{a.shape().product(0, a.rank() - 2), m, n, k, ta, tb}, result, {}, {}, {}, {}}, a, b);
}

TL_INLINE Tensor add_matmul(const Tensor& c, const Tensor& a, const Tensor& b, double alpha,
                            const MatmulOptions& options) {
  require<UsageError>(!options.transpose_a, "add_matmul: a cannot be transposed; give transpose(a)");
  const int64_t k_of_b = b.rank() == 2 ? b.size(options.transpose_b ? 1 : 0) : -1;
  const int64_t n = b.rank() == 2 ? b.size(options.transpose_b ? 0 : 1) : -1;
  require<ShapeError>(a.rank() >= 2 && a.size(-1) == k_of_b && c.shape() == a.shape().with(-1, n),
                      "add_matmul: expected c [..., M, N], a [..., M, K] and b [K, N]; got ", c.shape(), ", ",
                      a.shape(), " and ", b.shape(), options.transpose_b ? " transposed" : "");
  require<DTypeError>(c.dtype() == a.dtype() && a.dtype() == b.dtype(), "add_matmul: all must have one type, got ",
                      c.dtype(), ", ", a.dtype(), " and ", b.dtype());
  require<DeviceError>(c.device() == a.device() && a.device() == b.device(),
                       "add_matmul: all must be on one device, got ", c.device(), ", ", a.device(), " and ",
                       b.device());
  const int64_t rows = a.shape().product(0, a.rank() - 1);
  return apply(detail::AddMatmul{rows, n, k_of_b, options.transpose_b, alpha}, c, a, b);
}

TL_INLINE Tensor linear(const Tensor& x, const Tensor& weight, const Tensor& bias, Activation activation,
                        const Tensor& packed) {
  require<ShapeError>(weight.rank() == 2, "linear: weight must be [Out, In]; got ", weight.shape());
  require<ShapeError>(x.rank() >= 1 && x.size(-1) == weight.size(1),
                      "linear: x must be [..., In] with In = ", weight.size(1), "; got ", x.shape());
  require<ShapeError>(!bias.defined() || bias.shape() == Shape{weight.size(0)},
                      "linear: bias must be [Out] with Out = ", weight.size(0), "; got ",
                      bias.defined() ? bias.shape() : Shape());
  require<DTypeError>(wide(x.dtype()) == weight.dtype(), "linear: x is ", x.dtype(), ", weight is ", weight.dtype(),
                      "; expected ", wide(x.dtype()));
  require<DeviceError>(x.device() == weight.device(), "linear: x is on ", x.device(), ", weight on ", weight.device());
  require<ShapeError>(!packed.defined() || packed.shape() == Shape{gemm_packed_size(weight.size(0), weight.size(1))},
                      "linear: packed must be [", gemm_packed_size(weight.size(0), weight.size(1)),
                      "], from pack_linear; got ", packed.defined() ? packed.shape() : Shape());
  const bool learns =
      grad_enabled() && (detail::needs_gradient(x) || detail::needs_gradient(weight) || detail::needs_gradient(bias));
  if (!learns) return apply(detail::Linear{activation, packed}, x, weight, bias);
  // The slope of a smooth activation needs its input, so both are formed.
  return activate(apply(detail::Linear{Activation::none, packed}, x, weight, bias), activation);
}

TL_INLINE Tensor pack_linear(const Tensor& weight, DType dtype) {
  require<ShapeError>(weight.rank() == 2, "pack_linear: weight must be [Out, In]; got ", weight.shape());
  return detail::pack_weight(weight, dtype, weight.size(0), weight.size(1), /*transpose=*/true);
}

}  // namespace tl::inline TL_ABI
