// The smallest program that needs tl's headers and its compiled parts.
#include <cstdio>

#include "tl/tensor/tensor.hpp"

int main() {
  try {
    const tl::Tensor x = tl::Tensor::full({2, 3}, 7.0);
    std::printf("tl %s: %g on %d threads\n", TL_VERSION_STRING, static_cast<double>(x.values<float>()[5]), tl::threads());
    return x.values<float>()[5] == 7.0f ? 0 : 1;
  } catch (const tl::Error& error) {
    std::fprintf(stderr, "error: %s\n", error.what());
    return 1;
  }
}
