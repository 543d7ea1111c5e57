// stb_image and stb_image_write as private code of tl: in a namespace, with internal linkage, without file access, and
// with memory from stb_arena. A host program may include stb before or after, with whatever configuration: the macros
// that would leak either way are saved, cleared and restored around.
#pragma once
#include <assert.h>
#include <limits.h>
#include <math.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#if defined(__SSE2__)
#include <emmintrin.h>
#endif
#if defined(__ARM_NEON)
#include <arm_neon.h>
#endif

#include <new>

#include "tl/core/config.hpp"
#include "tl/core/error.hpp"

namespace tl::inline TL_ABI::detail {

/// The memory of one decoding on this thread: zeroed, bounded, and freed at the end of the scope even when stb is left
/// by an exception. stb's own errors leak at places, its assertions would end the program, and it decodes broken files
/// into memory that it never wrote.
class StbArena {
 public:
  explicit StbArena(size_t limit_bytes) : left_(limit_bytes), outer_(current()) { current() = this; }
  ~StbArena() {
    while (blocks_.next != &blocks_) release(blocks_.next + 1);
    current() = outer_;
  }
  StbArena(const StbArena&) = delete;
  StbArena& operator=(const StbArena&) = delete;

  static StbArena*& current() {
    thread_local StbArena* arena = nullptr;
    return arena;
  }

  void* allocate(size_t size) {
    if (size > left_) throw std::bad_alloc();
    auto* block = static_cast<Block*>(::calloc(1, size + sizeof(Block)));
    if (!block) throw std::bad_alloc();
    left_ -= size;
    *block = {blocks_.next, &blocks_, size};
    blocks_.next->previous = block;
    blocks_.next = block;
    return block + 1;
  }

  void* reallocate(void* old, size_t size) {
    void* fresh = allocate(size);
    if (old) {
      const size_t kept = (static_cast<Block*>(old) - 1)->size;
      ::memcpy(fresh, old, kept < size ? kept : size);
      release(old);
    }
    return fresh;
  }

  void release(void* memory) {
    if (!memory) return;
    Block* block = static_cast<Block*>(memory) - 1;
    block->previous->next = block->next;
    block->next->previous = block->previous;
    left_ += block->size;
    ::free(block);
  }

 private:
  struct alignas(16) Block {
    Block *next, *previous;
    size_t size;
  };
  size_t left_;
  StbArena* outer_;
  Block blocks_{&blocks_, &blocks_, 0};
};

struct StbAssertion {};

}  // namespace tl::inline TL_ABI::detail

#pragma push_macro("STBI_INCLUDE_STB_IMAGE_H")
#pragma push_macro("INCLUDE_STB_IMAGE_WRITE_H")
#pragma push_macro("STB_IMAGE_IMPLEMENTATION")
#pragma push_macro("STB_IMAGE_WRITE_IMPLEMENTATION")
#pragma push_macro("STB_IMAGE_STATIC")
#pragma push_macro("STB_IMAGE_WRITE_STATIC")
#pragma push_macro("STBIDEF")
#pragma push_macro("STBIWDEF")
#pragma push_macro("STBI_ASSERT")
#pragma push_macro("STBI_MALLOC")
#pragma push_macro("STBI_REALLOC")
#pragma push_macro("STBI_REALLOC_SIZED")
#pragma push_macro("STBI_FREE")
#pragma push_macro("STBIW_ASSERT")
#pragma push_macro("STBIW_MALLOC")
#pragma push_macro("STBIW_REALLOC")
#pragma push_macro("STBIW_REALLOC_SIZED")
#pragma push_macro("STBIW_FREE")
#pragma push_macro("STBI_NO_STDIO")
#pragma push_macro("STBI_WRITE_NO_STDIO")
#pragma push_macro("STBI_NO_JPEG")
#pragma push_macro("STBI_NO_PNG")
#pragma push_macro("STBI_NO_BMP")
#pragma push_macro("STBI_NO_PSD")
#pragma push_macro("STBI_NO_TGA")
#pragma push_macro("STBI_NO_GIF")
#pragma push_macro("STBI_NO_HDR")
#pragma push_macro("STBI_NO_PIC")
#pragma push_macro("STBI_NO_PNM")
#pragma push_macro("STBI_NO_LINEAR")
#pragma push_macro("stbi__err")
#undef STBI_INCLUDE_STB_IMAGE_H
#undef INCLUDE_STB_IMAGE_WRITE_H
#undef STB_IMAGE_IMPLEMENTATION
#undef STB_IMAGE_WRITE_IMPLEMENTATION
#undef STB_IMAGE_STATIC
#undef STB_IMAGE_WRITE_STATIC
#undef STBIDEF
#undef STBIWDEF
#undef STBI_ASSERT
#undef STBI_MALLOC
#undef STBI_REALLOC
#undef STBI_REALLOC_SIZED
#undef STBI_FREE
#undef STBIW_ASSERT
#undef STBIW_MALLOC
#undef STBIW_REALLOC
#undef STBIW_REALLOC_SIZED
#undef STBIW_FREE
#undef STBI_NO_STDIO
#undef STBI_WRITE_NO_STDIO
#undef STBI_NO_JPEG
#undef STBI_NO_PNG
#undef STBI_NO_BMP
#undef STBI_NO_PSD
#undef STBI_NO_TGA
#undef STBI_NO_GIF
#undef STBI_NO_HDR
#undef STBI_NO_PIC
#undef STBI_NO_PNM
#undef STBI_NO_LINEAR
#undef stbi__err

