// Initial values of parameters, by the field's names.
#pragma once
#include <utility>

#include "tl/core/random.hpp"
#include "tl/tensor/tensor.hpp"

namespace tl::inline TL_ABI {

/// The generator behind initial values and dropout. Not shared between threads.
Generator& default_generator();

/// Starts the default generator again: equal seeds give equal networks and equal dropout.
void manual_seed(uint64_t seed);

namespace nn {

/// While it lives, what this thread creates gets no random initial values, but undefined ones: for networks that are
/// about to be loaded, where drawing them would be most of the work. Generators move on as if they had been drawn.
class SkipInit {
 public:
  SkipInit() : before_(std::exchange(active(), true)) {}
  ~SkipInit() { active() = before_; }
  SkipInit(const SkipInit&) = delete;
  SkipInit& operator=(const SkipInit&) = delete;

  static bool& active() {
    static thread_local bool active = false;
    return active;
  }

 private:
  bool before_;
};

/// Inputs and outputs of one unit of a weight [Out, In] or [Out, kH, kW, In].
struct Fan {
  int64_t in, out;
};
Fan fan_of(const Tensor& weight);

void uniform_(Tensor& tensor, double low, double high, Generator& generator = default_generator());
void normal_(Tensor& tensor, double mean, double deviation, Generator& generator = default_generator());
/// Normal, drawn again outside of two deviations.
void trunc_normal_(Tensor& tensor, double deviation, Generator& generator = default_generator());

/// Uniform within +-gain sqrt(3 / fan_in). Paper: He et al., "Delving deep into rectifiers", 2015. The default gain
/// suits ReLU.
void kaiming_uniform_(Tensor& weight, double gain = 1.4142135623730951, Generator& generator = default_generator());
/// Normal with deviation gain / sqrt(fan), fan_in or fan_out.
void kaiming_normal_(Tensor& weight, bool fan_out = false, double gain = 1.4142135623730951,
                     Generator& generator = default_generator());
/// Uniform within +-sqrt(6 / (fan_in + fan_out)). Paper: Glorot and Bengio, 2010.
void xavier_uniform_(Tensor& weight, Generator& generator = default_generator());
void xavier_normal_(Tensor& weight, Generator& generator = default_generator());

}  // namespace nn
}  // namespace tl::inline TL_ABI

#if TL_HEADER_ONLY
#include "tl/nn/init.inl"
#endif
