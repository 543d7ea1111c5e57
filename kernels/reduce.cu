#include "reduce.cuh"

#include <algorithm>

#include "launchers.hpp"

namespace tl::cuda {

using namespace device;

namespace {

constexpr int64_t kMostInX = 1 << 20, kMostInY = 65535;

unsigned blocks_for(int64_t items, int64_t most = kMostInX) {
  return static_cast<unsigned>(std::clamp<int64_t>(items, 1, most));
}

template <class Op, class In, class Out>
void reduce_cut(const In* x, Out out, const CutAxis& cut) {
  const int64_t slices = cut.outer * cut.chunks, length = std::min(cut.chunk, cut.axis);
  if (cut.inner == 1) {
    constexpr int64_t kVeryShort = 4, kShort = 1024;
    if (length <= kVeryShort) {
      launch(reduce_rows_v1<Op, In, Out>, grid_for(slices), x, out, cut);
    } else if (length <= kShort) {
      launch(reduce_rows_v2<Op, In, Out>,
             {.grid = {blocks_for(ceil_div(slices, kRowWarps))}, .block = {kRowWarps * kWarpSize}}, x, out, cut);
    } else {
      launch(reduce_rows_v3<Op, In, Out>, {.grid = {blocks_for(slices)}, .block = {kRowThreads}}, x, out, cut);
    }
  } else if (length < 2 * kColumnThreads || cut.inner < kColumns / 2) {
    launch(reduce_columns_v1<Op, In, Out>, grid_for(slices * cut.inner), x, out, cut);
  } else {
    launch(reduce_columns_v2<Op, In, Out>,
           {.grid = {static_cast<unsigned>(ceil_div(cut.inner, kColumns)), blocks_for(slices, kMostInY)},
            .block = {kColumns, kColumnThreads}},
           x, out, cut);
  }
}

/// The number of chunks depends on the sizes alone, not on the GPU: the same bits everywhere.
CutAxis cut_axis(const ReduceArgs<float>& args) {
  constexpr int64_t kFewSlices = 256, kLeastChunk = 1024;
  const int64_t side_by_side = args.outer * ceil_div(args.inner, kColumns);
  const int64_t wanted = ceil_div(kFewSlices, std::max<int64_t>(side_by_side, 1));
  const int64_t chunks = std::clamp<int64_t>(args.axis / kLeastChunk, 1, wanted);
  const int64_t chunk = std::max<int64_t>(ceil_div(args.axis, chunks), 1);
  return {args.outer, args.axis, args.inner, chunk, std::max<int64_t>(ceil_div(args.axis, chunk), 1)};
}

template <class Op, class Out>
void reduce_with(const ReduceArgs<float>& args, Out out) {
  using State = typename Op::State;
  const CutAxis cut = cut_axis(args);
  if (cut.chunks == 1) {
    reduce_cut<Op>(args.x, out, cut);
    return;
  }
  const auto bytes = static_cast<std::size_t>(cut.outer * cut.chunks * cut.inner) * sizeof(State);
  auto* partial = static_cast<State*>(allocate(bytes));
  reduce_cut<Op>(args.x, KeepState<State>{partial}, cut);
  reduce_cut<Op>(static_cast<const State*>(partial), out, {cut.outer, cut.chunks, cut.inner, cut.chunks, 1});
  deallocate(partial);  // the stream's next user of this memory comes after the kernels
}

}  // namespace

void reduce(const ReduceArgs<float>& args) {
  if (args.outer * args.inner == 0) return;
  switch (args.reduction) {
    case Reduction::sum:
      return reduce_with<SumOf>(args, StoreSum{args.y, 1.0f});
    case Reduction::mean:
      return reduce_with<SumOf>(args, StoreSum{args.y, 1.0f / static_cast<float>(args.axis)});
    case Reduction::max:
      return reduce_with<BestOf<1>>(args, StoreBest<1>{args.y, args.index});
    case Reduction::min:
      return reduce_with<BestOf<-1>>(args, StoreBest<-1>{args.y, args.index});
  }
}

void scatter_axis(const ScatterAxisArgs<float>& args) {
  const int64_t n = args.outer * args.axis * args.inner;
  if (n == 0) return;
  launch(scatter_axis_v1, grid_for(n), args.grad_y, args.index, args.grad_x, args.axis, args.inner, n);
}

void top_k(const TopKArgs<float>& args) {
  if (args.rows * args.k == 0) return;
  launch(top_k_v1, {.grid = {blocks_for(args.rows)}, .block = {kRowThreads}}, args.x, args.values, args.index,
         args.rows, args.cols, args.k);
}

}  // namespace tl::cuda
