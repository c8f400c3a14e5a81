#!/bin/sh
# check_format.sh [ROOT]: C sources are as .clang-format has them.
set -eu
root=${1:-$(dirname -- "$0")/..}
cd "$root"
if ! command -v clang-format >/dev/null 2>&1; then
    echo "check_format: no clang-format here (Debian package clang-format)"
    exit 77
fi
find src include tests bench -name '*.[ch]' | LC_ALL=C sort |
    xargs clang-format --dry-run -Werror && echo "check_format: ok"