// PNM is read by tl itself: stb ignores the largest value that the header declares.
#define STBI_NO_PSD
#define STBI_NO_TGA
#define STBI_NO_GIF
#define STBI_NO_HDR
#define STBI_NO_PIC
#define STBI_NO_PNM
#define STBI_NO_LINEAR
#define STBI_NO_STDIO
#define STBI_WRITE_NO_STDIO
#define STB_IMAGE_STATIC
#define STB_IMAGE_WRITE_STATIC
#define STB_IMAGE_IMPLEMENTATION
#define STB_IMAGE_WRITE_IMPLEMENTATION
#define STBI_ASSERT(x) ((x) ? void() : throw ::tl::detail::StbAssertion())
#define STBI_MALLOC(size) ::tl::detail::StbArena::current()->allocate(size)
#define STBI_REALLOC(memory, size) ::tl::detail::StbArena::current()->reallocate(memory, size)
#define STBI_FREE(memory) ::tl::detail::StbArena::current()->release(memory)
#define STBIW_ASSERT STBI_ASSERT
#define STBIW_MALLOC STBI_MALLOC
#define STBIW_REALLOC STBI_REALLOC
#define STBIW_FREE STBI_FREE

#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wunused-function"
namespace tl::inline TL_ABI::detail::stb {
using ::abs;  // not tl::abs
#if __has_include(<stb/stb_image.h>)
#include <stb/stb_image.h>
#include <stb/stb_image_write.h>
#else
#include <stb_image.h>
#include <stb_image_write.h>
#endif
}  // namespace tl::inline TL_ABI::detail::stb
#pragma GCC diagnostic pop

#pragma pop_macro("STBI_INCLUDE_STB_IMAGE_H")
#pragma pop_macro("INCLUDE_STB_IMAGE_WRITE_H")
#pragma pop_macro("STB_IMAGE_IMPLEMENTATION")
#pragma pop_macro("STB_IMAGE_WRITE_IMPLEMENTATION")
#pragma pop_macro("STB_IMAGE_STATIC")
#pragma pop_macro("STB_IMAGE_WRITE_STATIC")
#pragma pop_macro("STBIDEF")
#pragma pop_macro("STBIWDEF")
#pragma pop_macro("STBI_ASSERT")
#pragma pop_macro("STBI_MALLOC")
#pragma pop_macro("STBI_REALLOC")
#pragma pop_macro("STBI_REALLOC_SIZED")
#pragma pop_macro("STBI_FREE")
#pragma pop_macro("STBIW_ASSERT")
#pragma pop_macro("STBIW_MALLOC")
#pragma pop_macro("STBIW_REALLOC")
#pragma pop_macro("STBIW_REALLOC_SIZED")
#pragma pop_macro("STBIW_FREE")
#pragma pop_macro("STBI_NO_STDIO")
#pragma pop_macro("STBI_WRITE_NO_STDIO")
#pragma pop_macro("STBI_NO_JPEG")
#pragma pop_macro("STBI_NO_PNG")
#pragma pop_macro("STBI_NO_BMP")
#pragma pop_macro("STBI_NO_PSD")
#pragma pop_macro("STBI_NO_TGA")
#pragma pop_macro("STBI_NO_GIF")
#pragma pop_macro("STBI_NO_HDR")
#pragma pop_macro("STBI_NO_PIC")
#pragma pop_macro("STBI_NO_PNM")
#pragma pop_macro("STBI_NO_LINEAR")
#pragma pop_macro("stbi__err")
