// Every function of the device layer, each in a small kernel whose result is known to the bit.
#pragma once
#include <cstdint>

namespace tl::test::wrappers {

/// out[block, 0..8] of each of 2 x 3 blocks of 4 x 2 x 2 threads, by its last thread: all indices and sizes.
void indices(unsigned* out);
/// out[t] = shuffle(in[t], source[t]) in one warp, for floats and for 64-bit integers.
void shuffle(const float* in, const int32_t* source, float* out);
void shuffle_wide(const int64_t* in, const int32_t* source, int64_t* out);
/// out[bit, t] = shuffle_xor(in[t], 1 << bit), bit = 0..4
void shuffle_xor(const float* in, float* out);
/// out[t] = ballot(in[t] > 0) among even and odd lanes separately.
void ballot(const float* in, unsigned* out);
/// out[t] = old values of 64 threads that each add 1 to out[64]; out[65]: a float that each adds 0.5 to, as bits.
void atomics(uint32_t* out);
/// out = in reversed in one block of 96, through static and through dynamic shared memory of 96 floats.
void reverse(const float* in, float* out);
void reverse_dynamic(const float* in, float* out, std::size_t more_bytes);
/// out[t] = in[(t + 1) % 32], through shared memory and a warp barrier.
void rotate(const float* in, float* out);
/// out = in, four elements at a time.
void packs(const float* in, float* out, int64_t n);
/// out[t] = warp sum, out[32 + t] = block sum of 128 values, out[160 + t] = block maximum.
void reductions(const float* in, float* out);
/// out[i] = a[i] * b[i] + c[i], rounded twice; out[n + i] rounded once.
void roundings(const float* a, const float* b, const float* c, float* out, int64_t n);

}  // namespace tl::test::wrappers
