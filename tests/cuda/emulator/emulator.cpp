#include "emulator.hpp"

#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <mutex>
#include <numeric>
#include <utility>

#include "fiber.hpp"
#include "sanitizers.hpp"

namespace tl::emulator {
namespace {

constexpr std::byte kPoison{0xFF};  // as f32, f16 and bf16: NaN
constexpr std::size_t kGuardBytes = 64;

class Random {  // splitmix64
 public:
  explicit Random(std::uint64_t seed) : state_(seed) {}
  std::size_t below(std::size_t count) {
    std::uint64_t z = (state_ += 0x9E3779B97F4A7C15ull);
    z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9ull;
    z = (z ^ (z >> 27)) * 0x94D049BB133111EBull;
    return static_cast<std::size_t>((z ^ (z >> 31)) % count);
  }

 private:
  std::uint64_t state_;
};

enum class State { unstarted, ready, at_barrier, at_collective, returned };

/// Thrown into threads that a failed launch leaves waiting, so that their frames are unwound.
struct Abandoned {};

struct Thread {
  Fiber fiber;
  ThreadPlace place;
  int lane = 0;
  unsigned warp = 0;
  State state = State::unstarted;
  Where where;               // of the barrier or collective that it waits at
  std::uint64_t result = 0;  // of its last collective
};

/// The threads that could run, and which of them is next.
class ReadyThreads {
 public:
  void reset(const Schedule& schedule, unsigned threads, std::uint64_t block) {
    order_ = schedule.order;
    random_ = Random(schedule.seed * 1000003 + block);
    queue_.clear();
    head_ = 0;
    lanes_.assign((threads + kWarpSize - 1) / kWarpSize, 0);
    current_warp_ = 0;
    count_ = 0;
  }

  bool empty() const { return count_ == 0; }

  void add(const std::vector<unsigned>& ascending) {
    count_ += ascending.size();
    if (order_ == Order::warp_eager) {
      for (unsigned thread : ascending) lanes_[thread / kWarpSize] |= 1u << (thread % kWarpSize);
    } else if (order_ == Order::reverse) {
      queue_.insert(queue_.end(), ascending.rbegin(), ascending.rend());
    } else {
      queue_.insert(queue_.end(), ascending.begin(), ascending.end());
    }
  }

  unsigned take() {
    --count_;
    if (order_ == Order::warp_eager) {
      while (lanes_[current_warp_] == 0) current_warp_ = (current_warp_ + 1) % lanes_.size();
      const int lane = __builtin_ctz(lanes_[current_warp_]);
      lanes_[current_warp_] &= lanes_[current_warp_] - 1;
      return static_cast<unsigned>(current_warp_) * kWarpSize + static_cast<unsigned>(lane);
    }
    if (order_ == Order::random) std::swap(queue_[head_], queue_[head_ + random_.below(queue_.size() - head_)]);
    const unsigned thread = queue_[head_++];
    if (head_ == queue_.size()) {
      queue_.clear();
      head_ = 0;
    }
    return thread;
  }

 private:
  Order order_ = Order::forward;
  Random random_{0};
  std::vector<unsigned> queue_;  // all orders but warp_eager
  std::size_t head_ = 0;
  std::vector<std::uint32_t> lanes_;  // warp_eager: the ready lanes of each warp
  std::size_t current_warp_ = 0;
  std::size_t count_ = 0;
};

enum class Collective { barrier, exchange, ballot };

const char* name_of(Collective kind) {
  switch (kind) {
    case Collective::barrier:
      return "sync_warp";
    case Collective::exchange:
      return "shuffle";
    case Collective::ballot:
      return "ballot";
  }
  return "";
}

/// The lanes of one mask on their way to a warp collective.
struct Meeting {
  std::uint32_t mask = 0;  // 0: this place is free
  std::uint32_t arrived = 0;
  Collective kind{};
  Where where;
  std::array<std::uint64_t, kWarpSize> bits{};
  std::array<int, kWarpSize> source{};
};

struct SharedArray {
  std::unique_ptr<std::byte, decltype(&std::free)> memory{nullptr, &std::free};
  std::byte* begin = nullptr;
  std::size_t bytes = 0;
  const char* name = "";

