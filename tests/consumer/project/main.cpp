// A small training program: a network learns which half of a picture is bright. Equal builds print equal numbers.
#include <bit>
#include <cinttypes>
#include <cstdio>

#include "tl/tl.hpp"

namespace {

namespace nn = tl::nn;

struct Net : nn::Module {
  nn::Conv2d conv{1, 8, {.kernel = 3, .padding = 1, .bias = false}};
  nn::BatchNorm2d bn{8};
  nn::Linear fc{8 * 8 * 8, 2};
  TL_MEMBERS(conv, bn, fc)

  tl::Tensor forward(const tl::Tensor& x) override { return fc(tl::flatten(tl::relu(bn(conv(x))))); }
};

struct Batch {
  tl::Tensor images, labels;
};

Batch draw(tl::Generator& generator, int64_t count) {
  constexpr int64_t kSize = 8;
  Batch batch{tl::Tensor::empty({count, kSize, kSize, 1}), tl::Tensor::empty({count}, tl::DType::i32)};
  float* pixel = batch.images.mutable_data<float>();
  int32_t* label = batch.labels.mutable_data<int32_t>();
  for (int64_t i = 0; i < count; ++i) {
    label[i] = static_cast<int32_t>(generator.below(2));
    for (int64_t y = 0; y < kSize; ++y)
      for (int64_t x = 0; x < kSize; ++x) {
        const bool bright = (x < kSize / 2) == (label[i] == 0);
        *pixel++ = static_cast<float>(generator.uniform() + (bright ? 0.3 : 0));
      }
  }
  return batch;
}

/// FNV-1a over the bits of all parameters.
uint64_t fingerprint(nn::Module& net) {
  uint64_t hash = 14695981039346656037u;
  for (const auto& [name, parameter] : nn::named_parameters(net))
    for (const float value : parameter->value().values<float>())
      hash = (hash ^ std::bit_cast<uint32_t>(value)) * 1099511628211u;
  return hash;
}

int train() {
  tl::manual_seed(1);
  tl::Generator generator(2);
  Net net;
  tl::optim::Sgd optimizer(tl::optim::param_groups(net, 0.05), {.momentum = 0.9});
  double first = 0, last = 0;
  for (int step = 0; step < 30; ++step) {
    const auto [images, labels] = draw(generator, 32);
    const tl::Tensor loss = tl::cross_entropy(net(images), labels);
    optimizer.zero_grad();
    loss.backward();
    optimizer.step();
    last = loss.item();
    if (step == 0) first = last;
  }
  std::printf("tl %s: loss %.9g, then %.9g; weights %016" PRIx64 "\n", TL_VERSION_STRING, first, last,
              fingerprint(net));
  return last < first / 4 ? 0 : 1;
}

}  // namespace

int main() {
  try {
    return train();
  } catch (const tl::Error& error) {
    std::fprintf(stderr, "error: %s\n", error.what());
    return 1;
  }
}
