// IDX files: what is read, and what is refused.
#include "tl/data/idx.hpp"

#include "folder.hpp"
#include "support.hpp"
#include "tl/core/error.hpp"
#include "tl/core/random.hpp"
#include "tl/io/inflate.hpp"

using tl_test::Folder;

namespace {

std::string big(uint32_t value) {
  std::string out;
  for (int shift = 24; shift >= 0; shift -= 8) out += static_cast<char>(value >> shift);
  return out;
}

std::string idx(const std::vector<uint32_t>& sizes, const std::string& data) {
  std::string out = std::string("\0\0\x08", 3) + static_cast<char>(sizes.size());
  for (const uint32_t size : sizes) out += big(size);
  return out + data;
}

std::string little(uint32_t value, int bytes) {
  std::string out;
  for (int i = 0; i < bytes; ++i) out += static_cast<char>(value >> (8 * i));
  return out;
}

/// gzip with stored blocks.
std::string gzip(const std::string& data) {
  std::string out("\x1f\x8b\x08\0\0\0\0\0\0\x03", 10);
  for (size_t at = 0; at == 0 || at < data.size(); at += 60000) {
    const std::string block = data.substr(at, 60000);
    out += at + 60000 >= data.size() ? '\1' : '\0';
    out += little(static_cast<uint32_t>(block.size()), 2) + little(~static_cast<uint32_t>(block.size()), 2) + block;
  }
  const uint32_t crc = tl::crc32({reinterpret_cast<const uint8_t*>(data.data()), data.size()});
  return out + little(crc, 4) + little(static_cast<uint32_t>(data.size()), 4);
}

std::string message_of(const std::string& path) {
  try {
    tl::load_idx(path);
  } catch (const tl::FormatError& error) {
    return std::string(error.what()).substr(path.size() + 2);
  }
  return "no error";
}

}  // namespace

TEST_CASE("IDX files of one to four dimensions, plain and compressed") {
  const Folder folder;
  const std::string path = folder / "a";
  for (const auto& sizes : std::vector<std::vector<uint32_t>>{{5}, {2, 3}, {2, 3, 4}, {2, 3, 4, 3}, {300, 20, 20}}) {
    std::string data;
    for (uint32_t size : sizes) data.resize(data.empty() ? size : data.size() * size, 'x');
    for (size_t i = 0; i < data.size(); ++i) data[i] = static_cast<char>(i * 7);
    for (const bool compressed : {false, true}) {
      folder.put("a", compressed ? gzip(idx(sizes, data)) : idx(sizes, data));
      const tl::IdxTensor tensor = tl::load_idx(path);
      CHECK(tensor.shape == tl::Shape(sizes.begin(), sizes.end()));
      CHECK(std::string(tensor.bytes.begin(), tensor.bytes.end()) == data);
    }
  }
}

TEST_CASE("IDX files that break the rules are refused") {
  const Folder folder;
  const std::string path = folder / "a";
  const auto refuses = [&](const std::string& bytes, const std::string& message) {
    folder.put("a", bytes);
    CHECK(message_of(path) == message);
  };
  refuses("", "IDX: the header ends too early (at byte 0)");
  refuses("\1\2\3\4", "IDX: this is no IDX file: it must start with two zeros (at byte 0)");
  refuses(std::string("\0\0\x0d\1", 4) + big(1) + "abcd",
          "IDX: expected elements of type 0x08, unsigned bytes, got 13 (at byte 2)");
  refuses(std::string("\0\0\x08\5", 4), "IDX: expected 1 to 4 dimensions, got 5 (at byte 3)");
  refuses(std::string("\0\0\x08\3", 4) + big(1), "IDX: the header ends too early (at byte 8)");
  refuses(idx({3, 2}, "12345"), "IDX: a shape of [3, 2] needs 18 bytes, the file holds 17 (at byte 17)");
  refuses(idx({3, 2}, "1234567"), "IDX: a shape of [3, 2] needs 18 bytes, the file holds 19 (at byte 18)");
  refuses(gzip(idx({3, 2}, "12345")), "IDX: a shape of [3, 2] needs 18 bytes, the file holds 17 (at byte 17)");
  refuses(gzip(idx({3, 2}, "1234567")), "gzip: it decompresses to more than 18 bytes (at byte 0)");
  refuses(idx({0, 2}, ""), "IDX: a size of zero (at byte 4)");
  refuses(idx({0xffffffff, 0xffffffff, 0xffffffff, 0xffffffff}, ""),
          "IDX: it declares more than the limit of 4294967296 bytes (at byte 8)");
  CHECK_THROWS_AS(tl::load_idx(folder / "none"), tl::IoError);
  folder.put("a", idx({9}, "123456789"));
  CHECK_THROWS_AS(tl::load_idx(path, 8), tl::FormatError);
  CHECK_NOTHROW(tl::load_idx(path, 9));
}

