// Models in files: what is needed to use one travels with its weights, and contradictions are refused.
#include "tl/models/model_file.hpp"

#include <cmath>
#include <nlohmann/json.hpp>

#include "folder.hpp"
#include "io/failures.hpp"
#include "tl/models/predict.hpp"
#include "tl/nn/freeze.hpp"

namespace {

using namespace tl;
using namespace tl_test;
using models::ImageModel;
using models::ModelInfo;
using nlohmann::json;

std::string bytes_of(const Tensor& t) { return {static_cast<const char*>(t.raw_data()), t.bytes()}; }

Tensor batch_for(const models::ImageClassifier& net) {
  const Preprocess input = net.preprocess();
  const int64_t size = input.size <= 32 ? input.size : 64;
  Tensor out = Tensor::empty({2, size, size, input.channels()});
  float* x = out.mutable_data<float>();
  for (int64_t i = 0; i < out.numel(); ++i) x[i] = static_cast<float>(std::sin(0.1 + 0.37 * static_cast<double>(i)));
  return out;
}

Tensor logits_of(models::ImageClassifier& net) {
  net.eval();
  const NoGrad no_grad;
  return net(batch_for(net));
}

std::vector<std::string> class_names(int64_t count) {
  std::vector<std::string> out;
  for (int64_t i = 0; i < count; ++i) out.push_back("class " + std::to_string(i));
  return out;
}

/// A LeNet for three classes in a file, whose metadata a test may spoil.
struct LenetFile {
  Folder folder;
  std::string path = folder / "a.safetensors";
  std::unique_ptr<models::ImageClassifier> net;
  Metadata metadata;

  LenetFile() {
    manual_seed(1);
    net = models::create("lenet", {.classes = 3});
    models::save_image_model(path, *net,
                             {.arch = "lenet", .classes = {"a", "b", "c"}, .preprocess = net->preprocess()});
    metadata = SafetensorsFile(path).metadata();
  }

  template <class E>
  std::string refusal(const std::string& key, const std::string& value) const {
    Metadata other = metadata;
    other[key] = value;
    write_safetensors(folder / "bad", state_dict(*net), other);
    return error_of<E>([&] { models::load_image_model(folder / "bad"); });
  }
};

}  // namespace

TEST_CASE("a saved model gives the same logits to the bit in a new object") {
  const Folder folder;
  const std::string path = folder / "a.safetensors";
  for (const std::string arch : {"lenet", "cifar_resnet20", "squeezenet1_1", "mobilenet_v2_gluon",
                                 "mobilenet_v2_folded", "efficientnet_lite0"}) {
    CAPTURE(arch);
    manual_seed(1);
    const auto net = models::create(arch, {.classes = 7});
    for (const auto& b : nn::named_buffers(*net))
      if (b.name.ends_with("running_var")) nn::uniform_(b.buffer->value(), 0.5, 2);
    models::save_image_model(path, *net, {.arch = arch, .classes = class_names(7), .preprocess = net->preprocess()});
    manual_seed(2);
    const ImageModel model = models::load_image_model(path);
    CHECK(model.info.arch == arch);
    CHECK(model.info.classes == class_names(7));
    CHECK(model.info.options.classes == 7);
    CHECK(model.report.matched == model.report.total);
    CHECK(bytes_of(logits_of(*model.net)) == bytes_of(logits_of(*net)));

    // Saved again it is the same file.
    const std::string bytes = get_file(path);
    models::save_image_model(path, *model.net, model.info);
    CHECK(get_file(path) == bytes);
  }
}

