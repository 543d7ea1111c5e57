// What this machine can do at most: every bench measures it first, and its rows say how much of it they reach.
#pragma once

namespace bench {

/// Limits of `threads` threads together, as fast as hand-written loops without any other work reach them.
struct Peak {
  int threads = 1;
  double gflops = 0;       ///< f32 multiply-adds in registers, two FLOPs each, in 1e9 a second
  double bf16_gflops = 0;  ///< the same of AMX tiles or vdpbf16ps; 0 where the processor has neither
  double read_gbs = 0;     ///< reading an array larger than all caches, in 1e9 bytes a second
  double triad_gbs = 0;    ///< a[i] = b[i] + s c[i] on such arrays, 12 bytes an element
};

/// Runs each loop several times and keeps the fastest; takes about a second.
Peak measure_peak(int threads);

}  // namespace bench
