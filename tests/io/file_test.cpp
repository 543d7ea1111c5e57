// Files: limits, mapping, and writes that a failure cannot break.
#include "tl/io/file.hpp"

#include <signal.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <stdexcept>

#include "folder.hpp"
#include "io/failures.hpp"
#include "tl/core/error.hpp"

namespace fs = std::filesystem;

namespace {

using tl_test::Folder;
using tl_test::put_file;

std::string get(const std::string& path) { return tl::read_file(path, 1 << 30); }

void write(const std::string& path, const std::string& bytes) {
  tl::write_atomically(path, [&](tl::FileWriter& out) { out.write(bytes); });
}

}  // namespace

TEST_CASE("read_file reads the whole file and keeps to its limit") {
  const Folder folder;
  const std::string path = folder / "a";
  for (const size_t size : {0u, 1u, 65535u, 65536u, 200000u}) {
    const std::string bytes(size, 'x');
    put_file(path, bytes);
    CHECK(get(path) == bytes);
    CHECK(tl::read_file(path, size) == bytes);
    CHECK(tl::file_size(path) == size);
  }
  CHECK_THROWS_WITH_AS(tl::read_file(path, 199999),
                       ("cannot read " + path + ": it holds more than the limit of 199999 bytes").c_str(), tl::IoError);
  CHECK_THROWS_WITH_AS(tl::read_file(folder / "none", 1),
                       ("cannot open " + folder / "none" + ": No such file or directory").c_str(), tl::IoError);
  CHECK_THROWS_WITH_AS(get(folder.path.string()), ("cannot read " + folder.path.string() + ": it is a folder").c_str(),
                       tl::IoError);
  CHECK_THROWS_AS(tl::file_size(folder / "none"), tl::IoError);
}

TEST_CASE("read_file stops at its limit on an endless device") {
  CHECK_THROWS_AS(tl::read_file("/dev/zero", 100000), tl::IoError);
}

TEST_CASE("MappedFile shows the file's bytes and moves") {
  const Folder folder;
  const std::string path = folder / "a";
  put_file(path, "hello");
  tl::MappedFile file(path);
  REQUIRE(file.bytes().size() == 5);
  CHECK(file.bytes()[4] == std::byte{'o'});
  tl::MappedFile moved(std::move(file));
  CHECK(moved.bytes().size() == 5);
  CHECK(moved.path() == path);
  tl::MappedFile assigned;
  assigned = std::move(moved);
  CHECK(assigned.bytes()[0] == std::byte{'h'});

  put_file(path, "");
  CHECK(tl::MappedFile(path).bytes().empty());
  CHECK_THROWS_AS(tl::MappedFile(folder / "none"), tl::IoError);
  CHECK_THROWS_WITH_AS(tl::MappedFile(folder.path.string()),
                       ("cannot map " + folder.path.string() + ": it is not a regular file").c_str(), tl::IoError);
  const std::string pipe = folder / "pipe";
  REQUIRE(::mkfifo(pipe.c_str(), 0600) == 0);
  CHECK_THROWS_AS(tl::MappedFile{pipe}, tl::IoError);  // and does not wait for a writer
}

TEST_CASE("a mapping is written without changing the file or another mapping, also after the file was replaced") {
  const Folder folder;
  const std::string path = folder / "a";
  put_file(path, "0123456789");
  const tl::MappedFile file(path);
  write(path, "another");
  tl::MappedFile first = file.copy_on_write(), second = file.copy_on_write();
  first.writable_bytes()[3] = std::byte{'x'};
  const auto text_of = [](const tl::MappedFile& mapped) {
    return std::string(reinterpret_cast<const char*>(mapped.bytes().data()), mapped.bytes().size());
  };
  CHECK(text_of(first) == "012x456789");
  CHECK(text_of(second) == "0123456789");
  CHECK(text_of(file) == "0123456789");
  CHECK(get(path) == "another");
  CHECK(tl::MappedFile(path).writable_bytes().empty());

  put_file(path, "");
  CHECK(tl::MappedFile(path).copy_on_write().bytes().empty());
}

