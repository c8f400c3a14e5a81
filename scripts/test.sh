#!/bin/sh
# Builds Vedette in every supported way and runs its tests; what a contributor and CI run.
#
#   1. gcc, Release, warnings as errors          build/
#   2. clang, warnings as errors, compiled only  build-clang-release/
#   3. ASan + UBSan, unit tests                  build-asan/
#   4. Debian guests are fetched, then every test of 1 except those labelled slow
#
# The full guest matrix: ctest --test-dir build -L slow
set -eu
cd "$(dirname -- "$0")/.."

step() {
    echo
    echo "== $*"
}

jobs=$(nproc)
step "packages"
scripts/install_packages.sh test
step "gcc, release"
cmake --preset ci >/dev/null
cmake --build build -j "$jobs" -- --quiet
step "clang, compile only"
cmake --preset clang-release -DVEDETTE_WERROR=ON >/dev/null
cmake --build build-clang-release -j "$jobs" -- --quiet
step "ASan and UBSan: unit tests"
cmake --preset asan >/dev/null
cmake --build build-asan -j "$jobs" -- --quiet
ASAN_OPTIONS=detect_leaks=1:abort_on_error=0 UBSAN_OPTIONS=halt_on_error=1:print_stacktrace=1 \
    ctest --test-dir build-asan -LE 'guest|slow|check' -j "$jobs" --output-on-failure \
    --no-tests=error
step "guests"
scripts/get_guests.sh --all
step "all tests but the slow ones"
ctest --test-dir build -LE slow -j "$jobs" --output-on-failure --no-tests=error
