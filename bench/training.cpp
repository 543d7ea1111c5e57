// Full training steps of whole networks: forward, cross-entropy, backward, and SGD with momentum (the encoder: AdamW),
// beside PyTorch, eager and compiled; with the most memory that each process held. With --tuning steps in which few
// parameters learn, as many on all sides, or blocks run again in backward.
//
//   bench_training --python PYTHON_WITH_PEERS --filter mobilenet_v2 --threads 2
//   bench_training --python PYTHON_WITH_PEERS --tuning full,lora,lora_attention,bottleneck,norms,biases,head --threads
//   2
#include "runner/networks.hpp"

int main(int argc, char** argv) {
  return bench::network_program(argc, argv, bench::Task::training, "Full training steps, beside PyTorch");
}
