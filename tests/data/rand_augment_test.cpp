// RandAugment: torchvision's bytes for each operation, and randomness that comes from the generator alone.
#include "tl/data/rand_augment.hpp"

#include "data/patterns.hpp"
#include "tl/core/error.hpp"

namespace {

using namespace tl;

/// A generator whose first two draws are this operation and this direction (0: any).
Generator drawing(int64_t operation, int sign) {
  for (uint64_t seed = 0;; ++seed) {
    Generator generator(seed);
    if (generator.below(14) != operation) continue;
    const int drawn = generator.below(2) == 0 ? 1 : -1;
    if (sign == 0 || drawn == sign) return Generator(seed);
  }
}

}  // namespace

TEST_CASE("Each operation gives torchvision's picture, byte for byte") {
  int64_t seen = 0;
  for (const auto& entry : tl_test::golden_cases("regularize.json", "rand_augment")) {
    CAPTURE(entry["name"].get<std::string>());
    CAPTURE(entry["magnitude"].get<int64_t>());
    CAPTURE(entry["sign"].get<int>());
    Generator generator = drawing(entry["operation"], entry["sign"]);
    const RandAugment once{.operations = 1, .magnitude = entry["magnitude"]};
    CHECK(tl_test::to_hex(once(tl_test::pattern(entry), generator).pixels) == entry["bytes"].get<std::string>());
    ++seen;
  }
  CHECK(seen == 3 * (14 + 9));
  // How many bits remain at each magnitude: a black and white picture loses none, one of ones loses all but 8.
  const auto bits = tl_test::golden_cases("regularize.json", "posterize_bits").at(0)["bits"];
  for (int64_t m = 0; m < 31; ++m) {
    Generator generator = drawing(10, 0);
    Image image(1, 1);
    image.pixels = {255, 255, 255};
    const auto pixels = RandAugment{.operations = 1, .magnitude = m}(image, generator).pixels;
    CHECK(pixels[0] == static_cast<uint8_t>(0xff << (8 - bits[static_cast<size_t>(m)].get<int>())));
  }
}

TEST_CASE("FR11: changes come from the generator alone, and operations follow each other") {
  Image image(20, 16);
  for (size_t i = 0; i < image.pixels.size(); ++i) image.pixels[i] = static_cast<uint8_t>(i * i);
  const auto drawn = [&](const RandAugment& augment, uint64_t seed) {
    Generator generator(seed);
    return augment(image, generator);
  };
  int changed = 0;
  for (uint64_t seed = 0; seed < 50; ++seed) {
    CHECK(drawn({}, seed) == drawn({}, seed));
    changed += drawn({}, seed) != image;
    Generator generator(seed);
    const RandAugment one{.operations = 1};
    CHECK(drawn({}, seed) == one(one(image, generator), generator));
  }
  CHECK(changed > 40);
  CHECK(drawn({.operations = 0}, 1) == image);

  const Preprocess input{.size = 16, .resize = 16, .crop_fraction = 1.0};
  AugmentOptions options;
  options.more = {RandAugment{}};
  const auto pipeline = train_transform(input, options);
  CHECK(pipeline.picture(image, 1, 2, 3) == pipeline.picture(image, 1, 2, 3));
  CHECK(pipeline.picture(image, 1, 2, 3) != pipeline.picture(image, 1, 2, 4));
}

TEST_CASE("Numbers and pictures that cannot be meant are refused") {
  Generator generator(1);
  CHECK_THROWS_AS((RandAugment{.magnitude = 31}(Image(4, 4), generator)), UsageError);
  CHECK_THROWS_AS((RandAugment{.operations = -1}(Image(4, 4), generator)), UsageError);
  CHECK_THROWS_AS((RandAugment{}(Image(4, 4, 1), generator)), UsageError);
  CHECK_THROWS_AS(posterize(Image(4, 4), 9), UsageError);
  const Image flat(3, 3);
  CHECK(stretch_contrast(flat) == flat);
  CHECK(equalize(flat) == flat);
  CHECK(rotate(flat, 360) == flat);
}
