// Batches: what is in them depends on seed, epoch and sample alone, never on threads or luck.
#include "tl/data/loader.hpp"

#include <algorithm>
#include <atomic>
#include <chrono>
#include <set>
#include <thread>

#include "folder.hpp"
#include "tl/core/log.hpp"

namespace {

using namespace tl;
using namespace tl_test;

/// Noise, so that crops of it differ. Some samples can be broken, or fail in a way that is a bug.
class Noise final : public PictureDataset {
 public:
  explicit Noise(int64_t count) : count_(count) {}
  std::set<int64_t> broken, failing;
  mutable std::atomic<int> reads{0};

  int64_t size() const override { return count_; }
  Image picture(int64_t i) const override {
    ++reads;
    if (broken.count(i)) throw FormatError(name(i), "", 7, "cut");
    if (failing.count(i)) throw UsageError("sample " + std::to_string(i) + " cannot be meant");
    Image out(24, 24);
    Generator generator(99, static_cast<uint64_t>(i));
    for (uint8_t& sample : out.pixels) sample = static_cast<uint8_t>(generator.below(256));
    return out;
  }
  int64_t label(int64_t i) const override { return i % 5; }
  std::string name(int64_t i) const override { return "noise " + std::to_string(i); }
  const std::vector<std::string>& classes() const override { return classes_; }

 private:
  int64_t count_;
  std::vector<std::string> classes_{"a", "b", "c", "d", "e"};
};

const Preprocess kInput{.size = 16, .resize = 18};

Pipeline augmented() {
  return train_transform(kInput, {.scale = {0.3, 1.0}, .jitter = {.brightness = 0.4, .hue = 0.1}});
}

std::vector<Batch> all(BatchSource& source, int64_t epoch, int64_t first = 0) {
  std::vector<Batch> out;
  const auto stream = source.epoch(epoch, first);
  for (Batch batch; stream->next(batch);) out.push_back(batch);
  Batch end;
  CHECK(!stream->next(end));
  return out;
}

std::string bytes_of(const Tensor& t) { return {static_cast<const char*>(t.raw_data()), t.bytes()}; }

void check_equal(const std::vector<Batch>& a, const std::vector<Batch>& b) {
  REQUIRE(a.size() == b.size());
  for (size_t i = 0; i < a.size(); ++i) {
    CHECK(a[i].indices == b[i].indices);
    CHECK(bytes_of(a[i].x) == bytes_of(b[i].x));
    CHECK(bytes_of(a[i].y) == bytes_of(b[i].y));
  }
}

std::vector<int64_t> order_of(const std::vector<Batch>& batches) {
  std::vector<int64_t> out;
  for (const auto& batch : batches) out.insert(out.end(), batch.indices.begin(), batch.indices.end());
  return out;
}

/// The numbers of one sample, wherever the order has put it.
std::string sample_of(const std::vector<Batch>& batches, int64_t index) {
  for (const auto& batch : batches)
    for (size_t i = 0; i < batch.indices.size(); ++i)
      if (batch.indices[i] == index) {
        const size_t bytes = batch.x.bytes() / batch.indices.size();
        return bytes_of(batch.x).substr(i * bytes, bytes);
      }
  return "";
}

/// Collects warnings while it lives.
struct Warnings {
  std::vector<std::string> texts;
  WarningHandler before = set_warning_handler([this](std::string_view text) { texts.emplace_back(text); });
  ~Warnings() { set_warning_handler(before); }
};

}  // namespace

TEST_CASE("FR11: 1, 2 and 4 workers give equal batches") {
  const auto data = std::make_shared<Noise>(23);
  const auto epoch = [&](int workers, int64_t number) {
    Loader loader(View(data, augmented()), {.batch = 4, .shuffle = true, .seed = 5, .workers = workers});
    return all(loader, number);
  };
  for (const int64_t number : {0, 3}) {
    const auto one = epoch(1, number);
    CHECK(one.size() == 6);
    CHECK(one.back().x.shape() == Shape{3, 16, 16, 3});
    check_equal(one, epoch(2, number));
    check_equal(one, epoch(4, number));
  }
}

TEST_CASE("FR11: a sample looks different in each epoch, two samples are never transformed alike, and seeds differ") {
  const auto data = std::make_shared<Noise>(12);
  Loader loader(View(data, augmented()), {.batch = 5, .seed = 5}),
      other(View(data, augmented()), {.batch = 5, .seed = 6});
  const auto first = all(loader, 0), second = all(loader, 1), seeded = all(other, 0);
  for (int64_t i = 0; i < 12; ++i) {
    CHECK(sample_of(first, i) != sample_of(second, i));
    CHECK(sample_of(first, i) != sample_of(seeded, i));
    for (int64_t j = 0; j < i; ++j) CHECK(sample_of(first, i) != sample_of(first, j));
  }
  check_equal(first, all(loader, 0));

  // Where a sample comes in the order, and with which others, changes nothing.
  Loader shuffled(View(data, augmented()), {.batch = 3, .shuffle = true, .seed = 5});
  const auto mixed = all(shuffled, 1);
  Loader part(View(data, {7, 2}, augmented()), {.seed = 5});
  for (int64_t i = 0; i < 12; ++i) CHECK(sample_of(mixed, i) == sample_of(second, i));
  CHECK(sample_of(all(part, 1), 7) == sample_of(second, 7));
}

