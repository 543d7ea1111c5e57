// The table of CUDA kernels that tl's dispatch point reads.
#include "launchers.hpp"
#include "tl/cpu/kernels.hpp"
#include "tl/cuda/kernels.hpp"

namespace tl::cuda {

const KernelTable<float>& kernels() {
  static const KernelTable<float> table = [] {
    KernelTable<float> filled;
#define TL_ENTER(name, Args) filled.name = &cuda::name;
    TL_CUDA_KERNELS(TL_ENTER)
#undef TL_ENTER
    return filled;
  }();
  return table;
}

}  // namespace tl::cuda
