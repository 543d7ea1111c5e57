// error: define TL_COMPILED for every file
#if MISTAKE
#undef TL_COMPILED
#include "tl/compiled.hpp"
#endif
