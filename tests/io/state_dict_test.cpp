// Loading weights by name: what fits is taken over, what does not is listed, and nothing is loaded by half.
#include "tl/io/state_dict.hpp"

#include <cmath>

#include "folder.hpp"
#include "io/failures.hpp"
#include "tl/nn/conv.hpp"
#include "tl/nn/freeze.hpp"
#include "tl/nn/linear.hpp"
#include "tl/nn/norm.hpp"
#include "tl/nn/sequential.hpp"
#include "tl/ops/elementwise.hpp"
#include "tl/ops/reduce.hpp"
#include "tl/optim/optimizer.hpp"

namespace {

using namespace tl;
using namespace tl_test;

struct Net : nn::Module {
  nn::Conv2d conv1{2, 4, {.kernel = 3, .bias = false}};
  nn::BatchNorm2d bn1{4};
  nn::Linear fc{4, 3};
  TL_MEMBERS(conv1, bn1, fc)
};

/// A table of embeddings and a decoder that may share it.
struct Language : nn::Module {
  nn::Embedding embed{5, 4};
  nn::Linear decoder{4, 5, false};
  TL_MEMBERS(embed, decoder)

  explicit Language(bool tied) {
    if (tied) decoder.weight.tie(embed.weight);
  }
};

std::string bytes_of(const Tensor& t) { return {static_cast<const char*>(t.raw_data()), t.bytes()}; }

std::map<std::string, std::string> bytes_of(nn::Module& net) {
  std::map<std::string, std::string> out;
  for (const auto& t : state_dict(net)) out[t.name] = bytes_of(t.tensor);
  return out;
}

std::vector<NamedTensor> weights_of(uint64_t seed) {
  manual_seed(seed);
  Net net;
  nn::uniform_(net.bn1.running_var.value(), 0.5, 2);
  net.bn1.num_batches_tracked.value().mutable_data<int64_t>()[0] = 17;
  return state_dict(net);
}

std::vector<NamedTensor> with_prefix(const std::string& prefix, std::vector<NamedTensor> tensors) {
  for (auto& t : tensors) t.name = prefix + t.name;
  return tensors;
}

std::vector<NamedTensor> without(const std::string& name, std::vector<NamedTensor> tensors) {
  std::erase_if(tensors, [&](const NamedTensor& t) { return t.name == name; });
  return tensors;
}

LoadReport load(nn::Module& net, const Folder& folder, std::vector<NamedTensor> tensors, const Metadata& metadata = {},
                const LoadOptions& options = {}) {
  write_safetensors(folder / "a.safetensors", std::move(tensors), metadata);
  return load_state_dict(net, SafetensorsFile(folder / "a.safetensors"), options);
}

/// The error of loading, having seen that the network stayed as it was.
template <class E>
std::string refusal(nn::Module& net, const Folder& folder, std::vector<NamedTensor> tensors,
                    const Metadata& metadata = {}, const LoadOptions& options = {}) {
  const auto before = bytes_of(net);
  const std::string error = error_of<E>([&] { load(net, folder, std::move(tensors), metadata, options); });
  CHECK(bytes_of(net) == before);
  return error;
}

}  // namespace

TEST_CASE("weights and buffers come back to the bit, and files keep PyTorch's OIHW") {
  const Folder folder;
  const auto saved = weights_of(1);
  manual_seed(2);
  Net net;
  const LoadReport report = load(net, folder, saved);
  CHECK(report.matched == 7);
  CHECK(report.total == 7);  // without the counter
  CHECK(report.missing.empty());
  CHECK(report.unexpected.empty());
  CHECK(report.notes.empty());
  std::map<std::string, std::string> expected;
  for (const auto& t : saved) expected[t.name] = bytes_of(t.tensor);
  CHECK(bytes_of(net) == expected);

  const SafetensorsFile file(folder / "a.safetensors");
  CHECK(file.entries().at("conv1.weight").shape == Shape{4, 2, 3, 3});
  const auto oihw = file.tensor("conv1.weight");
  const auto& ohwi = net.conv1.weight.value();
  REQUIRE(ohwi.shape() == Shape{4, 3, 3, 2});
  for (int64_t o = 0; o < 4; ++o)
    for (int64_t i = 0; i < 2; ++i)
      for (int64_t h = 0; h < 3; ++h)
        for (int64_t w = 0; w < 3; ++w)
          CHECK(oihw.data<float>()[((o * 2 + i) * 3 + h) * 3 + w] == ohwi.data<float>()[((o * 3 + h) * 3 + w) * 2 + i]);
}

