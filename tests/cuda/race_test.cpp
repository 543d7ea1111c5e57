// ThreadSanitizer sees a missing barrier as a data race between two threads of the block, whatever the numbers are:
// here the right ones come out. Built only under ThreadSanitizer; CTest expects the program to fail.
#include "device/execution.cuh"
#include "emulator/guarded.hpp"

namespace {

using namespace tl::device;

TL_KERNEL void reverse_without_barrier(const float* x, float* y) {
  TL_SHARED(tile, float[64]);
  const unsigned t = thread_idx().x;
  tile[t] = x[t];
  y[t] = tile[63 - t];
}

}  // namespace

int main() {
  const tl::emulator::Guarded<float> x(std::vector<float>(64, 1.0f));
  tl::emulator::Guarded<float> y(64);
  launch(reverse_without_barrier, {.block = {64}}, x.data(), y.data());
  tl::cuda::synchronize();
  return 0;
}
