// Eigenvalues and eigenvectors: what defines them, for matrices of every temper.
#include "tl/transfer/symmetric_eigen.hpp"

#include <algorithm>
#include <cmath>
#include <limits>
#include <numbers>
#include <numeric>

#include "support.hpp"
#include "tl/core/random.hpp"

namespace {

using namespace tl;
using Matrix = std::vector<double>;

Matrix random_matrix(int64_t rows, int64_t columns, uint64_t seed) {
  Generator generator(seed);
  Matrix out(static_cast<size_t>(rows * columns));
  for (double& value : out) value = generator.normal();
  return out;
}

/// Q diag(values) Q^T for a random orthogonal Q, made of reflections.
Matrix with_eigenvalues(const std::vector<double>& values, uint64_t seed) {
  const size_t n = values.size();
  Matrix a(n * n);
  for (size_t i = 0; i < n; ++i) a[i * n + i] = values[i];
  for (uint64_t k = 0; k < 4; ++k) {
    const Matrix u = random_matrix(static_cast<int64_t>(n), 1, seed + k);
    const double square = std::inner_product(u.begin(), u.end(), u.begin(), 0.0);
    for (const bool columns : {false, true})
      for (size_t i = 0; i < n; ++i) {
        const auto at = [&](size_t j) -> double& { return columns ? a[j * n + i] : a[i * n + j]; };
        double along = 0;
        for (size_t j = 0; j < n; ++j) along += at(j) * u[j];
        for (size_t j = 0; j < n; ++j) at(j) -= 2 * along / square * u[j];
      }
  }
  for (size_t i = 0; i < n; ++i)
    for (size_t j = 0; j < i; ++j) a[i * n + j] = a[j * n + i];
  return a;
}

/// Checks orthogonality and A q = lambda q, relative to the matrix; gives the eigenvalues in order.
std::vector<double> check_decomposition(const Matrix& a, int64_t n) {
  Tensor memory = Tensor::from(a, {n, n}), vectors = Tensor::zeros({n, n}, DType::f64);
  for (int64_t i = 0; i < n; ++i) vectors.mutable_data<double>()[i * n + i] = 1;
  auto values = linalg::symmetric_eigen(memory, vectors);
  const double* q = vectors.data<double>();
  double norm = 0, residual = 0, skew = 0;
  for (const double x : a) norm = std::max(norm, std::abs(x));
  for (int64_t i = 0; i < n; ++i) {
    for (int64_t j = 0; j < n; ++j) {
      const double image = std::inner_product(q + i * n, q + i * n + n, a.data() + j * n, 0.0);
      residual = std::max(residual, std::abs(image - values[static_cast<size_t>(i)] * q[i * n + j]));
      skew = std::max(skew, std::abs(std::inner_product(q + i * n, q + i * n + n, q + j * n, 0.0) - (i == j ? 1 : 0)));
    }
  }
  const double limit = 1e-14 * static_cast<double>(n);
  CHECK(skew <= limit);
  CHECK(residual <= limit * norm);
  std::sort(values.begin(), values.end());
  return values;
}

}  // namespace

TEST_CASE("eigenvectors are orthogonal and solve A q = lambda q") {
  for (const int64_t n : {1, 2, 3, 4, 7, 8, 33, 150, 257}) {
    CAPTURE(n);
    Matrix a = random_matrix(n, n, static_cast<uint64_t>(n));
    for (int64_t i = 0; i < n; ++i)
      for (int64_t j = 0; j < i; ++j) a[static_cast<size_t>(i * n + j)] = a[static_cast<size_t>(j * n + i)];
    double trace = 0;
    for (int64_t i = 0; i < n; ++i) trace += a[static_cast<size_t>(i * n + i)];
    const auto values = check_decomposition(a, n);
    CHECK(std::accumulate(values.begin(), values.end(), 0.0) == doctest::Approx(trace).epsilon(1e-11));
  }
}

