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
# What checks the build itself is slow and covers nothing.
ctest --test-dir "$build" -j "$(nproc)" --output-on-failure -LE 'build|consumer|layers'
python3 scripts/coverage.py "$build" "$@"
