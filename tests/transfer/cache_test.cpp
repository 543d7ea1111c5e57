#include "tl/transfer/cache.hpp"

#include <algorithm>
#include <numeric>

#include "folder.hpp"
#include "support.hpp"
#include "tl/core/parallel.hpp"
#include "tl/models/create.hpp"
#include "tl/nn/freeze.hpp"
#include "tl/nn/staged.hpp"
#include "tl/ops/index.hpp"
#include "train/tasks.hpp"

namespace {

using namespace tl;
using namespace tl_test;

/// Three stages with all that can be alive; the dropout belongs to the second.
struct Chain : nn::Staged {
  nn::Conv2d conv1{1, 6, {.kernel = 3, .stride = 2, .padding = 1}};
  nn::BatchNorm2d bn1{6};
  nn::Dropout dropout{0.2};
  nn::Conv2d conv2{6, 8, {.kernel = 3, .padding = 1}};
  nn::BatchNorm2d bn2{8};
  nn::Linear fc{8, 4};
  TL_MEMBERS(conv1, bn1, dropout, conv2, bn2, fc)

  std::vector<std::vector<std::string>> stages() const override { return {{"conv1", "bn1"}, {"conv2", "bn2"}, {"fc"}}; }
  Tensor run_stage(size_t stage, const Tensor& x) override {
    if (stage == 0) return conv_bn(conv1, bn1, x, Activation::relu);
    if (stage == 1) return global_avg_pool(conv_bn(conv2, bn2, dropout(x), Activation::relu));
    return fc(x);
  }
  std::string describe() const override { return "Chain"; }
};

/// A network whose statistics are no longer those of the start.
Chain warmed_up() {
  manual_seed(3);
  Chain net;
  const Stripes data(16);
  Tensor x = Tensor::empty({16, 12, 12, 1});
  for (int64_t i = 0; i < 16; ++i) eval_transform(stripes_input())(data.picture(i), x.mutable_data<float>() + i * 144);
  const NoGrad no_grad;
  for (int i = 0; i < 3; ++i) net(x);
  return net;
}

View view_of(int64_t count, bool augmented = false) {
  return {std::make_shared<Stripes>(count),
          augmented ? train_transform(stripes_input(), {.scale = {0.5, 1.0}}) : eval_transform(stripes_input())};
}

struct Warnings {
  std::vector<std::string> texts;
  WarningHandler before = set_warning_handler([this](std::string_view text) { texts.emplace_back(text); });
  ~Warnings() { set_warning_handler(before); }
};

struct Pass {
  std::string rows, labels;
  std::vector<int64_t> indices;
  std::vector<int64_t> sizes;
  friend bool operator==(const Pass&, const Pass&) = default;
};

Pass pass_of(BatchSource& source, int64_t epoch = 0, int64_t first = 0) {
  Pass out;
  const auto stream = source.epoch(epoch, first);
  for (Batch batch; stream->next(batch);) {
    out.rows += bytes_of(batch.x);
    out.labels += bytes_of(batch.y);
    out.indices.insert(out.indices.end(), batch.indices.begin(), batch.indices.end());
    out.sizes.push_back(batch.x.size(0));
  }
  return out;
}

/// Restores the number of threads.
struct Threads {
  int before = threads();
  explicit Threads(int count) { set_threads(count); }
  ~Threads() { set_threads(before); }
};

}  // namespace

TEST_CASE("frozen_prefix ends below the first thing that lives, and says what it is") {
  Chain net = warmed_up();
  CHECK(frozen_prefix(net).stages == 0);
  CHECK(frozen_prefix(net).end == "conv1.weight learns. Hint: freeze(net, \"conv1.weight\").");
  for (auto& p : nn::named_parameters(net)) p.parameter->set_frozen(true);  // as one would in PyTorch (FR01)
  CHECK(frozen_prefix(net).end.starts_with("bn1, BatchNorm2d(6, eps = 1e-05), renews its statistics in training"));
  freeze(net, "bn1");
  CHECK(frozen_prefix(net).stages == 1);
  CHECK(frozen_prefix(net).end ==
        "dropout, Dropout(0.2), draws random numbers in training. Hint: freeze(net, \"dropout\").");
  net.dropout.probability = 0;
  CHECK(frozen_prefix(net).stages == 2);
  CHECK(frozen_prefix(net).end == "the last stage, which is never kept.");
  net.train();
  CHECK(frozen_prefix(net).stages == 2);
  unfreeze(net, "conv2.bias");
  CHECK(frozen_prefix(net).stages == 1);

  nn::Sequential list(nn::Linear(3, 4), nn::ReLU(), nn::Linear(4, 2));
  freeze(list, "0");
  CHECK(frozen_prefix(list).stages == 2);
}

