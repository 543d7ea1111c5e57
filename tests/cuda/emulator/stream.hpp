// The emulated GPU's one queue of work. Like a CUDA stream it runs later than the call that fills it: at the next
// synchronization or blocking copy.
#pragma once
#include <functional>

namespace tl::emulator {

void enqueue(std::function<void()> work);

/// Runs what is queued, in order. Throws the first error; the rest of the queue is dropped then.
void drain();

}  // namespace tl::emulator
