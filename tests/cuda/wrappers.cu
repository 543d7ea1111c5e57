#include "wrappers.hpp"

#include "device/grid.cuh"
#include "device/pack.cuh"
#include "device/reduce.cuh"

namespace tl::test::wrappers {

using namespace device;

namespace {

TL_KERNEL void indices_kernel(unsigned* out) {
  const Dim3 t = thread_idx(), b = block_idx(), n = block_dim(), g = grid_dim();
  if (t.x + 1 != n.x || t.y + 1 != n.y || t.z + 1 != n.z) return;
  unsigned* mine = out + (b.y * g.x + b.x) * 9;
  const unsigned values[9] = {b.x, b.y, t.x, t.y, t.z, n.x, n.y, g.x, static_cast<unsigned>(lane())};
  for (int i = 0; i < 9; ++i) mine[i] = values[i];
}

template <class T>
TL_KERNEL void shuffle_kernel(const T* in, const int32_t* source, T* out) {
  out[lane()] = device::shuffle(in[lane()], source[lane()]);
}

TL_KERNEL void shuffle_xor_kernel(const float* in, float* out) {
  for (int bit = 0; bit < 5; ++bit) out[bit * kWarpSize + lane()] = device::shuffle_xor(in[lane()], 1 << bit);
}

TL_KERNEL void ballot_kernel(const float* in, unsigned* out) {
  constexpr unsigned kEven = 0x55555555u;
  const bool positive = in[lane()] > 0;
  if (lane() % 2 == 0) out[lane()] = device::ballot(positive, kEven);
  else out[lane()] = device::ballot(positive, ~kEven);
}

TL_KERNEL void atomics_kernel(uint32_t* out, float* sum) {
  out[thread_idx().x] = atomic_add(out + 64, 1u);
  atomic_add(sum, 0.5f);
}

TL_KERNEL void reverse_kernel(const float* in, float* out) {
  TL_SHARED(tile, float[96]);
  const unsigned t = thread_idx().x;
  tile[t] = in[t];
  sync_block();
  out[t] = tile[95 - t];
}

TL_KERNEL void reverse_dynamic_kernel(const float* in, float* out) {
  TL_DYNAMIC_SHARED(tile, float);
  const unsigned t = thread_idx().x;
  tile[t] = in[t];
  sync_block();
  out[t] = tile[95 - t];
}

TL_KERNEL void rotate_kernel(const float* in, float* out) {
  TL_SHARED(tile, float[kWarpSize]);
  tile[lane()] = in[lane()];
  sync_warp();
  out[lane()] = tile[(lane() + 1) % kWarpSize];
}

TL_KERNEL void packs_kernel(const float* in, float* out, int64_t n) {
  for_each_in_grid(n, 4, [&](int64_t i) { store_pack(out + i, load_pack<4>(in + i)); });
}

TL_KERNEL void reductions_kernel(const float* in, float* out) {
  const unsigned t = thread_idx().x;
  const float warp_sum = warp_reduce(in[t], Sum{});
  if (t < kWarpSize) out[t] = warp_sum;
  BlockReducer<128> reduce;
  out[kWarpSize + t] = reduce(in[t], 0.0f, Sum{});
  out[kWarpSize + 128 + t] = reduce(in[t], -INFINITY, Max{});
}

TL_KERNEL void roundings_kernel(const float* a, const float* b, const float* c, float* out, int64_t n) {
  for_each_in_grid(n, 1, [&](int64_t i) {
    out[i] = rounded_product(a[i], b[i]) + c[i];
    out[n + i] = fmaf(a[i], b[i], c[i]);
  });
}

}  // namespace

void indices(unsigned* out) { launch(indices_kernel, {.grid = {2, 3}, .block = {4, 2, 2}}, out); }
void shuffle(const float* in, const int32_t* source, float* out) {
  launch(shuffle_kernel<float>, {.block = {32}}, in, source, out);
}
void shuffle_wide(const int64_t* in, const int32_t* source, int64_t* out) {
  launch(shuffle_kernel<int64_t>, {.block = {32}}, in, source, out);
}
void shuffle_xor(const float* in, float* out) { launch(shuffle_xor_kernel, {.block = {32}}, in, out); }
void ballot(const float* in, unsigned* out) { launch(ballot_kernel, {.block = {32}}, in, out); }
void atomics(uint32_t* out) { launch(atomics_kernel, {.block = {64}}, out, reinterpret_cast<float*>(out + 65)); }
void reverse(const float* in, float* out) { launch(reverse_kernel, {.block = {96}}, in, out); }
void reverse_dynamic(const float* in, float* out, std::size_t more_bytes) {
  launch(reverse_dynamic_kernel, {.block = {96}, .shared_bytes = 96 * sizeof(float) + more_bytes}, in, out);
}
void rotate(const float* in, float* out) { launch(rotate_kernel, {.block = {32}}, in, out); }
void packs(const float* in, float* out, int64_t n) { launch(packs_kernel, grid_for(n / 4), in, out, n); }
void reductions(const float* in, float* out) { launch(reductions_kernel, {.block = {128}}, in, out); }
void roundings(const float* a, const float* b, const float* c, float* out, int64_t n) {
  launch(roundings_kernel, grid_for(n), a, b, c, out, n);
}

}  // namespace tl::test::wrappers