TEST_CASE("FR19: preprocessing and the ordered classes travel in the file") {
  const LenetFile file;
  Preprocess odd{.size = 28,
                 .resize = 31,
                 .crop_fraction = 0.9,
                 .interpolation = Interpolation::bicubic,
                 .channel_order = ChannelOrder::gray,
                 .mean = {0.1f, 0.2f, 0.3f},
                 .stddev = {0.7f, 0.8f, 0.9f}};
  const std::vector<std::string> classes = {"zebra", "ant", "caf\xc3\xa9 \"x\", y"};
  models::save_image_model(file.path, *file.net, {.arch = "lenet", .classes = classes, .preprocess = odd},
                           {{"trained_on", "stripes"}});
  const ImageModel model = models::load_image_model(file.path);
  CHECK(model.info.preprocess == odd);
  CHECK(model.info.classes == classes);
  CHECK(SafetensorsFile(file.path).metadata().at("trained_on") == "stripes");
  odd.channel_order = ChannelOrder::bgr;
  models::save_image_model(file.path, *file.net, {.arch = "lenet", .preprocess = odd});
  CHECK(models::load_image_model(file.path).info.preprocess == odd);
  CHECK(models::load_image_model(file.path).info.classes.empty());

  // What the file does not say is the architecture's own.
  write_safetensors(file.path, state_dict(*file.net), {{"arch", "lenet"}});
  CHECK(models::load_image_model(file.path).info.preprocess == file.net->preprocess());
}

TEST_CASE("FR15: constants that are in no tensor come from the file: 30.151 with epsilon 1e-3, 95.346 with 1e-5") {
  const Folder folder;
  const std::string path = folder / "a.safetensors";
  for (const auto& [eps, expected] : {std::pair{1e-3, 30.151}, std::pair{1e-5, 95.346}}) {
    manual_seed(1);
    const auto net = models::create("cifar_resnet20", {.classes = 2, .batch_norm_eps = eps});
    auto& conv = dynamic_cast<nn::Conv2d&>(nn::find_module(*net, "conv1"));
    auto& norm = dynamic_cast<nn::BatchNorm2d&>(nn::find_module(*net, "bn1"));
    conv.weight.value().zero_();
    conv.weight.value().mutable_data<float>()[4 * 3] = 1;  // the centre of the first channel
    norm.running_var.value().fill_(1e-4);
    models::save_image_model(path, *net, {.arch = "cifar_resnet20", .preprocess = net->preprocess()});
    CHECK(json::parse(SafetensorsFile(path).metadata().at("constants"))["bn_eps"] == eps);

    const ImageModel model = models::load_image_model(path);
    CHECK(model.info.options.batch_norm_eps == eps);
    model.net->eval();
    for (const bool folded : {true, false}) {
      const NoGrad no_grad;
      auto& loaded = dynamic_cast<nn::BatchNorm2d&>(nn::find_module(*model.net, "bn1"));
      const Tensor x = Tensor::ones({1, 32, 32, 3});
      const Tensor y = folded ? models::features_at(*model.net, x, "bn1") : loaded(Tensor::ones({1, 1, 1, 16}));
      CHECK(static_cast<double>(y.values<float>()[0]) == doctest::Approx(expected).epsilon(2e-5));
    }
  }
  // The padding rule likewise.
  const auto torch = models::create("efficientnet_lite0", {.classes = 2, .same_padding = false});
  models::save_image_model(path, *torch, {.arch = "efficientnet_lite0", .preprocess = torch->preprocess()});
  const ImageModel model = models::load_image_model(path);
  CHECK(model.info.options.same_padding == false);
  CHECK(bytes_of(logits_of(*model.net)) == bytes_of(logits_of(*torch)));
}

TEST_CASE("FR15: a network that is not what the file was trained with is refused") {
  const LenetFile file;
  CHECK(file.refusal<StateDictError>("constants", "{\"activation\":\"relu6\"}") ==
        file.folder / "bad" + ": was trained with the activation \"relu6\"; tl's lenet has \"relu\"");
  CHECK(file.refusal<StateDictError>("constants", "{\"padding\":\"same_tf\"}") ==
        file.folder / "bad" + ": wants TensorFlow's SAME padding, which tl's lenet has not");
  CHECK(file.refusal<StateDictError>("constants", "{\"activation\":\"relu\",\"padding\":\"torch\"}").empty());
  for (const char* bad : {"{\"bn_eps\":-1}", "{\"bn_eps\":\"x\"}", "{\"padding\":\"valid\"}", "{\"padding\":3}",
                          "{\"activation\":3}", "[", "[]", "7"})
    CHECK_MESSAGE(
        file.refusal<FormatError>("constants", bad).starts_with(file.folder / "bad" + ": __metadata__ constants: "),
        bad);
}

