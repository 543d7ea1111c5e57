// Definitions of file.hpp.
#pragma once
#include <fcntl.h>
#include <limits.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <utility>

#include "tl/core/error.hpp"
#include "tl/io/file.hpp"

namespace tl::inline TL_ABI {
namespace detail {

/// Throws an IoError that ends with the system's reason for the last failed call.
template <class... Parts>
[[noreturn]] void fail_io(const Parts&... parts) {
  const int reason = errno;
  fail<IoError>(parts..., ": ", std::strerror(reason));
}

/// An open file, closed at the end of the scope.
class Descriptor {
 public:
  Descriptor(const std::string& path, int flags, mode_t mode = 0)
      : value_(::open(path.c_str(), flags | O_CLOEXEC, mode)) {}
  ~Descriptor() {
    if (value_ >= 0) ::close(value_);
  }
  Descriptor(const Descriptor&) = delete;
  Descriptor& operator=(const Descriptor&) = delete;

  int get() const { return value_; }
  bool is_open() const { return value_ >= 0; }

 private:
  int value_;
};

/// Flushes to the disk. File systems that cannot flush (some network mounts, folders there) say EINVAL: nothing to do.
TL_INLINE bool flush_to_disk(int descriptor) { return ::fsync(descriptor) == 0 || errno == EINVAL || errno == EROFS; }

TL_INLINE void write_all(int descriptor, const char* data, size_t size, const std::string& path) {
  while (size > 0) {
    // Linux takes at most 2 GiB at once.
    const ssize_t done = ::write(descriptor, data, std::min<size_t>(size, 1 << 30));
    if (done < 0 && errno == EINTR) continue;
    if (done < 0) fail_io("cannot write ", path);
    data += done;
    size -= static_cast<size_t>(done);
  }
}

/// Where to write: `path` with symbolic links followed, so that a link stays a link.
TL_INLINE std::string resolve_links(const std::string& path) {
  char resolved[PATH_MAX];
  return ::realpath(path.c_str(), resolved) ? resolved : path;
}

/// A new empty file beside its later place; removed at the end of the scope unless renamed.
class TemporaryFile {
 public:
  TemporaryFile(const std::string& folder, const std::string& name, mode_t mode) {
    static std::atomic<unsigned> counter{0};
    do {
      path_ = text(folder, "/.", name, ".tmp-", ::getpid(), "-", counter.fetch_add(1));
      descriptor_ = ::open(path_.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, mode);
    } while (descriptor_ < 0 && errno == EEXIST);
    if (descriptor_ < 0) fail_io("cannot create a file in ", folder);
  }
  ~TemporaryFile() {
    if (descriptor_ >= 0) ::close(descriptor_);
    if (!renamed_) ::unlink(path_.c_str());
  }
  TemporaryFile(const TemporaryFile&) = delete;
  TemporaryFile& operator=(const TemporaryFile&) = delete;

  int get() const { return descriptor_; }

  void rename_to(const std::string& target) {
    // Network file systems report a full disk as late as here.
    if (::close(std::exchange(descriptor_, -1)) != 0) fail_io("cannot write ", target);
    if (::rename(path_.c_str(), target.c_str()) != 0) fail_io("cannot replace ", target);
    renamed_ = true;
  }

 private:
  std::string path_;
  int descriptor_ = -1;
  bool renamed_ = false;
};

}  // namespace detail

TL_INLINE std::string read_file(const std::string& path, uint64_t max_bytes) {
  const detail::Descriptor file(path, O_RDONLY);
  struct stat info {};
  if (!file.is_open() || ::fstat(file.get(), &info) != 0) detail::fail_io("cannot open ", path);
  require<IoError>(!S_ISDIR(info.st_mode), "cannot read ", path, ": it is a folder");
  const auto announced = S_ISREG(info.st_mode) ? static_cast<uint64_t>(info.st_size) : 0;
  const auto check = [&](uint64_t size) {
    require<IoError>(size <= max_bytes, "cannot read ", path, ": it holds more than the limit of ", max_bytes,
                     " bytes");
  };
  check(announced);

  // One byte more than announced, so that the read that meets the end needs no growth.
  std::string out(static_cast<size_t>(announced) + 1, '\0');
  size_t size = 0;
  for (;;) {
    if (size == out.size()) out.resize(size + std::max<size_t>(size, 1 << 16));
    const ssize_t got = ::read(file.get(), out.data() + size, out.size() - size);
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) detail::fail_io("cannot read ", path);
    if (got == 0) break;
    size += static_cast<size_t>(got);
    check(size);
  }
  out.resize(size);
  return out;
}

TL_INLINE uint64_t file_size(const std::string& path) {
  struct stat info {};
  if (::stat(path.c_str(), &info) != 0) detail::fail_io("cannot open ", path);
  return static_cast<uint64_t>(info.st_size);
}

