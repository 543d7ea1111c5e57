// A program that brings its own stb_image, with its own settings, before and after tl's private one.
#include <cstdlib>

static int host_allocations = 0;

#define STBI_MALLOC(size) (++host_allocations, std::malloc(size))
#define STBI_REALLOC(memory, size) std::realloc(memory, size)
#define STBI_FREE(memory) std::free(memory)
#include <stb/stb_image.h>

#include "tl/io/stb.inl"
//
#include "tl/io/image.hpp"

#define STB_IMAGE_IMPLEMENTATION
#define STB_IMAGE_WRITE_IMPLEMENTATION
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wmissing-field-initializers"
#include <stb/stb_image.h>
#include <stb/stb_image_write.h>
#pragma GCC diagnostic pop

#include "support.hpp"

TEST_CASE("The host's stb keeps its formats and its memory, and decodes the same pixels") {
  tl::Image picture(5, 4);
  for (size_t i = 0; i < picture.pixels.size(); ++i) picture.pixels[i] = static_cast<uint8_t>(4 * i);
  const std::string png = tl::encode_png(picture), ppm = tl::encode_ppm(picture);

  const auto load = [](const std::string& bytes) {
    int width = 0, height = 0, channels = 0;
    stbi_uc* pixels = stbi_load_from_memory(reinterpret_cast<const stbi_uc*>(bytes.data()),
                                            static_cast<int>(bytes.size()), &width, &height, &channels, 3);
    REQUIRE(pixels != nullptr);
    std::vector<uint8_t> out(pixels, pixels + width * height * 3);
    stbi_image_free(pixels);
    return out;
  };
  CHECK(load(png) == picture.pixels);
  CHECK(load(ppm) == picture.pixels);  // tl's has no PNM
  const int before = host_allocations;
  CHECK(before > 0);
  CHECK(tl::decode_image({reinterpret_cast<const uint8_t*>(png.data()), png.size()}, "p") == picture);
  CHECK(host_allocations == before);
}
