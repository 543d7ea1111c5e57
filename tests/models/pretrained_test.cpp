// Pretrained networks against what PyTorch computed with the same weights: outputs, and training step by step.
#include <nlohmann/json.hpp>

#include "reference.hpp"
#include "tl/nn/freeze.hpp"
#include "tl/ops/loss.hpp"
#include "tl/ops/reduce.hpp"
#include "tl/ops/elementwise.hpp"
#include "tl/optim/optimizer.hpp"

namespace {

using namespace tl;
using namespace tl_test;

struct Cifar {
  std::vector<Image> pictures;
  std::vector<int32_t> labels;
};

/// Rows of the batch pictures, which hold one 32 x 32 image each.
Cifar cifar(const std::vector<std::string>& files, const std::string& labels) {
  Cifar out;
  for (const auto& file : files) {
    const Image sheet = load_image((shared("data/cifar10_subset") / file).string());
    for (int64_t row = 0; row < sheet.height; ++row) {
      Image picture(32, 32, 3);
      std::memcpy(picture.pixels.data(), sheet.row(row), picture.pixels.size());
      out.pictures.push_back(std::move(picture));
    }
  }
  std::ifstream in(shared("data/cifar10_subset") / labels);
  for (int32_t label; in >> label;) out.labels.push_back(label);
  REQUIRE(out.labels.size() >= out.pictures.size());
  return out;
}

nlohmann::json json_file(const std::filesystem::path& path) { return nlohmann::json::parse(std::ifstream(path)); }

std::unique_ptr<models::ImageClassifier> load_net(const std::string& arch, const std::string& path,
                                                  models::ModelOptions options = {}) {
  auto net = models::create(arch, options);
  load_state_dict(*net, SafetensorsFile(path));
  return net;
}

/// Losses of the golden steps against those of tl, one batch of labels after another.
void check_steps(models::ImageClassifier& net, std::vector<optim::ParamGroup> groups, const nlohmann::json& golden,
                 const std::function<std::pair<Tensor, Tensor>(int)>& batch) {
  optim::Sgd optimizer(std::move(groups), {.momentum = 0.9});
  net.train();
  const auto losses = golden.at("loss").get<std::vector<double>>();
  for (size_t step = 0; step < losses.size(); ++step) {
    const auto [x, y] = batch(static_cast<int>(step));
    const Tensor loss = cross_entropy(net(x), y);
    CHECK(loss.item() == doctest::Approx(losses[step]).epsilon(1e-3));
    optimizer.zero_grad();
    loss.backward();
    optimizer.step();
  }
}

void check_cifar(int depth) {
  const std::string name = "cifar_resnet" + std::to_string(depth);
  const std::map<int, std::string> files{
      {20, "resnet20-12fca82f.th"}, {44, "resnet44-014dd654.th"}, {56, "resnet56-4bfd9763.th"}};
  const auto source = shared("data/cifar_resnet") / files.at(depth);
  TL_NEEDS(source);
  TL_NEEDS(shared("goldens"));
  const std::string weights = converted(source);
  REQUIRE(!weights.empty());
  const auto golden = json_file(shared("goldens") / (name + ".json"));

  {
    const auto net = load_net(name, weights, {.classes = 10});
    net->eval();
    const NoGrad no_grad;
    const Cifar test = cifar({"cifar10_batch_50.png"}, "labels_test_batch_50.txt");
    const Tensor expected = read_npy(shared("goldens") / (name + "_test_logits.npy"));
    const Tensor logits = (*net)(to_batch(test.pictures, net->preprocess()));
    CHECK(largest_difference(logits, expected) < 1e-3);
    const Tensor top = argmax(logits, 1), top_expected = argmax(expected, 1);
    int64_t correct = 0;
    for (int64_t i = 0; i < top.numel(); ++i) {
      CHECK(top.data<int32_t>()[i] == top_expected.data<int32_t>()[i]);
      correct += top.data<int32_t>()[i] == test.labels[static_cast<size_t>(i)];
    }
    CHECK(static_cast<double>(correct) / 1000 == doctest::Approx(golden.at("test_top1").get<double>()));
  }

  const Cifar train = cifar({"cifar10_batch_0.png"}, "labels_train_batch_0_to_3.txt");
  const auto batch = [&](int step) {
    const auto first = train.pictures.begin() + 64 * step;
    std::vector<int32_t> animal;
    for (int i = 64 * step; i < 64 * (step + 1); ++i) {
      const int32_t label = train.labels[static_cast<size_t>(i)];
      animal.push_back(label >= 2 && label <= 7 ? 1 : 0);
    }
    return std::pair(to_batch({first, first + 64}, Preprocess{}), Tensor::from(animal, {64}));
  };
  for (const auto& [mode, steps] : golden.at("steps").items()) {
    CAPTURE(mode);
    const auto net = load_net(name, weights, {.classes = 10});
    set_closed_form_head(*net, 2);
    auto groups = optim::param_groups(*net, 0.01, 1e-4);
    if (mode == "frozen")
      for (const char* glob : {"conv1", "bn1", "layer[12].**"}) freeze(*net, glob);
    if (mode == "head") freeze_all_but(*net, "linear");
    if (mode == "layerwise") groups = optim::layerwise_groups(*net, net->stages(), 0.01, 0.5, 1e-4);
    check_steps(*net, std::move(groups), steps, batch);
  }
}

}  // namespace

TEST_CASE("CIFAR ResNet-20: test logits and twelve steps as in PyTorch") { check_cifar(20); }
TEST_CASE("CIFAR ResNet-44: test logits and twelve steps as in PyTorch") { check_cifar(44); }
TEST_CASE("CIFAR ResNet-56: test logits and twelve steps as in PyTorch") { check_cifar(56); }

