// The safetensors format: named tensors, mapped from a file and checked by all of its rules.
#pragma once
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "tl/io/file.hpp"
#include "tl/tensor/tensor.hpp"

namespace tl::inline TL_ABI {

using Metadata = std::map<std::string, std::string>;

/// An opened file. Its tensors are views of the mapping, read-only, and keep it alive.
///
/// Everything is checked before it is believed: the header's length and JSON, duplicate names, types, shapes whose size
/// overflows or does not equal the bytes claimed, overlaps, holes, and the end of the file. Numbers are not looked at
/// (BOOL's are): a NaN is one.
/// Errors: IoError, FormatError (file, tensor, byte).
/// Format: https://github.com/huggingface/safetensors
class SafetensorsFile {
 public:
  struct Entry {
    std::string dtype;  ///< as in the file, such as "F32"
    Shape shape;
    uint64_t begin = 0, end = 0;  ///< within the data
  };

  explicit SafetensorsFile(const std::string& path);

  const std::string& path() const { return path_; }
  const std::map<std::string, Entry>& entries() const { return entries_; }
  const Metadata& metadata() const { return metadata_; }
  bool contains(const std::string& name) const { return entries_.count(name) > 0; }
  uint64_t data_bytes() const { return data_bytes_; }

  /// The numbers as they are in the file. Errors: UsageError for an unknown name; DTypeError for a type that tl has
  /// not.
  Tensor tensor(const std::string& name) const;

  /// The file mapped once more, for `tensor_in`: see MappedFile::copy_on_write.
  std::shared_ptr<MappedFile> copy_on_write() const;
  /// The numbers as a tensor that may be changed and keeps `pages`, from copy_on_write, alive; what is not changed
  /// needs no memory of this process. Errors: as tensor.
  Tensor tensor_in(const std::shared_ptr<MappedFile>& pages, const std::string& name) const;

 private:
  Tensor view(const std::string& name, FunctionRef<Tensor(size_t at, const Shape& shape, DType dtype)> make) const;

  std::string path_;
  std::shared_ptr<MappedFile> mapping_;
  std::shared_ptr<Storage> storage_;
  uint64_t data_offset_ = 0, data_bytes_ = 0;
  std::map<std::string, Entry> entries_;
  Metadata metadata_;
};

struct NamedTensor {
  std::string name;
  Tensor tensor;
};

struct PlannedTensor {
  std::string name;
  DType dtype;
  Shape shape;
};

/// Writes tensors whose numbers need not be in memory together: `writer` puts them, one after another in this order.
/// Errors: as below; UsageError if `writer` puts more or less than was planned.
void write_safetensors(const std::string& path, const std::vector<PlannedTensor>& tensors, const Metadata& metadata,
                       FunctionRef<void(FileWriter&)> writer);

/// Writes tensors to a file, atomically (see write_atomically): sorted by alignment and name, without holes.
/// Errors: IoError; UsageError for a name given twice, reserved or not UTF-8.
void write_safetensors(const std::string& path, std::vector<NamedTensor> tensors, const Metadata& metadata = {});

}  // namespace tl::inline TL_ABI

#if TL_HEADER_ONLY
#include "tl/io/safetensors.inl"
#endif
