// Update rules, in place. Bound by memory: each tensor is read and written once. fmaf and rounded_product stand where
// PyTorch's CPU kernels round once and twice (as in tl/cpu/isa/optim.inl), so that CPU and GPU agree to the bit.
#pragma once
#include "device/execution.cuh"
#include "device/grid.cuh"
#include "tl/cpu/optim.hpp"

namespace tl::device {

TL_KERNEL TL_LAUNCH_BOUNDS(kElementThreads) void sgd_v1(SgdArgs<float> args) {
  for_each_in_grid(args.n, 1, [&](int64_t i) {
    const float w = args.weight[i];
    float g = rounded_product(args.grad[i], args.grad_scale);
    if (args.weight_decay != 0) g = fmaf(w, args.weight_decay, g);
    float step = g;
    if (args.velocity != nullptr) {
      const float m = args.first ? g : rounded_product(args.velocity[i], args.momentum) + g;
      args.velocity[i] = m;
      step = args.nesterov ? fmaf(m, args.momentum, g) : m;
    }
    args.weight[i] = fmaf(step, -args.rate, w);
  });
}

/// What AdamArgs give in double, rounded once for all elements.
struct AdamFactors {
  float scale, decay, shrink, beta2, rest1, rest2, eps, root_correction2, minus_rate;
  bool add_decay, shrinks;
};

TL_KERNEL TL_LAUNCH_BOUNDS(kElementThreads) void adam_v1(float* weight, const float* grad, float* first_moment,
                                                         float* second_moment, int64_t n, AdamFactors f) {
  for_each_in_grid(n, 1, [&](int64_t i) {
    float w = weight[i];
    float g = rounded_product(grad[i], f.scale);
    if (f.add_decay) g = fmaf(w, f.decay, g);
    if (f.shrinks) w = rounded_product(w, f.shrink);
    const float old = first_moment[i];
    const float m = fmaf(f.rest1, g - old, old);
    const float v = rounded_product(second_moment[i], f.beta2) + rounded_product(rounded_product(f.rest2, g), g);
    first_moment[i] = m;
    second_moment[i] = v;
    const float denominator = sqrtf(v) / f.root_correction2 + f.eps;
    weight[i] = w + rounded_product(f.minus_rate, m) / denominator;
  });
}

}  // namespace tl::device
