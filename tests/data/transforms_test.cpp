// Transforms against torchvision's results, randomness that depends on the sample alone, and pictures in memory.
#include "tl/data/transforms.hpp"

#include <algorithm>
#include <cmath>
#include <limits>
#include <set>

#include "data/patterns.hpp"
#include "support.hpp"
#include "tl/core/error.hpp"
#include "tl/core/log.hpp"

using tl_test::golden_cases;
using tl_test::pattern;

namespace {

tl::Image waves(int64_t width, int64_t height) {
  return pattern({{"pattern", "waves"}, {"source", {height, width, 3}}});
}

/// Collects warnings while it lives.
struct Warnings {
  std::vector<std::string> texts;
  tl::WarningHandler before;
  Warnings() : before(tl::set_warning_handler([this](std::string_view text) { texts.emplace_back(text); })) {}
  ~Warnings() { tl::set_warning_handler(before); }
};

std::vector<float> run(const tl::Pipeline& pipeline, const tl::Image& image, uint64_t seed, uint64_t epoch,
                       uint64_t index) {
  std::vector<float> out(static_cast<size_t>(pipeline.preprocess().numel()));
  pipeline(image, out.data(), seed, epoch, index);
  return out;
}

}  // namespace

TEST_CASE("Pipelines are told apart by their steps' options; what is random is known, but for steps of one's own") {
  const tl::Preprocess input;
  const tl::Pipeline evaluation = tl::eval_transform(input), training = tl::train_transform(input);
  CHECK(!evaluation.is_random());
  CHECK(training.is_random());
  CHECK(!training.has_own_steps());
  const auto own = [](tl::Image image, tl::Generator&) { return image; };
  const tl::Pipeline more(input, {tl::ResizeTo{}, own});
  CHECK(more.is_random());
  CHECK(more.has_own_steps());
  CHECK(!tl::Pipeline(input, {tl::Resize{}, tl::CenterCrop{}, tl::RandomHorizontalFlip{1.0}}).is_random());

  tl::Preprocess brighter = input, grey = input;
  brighter.mean[1] = std::nextafter(brighter.mean[1], 1.0f);
  grey.channel_order = tl::ChannelOrder::bgr;
  std::set<uint64_t> seen;
  for (const tl::Pipeline& pipeline :
       {evaluation, training, more, tl::eval_transform(brighter), tl::eval_transform(grey),
        tl::train_transform(input, {.scale = {0.08, 0.9}}), tl::train_transform(input, {.flip = 0.25}),
        tl::train_transform(input, {.jitter = {.hue = 0.1}}), tl::train_transform(input, {.jitter = {.contrast = 0.1}}),
        tl::Pipeline(input, {tl::Resize{224}}), tl::Pipeline(input, {tl::CenterCrop{224}})})
    CHECK(seen.insert(pipeline.fingerprint()).second);
  CHECK(seen.count(tl::eval_transform(tl::Preprocess()).fingerprint()) == 1);
}

TEST_CASE("The shorter side is resized as torchvision does") {
  tl::Generator random;
  for (const auto& entry : golden_cases("resize.json", "shorter_side")) {
    const auto &size = entry["size"], &result = entry["result"];
    const tl::Image image = tl::Resize{entry["side"]}(tl::Image(size[1], size[0], 1), random);
    CHECK(image.height == result[0].get<int64_t>());
    CHECK(image.width == result[1].get<int64_t>());
  }
}

TEST_CASE("The centre is cut out as torchvision does, padded where the picture is smaller") {
  tl::Generator random;
  for (const auto& entry : golden_cases("resize.json", "center_crop")) {
    const int64_t height = entry["size"][0], width = entry["size"][1], size = entry["crop"][0];
    if (entry["crop"][1] != size) continue;  // tl's are square
    CAPTURE(entry.dump());
    tl::Image image(width, height, 1);
    for (int64_t y = 0; y < height; ++y)
      for (int64_t x = 0; x < width; ++x) image.row(y)[x] = static_cast<uint8_t>(1 + (x * 7 + y * 13) % 251);
    const tl::Image out = tl::CenterCrop{size}(image, random);
    REQUIRE(out.width == size);
    REQUIRE(out.height == size);
    bool equal = true;
    for (int64_t i = 0; i < size; ++i)
      for (int64_t j = 0; j < size; ++j) {
        const int64_t y = entry["top"].get<int64_t>() + i, x = entry["left"].get<int64_t>() + j;
        const int expected = y >= 0 && y < height && x >= 0 && x < width ? image.row(y)[x] : 0;
        equal = equal && out.row(i)[j] == expected;
      }
    CHECK(equal);
  }
}

