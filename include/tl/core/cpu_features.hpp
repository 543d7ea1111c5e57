// Which instruction sets this processor has, and which one the kernels use.
#pragma once
#include <cstdlib>
#include <string>
#include <string_view>

#include "tl/core/config.hpp"
#include "tl/core/error.hpp"

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

}  // namespace tl
