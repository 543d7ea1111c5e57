// Definitions of transfer/adapters.hpp.
#pragma once
#include <algorithm>
#include <cmath>
#include <map>
#include <set>

#include "tl/core/glob.hpp"
#include "tl/nn/conv.hpp"
#include "tl/nn/init.hpp"
#include "tl/ops/elementwise.hpp"
#include "tl/ops/matmul.hpp"
#include "tl/ops/view.hpp"
#include "tl/transfer/adapters.hpp"

namespace tl::inline TL_ABI {
namespace detail {

/// A linear layer or convolution as the host of an adapter; of other modules weight is null.
struct Layer {
  nn::Parameter *weight = nullptr, *bias = nullptr;
  bool is_linear = false, is_pointwise = false, is_dense = false;  // dense: without groups; pointwise: dense and 1x1

  explicit Layer(nn::Module& module) {
    if (auto* linear = dynamic_cast<nn::Linear*>(&module)) {
      weight = &linear->weight, bias = &linear->bias;
      is_linear = true;
    } else if (auto* conv = dynamic_cast<nn::Conv2d*>(&module)) {
      weight = &conv->weight, bias = &conv->bias;
      is_dense = conv->config.groups == 1;
      is_pointwise = is_dense && conv->config.kernel.h == 1 && conv->config.kernel.w == 1;
    }
  }