TEST_CASE("ResizeCenterCrop is Resize and CenterCrop") {
  tl::Generator random;
  for (const auto& [width, height] : {std::pair{61, 40}, std::pair{40, 61}, std::pair{33, 33}, std::pair{5, 90}})
    for (const auto& [side, size] : {std::pair{16, 12}, std::pair{17, 12}, std::pair{64, 63}, std::pair{10, 16}})
      for (const auto filter : {tl::Interpolation::bilinear, tl::Interpolation::bicubic}) {
        const tl::Image image = waves(width, height);
        const tl::Image two = tl::CenterCrop{size}(tl::Resize{side, filter}(image, random), random);
        CHECK(tl::ResizeCenterCrop{side, size, filter}(image, random) == two);
      }
}

TEST_CASE("The evaluation pipeline gives torchvision's numbers") {
  for (const auto& entry : golden_cases("resize.json", "evaluation")) {
    tl::Preprocess preprocess;
    preprocess.size = entry["crop"];
    preprocess.resize = entry["side"];
    preprocess.interpolation = tl::parse_interpolation(entry["filter"].get<std::string>());
    for (size_t c = 0; c < 3; ++c) {
      preprocess.mean[c] = entry["mean"][c];
      preprocess.stddev[c] = entry["deviation"][c];
    }
    const auto got = run(tl::eval_transform(preprocess), pattern(entry), 0, 0, 0);
    const auto expected = entry["values"].get<std::vector<double>>();
    REQUIRE(got.size() == expected.size());
    for (size_t i = 0; i < got.size(); ++i) CHECK(got[i] == doctest::Approx(expected[i]).epsilon(1e-6));
  }
}

TEST_CASE("Colours are adjusted as torchvision does, byte for byte") {
  for (const auto& entry : golden_cases("resize.json", "colour")) {
    const auto name = entry["adjust"].get<std::string>();
    const auto adjust = name == "brightness"   ? tl::adjust_brightness
                        : name == "contrast"   ? tl::adjust_contrast
                        : name == "saturation" ? tl::adjust_saturation
                                               : tl::adjust_hue;
    CAPTURE(name);
    CHECK(tl_test::to_hex(adjust(pattern(entry), entry["factor"]).pixels) == entry["bytes"].get<std::string>());
  }
  CHECK_THROWS_AS(tl::adjust_hue(waves(2, 2), 0.6), tl::UsageError);
  CHECK_THROWS_AS(tl::adjust_contrast(tl::Image(2, 2, 1), 0.6), tl::UsageError);
}

TEST_CASE("FR11: a sample's randomness comes from seed, epoch and index alone") {
  tl::Preprocess preprocess;
  preprocess.size = 16;
  const auto pipeline = tl::train_transform(preprocess, {.jitter = {0.4, 0.4, 0.4, 0.1}});
  const tl::Image image = waves(50, 40);
  std::set<std::vector<float>> seen;
  for (uint64_t seed = 0; seed < 2; ++seed)
    for (uint64_t epoch = 0; epoch < 5; ++epoch)
      for (uint64_t index = 0; index < 10; ++index) seen.insert(run(pipeline, image, seed, epoch, index));
  CHECK(seen.size() == 100);  // no two epochs, samples or seeds share their augmentation
  const auto again = run(pipeline, image, 1, 4, 9);
  CHECK(run(pipeline, image, 1, 4, 9) == again);  // whatever ran before
  CHECK(seen.count(again) == 1);
}

TEST_CASE("Resizing, mirroring and normalising in one pass gives the bits of one step after the other") {
  for (const auto order : {tl::ChannelOrder::rgb, tl::ChannelOrder::bgr, tl::ChannelOrder::gray})
    for (const auto& [width, height] : {std::pair{83, 61}, std::pair{40, 170}, std::pair{9, 7}}) {
      tl::Image image(width, height);
      tl::Generator random(4);
      for (uint8_t& sample : image.pixels) sample = static_cast<uint8_t>(random.below(256));
      const tl::Preprocess input{.size = 33, .resize = 37, .channel_order = order};
      for (const auto& pipeline :
           {tl::eval_transform(input), tl::train_transform(input), tl::train_transform(input, {.flip = 1}),
            tl::train_transform(input, {.random_crop = false}), tl::eval_transform({.size = 33, .resize = 20})})
        for (uint64_t epoch = 0; epoch < 4; ++epoch) {
          const size_t count = static_cast<size_t>(pipeline.preprocess().numel());
          std::vector<float> fused(count + 1, -7), apart(count);
          pipeline(image, fused.data(), 1, epoch, 2);
          const auto& p = pipeline.preprocess();
          tl::to_float(pipeline.picture(image, 1, epoch, 2), p.mean, p.stddev, apart.data(), p.channel_order);
          CHECK(fused.back() == -7);
          fused.pop_back();
          CHECK(fused == apart);
        }
    }
}

