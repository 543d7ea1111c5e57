// Which sanitizer this file is compiled under, and the few hooks of theirs that a program with its own stacks must
// call.
#pragma once

#if defined(__SANITIZE_ADDRESS__)
#define TL_EMULATOR_ASAN 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
#define TL_EMULATOR_ASAN 1
#endif
#endif

#if defined(__SANITIZE_THREAD__)
#define TL_EMULATOR_TSAN 1
#elif defined(__has_feature)
#if __has_feature(thread_sanitizer)
#define TL_EMULATOR_TSAN 1
#endif
#endif

#if defined(TL_EMULATOR_ASAN)
#include <sanitizer/asan_interface.h>
#include <sanitizer/common_interface_defs.h>
#endif

#if defined(TL_EMULATOR_TSAN)
#include <sanitizer/tsan_interface.h>
extern "C" {
void* __tsan_get_current_fiber();
void* __tsan_create_fiber(unsigned flags);
void __tsan_destroy_fiber(void* fiber);
void __tsan_switch_to_fiber(void* fiber, unsigned flags);
void __tsan_acquire(void* address);
void __tsan_release(void* address);
void __tsan_ignore_thread_begin();
void __tsan_ignore_thread_end();
}
#endif

namespace tl::emulator {

/// Whether ThreadSanitizer watches, for tests with deliberate data races.
#if defined(TL_EMULATOR_TSAN)
inline constexpr bool kUnderThreadSanitizer = true;
#else
inline constexpr bool kUnderThreadSanitizer = false;
#endif

/// Hides the emulator's own memory accesses from ThreadSanitizer while it lives: the scheduler's state is shared by all
/// fibers on purpose, and only what the kernels do is to be judged.
struct Unobserved {
#if defined(TL_EMULATOR_TSAN)
  Unobserved() { __tsan_ignore_thread_begin(); }
  ~Unobserved() { __tsan_ignore_thread_end(); }
#else
  Unobserved() {}
#endif
  Unobserved(const Unobserved&) = delete;
  Unobserved& operator=(const Unobserved&) = delete;
};

/// Tells ThreadSanitizer that everything before a release is visible after the acquire of the same address.
inline void happens_before([[maybe_unused]] void* address) {
#if defined(TL_EMULATOR_TSAN)
  __tsan_release(address);
#endif
}

inline void happens_after([[maybe_unused]] void* address) {
#if defined(TL_EMULATOR_TSAN)
  __tsan_acquire(address);
#endif
}

/// Makes AddressSanitizer stop at any access to the region (a no-op without it).
inline void forbid_access([[maybe_unused]] const void* begin, [[maybe_unused]] unsigned long bytes) {
#if defined(TL_EMULATOR_ASAN)
  __asan_poison_memory_region(begin, bytes);
#endif
}

inline void allow_access([[maybe_unused]] const void* begin, [[maybe_unused]] unsigned long bytes) {
#if defined(TL_EMULATOR_ASAN)
  __asan_unpoison_memory_region(begin, bytes);
#endif
}

}  // namespace tl::emulator
