// Which instruction sets this processor has, and which one the kernels use.
#pragma once
#include <algorithm>
#include <cstdlib>
#include <string>
#include <string_view>

#include "tl/core/config.hpp"
#include "tl/core/error.hpp"

#if TL_X86
#include <cpuid.h>
#if defined(__linux__)
#include <sys/syscall.h>
#include <unistd.h>
#endif
#endif

namespace tl {

/// The instruction sets that kernels are compiled for, poorest first.
enum class Isa { baseline, avx2, avx512 };

constexpr std::string_view name_of(Isa isa) {
  switch (isa) {
    case Isa::baseline:
      return "baseline";
    case Isa::avx2:
      return "avx2";
    case Isa::avx512:
      return "avx512";
  }
  return "?";
}

inline void append_text(std::string& out, Isa isa) { out += name_of(isa); }

/// The richest instruction set that the processor and the operating system support.
inline Isa best_isa() {
#if TL_X86
  if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512dq") &&
      __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma"))
    return Isa::avx512;
  if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma")) return Isa::avx2;
#endif
  return Isa::baseline;
}

/// Parses "baseline", "avx2" or "avx512"; refuses what this machine does not have.
inline Isa parse_isa(std::string_view name) {
  for (const Isa isa : {Isa::baseline, Isa::avx2, Isa::avx512}) {
    if (name != name_of(isa)) continue;
    require<UsageError>(isa <= best_isa(), "TL_ISA=", name, ": this processor has at most ", best_isa());
    return isa;
  }
  fail<UsageError>("TL_ISA=", name, ": expected baseline, avx2 or avx512");
}

/// The instruction set in use: the best one, or what the environment variable TL_ISA forces. Read once.
inline Isa active_isa() {
  static const Isa isa = [] {
    const char* forced = std::getenv("TL_ISA");
    return forced && *forced ? parse_isa(forced) : best_isa();
  }();
  return isa;
}

/// What multiplies bfloat16 numbers, slowest first.
enum class Bf16Path {
  vectors,        // vectors of float
  amx_reference,  // the AMX kernels with tiles in plain C++, to test them on machines without AMX
  avx512_bf16,    // vdpbf16ps
  amx             // tile registers
};

constexpr std::string_view name_of(Bf16Path path) {
  switch (path) {
    case Bf16Path::vectors:
      return "vectors";
    case Bf16Path::amx_reference:
      return "amx_reference";
    case Bf16Path::avx512_bf16:
      return "avx512_bf16";
    case Bf16Path::amx:
      return "amx";
  }
  return "?";
}

/// Whether the processor has AMX tiles for bfloat16 and the kernel lets this process use them.
inline bool may_use_amx() {
#if TL_X86 && defined(__linux__)
  unsigned a = 0, b = 0, c = 0, d = 0;
  constexpr unsigned kTile = 1u << 24, kBf16 = 1u << 22;
  if (!__get_cpuid_count(7, 0, &a, &b, &c, &d) || (d & kTile) == 0 || (d & kBf16) == 0) return false;
  constexpr long kRequestPermission = 0x1023, kTileData = 18;  // ARCH_REQ_XCOMP_PERM, XFEATURE_XTILEDATA
  return syscall(SYS_arch_prctl, kRequestPermission, kTileData) == 0;
#else
  return false;
#endif
}

/// The fastest path of this machine.
inline Bf16Path best_bf16_path() {
#if TL_X86
  static const Bf16Path best = [] {
    if (best_isa() != Isa::avx512 || !__builtin_cpu_supports("avx512bf16")) return Bf16Path::vectors;
    return may_use_amx() ? Bf16Path::amx : Bf16Path::avx512_bf16;
  }();
  return best;
#else
  return Bf16Path::vectors;
#endif
}

/// The path in use: the best one, or what the environment variable TL_BF16 forces. Read once.
inline Bf16Path active_bf16_path() {
  static const Bf16Path path = [] {
    const char* const forced = std::getenv("TL_BF16");
    if (!forced || !*forced) return active_isa() == Isa::avx512 ? best_bf16_path() : Bf16Path::vectors;
    for (const Bf16Path each : {Bf16Path::vectors, Bf16Path::amx_reference, Bf16Path::avx512_bf16, Bf16Path::amx}) {
      if (forced != name_of(each)) continue;
      require<UsageError>(each <= std::max(best_bf16_path(), Bf16Path::amx_reference), "TL_BF16=", forced,
                          ": this processor has at most ", name_of(best_bf16_path()));
      return each;
    }
    fail<UsageError>("TL_BF16=", forced, ": expected vectors, amx_reference, avx512_bf16 or amx");
  }();
  return path;
}

}  // namespace tl
