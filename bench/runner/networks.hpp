// Whole networks beside PyTorch, ONNX Runtime and OpenVINO: the body of bench_inference, bench_training and
// bench_frozen_step.
#pragma once
#include <string>

namespace bench {

enum class Task {
  inference,    ///< logits of a batch in evaluation mode, without gradients
  training,     ///< forward, cross-entropy, backward, and a step of SGD with momentum (the encoder: AdamW)
  frozen_step,  ///< the same with everything but the head frozen; the backbone runs anew for each batch
};

/// The whole program.
int network_program(int argc, char** argv, Task task, const std::string& about);

}  // namespace bench