TEST_CASE("Truncated and changed IDX files give an error") {
  const Folder folder;
  const std::string path = folder / "a";
  const std::string whole = gzip(idx({4, 3}, "abcdefghijkl"));
  for (size_t size = 0; size < whole.size(); ++size) {
    folder.put("a", whole.substr(0, size));
    CHECK_THROWS_AS(tl::load_idx(path), tl::FormatError);
  }
  tl::Generator random(2);
  for (int round = 0; round < 2000; ++round) {
    std::string bytes = whole;
    bytes[static_cast<size_t>(random.below(static_cast<int64_t>(bytes.size())))] = static_cast<char>(random.below(256));
    folder.put("a", bytes);
    try {
      const tl::IdxTensor tensor = tl::load_idx(path);
      CHECK(tensor.shape.numel() == static_cast<int64_t>(tensor.bytes.size()));
    } catch (const tl::FormatError&) {
    }
  }
}

TEST_CASE("Pairs are found by any prefix and spelling") {
  const Folder folder;
  for (const char* file : {"train-images-idx3-ubyte.gz", "train-labels-idx1-ubyte.gz", "t10k-images.idx3-ubyte",
                           "t10k-labels.idx1-ubyte", "my-set-val-images-idx4-ubyte", "my-set-val-labels-idx1-ubyte",
                           "lonely-images-idx3-ubyte", "train-images-idx3-ubyte", "notes.txt"})
    folder.put(file);
  const auto pairs = tl::find_idx(folder);
  REQUIRE(pairs.size() == 3);
  CHECK(pairs[0].name == "my-set-val");
  CHECK(pairs[1].name == "t10k");
  CHECK(pairs[1].labels == folder / "t10k-labels.idx1-ubyte");
  CHECK(pairs[2].name == "train");
  CHECK(pairs[2].images == folder / "train-images-idx3-ubyte");  // the plain file before the compressed one
  CHECK_THROWS_AS(tl::find_idx(folder / "none"), tl::IoError);
}

TEST_CASE("A pair gives pictures with labels") {
  const Folder folder;
  folder.put("a-images-idx3-ubyte", idx({2, 2, 3}, std::string("\1\2\3\4\5\6\7\x8\x9\xa\xb\xc", 12)));
  folder.put("a-labels-idx1-ubyte", idx({2}, std::string("\0\4", 2)));
  const tl::IdxPictures pictures = tl::load_idx(tl::find_idx(folder).at(0));
  CHECK(pictures.size() == 2);
  CHECK(pictures.labels == std::vector<int64_t>{0, 4});
  CHECK(pictures.classes == 5);
  const tl::Image second = pictures.picture(1);
  CHECK(second.width == 3);
  CHECK(second.height == 2);
  CHECK(second.channels == 3);
  CHECK(second.pixels[0] == 7);
  CHECK(second.pixels[2] == 7);
  CHECK(second.pixels[3] == 8);
  CHECK_THROWS_AS(pictures.picture(2), tl::UsageError);

  folder.put("a-labels-idx1-ubyte", idx({3}, "abc"));
  CHECK_THROWS_AS(tl::load_idx(tl::find_idx(folder).at(0)), tl::FormatError);
  folder.put("a-labels-idx1-ubyte", idx({2}, "ab"));
  folder.put("a-images-idx3-ubyte", idx({2, 2}, "abcd"));
  CHECK_THROWS_AS(tl::load_idx(tl::find_idx(folder).at(0)), tl::FormatError);
}

TEST_CASE("Fashion-MNIST as Debian packs it") {
  const std::filesystem::path folder = "/usr/share/datasets/fashion-mnist";
  TL_NEEDS(folder);
  const auto pairs = tl::find_idx(folder.string());
  REQUIRE(pairs.size() == 2);
  const tl::IdxPictures test = tl::load_idx(pairs[0]);
  CHECK(test.images.shape == tl::Shape{10000, 28, 28});
  CHECK(test.classes == 10);
}

TEST_CASE("Digits of two kinds, and chests, by their prefixes") {
  const auto digits = tl_test::shared("data/digits_mnist_usps"), chests = tl_test::shared("data/pneumonia_mnist");
  TL_NEEDS(digits);
  const auto pairs = tl::find_idx(digits.string());
  REQUIRE(pairs.size() == 3);
  CHECK(tl::load_idx(pairs[2]).images.shape == tl::Shape{7291, 16, 16});
  CHECK(tl::find_idx(chests.string()).size() == 3);
}
