// How well a map of evidence says where something is, measured by a mask of where it is.
#pragma once
#include <algorithm>
#include <filesystem>
#include <string>
#include <vector>

#include "tl/core/error.hpp"
#include "tl/io/image.hpp"
#include "tl/ops/view.hpp"
#include "tl/train/metrics.hpp"

namespace example {

/// Channel c of a map [1, h, w, C], from 0 at its least to 255 at its greatest value, as an RGB picture.
inline tl::Image channel_of(const tl::Tensor& map, int64_t c) {
  const tl::Tensor own = tl::slice(map, 3, c, c + 1);
  const auto values = own.values<float>();
  const auto [low, high] = std::minmax_element(values.begin(), values.end());
  tl::Image out(map.size(2), map.size(1), 1);
  for (size_t i = 0; i < out.pixels.size(); ++i)
    out.pixels[i] = static_cast<uint8_t>(255 * (values[i] - *low) / (*high - *low + 1e-9f));
  return tl::to_rgb(out);
}

/// The mask of a picture's defect, a file of its name but .png; "" if there is none.
/// Errors: UsageError for a picture that is the mask of another one.
inline std::string mask_of(const std::string& picture) {
  const auto mask = std::filesystem::path(picture).replace_extension(".png");
  if (mask != picture) return std::filesystem::exists(mask) ? mask.string() : "";
  for (const auto& other : std::filesystem::directory_iterator(mask.parent_path()))
    tl::require<tl::UsageError>(other.path() == mask || other.path().stem() != mask.stem(), picture,
                                ": is the mask of ", other.path().string(), ". Hint: --extensions jpg");
  return "";
}

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
