// Resizing pictures: every instruction set beside sums written out, which are exact.
#include "cpu/kernel_check.hpp"

namespace {

using namespace tl;
using namespace tl_test;

/// Taps as those of a filter: they advance, their numbers differ, and some weights are below zero.
struct RandomTaps {
  std::vector<int32_t> first, count, weights;
  int64_t stride = 0, most = 0;

  RandomTaps(int64_t inputs, int64_t outputs, std::mt19937& random) {
    const int64_t reach = std::max<int64_t>(1, std::min(inputs, 2 * inputs / outputs + 2));
    stride = reach + 3;
    for (int64_t i = 0; i < outputs; ++i) {
      const int64_t begin = std::min(i * inputs / outputs, inputs - 1);
      const int64_t taps =
          std::min<int64_t>(1 + static_cast<int64_t>(random() % static_cast<uint32_t>(reach)), inputs - begin);
      first.push_back(static_cast<int32_t>(begin));
      count.push_back(static_cast<int32_t>(taps));
      most = std::max(most, taps);
      for (int64_t k = 0; k < stride; ++k) {
        const auto weight = static_cast<int32_t>(random() % (3u << kResizeWeightBits) / static_cast<uint32_t>(taps)) -
                            (1 << kResizeWeightBits) / static_cast<int32_t>(taps);
        weights.push_back(k < taps ? weight / 2 : 0);
      }
    }
  }
  ResizeTaps taps() const {
    return {first.data(), count.data(), weights.data(), static_cast<int64_t>(first.size()), stride, most};
  }
};

/// y[i, j, c] of one pass over `x` [outer, inputs, inner].
std::vector<uint8_t> pass(const std::vector<uint8_t>& x, int64_t outer, int64_t inputs, int64_t inner,
                          const RandomTaps& taps) {
  std::vector<uint8_t> out;
  for (int64_t o = 0; o < outer; ++o)
    for (size_t i = 0; i < taps.first.size(); ++i)
      for (int64_t c = 0; c < inner; ++c) {
        int64_t sum = int64_t{1} << (kResizeWeightBits - 1);
        for (int64_t k = 0; k < taps.count[i]; ++k)
          sum += int64_t{taps.weights[i * static_cast<size_t>(taps.stride) + static_cast<size_t>(k)]} *
                 x[static_cast<size_t>((o * inputs + taps.first[i] + k) * inner + c)];
        out.push_back(static_cast<uint8_t>(std::clamp<int64_t>(sum >> kResizeWeightBits, 0, 255)));
      }
  return out;
}

}  // namespace

TEST_CASE("resize adds weighted samples up exactly, along rows and along columns, in either order") {
  struct Size {
    int64_t width, height, columns, rows;
  };
  std::mt19937 random(1);
  for (const Size s : {Size{1, 1, 1, 1},
                       {5, 3, 2, 7},
                       {16, 16, 16, 16},
                       {37, 45, 21, 33},
                       {100, 17, 224, 5},
                       {61, 90, 7, 3},
                       {140000, 2, 5, 2}})
    for (const int64_t channels : {1, 3, 4}) {
      CAPTURE(s.width);
      CAPTURE(channels);
      // The exact size, so that a sanitizer sees what is read beyond it.
      std::vector<uint8_t> x(static_cast<size_t>(s.width * s.height * channels));
      for (uint8_t& sample : x) sample = static_cast<uint8_t>(random());
      const RandomTaps columns(s.width, s.columns, random), rows(s.height, s.rows, random);
      for (const bool columns_first : {false, true}) {
        const auto want =
            columns_first
                ? pass(pass(x, 1, s.height, s.width * channels, rows), s.rows, s.width, channels, columns)
                : pass(pass(x, s.height, s.width, channels, columns), 1, s.height, s.columns * channels, rows);
        for_each_isa<float>([&](const KernelTable<float>& table) {
          std::vector<uint8_t> got(want.size() + 64, 0xa5);
          table.resize({.x = x.data(),
                        .pitch = s.width * channels,
                        .height = s.height,
                        .width = s.width,
                        .channels = channels,
                        .columns = columns.taps(),
                        .rows = rows.taps(),
                        .columns_first = columns_first,
                        .bytes = got.data() + 32});
          CHECK(std::equal(want.begin(), want.end(), got.begin() + 32));
          CHECK(std::count(got.begin(), got.begin() + 32, 0xa5) + std::count(got.end() - 32, got.end(), 0xa5) == 64);
        });
      }
    }
}

TEST_CASE("resize mirrors, reorders and normalises on the way out") {
  std::mt19937 random(2);
  const int64_t width = 50, height = 40, columns = 19, rows = 23;
  std::vector<uint8_t> x(static_cast<size_t>(width * height * 3));
  for (uint8_t& sample : x) sample = static_cast<uint8_t>(random());
  const RandomTaps along_rows(width, columns, random), along_columns(height, rows, random);
  const auto bytes = pass(pass(x, height, width, 3, along_rows), 1, height, columns * 3, along_columns);
  float values[3][256];
  for (int c = 0; c < 3; ++c)
    for (int v = 0; v < 256; ++v) values[c][v] = static_cast<float>(v) * 0.25f - static_cast<float>(c);
  for (const bool mirrored : {false, true})
    for_each_isa<float>([&](const KernelTable<float>& table) {
      Guarded<float> got(rows * columns * 3);
      table.resize({.x = x.data(),
                    .pitch = width * 3,
                    .height = height,
                    .width = width,
                    .channels = 3,
                    .columns = along_rows.taps(),
                    .rows = along_columns.taps(),
                    .y = got.data(),
                    .values = values,
                    .from = {2, 1, 0},
                    .mirrored = mirrored});
      CHECK(got.intact());
      int64_t wrong = 0;
      for (int64_t i = 0; i < rows; ++i)
        for (int64_t j = 0; j < columns; ++j)
          for (int c = 0; c < 3; ++c) {
            const int64_t from = (i * columns + (mirrored ? columns - 1 - j : j)) * 3 + 2 - c;
            wrong += got[(i * columns + j) * 3 + c] != values[c][bytes[static_cast<size_t>(from)]];
          }
      CHECK(wrong == 0);
    });
}
