// Labelled pictures, from folders or from memory.
#pragma once
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "tl/data/idx.hpp"
#include "tl/data/image_folder.hpp"
#include "tl/data/transforms.hpp"
#include "tl/io/image.hpp"

namespace tl::inline TL_ABI {

/// A list of pictures with labels. Reading is safe from several threads.
class PictureDataset {
 public:
  virtual ~PictureDataset() = default;
  virtual int64_t size() const = 0;
  /// Errors: FormatError or IoError when the picture cannot be read; loaders report it and go on.
  virtual Image picture(int64_t i) const = 0;
  virtual int64_t label(int64_t i) const = 0;
  /// Where the picture comes from: its path, or its number.
  virtual std::string name(int64_t i) const = 0;
  virtual const std::vector<std::string>& classes() const = 0;
  /// A number that is another one after the picture changed, for caches that outlive the program. This one reads the
  /// picture; for files their path, size and time of change stand for it.
  TL_INLINE virtual uint64_t fingerprint(int64_t i) const;
};

/// Pictures in files. Decoded ones are kept in memory up to `cache_bytes`, so that later epochs do not decode again.
std::shared_ptr<PictureDataset> picture_files(Samples samples, const ImageOptions& options = {},
                                              int64_t cache_bytes = int64_t{512} << 20);

/// Pictures of an IDX pair; classes are named "0", "1", ... unless names are given.
std::shared_ptr<PictureDataset> picture_array(IdxPictures pictures, std::vector<std::string> classes = {});

/// Some samples of a data set, and how they become a network's input. Transforms belong to the view: two views of one
/// data set, one augmented and one not, do not touch each other.
struct View {
  std::shared_ptr<const PictureDataset> data;
  std::vector<int64_t> indices;
  Pipeline pipeline;

  /// All samples.
  View(std::shared_ptr<const PictureDataset> dataset, Pipeline transforms);
  View(std::shared_ptr<const PictureDataset> dataset, std::vector<int64_t> samples, Pipeline transforms)
      : data(std::move(dataset)), indices(std::move(samples)), pipeline(std::move(transforms)) {}
};

}  // namespace tl::inline TL_ABI

#if TL_HEADER_ONLY
#include "tl/data/dataset.inl"
#endif
