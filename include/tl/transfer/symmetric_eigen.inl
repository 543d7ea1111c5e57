// Definitions of transfer/symmetric_eigen.hpp.
#pragma once
#include <algorithm>
#include <cmath>
#include <limits>

#include "tl/core/parallel.hpp"
#include "tl/transfer/symmetric_eigen.hpp"

namespace tl::inline TL_ABI {
namespace linalg {

/// Two numbers side by side: what every machine has without flags.
using Pair = double __attribute__((vector_size(16)));

TL_ALWAYS_INLINE Pair load_pair(const double* from) {
  Pair out;
  std::memcpy(&out, from, sizeof out);
  return out;
}

TL_ALWAYS_INLINE void store_pair(double* to, Pair value) { std::memcpy(to, &value, sizeof value); }

/// x . y, in an order of its own that depends on n alone.
TL_INLINE double dot(const double* x, const double* y, int64_t n) {
  Pair sums[4] = {};
  int64_t i = 0;
  for (; i + 8 <= n; i += 8)
    for (int j = 0; j < 4; ++j) sums[j] += load_pair(x + i + 2 * j) * load_pair(y + i + 2 * j);
  const Pair sum = (sums[0] + sums[1]) + (sums[2] + sums[3]);
  double out = sum[0] + sum[1];
  for (; i < n; ++i) out += x[i] * y[i];
  return out;
}

/// row -= a w + b v, and the new row . u, while it is at hand.
TL_INLINE double subtract_and_dot(double* row, double a, const double* w, double b, const double* v, const double* u,
                                  int64_t n) {
  Pair sums[4] = {};
  int64_t i = 0;
  for (; i + 8 <= n; i += 8)
    for (int j = 0; j < 4; ++j) {
      const int64_t at = i + 2 * j;
      const Pair now = load_pair(row + at) - a * load_pair(w + at) - b * load_pair(v + at);
      store_pair(row + at, now);
      sums[j] += now * load_pair(u + at);
    }
  const Pair sum = (sums[0] + sums[1]) + (sums[2] + sums[3]);
  double out = sum[0] + sum[1];
  for (; i < n; ++i) {
    row[i] -= a * w[i] + b * v[i];
    out += row[i] * u[i];
  }
  return out;
}

/// y += a x
TL_INLINE void add_scaled(double* y, double a, const double* x, int64_t n) {
  int64_t i = 0;
  for (; i + 2 <= n; i += 2) store_pair(y + i, load_pair(y + i) + a * load_pair(x + i));
  for (; i < n; ++i) y[i] += a * x[i];
}

/// x and y become c x - s y and s x + c y.
TL_INLINE void rotate(double* x, double* y, double c, double s, int64_t n) {
  int64_t i = 0;
  for (; i + 2 <= n; i += 2) {
    const Pair p = load_pair(x + i), q = load_pair(y + i);
    store_pair(x + i, c * p - s * q);
    store_pair(y + i, s * p + c * q);
  }
  for (; i < n; ++i) {
    const double p = x[i], q = y[i];
    x[i] = c * p - s * q;
    y[i] = s * p + c * q;
  }
}

/// Q^T A Q = T with the diagonal d [n] and beside it e [n - 1]; b [n, m] becomes Q^T b.
///
/// Step k reflects what lies right of and below (k, k). Its update A -= v w^T + w v^T waits for the next step's product
/// A v, so that each step passes over the matrix once. Rows are whole, not half: twice the arithmetic, but every row is
/// contiguous and stands for itself, whatever the number of threads.
TL_INLINE void tridiagonalize(double* a, int64_t n, double* b, int64_t m, double* d, double* e) {
  std::vector<double> v(static_cast<size_t>(n)), w(static_cast<size_t>(n)), u(static_cast<size_t>(n)),
      products(static_cast<size_t>(n)), shadow(static_cast<size_t>(m));
  for (int64_t k = 0; k < n; ++k) {
    double* row = a + k * n;
    for (int64_t j = k; j < n; ++j)
      row[j] -=
          v[static_cast<size_t>(k)] * w[static_cast<size_t>(j)] + w[static_cast<size_t>(k)] * v[static_cast<size_t>(j)];
    d[k] = row[k];
    if (k + 1 == n) break;

    // The reflection I - tau u u^T that takes row k, right of the diagonal, to (e, 0, ..., 0); u begins with 1.
    const int64_t first = k + 1, rest = n - first;
    const double head = row[first], tail = dot(row + first + 1, row + first + 1, rest - 1);
    double tau = 0;
    std::copy(row + first, row + n, u.begin() + first);
    e[k] = head;
    if (tail > 0) {
      e[k] = -std::copysign(std::sqrt(head * head + tail), head);
      tau = (e[k] - head) / e[k];
      for (int64_t j = first + 1; j < n; ++j) u[static_cast<size_t>(j)] /= head - e[k];
    }
    u[static_cast<size_t>(first)] = 1;

    const int64_t grain = std::max<int64_t>(1, 32768 / rest);
    parallel_for(rest, grain, [&](int64_t begin, int64_t end) {
      for (int64_t i = first + begin; i < first + end; ++i)
        products[static_cast<size_t>(i)] =
            subtract_and_dot(a + i * n + first, v[static_cast<size_t>(i)], w.data() + first, w[static_cast<size_t>(i)],
                             v.data() + first, u.data() + first, rest);
    });
    // A - u w^T - w u^T is the reflected matrix for w = tau A u - (tau^2 / 2) (u^T A u) u.
    const double half = 0.5 * tau * tau * dot(u.data() + first, products.data() + first, rest);
    for (int64_t i = first; i < n; ++i) {
      const auto at = static_cast<size_t>(i);
      v[at] = u[at];
      w[at] = tau * products[at] - half * u[at];
    }

    std::fill(shadow.begin(), shadow.end(), 0.0);
    for (int64_t i = first; i < n; ++i) add_scaled(shadow.data(), u[static_cast<size_t>(i)], b + i * m, m);
    for (int64_t i = first; i < n; ++i) add_scaled(b + i * m, -tau * u[static_cast<size_t>(i)], shadow.data(), m);
  }
}

/// Turns the tridiagonal matrix into a diagonal one by rotations, which the rows of b [n, m] follow.
TL_INLINE void diagonalize(double* d, double* e, int64_t n, double* b, int64_t m) {
  constexpr int kMostRounds = 60;  // two or three are usual
  double norm = 0;
  for (int64_t i = 0; i < n; ++i) {
    const double size = std::abs(d[i]) + (i + 1 < n ? std::abs(e[i]) : 0.0);
    require<NumericError>(std::isfinite(size), "symmetric_eigen: the matrix holds NaN, infinity or what overflows");
    norm = std::max(norm, size);
  }
  const double negligible = std::numeric_limits<double>::epsilon() * norm;
  for (int64_t low = 0; low < n; ++low) {
    for (int round = 0;; ++round) {
      int64_t high = low;  // the block low ... high hangs together
      while (high + 1 < n && std::abs(e[high]) > negligible) ++high;
      if (high == low) break;
      require<NumericError>(round < kMostRounds, "symmetric_eigen: no convergence in ", kMostRounds, " rounds");
      // The shift is the eigenvalue of the first two rows that lies nearer to d[low].
      double g = (d[low + 1] - d[low]) / (2 * e[low]);
      g = d[high] - d[low] + e[low] / (g + std::copysign(std::hypot(g, 1.0), g));
      double s = 1, c = 1, shift = 0;
      int64_t i = high - 1;
      for (; i >= low; --i) {
        const double f = s * e[i], h = c * e[i], r = std::hypot(f, g);
        if (i + 1 < high) e[i + 1] = r;
        if (r == 0) {  // the block falls apart here
          d[i + 1] -= shift;
          break;
        }
        s = f / r;
        c = g / r;
        g = d[i + 1] - shift;
        const double t = (d[i] - g) * s + 2 * c * h;
        shift = s * t;
        d[i + 1] = g + shift;
        g = c * t - h;
        rotate(b + i * m, b + (i + 1) * m, c, s, m);
      }
      if (i >= low) continue;
      d[low] -= shift;
      e[low] = g;
    }
  }
}

TL_INLINE std::vector<double> symmetric_eigen(Tensor& a, Tensor& b) {
  require<ShapeError>(a.rank() == 2 && a.size(0) == a.size(1), "symmetric_eigen: a must be [n, n]; got ", a.shape());
  const int64_t n = a.size(0);
  require<ShapeError>(b.rank() == 2 && b.size(0) == n, "symmetric_eigen: b must be [n, m] with n = ", n, "; got ",
                      b.shape());
  std::vector<double> values(static_cast<size_t>(n)), beside(static_cast<size_t>(n));
  double* rows = b.mutable_data<double>();
  tridiagonalize(a.mutable_data<double>(), n, rows, b.size(1), values.data(), beside.data());
  diagonalize(values.data(), beside.data(), n, rows, b.size(1));
  return values;
}

}  // namespace linalg
}  // namespace tl::inline TL_ABI
