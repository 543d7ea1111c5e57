// Convolutions of ResNet-18, MobileNetV2 and EfficientNet-Lite0 at batch 16: forward, and the gradients of picture and
// weight, beside oneDNN and PyTorch (channels_last).
//
//   bench_conv --python PYTHON_WITH_TORCH --threads 2 --filter "conv3x3/forward"
#include <memory>
#include <optional>

#include "runner/onednn.hpp"
#include "runner/program.hpp"
#include "tl/tl.hpp"

namespace {

struct Layer {
  std::string name;
  int64_t size, inputs, outputs, kernel, stride, padding, groups = 1;

  int64_t out_size() const { return (size + 2 * padding - kernel) / stride + 1; }
  std::string shape() const {
    return tl::text(size, "x", size, " ", inputs, "->", outputs, stride > 1 ? tl::text(" s", stride) : "");
  }
};

constexpr int64_t kBatch = 16;

const std::vector<Layer>& layers() {
  static const std::vector<Layer> list = {
      {"conv7x7", 224, 3, 64, 7, 2, 3},
      {"conv3x3", 224, 3, 32, 3, 2, 1},
      {"conv3x3", 56, 64, 64, 3, 1, 1},
      {"conv3x3", 28, 128, 128, 3, 1, 1},
      {"conv3x3", 14, 256, 256, 3, 1, 1},
      {"conv3x3", 7, 512, 512, 3, 1, 1},
      {"conv3x3", 56, 64, 128, 3, 2, 1},
      {"conv1x1", 56, 64, 128, 1, 2, 0},
      {"conv1x1", 112, 32, 16, 1, 1, 0},
      {"conv1x1", 56, 24, 144, 1, 1, 0},
      {"conv1x1", 14, 384, 64, 1, 1, 0},
      {"conv1x1", 7, 320, 1280, 1, 1, 0},
      {"depthwise3x3", 112, 32, 32, 3, 1, 1, 32},
      {"depthwise3x3", 112, 96, 96, 3, 2, 1, 96},
      {"depthwise3x3", 14, 384, 384, 3, 1, 1, 384},
      {"depthwise5x5", 28, 240, 240, 5, 1, 2, 240},
      {"depthwise5x5", 14, 672, 672, 5, 2, 2, 672},
  };
  return list;
}

/// One convolution in tl, with its memory.
class Convolution {
 public:
  explicit Convolution(const Layer& layer)
      : geometry_{.n = kBatch,
                  .h = layer.size,
                  .w = layer.size,
                  .cin = layer.inputs,
                  .cout = layer.outputs,
                  .kh = layer.kernel,
                  .kw = layer.kernel,
                  .groups = layer.groups,
                  .oh = layer.out_size(),
                  .ow = layer.out_size(),
                  .stride_h = layer.stride,
                  .stride_w = layer.stride,
                  .dilation_h = 1,
                  .dilation_w = 1,
                  .pad_top = layer.padding,
                  .pad_left = layer.padding,
                  .winograd_tile = tl::winograd_tile()},
        x_(tl::Tensor::empty({kBatch, layer.size, layer.size, layer.inputs})),
        weight_(tl::Tensor::empty({layer.outputs, layer.kernel, layer.kernel, layer.inputs / layer.groups})),
        y_(tl::Tensor::empty({kBatch, layer.out_size(), layer.out_size(), layer.outputs})) {
    for (tl::Tensor* t : {&x_, &weight_, &y_}) tl::nn::normal_(*t, 0, 1);
  }

  void run(const std::string& direction) {
    if (direction == "forward")
      tl::kernel::conv_forward<float>(tl::kCpu, {.geometry = geometry_,
                                                 .x = x_.data<float>(),
                                                 .weight = weight_.data<float>(),
                                                 .bias = nullptr,
                                                 .residual = nullptr,
                                                 .y = y_.mutable_data<float>(),
                                                 .activation = tl::Activation::none});
    else if (direction == "backward_data")
      tl::kernel::conv_backward_data<float>(tl::kCpu, {.geometry = geometry_,
                                                       .grad_y = y_.data<float>(),
                                                       .weight = weight_.data<float>(),
                                                       .grad_x = x_.mutable_data<float>()});
    else
      tl::kernel::conv_backward_weight<float>(tl::kCpu, {.geometry = geometry_,
                                                         .grad_y = y_.data<float>(),
                                                         .x = x_.data<float>(),
                                                         .grad_weight = weight_.mutable_data<float>(),
                                                         .grad_bias = nullptr});
  }

  double gigabytes() const { return 4e-9 * static_cast<double>(x_.numel() + weight_.numel() + y_.numel()); }

 private:
  tl::ConvGeometry geometry_;
  tl::Tensor x_, weight_, y_;
};

}  // namespace

int main(int argc, char** argv) {
  CLI::App app("Convolutions at batch 16, beside oneDNN and PyTorch");
  bench::ProgramOptions options;
  options.add_to(app);
  return example::run(app, argc, argv, [&] {
    bench::Comparison comparison = options.comparison("conv");
    std::optional<bench::Worker> torch;
    if (options.wants_peer("torch")) torch.emplace(options.peer_command("torch_kernels.py", {}), "torch");
    for (const Layer& layer : layers())
      for (const std::string direction : {"forward", "backward_data", "backward_weight"})
        for (const int threads : options.thread_counts()) {
          const std::string name = layer.name + "/" + direction;
          if (!options.wants(name, layer.shape(), threads)) continue;
          tl::require<tl::UsageError>(options.precision == "f32", "bench_conv: this bench measures f32 alone");
          if (layer.inputs == 3 && direction == "backward_data") continue;  // nobody asks for a picture's gradient
          tl::set_threads(threads);
          const auto convolution = std::make_shared<Convolution>(layer);
          std::vector<bench::Side> sides = {
              bench::side_of("tl " TL_VERSION_STRING, [convolution, direction] { convolution->run(direction); })};
#if defined(TL_BENCH_ONEDNN)
          if (options.wants_peer("onednn"))
            sides.push_back(
                bench::side_of(bench::onednn::name(" packed"),
                               bench::onednn::conv({kBatch, layer.size, layer.inputs, layer.outputs, layer.kernel,
                                                    layer.stride, layer.padding, layer.groups, layer.out_size()},
                                                   direction, threads)));
#endif
          if (torch) {
            torch->load(nlohmann::json{{"op", "conv"},
                                       {"direction", direction},
                                       {"shape", {kBatch, layer.size, layer.size, layer.inputs}},
                                       {"outputs", layer.outputs},
                                       {"kernel", layer.kernel},
                                       {"stride", layer.stride},
                                       {"padding", layer.padding},
                                       {"groups", layer.groups},
                                       {"threads", threads},
                                       {"precision", options.precision}}
                            .dump());
            sides.push_back(bench::side_of(*torch));
          }
          const int64_t outputs = kBatch * layer.out_size() * layer.out_size() * layer.outputs;
          const double gflop =
              2e-9 * static_cast<double>(outputs * layer.kernel * layer.kernel * (layer.inputs / layer.groups));
          bench::Measure measure{.unit = "GFLOP/s", .work = gflop, .gflop = gflop};
          if (layer.groups > 1)  // so few sums for each byte that memory is the limit
            measure = {.unit = "GB/s", .work = convolution->gigabytes(), .gigabytes = convolution->gigabytes()};
          comparison.run({name, layer.shape(), threads, measure}, std::move(sides));
        }
    comparison.finish();
    return 0;
  });
}