  explicit operator bool() const { return memory != nullptr; }

  void allocate(std::size_t size, std::size_t alignment, const char* array_name) {
    bytes = size;
    name = array_name;
    const std::size_t front = std::max(kGuardBytes, alignment);
    const std::size_t all = (front + size + kGuardBytes + alignment - 1) / alignment * alignment;
    memory.reset(static_cast<std::byte*>(std::aligned_alloc(alignment, all)));
    std::memset(memory.get(), static_cast<int>(kPoison), all);
    begin = memory.get() + front;
    forbid_access(begin - kGuardBytes, kGuardBytes);
    forbid_access(begin + bytes, kGuardBytes);
  }

  bool guards_intact() const {
    allow_access(begin - kGuardBytes, kGuardBytes);
    allow_access(begin + bytes, kGuardBytes);
    const auto poisoned = [](std::byte b) { return b == kPoison; };
    return std::all_of(begin - kGuardBytes, begin, poisoned) &&
           std::all_of(begin + bytes, begin + bytes + kGuardBytes, poisoned);
  }
};

/// Everything about the launch that is going on. There is one at a time, on one OS thread.
struct Machine {
  Schedule schedule;
  bool damaged = false;
  Site damaged_site{};
  std::vector<Site> visited;

  Extent grid, block;
  unsigned thread_count = 0;
  std::vector<Thread> threads;
  Fiber scheduler;  // the OS thread's own stack: where launch() waits for a block to end
  ReadyThreads ready;
  unsigned current = 0;
  unsigned returned = 0;
  std::string report;  // empty: nothing wrong so far
  bool abandoning = false;

  unsigned at_barrier = 0;
  Where barrier_where;
  std::uint64_t barriers_passed = 0;
  std::vector<std::array<Meeting, kWarpSize>> meetings;  // of each warp

  std::vector<SharedArray> shared;
  SharedArray dynamic;
  std::size_t shared_bytes = 0;

  void (*body)(const void*) = nullptr;
  const void* argument = nullptr;

