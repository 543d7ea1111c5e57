// Entries of a file's metadata that are JSON.
#pragma once
#include <string>

#include "tl/io/json.hpp"
#include "tl/io/safetensors.hpp"

namespace tl::inline TL_ABI {
namespace detail {

/// Reads one entry as JSON, hands it to `read`, and says whether it is there; anything wrong with it is a FormatError
/// that names the key.
template <class Read>
bool read_entry(const SafetensorsFile& file, const std::string& key, Read read) {
  const auto found = file.metadata().find(key);
  if (found == file.metadata().end()) return false;
  try {
    read(Json::parse(found->second));
  } catch (const Json::exception& error) {
    throw FormatError(file.path(), "__metadata__ " + key, 8, error.what());
  } catch (const UsageError& error) {
    throw FormatError(file.path(), "__metadata__ " + key, 8, error.what());
  }
  return true;
}

}  // namespace detail
}  // namespace tl::inline TL_ABI
