// Folders of pictures: layouts, order, what is skipped, and what is refused.
#include "tl/data/image_folder.hpp"

#include <algorithm>
#include <fstream>
#include <set>

#include "folder.hpp"
#include "support.hpp"
#include "tl/core/error.hpp"
#include "tl/core/log.hpp"
#include "tl/io/file.hpp"

namespace fs = std::filesystem;
using tl_test::Folder;

namespace {

/// Collects warnings while it lives.
struct Warnings {
  std::vector<std::string> texts;
  tl::WarningHandler before;
  Warnings() : before(tl::set_warning_handler([this](std::string_view text) { texts.emplace_back(text); })) {}
  ~Warnings() { tl::set_warning_handler(before); }
};

std::vector<std::string> names(const tl::Samples& samples) {
  std::vector<std::string> out;
  for (const auto& item : samples.items) out.push_back(fs::path(item.path).filename().string());
  return out;
}

}  // namespace

TEST_CASE("Classes and files come in order of their bytes, folders below included") {
  const Folder folder;
  for (const char* file : {"b/2.png", "b/10.png", "b/sub/1.JPG", "B/1.bmp", "a/x.jpeg", "a/y.ppm", "a/z.pgm"})
    folder.put(file);
  const tl::Samples samples = tl::list_image_folder(folder);
  CHECK(samples.classes == std::vector<std::string>{"B", "a", "b"});
  CHECK(names(samples) == std::vector<std::string>{"1.bmp", "x.jpeg", "y.ppm", "z.pgm", "10.png", "2.png", "1.JPG"});
  CHECK(samples.labels() == std::vector<int64_t>{0, 1, 1, 1, 2, 2, 2});
  CHECK(samples.skipped == 0);
}

TEST_CASE("What is no picture is skipped with one warning that counts") {
  const Folder folder;
  for (const char* file : {"ants/1.jpg", "ants/notes.txt", "ants/noname", "bees/1.jpg", "bees/lost.gif",
                           "bees/.DS_Store", ".git/x.jpg", "README"})
    folder.put(file);
  const Warnings warnings;
  const tl::Samples samples = tl::list_image_folder(folder);
  CHECK(samples.size() == 2);
  CHECK(samples.skipped == 3);
  CHECK(samples.classes == std::vector<std::string>{"ants", "bees"});
  REQUIRE(warnings.texts.size() == 1);
  CHECK(warnings.texts[0].find("skipped 3 files that are no picture") != std::string::npos);
  CHECK(warnings.texts[0].find("noname") != std::string::npos);
}

TEST_CASE("A list of extensions passes over masks that lie beside the pictures") {
  const Folder folder;
  for (const char* file : {"crack/1.jpg", "crack/1.png", "free/2.jpg", "free/2.png"}) folder.put(file);
  const Warnings warnings;
  CHECK(tl::list_image_folder(folder).size() == 4);
  const tl::Samples samples = tl::list_image_folder(folder, {.extensions = {"JPG"}});
  CHECK(names(samples) == std::vector<std::string>{"1.jpg", "2.jpg"});
  CHECK(samples.skipped == 2);
}

TEST_CASE("An empty class keeps its label and is warned of") {
  const Folder folder;
  folder.put("a/1.jpg");
  folder.put("c/1.jpg");
  fs::create_directory(folder.path / "b");
  const Warnings warnings;
  const tl::Samples samples = tl::list_image_folder(folder);
  CHECK(samples.labels() == std::vector<int64_t>{0, 2});
  REQUIRE(warnings.texts.size() == 1);
  CHECK(warnings.texts[0].ends_with(": no pictures for b"));
}

TEST_CASE("Links are followed, but never in circles") {
  const Folder folder, elsewhere;
  folder.put("a/1.jpg");
  elsewhere.put("2.jpg");
  fs::create_directory_symlink(elsewhere.path, folder.path / "a/more");
  fs::create_directory_symlink(folder.path / "a", folder.path / "a/loop");
  fs::create_directory_symlink(folder.path, elsewhere.path / "up");
  fs::create_symlink("nowhere.jpg", folder.path / "a/dangling.jpg");
  fs::create_directory_symlink(elsewhere.path, folder.path / "b");  // the same pictures in two classes are two samples
  std::vector<std::string> found = names(tl::list_image_folder(folder));
  CHECK(std::count(found.begin(), found.end(), "1.jpg") >= 1);
  CHECK(std::count(found.begin(), found.end(), "2.jpg") >= 2);
  CHECK(found.size() < 10);
}

