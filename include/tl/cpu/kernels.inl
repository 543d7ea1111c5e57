// Definitions of kernels.hpp: every kernel, once per instruction set.
#pragma once
#include "tl/cpu/isa/avx2.inl"
#include "tl/cpu/isa/avx512.inl"
#include "tl/cpu/isa/baseline.inl"
#include "tl/cpu/select.inl"
