// Fully connected layer and embedding table.
#pragma once
#include <cmath>
#include <utility>

#include "tl/nn/init.hpp"
#include "tl/nn/module.hpp"
#include "tl/ops/elementwise.hpp"
#include "tl/ops/index.hpp"
#include "tl/ops/matmul.hpp"

namespace tl::inline TL_ABI {
namespace nn {

/// y = x weight^T + bias; weight [Out, In], uniform within +-1 / sqrt(In) at first, as in PyTorch.
struct Linear : Module {
  Parameter weight, bias;
  TL_MEMBERS(weight, bias)

  Linear() = default;
  Linear(int64_t in, int64_t out, bool with_bias = true) : weight(Tensor::empty({out, in})) {
    const double bound = 1 / std::sqrt(static_cast<double>(in > 0 ? in : 1));
    uniform_(weight.value(), -bound, bound);
    if (!with_bias) return;
    bias = Parameter(Tensor::empty({out}));
    uniform_(bias.value(), -bound, bound);
  }

  Tensor forward(const Tensor& x) override { return run(x, Activation::none); }

  using Module::operator();
  /// activation(x weight^T + bias), in one kernel where nothing is learnt.
  Tensor operator()(const Tensor& x, Activation activation) {
    Adapter* const adapter = acting_adapter(*this, AdapterPlace::result);
    Tensor y = adapter ? activate(adapter->result(x, run(x, Activation::none)), activation) : run(x, activation);
    observed(*this, y);
    return y;
  }
  std::string describe() const override {
    return text("Linear(", weight.value().size(1), ", ", weight.value().size(0), bias.defined() ? ")" : ", no bias)");
  }

 private:
  /// A weight that does not learn here is packed once, and again after it changed.
  Tensor run(const Tensor& x, Activation activation) {
    const Tensor& w = weight;
    if (!w.device().is_cpu() || (grad_enabled() && w.requires_grad())) {
      packed_ = {};
    } else if (const auto origin = std::pair<const void*, uint64_t>(w.storage().get(), w.content_version());
               !packed_.defined() || packed_.dtype() != x.dtype() || origin_ != origin) {
      const tl::detail::Aside aside;
      packed_ = pack_linear(w, x.dtype());
      origin_ = origin;
    }
    return linear(x, weight, bias, activation, packed_);
  }

  Tensor packed_;
  std::pair<const void*, uint64_t> origin_;
};

/// Rows of a table [V, D] by id; normally distributed at first.
struct Embedding : Module {
  Parameter weight;
  int64_t padding_idx = -1;
  TL_MEMBERS(weight)

  Embedding() = default;
  Embedding(int64_t rows, int64_t width, int64_t padding = -1)
      : weight(Tensor::empty({rows, width})), padding_idx(padding) {
    normal_(weight.value(), 0, 1);
  }

  Tensor forward(const Tensor& ids) override { return embedding(weight, ids, padding_idx); }
  std::string describe() const override {
    return text("Embedding(", weight.value().size(0), ", ", weight.value().size(1), ")");
  }
};

}  // namespace nn
}  // namespace tl::inline TL_ABI
