// Modules one after another.
#pragma once
#include <concepts>
#include <memory>
#include <utility>

#include "tl/nn/staged.hpp"

namespace tl::inline TL_ABI {
namespace nn {

/// Modules of one kind, named "0", "1", ...; forward chains them, and each is a stage.
template <std::derived_from<Module> M>
class ModuleList : public Staged {
 public:
  void push_back(M&& module) { modules_.push_back(std::make_unique<M>(std::move(module))); }

  size_t size() const { return modules_.size(); }
  bool empty() const { return modules_.empty(); }
  M& operator[](size_t i) { return *modules_.at(i); }

  std::vector<Member> members() override {
    std::vector<Member> out;
    for (size_t i = 0; i < modules_.size(); ++i) detail::add_member(out, std::to_string(i), *modules_[i]);
    return out;
  }

  std::vector<std::vector<std::string>> stages() const override {
    std::vector<std::vector<std::string>> out;
    for (size_t i = 0; i < modules_.size(); ++i) out.push_back({std::to_string(i)});
    return out;
  }
  size_t stage_count() const override { return modules_.size(); }
  Tensor run_stage(size_t stage, const Tensor& x) override { return (*modules_.at(stage))(x); }

  std::string describe() const override { return "ModuleList"; }

 protected:
  std::vector<std::unique_ptr<M>> modules_;
};

/// Modules of any kinds: `Sequential(Linear(784, 100), ReLU(), Linear(100, 10))`.
class Sequential : public ModuleList<Module> {
 public:
  Sequential() = default;

  template <std::derived_from<Module>... Modules>
  requires(sizeof...(Modules) > 1 ||
           !(std::same_as<Modules, Sequential> && ...)) explicit Sequential(Modules... modules) {
    (add(std::move(modules)), ...);
  }

  /// Appends a module and returns it.
  template <std::derived_from<Module> M>
  M& add(M module) {
    auto owned = std::make_unique<M>(std::move(module));
    M& out = *owned;
    modules_.push_back(std::move(owned));
    return out;
  }

  /// Puts another module in place i.
  template <std::derived_from<Module> M>
  void replace(size_t i, M module) {
    modules_.at(i) = std::make_unique<M>(std::move(module));
  }

  std::string describe() const override { return "Sequential"; }
};

}  // namespace nn
}  // namespace tl::inline TL_ABI
