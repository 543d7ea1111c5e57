// Event files: frames, checksums and messages, read back by a reader of the test's own.
#include "tl/train/tensorboard.hpp"

#include <cmath>
#include <cstring>
#include <filesystem>
#include <limits>
#include <map>

#include "folder.hpp"
#include "tl/core/error.hpp"
#include "tl/core/utf8.hpp"
#include "tl/nn/freeze.hpp"
#include "train/tasks.hpp"

namespace {

using tl_test::Folder;
using tl_test::get_file;

/// CRC-32C bit by bit, and as TFRecord masks it.
uint32_t checksum(std::string_view bytes) {
  uint32_t crc = ~0u;
  for (const char c : bytes) {
    crc ^= static_cast<uint8_t>(c);
    for (int bit = 0; bit < 8; ++bit) crc = (crc >> 1) ^ (crc % 2 * 0x82f63b78u);
  }
  return ~crc;
}
uint32_t masked(uint32_t crc) { return ((crc >> 15) | (crc << 17)) + 0xa282ead8u; }

template <class T>
T take(std::string_view& bytes) {
  T out;
  REQUIRE(bytes.size() >= sizeof out);
  std::memcpy(&out, bytes.data(), sizeof out);
  bytes.remove_prefix(sizeof out);
  return out;
}

std::string_view take(std::string_view& bytes, size_t size) {
  REQUIRE(bytes.size() >= size);
  const auto out = bytes.substr(0, size);
  bytes.remove_prefix(size);
  return out;
}

/// The frames of a file; a last one that was cut is left out.
std::vector<std::string> frames(std::string_view file) {
  std::vector<std::string> out;
  while (file.size() >= 12) {
    CHECK(masked(checksum(file.substr(0, 8))) == *std::optional([&] {
            auto rest = file.substr(8);
            return take<uint32_t>(rest);
          }()));
    const auto length = take<uint64_t>(file);
    file.remove_prefix(4);
    if (file.size() < length + 4) break;
    out.emplace_back(take(file, length));
    CHECK(take<uint32_t>(file) == masked(checksum(out.back())));
  }
  return out;
}

uint64_t varint(std::string_view& bytes) {
  uint64_t out = 0;
  for (int shift = 0;; shift += 7) {
    const auto byte = take<uint8_t>(bytes);
    out |= static_cast<uint64_t>(byte & 0x7f) << shift;
    if (byte < 0x80) return out;
  }
}

/// The fields of a message: numbers as their bytes.
std::multimap<int, std::string> fields(std::string_view bytes) {
  std::multimap<int, std::string> out;
  while (!bytes.empty()) {
    const uint64_t key = varint(bytes);
    const int field = static_cast<int>(key >> 3);
    if ((key & 7) == 0) {
      const uint64_t value = varint(bytes);
      out.emplace(field, std::string(reinterpret_cast<const char*>(&value), sizeof value));
    } else {
      const uint64_t size = (key & 7) == 1 ? 8 : (key & 7) == 5 ? 4 : varint(bytes);
      out.emplace(field, take(bytes, size));
    }
  }
  return out;
}

std::string first(const std::multimap<int, std::string>& message, int field) {
  const auto found = message.find(field);
  REQUIRE(found != message.end());
  return found->second;
}

template <class T>
T number(const std::multimap<int, std::string>& message, int field) {
  const std::string bytes = first(message, field);
  std::string_view rest = bytes;
  return take<T>(rest);
}

std::vector<double> packed(const std::multimap<int, std::string>& message, int field) {
  const std::string bytes = first(message, field);
  std::vector<double> out;
  for (std::string_view rest = bytes; !rest.empty();) out.push_back(take<double>(rest));
  return out;
}

struct Entry {
  std::string tag;
  int64_t step;
  std::multimap<int, std::string> value;
};

/// What a file holds behind its version.
std::vector<Entry> entries(const std::string& path) {
  std::vector<Entry> out;
  const auto records = frames(get_file(path));
  REQUIRE(!records.empty());
  CHECK(first(fields(records[0]), 3) == "brain.Event:2");
  for (size_t i = 1; i < records.size(); ++i) {
    const auto event = fields(records[i]);
    CHECK(number<double>(event, 1) > 1.7e9);  // seconds since 1970
    const auto value = fields(first(fields(first(event, 5)), 1));
    out.push_back({first(value, 1), number<int64_t>(event, 2), value});
  }
  return out;
}

}  // namespace

TEST_CASE("The test's checksum is CRC-32C") {
  CHECK(checksum("123456789") == 0xe3069283u);
  CHECK(checksum(std::string(32, '\0')) == 0x8a9136aau);  // RFC 3720, B.4
}

