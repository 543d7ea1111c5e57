// Labelled pictures: from files, kept in memory within a budget, and from arrays; views that do not touch each other.
#include "tl/data/dataset.hpp"

#include <thread>

#include "folder.hpp"

namespace {

using namespace tl;
using namespace tl_test;

Image plain(uint8_t value, int64_t size = 8) {
  Image out(size, size);
  for (uint8_t& sample : out.pixels) sample = value;
  return out;
}

IdxPictures digits(int64_t count) {
  IdxPictures out;
  out.images = {Shape{count, 2, 2}, {}};
  for (int64_t i = 0; i < 4 * count; ++i) out.images.bytes.push_back(static_cast<uint8_t>(i));
  for (int64_t i = 0; i < count; ++i) out.labels.push_back(i % 3);
  out.classes = 3;
  return out;
}

}  // namespace

TEST_CASE("pictures in files: labels, names, and pixels that stay in memory as long as the budget lasts") {
  const Folder folder;
  Samples samples{.items = {}, .classes = {"a", "b"}};
  for (int i = 0; i < 3; ++i) {
    const std::string path = folder / (std::to_string(i) + ".png");
    save_png(path, plain(static_cast<uint8_t>(50 * i)));
    samples.items.push_back({path, i % 2});
  }
  const auto data = picture_files(samples, {}, 2 * 8 * 8 * 3);
  CHECK(data->size() == 3);
  CHECK(data->classes() == std::vector<std::string>{"a", "b"});
  for (int64_t i = 0; i < 3; ++i) {
    CHECK(data->label(i) == i % 2);
    CHECK(data->name(i) == samples.items[static_cast<size_t>(i)].path);
    CHECK(data->picture(i) == plain(static_cast<uint8_t>(50 * i)));
  }
  // The first two are kept; the third did not fit and is read again.
  std::filesystem::remove_all(folder.path);
  CHECK(data->picture(0) == plain(0));
  CHECK(data->picture(1) == plain(50));
  CHECK_THROWS_AS(data->picture(2), IoError);
  CHECK_THROWS(data->picture(3));
}

TEST_CASE("pictures in files can be read from several threads") {
  const Folder folder;
  Samples samples{.items = {}, .classes = {"a"}};
  for (int i = 0; i < 8; ++i) {
    samples.items.push_back({folder / (std::to_string(i) + ".png"), 0});
    save_png(samples.items.back().path, plain(static_cast<uint8_t>(i)));
  }
  const auto data = picture_files(samples, {}, 5 * 8 * 8 * 3);
  std::vector<std::thread> threads;
  std::vector<int> right(4);
  for (size_t t = 0; t < 4; ++t)
    threads.emplace_back([&, t] {
      for (int round = 0; round < 5; ++round)
        for (int64_t i = 0; i < 8; ++i) right[t] += data->picture(i) == plain(static_cast<uint8_t>(i));
    });
  for (auto& thread : threads) thread.join();
  for (const int count : right) CHECK(count == 40);
}

TEST_CASE("pictures of an IDX pair: grey as three channels, classes named by number or by name") {
  const auto data = picture_array(digits(4));
  CHECK(data->size() == 4);
  CHECK(data->classes() == std::vector<std::string>{"0", "1", "2"});
  CHECK(data->name(3) == "#3");
  CHECK(data->label(2) == 2);
  CHECK(data->picture(1).pixels == std::vector<uint8_t>{4, 4, 4, 5, 5, 5, 6, 6, 6, 7, 7, 7});
  CHECK(picture_array(digits(4), {"x", "y", "z", "never seen"})->classes().size() == 4);
  CHECK_THROWS_WITH_AS(picture_array(digits(4), {"x"}), "picture_array: 1 class names for 3 classes", UsageError);
}

TEST_CASE("FR20: transforms belong to the view: two views of one data set do not touch each other") {
  const std::shared_ptr<const PictureDataset> data = picture_array(digits(5));
  const Preprocess input{.size = 2, .resize = 2, .crop_fraction = 1.0};
  const View plain_view(data, eval_transform(input));
  const View flipped(data, {4, 2}, Pipeline(input, {RandomHorizontalFlip{1.0}}));
  CHECK(plain_view.indices == std::vector<int64_t>{0, 1, 2, 3, 4});
  CHECK(flipped.indices == std::vector<int64_t>{4, 2});
  CHECK(plain_view.data == flipped.data);
  const Image picture = data->picture(2);
  CHECK(plain_view.pipeline.picture(picture) == picture);
  CHECK(flipped.pipeline.picture(picture) == flip_horizontally(picture));
  CHECK(data->picture(2) == picture);
}