TEST_CASE("what needs no conversion stays in the file, mapped: a change reaches neither the file nor another network") {
  const Folder folder;
  write_safetensors(folder / "a.safetensors", weights_of(5));
  const std::string bytes = read_file(folder / "a.safetensors", 1 << 20);
  const SafetensorsFile file(folder / "a.safetensors");
  Net first, second;
  load_state_dict(first, file);
  load_state_dict(second, file);
  const auto loaded = bytes_of(first);

  const int64_t live = memory_stats().live_bytes;
  Net third;
  const int64_t with_net = memory_stats().live_bytes;
  load_state_dict(third, file);
  const int64_t conv = 4 * 3 * 3 * 2 * 4, block = (conv + 63) / 64 * 64;  // its numbers have another order in memory
  CHECK(memory_stats().live_bytes == live + block);
  CHECK(with_net > live + block);

  Tensor& weight = first.fc.weight.value();
  const uint64_t version = weight.storage()->version();
  const Tensor other = first.fc.bias;
  const uint64_t other_version = other.storage()->version();
  weight.mutable_data<float>()[0] = 1e6f;
  CHECK(weight.storage()->version() != version);
  CHECK(other.storage()->version() == other_version);
  weight.set_grad(Tensor::ones(weight.shape()));
  weight.mutable_data<float>()[11] = 7;
  CHECK(bytes_of(second) == loaded);
  CHECK(bytes_of(third) == loaded);
  CHECK(bytes_of(file.tensor("fc.weight")) == loaded.at("fc.weight"));
  CHECK(read_file(folder / "a.safetensors", 1 << 20) == bytes);

  // The pages outlive the file object and its name.
  Net fourth;
  load_state_dict(fourth, SafetensorsFile(folder / "a.safetensors"));
  write_safetensors(folder / "a.safetensors", weights_of(6));
  CHECK(bytes_of(fourth) == loaded);
}

TEST_CASE("f16, bf16 and f64 are converted; whole numbers are not taken for weights") {
  const Folder folder;
  for (const DType dtype : {DType::f16, DType::bf16, DType::f64}) {
    auto tensors = weights_of(1);
    for (auto& t : tensors)
      if (is_floating(t.tensor.dtype())) t.tensor = t.tensor.to(dtype);
    Net net;
    load(net, folder, tensors);
    CHECK(bytes_of(net.fc.weight.value()) ==
          bytes_of(SafetensorsFile(folder / "a.safetensors").tensor("fc.weight").to(DType::f32)));
    CHECK(net.bn1.num_batches_tracked.value().item() == 17);
  }
  Net net;
  auto tensors = weights_of(1);
  for (auto& t : tensors)
    if (t.name == "fc.bias") t.tensor = Tensor::zeros({3}, DType::i64);
  CHECK(refusal<StateDictError>(net, folder, tensors).find("fc.bias is f32; the file holds I64") != std::string::npos);

  // The counter may be of another integer type, or missing, as in files from before PyTorch 0.4.1.
  for (auto& t : tensors) {
    if (t.name == "fc.bias") t.tensor = Tensor::zeros({3});
    if (t.name == "bn1.num_batches_tracked") t.tensor = t.tensor.to(DType::i32);
  }
  load(net, folder, tensors);
  CHECK(net.bn1.num_batches_tracked.value().item() == 17);
  const LoadReport report = load(net, folder, without("bn1.num_batches_tracked", tensors));
  CHECK(report.matched == 7);
  CHECK(net.bn1.num_batches_tracked.value().item() == 17);
}

