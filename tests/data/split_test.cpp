// Dividing samples, and finding pictures on both sides.
#include "tl/data/split.hpp"

#include <algorithm>
#include <map>
#include <numeric>
#include <set>

#include "folder.hpp"
#include "support.hpp"
#include "tl/core/error.hpp"

using tl_test::Folder;

namespace {

std::vector<int64_t> cycled_labels(int64_t count, int64_t classes) {
  std::vector<int64_t> labels;
  for (int64_t i = 0; i < count; ++i) labels.push_back(i % classes);
  return labels;
}

std::map<int64_t, int64_t> counts(const std::vector<int64_t>& indices, const std::vector<int64_t>& labels) {
  std::map<int64_t, int64_t> out;
  for (const int64_t i : indices) ++out[labels[static_cast<size_t>(i)]];
  return out;
}

void check_partition(const tl::SplitIndices& split, int64_t count) {
  std::vector<int64_t> all = split.train;
  all.insert(all.end(), split.val.begin(), split.val.end());
  std::sort(all.begin(), all.end());
  std::vector<int64_t> expected(static_cast<size_t>(count));
  std::iota(expected.begin(), expected.end(), 0);
  CHECK(all == expected);
  CHECK(std::is_sorted(split.train.begin(), split.train.end()));
  CHECK(std::is_sorted(split.val.begin(), split.val.end()));
}

}  // namespace

TEST_CASE("A split is stratified, complete, and depends on the seed alone") {
  auto labels = cycled_labels(100, 3);  // 34, 33, 33
  labels.insert(labels.end(), {7, 7, 8});
  const auto split = tl::split_indices(labels, {.val_fraction = 0.2, .seed = 1});
  check_partition(split, 103);
  CHECK(counts(split.val, labels) == std::map<int64_t, int64_t>{{0, 7}, {1, 7}, {2, 7}, {7, 1}});
  CHECK(tl::split_indices(labels, {.val_fraction = 0.2, .seed = 1}).val == split.val);
  CHECK(tl::split_indices(labels, {.val_fraction = 0.2, .seed = 2}).val != split.val);
  const auto most = tl::split_indices(labels, {.val_fraction = 0.99});
  CHECK(counts(most.train, labels)[0] == 1);
  for (const double fraction : {0.0, 1.0, -0.5, 2.0})
    CHECK_THROWS_AS(tl::split_indices(labels, {.val_fraction = fraction}), tl::UsageError);
}

TEST_CASE("FR20: a group stays on one side") {
  const auto labels = cycled_labels(400, 2);
  std::vector<std::string> groups;
  for (int64_t i = 0; i < 400; ++i) groups.push_back("patient" + std::to_string(i * i % 37));
  for (uint64_t seed = 0; seed < 20; ++seed) {
    const auto split = tl::split_indices(labels, groups, {.val_fraction = 0.25, .seed = seed});
    check_partition(split, 400);
    std::set<std::string> train, val;
    for (const int64_t i : split.train) train.insert(groups[static_cast<size_t>(i)]);
    for (const int64_t i : split.val) val.insert(groups[static_cast<size_t>(i)]);
    for (const auto& group : val) CHECK(train.count(group) == 0);
    for (const auto& [label, count] : counts(split.val, labels)) {
      CHECK(count >= 35);
      CHECK(count <= 65);
    }
  }
  CHECK_THROWS_AS(tl::split_indices(labels, std::vector<std::string>(400, "same")), tl::UsageError);
  CHECK_THROWS_AS(tl::split_indices(labels, std::vector<std::string>(3, "few")), tl::UsageError);
}

TEST_CASE("Two groups end on two sides, whatever the fraction") {
  const std::vector<int64_t> labels(10, 0);
  std::vector<std::string> groups(10, "a");
  groups[3] = groups[4] = "b";
  for (const double fraction : {0.01, 0.5, 0.99}) {
    const auto split = tl::split_indices(labels, groups, {.val_fraction = fraction});
    check_partition(split, 10);
    CHECK_FALSE(split.train.empty());
    CHECK_FALSE(split.val.empty());
  }
}

