// The safetensors format: what is written comes back, and what breaks a rule is refused with one clear error.
#include "tl/io/safetensors.hpp"

#include <cstring>
#include <nlohmann/json.hpp>
#include <random>

#include "folder.hpp"
#include "io/failures.hpp"

namespace {

using namespace tl;
using namespace tl_test;

std::string bytes_of(const Tensor& t) { return {static_cast<const char*>(t.raw_data()), t.bytes()}; }

std::string with_length(const std::string& header, const std::string& data) {
  std::string out(8, '\0');
  for (size_t i = 0; i < 8; ++i) out[i] = static_cast<char>(static_cast<uint64_t>(header.size()) >> (8 * i));
  return out + header + data;
}

/// A file with this header and so many bytes of data.
std::string put_header(const Folder& folder, const std::string& header, size_t data_bytes) {
  const std::string path = folder / "a.safetensors";
  put_file(path, with_length(header, std::string(data_bytes, '\1')));
  return path;
}

constexpr DType kTypes[] = {DType::f32, DType::f64, DType::bf16, DType::f16,    DType::i8,
                            DType::u8,  DType::i32, DType::i64,  DType::boolean};

Tensor sample(const Shape& shape, DType dtype) {
  Tensor out = Tensor::empty(shape, dtype);
  auto* bytes = out.numel() > 0 ? static_cast<unsigned char*>(out.raw_mutable_data()) : nullptr;
  for (size_t i = 0; i < out.bytes(); ++i)
    bytes[i] = static_cast<unsigned char>(dtype == DType::boolean ? i % 2 : 37 * i + 11 * static_cast<size_t>(dtype));
  return out;
}

}  // namespace

TEST_CASE("every type and rank comes back to the bit, empty tensors too") {
  const Folder folder;
  const Shape shapes[] = {{},  {5},      {2, 3}, {2, 3, 2}, {1, 2, 1, 3}, {2, 1, 2, 1, 2}, {1, 2, 1, 2, 1, 3},
                          {0}, {3, 0, 2}};
  std::vector<NamedTensor> tensors;
  for (const DType dtype : kTypes)
    for (const Shape& shape : shapes) tensors.push_back({text(name_of(dtype), ".", shape), sample(shape, dtype)});
  const Metadata metadata{{"arch", "lenet"}, {"odd", "\"quoted\"\n\\ \xc3\xa9\t\x01"}, {"", "empty key"}};
  const std::string path = folder / "a.safetensors";
  write_safetensors(path, tensors, metadata);

  const SafetensorsFile file(path);
  CHECK(file.metadata() == metadata);
  CHECK(file.entries().size() == tensors.size());
  for (const auto& t : tensors) {
    CAPTURE(t.name);
    REQUIRE(file.contains(t.name));
    const Tensor back = file.tensor(t.name);
    CHECK(back.dtype() == t.tensor.dtype());
    CHECK(back.shape() == t.tensor.shape());
    CHECK(bytes_of(back) == bytes_of(t.tensor));
  }

  // Nothing at all is a file as well.
  write_safetensors(path, {});
  CHECK(SafetensorsFile(path).entries().empty());
  CHECK(SafetensorsFile(path).data_bytes() == 0);
}

TEST_CASE("tensors view the mapping: read-only, alive after the file object, and after another file took the name") {
  const Folder folder;
  const std::string path = folder / "a.safetensors";
  write_safetensors(path, {{"x", sample({1000}, DType::f32)}});
  Tensor x = SafetensorsFile(path).tensor("x");
  write_safetensors(path, {{"y", sample({1}, DType::i8)}});
  CHECK(bytes_of(x) == bytes_of(sample({1000}, DType::f32)));
  CHECK_THROWS_AS(x.mutable_data<float>(), UsageError);
  Tensor copy = x.clone();
  copy.mutable_data<float>()[0] = 1;
}

TEST_CASE(
    "the writer sorts by alignment and name, pads the header, leaves no hole, and gives the same bytes each time") {
  const Folder folder;
  const std::string path = folder / "a.safetensors", again = folder / "b.safetensors";
  std::vector<NamedTensor> tensors = {{"b", sample({3}, DType::u8)},
                                      {"d", sample({1}, DType::f32)},
                                      {"a", sample({5}, DType::i8)},
                                      {"c", sample({1}, DType::f64)},
                                      {"e", sample({3}, DType::f16)}};
  write_safetensors(path, tensors, {{"k", "v"}});
  std::swap(tensors[0], tensors[4]);
  write_safetensors(again, tensors, {{"k", "v"}});
  const std::string bytes = get_file(path);
  CHECK(bytes == get_file(again));
  uint64_t length = 0;
  std::memcpy(&length, bytes.data(), 8);
  CHECK(length % 8 == 0);
  const auto header = nlohmann::ordered_json::parse(bytes.substr(8, length));
  std::string order;
  uint64_t at = 0;
  for (const auto& [name, entry] : header.items()) {
    order += name;
    if (name == "__metadata__") continue;
    CHECK(entry["data_offsets"][0] == at);
    at = entry["data_offsets"][1];
  }
  CHECK(order == "__metadata__cdeab");
  CHECK(bytes.size() == 8 + length + at);
}