TEST_CASE("strict loading lists everything that is missing, left over or of another shape, at once") {
  const Folder folder;
  auto tensors = weights_of(1);
  for (auto& t : tensors) {
    if (t.name == "conv1.weight") t.name = "conv_1.weight";
    if (t.name == "bn1.bias") t.name = "bn1.beta_";
    if (t.name == "fc.weight") t.tensor = Tensor::zeros({7, 4});
  }
  manual_seed(2);
  Net net;
  const std::string error = refusal<StateDictError>(net, folder, tensors);
  CHECK(error == "load: " + folder / "a.safetensors" +
                     " does not fit the network: 4 of 7 tensors match."
                     "\n  missing (2):"
                     "\n    conv1.weight  (Nearest: conv_1.weight)"
                     "\n    bn1.bias  (Nearest: bn1.beta_)"
                     "\n  unexpected (2):"
                     "\n    bn1.beta_"
                     "\n    conv_1.weight"
                     "\n  of another shape (1):"
                     "\n    fc.weight: network [3, 4], file [7, 4]"
                     "\n  Hint: LoadOptions::partial names what may differ, for example {\"classifier.**\"}.");

  // Long lists and long names are cut, so that the text stays readable.
  std::vector<NamedTensor> many = weights_of(1);
  for (int i = 0; i < 500; ++i)
    many.push_back({"extra." + std::to_string(i) + std::string(1000, 'x'), Tensor::zeros({1})});
  const std::string cut = refusal<StateDictError>(net, folder, many);
  CHECK(cut.find("unexpected (500)") != std::string::npos);
  CHECK(cut.find("... and 480 more") != std::string::npos);
  CHECK(cut.size() < 6000);
}

TEST_CASE("partial loading excuses what it names, keeps it, and reports it") {
  const Folder folder;
  auto tensors = without("fc.bias", weights_of(1));
  for (auto& t : tensors)
    if (t.name == "fc.weight") t.tensor = Tensor::zeros({7, 4});
  tensors.push_back({"fc.extra", Tensor::zeros({2})});
  manual_seed(2);
  Net net;
  const std::string weight = bytes_of(net.fc.weight.value()), bias = bytes_of(net.fc.bias.value());
  CHECK(!refusal<StateDictError>(net, folder, tensors, {}, {.partial = {"bn1.**"}}).empty());
  const LoadReport report = load(net, folder, tensors, {}, {.partial = {"fc.**"}});
  CHECK(report.matched == 5);
  CHECK(report.total == 7);
  CHECK(report.missing == std::vector<std::string>{"fc.bias"});
  CHECK(report.unexpected == std::vector<std::string>{"fc.extra"});
  CHECK(report.misshaped == std::vector<std::string>{"fc.weight: network [3, 4], file [7, 4]"});
  CHECK(bytes_of(net.fc.weight.value()) == weight);
  CHECK(bytes_of(net.fc.bias.value()) == bias);
  CHECK(bytes_of(net.bn1.running_var.value()) ==
        bytes_of(SafetensorsFile(folder / "a.safetensors").tensor("bn1.running_var")));
}

TEST_CASE("rename maps names, drops tensors, and two names must not become one") {
  const Folder folder;
  auto tensors = with_prefix("encoder/", weights_of(1));
  tensors.push_back({"optimizer/momentum", Tensor::zeros({2})});
  const auto rename = [](const std::string& name) {
    return name.starts_with("encoder/") ? name.substr(8) : std::string();
  };
  manual_seed(2);
  Net net;
  const LoadReport report = load(net, folder, tensors, {{"format", "pt"}}, {.rename = rename});
  CHECK(report.matched == 7);
  CHECK(report.unexpected.empty());
  const auto to_one = [](const std::string&) { return std::string("fc.bias"); };
  CHECK(refusal<StateDictError>(net, folder, tensors, {}, {.rename = to_one})
            .find("two tensors would be called \"fc.bias\"") != std::string::npos);
}

