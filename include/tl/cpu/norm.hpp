// Batch and layer normalisation.
#pragma once
#include <cstdint>

#include "tl/cpu/gemm.hpp"

namespace tl {

/// Mean and biased variance of each channel of x [rows, channels], in blocks (Chan et al. 1979), so that a large mean
/// does not swallow the variance. Any number of threads gives the same bits.
template <class T>
struct BatchStatisticsArgs {
  const T* x;
  Wide<T>*mean, *variance;  // [channels]
  int64_t rows, channels;
};

/// y = activation(scale * x + shift + residual) for each channel: BatchNorm with the statistics folded in.
template <class T>
struct ChannelAffineArgs {
  const T* x;                   // [rows, channels]
  const Wide<T>*scale, *shift;  // [channels]
  const T* residual;            // like x, or null
  T* y;
  int64_t rows, channels;
  Activation activation;  // none, relu or relu6
};

/// Backward of y = activation(gamma * (x - mean) * rstd + beta + residual).
///
/// The activation's mask is found again from y. In training mode the statistics depend on x:
///   grad_x = gamma * rstd * (g - mean(g) - xhat * mean(g * xhat)), g = grad_y masked;
/// with `frozen_statistics` grad_x = gamma * rstd * g. Null outputs are skipped; x may be null where grad_gamma is and
/// grad_x does not depend on the statistics.
template <class T>
struct BatchNormBackwardArgs {
  const T *grad_y, *x, *y;            // y may be null without activation
  const Wide<T>*gamma, *mean, *rstd;  // gamma null means 1
  T* grad_x;
  Wide<T>*grad_gamma, *grad_beta;
  T* grad_residual;  // g itself, or null
  int64_t rows, channels;
  Activation activation;
  bool frozen_statistics;
};

/// y = gamma * (s - mean) * rstd + beta over each row of s = x + residual [rows, cols]; mean and rstd [rows] may be
/// null. Where there is a residual, s is left in `sum`, which may be y.
/// Paper: Ba, Kiros and Hinton, "Layer normalization", 2016.
template <class T>
struct LayerNormArgs {
  const T* x;
  const Wide<T>*gamma, *beta;  // may be null
  T* y;
  Wide<T>*mean, *rstd;
  int64_t rows, cols;
  Wide<T> eps;
  const T* residual = nullptr;
  T* sum = nullptr;
};

/// x is what was normalised: s where there was a residual.
template <class T>
struct LayerNormBackwardArgs {
  const T *grad_y, *x;
  const Wide<T>*gamma, *mean, *rstd;
  T* grad_x;
  Wide<T>*grad_gamma, *grad_beta;  // null outputs are skipped
  int64_t rows, cols;
};

}  // namespace tl