TEST_CASE("the writer refuses names that cannot be, and keeps odd metadata readable") {
  const Folder folder;
  const std::string path = folder / "a.safetensors";
  const Tensor x = sample({1}, DType::f32);
  CHECK_THROWS_WITH_AS(write_safetensors(path, {{"x", x}, {"x", x}}),
                       "write_safetensors: the name \"x\" is given twice", UsageError);
  CHECK_THROWS_AS(write_safetensors(path, {{"__metadata__", x}}), UsageError);
  CHECK_THROWS_AS(write_safetensors(path, {{"x", Tensor()}}), UsageError);
  CHECK_THROWS_AS(write_safetensors(path, {{"\xff", x}}), UsageError);
  CHECK(folder.entries() == 0);
  write_safetensors(path, {{"", x}, {"a\"b\\c\n", x}}, {{"folder", "caf\xe9"}});
  const SafetensorsFile file(path);
  CHECK(file.contains(""));
  CHECK(file.contains("a\"b\\c\n"));
  CHECK(file.metadata().at("folder") == "caf\xef\xbf\xbd");
}

TEST_CASE("tensors can be written one after another without being in memory together, but as planned") {
  const Folder folder;
  const std::string path = folder / "a.safetensors";
  const std::vector<PlannedTensor> planned{{"z", DType::f32, {2, 3}}, {"a", DType::u8, {1}}};
  const auto write = [&](int64_t numbers) {
    write_safetensors(path, planned, {{"made", "in parts"}}, [&](FileWriter& file) {
      for (int64_t i = 0; i < numbers; ++i) {
        const auto value = static_cast<float>(i);
        file.write(&value, sizeof value);
      }
      file.write("!");
    });
  };
  write(6);
  const SafetensorsFile file(path);
  CHECK(file.metadata().at("made") == "in parts");
  CHECK(file.tensor("z").shape() == Shape{2, 3});
  CHECK(file.tensor("z").data<float>()[5] == 5);
  CHECK(file.tensor("a").data<uint8_t>()[0] == '!');
  const std::string good = get_file(path);
  CHECK_THROWS_WITH_AS(write(5), "write_safetensors: 21 bytes were put where 25 had been planned", UsageError);
  CHECK(get_file(path) == good);
  CHECK(folder.entries() == 1);
}

TEST_CASE("FR05: a full disk is an IoError and the old file stays") {
  const Folder folder;
  const std::string path = folder / "a.safetensors";
  write_safetensors(path, {{"x", sample({4}, DType::f32)}});
  const std::string before = get_file(path);
  const std::vector<NamedTensor> large = {{"x", sample({100000}, DType::f32)}};
  {
    const FullDisk full(100000);
    CHECK_THROWS_AS(write_safetensors(path, large), IoError);
  }
  CHECK(get_file(path) == before);
  CHECK(folder.entries() == 1);
  CHECK_THROWS_AS(write_safetensors("/dev/full", large), IoError);
  CHECK_THROWS_AS(write_safetensors(folder / "none/a.safetensors", large), IoError);
}

TEST_CASE("a file cut anywhere is refused") {
  const Folder folder;
  const std::string path = folder / "a.safetensors";
  write_safetensors(path, {{"w", sample({2, 3}, DType::f32)}, {"n", sample({}, DType::i64)}}, {{"arch", "lenet"}});
  const std::string whole = get_file(path);
  for (size_t size = 0; size < whole.size(); ++size) {
    put_file(path, whole.substr(0, size));
    CHECK_THROWS_AS(SafetensorsFile{path}, FormatError);
  }
  put_file(path, whole + '\0');
  CHECK_THROWS_WITH_AS(
      SafetensorsFile{path},
      (path + ": 1 bytes follow the last tensor (at byte " + std::to_string(whole.size()) + ")").c_str(), FormatError);
  CHECK_THROWS_AS(SafetensorsFile(folder / "none"), IoError);
  CHECK_THROWS_AS(SafetensorsFile(folder.path.string()), IoError);
}

