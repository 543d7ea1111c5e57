// Definitions of data/dataset.hpp.
#pragma once
#include <filesystem>
#include <numeric>

#include "tl/core/error.hpp"
#include "tl/core/hash.hpp"
#include "tl/data/dataset.hpp"

namespace tl::inline TL_ABI {
namespace detail {

class PictureFiles final : public PictureDataset {
 public:
  PictureFiles(Samples samples, const ImageOptions& options, int64_t cache_bytes)
      : samples_(std::move(samples)), options_(options), budget_(cache_bytes), cache_(samples_.items.size()) {}

  int64_t size() const override { return samples_.size(); }
  int64_t label(int64_t i) const override { return item(i).label; }
  std::string name(int64_t i) const override { return item(i).path; }
  const std::vector<std::string>& classes() const override { return samples_.classes; }

  uint64_t fingerprint(int64_t i) const override {
    std::error_code none;  // a file that cannot be asked about will not be read either
    const std::filesystem::path path = item(i).path;
    const auto size = std::filesystem::file_size(path, none);
    const auto time = std::filesystem::last_write_time(path, none).time_since_epoch().count();
    Hash hash;
    hash.add(std::filesystem::absolute(path, none).string()).add(uint64_t{size}).add(int64_t{time});
    hash.add(jpeg_decoder()).add(options_.background.data(), options_.background.size());
    return hash.add(int{options_.apply_orientation}).add(options_.max_pixels).add(options_.max_file_bytes).value();
  }

  Image picture(int64_t i) const override {
    {
      const std::lock_guard lock(mutex_);
      if (const auto& kept = cache_.at(static_cast<size_t>(i))) return *kept;
    }
    Image image = load_image(item(i).path, options_);
    const auto bytes = static_cast<int64_t>(image.pixels.size());
    const std::lock_guard lock(mutex_);
    if (bytes <= budget_ && !cache_[static_cast<size_t>(i)]) {
      cache_[static_cast<size_t>(i)] = std::make_shared<const Image>(image);
      budget_ -= bytes;
    }
    return image;
  }

 private:
  const Sample& item(int64_t i) const { return samples_.items.at(static_cast<size_t>(i)); }

  Samples samples_;
  ImageOptions options_;
  mutable std::mutex mutex_;
  mutable int64_t budget_;
  mutable std::vector<std::shared_ptr<const Image>> cache_;
};

class PictureArray final : public PictureDataset {
 public:
  PictureArray(IdxPictures pictures, std::vector<std::string> classes)
      : pictures_(std::move(pictures)), classes_(std::move(classes)) {
    if (classes_.empty())
      for (int64_t c = 0; c < pictures_.classes; ++c) classes_.push_back(std::to_string(c));
    require<UsageError>(static_cast<int64_t>(classes_.size()) >= pictures_.classes, "picture_array: ", classes_.size(),
                        " class names for ", pictures_.classes, " classes");
  }

  int64_t size() const override { return pictures_.size(); }
  int64_t label(int64_t i) const override { return pictures_.labels.at(static_cast<size_t>(i)); }
  std::string name(int64_t i) const override { return "#" + std::to_string(i); }
  const std::vector<std::string>& classes() const override { return classes_; }
  Image picture(int64_t i) const override { return pictures_.picture(i); }

 private:
  IdxPictures pictures_;
  std::vector<std::string> classes_;
};

}  // namespace detail

TL_INLINE uint64_t PictureDataset::fingerprint(int64_t i) const {
  const Image image = picture(i);
  Hash hash;
  hash.add(image.width).add(image.height).add(image.channels);
  return hash.add(image.pixels.data(), image.pixels.size()).value();
}

TL_INLINE std::shared_ptr<PictureDataset> picture_files(Samples samples, const ImageOptions& options,
                                                        int64_t cache_bytes) {
  return std::make_shared<detail::PictureFiles>(std::move(samples), options, cache_bytes);
}

TL_INLINE std::shared_ptr<PictureDataset> picture_array(IdxPictures pictures, std::vector<std::string> classes) {
  return std::make_shared<detail::PictureArray>(std::move(pictures), std::move(classes));
}

TL_INLINE View::View(std::shared_ptr<const PictureDataset> dataset, Pipeline transforms)
    : data(std::move(dataset)), indices(static_cast<size_t>(data->size())), pipeline(std::move(transforms)) {
  std::iota(indices.begin(), indices.end(), 0);
}

}  // namespace tl::inline TL_ABI
