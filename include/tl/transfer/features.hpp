// Feature extraction: the frozen part runs once for each picture, and training sees its results alone.
#pragma once
#include <functional>

#include "tl/data/loader.hpp"
#include "tl/nn/module.hpp"

namespace tl::inline TL_ABI {

/// Features of a source's samples, in its order.
struct FeatureSet {
  Tensor x;                      ///< [N, ...]
  Tensor y;                      ///< [N], i32
  std::vector<int64_t> indices;  ///< positions in the data set; pictures that could not be read are missing
};

/// Runs `extract` over one pass of `source`, in evaluation mode and without gradients. Full batches are replays of the
/// first, see Capture: `extract` does the same to each.
/// `progress`, if given, is told the number of samples of each batch.
FeatureSet extract_features(nn::Module& net, BatchSource& source, const std::function<Tensor(const Tensor&)>& extract,
                            const std::function<void(int64_t)>& progress = {});

}  // namespace tl::inline TL_ABI

#if TL_HEADER_ONLY
#include "tl/transfer/features.inl"
#endif
