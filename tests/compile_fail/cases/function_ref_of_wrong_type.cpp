// error: no (known|viable) conversion|could not convert|no matching function
#include "tl/core/parallel.hpp"

void run() {
#if MISTAKE
  tl::parallel_for(10, 1, [](int) {});
#endif
  tl::parallel_for(10, 1, [](int64_t, int64_t) {});
}
