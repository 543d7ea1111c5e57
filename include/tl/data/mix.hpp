// Mixed pictures: batches whose pictures are blends of two, with the classes of both.
#pragma once
#include <cstdint>
#include <span>

#include "tl/core/random.hpp"
#include "tl/data/loader.hpp"
#include "tl/data/resize.hpp"

namespace tl::inline TL_ABI {

/// Blends each picture of a batch with another one of it, and the classes likewise (Batch::mixed):
///
///     x_i <- lambda x_i + (1 - lambda) x_j,  mixed_i = lambda onehot(y_i) + (1 - lambda) onehot(y_j),  j = partners[i]
///
/// x [N, ...] f32; partners: N positions in the batch. y keeps the labels of the first ones, by which training's
/// accuracy is counted. Errors: ShapeError; UsageError for lambda outside of [0, 1], and for labels and partners that
/// are none. Paper: Zhang et al., "mixup: Beyond empirical risk minimization", 2018.
/// torchvision: `v2.MixUp`, whose partners are the batch rolled by one.
void mix_up(Batch& batch, std::span<const int64_t> partners, double lambda, int64_t classes);

/// Puts a rectangle of another picture of the batch into each one; classes count by their share of the area:
///
///     lambda = 1 - width height / (W H)
///
/// x [N, H, W, C] f32. Errors: as mix_up; UsageError for a rectangle that reaches over the picture.
/// Paper: Yun et al., "CutMix: Regularization strategy to train strong classifiers with localizable features", 2019.
/// torchvision: `v2.CutMix`.
void cut_mix(Batch& batch, std::span<const int64_t> partners, const Rect& rectangle, int64_t classes);

/// The rectangle of CutMix: of 1 - lambda of the area and the picture's ratio, around a centre that may lie anywhere,
/// cut off at the edges.
Rect cut_rectangle(int64_t width, int64_t height, double lambda, Generator& generator);

/// A number from the distribution Beta(a, b), a and b above 0, by two gamma variates.
/// Paper: Marsaglia and Tsang, "A simple method for generating gamma variables", 2000.
double draw_beta(double a, double b, Generator& generator);

/// Mixes batches of training: `fit.on_batch = Mixing({.mixup = 0.2, .classes = 2, .seed = 1})`.
///
/// For each batch lambda is drawn from Beta(alpha, alpha), alpha being `mixup` or `cutmix`, and each picture's partner
/// by one permutation. With both alphas above 0 a coin chooses for each batch. All randomness comes from (seed, number)
/// alone, so that a run that was cut goes on with the same. timm: `Mixup(mixup_alpha, cutmix_alpha, prob)`.
struct Mixing {
  double mixup = 0;        ///< alpha; 0: none
  double cutmix = 0;       ///< alpha; 0: none
  double probability = 1;  ///< that a batch is mixed
  int64_t classes = 0;
  uint64_t seed = 0;

  /// Errors: UsageError for options that cannot be meant; as mix_up and cut_mix.
  void operator()(Batch& batch, int64_t number) const;
};

}  // namespace tl::inline TL_ABI

#if TL_HEADER_ONLY
#include "tl/data/mix.inl"
#endif