TEST_CASE("EfficientNet-Lite0: logits, features and six steps as in PyTorch") {
  TL_NEEDS(shared("goldens"));
  TL_NEEDS(shared("data/imagenet_samples"));
  const std::string weights = fetched("efficientnet_lite0");
  if (weights.empty()) TL_SKIP("weights/fetch.py could not get efficientnet_lite0");
  const auto golden = json_file(shared("goldens") / "efficientnet_lite0.json");

  std::vector<Image> pictures;
  for (const auto& file : golden.at("files"))
    pictures.push_back(load_image((shared("data/imagenet_samples") / file.get<std::string>()).string()));
  const models::ModelOptions options{.dropout = 0};
  {
    const auto net = load_net("efficientnet_lite0", weights, options);
    net->eval();
    const NoGrad no_grad;
    const Tensor features = net->features(to_batch(pictures, net->preprocess())), logits = net->classify(features);
    const Tensor top = argmax(logits, 1);
    for (int64_t i = 0; i < 7; ++i) {
      const auto at = static_cast<size_t>(i);
      CHECK(top.data<int32_t>()[i] == golden["top1"][at].get<int32_t>());
      const auto near = [&](const Tensor& got, const nlohmann::json& first) {
        for (size_t k = 0; k < first.size(); ++k) {
          const double value = static_cast<double>(got.data<float>()[i * got.size(1) + static_cast<int64_t>(k)]);
          CHECK(std::abs(value - first[k].get<double>()) < 1e-3);
        }
      };
      near(logits, golden["logits_first_10"][at]);
      near(features, golden["features_first_10"][at]);
      CHECK(sum(slice(logits, 0, i, i + 1)).item() ==
            doctest::Approx(golden["logits_sum"][at].get<double>()).epsilon(1e-3));
      CHECK(sum(slice(features, 0, i, i + 1)).item() ==
            doctest::Approx(golden["features_sum"][at].get<double>()).epsilon(1e-3));
    }
  }

  const Tensor labels = Tensor::from<int32_t>({0, 1, 2, 3, 4, 5, 6}, {7});
  for (const auto& [mode, steps] : golden.at("steps").items()) {
    CAPTURE(mode);
    const auto net = load_net("efficientnet_lite0", weights, options);
    set_closed_form_head(*net, 7);
    if (mode == "frozen")
      for (const char* glob : {"conv_stem", "bn1", "blocks.[0-3].**"}) freeze(*net, glob);
    if (mode == "head") freeze_all_but(*net, "classifier");
    const Tensor x = to_batch(pictures, net->preprocess());
    check_steps(*net, optim::param_groups(*net, 0.01, 1e-4), steps, [&](int) { return std::pair(x, labels); });

    const auto& bias = dynamic_cast<nn::Linear&>(nn::find_module(*net, "classifier")).bias.value();
    const auto& mean = dynamic_cast<nn::BatchNorm2d&>(nn::find_module(*net, "bn2")).running_mean.value();
    for (size_t i = 0; i < 7; ++i)
      CHECK(std::abs(static_cast<double>(bias.values<float>()[i]) - steps["classifier.bias"][i].get<double>()) < 1e-4);
    for (size_t i = 0; i < 5; ++i)
      CHECK(std::abs(static_cast<double>(mean.values<float>()[i]) -
                     steps["bn2.running_mean_first_5"][i].get<double>()) < 1e-3);
  }
}

TEST_CASE("SqueezeNet 1.1: the three golden outputs") {
  const auto folder = shared("data/imagenet_squeezenet11");
  TL_NEEDS(folder);
  const std::string weights = converted(folder / "squeezenet1_1.safetensors");
  REQUIRE(!weights.empty());
  const auto net = load_net("squeezenet1_1", weights);
  net->eval();
  const NoGrad no_grad;
  for (int i = 0; i < 3; ++i) {
    const Tensor x = read_npy(folder / ("golden_" + std::to_string(i) + "_input.npy"));
    const Tensor y = read_npy(folder / ("golden_" + std::to_string(i) + "_output.npy"));
    const Tensor logits = (*net)(permute(x, {0, 2, 3, 1}));
    const double scale = max(reshape(abs(y), {-1}), 0).item();
    CHECK(largest_difference(logits, y) < 1e-3 * scale);
  }
}

TEST_CASE("MobileNetV2, folded and with BatchNorm: the reference features") {
  const auto samples = shared("data/imagenet_samples");
  TL_NEEDS(samples);
  const Tensor cat = read_npy(samples / "cat_224_torchnorm_input.npy");
  const Tensor x = permute(reshape(cat, {1, 3, 224, 224}), {0, 2, 3, 1});
  const std::tuple<const char*, const char*, const char*> variants[] = {
      {"mobilenet_v2_folded", "data/imagenet_mobilenetv2_folded", "mobilenetv2_folded_features.safetensors"},
      {"mobilenet_v2_gluon", "data/imagenet_mobilenetv2_bn", ""}};
  for (const auto& [arch, folder, file] : variants) {
    CAPTURE(arch);
    TL_NEEDS(shared(folder));
    std::filesystem::path source = shared(folder) / file;
    if (std::string(file).empty())
      for (const auto& entry : std::filesystem::directory_iterator(shared(folder)))
        if (entry.path().extension() == ".safetensors") source = entry.path();
    const std::string weights = converted(source);
    REQUIRE(!weights.empty());
    auto net = models::create(arch);
    load_state_dict(*net, SafetensorsFile(weights), {.partial = {"classifier.**"}});
    net->eval();
    const NoGrad no_grad;
    const Tensor expected = read_npy(shared(folder) / "cat_224_features_ref.npy");
    CHECK(largest_difference(reshape(net->features(x), {1280}), expected) < 1e-3);
  }
}
