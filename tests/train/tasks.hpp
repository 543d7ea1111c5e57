// Small tasks for the tests of training: pictures of stripes, and networks that learn them in moments.
#pragma once
#include <map>
#include <string>

#include "support.hpp"
#include "tl/data/loader.hpp"
#include "tl/io/state_dict.hpp"
#include "tl/nn/conv.hpp"
#include "tl/nn/init.hpp"
#include "tl/nn/layers.hpp"
#include "tl/nn/linear.hpp"
#include "tl/nn/norm.hpp"
#include "tl/optim/optimizer.hpp"
#include "tl/train/fit.hpp"

namespace tl_test {

/// Stripes in four directions with random phase, contrast and noise; the direction is the class.
class Stripes final : public tl::PictureDataset {
 public:
  explicit Stripes(int64_t count, int64_t size = 12, uint64_t seed = 0) : count_(count), size_(size), seed_(seed) {}

  int64_t size() const override { return count_; }
  tl::Image picture(int64_t i) const override {
    tl::Generator generator(seed_, static_cast<uint64_t>(i));
    const int64_t phase = generator.below(4), contrast = 60 + generator.below(60);
    tl::Image out(size_, size_);
    for (int64_t y = 0; y < size_; ++y)
      for (int64_t x = 0; x < size_; ++x) {
        const int64_t along[] = {x, y, x + y, x - y + size_};
        const bool bright = ((along[label(i)] + phase) / 2) % 2 == 0;
        const auto value = static_cast<uint8_t>(128 + (bright ? contrast : -contrast) / 2 + generator.below(40) - 20);
        for (int c = 0; c < 3; ++c) out.row(y)[3 * x + c] = value;
      }
    return out;
  }
  int64_t label(int64_t i) const override { return i % 4; }
  std::string name(int64_t i) const override { return "stripes " + std::to_string(i); }
  const std::vector<std::string>& classes() const override { return classes_; }

 private:
  int64_t count_, size_;
  uint64_t seed_;
  std::vector<std::string> classes_{"vertical", "horizontal", "rising", "falling"};
};

inline tl::Preprocess stripes_input(int64_t size = 12) {
  return {.size = size,
          .resize = size,
          .crop_fraction = 1.0,
          .channel_order = tl::ChannelOrder::gray,
          .mean = {0.5f, 0.5f, 0.5f},
          .stddev = {0.25f, 0.25f, 0.25f}};
}

/// Everything that has state or randomness: convolution, BatchNorm, dropout, a head.
struct SmallNet : tl::nn::Module {
  tl::nn::Conv2d conv{1, 6, {.kernel = 3, .stride = 2, .padding = 1}};
  tl::nn::BatchNorm2d bn{6};
  tl::nn::Dropout dropout{0.2};
  tl::nn::Linear fc{6 * 6 * 6, 4};
  TL_MEMBERS(conv, bn, dropout, fc)

  tl::Tensor prefix(const tl::Tensor& x) { return conv_bn(conv, bn, x, tl::Activation::relu); }
  tl::Tensor forward(const tl::Tensor& x) override { return fc(dropout(tl::flatten(prefix(x)))); }
};

/// One linear layer whose numbers are the closed form sin.
struct LinearNet : tl::nn::Module {
  tl::nn::Linear fc;
  TL_MEMBERS(fc)

  LinearNet(int64_t in, int64_t out) : fc(in, out) {
    for (auto* p : {&fc.weight, &fc.bias}) {
      float* w = p->value().mutable_data<float>();
      for (int64_t i = 0; i < p->value().numel(); ++i)
        w[i] = static_cast<float>(0.3 * std::sin(1.0 + 1.7 * static_cast<double>(i)));
    }
  }
  tl::Tensor forward(const tl::Tensor& x) override { return fc(x); }
};

inline std::string bytes_of(const tl::Tensor& t) { return {static_cast<const char*>(t.raw_data()), t.bytes()}; }

/// Parameters and buffers by name.
inline std::map<std::string, std::string> bytes_of(tl::nn::Module& net) {
  std::map<std::string, std::string> out;
  for (const auto& t : tl::copy_weights(net)) out[t.name] = bytes_of(t.tensor);
  return out;
}

template <class List>
std::map<std::string, std::string> bytes_by_name(const List& tensors) {
  std::map<std::string, std::string> out;
  for (const auto& t : tensors) out[t.name] = bytes_of(t.tensor);
  return out;
}

/// x [rows, width] in closed form, and labels 0, 1, ..., classes - 1, 0, ...
inline tl::Tensor table(int64_t rows, int64_t width) {
  tl::Tensor out = tl::Tensor::empty({rows, width});
  float* x = out.mutable_data<float>();
  for (int64_t i = 0; i < out.numel(); ++i) x[i] = static_cast<float>(std::sin(0.4 + 2.1 * static_cast<double>(i)));
  return out;
}

inline tl::Tensor labels(std::vector<int32_t> values) {
  const auto count = static_cast<int64_t>(values.size());
  return tl::Tensor::from(values, {count});
}

/// Normal numbers, mean 0 and deviation 1.
inline tl::Tensor normal_tensor(const tl::Shape& shape, uint64_t seed = 1, tl::DType dtype = tl::DType::f32) {
  tl::Generator generator(seed);
  tl::Tensor out = tl::Tensor::empty(shape, dtype);
  tl::nn::normal_(out, 0, 1, generator);
  return out;
}

/// Labels in which all classes take turns, beginning at another one with each step.
inline tl::Tensor cycling_labels(int64_t count, int64_t classes, int64_t step) {
  std::vector<int32_t> out;
  for (int64_t i = 0; i < count; ++i) out.push_back(static_cast<int32_t>((i * 7 + step) % classes));
  return labels(out);
}

}  // namespace tl_test