TEST_CASE("FR20: evaluating twice gives the same bits, whatever the seed") {
  tl::Preprocess preprocess;
  preprocess.size = 16;
  const auto pipeline = tl::eval_transform(preprocess);
  const tl::Image image = waves(50, 40);
  CHECK(run(pipeline, image, 0, 0, 0) == run(pipeline, image, 9, 3, 7));
}

TEST_CASE("RandomResizedCrop keeps to its scale, its ratio and the picture") {
  tl::Generator random(4);
  const tl::RandomResizedCrop crop{.size = 8};
  double area = 0;
  constexpr int kDraws = 4000;
  for (int i = 0; i < kDraws; ++i) {
    const tl::Rect rect = crop.draw(300, 200, random);
    CHECK((rect.x >= 0 && rect.y >= 0 && rect.x + rect.width <= 300 && rect.y + rect.height <= 200));
    const double ratio = static_cast<double>(rect.width) / static_cast<double>(rect.height);
    CHECK((ratio > 0.72 && ratio < 1.38));
    area += static_cast<double>(rect.width * rect.height) / (300.0 * 200.0);
  }
  CHECK(area / kDraws == doctest::Approx(0.39).epsilon(0.03));  // as torchvision: what does not fit is drawn again
  // A strip that no draw fits: the central part of the nearest ratio.
  const tl::RandomResizedCrop whole{.size = 8, .scale = {1, 1}, .ratio = {1, 1}};
  const tl::Rect wide = whole.draw(100, 10, random);
  CHECK((wide.x == 45 && wide.y == 0 && wide.width == 10 && wide.height == 10));
  const tl::Rect tall = whole.draw(10, 100, random);
  CHECK((tall.x == 0 && tall.y == 45 && tall.width == 10 && tall.height == 10));
  CHECK(crop.draw(1, 1, random).width == 1);
}

TEST_CASE("RandomHorizontalFlip mirrors about half of the time") {
  const tl::Image image = waves(5, 3);
  const tl::Image mirrored = tl::flip_horizontally(image);
  CHECK(mirrored.row(1)[0] == image.row(1)[12]);
  CHECK(mirrored.row(1)[2] == image.row(1)[14]);
  CHECK(tl::flip_horizontally(mirrored) == image);
  int flips = 0;
  for (uint64_t i = 0; i < 1000; ++i) {
    auto random = tl::sample_generator(1, 2, i);
    flips += tl::RandomHorizontalFlip{}(image, random) == mirrored;
  }
  CHECK(flips > 440);
  CHECK(flips < 560);
}

TEST_CASE("Channel order and grey reach the network as declared") {
  tl::Image pixel(1, 1);
  pixel.pixels = {10, 20, 30};
  const std::array<float, 3> mean = {0, 0, 0}, deviation = {1, 0.5f, 0.25f};
  float out[3];
  tl::to_float(pixel, mean, deviation, out);
  CHECK(out[0] == 10 / 255.0f);
  CHECK(out[1] == 20 / 255.0f / 0.5f);
  tl::to_float(pixel, mean, deviation, out, tl::ChannelOrder::bgr);
  CHECK(out[0] == 30 / 255.0f);
  CHECK(out[2] == 10 / 255.0f / 0.25f);
  tl::to_float(pixel, mean, deviation, out, tl::ChannelOrder::gray);
  CHECK(out[0] == 18 / 255.0f);  // 0.299 * 10 + 0.587 * 20 + 0.114 * 30 = 18.15
}