TEST_CASE("Scalars come back with their tags and steps, in order") {
  const Folder folder;
  tl::EventWriter events(folder / "deep/run");
  CHECK(std::filesystem::path(events.path()).filename().string().find("tfevents") != std::string::npos);
  events.add_scalar("loss/train", 0.25, 1);
  events.add_scalar("loss/train", -1e30, 300);
  events.add_scalar("accuracy", std::numeric_limits<double>::quiet_NaN(), -1);
  events.add_scalar("a/b/c", 1e300, int64_t{1} << 40);
  CHECK(entries(events.path()).empty());  // nothing is on disk before flush
  events.flush();
  const auto got = entries(events.path());
  REQUIRE(got.size() == 4);
  CHECK(got[0].tag == "loss/train");
  CHECK(got[0].step == 1);
  CHECK(number<float>(got[0].value, 2) == 0.25f);
  CHECK(got[1].step == 300);
  CHECK(number<float>(got[1].value, 2) == -1e30f);
  CHECK(std::isnan(number<float>(got[2].value, 2)));
  CHECK(got[2].step == -1);
  CHECK(got[3].step == int64_t{1} << 40);
  CHECK(std::isinf(number<float>(got[3].value, 2)));
}

TEST_CASE("Texts and tables are tensors of strings of the text plug-in") {
  const Folder folder;
  tl::EventWriter events(folder);
  events.add_text("note", "**bold**\nsecond line");
  events.add_table("options", {{"rate", "1e-3"}, {"seed", "7"}}, 2);
  events.flush();
  const auto got = entries(events.path());
  REQUIRE(got.size() == 2);
  const auto shape = [](const Entry& entry) {
    std::vector<int64_t> sizes;
    for (const auto& [field, dim] : fields(first(fields(first(entry.value, 8)), 2)))
      sizes.push_back(number<int64_t>(fields(dim), 1));
    return sizes;
  };
  CHECK(shape(got[0]) == std::vector<int64_t>{1});
  CHECK(shape(got[1]) == std::vector<int64_t>{2, 2});
  for (const Entry& entry : got) {
    CHECK(first(fields(first(fields(first(entry.value, 9)), 1)), 1) == "text");
    CHECK(number<int64_t>(fields(first(entry.value, 8)), 1) == 7);
  }
  CHECK(first(fields(first(got[0].value, 8)), 8) == "**bold**\nsecond line");
  const auto tensor = fields(first(got[1].value, 8));
  std::vector<std::string> cells;
  for (auto [at, end] = tensor.equal_range(8); at != end; ++at) cells.push_back(at->second);
  CHECK(cells == std::vector<std::string>{"rate", "1e-3", "seed", "7"});
}

TEST_CASE("A histogram counts every finite value, within its bucket") {
  const Folder folder;
  tl::EventWriter events(folder);
  constexpr float kInf = std::numeric_limits<float>::infinity();
  const std::vector<float> values{0,      -0.0f, 1,     1,    1.05f, -2,  -2.1f,  3e-13f, 1e25f,
                                  -1e25f, 0.5f,  1e-6f, kInf, -kInf, NAN, 1e-12f, -1e-6f, 7};
  events.add_histogram("weights", values, 4);
  events.add_histogram("empty", {}, 4);
  events.flush();
  const auto got = entries(events.path());
  REQUIRE(got.size() == 2);
  const auto histogram = fields(first(got[0].value, 5));
  CHECK(number<double>(histogram, 1) == static_cast<double>(-1e25f));
  CHECK(number<double>(histogram, 2) == static_cast<double>(1e25f));
  CHECK(number<double>(histogram, 3) == 15);
  double sum = 0, squares = 0;
  for (const float value : values)
    if (std::isfinite(value)) sum += double{value}, squares += double{value} * double{value};
  CHECK(number<double>(histogram, 4) == sum);
  CHECK(number<double>(histogram, 5) == squares);

  const auto limits = packed(histogram, 6), counts = packed(histogram, 7);
  REQUIRE(limits.size() == counts.size());
  double total = 0;
  for (size_t i = 0; i < limits.size(); ++i) {
    if (i > 0) CHECK(limits[i] > limits[i - 1]);
    total += counts[i];
    const double low = i == 0 ? -std::numeric_limits<double>::infinity() : limits[i - 1];
    int64_t inside = 0;
    for (const float value : values) {
      const double x = std::isfinite(value) ? std::clamp(double{value}, -1.1e20, 1.1e20) : double{NAN};
      if (x >= 0 ? x > low && x <= limits[i] : x >= low && x < limits[i]) ++inside;
    }
    if (low < -1e-11 || low > 1e-11 || limits[i] > 1e-11) CHECK(counts[i] == static_cast<double>(inside));
    if (i > 0 && counts[i] > 0 && std::abs(low) > 1e-11)
      CHECK(limits[i] / low == doctest::Approx(low > 0 ? 1.1 : 1 / 1.1));
  }
  CHECK(total == 15);
  CHECK(number<double>(fields(first(got[1].value, 5)), 3) == 0);
}