TEST_CASE("write_atomically writes small and large pieces in order") {
  const Folder folder;
  const std::string path = folder / "a", large(300000, 'l');
  tl::write_atomically(path, [&](tl::FileWriter& out) {
    out.write("head");
    CHECK(out.position() == 4);
    out.write(large);
    for (int i = 0; i < 100000; ++i) out.write("ab");
    CHECK(out.position() == 4 + 300000 + 200000);
  });
  std::string expected = "head" + large;
  for (int i = 0; i < 100000; ++i) expected += "ab";
  CHECK(get(path) == expected);
  write(path, "");
  CHECK(get(path).empty());
  CHECK(folder.entries() == 1);
}

TEST_CASE("write_atomically keeps links and permissions, and writes to devices directly") {
  const Folder folder;
  put_file(folder / "real", "old");
  REQUIRE(::chmod((folder / "real").c_str(), 0640) == 0);
  fs::create_symlink("real", folder / "link");
  write(folder / "link", "new");
  CHECK(fs::is_symlink(folder / "link"));
  CHECK(get(folder / "real") == "new");
  struct stat info {};
  REQUIRE(::stat((folder / "real").c_str(), &info) == 0);
  CHECK((info.st_mode & 0777) == 0640);

  write("/dev/null", "gone");
  CHECK(fs::is_character_file("/dev/null"));
  CHECK_THROWS_AS(write(folder.path.string(), "x"), tl::IoError);
  CHECK_THROWS_AS(write(folder / "none/x", "x"), tl::IoError);
}

TEST_CASE("FR05: a writer that throws leaves the old file and nothing beside it") {
  const Folder folder;
  const std::string path = folder / "a";
  put_file(path, "old");
  CHECK_THROWS_AS(tl::write_atomically(path,
                                       [](tl::FileWriter& out) {
                                         out.write(std::string(100000, 'n'));
                                         throw std::runtime_error("stop");
                                       }),
                  std::runtime_error);
  CHECK(get(path) == "old");
  CHECK(folder.entries() == 1);
}

TEST_CASE("FR05: a full disk gives an error and the old file stays") {
  CHECK_THROWS_WITH_AS(write("/dev/full", "x"), "cannot write /dev/full: No space left on device", tl::IoError);

  // A limit on the size of files stands in for a disk that fills up in the middle.
  const Folder folder;
  const std::string path = folder / "a";
  put_file(path, "old");
  {
    const tl_test::FullDisk full(100000);
    CHECK_THROWS_WITH_AS(write(path, std::string(200000, 'n')), ("cannot write " + path + ": File too large").c_str(),
                         tl::IoError);
  }
  CHECK(get(path) == "old");
  CHECK(folder.entries() == 1);
}

TEST_CASE("FR05: a killed writer leaves the old file, and its leftovers are ignored") {
  const Folder folder;
  const std::string path = folder / "a";
  put_file(path, "old");
  const pid_t child = ::fork();
  if (child == 0) {
    tl::write_atomically(path, [](tl::FileWriter& out) {
      out.write(std::string(200000, 'n'));
      ::kill(::getpid(), SIGKILL);
    });
    ::_exit(0);
  }
  int status = 0;
  REQUIRE(::waitpid(child, &status, 0) == child);
  CHECK(WIFSIGNALED(status));
  CHECK(get(path) == "old");
  CHECK(folder.entries() == 2);

  // Leftovers of this very process id, from before a restart.
  for (int i = 0; i < 100; ++i)
    put_file(folder / (".a.tmp-" + std::to_string(::getpid()) + "-" + std::to_string(i)), "?");
  write(path, "new");
  CHECK(get(path) == "new");
}

TEST_CASE("an appended file grows by whole pieces, also past one for which the disk had no room") {
  const Folder folder;
  const std::string path = folder / "log";
  tl::AppendedFile file(path);
  CHECK(file.path() == path);
  CHECK(get(path).empty());
  file.append(std::string(80, 'a'));
  CHECK(get(path) == std::string(80, 'a'));
  {
    const tl_test::FullDisk full(100);
    CHECK_THROWS_AS(file.append(std::string(80, 'b')), tl::IoError);
    CHECK(get(path) == std::string(80, 'a'));
  }
  tl::AppendedFile moved = std::move(file);
  moved.append("c");
  CHECK(get(path) == std::string(80, 'a') + "c");
  CHECK_THROWS_AS(tl::AppendedFile{path}, tl::IoError);
  CHECK_THROWS_AS(tl::AppendedFile(folder / "none/log"), tl::IoError);
}