TEST_CASE("FeatureCache refuses what cannot be kept") {
  Chain net = warmed_up();
  CHECK_THROWS_WITH_AS(FeatureCache(net, {}),
                       "FeatureCache: what is cached must be frozen, but in stage 0 of Chain conv1.weight learns. "
                       "Hint: freeze(net, \"conv1.weight\").",
                       UsageError);
  freeze_all_but(net, "fc");
  net.bn2.set_frozen_flag(false);
  CHECK_THROWS_WITH_AS(FeatureCache(net, {.stages = 2}),
                       "FeatureCache: what is cached must be frozen, but in stage 1 of Chain bn2, BatchNorm2d(8, eps = "
                       "1e-05), renews its statistics in training, although its parameters are frozen. Hint: "
                       "freeze_batch_norms(net), or freeze(net, \"bn2\").",
                       UsageError);
  CHECK(FeatureCache(net).stages() == 1);
  CHECK_THROWS_AS(FeatureCache(net, {.storage = CacheStorage::disk}), UsageError);
  CHECK_THROWS_AS(FeatureCache(net, {.dtype = DType::i32}), UsageError);
  CHECK_THROWS_AS(FeatureCache(net, {.batch = 0}), UsageError);
  FeatureCache cache(net);
  CHECK_THROWS_AS(CachedSource(cache, view_of(4), {}, 0), UsageError);
  CHECK_THROWS_AS(CachedSource(cache, view_of(4), {}, int64_t{1} << 40), UsageError);
  CHECK_THROWS_AS(CachedSource(cache, view_of(4), {.batch = 0}), UsageError);
}

TEST_CASE("a CachedSource gives what the prefix makes of a Loader's batches: the same bits however it is kept") {
  Chain net = warmed_up();
  freeze_all_but(net, "fc");
  const Folder folder;
  for (const bool augmented : {false, true})
    for (const uint64_t seed : {0u, 1u, 2u}) {
      CAPTURE(augmented);
      CAPTURE(seed);
      const LoaderOptions options{.batch = 7, .shuffle = true, .seed = seed};
      Loader loader(view_of(23, augmented), options);
      std::vector<Pass> first;  // epochs as the first way gave them
      for (const auto storage : {CacheStorage::memory, CacheStorage::disk, CacheStorage::none})
        for (const int count : {1, 2}) {
          const Threads scope(count);
          FeatureCache cache(net, {.storage = storage, .folder = folder, .batch = 5});
          CachedSource source(cache, view_of(23, augmented), options, 2);
          CHECK(cache.stages() == 2);
          for (const int64_t epoch : {0, 1, 2, 3}) {
            const Pass got = pass_of(source, epoch);
            if (first.size() < 4) first.push_back(got);
            CHECK(got == first[static_cast<size_t>(epoch)]);
            const Pass pictures = pass_of(loader, epoch);
            CHECK(got.indices == pictures.indices);
            CHECK(got.labels == pictures.labels);
            CHECK(got.sizes == pictures.sizes);
          }
          CHECK(pass_of(source, 1, 2).rows == first[1].rows.substr(first[1].rows.size() - 9 * 8 * sizeof(float)));
        }

      // Epoch e sees the pictures that the Loader augments in epoch e mod 2, and their features are the network's own.
      const NoGrad no_grad;
      net.eval();
      for (const int64_t epoch : {1, 2}) {
        Pass& got = first[static_cast<size_t>(epoch)];
        Loader in_order(view_of(23, augmented), {.batch = 23, .seed = seed});
        Batch batch;
        in_order.epoch(augmented ? epoch % 2 : 0)->next(batch);
        const Tensor want = net.run_stages(batch.x, 0, 2);
        for (size_t i = 0; i < got.indices.size(); ++i)
          for (size_t c = 0; c < 8; ++c) {
            float value;
            std::memcpy(&value, got.rows.data() + (i * 8 + c) * sizeof value, sizeof value);
            CHECK(static_cast<double>(value) ==
                  doctest::Approx(static_cast<double>(want.data<float>()[got.indices[i] * 8 + static_cast<int64_t>(c)]))
                      .epsilon(1e-5));
          }
      }
    }
}