  char launch_start = 0, launch_end = 0;  // ThreadSanitizer's names for "all before" and "all after"
  std::array<char, 2> barrier_sync{};     // alternating: a late leaver must not see the next barrier's arrivals
  std::array<std::array<char, 2>, kMaxThreads / kWarpSize> warp_sync{};
  std::array<unsigned, kMaxThreads / kWarpSize> warp_barriers_passed{};
};

Machine& machine = *new Machine;  // never destroyed: its fibers wait for another launch for ever
std::mutex launching;

Thread& self() { return machine.threads[machine.current]; }

std::string describe(const Extent& e) {
  return "(" + std::to_string(e.x) + "," + std::to_string(e.y) + "," + std::to_string(e.z) + ")";
}

/// "0-3 and 5" for the indices that fulfil the predicate.
template <class Predicate>
std::string list_threads(Predicate predicate) {
  std::string text;
  for (unsigned i = 0; i < machine.thread_count; ++i) {
    if (!predicate(machine.threads[i])) continue;
    unsigned last = i;
    while (last + 1 < machine.thread_count && predicate(machine.threads[last + 1])) ++last;
    if (!text.empty()) text += ", ";
    text += last == i ? std::to_string(i) : std::to_string(i) + "-" + std::to_string(last);
    i = last;
  }
  return text;
}

/// Who waits where, when nobody can go on.
std::string deadlock_report() {
  std::string text = "deadlock:";
  std::vector<Where> places;
  for (unsigned i = 0; i < machine.thread_count; ++i) {
    const Thread& t = machine.threads[i];
    if (t.state != State::at_barrier && t.state != State::at_collective) continue;
    if (std::find(places.begin(), places.end(), t.where) == places.end()) places.push_back(t.where);
  }
  for (const Where& place : places) {
    const auto waits_here = [&](const Thread& t) {
      return (t.state == State::at_barrier || t.state == State::at_collective) && t.where == place;
    };
    text += " threads " + list_threads(waits_here) + " wait at " + place.text() + ";";
  }
  const std::string gone = list_threads([](const Thread& t) { return t.state == State::returned; });
  return text + (gone.empty() ? " none has returned" : " threads " + gone + " have returned");
}

/// Leaves the running thread for the next one that can run, or for launch() if there is none or something went wrong.
void leave() {
  Fiber& from = self().fiber;
  if (machine.report.empty() && machine.ready.empty() && machine.returned < machine.thread_count) {
    machine.report = deadlock_report();
  }
  if (!machine.report.empty() || machine.ready.empty()) {
    Fiber::switch_between(from, machine.scheduler);
  } else {
    machine.current = machine.ready.take();
    Fiber& to = self().fiber;
    if (&to != &from) Fiber::switch_between(from, to);
  }
  if (machine.abandoning) throw Abandoned{};
}

/// A thread that returns can leave its warp waiting for it for ever.
void check_nobody_waits_for(const Thread& me) {
  for (const Meeting& meeting : machine.meetings[me.warp]) {
    if ((meeting.mask >> me.lane & 1) != 0) {
      machine.report = std::string(name_of(meeting.kind)) + " at " + meeting.where.text() + " waits for lane " +
                       std::to_string(me.lane) + " of its mask, which has returned";
    }
  }
}

/// One thread's life in one block.
void run_kernel_body() {
  {
    const Unobserved unobserved;
    self().state = State::ready;
  }
  happens_after(&machine.launch_start);
  std::string report;
  try {
    machine.body(machine.argument);
  } catch (const Error& error) {
    report = error.what();
  } catch (const Abandoned&) {
    // What went wrong is known already.
  }
  happens_before(&machine.launch_end);
  const Unobserved unobserved;
  Thread& me = self();
  me.state = State::returned;
  ++machine.returned;
  if (machine.abandoning) return;
  check_nobody_waits_for(me);
  if (!report.empty()) machine.report = report;
}

/// A fiber's endless loop: one round per block.
void thread_main() {
  for (;;) {
    run_kernel_body();
    const Unobserved unobserved;
    if (machine.abandoning) {
      Fiber::switch_between(self().fiber, machine.scheduler);
    } else {
      leave();
    }
  }
}

void visit(Synchronization kind, const Where& where) {
  const Site site{kind, where};
  if (std::find(machine.visited.begin(), machine.visited.end(), site) == machine.visited.end()) {
    machine.visited.push_back(site);
  }
}

bool is_damaged(Synchronization kind, const Where& where) {
  return machine.damaged && machine.damaged_site == Site{kind, where};
}

Meeting& join(Thread& me, std::uint32_t mask, Collective kind, const Where& where) {
  const auto call = [&] { return std::string(name_of(kind)) + " at " + where.text(); };
  if ((mask >> me.lane & 1) == 0) fail(call() + ": lane " + std::to_string(me.lane) + " is not in its own mask");
  Meeting* free_place = nullptr;
  for (Meeting& meeting : machine.meetings[me.warp]) {
    if (meeting.mask == 0) {
      if (free_place == nullptr) free_place = &meeting;
    } else if (meeting.mask == mask) {
      if (meeting.kind != kind || !(meeting.where == where)) {
        fail("divergent warp collective: " + call() + ", but other lanes of the mask wait in " + name_of(meeting.kind) +
             " at " + meeting.where.text());
      }
      return meeting;
    } else if ((meeting.mask & mask) != 0) {
      fail(call() + ": the mask disagrees with that of the lanes that wait at " + meeting.where.text());
    }
  }
  for (int lane = 0; lane < kWarpSize; ++lane) {
    if ((mask >> lane & 1) == 0) continue;
    const unsigned thread = me.warp * kWarpSize + static_cast<unsigned>(lane);
    const bool exists = thread < machine.thread_count;
    if (!exists || machine.threads[thread].state == State::returned) {
      fail(call() + ": the mask names lane " + std::to_string(lane) + ", which " +
           (exists ? "has returned" : "the block does not have"));
    }
  }
  // Masks that wait are disjoint, so that 32 places are always enough.
  *free_place = Meeting{.mask = mask, .arrived = 0, .kind = kind, .where = where, .bits = {}, .source = {}};
  return *free_place;
}

void complete(Meeting& meeting, unsigned warp) {
  const unsigned first = warp * kWarpSize;
  std::uint32_t ballot = 0;
  std::vector<unsigned> members;
  for (int lane = 0; lane < kWarpSize; ++lane) {
    if ((meeting.mask >> lane & 1) == 0) continue;
    const auto l = static_cast<std::size_t>(lane);
    if (meeting.bits[l] != 0) ballot |= 1u << lane;
    members.push_back(first + static_cast<unsigned>(lane));
  }
  for (unsigned member : members) {
    Thread& thread = machine.threads[member];
    const auto l = static_cast<std::size_t>(thread.lane);
    if (meeting.kind == Collective::exchange) {
      const int source = meeting.source[l];
      if (source < 0 || source >= kWarpSize || (meeting.mask >> source & 1) == 0) {
        fail("shuffle at " + meeting.where.text() + ": lane " + std::to_string(thread.lane) + " reads lane " +
             std::to_string(source) + ", which is not in the mask");
      }
      thread.result = meeting.bits[static_cast<std::size_t>(source)];
    } else {
      thread.result = ballot;
    }
    thread.state = State::ready;
  }
  if (meeting.kind == Collective::barrier) ++machine.warp_barriers_passed[warp];
  meeting.mask = 0;
  machine.ready.add(members);
}

std::uint64_t collective(Collective kind, std::uint64_t bits, int source, std::uint32_t mask, const Where& where) {
  Thread& me = self();
  Meeting& meeting = join(me, mask, kind, where);
  const auto lane = static_cast<std::size_t>(me.lane);
  meeting.bits[lane] = bits;
  meeting.source[lane] = source;
  meeting.arrived |= 1u << me.lane;
  me.where = where;
  me.state = State::at_collective;
  if (meeting.arrived == meeting.mask) complete(meeting, me.warp);
  leave();
  return me.result;
}

std::uint32_t half_of_warp(int lane) { return lane < kWarpSize / 2 ? 0x0000FFFFu : 0xFFFF0000u; }

void reset_block(unsigned block, std::size_t dynamic_bytes) {
  machine.report.clear();
  machine.returned = 0;
  machine.at_barrier = 0;
  for (auto& warp : machine.meetings) warp.fill(Meeting{});
  // Fresh memory for every block: ThreadSanitizer must not see two blocks as sharing it.
  for (SharedArray& array : machine.shared) array = SharedArray{};
  machine.dynamic = SharedArray{};
  machine.shared_bytes = dynamic_bytes;
  if (dynamic_bytes != 0) machine.dynamic.allocate(dynamic_bytes, 1024, "dynamic shared memory");
  machine.ready.reset(machine.schedule, machine.thread_count, block);

  const Extent place{block % machine.grid.x, block / machine.grid.x % machine.grid.y,
                     block / machine.grid.x / machine.grid.y};
  std::vector<unsigned> all(machine.thread_count);
  std::iota(all.begin(), all.end(), 0u);
  for (unsigned i : all) {
    Thread& t = machine.threads[i];
    const Extent& extent = machine.block;
    t.place = {{i % extent.x, i / extent.x % extent.y, i / extent.x / extent.y}, place};
    t.lane = static_cast<int>(i % kWarpSize);
    t.warp = i / kWarpSize;
    t.state = State::unstarted;
  }
  machine.ready.add(all);
}

void check_shared_guards() {
  const auto check = [](const SharedArray& array) {
    if (array && !array.guards_intact() && machine.report.empty()) {
      machine.report = std::string("write outside of shared array '") + array.name + "'";
    }
  };
  for (const SharedArray& array : machine.shared) check(array);
  check(machine.dynamic);
}

/// After a failure: lets every thread that waits in the kernel unwind its frames.
void abandon_threads() {
  machine.abandoning = true;
  for (unsigned i = 0; i < machine.thread_count; ++i) {
    if (machine.threads[i].state == State::unstarted || machine.threads[i].state == State::returned) continue;
    machine.current = i;
    Fiber::switch_between(machine.scheduler, self().fiber);
  }
  machine.abandoning = false;
}

void run_block(unsigned block, std::size_t dynamic_bytes) {
  reset_block(block, dynamic_bytes);
  machine.current = machine.ready.take();
  Fiber::switch_between(machine.scheduler, self().fiber);
  check_shared_guards();
  if (machine.report.empty()) return;
  abandon_threads();
  throw Error(machine.report + " [block " + describe(machine.threads[0].place.block) + ", order " +
              to_string(machine.schedule) + "]");
}

std::vector<unsigned> block_order(unsigned blocks) {
  std::vector<unsigned> order(blocks);
  std::iota(order.begin(), order.end(), 0u);
  if (machine.schedule.order == Order::reverse) std::reverse(order.begin(), order.end());
  if (machine.schedule.order == Order::random) {
    Random random(machine.schedule.seed);
    for (std::size_t i = order.size(); i > 1; --i) std::swap(order[i - 1], order[random.below(i)]);
  }
  return order;
}

}  // namespace

std::string to_string(const Schedule& schedule) {
  switch (schedule.order) {
    case Order::forward:
      return "forward";
    case Order::reverse:
      return "reverse";
    case Order::random:
      return "random " + std::to_string(schedule.seed);
    case Order::warp_eager:
      return "warp_eager";
  }
  return "";
}

void set_schedule(const Schedule& schedule) { machine.schedule = schedule; }

std::string Where::text() const {
  const std::string_view path = file;
  const std::string name(path.substr(path.find_last_of('/') + 1));
  std::string at = name + ":" + std::to_string(line);
  for (const int inside_line : inside_lines) {
    if (inside_line != 0) at += ">" + std::to_string(inside_line);
  }
  return at;
}

std::vector<Site> take_visited_sites() { return std::exchange(machine.visited, {}); }

void damage(const Site& site) {
  machine.damaged = true;
  machine.damaged_site = site;
}

void repair() { machine.damaged = false; }

void launch(Extent grid, Extent block, std::size_t dynamic_shared_bytes, void (*body)(const void*),
            const void* argument) {
  const std::lock_guard<std::mutex> one_at_a_time(launching);
  const std::uint64_t threads = std::uint64_t{block.x} * block.y * block.z;
  const std::uint64_t blocks = std::uint64_t{grid.x} * grid.y * grid.z;
  if (threads == 0 || threads > kMaxThreads || block.z > 64) {
    throw Error("a block of " + describe(block) + " threads: between 1 and 1024 are possible, at most 64 of them in z");
  }
  if (blocks == 0 || grid.x > 0x7FFFFFFFu || grid.y > 65535 || grid.z > 65535) {
    throw Error("a grid of " + describe(grid) + " blocks: 1 to 2^31-1 are possible in x, 65535 in y and z");
  }
  if (dynamic_shared_bytes > kMaxSharedBytes) {
    throw Error("launch with " + std::to_string(dynamic_shared_bytes) +
                " bytes of shared memory; no GPU has that many");
  }
  machine.grid = grid;
  machine.block = block;
  machine.body = body;
  machine.argument = argument;
  machine.thread_count = static_cast<unsigned>(threads);
  machine.meetings.resize((threads + kWarpSize - 1) / kWarpSize);
  happens_before(&machine.launch_start);
  struct AtEnd {
    ~AtEnd() { happens_after(&machine.launch_end); }
  } const at_end;
  const Unobserved unobserved;
  while (machine.threads.size() < threads) machine.threads.emplace_back().fiber.start(&thread_main);
  for (unsigned index : block_order(static_cast<unsigned>(blocks))) run_block(index, dynamic_shared_bytes);
}

const ThreadPlace& here() { return self().place; }
Extent grid_extent() { return machine.grid; }
Extent block_extent() { return machine.block; }
int lane() { return self().lane; }

void block_barrier(Where where) {
  const Unobserved unobserved;
  visit(Synchronization::block_barrier, where);
  if (is_damaged(Synchronization::block_barrier, where)) return;
  if (machine.at_barrier == 0) {
    machine.barrier_where = where;
  } else if (!(machine.barrier_where == where)) {
    fail("divergent barrier: some threads wait at " + machine.barrier_where.text() + ", others at " + where.text());
  }
  char* const sync = &machine.barrier_sync[machine.barriers_passed % 2];
  happens_before(sync);
  Thread& me = self();
  me.state = State::at_barrier;
  me.where = where;
  if (++machine.at_barrier == machine.thread_count) {
    machine.at_barrier = 0;
    ++machine.barriers_passed;
    std::vector<unsigned> all(machine.thread_count);
    std::iota(all.begin(), all.end(), 0u);
    for (unsigned i : all) machine.threads[i].state = State::ready;
    machine.ready.add(all);
  }
  leave();
  happens_after(sync);
}

void warp_barrier(std::uint32_t mask, Where where) {
  const Unobserved unobserved;
  visit(Synchronization::warp_barrier, where);
  if (is_damaged(Synchronization::warp_barrier, where)) return;
  const unsigned warp = self().warp;
  char* const sync = &machine.warp_sync[warp][machine.warp_barriers_passed[warp] % 2];
  happens_before(sync);
  collective(Collective::barrier, 0, 0, mask, where);
  happens_after(sync);
}

std::uint64_t warp_exchange(std::uint64_t bits, int source, std::uint32_t mask, Where where) {
  const Unobserved unobserved;
  visit(Synchronization::warp_collective, where);
  if (is_damaged(Synchronization::warp_collective, where)) mask &= half_of_warp(self().lane);
  return collective(Collective::exchange, bits, source, mask, where);
}

std::uint32_t warp_ballot(bool predicate, std::uint32_t mask, Where where) {
  const Unobserved unobserved;
  visit(Synchronization::warp_collective, where);
  if (is_damaged(Synchronization::warp_collective, where)) mask &= half_of_warp(self().lane);
  return static_cast<std::uint32_t>(collective(Collective::ballot, predicate ? 1 : 0, 0, mask, where));
}

unsigned new_shared_slot() {
  static unsigned count = 0;
  return count++;
}

std::byte* shared_array(unsigned slot, std::size_t bytes, std::size_t alignment, const char* name) {
  const Unobserved unobserved;
  if (slot >= machine.shared.size()) machine.shared.resize(slot + 1);
  SharedArray& array = machine.shared[slot];
  if (!array) {
    machine.shared_bytes += bytes;
    if (machine.shared_bytes > kMaxSharedBytes) fail("the block uses more shared memory than any GPU has");
    array.allocate(bytes, std::max<std::size_t>(alignment, 16), name);
  }
  return array.begin;
}

std::byte* dynamic_shared(std::size_t* bytes) {
  *bytes = machine.dynamic.bytes;
  return machine.dynamic.begin;
}

void fail(const std::string& what) { throw Error(what); }

void check_access(const void* address, std::size_t bytes, Where where) {
  const Unobserved unobserved;
  const auto* begin = static_cast<const std::byte*>(address);
  if (reinterpret_cast<std::uintptr_t>(address) % bytes != 0) {
    fail("misaligned access of " + std::to_string(bytes) + " bytes at " + where.text());
  }
  const auto check = [&](const SharedArray& array) {
    if (!array || begin < array.begin || begin >= array.begin + array.bytes + kGuardBytes) return;
    if (begin + bytes > array.begin + array.bytes) {
      fail("access beyond the end of shared array '" + std::string(array.name) + "' at " + where.text());
    }
  };
  for (const SharedArray& array : machine.shared) check(array);
  check(machine.dynamic);
}

}  // namespace tl::emulator