TEST_CASE("Hostile names become text that every reader takes") {
  const Folder folder;
  tl::EventWriter events(folder);
  const std::string evil = "rate/\xff\xc0\x80 <b>\x01\n\u202E" + std::string("\0x", 2);
  events.add_scalar(evil, 1, 0);
  events.add_scalar("", 1, 0);
  events.add_text(evil, evil);
  events.flush();
  const auto got = entries(events.path());
  REQUIRE(got.size() == 3);
  CHECK(got[0].tag == "rate/\uFFFD\uFFFD\uFFFD <b>\uFFFD\uFFFD\uFFFD\uFFFDx");
  CHECK(got[1].tag == "value");
  CHECK(first(fields(first(got[2].value, 8)), 8) == "rate/\uFFFD\uFFFD\uFFFD <b>\uFFFD\n\uFFFD\uFFFDx");
  CHECK(tl::core_detail::clean_utf8("Käfer, 甲虫, 🐞") == "Käfer, 甲虫, 🐞");
}

TEST_CASE("What was flushed is there, a cut record harms nothing, and writers share a folder") {
  const Folder folder;
  tl::EventWriter one(folder), two(folder);
  CHECK(one.path() != two.path());
  one.add_scalar("x", 1, 1);
  one.flush();
  one.add_scalar("x", 2, 2);
  CHECK(entries(one.path()).size() == 1);  // as a process that is killed now leaves it
  one.flush();
  one.flush();
  CHECK(entries(one.path()).size() == 2);
  const std::string whole = get_file(one.path());
  for (size_t cut = 1; cut < 20; ++cut) CHECK(frames(whole.substr(0, whole.size() - cut)).size() == 2);
  std::string path;
  {
    tl::EventWriter three(folder);
    path = three.path();
    three.add_scalar("x", 3, 3);
  }
  CHECK(entries(path).size() == 1);  // written at the end of its life

  folder.put("file", "x");
  CHECK_THROWS_AS(tl::EventWriter(folder / "file/run"), tl::IoError);
}

TEST_CASE("An epoch's measures, those that were measured; and fit calls after each epoch") {
  const Folder folder;
  tl::EventWriter events(folder);
  tl::add_epoch(events, {.epoch = 3,
                         .train_loss = 0.5,
                         .val_accuracy = 0.75,
                         .rates = {{"head", 1e-3}, {"rest", tl::kNoValue}},
                         .extras = {{"distance", 2}},
                         .seconds = 1.5,
                         .peak_bytes = 1024,
                         .trainable_parameters = 10});
  events.flush();
  std::map<std::string, float> got;
  for (const Entry& entry : entries(events.path())) {
    CHECK(entry.step == 3);
    got[entry.tag] = number<float>(entry.value, 2);
  }
  CHECK(got == std::map<std::string, float>{{"loss/train", 0.5f},
                                            {"accuracy/val", 0.75f},
                                            {"rate/head", 1e-3f},
                                            {"distance", 2.0f},
                                            {"run/seconds", 1.5f},
                                            {"run/peak_bytes", 1024.0f},
                                            {"run/trainable_parameters", 10.0f}});

  tl_test::SmallNet net;
  tl::freeze(net, "conv");
  tl::freeze(net, "bn");
  tl::Loader train(tl::View(std::make_shared<tl_test::Stripes>(16), tl::eval_transform(tl_test::stripes_input())),
                   {.batch = 8});
  tl::optim::Sgd optimizer(tl::optim::param_groups(net, {{{"fc"}, 1e-2}, {{"**"}, 1e-3}}));
  tl::FitOptions options{.epochs = 3};
  options.before_epoch = [&](int64_t epoch, const tl::RunLog&) {
    if (epoch == 2) tl::unfreeze(net, "conv");
  };
  std::vector<size_t> calls;
  options.after_epoch = [&](const tl::RunLog& log) {
    calls.push_back(log.epochs.size());
    tl::add_epoch(events, log.epochs.back());
    events.flush();
  };
  tl::fit(net, optimizer, train, nullptr, 4, options);
  CHECK(calls == std::vector<size_t>{1, 2, 3});
  std::map<std::string, std::vector<int64_t>> steps;
  for (const Entry& entry : entries(events.path())) steps[entry.tag].push_back(entry.step);
  CHECK(steps["rate/fc"] == std::vector<int64_t>{1, 2, 3});
  CHECK(steps["rate/**"] == std::vector<int64_t>{3});  // frozen before
}
