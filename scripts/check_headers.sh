#!/bin/sh
# check_headers.sh [ROOT]: every header compiles alone, with gcc and with clang.
set -eu
root=${1:-$(dirname -- "$0")/..}
cd "$root"
bad=0
count=0
for compiler in gcc clang; do
    if ! command -v "$compiler" >/dev/null 2>&1; then
        echo "check_headers: no $compiler here, left out"
        continue
    fi
    for header in $(find src include tests bench -name '*.h' | LC_ALL=C sort); do
        count=$((count + 1))
        "$compiler" -std=gnu11 -fsyntax-only -x c -D_GNU_SOURCE -Isrc -Iinclude \
            -I"$(dirname "$header")" -Wall -Wextra -Werror -Wno-unused-function \
            -Wno-unused-const-variable -include "$header" /dev/null || {
            echo "check_headers: $header does not compile alone with $compiler"
            bad=1
        }
    done
done
[ "$bad" = 0 ] && echo "check_headers: $count compilations ok"
exit "$bad"