TL_INLINE MappedFile::MappedFile(const std::string& path) : path_(path) {
  // A pipe without a writer would block the opening.
  file_ = std::make_shared<const detail::Descriptor>(path, O_RDONLY | O_NONBLOCK);
  struct stat info {};
  if (!file_->is_open() || ::fstat(file_->get(), &info) != 0) detail::fail_io("cannot open ", path);
  require<IoError>(S_ISREG(info.st_mode), "cannot map ", path, ": it is not a regular file");
  size_ = static_cast<size_t>(info.st_size);
  map(false);
}

TL_INLINE void MappedFile::map(bool writable) {
  writable_ = writable;
  if (size_ == 0) return;  // the system maps no empty files
  void* data = ::mmap(nullptr, size_, PROT_READ | (writable ? PROT_WRITE : 0), MAP_PRIVATE, file_->get(), 0);
  if (data == MAP_FAILED) detail::fail_io("cannot map ", path_);
  data_ = static_cast<std::byte*>(data);
}

TL_INLINE MappedFile MappedFile::copy_on_write() const {
  MappedFile out;
  out.path_ = path_;
  out.file_ = file_;
  out.size_ = size_;
  out.map(true);
  return out;
}

TL_INLINE MappedFile::MappedFile(MappedFile&& other) noexcept { *this = std::move(other); }

TL_INLINE MappedFile& MappedFile::operator=(MappedFile&& other) noexcept {
  std::swap(path_, other.path_);
  std::swap(file_, other.file_);
  std::swap(data_, other.data_);
  std::swap(size_, other.size_);
  std::swap(writable_, other.writable_);
  return *this;
}

TL_INLINE MappedFile::~MappedFile() {
  if (data_) ::munmap(data_, size_);
}

TL_INLINE void FileWriter::write(const void* data, size_t size) {
  constexpr size_t kBuffer = 1 << 16;
  const char* bytes = static_cast<const char*>(data);
  position_ += size;
  if (buffer_.size() + size > kBuffer) flush();
  if (size > kBuffer) put(bytes, size);
  else buffer_.append(bytes, size);
}

TL_INLINE void FileWriter::flush() {
  put(buffer_.data(), buffer_.size());
  buffer_.clear();
}

TL_INLINE void FileWriter::put(const char* data, size_t size) { detail::write_all(descriptor_, data, size, path_); }

TL_INLINE void write_atomically(const std::string& path, FunctionRef<void(FileWriter&)> writer) {
  struct stat old {};
  const bool exists = ::stat(path.c_str(), &old) == 0;
  if (exists && !S_ISREG(old.st_mode)) {
    const detail::Descriptor device(path, O_WRONLY);
    if (!device.is_open()) detail::fail_io("cannot write ", path);
    FileWriter out(device.get(), path);
    writer(out);
    out.flush();
    return;
  }

  const std::string target = detail::resolve_links(path);
  const size_t slash = target.rfind('/');
  const std::string folder = slash == std::string::npos ? "." : target.substr(0, slash + 1);
  constexpr mode_t kPermissions = 0777;
  detail::TemporaryFile temporary(folder, slash == std::string::npos ? target : target.substr(slash + 1), 0666);
  if (exists) static_cast<void>(::fchmod(temporary.get(), old.st_mode & kPermissions));
  FileWriter out(temporary.get(), path);
  writer(out);
  out.flush();
  if (!detail::flush_to_disk(temporary.get())) detail::fail_io("cannot write ", path);
  temporary.rename_to(target);
  const detail::Descriptor parent(folder, O_RDONLY | O_DIRECTORY);
  if (!parent.is_open() || !detail::flush_to_disk(parent.get())) detail::fail_io("cannot flush the folder of ", path);
}

TL_INLINE AppendedFile::AppendedFile(const std::string& path)
    : path_(path), file_(std::make_unique<const detail::Descriptor>(path, O_WRONLY | O_CREAT | O_EXCL, 0666)) {
  if (!file_->is_open()) detail::fail_io("cannot create ", path);
}

TL_INLINE AppendedFile::AppendedFile(AppendedFile&& other) noexcept = default;
TL_INLINE AppendedFile::~AppendedFile() = default;

TL_INLINE void AppendedFile::append(std::string_view bytes) {
  try {
    detail::write_all(file_->get(), bytes.data(), bytes.size(), path_);
    if (!detail::flush_to_disk(file_->get())) detail::fail_io("cannot write ", path_);
  } catch (const IoError&) {
    const auto end = static_cast<off_t>(size_);  // no half piece among whole ones
    static_cast<void>(::ftruncate(file_->get(), end) == 0 && ::lseek(file_->get(), end, SEEK_SET) == end);
    throw;
  }
  size_ += bytes.size();
}

}  // namespace tl::inline TL_ABI