TEST_CASE("FR13: prefixes are found and stripped with a note") {
  const Folder folder;
  const std::pair<std::string, std::vector<std::string>> rows[] = {
      {"module.", {"stripped the prefix \"module.\""}},
      {"model.", {"stripped the prefix \"model.\""}},
      {"_orig_mod.", {"stripped the prefix \"_orig_mod.\""}},
      {"backbone.", {"stripped the prefix \"backbone.\""}},
      {"module._orig_mod.", {"stripped the prefix \"module.\"", "stripped the prefix \"_orig_mod.\""}},
      {"_orig_mod.module.model.",
       {"stripped the prefix \"_orig_mod.\"", "stripped the prefix \"module.\"", "stripped the prefix \"model.\""}},
  };
  std::map<std::string, std::string> expected;
  for (const auto& t : weights_of(1)) expected[t.name] = bytes_of(t.tensor);
  for (const auto& [prefix, notes] : rows) {
    CAPTURE(prefix);
    manual_seed(2);
    Net net;
    const LoadReport report = load(net, folder, with_prefix(prefix, weights_of(1)));
    CHECK(report.matched == 7);
    auto sorted = report.notes, wanted = notes;
    std::sort(sorted.begin(), sorted.end());
    std::sort(wanted.begin(), wanted.end());
    CHECK(sorted == wanted);
    CHECK(bytes_of(net) == expected);
  }

  // Some names alone may carry it: a backbone beside a head.
  auto mixed = weights_of(1);
  for (auto& t : mixed)
    if (!t.name.starts_with("fc.")) t.name = "backbone." + t.name;
  Net net;
  CHECK(load(net, folder, mixed).matched == 7);

  // A network whose own names begin so keeps them.
  struct Wrapper : nn::Module {
    Net backbone;
    TL_MEMBERS(backbone)
  };
  Wrapper wrapper;
  const LoadReport report = load(wrapper, folder, with_prefix("backbone.", weights_of(1)));
  CHECK(report.matched == 7);
  CHECK(report.notes.empty());
}

TEST_CASE("FR13: gamma and beta of norms become weight and bias, with a note") {
  const Folder folder;
  auto tensors = weights_of(1);
  for (auto& t : tensors) {
    if (t.name == "bn1.weight") t.name = "bn1.gamma";
    if (t.name == "bn1.bias") t.name = "bn1.beta";
  }
  manual_seed(2);
  Net net;
  const LoadReport report = load(net, folder, with_prefix("module.", tensors));
  CHECK(report.matched == 7);
  CHECK(report.notes == std::vector<std::string>{"stripped the prefix \"module.\"",
                                                 "read gamma and beta as weight and bias (2 tensors)"});
  std::map<std::string, std::string> expected;
  for (const auto& t : weights_of(1)) expected[t.name] = bytes_of(t.tensor);
  CHECK(bytes_of(net) == expected);
}

TEST_CASE("FR13: a load of which nothing matches, or nothing of the backbone, is an error, however much is excused") {
  const Folder folder;
  Net net;
  const std::vector<NamedTensor> foreign = {{"encoder.x", Tensor::zeros({1})}, {"encoder.y", Tensor::zeros({2})}};
  CHECK(refusal<StateDictError>(net, folder, foreign).find("0 of 7 tensors match") != std::string::npos);
  CHECK(refusal<StateDictError>(net, folder, foreign, {}, {.partial = {"**"}}) ==
        "load: " + folder / "a.safetensors" + " has none of the network's 7 tensors: nothing would be loaded");
  CHECK(!refusal<StateDictError>(net, folder, {}, {}, {.partial = {"**"}}).empty());
  CHECK(!refusal<StateDictError>(net, folder, foreign, {}, {.partial = {"fc.**", "encoder.**"}}).empty());
  // Only the head fits, which is what was excused.
  const auto all = weights_of(1);
  std::vector<NamedTensor> head;
  for (const auto& t : all)
    if (t.name.starts_with("fc.")) head.push_back(t);
  CHECK(refusal<StateDictError>(net, folder, head, {}, {.partial = {"fc.**"}}).find("2 of 7 tensors match") !=
        std::string::npos);
}