  bool is_product() const { return is_linear || is_pointwise; }
  int64_t in() const { return weight->value().numel() / std::max<int64_t>(out(), 1); }  // of one output
  int64_t out() const { return weight->value().size(0); }
  /// A convolution's BatchNorm reads the result in the same pass, so a factor goes into the weight; not so a bias.
  nn::AdapterPlace place_of_factor() const {
    return is_linear || bias->defined() ? nn::AdapterPlace::result : nn::AdapterPlace::weight;
  }
};

/// The adapter takes the network's type and device, and its host's mode.
TL_INLINE void put_on(nn::Module& net, nn::Module& host, std::shared_ptr<nn::Adapter> adapter) {
  if (const auto parameters = nn::named_parameters(net); !parameters.empty()) {
    adapter->to(parameters[0].parameter->value().dtype());
    adapter->to(parameters[0].parameter->value().device());
  }
  adapter->train(host.training_flag());
  host.set_adapter(std::move(adapter));
}

TL_INLINE void require_free(const nn::NamedModule& host, std::string_view function) {
  require<UsageError>(!host.module->adapter(), function, ": \"", host.name, "\" carries an adapter already (",
                      host.module->adapter() ? host.module->adapter()->kind() : "",
                      "). Hint: one adapter a module; remove_adapters(net) first.");
}

/// The frozen layers that the glob covers and `suits` accepts, none of which carries an adapter.
template <class Suits>
std::vector<nn::NamedModule> frozen_layers(nn::Module& net, std::string_view glob, std::string_view function,
                                           std::string_view what, Suits suits) {
  std::vector<nn::NamedModule> out;
  std::vector<std::string> names;
  bool learns = false;
  for (const nn::NamedModule& module : nn::named_modules(net)) {
    const Layer layer(*module.module);
    if (!module.name.empty()) names.push_back(module.name);
    if (!layer.weight || !suits(layer)) continue;
    if (!glob_covers(glob, module.name)) continue;
    if (layer.weight->frozen()) out.push_back(module);
    else learns = true;
  }
  require<UsageError>(!out.empty(), function, ": no frozen ", what, " matches \"", glob, "\". ",
                      learns ? "Hint: layers that learn themselves take no adapter; freeze_all_but(net, head) first."
                             : nn::nearest_names(glob, names));
  for (const nn::NamedModule& host : out) require_free(host, function);
  return out;
}

/// A parameter that merging changes, its new value, and where the old one is kept.
struct Change {
  nn::Parameter* parameter;
  Tensor merged;
  Tensor* base;
};

/// Puts a kept value back and lets go of it.
TL_INLINE void give_back(nn::Parameter& parameter, Tensor& kept) {
  parameter.hold_frozen(nullptr);
  if (!kept.defined()) return;
  parameter.value().copy_from(kept.to(parameter.value().device()));
  kept = Tensor();
}

}  // namespace detail

TL_INLINE double LoraOptions::scale() const {
  const auto r = static_cast<double>(rank);
  return alpha / (rank_stabilised ? std::sqrt(r) : r);
}

TL_INLINE Lora::Lora(int64_t in, int64_t out, nn::AdapterPlace place, const LoraOptions& o)
    : options(o), place_(place) {
  require<UsageError>(o.rank >= 1, "lora: the rank must be at least 1, got ", o.rank);
  a = nn::Parameter(Tensor::empty({o.rank, in}));
  b = nn::Parameter(Tensor::zeros({out, o.rank}));
  nn::kaiming_uniform_(a.value(), 1 / std::sqrt(3.0));  // within 1 / sqrt(In), as a new linear layer
}

TL_INLINE Tensor Lora::weight(const Tensor& own) {
  const Tensor matrix = reshape(own, {own.size(0), -1});
  return reshape(add_matmul(matrix, b, a, options.scale()), own.shape());
}

TL_INLINE Tensor Lora::result(const Tensor& x, const Tensor& y) {
  return add_matmul(y, linear(x, a), cast(b, x.dtype()), options.scale(), {.transpose_b = true});
}

TL_INLINE Lora::Weights Lora::merge(const Tensor& own, const Tensor&) { return {weight(own), {}}; }

TL_INLINE std::string Lora::describe() const {
  return text("Lora(rank = ", options.rank, ", scale = ", options.scale(), ")");
}

TL_INLINE Bottleneck::Bottleneck(int64_t channels, const BottleneckOptions& o) : options(o) {
  require<UsageError>(o.width >= 1, "bottleneck: the width must be at least 1, got ", o.width);
  down = nn::Linear(channels, o.width);
  up = nn::Linear(o.width, channels);
  up.weight.value().zero_();
  up.bias.value().zero_();
}

TL_INLINE Tensor Bottleneck::result(const Tensor&, const Tensor& y) { return y + up(down(y, options.activation)); }

TL_INLINE std::string Bottleneck::describe() const { return text("Bottleneck(width = ", options.width, ")"); }

TL_INLINE Ia3::Ia3(int64_t channels, nn::AdapterPlace place) : scale(Tensor::ones({channels})), place_(place) {}

TL_INLINE Tensor Ia3::weight(const Tensor& own) {
  Shape column = own.shape();
  for (int d = 1; d < column.rank(); ++d) column = column.with(d, 1);
  return own * reshape(scale, column);
}

TL_INLINE Tensor Ia3::result(const Tensor&, const Tensor& y) { return y * cast(scale, y.dtype()); }

TL_INLINE Ia3::Weights Ia3::merge(const Tensor& own, const Tensor& bias) {
  return {weight(own), bias.defined() ? bias * scale.value() : Tensor()};
}

TL_INLINE int64_t add_lora(nn::Module& net, std::string_view glob, const LoraOptions& options) {
  require<UsageError>(options.rank >= 1, "add_lora: the rank must be at least 1, got ", options.rank);
  require<UsageError>(std::isfinite(options.alpha), "add_lora: alpha must be finite, got ", options.alpha);
  const auto hosts = detail::frozen_layers(
      net, glob, "add_lora", "Linear or 1x1 Conv2d",
      [&](const detail::Layer& layer) { return layer.is_product() || (options.windows && layer.is_dense); });
  for (const auto& host : hosts) {
    const detail::Layer layer(*host.module);
    const auto place = layer.is_linear ? nn::AdapterPlace::result : nn::AdapterPlace::weight;
    detail::put_on(net, *host.module, std::make_shared<Lora>(layer.in(), layer.out(), place, options));
  }
  return static_cast<int64_t>(hosts.size());
}

TL_INLINE int64_t add_ia3(nn::Module& net, std::string_view glob) {
  const auto hosts =
      detail::frozen_layers(net, glob, "add_ia3", "Linear or Conv2d", [](const detail::Layer&) { return true; });
  for (const auto& host : hosts) {
    const detail::Layer layer(*host.module);
    detail::put_on(net, *host.module, std::make_shared<Ia3>(layer.out(), layer.place_of_factor()));
  }
  return static_cast<int64_t>(hosts.size());
}

TL_INLINE int64_t add_bottlenecks(nn::Module& net, std::string_view glob, const BottleneckOptions& options,
                                  const Tensor& sample) {
  require<UsageError>(options.width >= 1, "add_bottlenecks: the width must be at least 1, got ", options.width);
  std::vector<nn::NamedModule> hosts;
  std::vector<std::string> names;
  bool has_blocks = false;
  for (const nn::NamedModule& module : nn::named_modules(net)) {
    const detail::Layer layer(*module.module);
    const auto members = module.module->members();
    const bool is_block = std::any_of(members.begin(), members.end(), [](const auto& m) { return m.module; });
    if (module.name.empty() || !(layer.weight ? layer.is_product() : is_block)) continue;
    names.push_back(module.name);
    if (!glob_match(glob, module.name)) continue;
    detail::require_free(module, "add_bottlenecks");
    hosts.push_back(module);
    has_blocks = has_blocks || is_block;
  }
  require<UsageError>(!hosts.empty(), "add_bottlenecks: no Linear, 1x1 Conv2d or block is named \"", glob, "\". ",
                      nn::nearest_names(glob, names));
  require<UsageError>(!has_blocks || sample.defined(),
                      "add_bottlenecks: how many channels a block gives is seen from a sample; give one, such as "
                      "Tensor::zeros({1, 224, 224, 3})");

  std::map<const nn::Module*, Tensor> results;
  const auto run = [&] {
    results.clear();
    if (!sample.defined()) return;
    const NoGrad no_grad;
    const nn::ModeScope evaluation(net, false);
    const auto keep = [&](nn::Module& module, const Tensor& result) { results[&module] = result; };
    const nn::Observe observe(keep);
    net(sample);
  };
  run();
  for (const auto& host : hosts) {
    const detail::Layer layer(*host.module);
    const Tensor seen = results[host.module];
    require<UsageError>(layer.weight || seen.defined(), "add_bottlenecks: \"", host.name,
                        "\" took no part in the forward pass of the sample");
    const int64_t channels = layer.weight ? layer.out() : seen.size(-1);
    detail::put_on(net, *host.module, std::make_shared<Bottleneck>(channels, options));
  }
  run();
  for (const auto& host : hosts) {
    if (!sample.defined() || results.count(&static_cast<Bottleneck*>(host.module->adapter())->up)) continue;
    for (const auto& other : hosts) other.module->set_adapter(nullptr);
    fail<UsageError>("add_bottlenecks: the network does not call \"", host.name,
                     "\" as a module, so that an adapter behind it would do nothing");
  }
  return static_cast<int64_t>(hosts.size());
}

TL_INLINE std::vector<PlacedAdapter> adapters_of(nn::Module& net) {
  std::vector<PlacedAdapter> out;
  for (const nn::NamedModule& module : nn::named_modules(net))
    if (module.module->adapter()) out.push_back({module.name, module.module, module.module->adapter()});
  return out;
}

TL_INLINE void merge(nn::Module& net) {
  const NoGrad no_grad;
  const auto adapters = adapters_of(net);
  require<UsageError>(!adapters.empty(), "merge: ", net.describe(), " carries no adapters");
  std::map<const void*, int> names_of;
  for (const auto& p : nn::named_parameters_with_aliases(net)) ++names_of[p.parameter->value().identity()];
  std::vector<detail::Change> changes;
  for (const auto& [host, module, adapter] : adapters) {
    require<UsageError>(!adapter->merged(), "merge: ", host, ".", adapter->kind(),
                        " is merged already. Hint: unmerge(net) first.");
    const detail::Layer layer(*module);
    const auto merged = layer.weight ? adapter->merge(*layer.weight, *layer.bias) : nn::Adapter::Weights();
    require<UsageError>(merged.weight.defined(), "merge: no weight can hold ", host, ".", adapter->kind(),
                        ". Hint: save the network as it is; the file says where its adapters are.");
    changes.push_back({layer.weight, merged.weight, &adapter->base.weight});
    if (merged.bias.defined()) changes.push_back({layer.bias, merged.bias, &adapter->base.bias});
  }
  for (const auto& [parameter, merged, base] : changes) {
    const Shape& shape = parameter->value().shape();
    require<UsageError>(parameter->frozen(), "merge: a weight ", shape, " learns itself. Hint: freeze it first.");
    require<UsageError>(names_of[parameter->value().identity()] == 1, "merge: a weight ", shape,
                        " is tied to another layer's, which would change too");
  }
  detail::Configuration::changed();
  for (const auto& [parameter, merged, base] : changes) {
    *base = parameter->value().clone();
    parameter->value().copy_from(merged);
    parameter->hold_frozen(
        "has an adapter merged into it. Hint: unmerge(net) first, or remove_adapters(net) to keep "
        "the merged weights for good.");
  }
}

TL_INLINE void unmerge(nn::Module& net) {
  const auto adapters = adapters_of(net);
  for (const auto& [host, module, adapter] : adapters)
    require<UsageError>(adapter->merged(), "unmerge: ", host, ".", adapter->kind(), " is not merged");
  require<UsageError>(!adapters.empty(), "unmerge: ", net.describe(), " carries no adapters");
  detail::Configuration::changed();
  for (const auto& [host, module, adapter] : adapters) {
    const detail::Layer layer(*module);
    detail::give_back(*layer.weight, adapter->base.weight);
    detail::give_back(*layer.bias, adapter->base.bias);
  }
}

TL_INLINE int64_t remove_adapters(nn::Module& net) {
  const auto adapters = adapters_of(net);
  for (const auto& [host, module, adapter] : adapters) {
    if (const detail::Layer layer(*module); layer.weight) {
      layer.weight->hold_frozen(nullptr);
      layer.bias->hold_frozen(nullptr);
    }
    module->set_adapter(nullptr);
  }
  return static_cast<int64_t>(adapters.size());
}

}  // namespace tl::inline TL_ABI
