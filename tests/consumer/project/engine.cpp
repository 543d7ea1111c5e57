// The one file that holds tl's definitions in a program built without CMake.
#include "tl/compiled.hpp"
