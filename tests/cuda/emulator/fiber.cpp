#include "fiber.hpp"

#include <sys/mman.h>
#include <unistd.h>

#include <cstdint>
#include <cstdlib>
#include <new>
#include <utility>

#include "sanitizers.hpp"

#if !defined(__x86_64__) || defined(TL_EMULATOR_UCONTEXT)
#define TL_EMULATOR_USES_UCONTEXT 1
#include <ucontext.h>
#endif

namespace tl::emulator {
namespace {

constexpr std::size_t kStackBytes = 256 * 1024;  // address space; only the touched pages cost memory

std::size_t page_bytes() {
  static const std::size_t bytes = static_cast<std::size_t>(sysconf(_SC_PAGESIZE));
  return bytes;
}

}  // namespace

struct Fiber::Context {
  std::byte* mapping = nullptr;  // a guard page, then the stack; null for the OS thread's own stack
  Entry entry = nullptr;
#if defined(TL_EMULATOR_USES_UCONTEXT)
  ucontext_t machine{};
#else
  void* stack_pointer = nullptr;
#endif
#if defined(TL_EMULATOR_ASAN)
  void* fake_stack = nullptr;
  const void* stack_bottom = nullptr;
  std::size_t stack_bytes = 0;
#endif
#if defined(TL_EMULATOR_TSAN)
  void* tsan_fiber = nullptr;
#endif

  std::byte* bottom() const { return mapping + page_bytes(); }

  void map_stack() {
    void* memory = mmap(nullptr, page_bytes() + kStackBytes, PROT_READ | PROT_WRITE,
                        MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (memory == MAP_FAILED) throw std::bad_alloc();
    mapping = static_cast<std::byte*>(memory);
    // A kernel that overruns its stack hits this page and stops the program there, instead of corrupting its neighbour.
    if (mprotect(mapping, page_bytes(), PROT_NONE) != 0) throw std::bad_alloc();
  }

  ~Context() {
    if (mapping == nullptr) return;
#if defined(TL_EMULATOR_TSAN)
    __tsan_destroy_fiber(tsan_fiber);
#endif
    allow_access(bottom(), kStackBytes);
    munmap(mapping, page_bytes() + kStackBytes);
  }
};

namespace {

Fiber::Context* arriving = nullptr;   // where the switch in progress goes to,
Fiber::Context* departing = nullptr;  // and where it came from

/// Runs right after every switch, on the new stack.
void arrived() {
#if defined(TL_EMULATOR_ASAN)
  const void* from_bottom = nullptr;
  std::size_t from_bytes = 0;
  __sanitizer_finish_switch_fiber(arriving->fake_stack, &from_bottom, &from_bytes);
  departing->stack_bottom = from_bottom;
  departing->stack_bytes = from_bytes;
#endif
}

[[noreturn]] void first_entry() {
  arrived();
  arriving->entry();
  std::abort();  // an entry that returns would run off its stack
}

#if !defined(TL_EMULATOR_USES_UCONTEXT)
// Saves what the System V ABI asks a callee to keep, then takes up the other stack. Some 2 ns, where swapcontext takes
// some 250 for its two system calls.
extern "C" void tl_emulator_switch(void** save_stack_pointer, void* load_stack_pointer);
asm(R"(
.text
.type tl_emulator_switch, @function
tl_emulator_switch:
  pushq %rbp
  pushq %rbx
  pushq %r12
  pushq %r13
  pushq %r14
  pushq %r15
  movq %rsp, (%rdi)
  movq %rsi, %rsp
  popq %r15
  popq %r14
  popq %r13
  popq %r12
  popq %rbx
  popq %rbp
  ret
.size tl_emulator_switch, .-tl_emulator_switch
)");
#endif

}  // namespace

Fiber::Fiber() : context_(std::make_unique<Context>()) {}
Fiber::~Fiber() = default;
Fiber::Fiber(Fiber&&) noexcept = default;
Fiber& Fiber::operator=(Fiber&&) noexcept = default;

void Fiber::start(Entry entry) {
  Context& c = *context_;
  c.map_stack();
  c.entry = entry;
#if defined(TL_EMULATOR_ASAN)
  c.stack_bottom = c.bottom();
  c.stack_bytes = kStackBytes;
#endif
#if defined(TL_EMULATOR_TSAN)
  c.tsan_fiber = __tsan_create_fiber(0);
#endif
#if defined(TL_EMULATOR_USES_UCONTEXT)
  getcontext(&c.machine);
  c.machine.uc_stack.ss_sp = c.bottom();
  c.machine.uc_stack.ss_size = kStackBytes;
  c.machine.uc_link = nullptr;
  makecontext(
      &c.machine, [] { first_entry(); }, 0);
#else
  void** top = reinterpret_cast<void**>(c.bottom() + kStackBytes - 64);
  *--top = nullptr;  // a return address for backtraces to end at; it also leaves the stack aligned as after a call
  *--top = reinterpret_cast<void*>(&first_entry);
  for (int saved_register = 0; saved_register < 6; ++saved_register) *--top = nullptr;
  c.stack_pointer = top;
#endif
}

void Fiber::switch_between(Fiber& from, Fiber& to) {
  departing = from.context_.get();
  arriving = to.context_.get();
#if defined(TL_EMULATOR_ASAN)
  __sanitizer_start_switch_fiber(&departing->fake_stack, arriving->stack_bottom, arriving->stack_bytes);
#endif
#if defined(TL_EMULATOR_TSAN)
  if (departing->mapping == nullptr) departing->tsan_fiber = __tsan_get_current_fiber();
  constexpr unsigned kNoSynchronization = 1;  // the switch itself orders nothing: on a GPU these threads run at once
  __tsan_switch_to_fiber(arriving->tsan_fiber, kNoSynchronization);
#endif
#if defined(TL_EMULATOR_USES_UCONTEXT)
  swapcontext(&departing->machine, &arriving->machine);
#else
  tl_emulator_switch(&departing->stack_pointer, arriving->stack_pointer);
#endif
  arrived();
}

}  // namespace tl::emulator