TEST_CASE("FR14: an alias in the metadata ties two names; a step on one moves both") {
  const Folder folder;
  manual_seed(1);
  Language saved(true);
  REQUIRE(state_dict(saved).size() == 1);
  CHECK(tied_names(saved) == Metadata{{"decoder.weight", "embed.weight"}});

  manual_seed(2);
  Language net(false);
  const LoadReport report = load(net, folder, state_dict(saved), tied_names(saved));
  CHECK(SafetensorsFile(folder / "a.safetensors").entries().size() == 1);  // one copy, and its alias
  CHECK(report.total == 1);
  CHECK(report.matched == 1);
  CHECK(report.notes == std::vector<std::string>{"tied decoder.weight to embed.weight"});
  CHECK(net.decoder.weight.value().is(net.embed.weight.value()));
  CHECK(nn::named_parameters(net).size() == 1);
  CHECK(bytes_of(net.decoder.weight.value()) == bytes_of(saved.embed.weight.value()));

  const float before = net.embed.weight.value().values<float>()[0];
  optim::Sgd optimizer(optim::param_groups(net, 0.5));
  sum(net.decoder(Tensor::ones({1, 4}))).backward();
  optimizer.step();
  CHECK(net.embed.weight.value().values<float>()[0] == before - 0.5f);
  CHECK(bytes_of(net.decoder.weight.value()) == bytes_of(net.embed.weight.value()));

  // And saved again it is one copy once more.
  CHECK(state_dict(net).size() == 1);
  CHECK(tied_names(net) == Metadata{{"decoder.weight", "embed.weight"}});
}

TEST_CASE("FR14: a network that ties needs either name once; both must agree") {
  const Folder folder;
  manual_seed(1);
  const Tensor table = Language(true).embed.weight.value().detach();
  for (const std::string name : {"embed.weight", "decoder.weight"}) {
    CAPTURE(name);
    Language net(true);
    const LoadReport report = load(net, folder, {{name, table}});
    CHECK(report.matched == 1);
    CHECK(report.total == 1);
    CHECK(bytes_of(net.embed.weight.value()) == bytes_of(table));
    CHECK(net.decoder.weight.value().is(net.embed.weight.value()));
  }
  Language net(true);
  CHECK(load(net, folder, {{"embed.weight", table}, {"decoder.weight", table.clone()}}).matched == 1);
  Tensor other = table.clone();
  other.mutable_data<float>()[7] += 1;
  CHECK(refusal<StateDictError>(net, folder, {{"embed.weight", table}, {"decoder.weight", other}})
            .find("are one tensor in the network") != std::string::npos);
}

TEST_CASE("FR14: a name that is neither stored nor tied is missing, loudly") {
  const Folder folder;
  const Tensor table = Tensor::ones({5, 4});
  Language net(false);
  CHECK(refusal<StateDictError>(net, folder, {{"embed.weight", table}}).find("missing (1):\n    decoder.weight") !=
        std::string::npos);
  Language tied(true);
  CHECK(refusal<StateDictError>(tied, folder, {{"other", table}}).find("missing (1):\n    embed.weight") !=
        std::string::npos);
}

TEST_CASE("FR14: an alias to nothing or in a circle is a FormatError") {
  const Folder folder;
  const Tensor table = Tensor::ones({5, 4});
  Language net(false);
  CHECK(refusal<FormatError>(net, folder, {{"embed.weight", table}}, {{"decoder.weight", "gone"}})
            .find("decoder.weight: is an alias of \"gone\", which is not in the file") != std::string::npos);
  CHECK(refusal<FormatError>(net, folder, {{"embed.weight", table}}, {{"decoder.weight", "decoder.weight"}})
            .find("in a circle") != std::string::npos);
  CHECK(refusal<FormatError>(net, folder, {{"embed.weight", table}},
                             {{"decoder.weight", "a"}, {"a", "b"}, {"b", "decoder.weight"}})
            .find("in a circle") != std::string::npos);
  // Through another alias is fine, and so is metadata that concerns nobody.
  CHECK(load(net, folder, {{"embed.weight", table}}, {{"decoder.weight", "a"}, {"a", "embed.weight"}, {"x", "y"}})
            .matched == 1);
  CHECK(net.decoder.weight.value().is(net.embed.weight.value()));
}

