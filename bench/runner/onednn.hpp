// oneDNN in this process, when CMake found it (TL_BENCH_ONEDNN). Weights are in the layout that oneDNN prefers, packed
// before the timing; pictures are NHWC.
#pragma once
#if defined(TL_BENCH_ONEDNN)
#include <cstdint>
#include <dnnl.hpp>
#include <functional>
#include <memory>
#include <omp.h>
#include <string>
#include <unordered_map>
#include <vector>

#include "tl/core/text.hpp"

namespace bench::onednn {

using Tag = dnnl::memory::format_tag;
using Dims = dnnl::memory::dims;

inline std::string name(const char* what) {
  return tl::text("onednn ", DNNL_VERSION_MAJOR, ".", DNNL_VERSION_MINOR, ".", DNNL_VERSION_PATCH, what);
}

inline dnnl::engine& engine() {
  static dnnl::engine cpu(dnnl::engine::kind::cpu, 0);
  return cpu;
}

/// Memory of this layout, filled with small numbers.
inline dnnl::memory filled(const dnnl::memory::desc& layout) {
  dnnl::memory memory(layout, engine());
  float* data = static_cast<float*>(memory.get_data_handle());
  for (size_t i = 0; i < layout.get_size() / sizeof(float); ++i) data[i] = static_cast<float>(i % 17) / 16 - 0.5f;
  return memory;
}

inline dnnl::memory::desc f32(const Dims& dims, Tag tag) { return {dims, dnnl::memory::data_type::f32, tag}; }
inline dnnl::memory::desc bf16(const Dims& dims, Tag tag) { return {dims, dnnl::memory::data_type::bf16, tag}; }

/// Runs a primitive on its memory with this many threads.
template <class Primitive>
std::function<void()> call_of(Primitive primitive, std::unordered_map<int, dnnl::memory> memory, int threads) {
  return [primitive, memory, threads, stream = std::make_shared<dnnl::stream>(engine())] {
    omp_set_num_threads(threads);
    primitive.execute(*stream, memory);
    stream->wait();
  };
}

/// C [m, n] = A [m, k] B [k, n].
inline std::function<void()> gemm(int64_t m, int64_t n, int64_t k, bool packed, bool half, int threads) {
  omp_set_num_threads(threads);
  const auto matrix = half ? bf16 : f32;
  const dnnl::matmul::primitive_desc desc(
      dnnl::matmul::desc(matrix({m, k}, Tag::ab), matrix({k, n}, packed ? Tag::any : Tag::ab), matrix({m, n}, Tag::ab)),
      engine());
  return call_of(dnnl::matmul(desc),
                 {{DNNL_ARG_SRC, filled(desc.src_desc())},
                  {DNNL_ARG_WEIGHTS, filled(desc.weights_desc())},
                  {DNNL_ARG_DST, filled(desc.dst_desc())}},
                 threads);
}

struct Conv {
  int64_t n, size, inputs, outputs, kernel, stride, padding, groups, out_size;
};

/// Forward, or the gradient of the picture or of the weight.
inline std::function<void()> conv(const Conv& c, const std::string& direction, int threads) {
  using dnnl::algorithm;
  omp_set_num_threads(threads);
  const auto x = f32({c.n, c.inputs, c.size, c.size}, Tag::nhwc);
  const auto y = f32({c.n, c.outputs, c.out_size, c.out_size}, Tag::nhwc);
  const Dims kernel = {c.outputs / c.groups, c.inputs / c.groups, c.kernel, c.kernel};
  const auto w =
      c.groups == 1 ? f32(kernel, Tag::any) : f32({c.groups, kernel[0], kernel[1], kernel[2], kernel[3]}, Tag::any);
  const Dims stride = {c.stride, c.stride}, padding = {c.padding, c.padding};
  const dnnl::convolution_forward::primitive_desc forward(
      dnnl::convolution_forward::desc(dnnl::prop_kind::forward_training, algorithm::convolution_auto, x, w, y, stride,
                                      padding, padding),
      engine());
  if (direction == "forward")
    return call_of(dnnl::convolution_forward(forward),
                   {{DNNL_ARG_SRC, filled(forward.src_desc())},
                    {DNNL_ARG_WEIGHTS, filled(forward.weights_desc())},
                    {DNNL_ARG_DST, filled(forward.dst_desc())}},
                   threads);
  if (direction == "backward_data") {
    const dnnl::convolution_backward_data::primitive_desc desc(
        dnnl::convolution_backward_data::desc(algorithm::convolution_direct, x, w, y, stride, padding, padding),
        engine(), forward);
    return call_of(dnnl::convolution_backward_data(desc),
                   {{DNNL_ARG_DIFF_SRC, filled(desc.diff_src_desc())},
                    {DNNL_ARG_WEIGHTS, filled(desc.weights_desc())},
                    {DNNL_ARG_DIFF_DST, filled(desc.diff_dst_desc())}},
                   threads);
  }
  const dnnl::convolution_backward_weights::primitive_desc desc(
      dnnl::convolution_backward_weights::desc(algorithm::convolution_direct, x, w, y, stride, padding, padding),
      engine(), forward);
  return call_of(dnnl::convolution_backward_weights(desc),
                 {{DNNL_ARG_SRC, filled(desc.src_desc())},
                  {DNNL_ARG_DIFF_WEIGHTS, filled(desc.diff_weights_desc())},
                  {DNNL_ARG_DIFF_DST, filled(desc.diff_dst_desc())}},
                 threads);
}

}  // namespace bench::onednn
#endif
