// On what the numbers were measured.
#pragma once
#include <cstdint>
#include <nlohmann/json.hpp>

namespace bench {

/// Processor, threads, memory, instruction sets (and whether AMX is among them), and the versions of tl and compiler.
nlohmann::json describe_machine();

/// The most memory that this process held resident so far (VmHWM), and what it holds now (VmRSS), in bytes.
struct ResidentMemory {
  int64_t peak = 0, now = 0;
};
ResidentMemory resident_memory();

}  // namespace bench
