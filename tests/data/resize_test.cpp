// Resizing against Pillow's bytes, and the properties that a resize must have.
#include "tl/data/resize.hpp"

#include <algorithm>
#include <fstream>
#include <nlohmann/json.hpp>

#include "support.hpp"
#include "tl/core/error.hpp"
#include "tl/core/random.hpp"
#include "data/patterns.hpp"

using tl::Interpolation;
using tl_test::golden_cases;
using tl_test::pattern;

namespace {

Interpolation filter_of(const nlohmann::json& entry) {
  return entry["filter"] == "bicubic" ? Interpolation::bicubic : Interpolation::bilinear;
}

tl::Image noise(int64_t width, int64_t height, int64_t channels, uint64_t seed) {
  tl::Image image(width, height, channels);
  tl::Generator random(seed);
  for (uint8_t& sample : image.pixels) sample = static_cast<uint8_t>(random.below(256));
  return image;
}

}  // namespace

TEST_CASE("resize equals Pillow's, byte for byte") {
  size_t checked = 0;
  for (const auto& entry : golden_cases("resize.json", "resize")) {
    CAPTURE(entry["source"].dump() + " -> " + entry["target"].dump() + " " + entry["filter"].get<std::string>());
    const auto& target = entry["target"];
    const tl::Image got = tl::resize(pattern(entry), target[1], target[0], filter_of(entry));
    CHECK(tl_test::to_hex(got.pixels) == entry["bytes"].get<std::string>());
    ++checked;
  }
  CHECK(checked >= 40);
}

TEST_CASE("FR17: a one-pixel chequerboard shrinks to grey, not to another pattern") {
  for (const int64_t channels : {1, 3, 4}) {
    tl::Image board(256, 256, channels);
    for (int64_t y = 0; y < 256; ++y)
      for (int64_t x = 0; x < 256; ++x)
        std::fill_n(board.row(y) + x * channels, channels, static_cast<uint8_t>((x + y) % 2 * 255));
    const tl::Image small = tl::resize(board, 32, 32, Interpolation::bilinear);
    CHECK(std::all_of(small.pixels.begin(), small.pixels.end(), [](uint8_t v) { return v == 127 || v == 128; }));
  }
}

TEST_CASE("A window of a resized part is what cutting the whole gives") {
  tl::Generator random(3);
  for (int round = 0; round < 200; ++round) {
    const int64_t width = 1 + random.below(40), height = 1 + random.below(40), channels = round % 2 ? 3 : 1;
    const tl::Image image = noise(width, height, channels, static_cast<uint64_t>(round));
    tl::Rect source{random.below(width), random.below(height), 0, 0};
    source.width = 1 + random.below(width - source.x);
    source.height = 1 + random.below(height - source.y);
    const int64_t to_width = 1 + random.below(50), to_height = 1 + random.below(50);
    tl::Rect window{random.below(to_width), random.below(to_height), 0, 0};
    window.width = 1 + random.below(to_width - window.x);
    window.height = 1 + random.below(to_height - window.y);
    for (const auto filter : {Interpolation::bilinear, Interpolation::bicubic}) {
      const tl::Image whole = tl::resize(tl::crop(image, source), to_width, to_height, filter);
      CHECK(tl::resize(image, source, to_width, to_height, window, filter) == tl::crop(whole, window));
    }
  }
}

TEST_CASE("Each channel is resized as if it were alone") {
  for (const int64_t channels : {3, 4}) {
    const tl::Image image = noise(37, 29, channels, 5);
    for (const auto& [width, height] : {std::pair{13, 11}, std::pair{80, 20}, std::pair{37, 5}, std::pair{1, 1}}) {
      const tl::Image resized = tl::resize(image, width, height, Interpolation::bicubic);
      for (int64_t c = 0; c < channels; ++c) {
        tl::Image plane(image.width, image.height, 1), expected(width, height, 1);
        for (size_t i = 0; i < plane.pixels.size(); ++i)
          plane.pixels[i] = image.pixels[i * static_cast<size_t>(channels) + static_cast<size_t>(c)];
        for (size_t i = 0; i < expected.pixels.size(); ++i)
          expected.pixels[i] = resized.pixels[i * static_cast<size_t>(channels) + static_cast<size_t>(c)];
        CHECK(tl::resize(plane, width, height, Interpolation::bicubic) == expected);
      }
    }
  }
}

TEST_CASE("A constant picture stays constant, and the same size changes nothing") {
  for (const int value : {0, 1, 128, 255}) {
    tl::Image image(19, 7);
    std::fill(image.pixels.begin(), image.pixels.end(), static_cast<uint8_t>(value));
    for (const auto filter : {Interpolation::bilinear, Interpolation::bicubic}) {
      const tl::Image resized = tl::resize(image, 31, 5, filter);
      CHECK(std::all_of(resized.pixels.begin(), resized.pixels.end(), [&](uint8_t v) { return v == value; }));
    }
  }
  const tl::Image image = noise(23, 17, 3, 1);
  CHECK(tl::resize(image, 23, 17, Interpolation::bilinear) == image);
  CHECK(tl::resize(image, 23, 17, Interpolation::bicubic) == image);
}

TEST_CASE("Sizes and rectangles that cannot be meant are refused") {
  const tl::Image image(10, 8);
  CHECK_THROWS_WITH_AS(tl::resize(image, 0, 5), "resize: expected a size of 1 to 16777216 pixels, got 0 x 5",
                       tl::UsageError);
  CHECK_THROWS_AS(tl::resize(image, 5, int64_t{1} << 40), tl::UsageError);
  CHECK_THROWS_WITH_AS(tl::resize(tl::Image(), 5, 5), "resize: the picture is empty", tl::UsageError);
  CHECK_THROWS_WITH_AS(tl::crop(image, {5, 0, 6, 8}),
                       "crop: the rectangle, 6 x 8 at (5, 0), must lie within the picture of 10 x 8", tl::UsageError);
  CHECK_THROWS_AS(tl::crop(image, {-1, 0, 2, 2}), tl::UsageError);
  CHECK_THROWS_AS(tl::crop(image, {0, 0, 0, 2}), tl::UsageError);
  CHECK_THROWS_AS(tl::crop(image, {INT64_MAX, 0, 2, 2}), tl::UsageError);
  CHECK_THROWS_AS(tl::resize(image, {0, 0, 10, 8}, 5, 5, {4, 4, 2, 2}, Interpolation::bilinear), tl::UsageError);
  CHECK_THROWS_AS(tl::resize(tl::Image(3, 3, 2), 5, 5), tl::UsageError);
}
