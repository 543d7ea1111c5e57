// Files: read whole with a limit, mapped into memory, or written so that a crash leaves the old one or the new one.
#pragma once
#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <string_view>

#include "tl/core/config.hpp"
#include "tl/core/function_ref.hpp"

namespace tl::inline TL_ABI {

namespace detail {
class Descriptor;
}

/// Reads a whole file (or pipe).
/// Errors: IoError when it cannot be read, is a folder, or holds more than `max_bytes`.
std::string read_file(const std::string& path, uint64_t max_bytes);

/// Bytes in a file. Errors: IoError when it is missing.
uint64_t file_size(const std::string& path);

/// A regular file, mapped read-only into memory: its pages are read when they are touched, and shared with the system's
/// cache. The file must not be changed in place meanwhile: new bytes show through, and the system answers a read behind
/// a new end with SIGBUS. Replacing it by another one of its name, as write_atomically does, is safe.
class MappedFile {
 public:
  MappedFile() = default;
  /// Errors: IoError when the file is missing, unreadable or not a regular file.
  explicit MappedFile(const std::string& path);
  MappedFile(MappedFile&& other) noexcept;
  MappedFile& operator=(MappedFile&& other) noexcept;
  ~MappedFile();

  std::span<const std::byte> bytes() const { return {data_, size_}; }
  const std::string& path() const { return path_; }

  /// The same file mapped once more, to be written: a page is copied when it is first written to, and neither the file
  /// nor another mapping sees the change. Errors: IoError.
  MappedFile copy_on_write() const;
  /// The bytes of such a mapping; none of any other.
  std::span<std::byte> writable_bytes() { return writable_ ? std::span(data_, size_) : std::span<std::byte>(); }

 private:
  void map(bool writable);

  std::string path_;
  std::shared_ptr<const detail::Descriptor> file_;
  std::byte* data_ = nullptr;
  size_t size_ = 0;
  bool writable_ = false;
};

/// Where `write_atomically` lets its writer put bytes, in order.
class FileWriter {
 public:
  /// Errors: IoError when the system refuses, for example because the disk is full.
  void write(const void* data, size_t size);
  void write(std::string_view bytes) { write(bytes.data(), bytes.size()); }
  /// Bytes written so far.
  uint64_t position() const { return position_; }

 private:
  friend void write_atomically(const std::string&, FunctionRef<void(FileWriter&)>);
  FileWriter(int descriptor, const std::string& path) : descriptor_(descriptor), path_(path) {}
  void flush();
  void put(const char* data, size_t size);

  int descriptor_;
  const std::string& path_;
  uint64_t position_ = 0;
  std::string buffer_;
};

/// Writes the file at `path` so that, whatever happens, it is afterwards the old file or the new one, whole.
///
/// `writer` fills a temporary file in the same folder, which is flushed to disk and renamed over `path`; then the
/// folder is flushed. If anything fails the temporary file is removed and the old one stays. What a killed process
/// leaves is a hidden file `.NAME.tmp-PID-N`, which nothing reads and later writes ignore. A symbolic link is
/// followed, permissions of the old file are kept, and a device or pipe is written to directly.
/// Errors: IoError when the system refuses; what `writer` throws.
void write_atomically(const std::string& path, FunctionRef<void(FileWriter&)> writer);

/// A new file that grows piece by piece, each of which is whole on the disk or not there: for logs.
class AppendedFile {
 public:
  /// Errors: IoError when the file exists already or cannot be made.
  explicit AppendedFile(const std::string& path);
  AppendedFile(AppendedFile&& other) noexcept;
  ~AppendedFile();

  /// Writes a piece to the end and flushes it to the disk.
  /// Errors: IoError, after which the file ends as it did before.
  void append(std::string_view bytes);

  const std::string& path() const { return path_; }

 private:
  std::string path_;
  std::unique_ptr<const detail::Descriptor> file_;
  uint64_t size_ = 0;
};

}  // namespace tl::inline TL_ABI

#if TL_HEADER_ONLY
#include "tl/io/file.inl"
#endif
