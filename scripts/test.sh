#!/bin/sh
# Builds tl and runs all its tests; installs first what that needs. A second run only builds what changed.
#
# usage: sh scripts/test.sh [ctest arguments, such as -L ops or -R gemm]
#        TL_BUILD_DIR (default build/release) and TL_CMAKE_ARGS (such as -DTL_CUDA=ON) may be set.
set -eu
cd "$(dirname "$0")/.."
. scripts/setup.sh
tl_setup_build

build=${TL_BUILD_DIR:-build/release}
jobs=$(nproc)
tl_configure "$build"
cmake --build "$build" -j "$jobs"

rm -f "$build"/skipped/*
# A pipe hides the status of its first command, so that goes through a file.
{
  ctest --test-dir "$build" -j "$jobs" --output-on-failure "$@" && echo 0 >"$build/ctest.status" ||
    echo $? >"$build/ctest.status"
} 2>&1 | tee "$build/ctest.log"

# Skipped parts of tests that passed would go unseen. CTest's summary stays the last thing on the screen.
if [ -n "$(ls "$build/skipped")" ]; then
  printf '\nSkipped:\n'
  (cd "$build/skipped" && grep -H . ./* | sed 's|^./|  |')
  printf '\n'
  sed -n '/tests passed/,$p' "$build/ctest.log"
fi
exit "$(cat "$build/ctest.status")"
