#include "softmax.cuh"

#include <algorithm>

#include "launchers.hpp"

namespace tl::cuda {

using namespace device;

namespace {

constexpr int64_t kWarpColumns = 1024;  // up to here a warp is enough for a row

template <int kThreads>
LaunchShape team_shape(int64_t rows) {
  constexpr int64_t kMostBlocks = 1 << 20, kRows = RowTeam<kThreads>::kRows;
  return {.grid = {static_cast<unsigned>(std::min(ceil_div(rows, kRows), kMostBlocks))}, .block = {kThreads * kRows}};
}

/// The kernel for rows of this length: a warp or a block per row.
template <class... Parameters, class... Arguments>
void launch_by_row(int64_t rows, int64_t cols, void (*by_warp)(Parameters...), void (*by_block)(Parameters...),
                   const Arguments&... arguments) {
  if (rows * cols == 0) return;
  if (cols <= kWarpColumns) launch(by_warp, team_shape<kWarpSize>(rows), arguments...);
  else launch(by_block, team_shape<kSoftmaxThreads>(rows), arguments...);
}

}  // namespace

void softmax(const SoftmaxArgs<float>& args) {
  if (args.rows * args.cols == 0) return;
  constexpr int64_t kSharedColumns = 12288;  // 48 KiB, what every GPU gives without asking
  if (args.cols <= kWarpColumns) {
    const auto kernel = args.cols <= 128 ? softmax_v2<4> : softmax_v2<32>;
    launch(kernel, team_shape<kWarpSize>(args.rows), args.x, args.y, args.rows, args.cols, args.logarithm);
  } else if (args.cols <= kSharedColumns) {
    LaunchShape shape = team_shape<kSoftmaxThreads>(args.rows);
    shape.shared_bytes = static_cast<std::size_t>(args.cols) * sizeof(float);
    launch(softmax_v3, shape, args.x, args.y, args.rows, args.cols, args.logarithm);
  } else {
    launch(softmax_v1<kSoftmaxThreads>, team_shape<kSoftmaxThreads>(args.rows), args.x, args.y, args.rows, args.cols,
           args.logarithm);
  }
}

void softmax_backward(const SoftmaxBackwardArgs<float>& args) {
  launch_by_row(args.rows, args.cols, softmax_backward_v1<kWarpSize>, softmax_backward_v1<kSoftmaxThreads>, args.y,
                args.grad_y, args.grad_x, args.rows, args.cols, args.logarithm);
}

void cross_entropy(const CrossEntropyArgs<float>& args) {
  launch_by_row(args.rows, args.cols, cross_entropy_v1<kWarpSize>, cross_entropy_v1<kSoftmaxThreads>, args);
}

void cross_entropy_backward(const CrossEntropyBackwardArgs<float>& args) {
  launch_by_row(args.rows, args.cols, cross_entropy_backward_v1<kWarpSize>, cross_entropy_backward_v1<kSoftmaxThreads>,
                args);
}

}  // namespace tl::cuda
