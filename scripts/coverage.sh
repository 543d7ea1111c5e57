#!/bin/sh
# Line coverage of include/ by the tests, per file and in total.
#
# usage: sh scripts/coverage.sh [arguments of scripts/coverage.py, such as --lines or --fail-under 90]
set -eu
cd "$(dirname "$0")/.."
. scripts/setup.sh
tl_setup_build

build=build/coverage
cmake --preset coverage
cmake --build "$build" -j "$(nproc)"
find "$build" -name '*.gcda' -delete  # counts of earlier runs
ctest --test-dir "$build" -j "$(nproc)" --output-on-failure
python3 scripts/coverage.py "$build" "$@"
