// JPEG decoding by libjpeg-turbo, where TL_WITH_JPEG_TURBO says that the program links it: about twice as fast as stb.
#pragma once
#include <csetjmp>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <span>
#include <string_view>

#include <jpeglib.h>
//
#include <jerror.h>

#include "tl/core/config.hpp"
#include "tl/core/error.hpp"

namespace tl::inline TL_ABI::detail {

/// What libjpeg calls when something is wrong. Its own handlers print, and end the program.
struct TurboErrors {
  jpeg_error_mgr manager;  // first: libjpeg hands a pointer to it back
  std::jmp_buf out;
  char message[JMSG_LENGTH_MAX];

  [[noreturn]] static void leave(j_common_ptr info) {
    auto* errors = reinterpret_cast<TurboErrors*>(info->err);
    errors->manager.format_message(info, errors->message);
    std::longjmp(errors->out, 1);
  }

  /// Damage that libjpeg would fill with grey is refused. What stb passes over as well is not: stray bytes between
  /// segments, a scan that ends early, a restart marker out of its order, and unusual headers.
  static void warn(j_common_ptr info, int level) {
    if (level >= 0) return;
    switch (info->err->msg_code) {
      case JWRN_EXTRANEOUS_DATA:
      case JWRN_HIT_MARKER:
      case JWRN_MUST_RESYNC:
      case JWRN_ADOBE_XFORM:
      case JWRN_JFIF_MAJOR:
        return;
      default:
        leave(info);
    }
  }
};

/// Decodes to RGB [height, width, 3]. Returns whether it did; else errors.message says why not. No object with a
/// destructor may live here, since longjmp would pass it over.
inline bool turbo_to_rgb(std::span<const uint8_t> bytes, int64_t width, int64_t height, uint8_t* out,
                         TurboErrors& errors) {
  jpeg_decompress_struct info{};
  info.err = jpeg_std_error(&errors.manager);
  errors.manager.error_exit = TurboErrors::leave;
  errors.manager.emit_message = TurboErrors::warn;
  errors.manager.output_message = [](j_common_ptr) {};
  if (setjmp(errors.out)) {
    jpeg_destroy_decompress(&info);
    return false;
  }
  jpeg_create_decompress(&info);
  jpeg_mem_src(&info, bytes.data(), static_cast<unsigned long>(bytes.size()));
  jpeg_read_header(&info, TRUE);
  info.out_color_space = JCS_RGB;
  jpeg_start_decompress(&info);
  if (info.output_width != static_cast<JDIMENSION>(width) || info.output_height != static_cast<JDIMENSION>(height))
    ERREXIT(&info, JERR_BAD_LENGTH);
  while (info.output_scanline < info.output_height) {
    JSAMPROW row = out + int64_t{info.output_scanline} * width * 3;
    jpeg_read_scanlines(&info, &row, 1);
  }
  jpeg_finish_decompress(&info);
  jpeg_destroy_decompress(&info);
  return true;
}

/// Whether libjpeg-turbo decodes; the environment variable TL_JPEG=stb says no. Read once.
inline bool uses_turbo() {
  static const bool uses = [] {
    const char* forced = std::getenv("TL_JPEG");
    return !forced || std::string_view(forced) != "stb";
  }();
  return uses;
}

}  // namespace tl::inline TL_ABI::detail