TEST_CASE("FR14: aliases follow prefixes and rename") {
  const Folder folder;
  const Tensor table = Tensor::full({5, 4}, 3);
  Language prefixed(false);
  load(prefixed, folder, {{"model.embed.weight", table}},
       {{"model.decoder.weight", "model.embed.weight"}, {"format", "pt"}});
  CHECK(prefixed.decoder.weight.value().is(prefixed.embed.weight.value()));
  Language renamed(false);
  load(renamed, folder, {{"encoder/embed.weight", table}},
       {{"encoder/decoder.weight", "encoder/embed.weight"}, {"format", "pt"}},
       {.rename = [](const std::string& name) { return name.substr(8); }});
  CHECK(renamed.decoder.weight.value().is(renamed.embed.weight.value()));
  CHECK(renamed.decoder.weight.value().values<float>()[0] == 3);
}

TEST_CASE(
    "FR14: an alias of a buffer, of another shape, or of what was not loaded copies, or is refused, but never ties") {
  const Folder folder;
  manual_seed(2);
  Net net;
  // bn1.bias stands for a buffer: its numbers are taken over, and it stays a parameter of its own.
  auto tensors = without("bn1.bias", weights_of(1));
  load(net, folder, tensors, {{"bn1.bias", "bn1.running_var"}});
  CHECK(bytes_of(net.bn1.bias.value()) == bytes_of(net.bn1.running_var.value()));
  CHECK(!net.bn1.bias.value().is(net.bn1.running_var.value()));
  CHECK(net.bn1.bias.value().requires_grad());

  CHECK(refusal<StateDictError>(net, folder, without("fc.bias", weights_of(1)), {{"fc.bias", "bn1.weight"}})
            .find("fc.bias: network [3], file [4]") != std::string::npos);

  // The target has another shape here and is excused, so it keeps its value; the alias takes the file's.
  Language language(false);
  language.embed = nn::Embedding(7, 4);
  const LoadReport report = load(language, folder, {{"embed.weight", Tensor::full({5, 4}, 3)}},
                                 {{"decoder.weight", "embed.weight"}}, {.partial = {"embed.**"}});
  CHECK(report.misshaped.size() == 1);
  CHECK(language.embed.weight.value().shape() == Shape{7, 4});
  CHECK(language.decoder.weight.value().shape() == Shape{5, 4});
  CHECK(language.decoder.weight.value().values<float>()[19] == 3);
}

TEST_CASE(
    "loading keeps gradients' wish and frozen state, works in double precision, and refuses what cannot be read") {
  const Folder folder;
  Net net;
  freeze(net, "conv1");
  net.to(DType::f64);
  load(net, folder, weights_of(1));
  CHECK(net.conv1.weight.frozen());
  CHECK(!net.fc.weight.frozen());
  CHECK(net.fc.weight.value().dtype() == DType::f64);
  CHECK(net.fc.weight.value().values<double>()[0] ==
        static_cast<double>(SafetensorsFile(folder / "a.safetensors").tensor("fc.weight").values<float>()[0]));

  std::string header = "{\"weight\":{\"dtype\":\"F8_E4M3\",\"shape\":[2,2],\"data_offsets\":[0,4]}}", bytes(8, '\0');
  bytes[0] = static_cast<char>(header.size());
  put_file(folder / "f8", bytes + header + "1234");
  nn::Linear linear(2, 2, false);
  CHECK_THROWS_AS(load_state_dict(linear, SafetensorsFile(folder / "f8")), DTypeError);
}
