// Definitions of nn/init.hpp.
#pragma once
#include <cmath>

#include "tl/nn/init.hpp"

namespace tl::inline TL_ABI {

TL_INLINE Generator& default_generator() {
  static Generator generator;
  return generator;
}

TL_INLINE void manual_seed(uint64_t seed) { default_generator() = Generator(seed); }

namespace nn {
namespace detail {

template <class Draw>
void fill_with(Tensor& tensor, Generator& generator, Draw draw) {
  if (SkipInit::active()) {
    const Generator::State at = generator.state();
    generator.set_state({at.seed, at.position + static_cast<uint64_t>(tensor.numel())});
    return;
  }
  Tensor host = Tensor::empty(tensor.shape(), tensor.dtype());
  visit_floating(tensor.dtype(), "init", [&](auto type) {
    using T = typename decltype(type)::type;
    T* value = host.mutable_data<T>();
    for (int64_t i = 0; i < host.numel(); ++i) value[i] = static_cast<T>(draw());
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
  detail::fill_with(tensor, generator, [&] { return generator.uniform(low, high); });
}

TL_INLINE void normal_(Tensor& tensor, double mean, double deviation, Generator& generator) {
  detail::fill_with(tensor, generator, [&] { return mean + deviation * generator.normal(); });
}

TL_INLINE void trunc_normal_(Tensor& tensor, double deviation, Generator& generator) {
  detail::fill_with(tensor, generator, [&] {
    double value = generator.normal();
    while (std::abs(value) > 2) value = generator.normal();
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
