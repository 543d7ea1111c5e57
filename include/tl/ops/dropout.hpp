// Random omission in training.
#pragma once
#include <utility>
#include <vector>

#include "tl/core/random.hpp"
#include "tl/tensor/tensor.hpp"

namespace tl::inline TL_ABI {

/// Each element becomes 0 with the given probability, else x / (1 - probability). The mask is drawn again in backward
/// from the generator's seed and one counter, so that nothing is kept. Differentiable. Errors: UsageError unless 0 <=
/// probability < 1. Paper: Srivastava et al., "Dropout", 2014. PyTorch: torch.nn.functional.dropout(training=True).
Tensor dropout(const Tensor& x, double probability, Generator& generator);

/// Each sample (first dimension) as a whole becomes 0 with the given probability, else x / (1 - probability):
/// stochastic depth for residual branches. Paper: Huang et al., "Deep networks with stochastic depth", 2016. timm:
/// drop_path.
Tensor drop_path(const Tensor& x, double probability, Generator& generator);

namespace detail {

/// While it lives, what dropouts of this thread draw is noted, or, for work that is done again, comes from such notes.
class DrawScope {
 public:
  enum class Use { note, repeat };

  DrawScope(std::vector<Tensor>& notes, Use use) : notes_(notes), use_(use), around_(std::exchange(current(), this)) {}
  ~DrawScope() { current() = around_; }
  DrawScope(const DrawScope&) = delete;
  DrawScope& operator=(const DrawScope&) = delete;

  /// Seed and counter, i64 [2], of one operation. Errors: UsageError if fewer were noted.
  static Tensor draw(Generator& generator);

  /// Whether all notes were repeated.
  bool used_up() const { return used_ == notes_.size(); }

 private:
  Tensor next(Generator& generator);

  static DrawScope*& current() {
    static thread_local DrawScope* scope = nullptr;
    return scope;
  }

  std::vector<Tensor>& notes_;
  Use use_;
  size_t used_ = 0;
  DrawScope* around_;
};

}  // namespace detail
}  // namespace tl::inline TL_ABI

#if TL_HEADER_ONLY
#include "tl/ops/dropout.inl"
#endif
