// How well a map of evidence says where something is, measured by a mask of where it is.
#pragma once
#include <algorithm>
#include <vector>

#include "tl/io/image.hpp"
#include "tl/train/metrics.hpp"

namespace example {

struct Localisation {
  bool hit = false;              ///< the strongest pixel lies in the mask, or within `tolerance` of it
  double chance = tl::kNoValue;  ///< the share of pixels for which that holds: hits by a map that knows nothing
  double auc = tl::kNoValue;     ///< that a pixel of the mask has more evidence than one beside it; 0.5 by chance
};

/// heat and mask are RGB pictures of one size; the mask is where its samples are at least 128. The measures are those
/// of the pointing game (Zhang et al., "Top-down neural attention by excitation backprop", 2018), whose tolerance is 15
/// pixels, and of ROC curves over pixels.
inline Localisation localise(const tl::Image& heat, const tl::Image& mask, int64_t tolerance = 15) {
  const int64_t w = heat.width, h = heat.height;
  std::vector<float> evidence;
  std::vector<int32_t> inside;
  for (size_t i = 0; i < heat.pixels.size(); i += 3) {
    evidence.push_back(heat.pixels[i]);
    inside.push_back(mask.pixels[i] >= 128);
  }
  // The mask grown by the tolerance, along rows and then along columns.
  const auto grow = [&](const std::vector<int32_t>& from, int64_t along, int64_t count, int64_t step) {
    std::vector<int32_t> out(from.size());
    for (int64_t i = 0; i < std::ssize(from); ++i) {
      const int64_t at = i / step % count;
      const int64_t first = std::max<int64_t>(at - along, 0), last = std::min(at + along, count - 1);
      for (int64_t j = first; j <= last && !out[static_cast<size_t>(i)]; ++j)
        out[static_cast<size_t>(i)] = from[static_cast<size_t>(i + (j - at) * step)];
    }
    return out;
  };
  const auto near = grow(grow(inside, tolerance, w, 1), tolerance, h, w);
  const auto peak = static_cast<size_t>(std::max_element(evidence.begin(), evidence.end()) - evidence.begin());
  return {.hit = near[peak] != 0,
          .chance = static_cast<double>(std::count(near.begin(), near.end(), 1)) / static_cast<double>(near.size()),
          .auc = tl::auc(evidence, inside)};
}

}  // namespace example