TEST_CASE("FR11: an epoch that is taken up in its middle continues it") {
  const auto data = std::make_shared<Noise>(23);
  Loader loader(View(data, augmented()), {.batch = 4, .shuffle = true, .seed = 5});
  const auto whole = all(loader, 2);
  for (int64_t first = 0; first <= 6; ++first) check_equal({whole.begin() + first, whole.end()}, all(loader, 2, first));
  CHECK(all(loader, 2, 100).empty());
}

TEST_CASE("the order is a permutation that depends on epoch and seed alone") {
  std::set<std::vector<int64_t>> seen;
  for (const uint64_t seed : {1, 2})
    for (const int64_t epoch : {0, 1, 2}) {
      const auto order = epoch_order(50, true, seed, epoch);
      CHECK(order == epoch_order(50, true, seed, epoch));
      CHECK(seen.insert(order).second);
      auto sorted = order;
      std::sort(sorted.begin(), sorted.end());
      CHECK(sorted == epoch_order(50, false, seed, epoch));
    }
  CHECK(epoch_order(0, true, 1, 1).empty());
  const auto data = std::make_shared<Noise>(10);
  Loader loader(View(data, {9, 8, 7, 3}, eval_transform(kInput)), {.batch = 3});
  CHECK(order_of(all(loader, 4)) == std::vector<int64_t>{9, 8, 7, 3});
}

TEST_CASE("sizes: the last batch may be smaller, or left out; labels belong to their samples") {
  const auto data = std::make_shared<Noise>(10);
  const auto make = [&](int64_t batch, bool drop_last) {
    return Loader(View(data, eval_transform(kInput)), {.batch = batch, .drop_last = drop_last});
  };
  Loader keeps = make(4, false), drops = make(4, true), exact = make(5, true), large = make(64, false),
         none = make(64, true);
  CHECK(keeps.batches() == 3);
  CHECK(all(keeps, 0).back().indices.size() == 2);
  CHECK(drops.batches() == 2);
  CHECK(all(drops, 0).size() == 2);
  CHECK(exact.batches() == 2);
  CHECK(all(exact, 0).size() == 2);
  CHECK(all(large, 0).at(0).x.shape() == Shape{10, 16, 16, 3});
  CHECK(none.batches() == 0);
  CHECK(all(none, 0).empty());
  CHECK(keeps.samples() == 10);
  for (const auto& batch : all(keeps, 0))
    for (size_t i = 0; i < batch.indices.size(); ++i) CHECK(batch.y.values<int32_t>()[i] == batch.indices[i] % 5);
  CHECK_THROWS_AS(make(0, false), UsageError);
  CHECK_THROWS_AS(Loader(View(data, eval_transform(kInput)), {.prefetch = 0}), UsageError);
  CHECK_THROWS_WITH_AS(Loader(View(data, {}, eval_transform(kInput))), "Loader: there are no samples", UsageError);
}

TEST_CASE("FR20: going through validation twice gives the same bits, whatever the training view does") {
  const auto data = std::make_shared<Noise>(9);
  Loader train(View(data, augmented()), {.batch = 4, .shuffle = true}),
      validation(View(data, eval_transform(kInput)), {.batch = 4});
  const auto before = all(validation, 0);
  all(train, 0);
  check_equal(before, all(validation, 0));
  check_equal(before, all(validation, 7));
}

TEST_CASE("pictures that cannot be read are left out of their batch and reported once") {
  const auto data = std::make_shared<Noise>(10);
  data->broken = {1, 4, 5, 6, 7};
  const Warnings warnings;
  Loader loader(View(data, eval_transform(kInput)), {.batch = 4, .workers = 2});
  for (int round = 0; round < 2; ++round) {
    const auto batches = all(loader, round);
    REQUIRE(batches.size() == 3);
    CHECK(batches[0].indices == std::vector<int64_t>{0, 2, 3});
    CHECK(batches[0].x.shape() == Shape{3, 16, 16, 3});
    CHECK(batches[0].y.shape() == Shape{3});
    CHECK(batches[1].indices.empty());
    CHECK(batches[1].x.shape() == Shape{0, 16, 16, 3});
    CHECK(batches[2].indices == std::vector<int64_t>{8, 9});
  }
  CHECK(warnings.texts.size() == 5);
  CHECK(std::count(warnings.texts.begin(), warnings.texts.end(), "left out a picture: noise 4: cut (at byte 7)") == 1);
  REQUIRE(loader.broken().size() == 5);
  CHECK(loader.broken()[0].path == "noise 1");
  CHECK(loader.broken()[0].error == "noise 1: cut (at byte 7)");

  // What is left is what it would have been without them.
  Loader whole(View(std::make_shared<Noise>(10), eval_transform(kInput)), {.batch = 4});
  CHECK(sample_of(all(loader, 0), 3) == sample_of(all(whole, 0), 3));
}

