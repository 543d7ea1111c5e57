// FR16: files of adapters hold everything that was trained, and fit the weights that they were trained on alone.
#include "tl/transfer/adapter_file.hpp"

#include <sys/wait.h>
#include <unistd.h>

#include <cmath>
#include <functional>
#include <nlohmann/json.hpp>

#include "folder.hpp"
#include "io/failures.hpp"
#include "tl/models/model_file.hpp"
#include "tl/nn/freeze.hpp"
#include "tl/ops/elementwise.hpp"

namespace {

using namespace tl;
using namespace tl_test;

Tensor batch(int64_t size = 32) {
  Tensor out = Tensor::empty({2, size, size, 3});
  float* x = out.mutable_data<float>();
  for (int64_t i = 0; i < out.numel(); ++i) x[i] = static_cast<float>(std::sin(0.1 + 0.37 * static_cast<double>(i)));
  return out;
}

/// The same network every time, as one that is loaded from a file of pretrained weights.
std::unique_ptr<models::ImageClassifier> base(uint64_t seed = 3) {
  manual_seed(seed);
  auto net = models::create("cifar_resnet20", {.classes = 4});
  for (const auto& b : nn::named_buffers(*net))
    if (b.name.ends_with("running_var")) nn::uniform_(b.buffer->value(), 0.5, 2);
  manual_seed(seed + 1);  // another head than anybody else's
  net->replace_head(2);
  return net;
}

std::string logits_of(nn::Module& net) {
  const nn::ModeScope evaluation(net, false);
  const NoGrad no_grad;
  const Tensor y = net(batch());
  return {static_cast<const char*>(y.raw_data()), y.bytes()};
}

std::map<std::string, std::string> bytes_of_all(nn::Module& net) {
  std::map<std::string, std::string> out;
  for (const auto& entry : state_dict(net))
    out[entry.name] = {static_cast<const char*>(entry.tensor.raw_data()), entry.tensor.bytes()};
  return out;
}

using Ways = std::vector<std::pair<std::string, std::function<void(nn::Module&)>>>;
Ways ways() {
  return {
      {"lora",
       [](nn::Module& net) { add_lora(net, "**", {.rank = 3, .alpha = 5, .rank_stabilised = true, .windows = true}); }},
      {"ia3", [](nn::Module& net) { add_ia3(net, "layer2.**"); }},
      {"bottleneck",
       [](nn::Module& net) {
         add_bottlenecks(net, "layer*.*", {.width = 5, .activation = Activation::gelu}, batch());
       }},
      {"norms", [](nn::Module& net) { unfreeze_norms(net); }},
      {"biases", [](nn::Module& net) { unfreeze_biases(net); }}};
}

/// Frozen but for the head and what `way` adds, all of it moved as by training: B is not zero.
std::unique_ptr<models::ImageClassifier> trained(const std::function<void(nn::Module&)>& way) {
  auto net = base();
  freeze_all_but(*net, net->head_name());
  way(*net);
  manual_seed(8);
  for (const auto& p : nn::named_parameters(*net)) {
    if (p.parameter->frozen()) continue;
    Tensor noise = Tensor::zeros(p.parameter->value().shape());
    nn::normal_(noise, 0, 0.1);
    const NoGrad no_grad;
    p.parameter->value().copy_from(p.parameter->value() + noise);
  }
  return net;
}

/// A saved file whose metadata and tensors a test may spoil.
struct Saved {
  Folder folder;
  std::string path = folder / "adapters.safetensors";
  std::unique_ptr<models::ImageClassifier> net = trained(ways()[0].second);

  Saved() { save_adapters(path, *net); }