TEST_CASE("every network: a sample's features do not depend on its neighbours, and cutting changes no bit") {
  for (const std::string arch : {"cifar_resnet20", "lenet", "squeezenet1_1", "resnet18", "mobilenet_v2",
                                 "mobilenet_v2_folded", "mobilenet_v2_gluon", "efficientnet_lite0"}) {
    CAPTURE(arch);
    manual_seed(1);
    const auto net = models::create(arch, {.classes = 5});
    net->eval();
    const NoGrad no_grad;
    const Preprocess input = net->preprocess();
    const int64_t size = input.size <= 32 ? input.size : 72, count = 8;
    Tensor x = Tensor::empty({count, size, size, input.channels()});
    float* to = x.mutable_data<float>();
    for (int64_t i = 0; i < x.numel(); ++i) to[i] = static_cast<float>(std::sin(0.7 * static_cast<double>(i)));
    const Tensor reversed = gather(x, 0, Tensor::from<int32_t>({7, 6, 5, 4, 3, 2, 1, 0}, {8}));
    for (size_t cut = 1; cut < net->stage_count(); ++cut) {
      CAPTURE(cut);
      const Tensor features = net->run_stages(x, 0, cut), other = net->run_stages(reversed, 0, cut);
      CHECK(bytes_of(net->run_stages(features, cut, net->stage_count())) == bytes_of((*net)(x)));
      const std::string a = bytes_of(features), b = bytes_of(other);
      const size_t row = a.size() / static_cast<size_t>(count);
      for (size_t i = 0; i < static_cast<size_t>(count); ++i)
        CHECK(a.compare(i * row, row, b, (7 - i) * row, row) == 0);
    }
  }
}

TEST_CASE("what is kept is made anew when the boundary moves or numbers change, and only then") {
  Chain net = warmed_up();
  freeze_all_but(net, "fc");
  int64_t computed = 0;
  FeatureCache cache(net, {.batch = 8, .progress = [&](int64_t done, int64_t of) {
                             if (done == of) computed += of;
                           }});
  CachedSource source(cache, view_of(20), {.batch = 10});
  const Pass whole = pass_of(source);
  pass_of(source, 1);
  CHECK(computed == 20);
  CHECK(cache.bytes() == 20 * 8 * 4);

  net.fc.weight.value().fill_(0);  // above the cut
  Tensor& weight = net.conv1.weight.value();
  weight.mutable_data<float>();  // a new version of the same numbers
  CHECK(pass_of(source) == whole);
  CHECK(computed == 20);

  weight.mutable_data<float>()[0] += 1;
  const Pass changed = pass_of(source);
  CHECK(changed.rows != whole.rows);
  CHECK(changed.indices == whole.indices);
  CHECK(computed == 40);

  unfreeze(net, "conv2");
  const auto stream = source.epoch(0);
  CHECK(cache.stages() == 1);
  CHECK(computed == 60);
  Batch batch;
  CHECK(stream->next(batch));
  CHECK(batch.x.shape() == Shape{10, 6, 6, 6});
  CHECK(cache.forward()(batch.x).shape() == Shape{10, 4});
  freeze(net, "conv2");
  pass_of(source);
  CHECK_THROWS_WITH_AS(stream->next(batch),
                       "CachedSource: the frozen part of the network changed during a pass. Hint: freeze, unfreeze and "
                       "load between epochs.",
                       UsageError);

  net.set_frozen(false);
  Loader loader(view_of(20), {.batch = 10});
  CHECK(pass_of(source, 3) == pass_of(loader, 3));
  CHECK(cache.stages() == 0);
  CHECK(cache.bytes() == 0);
}

