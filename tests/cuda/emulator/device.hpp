// The device layer in the emulator; kernels/device/execution.cuh includes this without nvcc. The twin of
// kernels/device/gpu.cuh: same names, same results.
#pragma once
#include <atomic>
#include <cmath>
#include <cstring>

#include "emulator/emulator.hpp"
#include "emulator/shared_view.hpp"
#include "emulator/stream.hpp"

#define TL_KERNEL inline
#define TL_LAUNCH_BOUNDS(threads)
#define TL_DEVICE inline
#define TL_DEVICE_CALL inline
#define TL_SHARED(name, ...)                                                                                  \
  static const unsigned tl_slot_of_##name = ::tl::emulator::new_shared_slot();                                \
  const ::tl::emulator::SharedView<__VA_ARGS__> name(                                                         \
      reinterpret_cast<::tl::device::TypeOf<__VA_ARGS__>*>(                                                   \
          ::tl::emulator::shared_array(tl_slot_of_##name, sizeof(__VA_ARGS__), alignof(__VA_ARGS__), #name)), \
      #name)
#define TL_DYNAMIC_SHARED(name, T) const ::tl::emulator::DynamicSharedView<T> name
#define TL_UNROLLED

namespace tl::device {

using emulator::Where;

inline Dim3 to_dim3(const emulator::Extent& e) { return {e.x, e.y, e.z}; }
inline Dim3 thread_idx() { return to_dim3(emulator::here().thread); }
inline Dim3 block_idx() { return to_dim3(emulator::here().block); }
inline Dim3 block_dim() { return to_dim3(emulator::block_extent()); }
inline Dim3 grid_dim() { return to_dim3(emulator::grid_extent()); }
inline int lane() { return emulator::lane(); }

inline void sync_block(Where where = {}) { emulator::block_barrier(where); }
inline void sync_warp(unsigned mask = kFullMask, Where where = {}) { emulator::warp_barrier(mask, where); }

template <class T>
T shuffle(T value, int source, unsigned mask = kFullMask, Where where = {}) {
  static_assert(sizeof(T) == 4 || sizeof(T) == 8, "CUDA shuffles words of 4 or 8 bytes");
  std::uint64_t bits = 0;
  std::memcpy(&bits, &value, sizeof value);
  bits = emulator::warp_exchange(bits, source & (kWarpSize - 1), mask, where);
  std::memcpy(&value, &bits, sizeof value);
  return value;
}
template <class T>
T shuffle_xor(T value, int bits, unsigned mask = kFullMask, Where where = {}) {
  return shuffle(value, lane() ^ bits, mask, where);
}
inline unsigned ballot(bool predicate, unsigned mask = kFullMask, Where where = {}) {
  return emulator::warp_ballot(predicate, mask, where);
}

template <class T>
T atomic_add(T* address, T value) {
  return std::atomic_ref<T>(*address).fetch_add(value, std::memory_order_relaxed);
}

inline float rounded_product(float a, float b) {
  const volatile float product = a * b;
  return product;
}

inline void check_access(const void* address, std::size_t bytes, Where where = {}) {
  emulator::check_access(address, bytes, where);
}

/// Queues the launch on the current stream, as CUDA does: arguments are copied now, the kernel runs at the next
/// synchronization. A launcher that hands a kernel the address of a local variable, or a copy that does not wait,
/// shows.
template <class... Parameters>
void launch(void (*kernel)(Parameters...), const LaunchShape& shape, typename Identity<Parameters>::type... arguments) {
  emulator::enqueue([=] {
    const auto body = [&] { kernel(arguments...); };
    emulator::launch(
        {shape.grid.x, shape.grid.y, shape.grid.z}, {shape.block.x, shape.block.y, shape.block.z}, shape.shared_bytes,
        [](const void* call) { (*static_cast<const decltype(body)*>(call))(); }, &body);
  });
}

}  // namespace tl::device
