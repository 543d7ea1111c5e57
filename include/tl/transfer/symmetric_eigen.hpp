// Eigenvalues of symmetric matrices in double precision, for the scores of transferability.
#pragma once
#include <vector>

#include "tl/tensor/tensor.hpp"

namespace tl::inline TL_ABI {
namespace linalg {

/// The eigenvalues of a symmetric matrix, and vectors as its eigenvectors see them: for A = Q diag(values) Q^T it gives
/// `values`, in no particular order, and replaces B by Q^T B. The identity for B gives the eigenvectors, one a row.
///
/// a [n, n] f64 is used as memory; b [n, m] f64. Takes 2 n^3 + 2 n^2 m operations before, and about 5 n^2 m in, the
/// iteration: scores, which need a few columns instead of all eigenvectors, pay for a few columns.
/// Errors: ShapeError; NumericError for NaN and infinity in `a`, and where the iteration does not converge.
/// Method: Householder's reflections to a tridiagonal matrix, then the QL iteration with implicit shifts (Golub and Van
/// Loan, "Matrix computations", 4th edition, 8.3). NumPy: `numpy.linalg.eigh`.
std::vector<double> symmetric_eigen(Tensor& a, Tensor& b);

}  // namespace linalg
}  // namespace tl::inline TL_ABI

#if TL_HEADER_ONLY
#include "tl/transfer/symmetric_eigen.inl"
#endif
