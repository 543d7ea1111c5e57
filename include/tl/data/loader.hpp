// Batches, in an order that depends on the seed and the epoch alone.
#pragma once
#include <memory>
#include <string>
#include <vector>

#include "tl/data/dataset.hpp"
#include "tl/tensor/tensor.hpp"

namespace tl::inline TL_ABI {

/// Samples side by side, with the numbers by which their source knows them.
struct Batch {
  Tensor x;                      ///< [N, ...]
  Tensor y;                      ///< [N], i32
  std::vector<int64_t> indices;  ///< N positions in the data set
  Tensor mixed = {};             ///< [N, C] f32, class probabilities where pictures were mixed; undefined otherwise
};

/// One pass over a source.
class BatchStream {
 public:
  virtual ~BatchStream() = default;
  /// The next batch; false at the end.
  virtual bool next(Batch& batch) = 0;
};

/// Where training and evaluation take their batches from.
class BatchSource {
 public:
  virtual ~BatchSource() = default;
  virtual int64_t batches() const = 0;
  virtual int64_t samples() const = 0;
  /// A pass, from batch `first` on. Equal arguments give equal bits, however many threads prepare them.
  virtual std::unique_ptr<BatchStream> epoch(int64_t epoch, int64_t first = 0) = 0;
};

struct LoaderOptions {
  int64_t batch = 32;
  bool shuffle = false;    ///< a new order in each epoch
  uint64_t seed = 0;       ///< of the order and of each sample's augmentation
  int workers = 0;         ///< threads that read and transform; 0: as many as tl::threads()
  int64_t prefetch = 4;    ///< batches prepared ahead
  bool drop_last = false;  ///< leave out a last batch that is not full
};

/// Positions 0 ... count - 1 in the order of an epoch.
std::vector<int64_t> epoch_order(int64_t count, bool shuffle, uint64_t seed, int64_t epoch);

/// Pictures of a view, read and transformed by threads of its own ahead of their use. A sample's randomness comes from
/// (seed, epoch, position in the data set). A picture that cannot be read is warned of once and left out of its batch.
class Loader final : public BatchSource {
 public:
  /// Errors: UsageError for a batch size below 1 or a view without samples.
  explicit Loader(View view, const LoaderOptions& options = {});
  TL_INLINE ~Loader() override;

  TL_INLINE int64_t batches() const override;
  int64_t samples() const override { return static_cast<int64_t>(view_->indices.size()); }
  TL_INLINE std::unique_ptr<BatchStream> epoch(int64_t epoch, int64_t first = 0) override;

  /// A pass over chosen places 0 ... samples() - 1 of the view in this order, `batch` at a time, with the augmentation
  /// of an epoch.
  std::unique_ptr<BatchStream> pass(std::vector<int64_t> places, int64_t batch, int64_t epoch) const;

  const View& view() const { return *view_; }

  /// Pictures that could not be read so far, with the reason.
  std::vector<BrokenPicture> broken() const;

 private:
  class Stream;
  struct Broken;

  std::shared_ptr<const View> view_;
  LoaderOptions options_;
  std::shared_ptr<Broken> broken_;
};

/// Samples in memory, such as features that were extracted once.
class TensorSource final : public BatchSource {
 public:
  /// x [N, ...] f32, y [N] i32. Errors: ShapeError when the numbers of samples differ; DTypeError.
  TensorSource(Tensor x, Tensor y, const LoaderOptions& options = {});

  TL_INLINE int64_t batches() const override;
  int64_t samples() const override { return x_.size(0); }
  TL_INLINE std::unique_ptr<BatchStream> epoch(int64_t epoch, int64_t first = 0) override;

 private:
  Tensor x_, y_;
  LoaderOptions options_;
};

}  // namespace tl::inline TL_ABI

#if TL_HEADER_ONLY
#include "tl/data/loader.inl"
#endif
