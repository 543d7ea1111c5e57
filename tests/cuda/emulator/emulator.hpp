// Runs CUDA-style kernels on the CPU, to find their bugs without a GPU.
//
// Each thread of a block is a fiber. A fiber runs until it reaches a barrier or a warp collective, then the scheduler
// picks another one, in an order that the test chooses. So any result that depends on the order of threads comes out
// different in one of the orders, or meets one of these traps:
//   - shared memory starts as NaN (0xFF bytes) in every block, and its arrays know their extents;
//   - a barrier that some threads miss, or reach on different lines, is reported with who waits where;
//   - a warp collective checks its mask: the caller in it, nobody returned, all lanes agreeing on mask and operation;
//   - blocks run one after the other, in an order that the test chooses too;
//   - AddressSanitizer and ThreadSanitizer understand the fibers: the latter reports a missing barrier as a data race
//     even if the numbers happen to come out right.
// Not modelled: weak memory order, speed, grid-wide barriers, and blocks that run at the same time.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <stdexcept>
#include <string>
#include <string_view>
#include <vector>

namespace tl::emulator {

constexpr int kWarpSize = 32;
constexpr unsigned kMaxThreads = 1024;
constexpr std::size_t kMaxSharedBytes = 227 * 1024;  // what a block may use on sm_90; sm_80 has 163 KiB, sm_89 has 99

/// What CUDA leaves undefined, or would hang on, and the emulator refuses.
struct Error : std::runtime_error {
  using std::runtime_error::runtime_error;
};

/// Which of the threads that could run does.
enum class Order {
  forward,    ///< lowest index first, all warps abreast
  reverse,    ///< highest index first; blocks also run last to first
  random,     ///< any, by the seed; blocks too
  warp_eager  ///< a warp runs as far as it can before the next one starts, also past a barrier that it completes
};

struct Schedule {
  Order order = Order::forward;
  std::uint64_t seed = 1;
};

std::string to_string(const Schedule& schedule);

/// The schedule of later launches.
void set_schedule(const Schedule& schedule);

/// Where in the kernel's source a barrier or collective stands: the line in the kernel and, if it is in a building
/// block that the kernel calls, the lines on the way down. Passed along as a default argument.
struct Where {
  static constexpr int kMostDepth = 4;
  const char* file = "";
  int line = 0;
  std::array<int, kMostDepth> inside_lines{};  // 0 where there is no further one

  constexpr Where(const char* call_file = __builtin_FILE(), int call_line = __builtin_LINE())
      : file(call_file), line(call_line) {}

  /// The same call, seen from the line of a building block that calls on.
  constexpr Where inside(int block_line = __builtin_LINE()) const {
    Where deeper = *this;
    for (int& place : deeper.inside_lines) {
      if (place != 0) continue;
      place = block_line;
      break;
    }
    return deeper;
  }

  bool operator==(const Where& other) const {
    return line == other.line && inside_lines == other.inside_lines && std::string_view(file) == other.file;
  }
  std::string text() const;
};

// ---- deliberate damage, to prove that the tests would notice

enum class Synchronization { block_barrier, warp_barrier, warp_collective };

struct Site {
  Synchronization kind;
  Where where;
  bool operator==(const Site&) const = default;
};

/// The synchronization sites that launches passed since the last call of this function, in order of first visit.
std::vector<Site> take_visited_sites();

/// From now on the barrier at `site` does nothing, or the collective there forgets the other half of its warp in its
/// mask.
void damage(const Site& site);
void repair();

// ---- launching

struct Extent {
  unsigned x = 1, y = 1, z = 1;
};

/// Runs body(argument) once per thread of the grid; returns when all are done. Throws Error for what CUDA leaves
/// undefined.
void launch(Extent grid, Extent block, std::size_t dynamic_shared_bytes, void (*body)(const void*),
            const void* argument);

// ---- for the running kernel

struct ThreadPlace {
  Extent thread, block;
};
const ThreadPlace& here();
Extent grid_extent();
Extent block_extent();
int lane();

void block_barrier(Where where);
void warp_barrier(std::uint32_t mask, Where where);
/// Every lane of the mask gives `bits` and gets those of lane `source`.
std::uint64_t warp_exchange(std::uint64_t bits, int source, std::uint32_t mask, Where where);
/// Every lane of the mask gets a word that holds their predicates.
std::uint32_t warp_ballot(bool predicate, std::uint32_t mask, Where where);

/// Numbers a shared array's declaration; called once per declaration and program.
unsigned new_shared_slot();
/// The running block's memory for the array: poisoned at first touch, between guard zones that are checked at the
/// block's end.
std::byte* shared_array(unsigned slot, std::size_t bytes, std::size_t alignment, const char* name);
std::byte* dynamic_shared(std::size_t* bytes);

/// Stops the launch with a report.
[[noreturn]] void fail(const std::string& what);
/// Checks a vector access: alignment, and that it stays inside the shared array that it starts in.
void check_access(const void* address, std::size_t bytes, Where where);

}  // namespace tl::emulator
