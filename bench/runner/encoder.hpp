// A text encoder of MiniLM's shape, for measuring: 6 layers of width 384, 12 heads, feed-forward 1536, exact GELU,
// LayerNorm after each residual sum, 30,522 words, and a head of two classes on the first token.
#pragma once
#include "tl/tl.hpp"

namespace bench {

struct EncoderLayer : tl::nn::Module {
  static constexpr int64_t kWidth = 384, kHeads = 12, kHidden = 1536;

  tl::nn::Linear query{kWidth, kWidth}, key{kWidth, kWidth}, value{kWidth, kWidth}, output{kWidth, kWidth};
  tl::nn::Linear up{kWidth, kHidden}, down{kHidden, kWidth};
  tl::nn::LayerNorm norm1{kWidth, 1e-12}, norm2{kWidth, 1e-12};
  TL_MEMBERS(query, key, value, output, up, down, norm1, norm2)

  tl::Tensor forward(const tl::Tensor& x) override {  // [N, T, D]
    const tl::Tensor y = norm1(x, attend(x));
    return norm2(y, down(up(y, tl::Activation::gelu)));
  }

 private:
  tl::Tensor attend(const tl::Tensor& x) {
    return output(tl::multi_head_attention(query(x), key(x), value(x), kHeads));
  }
};

struct Encoder : tl::nn::Module {
  static constexpr int64_t kWords = 30522, kPlaces = 512, kLayers = 6;

  tl::nn::Embedding words{kWords, EncoderLayer::kWidth}, places{kPlaces, EncoderLayer::kWidth};
  tl::nn::LayerNorm norm{EncoderLayer::kWidth, 1e-12};
  tl::nn::ModuleList<EncoderLayer> layers;
  tl::nn::Linear head{EncoderLayer::kWidth, 2};
  TL_MEMBERS(words, places, norm, layers, head)

  Encoder() {
    for (int64_t i = 0; i < kLayers; ++i) layers.push_back(EncoderLayer());
  }

  tl::Tensor forward(const tl::Tensor& ids) override {  // [N, T] i32
    const int64_t n = ids.size(0), t = ids.size(1);
    std::vector<int32_t> place(static_cast<size_t>(n * t));
    for (size_t i = 0; i < place.size(); ++i) place[i] = static_cast<int32_t>(static_cast<int64_t>(i) % t);
    const tl::Tensor x = norm(words(ids) + places(tl::Tensor::from(place, {n, t})));
    const tl::Tensor first = tl::slice(layers(tl::in_precision(x)), 1, 0, 1);
    return head(tl::cast(tl::reshape(first, {n, EncoderLayer::kWidth}), tl::DType::f32));
  }
};

}  // namespace bench
