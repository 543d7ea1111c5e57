// A folder for a test's files, which vanishes with the test.
#pragma once
#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <string>

#include "support.hpp"

namespace tl_test {

struct TemporaryFolder {
  std::filesystem::path path;

  TemporaryFolder() {
    std::string name = (std::filesystem::temp_directory_path() / "tl-data-XXXXXX").string();
    REQUIRE(::mkdtemp(name.data()) != nullptr);
    path = name;
  }
  ~TemporaryFolder() { std::filesystem::remove_all(path); }
  TemporaryFolder(const TemporaryFolder&) = delete;
  TemporaryFolder& operator=(const TemporaryFolder&) = delete;

  std::string name() const { return path.string(); }
  operator std::string() const { return name(); }

  /// Writes a file, and the folders that lead to it.
  void put(const std::string& file, const std::string& bytes = "") const {
    std::filesystem::create_directories((path / file).parent_path());
    std::ofstream(path / file, std::ios::binary) << bytes;
  }
};

}  // namespace tl_test
