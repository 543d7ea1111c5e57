// Pictures to measure with, where none are given.
#pragma once
#include <unistd.h>

#include <cmath>
#include <filesystem>
#include <string>

#include "tl/io/image.hpp"
#include "tl/nn/init.hpp"

namespace bench {

/// A folder of this user's under the system's temporary one, which stays.
inline std::filesystem::path scratch_folder() {
  const auto folder = std::filesystem::temp_directory_path() / ("tl-bench-" + std::to_string(getuid()));
  std::filesystem::create_directories(folder);
  return folder;
}

/// Waves with a little noise: a JPEG of it has about the size of a photograph's.
inline tl::Image made_picture(int64_t width, int64_t height, uint64_t seed) {
  tl::Generator generator(seed);
  tl::Image image(width, height);
  for (int64_t y = 0; y < height; ++y)
    for (int64_t x = 0; x < width; ++x)
      for (int64_t c = 0; c < 3; ++c) {
        const double phase = static_cast<double>(seed + static_cast<uint64_t>(c));
        const double wave = std::sin(0.03 * static_cast<double>(x) + phase) * std::cos(0.05 * static_cast<double>(y));
        image.row(y)[3 * x + c] = static_cast<uint8_t>(116 + 100 * wave + 24 * generator.uniform());
      }
  return image;
}

/// A folder class0/, class1/ of made JPEGs of 500 x 375, as photographs in data sets often are.
inline std::string made_pictures() {
  constexpr int kPictures = 32;
  const auto folder = scratch_folder() / "pictures";
  for (int i = 0; i < kPictures; ++i) {
    const auto path = folder / ("class" + std::to_string(i % 2)) / (std::to_string(i) + ".jpg");
    if (std::filesystem::exists(path)) continue;
    std::filesystem::create_directories(path.parent_path());
    tl::save_jpeg(path.string(), made_picture(500, 375, static_cast<uint64_t>(i)), 90);
  }
  return folder.string();
}

}  // namespace bench
