// The frozen lower part of a network runs once for each sample; later epochs read its results.
//
//     FeatureCache cache(net, {.storage = CacheStorage::disk, .folder = "cache"});
//     CachedSource train(cache, train_view, {.batch = 32, .shuffle = true}), val(cache, val_view);
//     fit(net, optimizer, train, &val, classes, {.forward = cache.forward()});
#pragma once
#include <functional>
#include <limits>
#include <map>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "tl/autograd/capture.hpp"
#include "tl/core/function_ref.hpp"
#include "tl/data/loader.hpp"
#include "tl/nn/staged.hpp"

namespace tl::inline TL_ABI {

/// The lowest stages of a network, in which nothing lives: their results for a sample are always the same.
struct FrozenPrefix {
  size_t stages = 0;  ///< at most all but the last
  std::string end;    ///< what lives in the stage above, and what to do about it
};

/// How far up a network is frozen: all parameters, all layers with statistics (BatchNorm), all that draws random
/// numbers (dropout; or its probability is 0).
FrozenPrefix frozen_prefix(nn::Staged& net);

enum class CacheStorage : uint8_t {
  memory,
  disk,  ///< files that are mapped into memory, and found again by later runs
  none,  ///< nothing is kept, the prefix runs in each epoch: the same bits
};

struct FeatureCacheOptions {
  CacheStorage storage = CacheStorage::memory;
  std::string folder = {};                             ///< of the files, made if need be; for disk
  DType dtype = DType::f32;                            ///< of what is kept, f32 or bf16, which takes half of the room
  int64_t byte_budget = int64_t{4} << 30;              ///< of all sources; samples beyond it are computed in each epoch
  int64_t batch = 32;                                  ///< samples in one run of the prefix, always as many
  size_t stages = std::numeric_limits<size_t>::max();  ///< cut after so many; by default where the frozen prefix ends
  std::string own_steps = {};  ///< for disk: a name for the transforms of your own; change it when they change
  std::function<void(int64_t done, int64_t of)> progress = {};  ///< told of samples while they are computed for keeping
};

/// What CachedSources of one network share: where it is cut, and the room for what is kept.
///
/// When a pass over a source begins, the freeze state and the prefix's numbers are looked at again. Where the boundary
/// moved, because something was frozen or unfrozen, or numbers changed, all is dropped and made anew; when nothing is
/// frozen any more, sources give pictures. So unfreezing in FitOptions::before_epoch just works.
///
/// The prefix runs in evaluation mode, without gradients, in batches of one size (the last is filled up with zeros), so
/// that a sample's results depend on nothing but the sample: in memory, on disk or not kept at all, in any order, with
/// any number of threads they have the same bits.
class FeatureCache {
 public:
  /// Errors: UsageError if stage 0 is alive, or one below `options.stages`, with the layer and what to do; for disk
  /// without a folder, a type that is neither f32 nor bf16, or a batch below 1.
  explicit FeatureCache(nn::Staged& net, FeatureCacheOptions options = {});
  FeatureCache(const FeatureCache&) = delete;
  FeatureCache& operator=(const FeatureCache&) = delete;

  /// Stages below the cut, as of the latest pass that began; 0: nothing is frozen.
  size_t stages() const { return stages_; }

  /// What is left of the network: logits from the batches of a CachedSource.
  std::function<Tensor(const Tensor&)> forward();

  const FeatureCacheOptions& options() const { return options_; }

  /// Bytes that are kept, in memory or on disk.
  int64_t bytes() const { return bytes_; }

 private:
  friend class CachedSource;

  /// Results of the prefix for the first samples of a view.
  struct Rows {
    Tensor features;               ///< [kept, ...]
    std::vector<uint8_t> present;  ///< [kept]; 0: the picture could not be read
  };

  void refresh();
  uint64_t prefix_hash(const std::vector<std::vector<nn::NamedModule>>& modules) const;
  Tensor prefix(const Tensor& x);
  Device device() const;

  nn::Staged& net_;
  FeatureCacheOptions options_;
  size_t stages_ = 0;
  std::vector<uint64_t> state_;  // what the generation was seen to depend on
  uint64_t hash_ = 0;            // the same by content
  int64_t generation_ = 0;       // counts the times when all was dropped
  int64_t bytes_ = 0;
  std::map<std::pair<const void*, int64_t>, std::shared_ptr<const Rows>> rows_;  // by source and variant
};

/// Batches of a frozen prefix's results instead of pictures, with the order and the labels that a Loader with the same
/// options would have.
class CachedSource final : public BatchSource {
 public:
  /// With random augmentation, `variants` passes are kept, and epoch e sees the one that the Loader would augment in
  /// epoch e mod variants. The cache must outlive its sources.
  /// Errors: as Loader; UsageError for fewer variants than 1 or more than 2^20, and for disk with transforms of your
  /// own that options.own_steps does not name.
  CachedSource(FeatureCache& cache, View view, const LoaderOptions& options = {}, int64_t variants = 1);
  TL_INLINE ~CachedSource() override;
  CachedSource(const CachedSource&) = delete;
  CachedSource& operator=(const CachedSource&) = delete;

  int64_t batches() const override { return loader_.batches(); }
  int64_t samples() const override { return loader_.samples(); }
  /// Computes first what is to be kept for this epoch and is not there yet.
  /// Errors: IoError when a file cannot be written. A file that is damaged or not ours is made anew, with a warning.
  TL_INLINE std::unique_ptr<BatchStream> epoch(int64_t epoch, int64_t first = 0) override;

  /// Does now what the pass over an epoch would do first.
  void fill(int64_t epoch = 0);

  /// Pictures that could not be read so far, with the reason; those of a file from an earlier run are not among them.
  std::vector<BrokenPicture> broken() const { return loader_.broken(); }

 private:
  class Computed;
  class Stream;
  using Rows = FeatureCache::Rows;

  void plan();
  std::shared_ptr<const Rows> rows_of(int64_t variant);
  Rows in_memory(int64_t variant);
  Rows on_disk(int64_t variant);
  Rows read(const std::string& path, const std::string& key) const;
  void write(const std::string& path, const std::string& key, int64_t variant);
  void compute(int64_t variant, FunctionRef<void(int64_t place, const std::byte* row)> take);
  std::string key_of(int64_t variant) const;

  FeatureCache& cache_;
  Loader loader_;
  LoaderOptions options_;
  int64_t variants_;
  int64_t generation_ = 0;  // for which the following was planned
  Shape row_;               // of one sample
  size_t row_bytes_ = 0;
  int64_t kept_ = 0;  // samples of each variant, the first ones of the view
};

}  // namespace tl::inline TL_ABI

#if TL_HEADER_ONLY
#include "tl/transfer/cache.inl"
#endif
