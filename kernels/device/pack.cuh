// Vector loads and stores: N neighbouring elements in one memory instruction.
#pragma once
#include "device/execution.cuh"

namespace tl::device {

/// N elements that move together; aligned so that the compiler emits one instruction of sizeof(T) * N bytes (at most
/// 16).
template <class T, int N>
struct alignas(sizeof(T) * N) Pack {
  static_assert(sizeof(T) * N <= 16 && (N & (N - 1)) == 0);
  T value[N];
  TL_DEVICE T& operator[](int i) { return value[i]; }
  TL_DEVICE const T& operator[](int i) const { return value[i]; }
};

/// The N elements at `address`, which must be aligned to all of them.
template <int N, class T>
TL_DEVICE Pack<T, N> load_pack(const T* address, Where where = {}) {
  device::check_access(address, sizeof(Pack<T, N>), where);
  return *reinterpret_cast<const Pack<T, N>*>(address);
}

template <int N, class T>
TL_DEVICE void store_pack(T* address, const Pack<T, N>& pack, Where where = {}) {
  device::check_access(address, sizeof(Pack<T, N>), where);
  *reinterpret_cast<Pack<T, N>*>(address) = pack;
}

/// For launchers: whether every pointer can be used with vectors of `bytes`.
template <class... T>
bool all_aligned(std::size_t bytes, const T*... address) {
  return ((reinterpret_cast<std::uintptr_t>(address) % bytes == 0) && ...);
}

}  // namespace tl::device
