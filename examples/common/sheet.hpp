// Pictures that show pictures: rows of framed tiles, and maps of evidence laid over what they are about.
#pragma once
#include <algorithm>
#include <array>
#include <filesystem>
#include <string>
#include <vector>

#include "tl/data/resize.hpp"
#include "tl/io/image.hpp"

namespace example {

using Colour = std::array<uint8_t, 3>;
inline constexpr Colour kWhite{255, 255, 255}, kGrey{150, 150, 150}, kGreen{30, 160, 70}, kRed{210, 40, 40};

struct Tile {
  tl::Image picture;
  Colour frame = kGrey;
};

/// Rows of tiles of one size, each picture in a frame of its colour.
inline tl::Image sheet_of(const std::vector<std::vector<Tile>>& rows, int64_t side = 96) {
  constexpr int64_t kFrame = 4, kGap = 4;
  const int64_t step = side + 2 * kFrame + kGap;
  size_t columns = 1;
  for (const auto& row : rows) columns = std::max(columns, row.size());
  tl::Image out(kGap + step * static_cast<int64_t>(columns), kGap + step * std::max<int64_t>(std::ssize(rows), 1));
  std::fill(out.pixels.begin(), out.pixels.end(), kWhite[0]);
  for (size_t r = 0; r < rows.size(); ++r)
    for (size_t c = 0; c < rows[r].size(); ++c) {
      const Tile& tile = rows[r][c];
      const tl::Image picture = tl::resize(tile.picture, side, side, tl::Interpolation::bicubic);
      const int64_t left = kGap + step * static_cast<int64_t>(c), top = kGap + step * static_cast<int64_t>(r);
      for (int64_t y = -kFrame; y < side + kFrame; ++y)
        for (int64_t x = -kFrame; x < side + kFrame; ++x) {
          const bool inside = std::min(x, y) >= 0 && std::max(x, y) < side;
          const uint8_t* from = inside ? picture.row(y) + 3 * x : tile.frame.data();
          std::copy_n(from, 3, out.row(top + kFrame + y) + 3 * (left + kFrame + x));
        }
    }
  return out;
}

/// A map of values from 0 to 1 over a picture, of the same size: red where it is high.
inline tl::Image heat_over(tl::Image picture, const tl::Image& heat) {
  for (int64_t y = 0; y < picture.height; ++y)
    for (int64_t x = 0; x < picture.width; ++x) {
      uint8_t* pixel = picture.row(y) + 3 * x;
      const int strength = heat.row(y)[3 * x] * 3 / 5;
      for (int c = 0; c < 3; ++c)
        pixel[c] = static_cast<uint8_t>((pixel[c] * (255 - strength) + (c == 0 ? 255 : 0) * strength) / 255);
    }
  return picture;
}

/// Writes `folder`/`name`, and says where.
inline void save_sheet(const std::string& folder, const std::string& name, const std::vector<std::vector<Tile>>& rows,
                       int64_t side = 96) {
  std::filesystem::create_directories(folder);
  const std::string path = (std::filesystem::path(folder) / name).string();
  tl::save_png(path, sheet_of(rows, side));
  std::printf("pictures: %s\n", path.c_str());
}

}  // namespace example
