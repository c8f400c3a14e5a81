#!/bin/sh
# board.sh BUILD_DIRECTORY KERNEL [MEGABYTES]: starts a board test kernel, which must end with 33 after PASS on
# COM1. VEDETTE names another runner. Exit status 77: no runner.
set -eu
build=$1 kernel=$2 ram=${3:-64}
runner=${VEDETTE:-$build/../../../vedette}
if [ ! -x "$runner" ]; then
    echo "skipped: $runner is not built"
    exit 77
fi
out=$(mktemp)
trap 'rm -f "$out"' EXIT
status=0
timeout 50 "$runner" run --kernel "$kernel" --append "ram=$ram one  two=2 'three'" -m "${ram}M" \
    --serial stdio --display none --isa-debug-exit </dev/null >"$out" 2>&1 || status=$?
cat "$out"
if [ "$status" != 33 ] || ! grep -q PASS "$out"; then
    echo "board: exit code $status, expected 33 and PASS"
    exit 1
fi
