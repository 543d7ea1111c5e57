// Definitions of ops/dropout.hpp.
#pragma once
#include "tl/autograd/function.hpp"
#include "tl/ops/dropout.hpp"

namespace tl::inline TL_ABI {
namespace detail {

TL_INLINE Tensor drawn_by(Generator& generator) {
  Tensor out = Tensor::empty({2}, DType::i64);
  perform("draw", [to = out.mutable_data<int64_t>(), from = &generator] {
    to[0] = static_cast<int64_t>(from->seed());
    to[1] = static_cast<int64_t>(from->take());
  });
  return out;
}

TL_INLINE Tensor DrawScope::draw(Generator& generator) {
  return current() ? current()->next(generator) : drawn_by(generator);
}

TL_INLINE Tensor DrawScope::next(Generator& generator) {
  if (use_ == Use::note) return notes_.emplace_back(around_ ? around_->next(generator) : drawn_by(generator));
  require<UsageError>(used_ < notes_.size(), "dropout: work that is done again draws more than it did before");
  return notes_[used_++];
}

struct Dropout {
  static constexpr std::string_view kName = "dropout";
  double probability;
  int64_t group;
  Generator& generator;
  Tensor draw = {};  // seed and counter, for forward and backward; a replay draws anew

  Tensor forward(const Needs&, const Tensor& x) {
    draw = DrawScope::draw(generator);
    return run(x);
  }
  Gradients backward(const Needs&, const Tensor& grad_y) const { return {run(grad_y)}; }

 private:
  Tensor run(const Tensor& x) const {
    Tensor y = Tensor::empty(x.shape(), x.dtype(), x.device());
    visit_activation(x.dtype(), kName, [&](auto type) {
      using T = typename decltype(type)::type;
      const DropoutArgs<T> args{.x = x.data<T>(),
                                .y = y.mutable_data<T>(),
                                .n = x.numel(),
                                .group = group,
                                .probability = static_cast<float>(probability),
                                .seed = 0,
                                .counter = 0};
      perform(kName, [args, device = x.device(), from = draw.data<int64_t>()] {
        DropoutArgs<T> drawn = args;
        drawn.seed = static_cast<uint64_t>(from[0]);
        drawn.counter = static_cast<uint64_t>(from[1]);
        kernel::dropout(device, drawn);
      });
    });
    return y;
  }
};

TL_INLINE Tensor drop(std::string_view name, const Tensor& x, double probability, int64_t group, Generator& generator) {
  require<UsageError>(probability >= 0 && probability < 1, name, ": probability must be in [0, 1), got ", probability);
  if (probability == 0 || x.numel() == 0) return x;
  return apply(Dropout{probability, group, generator}, x);
}

}  // namespace detail

TL_INLINE Tensor dropout(const Tensor& x, double probability, Generator& generator) {
  return detail::drop("dropout", x, probability, 1, generator);
}

TL_INLINE Tensor drop_path(const Tensor& x, double probability, Generator& generator) {
  require<ShapeError>(x.rank() >= 1, "drop_path: x must be [N, ...]; got ", x.shape());
  return detail::drop("drop_path", x, probability, x.numel() / std::max<int64_t>(x.size(0), 1), generator);
}

}  // namespace tl::inline TL_ABI
