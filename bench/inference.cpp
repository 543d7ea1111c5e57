// Predicting with whole networks: ResNet-18, MobileNetV2, EfficientNet-Lite0, CIFAR ResNet-20 and a text encoder,
// beside PyTorch (eager and compiled), ONNX Runtime and OpenVINO.
//
//   bench_inference --python PYTHON_WITH_PEERS --filter resnet18 --threads 2
#include "runner/networks.hpp"

int main(int argc, char** argv) {
  return bench::network_program(argc, argv, bench::Task::inference,
                                "Predicting with whole networks, beside PyTorch, ONNX Runtime and OpenVINO");
}
