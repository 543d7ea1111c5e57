// Nothing but the headers once more: a definition that is not inline is then there twice.
#include "tl/tl.hpp"
