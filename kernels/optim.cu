#include "optim.cuh"

#include <cmath>

#include "launchers.hpp"

namespace tl::cuda {

using namespace device;

void sgd(const SgdArgs<float>& args) {
  if (args.n == 0) return;
  launch(sgd_v1, grid_for(args.n), args);
}

void adam(const AdamArgs<float>& args) {
  if (args.n == 0) return;
  const auto step = static_cast<double>(args.step);
  const double correction1 = 1 - std::pow(args.beta1, step), correction2 = 1 - std::pow(args.beta2, step);
  const auto rounded = [](double value) { return static_cast<float>(value); };
  const AdamFactors factors{.scale = args.grad_scale,
                            .decay = rounded(args.weight_decay),
                            .shrink = rounded(1 - args.rate * args.weight_decay),
                            .beta2 = rounded(args.beta2),
                            .rest1 = rounded(1 - args.beta1),
                            .rest2 = rounded(1 - args.beta2),
                            .eps = rounded(args.eps),
                            .root_correction2 = rounded(std::sqrt(correction2)),
                            .minus_rate = rounded(-args.rate / correction1),
                            .add_decay = args.weight_decay != 0 && !args.decoupled,
                            .shrinks = args.weight_decay != 0 && args.decoupled};
  launch(adam_v1, grid_for(args.n), args.weight, args.grad, args.first_moment, args.second_moment, args.n, factors);
}

}  // namespace tl::cuda