TEST_CASE("every rule of the header is kept, and the error says which one is broken") {
  struct Row {
    const char* header;
    size_t data;
    const char* error;  // a part of it
  };
  const std::string deep = "{\"a\":" + std::string(100000, '['), wide = "{\"" + std::string(100000, 'n') + "\":1}";
  const Row rows[] = {
      {"", 0, "must begin with '{'"},
      {" {}", 0, "must begin with '{'"},
      {"[]", 0, "must begin with '{'"},
      {"{", 0, "not valid JSON"},
      {"{}}", 0, "not valid JSON"},
      {"{} x", 0, "not valid JSON"},
      {"{\"a\":}", 0, "not valid JSON"},
      {"{\"\xff\":1}", 0, "not valid JSON"},
      {"{\"a\":1}", 0, "a: a number where none belongs"},
      {"{\"a\":null}", 0, "a: null has no place"},
      {"{\"a\":true}", 0, "a: true or false has no place"},
      {"{\"a\":\"b\"}", 0, "a: text where none belongs"},
      {"{\"a\":[]}", 0, "a: a list where none belongs"},
      {"{\"a\":{}}", 0, "a: dtype, shape or data_offsets is missing"},
      {"{\"a\":{\"dtype\":\"F32\",\"shape\":[1]}}", 4, "data_offsets is missing"},
      {"{\"a\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[0]}}", 4, "data_offsets is missing"},
      {"{\"a\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[0,4,8]}}", 4, "more than two numbers"},
      {"{\"a\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[0,4],\"extra\":1}}", 4,
       "a number where none belongs"},
      {"{\"a\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[0,4],\"extra\":\"b\"}}", 4,
       "text where none belongs"},
      {"{\"a\":{\"dtype\":\"F32\",\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[0,4]}}", 4, "dtype occurs twice"},
      {"{\"a\":{\"dtype\":\"F32\",\"shape\":[1],\"shape\":[1],\"data_offsets\":[0,4]}}", 4, "or twice"},
      {"{\"a\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[0,4],\"data_offsets\":[0,4]}}", 4, "or twice"},
      {"{\"a\":{\"dtype\":\"F32\",\"shape\":[[1]],\"data_offsets\":[0,4]}}", 4, "a list where none belongs"},
      {"{\"a\":{\"dtype\":\"F32\",\"shape\":[{}],\"data_offsets\":[0,4]}}", 4, "an object where none belongs"},
      {"{\"a\":{\"dtype\":\"F32\",\"shape\":[\"1\"],\"data_offsets\":[0,4]}}", 4, "text where none belongs"},
      {"{\"a\":{\"dtype\":{},\"shape\":[1],\"data_offsets\":[0,4]}}", 4, "an object where none belongs"},
      {"{\"a\":{\"dtype\":\"F32\",\"shape\":[-1],\"data_offsets\":[0,4]}}", 4, "negative number"},
      {"{\"a\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[-4,0]}}", 4, "negative number"},
      {"{\"a\":{\"dtype\":\"F32\",\"shape\":[1.5],\"data_offsets\":[0,4]}}", 4, "whole numbers"},
      {"{\"a\":{\"dtype\":\"F32\",\"shape\":[1e0],\"data_offsets\":[0,4]}}", 4, "whole numbers"},
      {"{\"a\":{\"dtype\":\"F32\",\"shape\":[99999999999999999999],\"data_offsets\":[0,4]}}", 4, "whole numbers"},
      {"{\"a\":{\"dtype\":\"F32\",\"shape\":[18446744073709551615],\"data_offsets\":[0,4]}}", 4, "a size is too large"},
      {"{\"a\":{\"dtype\":\"F32\",\"shape\":[4294967296,4294967296],\"data_offsets\":[0,4]}}", 4, "overflows"},
      {"{\"a\":{\"dtype\":\"F32\",\"shape\":[1,1,1,1,1,1,1],\"data_offsets\":[0,4]}}", 4, "more than 6 dimensions"},
      {"{\"a\":{\"dtype\":\"F33\",\"shape\":[1],\"data_offsets\":[0,4]}}", 4, "unknown dtype \"F33\""},
      {"{\"a\":{\"dtype\":\"f32\",\"shape\":[1],\"data_offsets\":[0,4]}}", 4, "unknown dtype \"f32\""},
      {"{\"a\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[0,4]}}", 4, "F32 [2] does not fill 4 bytes"},
      {"{\"a\":{\"dtype\":\"F32\",\"shape\":[],\"data_offsets\":[0,0]}}", 0, "does not fill 0 bytes"},
      {"{\"a\":{\"dtype\":\"F32\",\"shape\":[0],\"data_offsets\":[0,4]}}", 4, "does not fill 4 bytes"},
      {"{\"a\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[4,0]}}", 4, "leave the 4 bytes of data"},
      {"{\"a\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[4,8]}}", 4, "leave the 4 bytes of data"},
      {"{\"a\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[18446744073709551612,18446744073709551615]}}", 4,
       "leave the 4"},
      {"{\"a\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[4,8]}}", 8, "leaves a hole"},
      {"{\"a\":{\"dtype\":\"U8\",\"shape\":[4],\"data_offsets\":[0,4]},\"b\":{\"dtype\":\"U8\",\"shape\":[4],\"data_"
       "offsets\":[3,7]}}",
       7, "b: overlaps"},
      {"{\"a\":{\"dtype\":\"U8\",\"shape\":[4],\"data_offsets\":[0,4]},\"b\":{\"dtype\":\"U8\",\"shape\":[4],\"data_"
       "offsets\":[0,4]}}",
       4, "overlaps"},
      {"{\"a\":{\"dtype\":\"U8\",\"shape\":[4],\"data_offsets\":[0,4]},\"b\":{\"dtype\":\"U8\",\"shape\":[2],\"data_"
       "offsets\":[5,7]}}",
       7, "b: leaves a hole"},
      {"{\"a\":{\"dtype\":\"U8\",\"shape\":[4],\"data_offsets\":[0,4]}}", 6, "2 bytes follow the last tensor"},
      {"{\"a\":{\"dtype\":\"U8\",\"shape\":[1],\"data_offsets\":[0,1]},\"a\":{\"dtype\":\"U8\",\"shape\":[1],\"data_"
       "offsets\":[0,1]}}",
       1, "a: the name occurs twice"},
      {"{\"__metadata__\":1}", 0, "a number where none belongs"},
      {"{\"__metadata__\":{\"a\":1}}", 0, "a number where none belongs"},
      {"{\"__metadata__\":{\"a\":null}}", 0, "null has no place"},
      {"{\"__metadata__\":{\"a\":{}}}", 0, "an object where none belongs"},
      {"{\"__metadata__\":{\"a\":[]}}", 0, "a list where none belongs"},
      {"{\"__metadata__\":{\"a\":\"1\",\"a\":\"2\"}}", 0, "the key \"a\" occurs twice"},
      {"{\"__metadata__\":{},\"__metadata__\":{}}", 0, "__metadata__ occurs twice"},
      {deep.c_str(), 0, "a list where none belongs"},
      {wide.c_str(), 0, "nnn...: a number where none belongs"},
  };
  const Folder folder;
  for (const Row& row : rows) {
    CAPTURE(std::string(row.header).substr(0, 120));
    const std::string path = put_header(folder, row.header, row.data);
    const std::string error = error_of<FormatError>([&] { const SafetensorsFile file(path); });
    CHECK(error.starts_with(path));
    CHECK_MESSAGE(error.find(row.error) != std::string::npos, error);
    CHECK(error.size() < 1000);
  }
}

