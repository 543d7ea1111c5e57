// RandAugment, and the changes of pictures that it draws from, equal to Pillow's.
#pragma once
#include <array>
#include <cstdint>

#include "tl/data/transforms.hpp"

namespace tl::inline TL_ABI {

/// Some changes of a picture one after the other, each drawn from fourteen with equal chances, all of one strength:
/// nothing, shear and shift along x and y, rotation, brightness, colour, contrast and sharpness (each of these with a
/// coin for the direction), fewer bits, inverted light, stretched contrast, equalised histogram.
///
/// magnitude m of 0 to bins - 1 scales the changes, s = m / (bins - 1): shear 0.3 s, shift by 150/331 s of the size,
/// rotation by 30 s degrees, factors 1 +- 0.9 s, 8 - round(4 s) bits, light over 255 (1 - s) inverted. What comes in
/// from outside of the picture is black.
/// Errors: UsageError for a magnitude or number that cannot be meant, and unless the picture is RGB.
/// Paper: Cubuk et al., "RandAugment: Practical automated data augmentation with a reduced search space", 2020.
/// torchvision: `RandAugment(operations, magnitude, bins)` on Pillow pictures, byte for byte for the same draws.
struct RandAugment {
  int64_t operations = 2;  ///< N
  int64_t magnitude = 9;   ///< M
  int64_t bins = 31;
  Image operator()(Image image, Generator& generator) const;
};

/// Pixel (x, y) is the one at (m0 x' + m1 y' + m2, m3 x' + m4 y' + m5) before, x' = x + 0.5, y' = y + 0.5, without
/// interpolation; black where that lies outside. Pillow: `Image.transform(size, AFFINE, m, NEAREST)`.
Image transform_affine(const Image& image, const std::array<double, 6>& m);

/// Turns a picture around its centre, counter-clockwise. Pillow: `Image.rotate(degrees)`.
Image rotate(const Image& image, double degrees);

/// Keeps the upper `bits` of each sample, 0 to 8. Pillow: `ImageOps.posterize`.
Image posterize(Image image, int64_t bits);

/// Inverts samples that are `threshold` or more. Pillow: `ImageOps.solarize`.
Image solarize(Image image, double threshold);

/// Stretches each channel from its least and greatest sample to 0 and 255. Pillow: `ImageOps.autocontrast`.
Image stretch_contrast(Image image);

/// Makes each channel's samples as evenly spread as their order allows. Pillow: `ImageOps.equalize`.
Image equalize(Image image);

}  // namespace tl::inline TL_ABI

#if TL_HEADER_ONLY
#include "tl/data/rand_augment.inl"
#endif
