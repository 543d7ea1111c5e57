// Definitions of image_folder.hpp.
#pragma once
#include <dirent.h>
#include <sys/stat.h>

#include <algorithm>
#include <cctype>
#include <cerrno>
#include <cstring>
#include <memory>
#include <mutex>
#include <set>
#include <string_view>
#include <utility>

#include "tl/core/error.hpp"
#include "tl/core/log.hpp"
#include "tl/core/parallel.hpp"
#include "tl/data/image_folder.hpp"

namespace tl::inline TL_ABI {
namespace detail {

/// What a folder holds, by kind, sorted; links followed, names with a leading dot left out.
struct FolderEntries {
  std::vector<std::string> folders, files;
};

TL_INLINE FolderEntries list_folder(const std::string& path) {
  const std::unique_ptr<DIR, int (*)(DIR*)> folder(::opendir(path.c_str()), ::closedir);
  require<IoError>(folder != nullptr, "cannot read the folder ", path, ": ", std::strerror(errno));
  FolderEntries entries;
  while (const dirent* entry = ::readdir(folder.get())) {
    if (entry->d_name[0] == '.') continue;
    std::string name = entry->d_name;
    struct stat info {};
    if (::stat((path + "/" + name).c_str(), &info) != 0) continue;  // a link that leads nowhere
    if (S_ISDIR(info.st_mode)) entries.folders.push_back(std::move(name));
    else if (S_ISREG(info.st_mode)) entries.files.push_back(std::move(name));
  }
  std::sort(entries.folders.begin(), entries.folders.end());
  std::sort(entries.files.begin(), entries.files.end());
  return entries;
}

TL_INLINE bool is_folder(const std::string& path) {
  struct stat info {};
  return ::stat(path.c_str(), &info) == 0 && S_ISDIR(info.st_mode);
}

TL_INLINE bool has_extension(const std::string& name, const std::vector<std::string>& extensions) {
  const size_t dot = name.rfind('.');
  if (dot == std::string::npos) return false;
  const std::string_view extension = std::string_view(name).substr(dot + 1);
  const auto same_letter = [](unsigned char a, unsigned char b) { return std::tolower(a) == std::tolower(b); };
  return std::any_of(extensions.begin(), extensions.end(), [&](const std::string& wanted) {
    return std::equal(extension.begin(), extension.end(), wanted.begin(), wanted.end(), same_letter);
  });
}

/// All files of a class' folder and of those below it, each folder once: links cannot lead around in circles.
class ClassWalk {
 public:
  explicit ClassWalk(const std::string& folder) {
    std::vector<std::string> pending = {folder};
    std::set<std::pair<dev_t, ino_t>> seen;
    while (!pending.empty()) {
      const std::string path = std::move(pending.back());
      pending.pop_back();
      struct stat info {};
      if (::stat(path.c_str(), &info) != 0 || !seen.insert({info.st_dev, info.st_ino}).second) continue;
      FolderEntries entries = list_folder(path);
      for (const auto& name : entries.folders) pending.push_back(path + "/" + name);
      found_.emplace_back(path, std::move(entries.files));
    }
    std::sort(found_.begin(), found_.end());
  }

  template <class Visit>
  void each_file(Visit visit) const {
    for (const auto& [folder, files] : found_)
      for (const auto& file : files) visit(folder + "/" + file);
  }

 private:
  std::vector<std::pair<std::string, std::vector<std::string>>> found_;  // by folder
};

TL_INLINE std::string joined(const std::vector<std::string>& names) {
  std::string out;
  for (const auto& name : names) out += (out.empty() ? "" : ", ") + name;
  return out;
}

}  // namespace detail

TL_INLINE std::vector<int64_t> Samples::labels() const {
  std::vector<int64_t> out;
  out.reserve(items.size());
  for (const Sample& item : items) out.push_back(item.label);
  return out;
}

TL_INLINE Samples list_image_folder(const std::string& folder, const ImageFolderOptions& options) {
  const auto found = detail::list_folder(folder).folders;
  require<UsageError>(!found.empty(), "image folder ", folder, ": there are no class folders in it");
  Samples samples;
  samples.classes = options.classes.empty() ? found : options.classes;
  std::string first_skipped;
  std::vector<std::string> empty_classes, unknown;
  for (const auto& name : found)
    if (std::find(samples.classes.begin(), samples.classes.end(), name) == samples.classes.end())
      unknown.push_back(name);
  require<UsageError>(unknown.empty(), "image folder ", folder, ": unknown classes ", detail::joined(unknown),
                      ". The model knows: ", detail::joined(samples.classes));

  for (size_t label = 0; label < samples.classes.size(); ++label) {
    const std::string& name = samples.classes[label];
    const int64_t before = samples.size();
    if (std::binary_search(found.begin(), found.end(), name)) {
      detail::ClassWalk(folder + "/" + name).each_file([&](std::string path) {
        if (detail::has_extension(path, options.extensions)) {
          samples.items.push_back({std::move(path), static_cast<int64_t>(label)});
        } else if (samples.skipped++ == 0) {
          first_skipped = std::move(path);
        }
      });
    }
    if (samples.size() == before) empty_classes.push_back(name);
  }
  if (samples.skipped > 0)
    warn(text("image folder ", folder, ": skipped ", samples.skipped,
              samples.skipped == 1 ? " file that is" : " files that are", " no picture of kind ",
              detail::joined(options.extensions), ", such as ", first_skipped));
  require<UsageError>(!samples.items.empty(), "image folder ", folder, ": there are no pictures in it");
  if (!empty_classes.empty()) warn(text("image folder ", folder, ": no pictures for ", detail::joined(empty_classes)));
  return samples;
}

TL_INLINE ImageFolder open_image_folder(const std::string& folder, const ImageFolderOptions& options) {
  // A class may be called "train": only a folder of folders is a split.
  const std::string train = folder + "/train";
  if (!detail::is_folder(train) || detail::list_folder(train).folders.empty())
    return {list_image_folder(folder, options), std::nullopt};
  ImageFolder out{list_image_folder(train, options), std::nullopt};
  for (const char* name : {"val", "valid", "validation", "test"}) {
    const std::string path = folder + "/" + name;
    if (!detail::is_folder(path)) continue;
    ImageFolderOptions known = options;
    known.classes = out.train.classes;
    const auto found = detail::list_folder(path).folders;
    for (const std::string& wanted : known.classes)
      require<UsageError>(std::binary_search(found.begin(), found.end(), wanted), "image folder ", path,
                          ": there is no folder for the class ", wanted,
                          ", which is in train. Hint: an empty folder says that no picture of it shall validate.");
    out.val = list_image_folder(path, known);
    break;
  }
  return out;
}

TL_INLINE std::vector<BrokenPicture> verify(const Samples& samples, const ImageOptions& options) {
  std::vector<std::string> errors(samples.items.size());
  parallel_for(samples.size(), 1, [&](int64_t first, int64_t last) {
    for (int64_t i = first; i < last; ++i) {
      try {
        load_image(samples.items[static_cast<size_t>(i)].path, options);
      } catch (const Error& error) {
        errors[static_cast<size_t>(i)] = error.what();
      }
    }
  });
  std::vector<BrokenPicture> broken;
  for (size_t i = 0; i < errors.size(); ++i)
    if (!errors[i].empty()) broken.push_back({samples.items[i].path, std::move(errors[i])});
  return broken;
}

}  // namespace tl::inline TL_ABI
