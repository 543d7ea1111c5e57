// Choosing before training: how well features or predictions of a pretrained network suit labels, without training it.
//
// All scores work in double precision. Larger means better; scores of different networks on the same samples can be
// compared with each other, scores on different samples cannot.
#pragma once
#include <span>
#include <vector>

#include "tl/tensor/tensor.hpp"

namespace tl::inline TL_ABI {

/// LogME: the logarithm of the maximum evidence, a sample, of labels given features, by linear models with a Gaussian
/// prior on weights and Gaussian noise; one model for each class against the rest, then their mean.
///
///     y ~ N(F w, 1 / beta), w ~ N(0, 1 / alpha):
///     log p(y | F) = N/2 log beta + D/2 log alpha - N/2 log 2 pi - beta/2 |F m - y|^2 - alpha/2 m^T m - 1/2 log |A|
///     A = alpha I + beta F^T F, m = beta A^-1 F^T y
///     gamma = sum_j beta s_j / (alpha + beta s_j), s_j the eigenvalues of F^T F
///     alpha <- gamma / m^T m, beta <- (N - gamma) / |F m - y|^2, from alpha = beta = 1 until both stay
///
/// features F [N, D] f32 or f64; labels [N] i32, from 0 to classes - 1. Features are taken as they are, not centred.
/// The iteration runs on the ratio alpha / beta, which it keeps within 1e-15 and 1e15 times the largest eigenvalue: so
/// labels without noise, or features that tell nothing, give a finite score too. D > N, constant and equal columns are
/// allowed. Cost: one eigenvalue decomposition of a matrix of min(N, D) rows.
/// Errors: ShapeError; DTypeError; UsageError for fewer than two samples or classes, labels below 0, and a class
/// without samples; NumericError for features that are NaN or beyond 1e60.
/// Paper: You et al., "LogME: Practical assessment of pre-trained models for transfer learning", ICML 2021, with the
/// fixed point iteration of "Ranking and tuning pre-trained models", JMLR 2022.
double log_me(const Tensor& features, const Tensor& labels);

/// LogME of several ways to label the same features, for little more than the price of one.
std::vector<double> log_me(const Tensor& features, std::span<const Tensor> labelings);

/// H-score: how far class means lie apart, measured by the spread of the features.
///
///     tr(cov(F)^+ cov(E[F | y])), ^+ the pseudo-inverse; between 0 and classes - 1
///
/// Arguments and errors as log_me. Where D >= N - 1 the features can tell any labels apart and the score is
/// classes - 1 whatever they are: use shrunk_h_score there.
/// Paper: Bao et al., "An information-theoretic approach to transferability in task transfer learning", ICIP 2019.
double h_score(const Tensor& features, const Tensor& labels);

/// H-score with a covariance that is shrunk towards a multiple of the identity, as few samples ask for.
///
///     (1 - a) tr(C_a^-1 cov(E[F | y])), C_a = (1 - a) cov(F) + a tr(cov(F)) / D I, a of Ledoit and Wolf
///
/// All covariances divide by N. Arguments and errors as log_me.
/// Paper: Ibrahim et al., "Newer is not always better: Rethinking transferability metrics, their peculiarities,
/// stability and performance", ECML 2022; Ledoit and Wolf, "A well-conditioned estimator for large-dimensional
/// covariance matrices", 2004. scikit-learn: `LedoitWolf().fit(F).covariance_` is C_a.
double shrunk_h_score(const Tensor& features, const Tensor& labels);

struct TransRateOptions {
  double epsilon = 1e-4;  ///< distortion
  /// Divide the features by sqrt(tr(F F^T)) first, so that networks whose features differ in size can be compared.
  bool unit_trace = false;
};

/// TransRate: an estimate of the mutual information of features and labels, by coding rates of centred features.
///
///     R(Z) - 1/classes sum_c R(Z_c), R(Z) = 1/2 log det(I + Z^T Z / (N epsilon)), Z_c the N_c rows of class c
///
/// Arguments and errors as log_me; UsageError also for an epsilon that is not above 0.
/// Paper: Huang et al., "Frustratingly easy transferability estimation", ICML 2022 (the formula of its listing, which
/// weighs all classes alike).
double trans_rate(const Tensor& features, const Tensor& labels, const TransRateOptions& options = {});

/// LEEP: the log-likelihood, a sample, of labels that are predicted by way of the source's classes.
///
///     P(y, z) = 1/N sum over samples i of label y of theta_iz, P(y | z) = P(y, z) / sum_y P(y, z)
///     1/N sum_i log sum_z P(y_i | z) theta_iz; at most 0
///
/// source_probabilities theta [N, Z] f32 or f64, rows that sum to 1; labels as log_me.
/// Errors: as log_me; NumericError also for rows that are no probabilities.
/// Paper: Nguyen et al., "LEEP: A new measure to evaluate transferability of learned representations", ICML 2020.
double leep(const Tensor& source_probabilities, const Tensor& labels);

/// NCE: minus the entropy of labels given the source's predicted classes z.
///
///     -H(y | z) = sum_yz P(y, z) log P(y | z); at most 0
///
/// source_labels [N] i32, at least 0; labels as log_me. Errors: as log_me.
/// Paper: Tran et al., "Transferability and hardness of supervised classification tasks", ICCV 2019.
double nce(const Tensor& source_labels, const Tensor& labels);

}  // namespace tl::inline TL_ABI

#if TL_HEADER_ONLY
#include "tl/transfer/transferability.inl"
#endif
