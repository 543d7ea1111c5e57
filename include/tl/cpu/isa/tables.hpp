// The tables that the instruction sets define.
#pragma once
#include "tl/cpu/kernels.hpp"

namespace tl::cpu {
namespace avx512 {
const KernelTable<float>& table_f32();
const KernelTable<BFloat16>& table_bf16();
}
namespace avx2 {
const KernelTable<float>& table_f32();
}
namespace baseline {
const KernelTable<float>& table_f32();
const KernelTable<double>& table_f64();
}  // namespace baseline
}  // namespace tl::cpu