TEST_CASE("A pipeline says what it expects") {
  tl::Preprocess preprocess;
  CHECK(preprocess.resize_side() == 256);
  preprocess.resize = 232;
  CHECK(preprocess.resize_side() == 232);
  CHECK_THROWS_AS(tl::eval_transform({.size = 0}), tl::UsageError);
  CHECK_THROWS_AS(tl::eval_transform({.crop_fraction = 0}), tl::UsageError);
  CHECK_THROWS_AS(tl::eval_transform({.stddev = {1, 0, 1}}), tl::UsageError);
  CHECK_THROWS_AS(tl::eval_transform({.mean = {0, std::numeric_limits<float>::quiet_NaN(), 0}}), tl::UsageError);
  const tl::Pipeline wrong({.size = 8}, {tl::ResizeTo{9, 8}});
  CHECK_THROWS_WITH_AS(run(wrong, waves(5, 5), 0, 0, 0), "transforms: expected to end with 8 x 8, got 9 x 8",
                       tl::UsageError);
  CHECK(tl::parse_channel_order("bgr") == tl::ChannelOrder::bgr);
  CHECK_THROWS_WITH_AS(tl::parse_interpolation("lanczos"), "interpolation: expected bilinear or bicubic, got lanczos",
                       tl::UsageError);
  CHECK_THROWS_AS(tl::parse_channel_order("rbg"), tl::UsageError);
}

TEST_CASE("FR19: a buffer gives the file's numbers, whatever its layout") {
  const tl::Image image = waves(7, 5);
  const auto pixels = static_cast<int64_t>(image.pixels.size()) / 3;
  const auto view = [&](const void* data, tl::PixelFormat format, int64_t stride = 0) {
    return tl::to_image({data, image.width, image.height, stride, format});
  };
  std::vector<uint8_t> bgr, rgba, bgra, padded;
  std::vector<float> floats, swapped;
  for (int64_t i = 0; i < pixels; ++i) {
    const uint8_t* p = &image.pixels[static_cast<size_t>(3 * i)];
    bgr.insert(bgr.end(), {p[2], p[1], p[0]});
    rgba.insert(rgba.end(), {p[0], p[1], p[2], 255});
    bgra.insert(bgra.end(), {p[2], p[1], p[0], 255});
    for (int c = 0; c < 3; ++c) {
      floats.push_back(static_cast<float>(p[c]) / 255.0f);
      swapped.push_back(static_cast<float>(p[2 - c]) / 255.0f);
    }
    if (i % image.width == 0 && i > 0) padded.insert(padded.end(), 11, 0);
    padded.insert(padded.end(), p, p + 3);
  }
  CHECK(view(image.pixels.data(), tl::PixelFormat::rgb8) == image);
  CHECK(view(padded.data(), tl::PixelFormat::rgb8, 3 * 7 + 11) == image);
  CHECK(view(bgr.data(), tl::PixelFormat::bgr8) == image);
  CHECK(view(rgba.data(), tl::PixelFormat::rgba8) == image);
  CHECK(view(bgra.data(), tl::PixelFormat::bgra8) == image);
  CHECK(view(floats.data(), tl::PixelFormat::rgb_f32) == image);
  CHECK(view(swapped.data(), tl::PixelFormat::bgr_f32) == image);
  const uint8_t grey[] = {0, 9, 255};
  CHECK(tl::to_image({grey, 3, 1, 0, tl::PixelFormat::gray8}).pixels ==
        std::vector<uint8_t>{0, 0, 0, 9, 9, 9, 255, 255, 255});
  const float grey_floats[] = {0.0f, 0.5f, 1.0f};
  CHECK(tl::to_image({grey_floats, 3, 1, 0, tl::PixelFormat::gray_f32}).pixels[3] == 128);

  CHECK_THROWS_AS(view(nullptr, tl::PixelFormat::rgb8), tl::UsageError);
  CHECK_THROWS_WITH_AS(view(image.pixels.data(), tl::PixelFormat::rgb8, 20),
                       "to_image: expected a stride of at least 21 bytes, got 20", tl::UsageError);
}

TEST_CASE("FR19: floats of the wrong range are warned of, once") {
  const Warnings warnings;
  const float right[] = {0, 0.25f, 1.02f}, wrong[] = {0, 128, 255};
  const float odd[] = {std::numeric_limits<float>::quiet_NaN(), -1, std::numeric_limits<float>::infinity()};
  tl::to_image({right, 1, 1, 0, tl::PixelFormat::rgb_f32});
  CHECK(warnings.texts.empty());
  CHECK(tl::to_image({wrong, 1, 1, 0, tl::PixelFormat::rgb_f32}).pixels == std::vector<uint8_t>{0, 255, 255});
  CHECK(tl::to_image({odd, 1, 1, 0, tl::PixelFormat::rgb_f32}).pixels == std::vector<uint8_t>{0, 0, 255});
  REQUIRE(warnings.texts.size() == 1);
  CHECK(warnings.texts[0].find("floats from 0 to 1") != std::string::npos);
}
