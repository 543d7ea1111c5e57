// Lecture 6: tl inside of a program of yours.
//
// You learn: how pictures from a camera's buffer go in without a copy in another format, how to give tl the threads
// that your program has to spare, and what comes back when something is wrong.
//
//   inspection_line MODEL.safetensors          classifies a made-up camera's frames
//
// Expected: a class and a probability for each frame, and the milliseconds it took.
#include <cstdio>
#include <vector>

#include "tl/core/parallel.hpp"
#include "tl/core/stopwatch.hpp"
#include "tl/models/predict.hpp"

/// A camera gives bytes in its own layout: rows of blue, green, red, with a gap at the end of each row.
struct Camera {
  int64_t width = 640, height = 480, stride = 640 * 3 + 64;
  std::vector<uint8_t> buffer = std::vector<uint8_t>(static_cast<size_t>(480 * (640 * 3 + 64)));

  void grab(int frame) {
    for (int64_t y = 0; y < height; ++y)
      for (int64_t x = 0; x < 3 * width; ++x)
        buffer[static_cast<size_t>(y * stride + x)] = static_cast<uint8_t>((x * (frame + 1) + y * 3) / 7);
  }
};

int main(int argc, char** argv) {
  if (argc != 2) {
    std::fprintf(stderr, "usage: inspection_line MODEL.safetensors\n");
    return 2;
  }
  try {
    tl::set_threads(2);  // or tl::set_executor(&your_thread_pool)
    tl::models::ImagePredictor predictor(argv[1]);
    Camera camera;
    for (int frame = 0; frame < 5; ++frame) {
      camera.grab(frame);
      const tl::Stopwatch watch;
      // The layout is part of the type of the call: blue before red cannot be mixed up in silence.
      const auto prediction = predictor.predict(tl::ImageView{.data = camera.buffer.data(),
                                                              .width = camera.width,
                                                              .height = camera.height,
                                                              .stride_bytes = camera.stride,
                                                              .format = tl::PixelFormat::bgr8});
      std::printf("frame %d: %s (%.3f), %.1f ms\n", frame, prediction.name.c_str(), prediction.probability,
                  1e3 * watch.seconds());
    }
    return 0;
  } catch (const tl::Error& error) {  // a code for the program, a text for its log
    std::fprintf(stderr, "error %d: %s\n", static_cast<int>(error.code()), error.what());
    return 1;
  }
}
