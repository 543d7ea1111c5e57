// Training steps of the head alone, the frozen backbone run anew for each batch, beside PyTorch, eager and compiled.
//
//   bench_frozen_step --python PYTHON_WITH_PEERS --filter efficientnet_lite0 --threads 2
#include "runner/networks.hpp"

int main(int argc, char** argv) {
  return bench::network_program(argc, argv, bench::Task::frozen_step,
                                "Training steps of the head on a frozen backbone, beside PyTorch");
}