TEST_CASE("what is frozen stays frozen through a file, to the module") {
  const Folder folder;
  const std::string path = folder / "a.safetensors";
  manual_seed(1);
  const auto net = models::create("cifar_resnet20", {.classes = 4});
  for (const char* glob : {"conv1", "bn1", "layer[12].**"}) freeze(*net, glob);
  freeze(*net, "layer3.0.conv1");
  models::save_image_model(path, *net, {.arch = "cifar_resnet20", .preprocess = net->preprocess()});
  const ImageModel model = models::load_image_model(path);
  CHECK(frozen_names(*model.net) == frozen_names(*net));
  CHECK(nn::parameter_count(*model.net, true) == nn::parameter_count(*net, true));
  model.net->train();
  CHECK(!nn::find_module(*model.net, "layer1.0.bn1").training());
  CHECK(nn::find_module(*model.net, "layer3.1.bn1").training());

  unfreeze(*net, "**");
  models::save_image_model(path, *net, {.arch = "cifar_resnet20", .preprocess = net->preprocess()});
  CHECK(frozen_names(*models::load_image_model(path).net).empty());
}

TEST_CASE("each prediction is the network's for its own picture, also after the predictor was moved") {
  const LenetFile file;
  models::ImagePredictor first(file.path);
  models::ImagePredictor predictor = std::move(first);
  const Pipeline pipeline = eval_transform(predictor.model().info.preprocess);
  for (int shade = 0; shade < 3; ++shade) {
    Image picture(40, 30);
    for (int64_t row = 0; row < 30; ++row)
      for (int64_t i = 0; i < 3 * 40; ++i) picture.row(row)[i] = static_cast<uint8_t>((i * row + 50 * shade) % 256);
    Tensor x = Tensor::empty({1, 28, 28, 1});
    pipeline(picture, x.mutable_data<float>());
    const NoGrad no_grad;
    const Tensor logits = (*predictor.model().net)(x);
    const auto expected = logits.values<float>();
    CHECK(predictor.predict(picture).logits == std::vector<float>(expected.begin(), expected.end()));
  }
}

TEST_CASE("a network whose weights are spoilt predicts nothing") {
  const LenetFile file;
  models::ImageModel model = models::load_image_model(file.path);
  nn::select_parameters(*model.net, "fc1.bias")[0].parameter->value().fill_(std::nan(""));
  models::ImagePredictor predictor(std::move(model));
  CHECK_THROWS_WITH_AS(predictor.predict(Image(28, 28)),
                       "predict: the logits are not finite. Hint: the weights are spoilt, or their training diverged.",
                       NumericError);
}

TEST_CASE("the architecture: asked for, contradicted, unknown or not said") {
  const LenetFile file;
  CHECK(models::load_image_model(file.path, "lenet").info.arch == "lenet");
  CHECK_THROWS_WITH_AS(models::load_image_model(file.path, "resnet18"),
                       (file.path + ": holds \"lenet\", asked for \"resnet18\"").c_str(), StateDictError);
  CHECK(file.refusal<FormatError>("arch", "lenett")
            .find("__metadata__ arch: tl has no architecture \"lenett\". Nearest: lenet") != std::string::npos);
  CHECK(file.refusal<FormatError>("arch", std::string(1000000, 'x')).size() < 1000);
  CHECK(file.refusal<StateDictError>("arch", "cifar_resnet20").find("does not fit the network") != std::string::npos);
  write_safetensors(file.path, state_dict(*file.net));
  CHECK_THROWS_AS(models::load_image_model(file.path), StateDictError);
  CHECK(models::load_image_model(file.path, "lenet").net->head_name() == "fc3");
  CHECK_THROWS_AS(models::load_image_model(file.path, "lenett"), UsageError);
  CHECK_THROWS_AS(models::load_image_model(file.folder / "none"), IoError);
}

