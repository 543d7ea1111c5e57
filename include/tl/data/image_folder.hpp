// Pictures in folders: one folder a class.
#pragma once
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "tl/core/config.hpp"
#include "tl/io/image.hpp"

namespace tl::inline TL_ABI {

/// A picture's file and its class, as an index into Samples::classes.
struct Sample {
  std::string path;
  int64_t label = 0;
  friend bool operator==(const Sample&, const Sample&) = default;
};

/// A list of labelled pictures.
struct Samples {
  std::vector<Sample> items;
  std::vector<std::string> classes;
  int64_t skipped = 0;  ///< files that are no pictures, by their extension

  int64_t size() const { return static_cast<int64_t>(items.size()); }
  std::vector<int64_t> labels() const;
};

struct ImageFolderOptions {
  /// Without the dot; letter case does not matter. For {"jpg"}, PNG masks beside JPEG pictures are passed over.
  std::vector<std::string> extensions = {"jpg", "jpeg", "png", "ppm", "pgm", "bmp"};
  /// The classes and their order, when a model fixes them; empty: the folders' names, sorted.
  std::vector<std::string> classes = {};
};

/// Lists the pictures of `folder`/<class>/..., also in folders below; classes, folders and files in order of their
/// bytes.
///
/// Names that start with a dot are passed over. Other files are skipped with one warning that counts them; so is a
/// class without pictures, which keeps its label. Symbolic links are followed, but no folder is entered twice for a
/// class.
/// Errors: IoError when a folder cannot be read; UsageError when there is no class or no picture, or a folder that
/// is not among options.classes.
/// torchvision: `ImageFolder(folder)`, in the same order.
Samples list_image_folder(const std::string& folder, const ImageFolderOptions& options = {});

/// Pictures to learn from and, if the folder has them, those to validate with.
struct ImageFolder {
  Samples train;
  std::optional<Samples> val;
};

/// Reads the usual layouts: `folder`/train/<class>/... with `folder`/val/<class>/... (or valid, validation; test if
/// there is none of them), or `folder`/<class>/... alone. Validation takes its labels from the training classes.
/// Errors: as list_image_folder; UsageError for a validation class that was not trained, and for a class without a
/// folder in validation, which an empty one mends.
ImageFolder open_image_folder(const std::string& folder, const ImageFolderOptions& options = {});

/// A picture that cannot be decoded, and why.
struct BrokenPicture {
  std::string path, error;
};

/// Decodes every picture, in parallel, and lists those that cannot be.
std::vector<BrokenPicture> verify(const Samples& samples, const ImageOptions& options = {});

}  // namespace tl::inline TL_ABI

#if TL_HEADER_ONLY
#include "tl/data/image_folder.inl"
#endif
