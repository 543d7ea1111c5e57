// Lecture 2: a network of your own, trained from nothing.
//
// You learn: how a module lists its members, what an optimizer's groups are, and what a training loop does. The loop
// here is written out; lecture 5 uses the library's.
//
//   ./02_train_from_scratch                  three interleaved spirals, made up on the spot
//   ./02_train_from_scratch --idx FOLDER     digits or clothes in IDX files (train-images-idx3-ubyte[.gz], ...)
//   ./02_train_from_scratch --device cuda    the same on a GPU, if tl was built with CUDA
//
// Expected: spirals, accuracy above 0.97 after 60 epochs (a second or two).
#include "common/program.hpp"

#include <cmath>
#include <filesystem>

#include "tl/tl.hpp"

using namespace tl;

/// Two hidden layers. TL_MEMBERS is the one list from which names, saving, freezing and devices follow: "fc1.weight",
/// ...
struct Mlp : nn::Module {
  nn::Linear fc1, fc2, fc3;
  TL_MEMBERS(fc1, fc2, fc3)

  Mlp(int64_t inputs, int64_t hidden, int64_t classes)
      : fc1(inputs, hidden), fc2(hidden, hidden), fc3(hidden, classes) {}

  Tensor forward(const Tensor& x) override { return fc3(relu(fc2(relu(fc1(x))))); }
};

struct Data {
  Tensor x;  // [N, inputs]
  Tensor y;  // [N], i32
  int64_t classes;
};

Data spirals(int64_t per_class, uint64_t seed) {
  constexpr int64_t kClasses = 3;
  Generator random(seed);
  std::vector<float> points;
  std::vector<int32_t> labels;
  for (int64_t i = 0; i < per_class * kClasses; ++i) {
    const auto c = static_cast<int32_t>(i % kClasses);
    const double radius = random.uniform(0.05, 1.0), angle = 4.0 * radius + 2.0944 * c + 0.1 * random.normal();
    points.push_back(static_cast<float>(radius * std::cos(angle)));
    points.push_back(static_cast<float>(radius * std::sin(angle)));
    labels.push_back(c);
  }
  return {Tensor::from(points, {per_class * kClasses, 2}), Tensor::from(labels, {per_class * kClasses}), kClasses};
}

Data idx(const IdxPair& pair) {
  const IdxPictures pictures = load_idx(pair);
  const int64_t pixels = pictures.images.shape.numel() / std::max<int64_t>(pictures.size(), 1);
  Tensor x = Tensor::empty({pictures.size(), pixels});
  float* to = x.mutable_data<float>();
  for (const uint8_t pixel : pictures.images.bytes) *to++ = (static_cast<float>(pixel) / 255.0f - 0.5f) / 0.5f;
  std::vector<int32_t> labels(pictures.labels.begin(), pictures.labels.end());
  return {x, Tensor::from(labels, {pictures.size()}), pictures.classes};
}

double accuracy(nn::Module& net, const Data& data, Device device) {
  const nn::ModeScope evaluation(net, false);
  const NoGrad no_grad;  // nothing is recorded, nothing is kept
  const Tensor logits = net(data.x.to(device)).to(kCpu);
  const Tensor predicted = argmax(logits, 1);
  int64_t hits = 0;
  for (int64_t i = 0; i < predicted.numel(); ++i) hits += predicted.data<int32_t>()[i] == data.y.data<int32_t>()[i];
  return static_cast<double>(hits) / static_cast<double>(predicted.numel());
}

int main(int argc, char** argv) {
  CLI::App app("Trains a small network from scratch.", "02_train_from_scratch");
  example::CommonOptions common;
  std::string folder;
  int64_t epochs = 60, hidden = 64;
  double rate = 0.05;
  common.add_to(app);
  app.add_option("--idx", folder, "folder with IDX files; without it, made-up spirals");
  app.add_option("--epochs", epochs)->check(example::count())->capture_default_str();
  app.add_option("--hidden", hidden, "width of the hidden layers")->check(example::count())->capture_default_str();
  app.add_option("--lr", rate)->check(example::above_zero())->capture_default_str();

  return example::run(app, argc, argv, [&] {
    const Device device = common.apply();
    Data train = spirals(400, 1), test = spirals(200, 2);
    if (!folder.empty()) {
      const auto pairs = find_idx(folder);
      require<UsageError>(pairs.size() >= 2, folder, ": expected IDX files to train and to test with");
      train = idx(pairs.back().name.find("train") != std::string::npos ? pairs.back() : pairs.front());
      test = idx(pairs.back().name.find("train") != std::string::npos ? pairs.front() : pairs.back());
      train.classes = std::max(train.classes, test.classes);
    }

    Mlp net(train.x.size(1), hidden, train.classes);
    net.to(device);
    optim::Sgd optimizer(optim::param_groups(net, rate, 1e-4), {.momentum = 0.9});
    TensorSource batches(train.x, train.y, {.batch = 64, .shuffle = true, .seed = common.seed});
    const optim::Schedule schedule = optim::cosine(epochs * batches.batches());

    int64_t step = 0;
    double loss_value = 0;
    for (int64_t epoch = 0; epoch < epochs; ++epoch) {
      const auto stream = batches.epoch(epoch);
      for (Batch batch; stream->next(batch);) {
        const Tensor loss = cross_entropy(net(batch.x.to(device)), batch.y.to(device));
        optimizer.zero_grad();
        loss.backward();
        optimizer.step(schedule(step++));
        loss_value = loss.item();
      }
      if (!common.quiet && (epoch + 1) % std::max<int64_t>(epochs / 6, 1) == 0)
        std::printf("epoch %3lld  loss %.4f  test accuracy %.4f\n", static_cast<long long>(epoch + 1), loss_value,
                    accuracy(net, test, device));
    }
    example::print_json({{"train_accuracy", accuracy(net, train, device)},
                         {"test_accuracy", accuracy(net, test, device)},
                         {"parameters", nn::parameter_count(net)},
                         {"device", text(device)}});
    return 0;
  });
}
