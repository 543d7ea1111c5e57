// The limits of this machine: multiply-adds in registers, and bytes from memory.
//
//   bench_peak --threads 1,2
#include "runner/program.hpp"

int main(int argc, char** argv) {
  CLI::App app("The limits of this machine, which the other benches' percentages refer to");
  bench::ProgramOptions options;
  options.add_to(app);
  return example::run(app, argc, argv, [&] {
    bench::Comparison comparison = options.comparison("peak");
    for (const int threads : options.thread_counts()) {
      if (!options.wants("peak", "registers and memory", threads)) continue;
      const bench::Peak& peak = comparison.peak(threads);
      std::printf("T%d  f32 %.1f GFLOP/s, bf16 (vdpbf16ps) %.1f GFLOP/s, read %.1f GB/s, triad %.1f GB/s\n", threads,
                  peak.gflops, peak.bf16_gflops, peak.read_gbs, peak.triad_gbs);
    }
    comparison.finish();
    return 0;
  });
}
