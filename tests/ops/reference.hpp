// What the operations compute, in double precision and plain loops: slow, obvious, and independent of the kernels.
#pragma once
#include <algorithm>
#include <array>
#include <cmath>
#include <functional>
#include <limits>
#include <utility>
#include <vector>

#include "tl/core/shape.hpp"

namespace tl_test::reference {

using tl::Shape;

/// Numbers with a shape, row-major.
struct Array {
  Shape shape;
  std::vector<double> values;

  explicit Array(const Shape& s, double value = 0) : shape(s), values(static_cast<size_t>(s.numel()), value) {}

  double& operator[](int64_t i) { return values[static_cast<size_t>(i)]; }
  double operator[](int64_t i) const { return values[static_cast<size_t>(i)]; }
  int64_t size() const { return shape.numel(); }

  /// Element at the given coordinates.
  template <class... Coordinates>
  double& at(Coordinates... coordinates) {
    return (*this)[place(coordinates...)];
  }
  template <class... Coordinates>
  double at(Coordinates... coordinates) const {
    return (*this)[place(coordinates...)];
  }

  template <class... Coordinates>
  int64_t place(Coordinates... coordinates) const {
    int64_t out = 0;
    int d = 0;
    ((out = out * shape[d++] + coordinates), ...);
    return out;
  }
  int64_t flat(const std::vector<int64_t>& coordinates) const {
    int64_t place = 0;
    for (int d = 0; d < shape.rank(); ++d) place = place * shape[d] + coordinates[static_cast<size_t>(d)];
    return place;
  }
  std::vector<int64_t> coordinates(int64_t place) const {
    std::vector<int64_t> out(static_cast<size_t>(shape.rank()));
    for (int d = shape.rank() - 1; d >= 0; --d) {
      out[static_cast<size_t>(d)] = place % shape[d];
      place /= shape[d];
    }
    return out;
  }
};

/// y[c] = f(c) for all coordinates c of a shape.
template <class F>
Array generate(const Shape& shape, F f) {
  Array y(shape);
  for (int64_t i = 0; i < y.size(); ++i) y[i] = f(y.coordinates(i));
  return y;
}

// ---- element by element ----

template <class F>
Array map(const Array& x, F f) {
  Array y(x.shape);
  for (int64_t i = 0; i < x.size(); ++i) y[i] = f(x[i]);
  return y;
}

/// Element of x for coordinates of a shape that x broadcasts to.
inline double broadcast_at(const Array& x, const std::vector<int64_t>& coordinates) {
  const size_t missing = coordinates.size() - static_cast<size_t>(x.shape.rank());
  std::vector<int64_t> own;
  for (int d = 0; d < x.shape.rank(); ++d)
    own.push_back(x.shape[d] == 1 ? 0 : coordinates[missing + static_cast<size_t>(d)]);
  return x[x.flat(own)];
}

template <class F>
Array zip(const Array& a, const Array& b, F f) {
  std::vector<int64_t> shape;
  for (int back = std::max(a.shape.rank(), b.shape.rank()); back >= 1; --back) {
    const int64_t size_a = back <= a.shape.rank() ? a.shape[-back] : 1,
                  size_b = back <= b.shape.rank() ? b.shape[-back] : 1;
    shape.push_back(size_a == 1 ? size_b : size_a);
  }
  return generate(Shape(shape.begin(), shape.end()),
                  [&](const std::vector<int64_t>& c) { return f(broadcast_at(a, c), broadcast_at(b, c)); });
}

inline double sigmoid(double x) { return 1 / (1 + std::exp(-x)); }
inline double gelu(double x) { return 0.5 * x * (1 + std::erf(x / std::sqrt(2.0))); }
inline double gelu_tanh(double x) {
  return 0.5 * x * (1 + std::tanh(std::sqrt(2 / std::acos(-1.0)) * (x + 0.044715 * x * x * x)));
}
inline double relu(double x) { return x > 0 ? x : 0; }
inline double relu6(double x) { return std::min(relu(x), 6.0); }
inline double hardswish(double x) { return x * relu6(x + 3) / 6; }

// ---- reductions ----

/// Folds the values along `axes`; fold gets them in order.
template <class F>
Array reduce(const Array& x, std::vector<int> axes, bool keep, F fold) {
  if (axes.empty())
    for (int d = 0; d < x.shape.rank(); ++d) axes.push_back(d);
  const auto reduced = [&](int d) { return std::find(axes.begin(), axes.end(), d) != axes.end(); };
  for (int& axis : axes) axis = axis < 0 ? axis + x.shape.rank() : axis;
  Shape small, out;
  for (int d = 0; d < x.shape.rank(); ++d) {
    small.push_back(reduced(d) ? 1 : x.shape[d]);
    if (!reduced(d) || keep) out.push_back(reduced(d) ? 1 : x.shape[d]);
  }
  Array index(small);
  std::vector<std::vector<double>> groups(static_cast<size_t>(small.numel()));
  for (int64_t i = 0; i < x.size(); ++i) {
    auto c = x.coordinates(i);
    for (int d = 0; d < x.shape.rank(); ++d)
      if (reduced(d)) c[static_cast<size_t>(d)] = 0;
    groups[static_cast<size_t>(index.flat(c))].push_back(x[i]);
  }
  Array y(out);
  for (int64_t i = 0; i < y.size(); ++i) y[i] = fold(groups[static_cast<size_t>(i)]);
  return y;
}

inline double sum_of(const std::vector<double>& v) {
  double sum = 0;
  for (const double x : v) sum += x;
  return sum;
}
inline double mean_of(const std::vector<double>& v) { return sum_of(v) / static_cast<double>(v.size()); }
inline double max_of(const std::vector<double>& v) { return *std::max_element(v.begin(), v.end()); }
inline double min_of(const std::vector<double>& v) { return *std::min_element(v.begin(), v.end()); }
inline double argmax_of(const std::vector<double>& v) {
  return static_cast<double>(std::max_element(v.begin(), v.end()) - v.begin());
}

/// Values and places of the k largest along the last dimension.
inline std::pair<Array, Array> top_k(const Array& x, int64_t k) {
  Array values(x.shape.with(-1, k)), places(x.shape.with(-1, k));
  const int64_t cols = x.shape[-1];
  for (int64_t r = 0; r < x.size() / cols; ++r) {
    std::vector<int64_t> order;
    for (int64_t c = 0; c < cols; ++c) order.push_back(c);
    std::stable_sort(order.begin(), order.end(),
                     [&](int64_t a, int64_t b) { return x[r * cols + a] > x[r * cols + b]; });
    for (int64_t i = 0; i < k; ++i) {
      places[r * k + i] = static_cast<double>(order[static_cast<size_t>(i)]);
      values[r * k + i] = x[r * cols + order[static_cast<size_t>(i)]];
    }
  }
  return {values, places};
}

// ---- matrices ----

/// op(a) op(b) over equal leading sizes, or one b for all.
inline Array matmul(const Array& a, const Array& b, bool transpose_a = false, bool transpose_b = false) {
  const int64_t m = a.shape[transpose_a ? -1 : -2], k = a.shape[transpose_a ? -2 : -1];
  const int64_t n = b.shape[transpose_b ? -2 : -1], batch = a.size() / std::max<int64_t>(m * k, 1);
  Array y(a.shape.with(-2, m).with(-1, n));
  for (int64_t p = 0; p < batch; ++p)
    for (int64_t i = 0; i < m; ++i)
      for (int64_t j = 0; j < n; ++j)
        for (int64_t l = 0; l < k; ++l) {
          const int64_t from_b = b.shape.rank() == 2 ? 0 : p * k * n;
          y[(p * m + i) * n + j] +=
              a[p * m * k + (transpose_a ? l * m + i : i * k + l)] * b[from_b + (transpose_b ? j * k + l : l * n + j)];
        }
  return y;
}

inline Array linear(const Array& x, const Array& weight, const Array* bias) {
  const int64_t in = weight.shape[1], out = weight.shape[0];
  Array y(x.shape.with(-1, out));
  for (int64_t r = 0; r < y.size() / out; ++r)
    for (int64_t o = 0; o < out; ++o) {
      y[r * out + o] = bias ? (*bias)[o] : 0;
      for (int64_t i = 0; i < in; ++i) y[r * out + o] += x[r * in + i] * weight[o * in + i];
    }
  return y;
}

// ---- windows over pictures [N, H, W, C] ----

struct Window {
  int64_t kh, kw, stride_h, stride_w, top, left, bottom, right;
  int64_t dilation_h = 1, dilation_w = 1;
};

inline int64_t outputs(int64_t size, int64_t kernel, int64_t stride, int64_t before, int64_t after, int64_t dilation) {
  return (size + before + after - dilation * (kernel - 1) - 1) / stride + 1;
}

inline Array conv2d(const Array& x, const Array& weight, const Array* bias, const Window& w, int64_t groups) {
  const int64_t cin = x.shape[3] / groups, cout = weight.shape[0];
  const Shape shape{x.shape[0], outputs(x.shape[1], w.kh, w.stride_h, w.top, w.bottom, w.dilation_h),
                    outputs(x.shape[2], w.kw, w.stride_w, w.left, w.right, w.dilation_w), cout};
  return generate(shape, [&](const std::vector<int64_t>& c) {
    const int64_t o = c[3], group = o / (cout / groups);
    double sum = bias ? (*bias)[o] : 0;
    for (int64_t r = 0; r < w.kh; ++r)
      for (int64_t s = 0; s < w.kw; ++s) {
        const int64_t i = c[1] * w.stride_h + r * w.dilation_h - w.top,
                      j = c[2] * w.stride_w + s * w.dilation_w - w.left;
        if (i < 0 || i >= x.shape[1] || j < 0 || j >= x.shape[2]) continue;
        for (int64_t p = 0; p < cin; ++p) sum += x.at(c[0], i, j, group * cin + p) * weight.at(o, r, s, p);
      }
    return sum;
  });
}

/// Pooling; fold gets the values inside of the picture, and the size of the window within picture and padding.
template <class F>
Array pool2d(const Array& x, const Window& w, int64_t oh, int64_t ow, F fold) {
  return generate(Shape{x.shape[0], oh, ow, x.shape[3]}, [&](const std::vector<int64_t>& c) {
    std::vector<double> inside;
    int64_t window = 0;
    for (int64_t r = 0; r < w.kh; ++r)
      for (int64_t s = 0; s < w.kw; ++s) {
        const int64_t i = c[1] * w.stride_h + r - w.top, j = c[2] * w.stride_w + s - w.left;
        if (i < x.shape[1] + w.bottom && j < x.shape[2] + w.right) ++window;
        if (i >= 0 && i < x.shape[1] && j >= 0 && j < x.shape[2]) inside.push_back(x.at(c[0], i, j, c[3]));
      }
    return fold(inside, window);
  });
}

// ---- normalisation ----

/// Mean and biased variance of each channel (last dimension).
inline std::pair<std::vector<double>, std::vector<double>> channel_statistics(const Array& x) {
  const int64_t channels = x.shape[-1], rows = x.size() / channels;
  std::vector<double> mean(static_cast<size_t>(channels)), variance(mean);
  for (int64_t i = 0; i < x.size(); ++i) mean[static_cast<size_t>(i % channels)] += x[i] / static_cast<double>(rows);
  for (int64_t i = 0; i < x.size(); ++i) {
    const double off = x[i] - mean[static_cast<size_t>(i % channels)];
    variance[static_cast<size_t>(i % channels)] += off * off / static_cast<double>(rows);
  }
  return {mean, variance};
}

/// gamma (x - mean) / sqrt(variance + eps) + beta for each channel; gamma and beta may be null.
inline Array normalise(const Array& x, const std::vector<double>& mean, const std::vector<double>& variance,
                       const Array* gamma, const Array* beta, double eps) {
  Array y(x.shape);
  for (int64_t i = 0; i < x.size(); ++i) {
    const int64_t c = i % x.shape[-1];
    const auto at = static_cast<size_t>(c);
    y[i] = (gamma ? (*gamma)[c] : 1) * (x[i] - mean[at]) / std::sqrt(variance[at] + eps) + (beta ? (*beta)[c] : 0);
  }
  return y;
}

inline Array layer_norm(const Array& x, const Array* gamma, const Array* beta, double eps) {
  const int64_t cols = x.shape[-1];
  Array y(x.shape);
  for (int64_t r = 0; r < x.size() / cols; ++r) {
    double mean = 0, variance = 0;
    for (int64_t c = 0; c < cols; ++c) mean += x[r * cols + c] / static_cast<double>(cols);
    for (int64_t c = 0; c < cols; ++c) variance += std::pow(x[r * cols + c] - mean, 2) / static_cast<double>(cols);
    for (int64_t c = 0; c < cols; ++c)
      y[r * cols + c] =
          (gamma ? (*gamma)[c] : 1) * (x[r * cols + c] - mean) / std::sqrt(variance + eps) + (beta ? (*beta)[c] : 0);
  }
  return y;
}

// ---- softmax, losses, attention ----

inline Array softmax(const Array& x, bool logarithm = false) {
  const int64_t cols = x.shape[-1];
  Array y(x.shape);
  for (int64_t r = 0; r < x.size() / std::max<int64_t>(cols, 1); ++r) {
    double largest = -std::numeric_limits<double>::infinity(), sum = 0;
    for (int64_t c = 0; c < cols; ++c) largest = std::max(largest, x[r * cols + c]);
    for (int64_t c = 0; c < cols; ++c) sum += std::exp(x[r * cols + c] - largest);
    for (int64_t c = 0; c < cols; ++c) {
      const double shifted = x[r * cols + c] - largest;
      y[r * cols + c] = logarithm ? shifted - std::log(sum) : std::exp(shifted) / sum;
    }
  }
  return y;
}

/// Losses of the rows, and what the mean divides by.
inline std::pair<Array, double> cross_entropy(const Array& logits, const Array& target, const Array* weight,
                                              double smoothing, double ignore) {
  const int64_t rows = logits.shape[0], classes = logits.shape[1];
  const Array log_p = softmax(logits, true);
  Array loss(Shape{rows});
  double divisor = 0;
  for (int64_t r = 0; r < rows; ++r) {
    if (target[r] == ignore) continue;
    const auto t = static_cast<int64_t>(target[r]);
    const auto w = [&](int64_t c) { return weight ? (*weight)[c] : 1.0; };
    loss[r] = -(1 - smoothing) * w(t) * log_p.at(r, t);
    for (int64_t c = 0; c < classes; ++c) loss[r] -= smoothing / static_cast<double>(classes) * w(c) * log_p.at(r, c);
    divisor += w(t);
  }
  return {loss, divisor};
}

/// q [N, H, T, D], k [N, H, S, D], v [N, H, S, E], mask [N, S] or null.
inline Array attention(const Array& q, const Array& k, const Array& v, const Array* mask, bool causal, double scale) {
  const int64_t keys = k.shape[2], width = q.shape[3];
  return generate(q.shape.with(3, v.shape[3]), [&](const std::vector<int64_t>& c) {
    std::vector<double> weights(static_cast<size_t>(keys));
    double total = 0, out = 0;
    for (int64_t s = 0; s < keys; ++s) {
      if ((mask && mask->at(c[0], s) == 0) || (causal && s > c[2])) continue;
      double score = 0;
      for (int64_t d = 0; d < width; ++d) score += q.at(c[0], c[1], c[2], d) * k.at(c[0], c[1], s, d);
      total += weights[static_cast<size_t>(s)] = std::exp(scale * score);
    }
    for (int64_t s = 0; s < keys; ++s)
      if (total > 0) out += weights[static_cast<size_t>(s)] / total * v.at(c[0], c[1], s, c[3]);
    return out;
  });
}

// ---- arrangement ----

inline Array reshape(Array x, const Shape& shape) {
  x.shape = shape;
  return x;
}

inline Array permute(const Array& x, const std::vector<int>& order) {
  Shape shape;
  for (const int d : order) shape.push_back(x.shape[d]);
  return generate(shape, [&](const std::vector<int64_t>& c) {
    std::vector<int64_t> from(c.size());
    for (size_t i = 0; i < order.size(); ++i) from[static_cast<size_t>(order[i])] = c[i];
    return x[x.flat(from)];
  });
}

/// y[.., i, ..] = x[.., index[i], ..] along an axis.
inline Array select(const Array& x, int axis, const std::vector<int64_t>& index) {
  return generate(x.shape.with(axis, static_cast<int64_t>(index.size())), [&](std::vector<int64_t> c) {
    auto& place = c[static_cast<size_t>(axis < 0 ? axis + x.shape.rank() : axis)];
    place = index[static_cast<size_t>(place)];
    return x[x.flat(c)];
  });
}

inline Array concat(const std::vector<Array>& parts, int axis) {
  int64_t total = 0;
  for (const Array& part : parts) total += part.shape[axis];
  const auto at = static_cast<size_t>(axis < 0 ? axis + parts[0].shape.rank() : axis);
  return generate(parts[0].shape.with(axis, total), [&](std::vector<int64_t> c) {
    size_t part = 0;
    while (c[at] >= parts[part].shape[axis]) c[at] -= parts[part++].shape[axis];
    return parts[part][parts[part].flat(c)];
  });
}

inline Array pad(const Array& x, const std::vector<std::pair<int64_t, int64_t>>& widths, double value) {
  Shape shape;
  for (int d = 0; d < x.shape.rank(); ++d) {
    const auto& [before, after] = widths[static_cast<size_t>(d)];
    shape.push_back(x.shape[d] + before + after);
  }
  return generate(shape, [&](std::vector<int64_t> c) {
    for (int d = 0; d < x.shape.rank(); ++d) {
      auto& place = c[static_cast<size_t>(d)];
      place -= widths[static_cast<size_t>(d)].first;
      if (place < 0 || place >= x.shape[d]) return value;
    }
    return x[x.flat(c)];
  });
}

}  // namespace tl_test::reference
