// Definitions of nn/init.hpp.
#pragma once
#include <algorithm>
#include <cmath>

#include "tl/core/parallel.hpp"
#include "tl/nn/init.hpp"

namespace tl::inline TL_ABI {

TL_INLINE Generator& default_generator() {
  static Generator generator;
  return generator;
}

TL_INLINE void manual_seed(uint64_t seed) { default_generator() = Generator(seed); }

namespace nn {
namespace detail {

/// Fills with the generator's next numbers, draw(generator) taking one position for each: whichever thread draws it, a
/// number is that of its position.
template <class Draw>
void fill_with(Tensor& tensor, Generator& generator, Draw draw) {
  const Generator::State start = generator.state();
  const auto at = [&](int64_t i) { return Generator::State{start.seed, start.position + static_cast<uint64_t>(i)}; };
  generator.set_state(at(tensor.numel()));
  if (SkipInit::active()) return;
  Tensor host = Tensor::empty(tensor.shape(), tensor.dtype());
  visit_floating(tensor.dtype(), "init", [&](auto type) {
    using T = typename decltype(type)::type;
    T* value = host.mutable_data<T>();
    parallel_for(host.numel(), 1 << 12, [&](int64_t first, int64_t last) {
      Generator own = generator;
      own.set_state(at(first));
      for (int64_t i = first; i < last; ++i) value[i] = static_cast<T>(draw(own));
    });
  });
  tensor.copy_from(host);
}

}  // namespace detail

TL_INLINE Fan fan_of(const Tensor& weight) {
  require<ShapeError>(weight.rank() >= 2, "fan_of: a weight has at least two dimensions, got ", weight.shape());
  const int64_t window = weight.shape().product(1, weight.rank() - 1);
  return {weight.size(-1) * window, weight.size(0) * window};
}

TL_INLINE void uniform_(Tensor& tensor, double low, double high, Generator& generator) {
  detail::fill_with(tensor, generator, [=](Generator& own) { return own.uniform(low, high); });
}

TL_INLINE void normal_(Tensor& tensor, double mean, double deviation, Generator& generator) {
  detail::fill_with(tensor, generator, [=](Generator& own) { return mean + deviation * own.normal(); });
}

TL_INLINE void trunc_normal_(Tensor& tensor, double deviation, Generator& generator) {
  detail::fill_with(tensor, generator, [=](Generator& own) {
    double value = own.normal();
    // Further draws are a stream's of its own, so that each number still takes one position.
    for (Generator again(own.seed(), own.state().position); std::abs(value) > 2;) value = again.normal();
    return deviation * value;
  });
}

TL_INLINE void kaiming_uniform_(Tensor& weight, double gain, Generator& generator) {
  const double bound = gain * std::sqrt(3.0 / static_cast<double>(std::max<int64_t>(fan_of(weight).in, 1)));
  uniform_(weight, -bound, bound, generator);
}

TL_INLINE void kaiming_normal_(Tensor& weight, bool fan_out, double gain, Generator& generator) {
  const Fan fan = fan_of(weight);
  normal_(weight, 0, gain / std::sqrt(static_cast<double>(std::max<int64_t>(fan_out ? fan.out : fan.in, 1))),
          generator);
}

TL_INLINE void xavier_uniform_(Tensor& weight, Generator& generator) {
  const Fan fan = fan_of(weight);
  const double bound = std::sqrt(6.0 / static_cast<double>(std::max<int64_t>(fan.in + fan.out, 1)));
  uniform_(weight, -bound, bound, generator);
}

TL_INLINE void xavier_normal_(Tensor& weight, Generator& generator) {
  const Fan fan = fan_of(weight);
  normal_(weight, 0, std::sqrt(2.0 / static_cast<double>(std::max<int64_t>(fan.in + fan.out, 1))), generator);
}

}  // namespace nn
}  // namespace tl::inline TL_ABI
