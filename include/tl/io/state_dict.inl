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
    for (const auto& [name, entry] : file.entries()) add(options.rename ? options.rename(name) : name, name, file);
    for (const auto& [name, target] : file.metadata()) aliases_[name] = target;
    strip_prefixes(wanted, notes);
    map_norms(wanted, notes);
  }

  const std::map<std::string, std::string>& stored() const { return names_; }

  /// The name in the file that `name` leads to through aliases, or empty.
  std::string resolve(const std::string& name, const SafetensorsFile& file) const {
    std::set<std::string> seen;
    for (std::string at = name;;) {
      if (const auto found = names_.find(at); found != names_.end()) return at;
      const auto alias = aliases_.find(at);
      if (alias == aliases_.end()) {
        if (at == name) return "";
        throw FormatError(file.path(), name, 8, "is an alias of \"" + at + "\", which is not in the file");
      }
      if (!seen.insert(at).second) throw FormatError(file.path(), name, 8, "is an alias that leads in a circle");
      at = alias->second;
    }
  }

 private:
  void add(const std::string& as, const std::string& name, const SafetensorsFile& file) {
    if (as.empty()) return;
    require<StateDictError>(names_.emplace(as, name).second, file.path(), ": two tensors would be called \"", as, "\"");
  }

  static size_t matches(const std::map<std::string, std::string>& names, const std::set<std::string>& wanted) {
    return static_cast<size_t>(std::count_if(names.begin(), names.end(), [&](const auto& n) { return wanted.count(n.first); }));
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
        const bool shared = std::all_of(names_.begin(), names_.end(), [&](const auto& n) { return n.first.starts_with(prefix); });
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

TL_INLINE std::string listing(std::string_view title, const std::vector<std::string>& names) {
  constexpr size_t kShown = 20;
  if (names.empty()) return "";
  std::string out = text("\n  ", title, " (", names.size(), "):");
  for (size_t i = 0; i < std::min(kShown, names.size()); ++i) out += "\n    " + names[i];
  if (names.size() > kShown) out += text("\n    ... and ", names.size() - kShown, " more");
  return out;
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
  std::map<std::string, std::string> ties;  // slot to the slot that it equals
  std::vector<std::string> faults_missing, faults_unexpected, faults_misshaped, stored_names;
  for (const auto& [name, stored] : names.stored()) stored_names.push_back(name);

  const std::map<std::string, std::string> tied_here = tied_names(net);
  std::set<std::string> used;
  std::vector<std::pair<const detail::Slot*, Tensor>> matched;
  int64_t matched_outside = 0, total_outside = 0;  // of what partial does not excuse
  for (const auto& slot : slots) {
    const bool counter = slot.name.ends_with("num_batches_tracked");
    const bool free = excused(slot.name);
    if (!counter) ++report.total;
    if (!counter && !free) ++total_outside;
    const std::string source = names.resolve(slot.name, file);
    if (source.empty()) {
      if (const auto tie = tied_here.find(slot.name); tie != tied_here.end() && !names.resolve(tie->second, file).empty()) {
        ++report.matched;
        if (!free) ++matched_outside;
        continue;
      }
      if (counter) continue;
      report.missing.push_back(slot.name);
      if (!free) faults_missing.push_back(slot.name + "  (" + nn::nearest_names(slot.name, stored_names, 1) + ")");
      continue;
    }
    used.insert(source);
    const Shape& shape = file.entries().at(names.stored().at(source)).shape;
    if (shape != slot.shape()) {
      report.misshaped.push_back(text(slot.name, ": network ", slot.shape(), ", file ", shape));
      if (!free) faults_misshaped.push_back(report.misshaped.back());
      continue;
    }
    if (!counter) ++report.matched;
    if (!counter && !free) ++matched_outside;
    if (source != slot.name && wanted.count(source) && slot.parameter) ties[slot.name] = source;
    matched.emplace_back(&slot, file.tensor(names.stored().at(source)));
  }
  for (const auto& [name, stored] : names.stored()) {
    if (used.count(name)) continue;
    report.unexpected.push_back(name);
    if (!excused(name)) faults_unexpected.push_back(name);
  }

  const bool strict_fault = !faults_missing.empty() || !faults_unexpected.empty() || !faults_misshaped.empty();
  require<StateDictError>(!strict_fault, "load: ", file.path(), " does not fit the network: ", report.matched, " of ", report.total,
                          " tensors match.", detail::listing("missing", faults_missing),
                          detail::listing("unexpected", faults_unexpected), detail::listing("of another shape", faults_misshaped),
                          "\n  Hint: LoadOptions::partial names what may differ, for example {\"classifier.**\"}.");
  require<StateDictError>(total_outside == 0 || matched_outside > 0, "load: ", file.path(), " matches none of the ", total_outside,
                          " tensors outside of what a partial load excuses: nothing would be loaded");

  std::map<std::string, const detail::Slot*> by_name;
  for (const auto& slot : slots) by_name[slot.name] = &slot;
  for (const auto& [slot, stored] : matched) {
    if (const auto tie = ties.find(slot->name); tie != ties.end()) {
      slot->parameter->tie(*by_name.at(tie->second)->parameter);
      report.notes.push_back("tied " + slot->name + " to " + tie->second);
      continue;
    }
    const NoGrad no_grad;
    Tensor value = stored.to(slot->value().dtype());
    if (slot->layout() == nn::FileLayout::oihw) value = permute(value, {0, 2, 3, 1});
    slot->value().copy_from(value.to(slot->value().device()));
  }
  return report;
}

}  // namespace tl::inline TL_ABI