TEST_CASE(
    "training on what is kept: the same bits in memory, on disk and without, also when unfreezing moves the cut") {
  const auto train = [](CacheStorage storage, const std::string& folder, DType dtype, int64_t budget) {
    Chain net = warmed_up();
    freeze_all_but(net, "fc");
    FeatureCache cache(net, {.storage = storage, .folder = folder, .dtype = dtype, .byte_budget = budget, .batch = 8});
    CachedSource source(cache, view_of(48, true), {.batch = 8, .shuffle = true, .seed = 5}, 2),
        validation(cache, view_of(16), {.batch = 5});
    optim::Sgd optimizer(optim::param_groups(net, 0.05, 0), {.momentum = 0.9});
    std::vector<size_t> cuts;
    FitOptions options;
    options.epochs = 6;
    options.forward = cache.forward();
    options.before_epoch = [&](int64_t epoch, const RunLog&) {
      cuts.push_back(cache.stages());
      if (epoch == 2) unfreeze(net, "conv2"), freeze(net, "dropout");
      if (epoch == 4) net.set_frozen(false);
    };
    const FitResult result = fit(net, optimizer, source, &validation, 4, options);
    CHECK(cuts == std::vector<size_t>{2, 2, 2, 1, 1, 0});
    auto bytes = bytes_of(net);
    bytes["accuracy"] = std::to_string(result.last_accuracy);
    return bytes;
  };
  const Folder folder;
  const Warnings warnings;
  constexpr int64_t kEnough = 1 << 20;
  const auto memory = train(CacheStorage::memory, "", DType::f32, kEnough);
  CHECK(train(CacheStorage::disk, folder, DType::f32, kEnough) == memory);
  CHECK(train(CacheStorage::disk, folder, DType::f32, kEnough) == memory);  // from the files of the run before
  CHECK(train(CacheStorage::none, "", DType::f32, kEnough) == memory);
  CHECK(warnings.texts.empty());
  CHECK(train(CacheStorage::memory, "", DType::f32, 30 * 2 * 8 * 4) == memory);
  CHECK(warnings.texts.size() == 4);  // for each source and cut
  const auto half = train(CacheStorage::memory, "", DType::bf16, kEnough);
  CHECK(half != memory);
  CHECK(train(CacheStorage::none, "", DType::bf16, kEnough) == half);
}

TEST_CASE("beyond the budget samples are computed each time, with the same bits") {
  Chain net = warmed_up();
  freeze_all_but(net, "fc");
  FeatureCache all(net, {.batch = 5}), some(net, {.byte_budget = 11 * 8 * 4 + 3, .batch = 5});
  CachedSource whole(all, view_of(23), {.batch = 6, .shuffle = true}),
      part(some, view_of(23), {.batch = 6, .shuffle = true, .drop_last = true});
  const Warnings warnings;
  const Pass want = pass_of(whole, 1), got = pass_of(part, 1);
  CHECK(got.rows == want.rows.substr(0, 18 * 8 * 4));
  CHECK(some.bytes() == 11 * 8 * 4);
  REQUIRE(warnings.texts.size() == 1);
  CHECK(
      warnings.texts[0].starts_with("CachedSource: there is room for 11 of 23 samples, the others are computed in "
                                    "each epoch; all need 736 bytes. Hint: a larger byte_budget"));
  {
    CachedSource late(some, view_of(3));
    pass_of(late);
    CHECK(warnings.texts.size() == 2);
  }
  CHECK(some.bytes() == 11 * 8 * 4);
}

