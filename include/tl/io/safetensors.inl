// Definitions of io/safetensors.hpp.
#pragma once
#include <algorithm>
#include <limits>
#include <optional>

#include "tl/io/json.hpp"
#include "tl/io/safetensors.hpp"

namespace tl::inline TL_ABI {
namespace detail {

/// Reads the header event by event, so that a duplicate name is seen and nothing unexpected is skipped.
class SafetensorsHeader {
 public:
  using number_integer_t = Json::number_integer_t;
  using number_unsigned_t = Json::number_unsigned_t;
  using number_float_t = Json::number_float_t;
  using string_t = Json::string_t;
  using binary_t = Json::binary_t;

  std::map<std::string, SafetensorsFile::Entry> entries;
  Metadata metadata;
  std::string problem, tensor;  // what is wrong, and where
  size_t position = 0;

  bool null() { return refuse("null has no place in the header"); }
  bool boolean(bool) { return refuse("true or false has no place in the header"); }
  bool number_integer(number_integer_t) { return refuse("a negative number has no place in the header"); }
  bool number_float(number_float_t, const string_t&) { return refuse("sizes and offsets must be whole numbers"); }
  bool binary(binary_t&) { return refuse("binary data has no place in the header"); }

  bool number_unsigned(number_unsigned_t value) {
    if (place_ == Place::shape) {
      if (shape_.size() >= static_cast<size_t>(kMaxRank)) return refuse(text("more than ", kMaxRank, " dimensions"));
      if (value > static_cast<uint64_t>(std::numeric_limits<int64_t>::max())) return refuse("a size is too large");
      shape_.push_back(static_cast<int64_t>(value));
      return true;
    }
    if (place_ == Place::offsets) {
      offsets_.push_back(value);
      return offsets_.size() <= 2 || refuse("data_offsets has more than two numbers");
    }
    return refuse("a number where none belongs");
  }

  bool string(string_t& value) {
    if (place_ == Place::metadata) {
      if (!metadata.emplace(key_, value).second) return refuse("the key \"" + key_ + "\" occurs twice");
      return true;
    }
    if (place_ == Place::entry && key_ == "dtype") {
      if (dtype_) return refuse("dtype occurs twice");
      dtype_ = value;
      return true;
    }
    return refuse("text where none belongs");
  }

  bool key(string_t& value) {
    key_ = value;
    if (place_ == Place::root) tensor = value == "__metadata__" ? "" : value;
    return true;
  }

  bool start_object(size_t) {
    if (place_ == Place::start) place_ = Place::root;
    else if (place_ == Place::root && key_ == "__metadata__") {
      if (has_metadata_) return refuse("__metadata__ occurs twice");
      has_metadata_ = true;
      place_ = Place::metadata;
    } else if (place_ == Place::root) {
      if (entries.count(tensor)) return refuse("the name occurs twice");
      dtype_.reset(), shape_.clear(), offsets_.clear();
      has_shape_ = has_offsets_ = false;
      place_ = Place::entry;
    } else {
      return refuse("an object where none belongs");
    }
    return true;
  }

  bool end_object() {
    if (place_ == Place::entry) {
      if (!dtype_ || !has_shape_ || offsets_.size() != 2) return refuse("dtype, shape or data_offsets is missing");
      try {
        entries[tensor] = {*dtype_, Shape(shape_.begin(), shape_.end()), offsets_[0], offsets_[1]};
      } catch (const ShapeError& error) {
        return refuse(error.what());
      }
    }
    place_ = place_ == Place::root ? Place::end : Place::root;
    return true;
  }

  bool start_array(size_t) {
    if (place_ == Place::entry && key_ == "shape" && !has_shape_) {
      has_shape_ = true;
      place_ = Place::shape;
    } else if (place_ == Place::entry && key_ == "data_offsets" && !has_offsets_) {
      has_offsets_ = true;
      place_ = Place::offsets;
    } else {
      return refuse("a list where none belongs, or twice");
    }
    return true;
  }

  bool end_array() {
    place_ = Place::entry;
    return true;
  }

  bool parse_error(size_t at, const std::string&, const Json::exception&) {
    position = at;
    return refuse("the header is not valid JSON");
  }

 private:
  enum class Place { start, root, metadata, entry, shape, offsets, end };

  bool refuse(std::string what) {
    if (problem.empty()) problem = std::move(what);
    return false;
  }

