// Runs the kernel tests on the GPU, if there is one.
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
  return doctest::Context(argc, argv).run();
}