TEST_CASE("a header's length that cannot be is refused before it is believed") {
  const Folder folder;
  const std::string path = folder / "a.safetensors";
  for (const uint64_t length :
       {uint64_t{3}, uint64_t{1} << 20, uint64_t{100'000'001}, uint64_t{1} << 40, ~uint64_t{0}, ~uint64_t{0} - 7}) {
    std::string bytes = "12345678{}";
    std::memcpy(bytes.data(), &length, 8);
    put_file(path, bytes);
    CHECK(error_of<FormatError>([&] {
            const SafetensorsFile file(path);
          }).find("the header claims " + std::to_string(length)) != std::string::npos);
  }
  put_file(path, std::string("PK\x03\x04 a .pth file, which is a zip"));
  CHECK(error_of<FormatError>([&] { const SafetensorsFile file(path); }).find("weights/convert.py reads .pth") !=
        std::string::npos);
}

TEST_CASE("data need not be aligned, nor in order, nor the header padded") {
  const Folder folder;
  std::string data(1 + 8 + 4, '\0');
  const double d = 1.5;
  const float f = -2.25f;
  std::memcpy(data.data() + 1, &d, 8);
  std::memcpy(data.data() + 9, &f, 4);
  const std::string path = folder / "a.safetensors";
  for (const std::string padding : {"", " ", "   ", "     "}) {
    put_file(
        path,
        with_length(
            "{\"f\":{\"shape\":[],\"data_offsets\":[9,13],\"dtype\":\"F32\"},\"e\":{\"dtype\":\"F64\",\"shape\":[0,7],"
            "\"data_offsets\":[1,1]},\"d\":{\"dtype\":\"F64\",\"shape\":[1],\"data_offsets\":[1,9]},"
            "\"u\":{\"dtype\":\"U8\",\"shape\":[1],\"data_offsets\":[0,1]}}" +
                padding,
            data));
    const SafetensorsFile file(path);
    CHECK(file.tensor("d").values<double>()[0] == 1.5);
    CHECK(file.tensor("f").values<float>()[0] == -2.25f);
    CHECK(file.tensor("e").numel() == 0);
    CHECK(file.entries().at("u").end == 1);
  }
}