TEST_CASE("files: found again by a later run, told apart by all that they depend on, made anew when damaged") {
  Chain net = warmed_up();
  freeze_all_but(net, "fc");
  const Folder folder;
  int64_t computed = 0;
  FeatureCacheOptions options{.storage = CacheStorage::disk, .folder = folder / "new", .batch = 8};
  options.progress = [&](int64_t done, int64_t of) { computed += done == of ? of : 0; };
  const auto run = [&](const FeatureCacheOptions& with, const View& view, uint64_t seed = 0) {
    computed = 0;
    FeatureCache cache(net, with);
    CachedSource source(cache, view, {.batch = 8, .seed = seed});
    return pass_of(source);
  };
  const auto files = [&] {
    std::vector<std::string> out;
    for (const auto& entry : std::filesystem::directory_iterator(folder / "new")) out.push_back(entry.path().string());
    return out;
  };
  const Pass want = run(options, view_of(20));
  CHECK(computed == 20);
  REQUIRE(files().size() == 1);
  const std::string path = files()[0], good = get_file(path);
  CHECK(run(options, view_of(20)) == want);
  CHECK(run(options, view_of(20), 9) == want);  // nothing here draws from the seed
  CHECK(computed == 0);

  const Warnings warnings;
  for (const auto& [bad, why] :
       std::vector<std::pair<std::string, std::string>>{{good.substr(0, good.size() - 1), path},
                                                        {"", path},
                                                        {[&] {
                                                           std::string flipped = good;
                                                           flipped[flipped.size() - 100] ^= 1;
                                                           return flipped;
                                                         }(),
                                                         "damaged: the checksum is another one"}}) {
    put_file(path, bad);
    CHECK(run(options, view_of(20)) == want);
    CHECK(computed == 20);
    REQUIRE(!warnings.texts.empty());
    CHECK(warnings.texts.back().starts_with("made anew: "));
    CHECK(warnings.texts.back().find(why) != std::string::npos);
    CHECK(get_file(path) == good);
  }
  FeatureCacheOptions half = options;
  half.dtype = DType::bf16;
  run(half, view_of(20));
  CHECK(computed == 20);
  CHECK(files().size() == 2);
  const std::string other = files()[0] == path ? files()[1] : files()[0];
  CHECK(get_file(other).size() < good.size());
  put_file(path, get_file(other));  // a good file under a wrong name
  CHECK(run(options, view_of(20)) == want);
  CHECK(computed == 20);
  CHECK(warnings.texts.back().find("not the file that its name says") != std::string::npos);

  run(options, view_of(19));
  run(options, view_of(20, true));
  run(options, view_of(20, true), 1);
  View more_contrast = view_of(20);
  Preprocess input = stripes_input();
  input.stddev[0] = 0.3f;
  run(options, View(more_contrast.data, eval_transform(input)));
  CHECK(files().size() == 6);
  net.conv1.bias.value().fill_(0.5);
  run(options, view_of(20));
  CHECK(files().size() == 7);

  View own(
      std::make_shared<Stripes>(20),
      Pipeline(stripes_input(), {CenterCrop{12}, [](Image image, Generator&) { return flip_horizontally(image); }}));
  CHECK_THROWS_WITH_AS(run(options, own),
                       "CachedSource: files of later runs are found by what the pictures went through, and the "
                       "transforms have steps of your own. Hint: name them in FeatureCacheOptions::own_steps.",
                       UsageError);
  options.own_steps = "mirrored";
  run(options, own);
  CHECK(computed == 20);
  run(options, own);
  CHECK(computed == 0);

  put_file(folder / "file", "");
  options.folder = folder / "file";
  CHECK_THROWS_AS(run(options, view_of(20)), IoError);
}

TEST_CASE("files of pictures are told apart by path, size and time; unreadable ones are left out, as by a Loader") {
  Chain net = warmed_up();
  freeze_all_but(net, "fc");
  const Folder folder;
  Samples samples;
  samples.classes = {"a", "b"};
  const Stripes stripes(6);
  for (int64_t i = 0; i < 6; ++i) {
    samples.items.push_back({folder / (std::to_string(i) + ".png"), i % 2});
    save_png(samples.items.back().path, stripes.picture(i));
  }
  put_file(folder / "2.png", "hello");
  std::filesystem::remove(folder / "5.png");
  int64_t computed = 0;
  const auto run = [&](CacheStorage storage) {
    computed = 0;
    FeatureCache cache(
        net, {.storage = storage, .folder = folder / "cache", .batch = 4, .progress = [&](int64_t done, int64_t of) {
                computed += done == of ? of : 0;
              }});
    CachedSource source(cache, View(picture_files(samples), eval_transform(stripes_input())),
                        {.batch = 3, .shuffle = true});
    const Pass out = pass_of(source, 1);
    if (computed > 0) CHECK(source.broken().size() == 6 - out.indices.size());
    return out;
  };
  const Warnings warnings;
  Loader loader(View(picture_files(samples), eval_transform(stripes_input())), {.batch = 3, .shuffle = true});
  const Pass want = run(CacheStorage::none), pictures = pass_of(loader, 1);
  CHECK(want.indices == pictures.indices);
  CHECK(want.sizes == pictures.sizes);
  for (const auto storage : {CacheStorage::memory, CacheStorage::disk, CacheStorage::disk}) CHECK(run(storage) == want);
  CHECK(computed == 0);
  save_png(folder / "2.png", stripes.picture(2));
  CHECK(run(CacheStorage::disk).indices.size() == 5);
  CHECK(computed == 6);
  std::filesystem::last_write_time(folder / "1.png",
                                   std::filesystem::last_write_time(folder / "1.png") + std::chrono::seconds(2));
  run(CacheStorage::disk);
  CHECK(computed == 6);
}
