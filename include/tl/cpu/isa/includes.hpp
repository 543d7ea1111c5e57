// Everything that kernel bodies include. It comes before a target region opens, so that nothing shared with the rest of
// the program is compiled for the wrong machine.
#pragma once
#include <algorithm>
#include <atomic>
#include <bit>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <limits>
#include <numeric>
#include <type_traits>
#include <utility>

#include "tl/core/parallel.hpp"
#include "tl/core/random.hpp"
#include "tl/cpu/isa/tables.hpp"
#include "tl/cpu/kernels.hpp"
#include "tl/cpu/scratch.hpp"
#if TL_X86
#include <immintrin.h>
#endif

// Before a loop of constant length whose variables are to live in registers.
#if defined(__clang__)
#define TL_UNROLL _Pragma("clang loop unroll(full)")
#else
#define TL_UNROLL _Pragma("GCC unroll 32")
#endif
