// Definitions of models/model_file.hpp.
#pragma once
#include <algorithm>
#include <cmath>

#include "tl/io/metadata.hpp"
#include "tl/models/model_file.hpp"
#include "tl/nn/freeze.hpp"
#include "tl/transfer/adapter_file.hpp"

namespace tl::inline TL_ABI {
namespace models {
namespace detail {

using tl::detail::Json;
using tl::detail::read_entry;

TL_INLINE std::string lower(std::string text) {
  for (char& c : text)
    if (c >= 'A' && c <= 'Z') c = static_cast<char>(c - 'A' + 'a');
  return text;
}

TL_INLINE Preprocess preprocess_from(const Json& json, Preprocess out) {
  out.size = json.value("size", out.size);
  out.resize = json.value("resize", int64_t{0});
  out.crop_fraction = json.value("crop_fraction", out.crop_fraction);
  if (json.contains("interpolation"))
    out.interpolation = parse_interpolation(json.at("interpolation").get<std::string>());
  if (json.contains("channels")) out.channel_order = parse_channel_order(lower(json.at("channels").get<std::string>()));
  const auto triple = [&](const char* key, std::array<float, 3>& to) {
    if (!json.contains(key)) return;
    const auto values = json.at(key).get<std::vector<float>>();
    require<UsageError>(values.size() == 3 || (values.size() == 1 && out.channels() == 1), key,
                        " must have a number for each channel");
    for (size_t c = 0; c < 3; ++c) to[c] = values[std::min(c, values.size() - 1)];
  };
  triple("mean", out.mean);
  triple("std", out.stddev);
  const std::string range = json.value("range", "0..1");
  require<UsageError>(range == "0..1", "range \"", range,
                      "\" is not known; tl scales samples to 0..1 before mean and std");
  out.check();
  return out;
}

TL_INLINE Json to_json(const Preprocess& p) {
  return {{"size", p.size},
          {"resize", p.resize},
          {"crop_fraction", p.crop_fraction},
          {"interpolation", name_of(p.interpolation)},
          {"channels", name_of(p.channel_order)},
          {"range", "0..1"},
          {"mean", p.mean},
          {"std", p.stddev}};
}

TL_INLINE const Tensor& head_weight(ImageClassifier& net) {
  return nn::select_parameters(net, net.head_name() + ".weight").at(0).parameter->value();
}

/// Metadata for those who use the network: architecture, preprocessing and classes.
TL_INLINE Metadata describe_use(ImageClassifier& net, const ModelInfo& info, std::string_view function) {
  const int64_t classes = head_weight(net).size(0);
  require<UsageError>(info.classes.empty() || static_cast<int64_t>(info.classes.size()) == classes, function, ": ",
                      info.classes.size(), " class names for ", classes, " logits");
  Metadata out{{"arch", info.arch}, {"preprocess", to_json(info.preprocess).dump()}};
  if (!info.classes.empty()) out["classes"] = Json(info.classes).dump(-1, ' ', false, Json::error_handler_t::replace);
  return out;
}

/// Reads what describe_use wrote; what the file does not say stays. Without a head the classes do not count.
TL_INLINE void read_use(const SafetensorsFile& file, ModelInfo& info, bool has_head) {
  read_entry(file, "preprocess", [&](const Json& json) { info.preprocess = preprocess_from(json, info.preprocess); });
  read_entry(file, "classes", [&](const Json& json) { json.get_to(info.classes); });
  if (!has_head) info.classes.clear();
  if (!info.classes.empty() && static_cast<int64_t>(info.classes.size()) != info.options.classes)
    throw FormatError(file.path(), "__metadata__ classes", 8,
                      text(info.classes.size(), " names for ", info.options.classes, " classes"));
}

}  // namespace detail

TL_INLINE ImageModel load_image_model(const std::string& path, const std::string& arch, ModelOptions options) {
  const SafetensorsFile file(path);
  ImageModel out;
  if (const auto format = file.metadata().find("format");
      format != file.metadata().end() && format->second == kAdapterFormat)
    fail<StateDictError>(path,
                         ": holds adapters alone. Hint: load the weights that they were trained on, then "
                         "load_image_adapters (predict_images --adapters).");
  const auto named = file.metadata().find("arch");
  const std::string in_file = named == file.metadata().end() ? "" : named->second;
  require<StateDictError>(arch.empty() || in_file.empty() || arch == in_file, path, ": holds \"", in_file,
                          "\", asked for \"", arch, "\"");
  out.info.arch = arch.empty() ? in_file : arch;
  require<StateDictError>(!out.info.arch.empty(), path,
                          ": does not say which architecture it is. "
                          "Hint: name it (--arch), or convert it with weights/convert.py --arch.");

  std::string activation;
  detail::read_entry(file, "constants", [&](const detail::Json& constants) {
    if (constants.contains("bn_eps")) {
      const double eps = constants.at("bn_eps").get<double>();
      require<UsageError>(std::isfinite(eps) && eps >= 0, "bn_eps must be at least 0, got ", eps);
      options.batch_norm_eps = eps;
    }
    if (constants.contains("padding")) {
      const auto rule = constants.at("padding").get<std::string>();
      require<UsageError>(rule == "torch" || rule == "same_tf", "padding \"", rule,
                          "\" is not known; expected torch or same_tf");
      options.same_padding = rule == "same_tf";
    }
    activation = constants.value("activation", "");
  });

  // The head is as wide as the file's, so that it can be loaded; callers replace it afterwards.
  if (arch.empty() && std::find(model_names().begin(), model_names().end(), in_file) == model_names().end())
    throw FormatError(
        path, "__metadata__ arch", 8,
        text("tl has no architecture \"", in_file.substr(0, 100), "\". ", nn::nearest_names(in_file, model_names())));
  {
    const nn::SkipInit skip;
    out.net = create(out.info.arch, options);
  }
  ImageClassifier& net = *out.net;
  require<StateDictError>(activation.empty() || activation == net.activation(), path,
                          ": was trained with the activation \"", activation, "\"; tl's ", out.info.arch, " has \"",
                          net.activation(), "\"");
  for (const auto& module : nn::named_modules(net))
    if (const auto* conv = dynamic_cast<const nn::Conv2d*>(module.module); conv && conv->config.kernel.h > 1)
      require<StateDictError>(conv->config.padding.same == options.same_padding.value_or(conv->config.padding.same),
                              path, ": wants ",
                              options.same_padding.value_or(false) ? "TensorFlow's SAME" : "PyTorch's",
                              " padding, which tl's ", out.info.arch, " has not");
  LoadOptions load;
  std::string head_weight;                          // its name in the file
  for (const auto& [name, entry] : file.entries())  // whatever prefix the file's names carry
    if (name == net.head_name() + ".weight" || name.ends_with("." + net.head_name() + ".weight")) head_weight = name;
  if (head_weight.empty()) {
    load.partial = {net.head_name() + ".**"};
    net.replace_head(options.classes);
  } else {
    const Shape& shape = file.entries().at(head_weight).shape;
    const int64_t width = detail::head_weight(net).numel() / options.classes;
    const bool fits = shape.rank() > 0 && shape.numel() > 0 && shape.numel() / shape[0] == width;
    if (fits && shape[0] != options.classes) {  // other shapes are refused by name
      const nn::SkipInit skip;
      net.replace_head(options.classes = shape[0]);
    }
  }
  if (file.metadata().count("adapters")) attach_adapters(net, file);
  out.report = load_state_dict(net, file, load);

  out.info.options = options;
  out.info.preprocess = net.preprocess();
  detail::read_use(file, out.info, /*has_head=*/!head_weight.empty());
  detail::read_entry(file, "frozen",
                     [&](const detail::Json& json) { set_frozen_names(net, json.get<std::vector<std::string>>()); });
  return out;
}

TL_INLINE void save_image_model(const std::string& path, ImageClassifier& net, const ModelInfo& info, Metadata more) {
  using detail::Json;
  Metadata metadata = detail::describe_use(net, info, "save_image_model");
  metadata.merge(tied_names(net));
  metadata.merge(more);
  metadata["format"] = "tl";
  Json constants = {{"activation", net.activation()}};
  for (const auto& module : nn::named_modules(net)) {
    if (const auto* bn = dynamic_cast<const nn::BatchNorm2d*>(module.module)) constants["bn_eps"] = bn->config.eps;
    if (const auto* conv = dynamic_cast<const nn::Conv2d*>(module.module); conv && conv->config.kernel.h > 1)
      constants["padding"] = conv->config.padding.same ? "same_tf" : "torch";
  }
  metadata["constants"] = constants.dump();
  if (const auto adapters = describe_adapters(net); !adapters.empty()) metadata["adapters"] = adapters;
  if (const auto frozen = frozen_names(net); !frozen.empty()) metadata["frozen"] = Json(frozen).dump();
  write_safetensors(path, state_dict(net), metadata);
}

TL_INLINE void save_image_adapters(const std::string& path, ImageClassifier& net, const ModelInfo& info) {
  save_adapters(path, net, detail::describe_use(net, info, "save_image_adapters"));
}

TL_INLINE void load_image_adapters(ImageModel& model, const std::string& path) {
  ImageClassifier& net = *model.net;
  const SafetensorsFile file(path);
  const auto head = file.entries().find(net.head_name() + ".weight");
  if (head != file.entries().end() && head->second.shape.rank() > 0 && head->second.shape[0] > 0 &&
      head->second.shape[0] != model.info.options.classes) {
    const nn::SkipInit skip;
    net.replace_head(model.info.options.classes = head->second.shape[0]);
  }
  load_adapters(net, path);
  detail::read_use(file, model.info, head != file.entries().end());
}

}  // namespace models
}  // namespace tl::inline TL_ABI
