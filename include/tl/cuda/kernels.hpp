// The kernels that tl::cuda has.
#pragma once

namespace tl {

template <class T>
struct KernelTable;

namespace cuda {

/// The launchers of kernels/*.cu by name; what CUDA does not have is null there. Each puts its work on the current
/// stream (tl/cuda/runtime.hpp) and returns at once; pointers in its arguments are the device's.
const KernelTable<float>& kernels();

}  // namespace cuda
}  // namespace tl
