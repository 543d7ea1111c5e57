// Runs the kernel tests on the GPU, if there is one; the device layer first.
#define DOCTEST_CONFIG_IMPLEMENT
#include <doctest/doctest.h>

#include <cstdio>

#include "tl/cuda/runtime.hpp"

int main(int argc, char** argv) {
  constexpr int kExitSkipped = 77;  // CTest's SKIP_RETURN_CODE
  if (tl::cuda::device_count() == 0) {
    std::puts("skipped: no CUDA device");
    return kExitSkipped;
  }
  doctest::Context device_layer(argc, argv);
  device_layer.addFilter("test-case", "device layer*");
  if (const int status = device_layer.run(); status != 0) {
    std::puts("The GPU does not do what the emulator does. The kernels' tests are left out: they would only confuse.");
    return status;
  }
  return doctest::Context(argc, argv).run();
}
