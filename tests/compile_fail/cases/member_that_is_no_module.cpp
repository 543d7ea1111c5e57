// error: add_member
#include "tl/nn/linear.hpp"

struct Net : tl::nn::Module {
  tl::nn::Linear fc;
  int width = 3;
#if MISTAKE
  TL_MEMBERS(fc, width)
#else
  TL_MEMBERS(fc)
#endif
};

Net net;
