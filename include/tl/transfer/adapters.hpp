// Parameter-efficient tuning: the network stays as it is, and small modules on its layers learn.
//
//     net.replace_head(2);
//     freeze_all_but(net, net.head_name());
//     add_lora(net, "blocks.**", {.rank = 8});
//     ...                                    // train: only head and adapters have gradients and optimizer state
//     save_adapters("ants.safetensors", net);  // what was trained (transfer/adapter_file.hpp)
//     merge(net);                            // a plain network with the same logits
//
// Layers below the lowest adapter record nothing. unfreeze_norms and unfreeze_biases (nn/freeze.hpp) are the ways
// without new modules.
#pragma once
#include <string>
#include <string_view>
#include <vector>

#include "tl/nn/linear.hpp"
#include "tl/nn/module.hpp"

namespace tl::inline TL_ABI {

struct LoraOptions {
  int64_t rank = 8;
  double alpha = 16;
  bool rank_stabilised = false;  ///< alpha / sqrt(rank) in place of alpha / rank (Kalajdzievski, 2023)
  bool windows = false;          ///< also on convolutions of larger windows, W being [Out, kH kW In]

  double scale() const;
};

/// A change of low rank to a weight W [Out, In] (a convolution's [Out, kH, kW, In]):
///   y = W x + scale B A x, A [rank, In], B [Out, rank]; scale = alpha / rank
/// A begins Kaiming-uniform, as in the authors' code, and B at zero, so that nothing changes at first. A linear layer
/// computes B (A x) beside its own product, and no gradient of W is formed; a convolution computes with W + scale B A,
/// so that fused chains run as ever, and its gradient of W lives until A's and B's are taken from it.
/// Paper: Hu et al., "LoRA: Low-rank adaptation of large language models", 2021.
class Lora : public nn::Adapter {
 public:
  nn::Parameter a, b;
  LoraOptions options;
  TL_MEMBERS(a, b)

  Lora(int64_t in, int64_t out, nn::AdapterPlace place, const LoraOptions& options);

  std::string kind() const override { return "lora"; }
  nn::AdapterPlace place() const override { return place_; }
  TL_INLINE Tensor weight(const Tensor& own) override;
  TL_INLINE Tensor result(const Tensor& x, const Tensor& y) override;
  TL_INLINE Weights merge(const Tensor& weight, const Tensor& bias) override;
  TL_INLINE std::string describe() const override;

 private:
  nn::AdapterPlace place_;
};

struct BottleneckOptions {
  int64_t width = 16;
  Activation activation = Activation::relu;
};

/// A small network behind a layer or a block:
///   y = h + up(activation(down(h))), down [width, C], up [C, width], both with bias
/// up begins at zero, so that nothing changes at first. No weight can hold it: it cannot be merged.
/// Paper: Houlsby et al., "Parameter-efficient transfer learning for NLP", 2019.
class Bottleneck : public nn::Adapter {
 public:
  nn::Linear down, up;
  BottleneckOptions options;
  TL_MEMBERS(down, up)

  Bottleneck(int64_t channels, const BottleneckOptions& options);

  std::string kind() const override { return "bottleneck"; }
  nn::AdapterPlace place() const override { return nn::AdapterPlace::result; }
  TL_INLINE Tensor result(const Tensor& x, const Tensor& y) override;
  TL_INLINE std::string describe() const override;
};

/// A factor for each output of a layer, 1 at first: y = scale * (W x + bias).
/// Paper: Liu et al., "Few-shot parameter-efficient fine-tuning is better and cheaper than in-context learning", 2022.
class Ia3 : public nn::Adapter {
 public:
  nn::Parameter scale;
  TL_MEMBERS(scale)

  Ia3(int64_t channels, nn::AdapterPlace place);

  std::string kind() const override { return "ia3"; }
  nn::AdapterPlace place() const override { return place_; }
  TL_INLINE Tensor weight(const Tensor& own) override;
  TL_INLINE Tensor result(const Tensor& x, const Tensor& y) override;
  TL_INLINE Weights merge(const Tensor& weight, const Tensor& bias) override;
  std::string describe() const override { return "Ia3"; }

 private:
  nn::AdapterPlace place_;
};

/// Puts a Lora on every frozen linear layer and 1x1 convolution without groups that matches a glob (see core/glob.hpp)
/// by its own name or that of a module around it; layers that learn themselves need none. A is drawn from the default
/// generator. Returns how many there are. Errors: UsageError when nothing such matches, for a layer that carries an
/// adapter already, a rank below 1, and an alpha that is not finite; then nothing was changed.
int64_t add_lora(nn::Module& net, std::string_view glob, const LoraOptions& options = {});

/// The same with Ia3, on every frozen linear layer and convolution.
int64_t add_ia3(nn::Module& net, std::string_view glob);

/// Puts a Bottleneck on each module whose name matches the glob as a whole: linear layers, 1x1 convolutions, and blocks
/// (modules made of modules), whose frozen state does not matter. Behind an inverted residual or a residual block is
/// its natural place: few channels, and no fused chain is cut in two, as it is by one on a convolution in the middle.
/// `sample` is any input that the network takes; with blocks it runs twice, to see how many channels they give and that
/// each adapter takes part. Errors: as add_lora; UsageError for a block that does not, and for blocks without a sample.
int64_t add_bottlenecks(nn::Module& net, std::string_view glob, const BottleneckOptions& options = {},
                        const Tensor& sample = {});

/// An adapter and the module that it is on.
struct PlacedAdapter {
  std::string host;  ///< name
  nn::Module* module;
  nn::Adapter* adapter;
};
/// All adapters of a network, merged ones too.
std::vector<PlacedAdapter> adapters_of(nn::Module& net);

/// Computes every adapter into the weights below it: a plain network, as fast as one, with the same results up to
/// rounding. Its parameters are those of the network without adapters, and what is saved is a plain file. The weights
/// as they were are kept, one copy of each changed one. The changed ones stay frozen: unfreezing them and training the
/// network are errors until unmerge or remove_adapters. Errors, before anything is changed: UsageError without
/// adapters, when merged already, for a Bottleneck, and for a weight that learns itself or is tied to another one.
void merge(nn::Module& net);

/// Takes merged adapters out again: the weights are, bit for bit, what they were. Errors: UsageError unless merged.
void unmerge(nn::Module& net);

/// Takes the adapters off and forgets them; merged weights stay as they are. Returns how many there were.
int64_t remove_adapters(nn::Module& net);

}  // namespace tl::inline TL_ABI

#if TL_HEADER_ONLY
#include "tl/transfer/adapters.inl"
#endif
