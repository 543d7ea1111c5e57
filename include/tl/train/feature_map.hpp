// Features on a plane: what a network sees of samples, for a picture that shows whether classes lie apart.
#pragma once
#include <array>
#include <cstdint>
#include <string>
#include <vector>

#include "tl/tensor/tensor.hpp"
#include "tl/train/metrics.hpp"

namespace tl::inline TL_ABI {

/// Samples along the two directions in which their features vary most.
struct FeatureMap {
  std::string title = {};  ///< "before training"
  std::vector<std::array<double, 2>> points = {};
  std::vector<int32_t> labels = {};
  double shown = kNoValue;    ///< share of the features' variance that lies along both axes
  double between = kNoValue;  ///< share of the features' variance (along all axes) that lies between classes' means
};

/// Principal components: with X the features less their mean and v1, v2 the eigenvectors of X^T X with the largest
/// eigenvalues, sample i is at (x_i . v1, x_i . v2). The first sample's class lies to the left and below, so that maps
/// of one data set look alike.
///
/// features [N, ...] f32 or f64, labels [N] i32. A few hundred samples make a good picture; N or the number of features
/// may be large, but not both: the smaller is cubed.
/// Errors: ShapeError; DTypeError; UsageError without samples; NumericError for features that are not finite.
/// scikit-learn: PCA(n_components=2).fit_transform.
FeatureMap map_features(const Tensor& features, const Tensor& labels);

}  // namespace tl::inline TL_ABI

#if TL_HEADER_ONLY
#include "tl/train/feature_map.inl"
#endif
