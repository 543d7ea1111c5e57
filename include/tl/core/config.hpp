// Version, build mode and portability macros. Readable by nvcc.
#pragma once

#define TL_VERSION_MAJOR 0
#define TL_VERSION_MINOR 1
#define TL_VERSION_PATCH 0
#define TL_VERSION_STRING "0.1.0"

// Two ways to build, same code, same bits:
//   header-only (default)  definitions live in the headers and are `inline`;
//   compiled               TL_COMPILED is defined everywhere, the definitions are built once into tl::compiled
//                          (or into one file of yours: define TL_COMPILED, include <tl/compiled.hpp>).
// A virtual function that is defined outside of its class carries TL_INLINE inside, too: otherwise each translation unit
// makes the class's table, and all that its functions refer to, whether it uses the class or not.
// The inline ABI namespace turns a program that mixes the two into a link error instead of a riddle.
#if defined(TL_COMPILED)
#define TL_HEADER_ONLY 0
#define TL_INLINE
#define TL_ABI abi_v0_compiled
#else
#define TL_HEADER_ONLY 1
#define TL_INLINE inline
#define TL_ABI abi_v0_header
#endif

// Kernels for bfloat16: part of tl::compiled; a header-only program that wants them defines TL_WITH_BF16 as 1 in all its
// files, and compiles five seconds longer.
#if !defined(TL_WITH_BF16)
#define TL_WITH_BF16 !TL_HEADER_ONLY
#endif

#if defined(__CUDACC__)
#define TL_HD __host__ __device__
#else
#define TL_HD
#endif

#if defined(__GNUC__) || defined(__clang__)
#define TL_ALWAYS_INLINE inline __attribute__((always_inline))
#define TL_INLINE_LAMBDA __attribute__((always_inline))  // after the parameter list of a lambda
#define TL_NOINLINE __attribute__((noinline))
#define TL_RESTRICT __restrict__
#else
#error "tl needs g++ 12 or clang++ 14 or newer: its CPU kernels are written with vector extensions and target pragmas"
#endif

#if defined(__x86_64__)
#define TL_X86 1
#else
#define TL_X86 0
#endif