TEST_CASE("Folders without classes or pictures are refused") {
  const Folder folder;
  folder.put("1.jpg");
  CHECK_THROWS_WITH_AS(tl::list_image_folder(folder),
                       ("image folder " + folder.path.string() + ": there are no class folders in it").c_str(),
                       tl::UsageError);
  fs::create_directory(folder.path / "a");
  CHECK_THROWS_WITH_AS(tl::list_image_folder(folder),
                       ("image folder " + folder.path.string() + ": there are no pictures in it").c_str(),
                       tl::UsageError);
  CHECK_THROWS_AS(tl::list_image_folder(folder / "none"), tl::IoError);
  CHECK_THROWS_AS(tl::open_image_folder(folder / "1.jpg"), tl::IoError);
}

TEST_CASE("train and val, or classes alone") {
  const Folder folder;
  for (const char* file : {"train/a/1.jpg", "train/b/2.jpg", "val/b/3.jpg", "test/a/4.jpg"}) folder.put(file);
  const Warnings warnings;
  CHECK_THROWS_WITH_AS(tl::open_image_folder(folder),
                       ("image folder " + folder / "val" +
                        ": there is no folder for the class a, which is in train. Hint: an empty folder says that no "
                        "picture of it shall validate.")
                           .c_str(),
                       tl::UsageError);
  fs::create_directory(folder.path / "val/a");
  const tl::ImageFolder both = tl::open_image_folder(folder);
  CHECK(names(both.train) == std::vector<std::string>{"1.jpg", "2.jpg"});
  REQUIRE(both.val);
  CHECK(names(*both.val) == std::vector<std::string>{"3.jpg"});
  CHECK(both.val->labels() == std::vector<int64_t>{1});  // not 0, although a has no picture in val
  CHECK(both.val->classes == both.train.classes);
  CHECK(warnings.texts.size() == 1);  // no pictures for a

  fs::remove_all(folder.path / "val");
  fs::create_directory(folder.path / "test/b");
  CHECK(names(*tl::open_image_folder(folder).val) == std::vector<std::string>{"4.jpg"});
  fs::remove_all(folder.path / "test");
  CHECK_FALSE(tl::open_image_folder(folder).val);

  const Folder plain;  // a class may be called train
  for (const char* file : {"train/1.jpg", "plane/2.jpg"}) plain.put(file);
  const tl::ImageFolder alone = tl::open_image_folder(plain);
  CHECK(alone.train.classes == std::vector<std::string>{"plane", "train"});
  CHECK_FALSE(alone.val);
}

TEST_CASE("A validation class that was not trained is refused") {
  const Folder folder;
  for (const char* file : {"train/a/1.jpg", "train/b/2.jpg", "val/c/3.jpg", "val/a/3.jpg", "val/b/4.jpg"})
    folder.put(file);
  CHECK_THROWS_WITH_AS(tl::open_image_folder(folder),
                       ("image folder " + folder / "val" + ": unknown classes c. The model knows: a, b").c_str(),
                       tl::UsageError);
}

TEST_CASE("The classes of a model fix the labels") {
  const Folder folder;
  for (const char* file : {"a/1.jpg", "b/2.jpg"}) folder.put(file);
  CHECK(tl::list_image_folder(folder, {.classes = {"b", "a"}}).labels() == std::vector<int64_t>{0, 1});
  CHECK(names(tl::list_image_folder(folder, {.classes = {"b", "a"}})) == std::vector<std::string>{"2.jpg", "1.jpg"});
}

TEST_CASE("verify lists broken pictures and passes the others") {
  const Folder folder;
  fs::create_directory(folder.path / "a");
  const tl::Image picture(8, 8);
  tl::save_png(folder / "a/good.png", picture);
  const std::string whole = tl::encode_png(picture);
  std::ofstream(folder.path / "a/cut.png", std::ios::binary) << whole.substr(0, whole.size() - 9);
  folder.put("a/empty.jpg");
  const auto broken = tl::verify(tl::list_image_folder(folder));
  REQUIRE(broken.size() == 2);
  CHECK(broken[0].path.ends_with("cut.png"));
  CHECK(broken[0].error.find("truncated") != std::string::npos);
  CHECK(broken[1].path.ends_with("empty.jpg"));
}

TEST_CASE("Ants and bees: 244 and 153 pictures, and the GIF is skipped") {
  const auto folder = tl_test::shared("data/hymenoptera_data");
  TL_NEEDS(folder);
  const Warnings warnings;
  const tl::ImageFolder data = tl::open_image_folder(folder.string());
  CHECK(data.train.size() == 244);
  CHECK(data.val->size() == 153);
  CHECK(data.train.skipped == 1);
  CHECK(tl::verify(data.train).empty());
}