  Place place_ = Place::start;
  std::string key_;
  std::optional<std::string> dtype_;
  std::vector<int64_t> shape_;
  std::vector<uint64_t> offsets_;
  bool has_shape_ = false, has_offsets_ = false, has_metadata_ = false;
};

struct SafetensorsType {
  std::string_view name;
  size_t bytes;
  std::optional<DType> dtype;  // none: part of the format, but not of tl
};

TL_INLINE const SafetensorsType* safetensors_type(std::string_view name) {
  static constexpr SafetensorsType kTypes[] = {
      {"F64", 8, DType::f64},   {"F32", 4, DType::f32}, {"F16", 2, DType::f16},
      {"BF16", 2, DType::bf16}, {"I64", 8, DType::i64}, {"I32", 4, DType::i32},
      {"I8", 1, DType::i8},     {"U8", 1, DType::u8},   {"BOOL", 1, DType::boolean},
      {"I16", 2, {}},           {"U16", 2, {}},         {"U32", 4, {}},
      {"U64", 8, {}},           {"C64", 8, {}},         {"F8_E4M3", 1, {}},
      {"F8_E5M2", 1, {}},       {"F8_E8M0", 1, {}},     {"F8_E4M3FNUZ", 1, {}},
      {"F8_E5M2FNUZ", 1, {}}};
  for (const auto& type : kTypes)
    if (type.name == name) return &type;
  return nullptr;
}

TL_INLINE std::string_view safetensors_name(DType dtype) {
  switch (dtype) {
    case DType::f64:
      return "F64";
    case DType::f32:
      return "F32";
    case DType::f16:
      return "F16";
    case DType::bf16:
      return "BF16";
    case DType::i64:
      return "I64";
    case DType::i32:
      return "I32";
    case DType::i8:
      return "I8";
    case DType::u8:
      return "U8";
    case DType::boolean:
      return "BOOL";
  }
  return "?";
}

}  // namespace detail

TL_INLINE SafetensorsFile::SafetensorsFile(const std::string& path)
    : path_(path), mapping_(std::make_shared<MappedFile>(path)) {
  constexpr uint64_t kMaxHeader = 100'000'000;
  const auto bytes = mapping_->bytes();
  if (bytes.size() < 8)
    throw FormatError(path, "", 0, "not a safetensors file: shorter than the 8 bytes of the header's length");
  uint64_t length = 0;
  for (size_t i = 8; i-- > 0;) length = (length << 8) | std::to_integer<uint64_t>(bytes[i]);
  if (length > kMaxHeader || length > bytes.size() - 8)
    throw FormatError(path, "", 0,
                      text("not a safetensors file: the header claims ", length, " bytes, the file has ", bytes.size(),
                           ". Hint: weights/convert.py reads .pth, .th and .bin files."));
  const auto* header = reinterpret_cast<const char*>(bytes.data()) + 8;
  if (length == 0 || header[0] != '{') throw FormatError(path, "", 8, "the header must begin with '{'");

  const auto refuse = [&](const std::string& name, uint64_t at, const std::string& what) {
    constexpr size_t kShown = 200;  // of a name that may be as long as the header
    throw FormatError(path, name.size() > kShown ? name.substr(0, kShown) + "..." : name, at, what);
  };
  detail::SafetensorsHeader parsed;
  if (!detail::Json::sax_parse(header, header + length, &parsed))
    refuse(parsed.tensor, 8 + parsed.position, parsed.problem);
  data_offset_ = 8 + length;
  data_bytes_ = bytes.size() - data_offset_;

  std::vector<std::pair<uint64_t, const std::string*>> order;
  for (const auto& [name, entry] : parsed.entries) {
    const auto* type = detail::safetensors_type(entry.dtype);
    if (!type) refuse(name, 8, "unknown dtype \"" + entry.dtype.substr(0, 32) + "\"");
    if (entry.begin > entry.end || entry.end > data_bytes_)
      refuse(name, data_offset_,
             text("data_offsets [", entry.begin, ", ", entry.end, "] leave the ", data_bytes_,
                  " bytes of data. Hint: is the file complete?"));
    if (static_cast<uint64_t>(entry.shape.numel()) * type->bytes != entry.end - entry.begin)
      refuse(name, data_offset_ + entry.begin,
             text(entry.dtype, " ", entry.shape, " does not fill ", entry.end - entry.begin, " bytes"));
    order.emplace_back(entry.begin, &name);
  }
  std::sort(order.begin(), order.end(), [&](const auto& a, const auto& b) {
    return std::pair(a.first, parsed.entries[*a.second].end) < std::pair(b.first, parsed.entries[*b.second].end);
  });
  uint64_t at = 0;
  for (const auto& [begin, name] : order) {
    if (begin != at)
      refuse(*name, data_offset_ + begin,
             begin < at ? "overlaps the tensor before it" : "leaves a hole behind the tensor before it");
    at = parsed.entries[*name].end;
  }
  if (at != data_bytes_) refuse("", data_offset_ + at, text(data_bytes_ - at, " bytes follow the last tensor"));

  entries_ = std::move(parsed.entries);
  metadata_ = std::move(parsed.metadata);
  storage_ = std::make_shared<Storage>(const_cast<std::byte*>(bytes.data()), bytes.size(), false, mapping_);
}

TL_INLINE Tensor SafetensorsFile::view(const std::string& name,
                                       FunctionRef<Tensor(size_t at, const Shape& shape, DType dtype)> make) const {
  const auto found = entries_.find(name);
  require<UsageError>(found != entries_.end(), path_, ": there is no tensor \"", name, "\"");
  const Entry& entry = found->second;
  const auto* type = detail::safetensors_type(entry.dtype);
  require<DTypeError>(type->dtype.has_value(), path_, ": ", name, ": tl does not read ", entry.dtype);
  const uint64_t at = data_offset_ + entry.begin;
  if (type->dtype == DType::boolean)
    for (const std::byte value : mapping_->bytes().subspan(at, entry.end - entry.begin))
      if (value > std::byte{1}) throw FormatError(path_, name, at, "BOOL holds something other than 0 and 1");
  if (at % type->bytes == 0) return make(at, entry.shape, *type->dtype);
  Tensor copy = Tensor::empty(entry.shape, *type->dtype);  // the format does not promise alignment
  if (copy.numel() > 0) std::memcpy(copy.raw_mutable_data(), mapping_->bytes().data() + at, copy.bytes());
  return copy;
}

TL_INLINE Tensor SafetensorsFile::tensor(const std::string& name) const {
  return view(name,
              [&](size_t at, const Shape& shape, DType dtype) { return Tensor::view_of(storage_, at, shape, dtype); });
}

TL_INLINE std::shared_ptr<MappedFile> SafetensorsFile::copy_on_write() const {
  return std::make_shared<MappedFile>(mapping_->copy_on_write());
}

TL_INLINE Tensor SafetensorsFile::tensor_in(const std::shared_ptr<MappedFile>& pages, const std::string& name) const {
  // A storage of its own, since a storage's version is that of all that it holds.
  return view(name, [&](size_t at, const Shape& shape, DType dtype) {
    const size_t bytes = static_cast<size_t>(shape.numel()) * size_of(dtype);
    return Tensor::view_of(std::make_shared<Storage>(pages->writable_bytes().data() + at, bytes, true, pages), 0, shape,
                           dtype);
  });
}

namespace detail {

TL_INLINE bool is_utf8(const std::string& name) {
  try {
    return !Json(name).dump().empty();
  } catch (const Json::type_error&) {
    return false;
  }
}

}  // namespace detail

TL_INLINE void write_safetensors(const std::string& path, const std::vector<PlannedTensor>& tensors,
                                 const Metadata& metadata, FunctionRef<void(FileWriter&)> writer) {
  using detail::Json;
  Json header = Json::object();
  if (!metadata.empty()) header["__metadata__"] = metadata;
  uint64_t offset = 0;
  for (const PlannedTensor& t : tensors) {
    require<UsageError>(t.name != "__metadata__" && detail::is_utf8(t.name), "write_safetensors: \"", t.name,
                        "\" is no name for a tensor");
    require<UsageError>(!header.contains(t.name), "write_safetensors: the name \"", t.name, "\" is given twice");
    const uint64_t bytes = static_cast<uint64_t>(t.shape.numel()) * size_of(t.dtype);
    header[t.name] = {{"dtype", detail::safetensors_name(t.dtype)},
                      {"shape", std::vector<int64_t>(t.shape.begin(), t.shape.end())},
                      {"data_offsets", {offset, offset + bytes}}};
    offset += bytes;
  }
  // Metadata may quote folders' names, which are bytes of any kind.
  std::string text_header = header.dump(-1, ' ', false, Json::error_handler_t::replace);
  while (text_header.size() % 8 != 0) text_header += ' ';

  write_atomically(path, [&](FileWriter& file) {
    const uint64_t length = text_header.size();
    char bytes[8];
    for (int i = 0; i < 8; ++i) bytes[i] = static_cast<char>(length >> (8 * i));
    file.write(bytes, 8);
    file.write(text_header);
    const uint64_t begin = file.position();
    writer(file);
    require<UsageError>(file.position() - begin == offset, "write_safetensors: ", file.position() - begin,
                        " bytes were put where ", offset, " had been planned");
  });
}

TL_INLINE void write_safetensors(const std::string& path, std::vector<NamedTensor> tensors, const Metadata& metadata) {
  for (NamedTensor& t : tensors) {
    require<UsageError>(t.tensor.defined(), "write_safetensors: the tensor \"", t.name, "\" is undefined");
    t.tensor = t.tensor.to(kCpu);
  }
  std::sort(tensors.begin(), tensors.end(), [](const NamedTensor& a, const NamedTensor& b) {
    const size_t size_a = size_of(a.tensor.dtype()), size_b = size_of(b.tensor.dtype());
    return size_a != size_b ? size_a > size_b : a.name < b.name;
  });
  std::vector<PlannedTensor> planned;
  for (const NamedTensor& t : tensors) planned.push_back({t.name, t.tensor.dtype(), t.tensor.shape()});
  write_safetensors(path, planned, metadata, [&](FileWriter& file) {
    for (const NamedTensor& t : tensors)
      if (t.tensor.bytes() > 0) file.write(t.tensor.raw_data(), t.tensor.bytes());
  });
}

}  // namespace tl::inline TL_ABI
