// Deflate decompression and the checksum of gzip and PNG.
#pragma once
#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "tl/core/config.hpp"

namespace tl::inline TL_ABI {

/// CRC-32 (polynomial 0x04c11db7, reflected) of `bytes`; `crc` is the checksum of what came before.
uint32_t crc32(std::span<const uint8_t> bytes, uint32_t crc = 0);

/// Decompresses a gzip file (RFC 1952, one or more members) and checks its lengths and checksums. `name` stands in
/// error messages. With `prefix_bytes` the result is at most the first so many bytes, unchecked: enough to read a
/// header before the whole is allowed its memory.
/// Errors: FormatError when the file is broken or decompresses to more than `max_bytes`.
std::vector<uint8_t> gunzip(std::span<const uint8_t> bytes, const std::string& name, uint64_t max_bytes);
std::vector<uint8_t> gunzip_prefix(std::span<const uint8_t> bytes, const std::string& name, uint64_t prefix_bytes);

}  // namespace tl::inline TL_ABI

#if TL_HEADER_ONLY
#include "tl/io/inflate.inl"
#endif
