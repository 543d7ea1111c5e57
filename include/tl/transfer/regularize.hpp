// Regularisers of fine-tuning: what keeps a network close to what it knew, as scalars to add to the loss.
//
// train/terms.hpp makes terms of a training loop from them. All are differentiable in the student's tensors.
#pragma once
#include <functional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "tl/nn/module.hpp"

namespace tl::inline TL_ABI {

struct L2SpOptions {
  double alpha = 0.1;  ///< of the pretrained parameters
  double beta = 0.01;  ///< of the head
};

/// L2-SP: weight decay towards the starting point, which is the network's weights when this object is made.
///
///     alpha / 2 sum |w - w0|^2 over all parameters but the head's + beta / 2 sum |w_head|^2
///
/// Frozen parameters, which cannot move, are left out. `head`: a glob of the new layer. Use it instead of the
/// optimizer's weight decay, which pulls to 0. Errors: UsageError when the glob matches nothing.
/// Paper: Li, Grandvalet and Davoine, "Explicit inductive bias for transfer learning with convolutional networks",
/// ICML 2018. tllib: SPRegularization and L2Regularization.
class L2Sp {
 public:
  L2Sp(nn::Module& net, std::string_view head, const L2SpOptions& options = {});
  /// A scalar; 0 where everything is frozen.
  Tensor operator()() const;

 private:
  struct Pull {
    nn::Parameter* parameter;
    Tensor start;  ///< undefined for the head: 0
  };
  std::vector<Pull> pulls_;
  L2SpOptions options_;
};

/// DELTA: the distance between feature maps of the network and of the pretrained one for the same pictures.
///
///     1 / (2 N) sum_l sum_n sum_c C_l a_lc |f_lnc - s_lnc|^2 / (H_l W_l)
///
/// maps f_l and source_maps s_l [N, H_l, W_l, C_l] or [N, C_l]; attention a_l [C_l], which sums to 1, or none at all
/// for 1 / C_l everywhere. Not differentiable in the source's. Errors: ShapeError.
/// Paper: Li et al., "DELTA: Deep learning transfer using feature map with attention for convolutional networks", ICLR
/// 2019. tllib: AttentionBehavioralRegularization, which sums over N.
Tensor feature_map_distance(std::span<const Tensor> maps, std::span<const Tensor> source_maps,
                            std::span<const Tensor> attention = {});

/// How much the loss rises when one filter of a layer is set to 0: for each of the C rows of `weight` [C, ...],
/// loss() without it less loss() with all. The weights are the same bits afterwards, also when loss() throws.
std::vector<double> filter_importance(nn::Parameter& weight, const std::function<double()>& loss);

/// DELTA's attention from the importances d_c of a layer's filters: softmax((d - mean d) / deviation d / 5); [C].
Tensor channel_attention(std::span<const double> importance);

/// Batch spectral shrinkage: the sum of the k smallest squared singular values of a batch's features, whose directions
/// transfer badly.
///
///     sum of the k smallest eigenvalues of F F^T (or of F^T F if D < N);  gradient 2 sum_i u_i u_i^T F
///
/// features F [N, D] f32 or f64; k at most min(N, D). Eigenvalues in double precision.
/// Errors: ShapeError; DTypeError; UsageError for another k; NumericError for features that are not finite.
/// Paper: Chen et al., "Catastrophic forgetting meets negative transfer: Batch spectral shrinkage for safe transfer
/// learning", NeurIPS 2019. tllib: BatchSpectralShrinkage.
Tensor spectral_shrinkage(const Tensor& features, int64_t k = 1);

/// StochNorm: lets each BatchNorm that is not frozen normalise, in training, each channel with the batch's statistics
/// or with the running ones, by a coin that shows the batch's with probability `batch_share`; running statistics move
/// as ever. 1 makes them plain again. Returns their number.
/// Errors: UsageError for a share outside of (0, 1], and when the network has no BatchNorm.
/// Paper: Kou et al., "Stochastic normalization", NeurIPS 2020. tllib: convert_model, StochNorm2d(p).
int64_t set_stochastic_norms(nn::Module& net, double batch_share = 0.5);

/// Co-Tuning's category relationship by counting: what the pretrained network says, in the mean, to pictures of class
/// y.
///
///     R[y, z] = mean over samples i with label y of p_i[z]
///
/// source_probabilities p [N, Z] f32; labels [N] i32; [classes, Z] f32. Divide the logits by a temperature before their
/// softmax to calibrate. Errors: ShapeError; DTypeError; UsageError for labels outside of the classes and for a class
/// without samples. Paper: You et al., "Co-Tuning for transfer learning", NeurIPS 2020. tllib: Relationship.
Tensor category_relationship(const Tensor& source_probabilities, const Tensor& labels, int64_t classes);

/// Co-Tuning's second loss: cross-entropy of the source head's logits against what the relationship says of the
/// labels.
///
///     -1 / N sum_n sum_z R[y_n, z] log softmax(source_logits)[n, z]
///
/// source_logits [N, Z]; targets: labels [N] i32 or class probabilities [N, classes]. Differentiable in the logits.
/// Errors: ShapeError. tllib: CoTuningLoss.
Tensor co_tuning_loss(const Tensor& source_logits, const Tensor& relationship, const Tensor& targets);

/// Knowledge distillation: T^2 / N sum_n KL(softmax(teacher / T) || softmax(student / T)).
///
/// Both [N, C]. Hinton's (1 - alpha) CE + alpha KD is, up to a factor of the learning rate, CE + alpha / (1 - alpha)
/// KD. With the old head's logits of the new network for the student, and the old network's for the teacher, it is the
/// loss of learning without forgetting. Differentiable in the student. Errors: ShapeError; UsageError unless T > 0.
/// Papers: Hinton, Vinyals and Dean, "Distilling the knowledge in a neural network", 2015; Li and Hoiem, "Learning
/// without forgetting", ECCV 2016. PyTorch: T^2 kl_div(log_softmax(s / T), softmax(t / T), reduction="batchmean").
Tensor distillation_loss(const Tensor& student, const Tensor& teacher, double temperature = 2);

}  // namespace tl::inline TL_ABI

#if TL_HEADER_ONLY
#include "tl/transfer/regularize.inl"
#endif