TEST_CASE("classes: as many names as logits, when saving and when loading") {
  const LenetFile file;
  CHECK_THROWS_WITH_AS(models::save_image_model(file.path, *file.net, {.arch = "lenet", .classes = {"a", "b"}}),
                       "save_image_model: 2 class names for 3 logits", UsageError);
  CHECK(file.refusal<FormatError>("classes", "[\"a\",\"b\"]").find("__metadata__ classes: 2 names for 3 classes") !=
        std::string::npos);
  for (const char* bad : {"", "x", "{}", "7", "[1,2,3]", "[[\"a\"],[\"b\"],[\"c\"]]"})
    CHECK_MESSAGE(file.refusal<FormatError>("classes", bad).find("__metadata__ classes") != std::string::npos, bad);
}

TEST_CASE("preprocessing that cannot be is a FormatError that says where") {
  const LenetFile file;
  for (const char* bad : {"", "[]", "{\"size\":0}", "{\"size\":-28}", "{\"size\":1e30}", "{\"size\":\"28\"}",
                          "{\"mean\":[1,2]}", "{\"std\":[0,0,0]}", "{\"mean\":[1e999,0,0]}", "{\"channels\":\"cmyk\"}",
                          "{\"interpolation\":\"magic\"}", "{\"range\":\"0..255\"}", "{\"crop_fraction\":0}"})
    CHECK_MESSAGE(file.refusal<FormatError>("preprocess", bad).find("__metadata__ preprocess") != std::string::npos,
                  bad);
}

TEST_CASE("what is said to be frozen must exist") {
  const LenetFile file;
  CHECK(file.refusal<Error>("frozen", "[\"fc9.weight\"]").find("fc9.weight") != std::string::npos);
  for (const char* bad : {"x", "7", "{}", "[1]"})
    CHECK_MESSAGE(file.refusal<FormatError>("frozen", bad).find("frozen") != std::string::npos, bad);
}

TEST_CASE(
    "the head is as wide as the file's, also under a prefix; without one it is new; one that does not fit is refused") {
  const LenetFile file;
  auto tensors = state_dict(*file.net);
  for (auto& t : tensors) t.name = "module." + t.name;
  write_safetensors(file.path, tensors, {{"arch", "lenet"}});
  const ImageModel prefixed = models::load_image_model(file.path);
  CHECK(prefixed.info.options.classes == 3);
  CHECK(prefixed.report.notes.size() == 1);
  CHECK(bytes_of(logits_of(*prefixed.net)) == bytes_of(logits_of(*file.net)));

  auto backbone = state_dict(*file.net);
  std::erase_if(backbone, [](const NamedTensor& t) { return t.name.starts_with("fc3."); });
  write_safetensors(file.path, backbone, {{"arch", "lenet"}, {"classes", "[\"a\",\"b\",\"c\"]"}});
  const ImageModel fresh = models::load_image_model(file.path, "", {.classes = 5});
  CHECK(logits_of(*fresh.net).shape() == Shape{2, 5});
  CHECK(fresh.report.missing.size() == 2);
  CHECK(fresh.info.classes.empty());

  // Nothing of the backbone: an error, however much the head may be missing (FR13).
  write_safetensors(file.path, {{"other.weight", Tensor::zeros({2})}}, {{"arch", "lenet"}});
  CHECK_THROWS_AS(models::load_image_model(file.path), StateDictError);

  for (const Shape& shape :
       {Shape{}, Shape{3}, Shape{3, 85}, Shape{int64_t{1} << 40, 0}, Shape{0, 84}, Shape{84, 3}, Shape{3, 42, 2}}) {
    CAPTURE(text(shape));
    auto spoilt = state_dict(*file.net);
    for (auto& t : spoilt)
      if (t.name == "fc3.weight") t.tensor = Tensor::zeros(shape);
    write_safetensors(file.path, spoilt, {{"arch", "lenet"}});
    CHECK(error_of<StateDictError>([&] { models::load_image_model(file.path); }).find("fc3.weight: network [") !=
          std::string::npos);
  }
}