  template <class E>
  std::string refusal(const std::function<void(Metadata&, std::vector<NamedTensor>&)>& spoil) const {
    const SafetensorsFile file(path);
    Metadata metadata = file.metadata();
    std::vector<NamedTensor> tensors;
    for (const auto& [name, entry] : file.entries()) tensors.push_back({name, file.tensor(name)});
    spoil(metadata, tensors);
    write_safetensors(folder / "bad", tensors, metadata);
    const auto other = base();
    const auto before = bytes_of_all(*other);
    const std::string out = error_of<E>([&] { load_adapters(*other, folder / "bad"); });
    CHECK(bytes_of_all(*other) == before);
    CHECK(frozen_names(*other).empty());
    return out;
  }
};

}  // namespace

TEST_CASE("FR16: adapters, head and norms come back on the same base, in a new process too") {
  const Folder folder;
  for (const auto& [name, way] : ways()) {
    CAPTURE(name);
    const auto net = trained(way);
    const std::string expected = logits_of(*net), path = folder / (name + ".safetensors");
    CHECK(expected != logits_of(*base()));
    save_adapters(path, *net, {{"classes", "[\"a\",\"b\"]"}});

    const SafetensorsFile file(path);
    CHECK(file.metadata().at("classes") == "[\"a\",\"b\"]");
    for (const auto& p : nn::named_parameters(*net)) CHECK(file.contains(p.name) == !p.parameter->frozen());
    CHECK(file.entries().size() < state_dict(*net).size());

    const auto other = base();
    load_adapters(*other, path);
    CHECK(logits_of(*other) == expected);
    CHECK(frozen_names(*other) == frozen_names(*net));
    CHECK(bytes_of_all(*other) == bytes_of_all(*net));

    const pid_t child = ::fork();
    if (child == 0) {
      const auto fresh = base();
      load_adapters(*fresh, path);
      ::_exit(logits_of(*fresh) == expected ? 0 : 1);
    }
    int status = -1;
    REQUIRE(::waitpid(child, &status, 0) == child);
    CHECK(status == 0);
  }
}

TEST_CASE("a model file carries its adapters; one that was merged is plain") {
  const Folder folder;
  const std::string path = folder / "a.safetensors";
  for (const auto& [name, way] : ways()) {
    CAPTURE(name);
    const auto net = trained(way);
    const models::ModelInfo info{.arch = "cifar_resnet20", .classes = {"a", "b"}, .preprocess = net->preprocess()};
    models::save_image_model(path, *net, info);
    const auto model = models::load_image_model(path);
    CHECK(logits_of(*model.net) == logits_of(*net));
    CHECK(adapters_of(*model.net).size() == adapters_of(*net).size());
    CHECK(frozen_names(*model.net) == frozen_names(*net));
    if (name != "lora" && name != "ia3") continue;
    merge(*net);
    models::save_image_model(path, *net, info);
    CHECK(SafetensorsFile(path).metadata().count("adapters") == 0);
    const auto plain = models::load_image_model(path);
    CHECK(adapters_of(*plain.net).empty());
    CHECK(logits_of(*plain.net) == logits_of(*net));
    CHECK(error_of<UsageError>([&] { save_adapters(path, *net); }).find("is merged") != std::string::npos);
  }
}

TEST_CASE("adapters go on no other weights, and on no network without their hosts") {
  const Saved saved;
  auto other = base(4);
  CHECK(error_of<StateDictError>([&] { load_adapters(*other, saved.path); }).find("trained on other weights") !=
        std::string::npos);
  CHECK(adapters_of(*other).empty());

  // One number of one statistic is enough.
  other = base();
  nn::named_buffers(*other)[0].buffer->value().mutable_data<float>()[0] += 1e-3f;
  CHECK_THROWS_AS(load_adapters(*other, saved.path), StateDictError);

  manual_seed(3);
  const auto lenet = models::create("lenet", {.classes = 2});
  CHECK_THROWS_AS(load_adapters(*lenet, saved.path), StateDictError);

  other = base();
  other->replace_head(3);
  CHECK(error_of<StateDictError>([&] { load_adapters(*other, saved.path); }).find("linear.weight: network") !=
        std::string::npos);
  CHECK(adapters_of(*other).empty());

  other = base();
  load_adapters(*other, saved.path);
  CHECK(error_of<UsageError>([&] { load_adapters(*other, saved.path); }).find("carries adapters already") !=
        std::string::npos);
  const auto plain = base();
  plain->set_frozen(true);
  CHECK(error_of<UsageError>([&] { save_adapters(saved.path, *plain); }).find("nothing is trainable") !=
        std::string::npos);
}