TEST_CASE("broken files on disk, and a file that goes missing, do not stop an epoch") {
  const Folder folder;
  Samples samples{.items = {}, .classes = {"a"}};
  for (const char* name : {"good.png", "cut.png", "gone.png", "text.png"}) samples.items.push_back({folder / name, 0});
  save_png(folder / "good.png", Image(20, 20));
  put_file(folder / "cut.png", encode_png(Image(20, 20)).substr(0, 60));
  put_file(folder / "text.png", "hello");
  const Warnings warnings;
  Loader loader(View(picture_files(samples), eval_transform(kInput)), {.batch = 4});
  CHECK(order_of(all(loader, 0)) == std::vector<int64_t>{0});
  CHECK(loader.broken().size() == 3);
}

TEST_CASE("any other error of a worker reaches the caller, and again when asked again") {
  for (const int workers : {1, 4}) {
    const auto data = std::make_shared<Noise>(40);
    data->failing = {13};
    Loader loader(View(data, eval_transform(kInput)), {.batch = 2, .workers = workers});
    const auto stream = loader.epoch(0);
    Batch batch;
    const auto drain = [&] {
      while (stream->next(batch)) {
      }
    };
    CHECK_THROWS_WITH_AS(drain(), "sample 13 cannot be meant", UsageError);
    CHECK_THROWS_AS(stream->next(batch), UsageError);
  }
}

TEST_CASE("a stream that is left early ends at once, and reads no further ahead than it may") {
  const auto data = std::make_shared<Noise>(1000);
  Loader loader(View(data, eval_transform(kInput)), {.batch = 2, .workers = 3, .prefetch = 2});
  for (int i = 0; i < 20; ++i) {
    const auto stream = loader.epoch(i);
    Batch batch;
    for (int k = 0; k < i % 4; ++k) REQUIRE(stream->next(batch));
  }
  data->reads = 0;
  {
    const auto stream = loader.epoch(0);
    Batch batch;
    REQUIRE(stream->next(batch));
    std::this_thread::sleep_for(std::chrono::milliseconds(100));
  }
  CHECK(data->reads <= 2 * (1 + 2));
  // Several at once, and one that outlives its loader.
  std::unique_ptr<BatchStream> survivor;
  {
    Loader gone(View(data, {1, 2, 3}, eval_transform(kInput)), {.batch = 2});
    survivor = gone.epoch(0);
    const auto second = gone.epoch(1);
  }
  Batch batch;
  CHECK(survivor->next(batch));
  CHECK(survivor->next(batch));
  CHECK(!survivor->next(batch));
}

TEST_CASE("TensorSource: rows in memory, in the same orders") {
  std::vector<float> values;
  std::vector<int32_t> labels;
  for (int i = 0; i < 7; ++i) {
    for (int k = 0; k < 3; ++k) values.push_back(static_cast<float>(10 * i + k));
    labels.push_back(i % 2);
  }
  const Tensor x = Tensor::from(values, {7, 3}), y = Tensor::from(labels, {7});
  TensorSource source(x, y, {.batch = 3, .shuffle = true, .seed = 4});
  CHECK(source.samples() == 7);
  CHECK(source.batches() == 3);
  const auto batches = all(source, 1);
  CHECK(order_of(batches) == epoch_order(7, true, 4, 1));
  for (const auto& batch : batches)
    for (size_t i = 0; i < batch.indices.size(); ++i) {
      CHECK(batch.x.values<float>()[3 * i + 2] == static_cast<float>(10 * batch.indices[i] + 2));
      CHECK(batch.y.values<int32_t>()[i] == batch.indices[i] % 2);
    }
  check_equal({batches.begin() + 1, batches.end()}, all(source, 1, 1));
  TensorSource drops(x, y, {.batch = 3, .drop_last = true});
  CHECK(all(drops, 0).size() == 2);

  CHECK_THROWS_WITH_AS(TensorSource(x, Tensor::from(labels, {7, 1}), {}),
                       "TensorSource: x must be [N, ...] and y [N], N above 0; got [7, 3] and [7, 1]", ShapeError);
  CHECK_THROWS_AS(TensorSource(Tensor::zeros({0, 3}), Tensor::zeros({0}, DType::i32), {}), ShapeError);
  CHECK_THROWS_AS(TensorSource(x, y, {.batch = 0}), UsageError);
  CHECK_THROWS_AS(TensorSource(x.to(DType::f64), y, {}), DTypeError);
  CHECK_THROWS_AS(TensorSource(x, y.to(DType::i64), {}), DTypeError);
}