TEST_CASE("types that tl has not are errors when they are asked for, not before") {
  const Folder folder;
  const std::pair<std::string, size_t> types[] = {{"I16", 2}, {"U16", 2},     {"U32", 4},    {"U64", 8},
                                                  {"C64", 8}, {"F8_E4M3", 1}, {"F8_E5M2", 1}};
  for (const auto& [type, bytes] : types) {
    const std::string path = put_header(
        folder, "{\"a\":{\"dtype\":\"" + type + "\",\"shape\":[1],\"data_offsets\":[0," + std::to_string(bytes) + "]}}",
        bytes);
    const SafetensorsFile file(path);
    CHECK(file.entries().at("a").dtype == type);
    CHECK_THROWS_WITH_AS(file.tensor("a"), (path + ": a: tl does not read " + type).c_str(), DTypeError);
    CHECK_THROWS_WITH_AS(file.tensor("b"), (path + ": there is no tensor \"b\"").c_str(), UsageError);
  }
  const std::string path = folder / "a.safetensors";
  put_file(path,
           with_length("{\"a\":{\"dtype\":\"BOOL\",\"shape\":[3],\"data_offsets\":[0,3]}}", std::string("\0\1\2", 3)));
  CHECK(error_of<FormatError>([&] {
          (void)SafetensorsFile(path).tensor("a");
        }).find("BOOL holds something other than 0 and 1") != std::string::npos);
}

TEST_CASE("changed bytes give a tl::Error or a file that can be read, nothing else") {
  const Folder folder;
  const std::string path = folder / "a.safetensors";
  std::vector<NamedTensor> tensors;
  for (const DType dtype : kTypes) tensors.push_back({text("layer.", name_of(dtype)), sample({2, 3}, dtype)});
  write_safetensors(path, tensors, {{"arch", "lenet"}, {"layer.g", "layer.f32"}});
  const std::string whole = get_file(path);
  uint64_t length = 0;
  std::memcpy(&length, whole.data(), 8);
  const std::string tokens[] = {"{", "}", "[",   "]",    ",",    ":",       "\"",         "0",
                                "9", "-", "1e9", "null", "true", "\\u0000", "4294967296", "\"F64\""};

  std::mt19937 random(7);
  const auto below = [&](size_t n) { return std::uniform_int_distribution<size_t>(0, n - 1)(random); };
  int refused = 0, read = 0;
  for (int i = 0; i < 4000; ++i) {
    std::string bytes = whole;
    for (size_t changes = 1 + below(3); changes-- > 0;) {
      const size_t at = below(4) == 0 ? below(bytes.size()) : below(8 + length);
      switch (below(5)) {
        case 0:
          bytes[at] = static_cast<char>(below(256));
          break;
        case 1:
          bytes[at] = static_cast<char>(bytes[at] ^ (1 << below(8)));
          break;
        case 2:
          bytes.erase(at, 1 + below(8));
          break;
        case 3:
          bytes.insert(at, tokens[below(std::size(tokens))]);
          break;
        default:
          bytes.insert(at, bytes.substr(below(bytes.size()), below(64)));
          break;
      }
      if (bytes.size() >= 8 && below(2) == 0) {  // a length that fits, so that the header itself is reached
        const uint64_t fits = length + bytes.size() - whole.size();
        std::memcpy(bytes.data(), &fits, 8);
      }
    }
    put_file(path, bytes);
    try {
      const SafetensorsFile file(path);
      uint64_t sum = 0;
      for (const auto& [name, entry] : file.entries()) {
        const Tensor t = file.tensor(name);
        for (const char c : bytes_of(t)) sum += static_cast<unsigned char>(c);
      }
      read += sum > 0;
    } catch (const Error& error) {
      ++refused;
      CHECK(std::string(error.what()).size() < 2000);
    }
  }
  CHECK(refused > 1000);
  CHECK(read > 100);
}