TEST_CASE("truncated, foreign and spoilt files are refused, and the network stays as it was") {
  const Saved saved;
  const std::string bytes = get_file(saved.path);
  for (const size_t length : {size_t{0}, size_t{7}, size_t{100}, bytes.size() / 2, bytes.size() - 1}) {
    put_file(saved.folder / "short", bytes.substr(0, length));
    const auto net = base();
    CHECK_THROWS_AS(load_adapters(*net, saved.folder / "short"), FormatError);
    CHECK(adapters_of(*net).empty());
  }
  const auto net = base();
  CHECK_THROWS_AS(load_adapters(*net, saved.folder / "none"), IoError);
  models::save_image_model(saved.folder / "model", *net, {.arch = "cifar_resnet20", .preprocess = net->preprocess()});
  CHECK(error_of<FormatError>([&] { load_adapters(*net, saved.folder / "model"); }).find("no file of adapters") !=
        std::string::npos);

  using Tensors = std::vector<NamedTensor>;
  const auto with = [](const char* key, const std::string& value) {
    return [=](Metadata& metadata, Tensors&) { metadata[key] = value; };
  };
  CHECK(saved.refusal<FormatError>(with("adapters", "[{")).find("__metadata__ adapters") != std::string::npos);
  CHECK(saved.refusal<FormatError>(with("adapters", "[{\"kind\": \"magic\", \"hosts\": [\"linear\"]}]"))
            .find("no kind of adapter \"magic\"") != std::string::npos);
  CHECK(saved.refusal<FormatError>([](Metadata& m, Tensors&) { m.erase("adapters"); }).find("missing") !=
        std::string::npos);
  CHECK(!saved.refusal<FormatError>(with("frozen", "[1]")).empty());
  CHECK(saved.refusal<StateDictError>(with("frozen", "[\"moon\"]")).find("moon") != std::string::npos);
  CHECK(saved.refusal<StateDictError>(with("base", "\"0123456789abcdef\"")).find("other weights") != std::string::npos);
  const auto change = [&](const std::string& from, const std::string& to) {
    return saved.refusal<FormatError>([&](Metadata& m, Tensors&) {
      std::string& text = m["adapters"];
      REQUIRE(text.find(from) != std::string::npos);
      text.replace(text.find(from), from.size(), to);
    });
  };
  CHECK(change("\"rank\":3", "\"rank\":1000000000").find("needs a tensor \"a\"") != std::string::npos);
  CHECK(saved
            .refusal<StateDictError>([](Metadata& m, Tensors&) {
              std::string& text = m["adapters"];
              text.replace(text.find("\"layer1.0.conv1\""), 16, "\"layer9.0.conv1\"");
            })
            .find("the network has no \"layer9.0.conv1\". Nearest: layer") != std::string::npos);
  CHECK(change("\"rank\":3", "\"rank\":-3") != "");
  CHECK(change("\"rank\":3", "\"rank\":null") != "");
  CHECK(saved
            .refusal<FormatError>([](Metadata&, Tensors& tensors) {
              std::erase_if(tensors, [](const NamedTensor& t) { return t.name.ends_with("lora.b"); });
            })
            .find("needs a tensor \"b\"") != std::string::npos);
  CHECK(
      saved.refusal<StateDictError>([](Metadata&, Tensors& tensors) {
             tensors.push_back({"moon", Tensor::ones({2})});
           })
          .find("moon") != std::string::npos);
}
