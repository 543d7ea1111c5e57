// A fiber: a stack of its own and the place where its code stopped. The emulator gives one to every CUDA thread of a
// block, so that a thread can stop in the middle of a kernel (at a barrier) and go on later, all on one OS thread.
#pragma once

#include <cstddef>
#include <memory>

namespace tl::emulator {

class Fiber {
 public:
  using Entry = void (*)();

  Fiber();
  ~Fiber();
  Fiber(Fiber&&) noexcept;
  Fiber& operator=(Fiber&&) noexcept;

  /// Gives the fiber a stack; the first switch to it runs `entry`, which never returns. Without a call of start the
  /// fiber stands for the OS thread's own stack.
  void start(Entry entry);

  /// Stops the running fiber `from` (the calling code) and goes on with `to`. Returns when something switches back.
  static void switch_between(Fiber& from, Fiber& to);

  struct Context;

 private:
  std::unique_ptr<Context> context_;
};

}  // namespace tl::emulator
