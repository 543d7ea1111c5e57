// Tests that CTest runs once for each instruction set, with TL_ISA set.
#pragma once
#include <cstdlib>

#include "support.hpp"
#include "tl/core/cpu_features.hpp"
#include "tl/core/text.hpp"

/// Leaves the test case when TL_ISA asks for more than this processor has.
#define TL_NEEDS_ISA()                                                                  \
  do {                                                                                  \
    const char* asked = std::getenv("TL_ISA");                                          \
    for (const tl::Isa isa : {tl::Isa::avx2, tl::Isa::avx512})                          \
      if (asked && asked == tl::name_of(isa) && isa > tl::best_isa())                   \
        TL_SKIP(tl::text("this processor has no ", isa, ", at most ", tl::best_isa())); \
  } while (false)
