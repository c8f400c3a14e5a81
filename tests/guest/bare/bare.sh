#!/bin/sh
# bare.sh BUILD_DIRECTORY IMAGE EXIT_CODE [TEXT]: runs a bare-metal test image as the BIOS. The
# runner must end with EXIT_CODE (33 is PASS of the framework) and, when given, print TEXT.
# VEDETTE names another runner. Exit status 77: no runner.
set -eu
build=$1 image=$2 wanted=$3 text=${4:-}
runner=${VEDETTE:-$build/../../../vedette}
if [ ! -x "$runner" ]; then
    echo "skipped: $runner is not built"
    exit 77
fi
out=$(mktemp)
trap 'rm -f "$out" "$out.console"' EXIT
status=0
timeout 120 "$runner" run --bios "$image" -m 64M --cpu "${BARE_CPU:-max}" --serial none \
    --display none --debugcon "file:$out.console" --isa-debug-exit </dev/null >"$out" 2>&1 ||
    status=$?
cat "$out" "$out.console"
if [ "$status" != "$wanted" ]; then
    echo "bare: exit code $status, expected $wanted"
    exit 1
fi
if [ -n "$text" ] && ! grep -q -- "$text" "$out" "$out.console"; then
    echo "bare: no '$text' in the output"
    exit 1
fi
