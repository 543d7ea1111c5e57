#include "runner/machine.hpp"

#include <cstdlib>
#include <fstream>
#include <set>
#include <sstream>
#include <string>

#include "tl/core/config.hpp"
#include "tl/core/cpu_features.hpp"
#include "tl/core/parallel.hpp"
#include "tl/core/text.hpp"

namespace bench {
namespace {

/// The text after "key :" in the first line of a file under /proc that begins with `key`; "" if there is none.
std::string proc_entry(const char* file, const std::string& key) {
  std::ifstream in(file);
  for (std::string line; std::getline(in, line);) {
    if (line.compare(0, key.size(), key) != 0) continue;
    const size_t colon = line.find(':');
    if (colon == std::string::npos) continue;
    const size_t first = line.find_first_not_of(" \t", colon + 1);
    return first == std::string::npos ? "" : line.substr(first);
  }
  return "";
}

int64_t kilobytes(const char* file, const std::string& key) {
  return std::strtoll(proc_entry(file, key).c_str(), nullptr, 10);
}

}  // namespace

nlohmann::json describe_machine() {
  std::set<std::string> flags;
  std::istringstream words(proc_entry("/proc/cpuinfo", "flags"));
  for (std::string word; words >> word;) flags.insert(word);
  nlohmann::json sets = nlohmann::json::array();
  for (const char* name : {"avx2", "fma", "avx512f", "avx512vl", "avx512_bf16", "avx512_fp16", "avx512_vnni",
                           "amx_tile", "amx_bf16", "amx_int8"})
    if (flags.count(name)) sets.push_back(name);
  return {{"cpu", proc_entry("/proc/cpuinfo", "model name")},
          {"family", proc_entry("/proc/cpuinfo", "cpu family")},
          {"model", proc_entry("/proc/cpuinfo", "model\t")},
          {"threads", tl::available_threads()},
          {"memory_gib", static_cast<double>(kilobytes("/proc/meminfo", "MemTotal") / 1024) / 1024},
          {"instruction_sets", sets},
          {"amx", flags.count("amx_bf16") > 0},
          {"isa", tl::name_of(tl::active_isa())},
          {"tl", TL_VERSION_STRING},
          {"compiler",
#if defined(__clang__)
           "clang++ " __clang_version__
#else
           "g++ " __VERSION__
#endif
          }};
}

ResidentMemory resident_memory() {
  return {.peak = kilobytes("/proc/self/status", "VmHWM") << 10, .now = kilobytes("/proc/self/status", "VmRSS") << 10};
}

}  // namespace bench