TEST_CASE("known eigenvalues return: repeated, zero, of both signs, over many orders of magnitude") {
  std::vector<std::vector<double>> spectra = {
      {3, 3, 3, 3, 3},
      {0, 0, 0, 0},
      {-2, -2, 0, 0, 0, 5, 5, 5},
      {1e12, 1e6, 1, 1e-3, -1e6},
      std::vector<double>(60, 0.0),
      std::vector<double>(80, 7.0),
  };
  for (size_t i = 0; i < 6; ++i) spectra[4][i] = static_cast<double>(1 + i);  // rank 6 of 60
  for (size_t i = 0; i < 40; ++i) spectra[5][i] = 7 + 1e-13 * static_cast<double>(i);
  for (auto& spectrum : spectra) {
    CAPTURE(spectrum.size());
    const auto values = check_decomposition(with_eigenvalues(spectrum, 11), std::ssize(spectrum));
    std::sort(spectrum.begin(), spectrum.end());
    const double largest = std::max(std::abs(spectrum.front()), std::abs(spectrum.back()));
    for (size_t i = 0; i < values.size(); ++i)
      CHECK(std::abs(values[i] - spectrum[i]) <= 1e-14 * static_cast<double>(values.size()) * largest);
  }
}

TEST_CASE("a tridiagonal matrix of ones beside the diagonal has the eigenvalues 2 cos(pi j / (n + 1))") {
  constexpr int64_t n = 40;
  Matrix a(n * n);
  for (int64_t i = 0; i + 1 < n; ++i) a[static_cast<size_t>(i * n + i + 1)] = a[static_cast<size_t>(i * n + n + i)] = 1;
  const auto values = check_decomposition(a, n);
  for (int64_t j = 1; j <= n; ++j)
    CHECK(std::abs(values[static_cast<size_t>(n - j)] -
                   2 * std::cos(std::numbers::pi * static_cast<double>(j) / (n + 1))) < 1e-13);
}

TEST_CASE("a few columns see what all eigenvectors would show, for any number of threads") {
  constexpr int64_t n = 300, m = 3;
  std::vector<double> wanted(n);
  for (size_t i = 0; i < n; ++i) wanted[i] = static_cast<double>(i % 50);
  const Matrix a = with_eigenvalues(wanted, 5), b = random_matrix(n, m, 6);
  std::vector<Matrix> seen;
  for (const int count : {1, 2, 3}) {
    set_threads(count);
    Tensor memory = Tensor::from(a, {n, n}), columns = Tensor::from(b, {n, m});
    const auto values = linalg::symmetric_eigen(memory, columns);
    const auto rotated = std::as_const(columns).values<double>();
    for (int64_t c = 0; c < m; ++c) {  // b^T A b = sum of lambda (q . b)^2
      double direct = 0, spectral = 0;
      for (int64_t i = 0; i < n; ++i) {
        for (int64_t j = 0; j < n; ++j)
          direct +=
              b[static_cast<size_t>(i * m + c)] * a[static_cast<size_t>(i * n + j)] * b[static_cast<size_t>(j * m + c)];
        spectral += values[static_cast<size_t>(i)] * std::pow(rotated[static_cast<size_t>(i * m + c)], 2);
      }
      CHECK(spectral == doctest::Approx(direct).epsilon(1e-11));
    }
    seen.push_back(values);
    seen.back().insert(seen.back().end(), rotated.begin(), rotated.end());
  }
  set_threads(available_threads());
  CHECK(seen[0] == seen[1]);
  CHECK(seen[0] == seen[2]);
}

TEST_CASE("what is no symmetric matrix is refused") {
  Tensor wide = Tensor::zeros({2, 3}, DType::f64), square = Tensor::zeros({2, 2}, DType::f64),
         tall = Tensor::zeros({3, 1}, DType::f64);
  CHECK_THROWS_AS(linalg::symmetric_eigen(wide, tall), ShapeError);
  CHECK_THROWS_AS(linalg::symmetric_eigen(square, tall), ShapeError);
  for (const double bad : {std::numeric_limits<double>::quiet_NaN(), std::numeric_limits<double>::infinity()}) {
    Tensor a = Tensor::full({3, 3}, 1, DType::f64);
    a.mutable_data<double>()[4] = bad;
    CHECK_THROWS_AS(linalg::symmetric_eigen(a, tall), NumericError);
  }
}
