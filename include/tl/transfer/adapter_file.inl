// Definitions of transfer/adapter_file.hpp.
#pragma once
#include <algorithm>
#include <cmath>
#include <map>
#include <set>

#include "tl/core/hash.hpp"
#include "tl/io/metadata.hpp"
#include "tl/nn/freeze.hpp"
#include "tl/transfer/adapter_file.hpp"
#include "tl/transfer/adapters.inl"

namespace tl::inline TL_ABI {
namespace detail {

TL_INLINE Json description_of(const nn::Adapter& adapter) {
  if (const auto* lora = dynamic_cast<const Lora*>(&adapter))
    return {{"kind", "lora"},
            {"rank", lora->options.rank},
            {"alpha", lora->options.alpha},
            {"rank_stabilised", lora->options.rank_stabilised}};
  if (const auto* bottleneck = dynamic_cast<const Bottleneck*>(&adapter))
    return {{"kind", "bottleneck"},
            {"width", bottleneck->options.width},
            {"activation", static_cast<int>(bottleneck->options.activation)}};
  return {{"kind", adapter.kind()}};
}

/// The adapter that a description asks for; the tensors in the file, which were checked to be there, bound its size.
/// Errors: Json::exception, UsageError.
TL_INLINE std::shared_ptr<nn::Adapter> adapter_from(const Json& json, const nn::NamedModule& host,
                                                    const SafetensorsFile& file) {
  const auto kind = json.at("kind").get<std::string>();
  const auto require_tensor = [&](const std::string& name, const Shape& shape) {
    const auto entry = file.entries().find(host.name + "." + kind + "." + name);
    require<UsageError>(entry != file.entries().end() && entry->second.shape == shape, host.name, ".", kind,
                        " needs a tensor \"", name, "\" ", shape, " in the file");
  };
  const Layer layer(*host.module);
  const auto require_host = [&](bool suits) {
    require<StateDictError>(suits, "adapters: \"", host.name, "\" is ", host.module->describe(),
                            ", which can carry no ", kind);
  };
  const nn::SkipInit skip;
  if (kind == "lora") {
    require_host(layer.is_linear || layer.is_dense);
    const LoraOptions options{.rank = json.at("rank").get<int64_t>(),
                              .alpha = json.at("alpha").get<double>(),
                              .rank_stabilised = json.at("rank_stabilised").get<bool>()};
    require<UsageError>(options.rank >= 1, "the rank of ", host.name, " is ", options.rank);
    require_tensor("a", {options.rank, layer.in()});
    require_tensor("b", {layer.out(), options.rank});
    require<UsageError>(std::isfinite(options.alpha), "alpha must be finite, got ", options.alpha);
    const auto place = layer.is_linear ? nn::AdapterPlace::result : nn::AdapterPlace::weight;
    return std::make_shared<Lora>(layer.in(), layer.out(), place, options);
  }
  if (kind == "bottleneck") {
    require_host(!layer.weight || layer.is_product());
    const BottleneckOptions options{.width = json.at("width").get<int64_t>(),
                                    .activation = static_cast<Activation>(json.at("activation").get<int>())};
    const auto up = file.entries().find(host.name + ".bottleneck.up.bias");
    const int64_t channels = up != file.entries().end() ? up->second.shape.numel() : 0;
    require<UsageError>(options.width >= 1, "the width of ", host.name, " is ", options.width);
    require_tensor("down.weight", {options.width, channels});
    require_tensor("up.weight", {channels, options.width});
    require<UsageError>(options.activation >= Activation::none && options.activation <= Activation::hardswish,
                        "there is no activation ", static_cast<int>(options.activation));
    return std::make_shared<Bottleneck>(channels, options);
  }
  require<UsageError>(kind == "ia3", "there is no kind of adapter \"", kind.substr(0, 100), "\"");
  require_host(layer.weight != nullptr);
  require_tensor("scale", {layer.out()});
  return std::make_shared<Ia3>(layer.out(), layer.place_of_factor());
}

/// A hash of every parameter and statistic whose name is not among `without`; counters do not matter.
TL_INLINE std::string base_hash(nn::Module& net, const std::set<std::string>& without) {
  Hash hash;
  const auto add = [&](const std::string& name, const Tensor& value) {
    if (without.count(name) || !is_floating(value.dtype())) return;
    const Tensor host = value.to(kCpu);
    hash.add(name).add(text(host.dtype(), host.shape())).add(host.raw_data(), host.bytes());
  };
  for (const auto& p : nn::named_parameters(net)) add(p.name, p.parameter->value());
  for (const auto& b : nn::named_buffers(net)) add(b.name, b.buffer->value());
  return to_hex(hash.value());
}

/// Names of what an adapter file holds of this network.
TL_INLINE std::set<std::string> trained_names(nn::Module& net) {
  std::set<std::string> out;
  for (const auto& p : nn::named_parameters(net))
    if (!p.parameter->frozen()) out.insert(p.name);
  for (const auto& module : nn::named_modules(net)) {
    const bool is_adapter = dynamic_cast<nn::Adapter*>(module.module) != nullptr;
    if (is_adapter)
      for (const auto& p : nn::named_parameters(*module.module)) out.insert(module.name + "." + p.name);
    if (!module.module->frozen())
      for (const nn::Member& member : module.module->members())
        if (member.buffer) out.insert(module.name + "." + member.name);
  }
  return out;
}

}  // namespace detail

TL_INLINE std::string describe_adapters(nn::Module& net) {
  std::vector<std::pair<detail::Json, std::vector<std::string>>> groups;  // adapters of equal kind and options
  for (const auto& [host, module, adapter] : adapters_of(net)) {
    if (adapter->merged()) continue;
    const detail::Json description = detail::description_of(*adapter);
    const auto same = std::find_if(groups.begin(), groups.end(), [&](const auto& g) { return g.first == description; });
    if (same == groups.end()) groups.push_back({description, {host}});
    else same->second.push_back(host);
  }
  if (groups.empty()) return "";
  detail::Json out = detail::Json::array();
  for (auto& [description, hosts] : groups) {
    description["hosts"] = hosts;
    out.push_back(description);
  }
  return out.dump();
}

TL_INLINE void attach_adapters(nn::Module& net, const SafetensorsFile& file) {
  std::vector<std::pair<nn::NamedModule, std::shared_ptr<nn::Adapter>>> made;
  std::map<std::string, nn::Module*> modules;
  std::vector<std::string> names;
  for (const auto& module : nn::named_modules(net)) {
    modules[module.name] = module.module;
    names.push_back(module.name);
  }
  const bool described = detail::read_entry(file, "adapters", [&](const detail::Json& groups) {
    for (const detail::Json& group : groups)
      for (const auto& host : group.at("hosts").get<std::vector<std::string>>()) {
        const auto found = modules.find(host);
        require<StateDictError>(found != modules.end(), "adapters: ", file.path(), ": the network has no \"",
                                host.substr(0, 200), "\". ", nn::nearest_names(host, names));
        made.push_back({{host, found->second}, detail::adapter_from(group, {host, found->second}, file)});
        modules.erase(found);  // a host is named once
      }
  });
  if (!described) throw FormatError(file.path(), "__metadata__ adapters", 8, "is missing");
  for (const auto& [host, adapter] : made) detail::require_free(host, "adapters");
  for (auto& [host, adapter] : made) detail::put_on(net, *host.module, adapter);
}

TL_INLINE void save_adapters(const std::string& path, nn::Module& net, Metadata more) {
  for (const auto& [host, module, adapter] : adapters_of(net))
    require<UsageError>(!adapter->merged(), "save_adapters: ", host, ".", adapter->kind(),
                        " is merged. Hint: unmerge(net) first, or save the network as a whole.");
  const std::set<std::string> names = detail::trained_names(net);
  require<UsageError>(!names.empty(), "save_adapters: the network has no adapters, and nothing is trainable");
  std::vector<NamedTensor> tensors;
  for (auto& entry : state_dict(net))
    if (names.count(entry.name)) tensors.push_back(std::move(entry));
  const std::string adapters = describe_adapters(net);
  more["format"] = kAdapterFormat;
  more["adapters"] = adapters.empty() ? "[]" : adapters;
  more["base"] = detail::Json(detail::base_hash(net, names)).dump();
  more["frozen"] = detail::Json(frozen_names(net)).dump();
  write_safetensors(path, std::move(tensors), more);
}

TL_INLINE void load_adapters(nn::Module& net, const std::string& path) {
  const SafetensorsFile file(path);
  const auto format = file.metadata().find("format");
  if (format == file.metadata().end() || format->second != kAdapterFormat)
    throw FormatError(path, "__metadata__ format", 8, "is no file of adapters, which save_adapters writes");
  require<UsageError>(adapters_of(net).empty(),
                      "load_adapters: the network carries adapters already. Hint: remove_adapters(net) first.");
  std::string base;
  std::vector<std::string> frozen;
  detail::read_entry(file, "base", [&](const detail::Json& json) { json.get_to(base); });
  detail::read_entry(file, "frozen", [&](const detail::Json& json) { json.get_to(frozen); });
  std::set<std::string> stored;
  for (const auto& [name, entry] : file.entries()) stored.insert(name);

  const std::string own = detail::base_hash(net, stored);
  require<StateDictError>(own == base, "load_adapters: ", path, " was trained on other weights (", base.substr(0, 16),
                          "); this network's are ", own, ". Hint: load the weights that it was trained on first.");
  const std::vector<std::string> frozen_before = frozen_names(net);
  attach_adapters(net, file);
  try {
    LoadOptions only_these;  // strict about the names of the file; all others keep their values
    for (const auto& p : nn::named_parameters(net))
      if (!stored.count(p.name)) only_these.partial.push_back(p.name);
    for (const auto& b : nn::named_buffers(net))
      if (!stored.count(b.name)) only_these.partial.push_back(b.name);
    set_frozen_names(net, frozen);
    load_state_dict(net, file, only_these);
  } catch (const Error&) {
    remove_adapters(net);
    set_frozen_names(net, frozen_before);
    throw;
  }
}

}  // namespace tl::inline TL_ABI
