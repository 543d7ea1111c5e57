// The closed-form pictures of tests/golden/resize.json.
#pragma once
#include <cstdint>
#include <fstream>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "support.hpp"
#include "tl/io/image.hpp"

namespace tl_test {

/// The cases of one kind in tests/golden/<file>.
inline std::vector<nlohmann::json> golden_cases(const std::string& file, const std::string& kind) {
  std::ifstream stream(golden(file));
  REQUIRE(stream.good());
  std::vector<nlohmann::json> out;
  const auto document = nlohmann::json::parse(stream);
  for (const auto& entry : document["cases"])
    if (entry["kind"] == kind) out.push_back(entry);
  return out;
}

/// The source picture of a case: its pattern at its size [H, W, C].
inline tl::Image pattern(const nlohmann::json& entry) {
  const auto name = entry["pattern"].get<std::string>();
  const auto& size = entry["source"];
  tl::Image image(size[1], size[0], size[2]);
  uint8_t* out = image.pixels.data();
  for (int64_t y = 0; y < image.height; ++y)
    for (int64_t x = 0; x < image.width; ++x)
      for (int64_t c = 0; c < image.channels; ++c)
        *out++ = static_cast<uint8_t>(name == "waves"     ? 37 * x + 59 * y + 101 * c + 7 * x * y + x * x * (y + 3)
                                      : name == "ramp"    ? 5 * x + 3 * y + 40 * c
                                      : name == "chequer" ? 255 * ((x + y) % 2)
                                                          : (2 * x + y > image.width ? 255 : 0));
  return image;
}

inline std::string to_hex(const std::vector<uint8_t>& bytes) {
  std::string out;
  for (const uint8_t byte : bytes) {
    out += "0123456789abcdef"[byte >> 4];
    out += "0123456789abcdef"[byte & 15];
  }
  return out;
}

}  // namespace tl_test
