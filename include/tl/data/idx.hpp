// IDX files: the format of MNIST and its many successors, plain or compressed by gzip.
#pragma once
#include <cstdint>
#include <string>
#include <vector>

#include "tl/core/config.hpp"
#include "tl/core/shape.hpp"
#include "tl/io/image.hpp"

namespace tl::inline TL_ABI {

/// Bytes with a shape, as an IDX file holds them: labels [N], tables [N, D], grey pictures [N, H, W] or colour pictures
/// [N, H, W, C].
struct IdxTensor {
  Shape shape;
  std::vector<uint8_t> bytes;
};

/// Reads an IDX file of unsigned bytes with 1 to 4 dimensions; gzip is recognised by its first bytes.
/// Errors: IoError when it cannot be read; FormatError when its magic number or sizes are wrong, when it holds less or
/// more than its header says, or more than `max_bytes`.
IdxTensor load_idx(const std::string& path, uint64_t max_bytes = uint64_t{4} << 30);

/// Pictures in memory with their labels.
struct IdxPictures {
  IdxTensor images;  ///< [N, H, W] or [N, H, W, C] with C = 1 or 3
  std::vector<int64_t> labels;
  int64_t classes = 0;  ///< largest label + 1

  int64_t size() const { return static_cast<int64_t>(labels.size()); }
  /// Picture i as RGB; grey becomes three equal channels.
  Image picture(int64_t i) const;
};

/// The two files of a data set: `<name>-images-idx3-ubyte` and `<name>-labels-idx1-ubyte`.
struct IdxPair {
  std::string name;  ///< such as "train", "t10k" or "usps-test"
  std::string images, labels;
};

/// Finds the pairs in a folder, sorted by name: any prefix, `-idx` or `.idx`, with or without `.gz`.
/// Errors: IoError when the folder cannot be read.
std::vector<IdxPair> find_idx(const std::string& folder);

/// Loads a pair. Errors: as load_idx; FormatError when the numbers of pictures and labels differ.
IdxPictures load_idx(const IdxPair& pair, uint64_t max_bytes = uint64_t{4} << 30);

}  // namespace tl::inline TL_ABI

#if TL_HEADER_ONLY
#include "tl/data/idx.inl"
#endif
