#include "index.cuh"

#include "launchers.hpp"

namespace tl::cuda {

using namespace device;

void gather_rows(const GatherRowsArgs<float>& args) {
  if (args.count * args.cols == 0) return;
  launch(gather_rows_v1, grid_for(args.count * args.cols), args.x, args.index, args.y, args.count, args.cols);
}

void scatter_add_rows(const ScatterAddRowsArgs<float>& args) {
  if (args.count * args.cols == 0) return;
  launch(scatter_add_rows_v1, grid_for(args.cols), args.y, args.index, args.x, args.count, args.cols, args.skip);
}

}  // namespace tl::cuda
