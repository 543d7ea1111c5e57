// Definitions of io/state_dict.hpp.
#pragma once
#include <algorithm>
#include <map>
#include <set>

#include "tl/core/glob.hpp"
#include "tl/io/state_dict.hpp"
#include "tl/ops/view.hpp"

namespace tl::inline TL_ABI {
namespace detail {

TL_INLINE Tensor to_file_layout(const Tensor& value, nn::FileLayout layout) {
  const NoGrad no_grad;
  return layout == nn::FileLayout::oihw ? permute(value.to(kCpu), {0, 3, 1, 2}) : value.to(kCpu).detach();
}

TL_INLINE Shape file_shape(const Shape& shape, nn::FileLayout layout) {
  return layout == nn::FileLayout::oihw ? Shape{shape[0], shape[3], shape[1], shape[2]} : shape;
}

/// Whether permuting a weight of this shape in the file, [O, I, kH, kW], to [O, kH, kW, I] moves no number.
TL_INLINE bool lies_alike(const Shape& file_shape, nn::FileLayout layout) {
  return layout == nn::FileLayout::same || file_shape[1] == 1 || file_shape[2] * file_shape[3] == 1;
}

/// One place of the network that a file can fill.
struct Slot {
  std::string name;
  nn::Parameter* parameter = nullptr;
  nn::Buffer* buffer = nullptr;

  Tensor& value() const { return parameter ? parameter->value() : buffer->value(); }
  nn::FileLayout layout() const { return parameter ? parameter->layout() : nn::FileLayout::same; }
  Shape shape() const { return file_shape(value().shape(), layout()); }
};

TL_INLINE std::vector<Slot> slots_of(nn::Module& net) {
  std::vector<Slot> slots;
  for (auto& p : nn::named_parameters_with_aliases(net)) slots.push_back({p.name, p.parameter, nullptr});
  for (auto& b : nn::named_buffers(net)) slots.push_back({b.name, nullptr, b.buffer});
  return slots;
}

/// File names by the name under which the network may know them.
class NameMap {
 public:
  NameMap(const SafetensorsFile& file, const std::set<std::string>& wanted, const LoadOptions& options,
          std::vector<std::string>& notes) {
    const auto renamed = [&](const std::string& name) { return options.rename ? options.rename(name) : name; };
    for (const auto& [name, entry] : file.entries()) add(renamed(name), name, file);
    for (const auto& [name, target] : file.metadata()) {
      // Metadata holds other things as well, which are not for `rename` to see.
      const bool is_alias = file.contains(target) || file.metadata().count(target) > 0;
      if (!is_alias) aliases_[name] = target;
      else if (const std::string as = renamed(target); !as.empty()) aliases_[renamed(name)] = as;
    }
    strip_prefixes(wanted, notes);
    map_norms(wanted, notes);
  }

  const std::map<std::string, std::string>& stored() const { return names_; }

  /// The name in the file that `name` leads to through aliases, or empty.
  std::string resolve(const std::string& name, const SafetensorsFile& file) const {
    constexpr int kHops = 16;  // a longer chain can only be meant to waste time
    std::string at = name;
    for (int hops = 0; !names_.count(at); ++hops) {
      const auto alias = aliases_.find(at);
      if (alias == aliases_.end()) {
        if (at == name) return "";
        throw FormatError(file.path(), name, 8, "is an alias of \"" + at + "\", which is not in the file");
      }
      if (hops == kHops) throw FormatError(file.path(), name, 8, "is an alias that leads in a circle");
      at = alias->second;
    }
    return at;
  }

 private:
  void add(const std::string& as, const std::string& name, const SafetensorsFile& file) {
    if (as.empty()) return;
    require<StateDictError>(names_.emplace(as, name).second, file.path(), ": two tensors would be called \"", as, "\"");
  }

  static size_t matches(const std::map<std::string, std::string>& names, const std::set<std::string>& wanted) {
    return static_cast<size_t>(
        std::count_if(names.begin(), names.end(), [&](const auto& n) { return wanted.count(n.first); }));
  }

  void strip_prefixes(const std::set<std::string>& wanted, std::vector<std::string>& notes) {
    for (bool again = true; again;) {
      again = false;
      for (const std::string prefix : {"module.", "model.", "_orig_mod.", "backbone."}) {
        const auto strip = [&](const std::map<std::string, std::string>& from) {
          std::map<std::string, std::string> out;
          for (const auto& [name, value] : from)
            out.emplace(name.starts_with(prefix) ? name.substr(prefix.size()) : name, value);
          return out;
        };
        auto stripped = strip(names_);
        if (stripped.size() != names_.size()) continue;  // two names would become one
        const bool helps = matches(stripped, wanted) > matches(names_, wanted);
        const bool shared =
            std::all_of(names_.begin(), names_.end(), [&](const auto& n) { return n.first.starts_with(prefix); });
        if (!helps && !(shared && !names_.empty() && matches(names_, wanted) == 0)) continue;
        names_ = std::move(stripped);
        std::map<std::string, std::string> aliases;
        for (const auto& [name, target] : strip(aliases_))
          aliases.emplace(name, target.starts_with(prefix) ? target.substr(prefix.size()) : target);
        aliases_ = std::move(aliases);
        notes.push_back("stripped the prefix \"" + prefix + "\"");
        again = true;
      }
    }
  }