TEST_CASE("A subset takes so many of each class") {
  const auto labels = cycled_labels(31, 3);
  const auto subset = tl::subset_indices(labels, 4, 5);
  CHECK(counts(subset, labels) == std::map<int64_t, int64_t>{{0, 4}, {1, 4}, {2, 4}});
  CHECK(tl::subset_indices(labels, 4, 5) == subset);
  CHECK(tl::subset_indices(labels, 4, 6) != subset);
  CHECK(tl::subset_indices(labels, 100, 5).size() == 31);
  CHECK_THROWS_AS(tl::subset_indices(labels, 0, 5), tl::UsageError);
}

TEST_CASE("FR20: groups are read from the paths by a regular expression") {
  tl::Samples samples;
  samples.classes = {"a", "b"};
  for (const char* path : {"d/a/exp1_num_5.jpg", "d/a/exp6_num_5.jpg", "d/b/exp1_num_77.jpg"})
    samples.items.push_back({path, path[2] == 'b'});
  CHECK(tl::groups_by_regex(samples, "num_([0-9]+)") == std::vector<std::string>{"5", "5", "77"});
  CHECK(tl::groups_by_regex(samples, "exp[0-9]") == std::vector<std::string>{"exp1", "exp6", "exp1"});
  CHECK_THROWS_WITH_AS(tl::groups_by_regex(samples, "num_(7+)"),
                       "group regex num_(7+): it does not match 2 of 3 paths, such as d/a/exp1_num_5.jpg",
                       tl::UsageError);
  CHECK_THROWS_WITH_AS(tl::groups_by_regex(samples, "num_(\\d+)"),
                       "group regex num_(\\d+): expected POSIX extended syntax: [0-9] for \\d, (...) for (?:...)",
                       tl::UsageError);
  CHECK_THROWS_AS(tl::groups_by_regex(samples, "num_("), tl::UsageError);

  const tl::TrainVal split = tl::split(samples, {.val_fraction = 0.4}, "num_([0-9]+)");
  CHECK(split.train.size() == 2);
  CHECK(split.val.items[0].path == "d/b/exp1_num_77.jpg");
  CHECK(split.val.classes == samples.classes);
  CHECK_THROWS_AS(tl::select(samples, std::vector<int64_t>{3}), tl::UsageError);
}

TEST_CASE("FR20: pictures with equal bytes on both sides are counted") {
  const Folder folder;
  tl::Samples train, val;
  const auto add = [&](tl::Samples& side, const char* name, const char* bytes) {
    folder.put(name, bytes);
    side.items.push_back({folder / name, 0});
  };
  add(train, "t0", "aaaa");
  add(train, "t1", "bbbb");
  add(train, "t2", "bbbb");
  add(train, "t3", "cc");
  add(val, "v0", "bbbb");
  add(val, "v1", "dddd");
  add(val, "v2", "c");
  add(val, "v3", "cc");
  CHECK(tl::equal_pictures(train, val) == tl::EqualPairs{{1, 0}, {3, 3}});
  CHECK(tl::equal_pictures(train, {}).empty());
  val.items.push_back({folder / "none", 0});
  CHECK_THROWS_AS(tl::equal_pictures(train, val), tl::IoError);

  const std::vector<uint8_t> rows = {1, 2, 3, 4, 1, 2}, others = {3, 3, 3, 4};
  CHECK(tl::equal_rows(rows, others, 2) == tl::EqualPairs{{1, 1}});
  CHECK(tl::equal_rows(rows, rows, 2) == tl::EqualPairs{{0, 0}, {1, 1}, {0, 2}});
  CHECK_THROWS_AS(tl::equal_rows(rows, others, 3), tl::UsageError);
}

TEST_CASE("FR20: the magnetic tiles are split by radiograph") {
  const auto folder = tl_test::shared("data/magnetic_tile_defect");
  TL_NEEDS(folder);
  const tl::Samples samples = tl::list_image_folder(folder.string(), {.extensions = {"jpg"}});
  const std::string regex = "num_([0-9]+)";
  const tl::TrainVal split = tl::split(samples, {.val_fraction = 0.2}, regex);
  CHECK(split.train.size() + split.val.size() == samples.size());
  const auto groups = tl::groups_by_regex(split.train, regex);
  const std::set<std::string> trained(groups.begin(), groups.end());
  for (const auto& group : tl::groups_by_regex(split.val, regex)) CHECK(trained.count(group) == 0);
  CHECK(std::abs(static_cast<double>(split.val.size()) / static_cast<double>(samples.size()) - 0.2) < 0.03);
}
