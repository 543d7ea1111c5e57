// Recommendations: better weights come first, sizes decide the strategy, noise is recognised, bad input is refused.
#include "tl/train/recommend.hpp"

#include "folder.hpp"
#include "tl/ops/loss.hpp"
#include "train/tasks.hpp"

namespace {

using namespace tl;

/// Noise whose class cannot be seen.
class NoisePictures final : public PictureDataset {
 public:
  explicit NoisePictures(int64_t count) : count_(count) {}
  int64_t size() const override { return count_; }
  Image picture(int64_t i) const override {
    Generator generator(99, static_cast<uint64_t>(i));
    Image out(12, 12);
    for (int64_t y = 0; y < 12; ++y)
      for (int64_t x = 0; x < 36; ++x) out.row(y)[x] = static_cast<uint8_t>(generator.below(256));
    return out;
  }
  int64_t label(int64_t i) const override { return i % 2; }
  std::string name(int64_t i) const override { return "noise " + std::to_string(i); }
  const std::vector<std::string>& classes() const override { return classes_; }

 private:
  int64_t count_;
  std::vector<std::string> classes_{"one", "other"};
};

/// Stripes with labels of one's own, and pictures of some class that cannot be read.
class Relabelled final : public PictureDataset {
 public:
  Relabelled(std::vector<int64_t> labels, std::vector<std::string> classes, int64_t broken = -1)
      : labels_(std::move(labels)), classes_(std::move(classes)), broken_(broken), stripes_(std::ssize(labels_)) {}
  int64_t size() const override { return std::ssize(labels_); }
  Image picture(int64_t i) const override {
    require<IoError>(label(i) != broken_, "cannot be read");
    return stripes_.picture(i);
  }
  int64_t label(int64_t i) const override { return labels_[static_cast<size_t>(i)]; }
  std::string name(int64_t i) const override { return stripes_.name(i); }
  const std::vector<std::string>& classes() const override { return classes_; }

 private:
  std::vector<int64_t> labels_;
  std::vector<std::string> classes_;
  int64_t broken_;
  tl_test::Stripes stripes_;
};

View view_of(std::shared_ptr<PictureDataset> data) {
  return View(std::move(data), eval_transform(tl_test::stripes_input()));
}

View stripes(int64_t count) { return view_of(std::make_shared<tl_test::Stripes>(count, 12, 5)); }

/// Two files: LeNet that learnt stripes, and LeNet with random weights and no head.
struct Files {
  tl_test::Folder folder;
  std::string taught = folder / "taught.safetensors", random = folder / "random.safetensors";

  Files() {
    manual_seed(1);
    models::ModelInfo info{.arch = "lenet", .classes = {"vertical", "horizontal", "rising", "falling"}};
    info.options.classes = 4;
    const auto net = models::create("lenet", info.options);
    info.preprocess = tl_test::stripes_input(28);
    std::vector<NamedTensor> headless;
    for (const auto& entry : state_dict(*net))
      if (!entry.name.starts_with(net->head_name() + ".")) headless.push_back(entry);
    write_safetensors(random, headless, {{"arch", "lenet"}, {"format", "tl"}});
    optim::AdamW optimizer(optim::param_groups(*net, 2e-3));
    Loader source(View(std::make_shared<tl_test::Stripes>(256), eval_transform(info.preprocess)), {.shuffle = true});
    fit(*net, optimizer, source, nullptr, 4, {.epochs = 12});
    models::save_image_model(taught, *net, info);
  }
};

const Files& files() {
  static const Files made;
  return made;
}

}  // namespace

