// error: abstract
#include "tl/nn/linear.hpp"

struct Net : tl::nn::Module {
  tl::nn::Linear fc;
#if !MISTAKE
  TL_MEMBERS(fc)
#endif
};

Net net;
