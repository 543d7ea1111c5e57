// Definitions of idx.hpp.
#pragma once
#include <dirent.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <memory>
#include <set>
#include <span>
#include <string_view>
#include <utility>

#include "tl/core/error.hpp"
#include "tl/data/idx.hpp"
#include "tl/io/file.hpp"
#include "tl/io/inflate.hpp"

namespace tl::inline TL_ABI {
namespace detail {

/// Size of an IDX header with so many dimensions: a magic number and each size, big-endian.
constexpr uint64_t idx_header_bytes(uint64_t rank) { return 4 + 4 * rank; }

/// The shape that the first bytes of an IDX file declare.
TL_INLINE Shape parse_idx_header(std::span<const uint8_t> bytes, const std::string& path, uint64_t max_bytes) {
  const auto check = [&](bool ok, uint64_t at, const std::string& what) {
    if (!ok) throw FormatError(path, "IDX", at, what);
  };
  check(bytes.size() >= 4, bytes.size(), "the header ends too early");
  check(bytes[0] == 0 && bytes[1] == 0, 0, "this is no IDX file: it must start with two zeros");
  check(bytes[2] == 0x08, 2, text("expected elements of type 0x08, unsigned bytes, got ", int{bytes[2]}));
  const size_t rank = bytes[3];
  check(rank >= 1 && rank <= 4, 3, text("expected 1 to 4 dimensions, got ", rank));
  check(bytes.size() >= idx_header_bytes(rank), bytes.size(), "the header ends too early");
  Shape shape;
  for (size_t d = 0; d < rank; ++d) {
    const uint8_t* at = &bytes[idx_header_bytes(d)];
    const int64_t size = int64_t{at[0]} << 24 | at[1] << 16 | at[2] << 8 | at[3];
    check(size > 0, idx_header_bytes(d), "a size of zero");
    check(static_cast<uint64_t>(size) <= max_bytes / static_cast<uint64_t>(shape.numel()), idx_header_bytes(d),
          text("it declares more than the limit of ", max_bytes, " bytes"));
    shape.push_back(size);
  }
  return shape;
}

/// Cuts `-idx3-ubyte`, `.idx3-ubyte` and `.gz` off a name; false if it does not end so.
TL_INLINE bool cut_idx_ending(std::string_view& name) {
  if (name.ends_with(".gz")) name.remove_suffix(3);
  constexpr std::string_view kEnding = "-ubyte";
  if (!name.ends_with(kEnding)) return false;
  name.remove_suffix(kEnding.size());
  if (name.size() < 5 || name.back() < '1' || name.back() > '4') return false;
  name.remove_suffix(1);
  if (!name.ends_with("-idx") && !name.ends_with(".idx")) return false;
  name.remove_suffix(4);
  return true;
}

}  // namespace detail

TL_INLINE IdxTensor load_idx(const std::string& path, uint64_t max_bytes) {
  const MappedFile file(path);
  const std::span<const uint8_t> stored(reinterpret_cast<const uint8_t*>(file.bytes().data()), file.bytes().size());
  const bool compressed = stored.size() >= 2 && stored[0] == 0x1f && stored[1] == 0x8b;
  // The header decides how much may be decompressed, so that a small file cannot fill the memory.
  const auto prefix = compressed ? gunzip_prefix(stored, path, detail::idx_header_bytes(4)) : std::vector<uint8_t>();
  IdxTensor out;
  out.shape = detail::parse_idx_header(compressed ? prefix : stored, path, max_bytes);
  const uint64_t header = detail::idx_header_bytes(static_cast<uint64_t>(out.shape.rank()));
  const uint64_t expected = header + static_cast<uint64_t>(out.shape.numel());
  if (compressed) out.bytes = gunzip(stored, path, expected);
  const uint64_t got = compressed ? out.bytes.size() : stored.size();
  if (got != expected)
    throw FormatError(path, "IDX", std::min(got, expected),
                      text("a shape of ", out.shape, " needs ", expected, " bytes, the file holds ", got));
  if (compressed) out.bytes.erase(out.bytes.begin(), out.bytes.begin() + static_cast<int64_t>(header));
  else out.bytes.assign(stored.begin() + static_cast<int64_t>(header), stored.end());
  return out;
}

TL_INLINE Image IdxPictures::picture(int64_t i) const {
  require<UsageError>(i >= 0 && i < size(), "IDX pictures: expected an index below ", size(), ", got ", i);
  Image image;
  image.height = images.shape[1];
  image.width = images.shape[2];
  image.channels = images.shape.rank() == 4 ? images.shape[3] : 1;
  const int64_t bytes = image.width * image.height * image.channels;
  image.pixels.assign(images.bytes.begin() + i * bytes, images.bytes.begin() + (i + 1) * bytes);
  return to_rgb(std::move(image));
}

TL_INLINE std::vector<IdxPair> find_idx(const std::string& folder) {
  const std::unique_ptr<DIR, int (*)(DIR*)> opened(::opendir(folder.c_str()), ::closedir);
  require<IoError>(opened != nullptr, "cannot read the folder ", folder, ": ", std::strerror(errno));
  std::set<std::string> names;
  while (const dirent* entry = ::readdir(opened.get())) names.insert(entry->d_name);

  std::vector<IdxPair> pairs;
  for (const std::string& file : names) {
    std::string_view stem = file;
    if (!detail::cut_idx_ending(stem) || !(stem.ends_with("-images") || stem == "images")) continue;
    stem.remove_suffix(stem == "images" ? 6 : 7);
    for (const std::string& other : names) {
      std::string_view labels = other;
      if (!detail::cut_idx_ending(labels)) continue;
      if (labels != text(stem, stem.empty() ? "labels" : "-labels")) continue;
      // A file may lie there both plain and compressed; the plain one sorts first.
      if (pairs.empty() || pairs.back().name != stem)
        pairs.push_back({std::string(stem), folder + "/" + file, folder + "/" + other});
      break;
    }
  }
  return pairs;
}

TL_INLINE IdxPictures load_idx(const IdxPair& pair, uint64_t max_bytes) {
  IdxPictures out;
  out.images = load_idx(pair.images, max_bytes);
  const int rank = out.images.shape.rank();
  if (rank < 3 || (rank == 4 && out.images.shape[3] != 1 && out.images.shape[3] != 3))
    throw FormatError(pair.images, "IDX", 3,
                      text("expected pictures [N, H, W] or [N, H, W, 1 or 3], got ", out.images.shape));
  const IdxTensor labels = load_idx(pair.labels, max_bytes);
  if (labels.shape.rank() != 1 || labels.shape[0] != out.images.shape[0])
    throw FormatError(pair.labels, "IDX", 3,
                      text("expected a label for each of ", out.images.shape[0], " pictures, got ", labels.shape));
  out.labels.assign(labels.bytes.begin(), labels.bytes.end());
  out.classes = *std::max_element(out.labels.begin(), out.labels.end()) + 1;
  return out;
}

}  // namespace tl::inline TL_ABI