  void map_norms(const std::set<std::string>& wanted, std::vector<std::string>& notes) {
    int64_t mapped = 0;
    for (const auto& [from, to] : {std::pair{".gamma", ".weight"}, std::pair{".beta", ".bias"}}) {
      std::map<std::string, std::string> out;
      for (const auto& [name, value] : names_) {
        std::string as = name;
        if (name.ends_with(from)) as = name.substr(0, name.rfind('.')) + to;
        const bool maps = as != name && wanted.count(as) && !wanted.count(name) && !names_.count(as);
        out.emplace(maps ? as : name, value);
        mapped += maps;
      }
      names_ = std::move(out);
    }
    if (mapped > 0) notes.push_back(text("read gamma and beta as weight and bias (", mapped, " tensors)"));
  }

  std::map<std::string, std::string> names_, aliases_;
};

/// Lines of names below a title that counts them; only the first ones are shown, as `show` has them.
TL_INLINE std::string listing(
    std::string_view title, const std::vector<std::string>& names,
    FunctionRef<std::string(const std::string&)> show = [](const std::string& name) { return name; }) {
  constexpr size_t kShown = 20, kLongest = 200;
  if (names.empty()) return "";
  std::string out = text("\n  ", title, " (", names.size(), "):");
  for (size_t i = 0; i < std::min(kShown, names.size()); ++i) out += "\n    " + show(names[i]).substr(0, kLongest);
  if (names.size() > kShown) out += text("\n    ... and ", names.size() - kShown, " more");
  return out;
}

TL_INLINE bool same_numbers(const Tensor& a, const Tensor& b) {
  return a.dtype() == b.dtype() && a.shape() == b.shape() &&
         (a.bytes() == 0 || std::memcmp(a.raw_data(), b.raw_data(), a.bytes()) == 0);
}

}  // namespace detail

TL_INLINE std::vector<NamedTensor> state_dict(nn::Module& net) {
  std::vector<NamedTensor> out;
  for (const auto& p : nn::named_parameters(net))
    out.push_back({p.name, detail::to_file_layout(p.parameter->value(), p.parameter->layout())});
  for (const auto& b : nn::named_buffers(net))
    out.push_back({b.name, detail::to_file_layout(b.buffer->value(), nn::FileLayout::same)});
  return out;
}

TL_INLINE Metadata tied_names(nn::Module& net) {
  Metadata out;
  std::map<const void*, std::string> first;
  for (const auto& p : nn::named_parameters_with_aliases(net)) {
    const auto [found, fresh] = first.emplace(p.parameter->value().identity(), p.name);
    if (!fresh) out[p.name] = found->second;
  }
  return out;
}

TL_INLINE LoadReport load_state_dict(nn::Module& net, const SafetensorsFile& file, const LoadOptions& options) {
  const std::vector<detail::Slot> slots = detail::slots_of(net);
  std::set<std::string> wanted;
  for (const auto& slot : slots) wanted.insert(slot.name);
  const auto excused = [&](const std::string& name) {
    return std::any_of(options.partial.begin(), options.partial.end(),
                       [&](const std::string& glob) { return glob_match(glob, name); });
  };

  LoadReport report;
  const detail::NameMap names(file, wanted, options, report.notes);
  std::vector<std::string> missing, unexpected, misshaped;  // that partial does not excuse

  std::map<const void*, std::vector<std::string>> names_of;  // of each tensor of the network; tied ones have several
  std::map<std::string, const detail::Slot*> by_name;
  for (const auto& slot : slots) {
    names_of[slot.value().identity()].push_back(slot.name);
    by_name[slot.name] = &slot;
  }
  // The slot that an alias is tied to: that of the tensor that it stands for, if the network has one of its shape.
  const auto tied_to = [&](const detail::Slot& slot, const std::string& source) -> const detail::Slot* {
    const auto found = by_name.find(source);
    if (found == by_name.end() || source == slot.name) return nullptr;
    const detail::Slot& other = *found->second;
    return slot.parameter && other.parameter && other.shape() == slot.shape() ? &other : nullptr;
  };
  std::set<std::string> used;
  std::map<std::string, std::string> filled;  // slots with the name in the file that fills them
  for (const auto& slot : slots) {
    const std::string source = names.resolve(slot.name, file);
    std::string other;  // another name of the same tensor that the file has
    for (const auto& name : names_of[slot.value().identity()])
      if (name != slot.name && other.empty()) other = names.resolve(name, file);
    const bool counter = slot.name.ends_with("num_batches_tracked");
    const bool second = names_of[slot.value().identity()][0] != slot.name;  // of a tensor that came before
    const int64_t counts = counter || second || tied_to(slot, source) ? 0 : 1;
    report.total += counts;
    if (source.empty()) {
      if (!other.empty()) report.matched += counts;
      if (counter || second || !other.empty()) continue;
      report.missing.push_back(slot.name);
      if (!excused(slot.name)) missing.push_back(slot.name);
      continue;
    }
    used.insert(source);
    const auto& entry = file.entries().at(names.stored().at(source));
    if (entry.shape != slot.shape()) {
      report.misshaped.push_back(text(slot.name, ": network ", slot.shape(), ", file ", entry.shape));
      if (!excused(slot.name)) misshaped.push_back(report.misshaped.back());
      continue;
    }
    const Tensor stored = file.tensor(names.stored().at(source));
    require<StateDictError>(is_floating(stored.dtype()) == is_floating(slot.value().dtype()), "load: ", file.path(),
                            ": ", slot.name, " is ", slot.value().dtype(), "; the file holds ", entry.dtype);
    require<StateDictError>(
        other.empty() || other == source || detail::same_numbers(stored, file.tensor(names.stored().at(other))),
        "load: ", file.path(), ": ", source, " and ", other, " are one tensor in the network, but differ in the file");
    report.matched += counts;
    filled[slot.name] = source;
  }
  for (const auto& [name, stored] : names.stored()) {
    if (used.count(name)) continue;
    report.unexpected.push_back(name);
    if (!excused(name)) unexpected.push_back(name);
  }

  if (!missing.empty() || !unexpected.empty() || !misshaped.empty()) {
    std::vector<std::string> stored_names;
    for (const auto& [name, stored] : names.stored()) stored_names.push_back(name);
    const auto nearest = [&](const std::string& name) {
      return name + "  (" + nn::nearest_names(name, stored_names, 1) + ")";
    };
    fail<StateDictError>("load: ", file.path(), " does not fit the network: ", report.matched, " of ", report.total,
                         " tensors match.", detail::listing("missing", missing, nearest),
                         detail::listing("unexpected", unexpected), detail::listing("of another shape", misshaped),
                         "\n  Hint: LoadOptions::partial names what may differ, for example {\"classifier.**\"}.");
  }
  require<StateDictError>(report.matched > 0 || report.total == 0, "load: ", file.path(), " has none of the network's ",
                          report.total, " tensors: nothing would be loaded");

  const std::shared_ptr<MappedFile> pages = file.copy_on_write();
  for (const auto& slot : slots) {
    const auto fill = filled.find(slot.name);
    if (fill == filled.end()) continue;
    if (const auto* other = tied_to(slot, fill->second)) {
      slot.parameter->tie(*other->parameter);
      report.notes.push_back("tied " + slot.name + " to " + fill->second);
      continue;
    }
    const NoGrad no_grad;
    Tensor value = file.tensor_in(pages, names.stored().at(fill->second)).to(slot.value().dtype());
    if (slot.value().device().is_cpu() && detail::lies_alike(value.shape(), slot.layout())) {
      slot.value().adopt_storage(value.alias(slot.value().shape()));
      continue;
    }
    if (slot.layout() == nn::FileLayout::oihw) value = permute(value, {0, 2, 3, 1});
    slot.value().copy_from(value.to(slot.value().device()));
  }
  return report;
}

TL_INLINE std::vector<std::pair<Tensor, Tensor>> matched_copies(nn::Module& net,
                                                                const std::vector<NamedTensor>& copies) {
  std::map<std::string, Tensor> by_name;
  for (const auto& copy : copies) by_name[copy.name] = copy.tensor;
  std::vector<std::pair<Tensor, Tensor>> out;
  const auto match = [&](const std::string& name, const Tensor& value) {
    const auto found = by_name.find(name);
    require<StateDictError>(found != by_name.end(), "restore_weights: there is no copy of ", name);
    const Tensor& copy = found->second;
    require<StateDictError>(copy.shape() == value.shape() && copy.dtype() == value.dtype(), "restore_weights: ", name,
                            " is ", value.dtype(), " ", value.shape(), "; its copy ", copy.dtype(), " ", copy.shape());
    out.emplace_back(value, copy);
    by_name.erase(found);
  };
  for (const auto& p : nn::named_parameters(net)) match(p.name, p.parameter->value());
  for (const auto& b : nn::named_buffers(net)) match(b.name, b.buffer->value());
  require<StateDictError>(by_name.empty(), "restore_weights: the network has no ",
                          by_name.empty() ? "" : by_name.begin()->first);
  return out;
}

TL_INLINE std::vector<NamedTensor> copy_weights(nn::Module& net) {
  std::vector<NamedTensor> out;
  for (const auto& p : nn::named_parameters(net)) out.push_back({p.name, p.parameter->value().clone()});
  for (const auto& b : nn::named_buffers(net)) out.push_back({b.name, b.buffer->value().clone()});
  return out;
}

TL_INLINE void restore_weights(nn::Module& net, const std::vector<NamedTensor>& copies) {
  for (const auto& [value, copy] : matched_copies(net, copies)) Tensor(value).copy_from(copy);
}

}  // namespace tl::inline TL_ABI