TEST_CASE("weights that know the task come first, with scores, times and reasons") {
  const Recommendation advice = recommend({{files().random}, {files().taught}}, stripes(200));
  REQUIRE(advice.candidates.size() == 2);
  const CandidateReport &best = advice.candidates[0], &other = advice.candidates[1];
  CHECK(best.weights == files().taught);
  CHECK(best.log_me > other.log_me);
  CHECK(best.shrunk_h_score > other.shrunk_h_score);
  CHECK(best.above_chance() > 10);
  CHECK(best.leep > -0.7);
  CHECK(best.nce > -0.7);
  CHECK(best.source_entropy < 0.7);
  CHECK(best.features == 84);
  CHECK(best.parameters == 61'706 - 6 * 85);
  for (const double missing : {other.leep, other.nce, other.source_entropy}) CHECK(missing != missing);  // no head
  for (const auto& report : advice.candidates) {
    CHECK(report.forward_seconds > 0);
    CHECK(report.step_seconds > report.head_seconds);
    CHECK(std::abs(report.chance - other.chance) < 0.1);
    CHECK_FALSE(report.deviation <= 0);
  }
  CHECK(advice.warning.empty());
  CHECK(advice.train_pictures == 200);
  CHECK(advice.scored_pictures == 200);

  REQUIRE(advice.choices.size() == 4);
  CHECK(advice.choices[0].weights == files().taught);
  CHECK(advice.choices[0].strategy == "features");
  CHECK(advice.choices[1].weights == files().taught);
  CHECK(advice.choices[1].strategy == "lp_ft");
  CHECK(advice.choices[2].weights == files().random);
  for (const Choice& choice : advice.choices) {
    CHECK(choice.seconds ==
          doctest::Approx(choice.setup_seconds + static_cast<double>(choice.options.epochs) * choice.epoch_seconds));
    CHECK(find_strategy(choice.strategy).name == choice.strategy);
    CHECK(choice.why.find(choice.strategy + " with ") == 0);
    CHECK(choice.why.find("LogME") != std::string::npos);
  }
  CHECK(advice.why == advice.choices[0].why);
  CHECK(advice.why.find("next comes random.safetensors") != std::string::npos);
}

TEST_CASE("the number of pictures decides the strategy, also when the scores look at a sample alone") {
  const auto first = [&](int64_t count) {
    const auto advice = recommend({{files().taught}}, stripes(count), {.pictures = 40, .timed_steps = 1});
    CHECK(advice.train_pictures == count);
    CHECK(advice.scored_pictures == std::min<int64_t>(count, 40));
    return advice.choices[0];
  };
  CHECK(first(60).strategy == "features");
  CHECK(first(60).options.weight_decay > first(100).options.weight_decay);
  CHECK(first(999).strategy == "features");
  CHECK(first(1000).strategy == "finetune");
}

TEST_CASE("a choice can be trained as it stands") {
  const View train = stripes(120);
  const Choice choice = recommend({{files().taught}}, train, {.timed_steps = 1}).choices[0];
  auto model = models::load_image_model(choice.weights, choice.arch);
  const Pipeline input = eval_transform(model.info.preprocess);
  const FitResult result =
      train_with_strategy(choice.strategy, model, View(train.data, train.indices, input),
                          View(std::make_shared<tl_test::Stripes>(80, 12, 6), input), choice.options);
  CHECK(result.last_accuracy > 0.8);
}

TEST_CASE("noise whose classes cannot be seen is told from pictures, and the advice warns") {
  const View noise = view_of(std::make_shared<NoisePictures>(160));
  for (const uint64_t seed : {0, 1, 2}) {
    const auto advice = recommend({{files().taught}, {files().random}}, noise, {.timed_steps = 1, .seed = seed});
    CHECK(advice.warning.find("unlike") != std::string::npos);
    for (const auto& report : advice.candidates) CHECK(report.unlike());
    CHECK(advice.choices[0].strategy == "lp_ft");  // frozen features know nothing
    CHECK(recommend({{files().taught}}, stripes(160), {.timed_steps = 1, .seed = seed}).warning.empty());
  }
}

TEST_CASE("scores follow from the seed, whatever the threads") {
  const auto scores = [&](uint64_t seed) {
    const auto advice = recommend({{files().taught}}, stripes(120), {.pictures = 60, .timed_steps = 1, .seed = seed});
    const auto& c = advice.candidates[0];
    return std::vector<double>{c.log_me, c.chance, c.deviation, c.leep, c.nce, c.trans_rate, c.shrunk_h_score};
  };
  set_threads(1);
  const auto once = scores(3);
  set_threads(2);
  CHECK(scores(3) == once);
  CHECK(scores(4) != once);
  set_threads(available_threads());
}

TEST_CASE("bad data and files are refused with what to do") {
  const auto labelled = [](std::vector<int64_t> labels, std::vector<std::string> classes, int64_t broken = -1) {
    return view_of(std::make_shared<Relabelled>(std::move(labels), std::move(classes), broken));
  };
  const std::vector<Candidate> good{{files().taught}};
  CHECK_THROWS_AS(recommend({}, stripes(20)), UsageError);
  CHECK_THROWS_AS(recommend(good, stripes(20), {.pictures = 1}), UsageError);
  CHECK_THROWS_WITH_AS(
      recommend(good, labelled({0, 0, 0}, {"ants"})),
      "recommend: all 3 pictures are of one class, ants. Hint: a folder for each class, and at least two of them.",
      UsageError);
  CHECK_THROWS_WITH_AS(recommend(good, labelled({0, 0, 2, 2}, {"ants", "bees", "wasps"})),
                       "recommend: class bees has 0 pictures, but needs two at least. "
                       "Hint: add pictures, or take the class out.",
                       UsageError);
  CHECK_THROWS_AS(recommend(good, labelled({0, 0, 1}, {"ants", "bees"})), UsageError);
  CHECK_THROWS_AS(recommend(good, labelled({0, 0, 1, 1}, {"ants", "bees"}, 1)), UsageError);  // all bees are broken

  const std::string garbage = files().folder / "garbage.safetensors";
  tl_test::put_file(garbage, "no weights");
  for (const std::string& file : {garbage, files().folder / "none.safetensors"}) {
    CAPTURE(file);
    try {
      recommend({{files().taught}, {file}}, stripes(20), {.timed_steps = 1});
      FAIL("expected an error");
    } catch (const IoError& error) {
      CHECK(std::string(error.what()).find(file) != std::string::npos);
      CHECK(std::string(error.what()).find("Hint: leave them out") != std::string::npos);
    }
  }
}
