// Layers without parameters: activations, pooling, dropout, reshaping.
#pragma once
#include "tl/nn/init.hpp"
#include "tl/nn/module.hpp"
#include "tl/ops/dropout.hpp"
#include "tl/ops/elementwise.hpp"
#include "tl/ops/pool.hpp"
#include "tl/ops/view.hpp"

namespace tl::inline TL_ABI {
namespace nn {

/// A module without members.
struct Stateless : Module {
  std::vector<Member> members() override { return {}; }
};

struct Identity : Stateless {
  Tensor forward(const Tensor& x) override { return x; }
  std::string describe() const override { return "Identity"; }
};

#define TL_ACTIVATION_LAYER(Name, function)                          \
  struct Name : Stateless {                                          \
    Tensor forward(const Tensor& x) override { return function(x); } \
    std::string describe() const override { return #Name; }          \
  };
TL_ACTIVATION_LAYER(ReLU, relu)
TL_ACTIVATION_LAYER(ReLU6, relu6)
TL_ACTIVATION_LAYER(GELU, gelu)
TL_ACTIVATION_LAYER(SiLU, silu)
TL_ACTIVATION_LAYER(Sigmoid, sigmoid)
TL_ACTIVATION_LAYER(Tanh, tanh)
TL_ACTIVATION_LAYER(Hardswish, hardswish)
TL_ACTIVATION_LAYER(GlobalAvgPool, global_avg_pool)
#undef TL_ACTIVATION_LAYER

struct MaxPool2d : Stateless {
  PoolOptions options;
  explicit MaxPool2d(const PoolOptions& o = {}) : options(o) {}
  Tensor forward(const Tensor& x) override { return max_pool2d(x, options); }
  std::string describe() const override { return text("MaxPool2d(", options.kernel.h, ")"); }
};

struct AvgPool2d : Stateless {
  PoolOptions options;
  explicit AvgPool2d(const PoolOptions& o = {}) : options(o) {}
  Tensor forward(const Tensor& x) override { return avg_pool2d(x, options); }
  std::string describe() const override { return text("AvgPool2d(", options.kernel.h, ")"); }
};

struct Flatten : Stateless {
  Tensor forward(const Tensor& x) override { return flatten(x, 1); }
  std::string describe() const override { return "Flatten"; }
};

/// Dropout in training; nothing in evaluation or when frozen. Draws from the default generator.
struct Dropout : Stateless {
  double probability = 0.5;
  Dropout() = default;
  explicit Dropout(double p) : probability(p) {}
  Tensor forward(const Tensor& x) override { return training() ? dropout(x, probability, default_generator()) : x; }
  bool is_random() const override { return probability > 0; }
  std::string describe() const override { return text("Dropout(", probability, ")"); }
};

/// Stochastic depth in training: whole samples of a residual branch are left out.
struct DropPath : Stateless {
  double probability = 0;
  DropPath() = default;
  explicit DropPath(double p) : probability(p) {}
  Tensor forward(const Tensor& x) override { return training() ? drop_path(x, probability, default_generator()) : x; }
  bool is_random() const override { return probability > 0; }
  std::string describe() const override { return text("DropPath(", probability, ")"); }
};

}  // namespace nn
}  // namespace tl::inline TL_ABI
