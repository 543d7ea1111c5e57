// Reductions inside a warp and inside a block. The order of the operations depends on the shape of the launch alone, so
// that results are the same bits in every run.
#pragma once
#include "device/execution.cuh"

namespace tl::device {

struct Sum {
  template <class T>
  TL_DEVICE T operator()(T a, T b) const {
    return a + b;
  }
};

/// The larger; a NaN wins, as it must for errors to show.
struct Max {
  TL_DEVICE float operator()(float a, float b) const { return a > b || a != a ? a : b; }
};

/// `op` over the values of all 32 lanes; every lane gets the result.
template <class T, class Op>
TL_DEVICE T warp_reduce(T value, Op op, Where where = {}) {
  TL_UNROLLED for (int bits = kWarpSize / 2; bits > 0; bits /= 2) {
    value = op(value, shuffle_xor(value, bits, kFullMask, where.inside()));
  }
  return value;
}

/// `op` over the values of a block of kThreads threads (a multiple of 32, all in x); every thread gets the result. All
/// threads must call it together. Calls take turns with two arrays, so that one barrier each is enough: it separates
/// the next call's writes from nobody's reads, and those of the call after it from this one's.
template <int kThreads>
class BlockReducer {
 public:
  /// `identity` is what op(identity, v) == v holds for.
  template <class T, class Op>
  TL_DEVICE T operator()(T value, T identity, Op op, Where where = {}) {
    static_assert(kThreads % kWarpSize == 0 && kThreads <= 1024);
    constexpr int kWarps = kThreads / kWarpSize;
    TL_SHARED(partial, T[2][kWarps]);
    value = warp_reduce(value, op, where.inside());
    turn_ ^= 1;
    if (lane() == 0) partial[turn_][thread_idx().x / kWarpSize] = value;
    sync_block(where.inside());
    return warp_reduce(lane() < kWarps ? partial[turn_][lane()] : identity, op, where.inside());
  }

 private:
  int turn_ = 0;
};

}  // namespace tl::device
