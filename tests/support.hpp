// What every test may use: skipping with a reason, and the folders of reference data.
#pragma once
#include <doctest/doctest.h>

#include <cstdlib>
#include <filesystem>
#include <string>

namespace tl_test {

/// Records that the running test case was skipped. main() lists the reasons, and tells CTest when nothing else ran.
void note_skip(const std::string& reason);

/// tests/golden/<name>: small reference values, part of the repository.
inline std::filesystem::path golden(const std::string& name) {
  return std::filesystem::path(TL_TESTS_DIR) / "golden" / name;
}

/// <TL_SHARED>/<name>: large reference data, beside the repository unless the environment says otherwise.
inline std::filesystem::path shared(const std::string& name) {
  const char* folder = std::getenv("TL_SHARED");
  return (folder ? std::filesystem::path(folder) : std::filesystem::path(TL_TESTS_DIR) / "../../shared") / name;
}

}  // namespace tl_test

/// Leaves the test case, saying why.
#define TL_SKIP(reason)           \
  do {                            \
    ::tl_test::note_skip(reason); \
    return;                       \
  } while (false)

/// Leaves the test case unless this file or folder exists.
#define TL_NEEDS(file)                                                                     \
  do {                                                                                     \
    if (!::std::filesystem::exists(file))                                                  \
      TL_SKIP("there is no " + ::std::filesystem::path(file).lexically_normal().string()); \
  } while (false)
