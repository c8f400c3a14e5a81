#!/bin/sh
# multiboot.sh BUILD_DIRECTORY KERNEL [OPTION...]: starts a multiboot test kernel, which must end
# with 33 after PASS on COM1. VEDETTE names another runner. Exit status 77: no runner.
set -eu
build=$1 kernel=$2
shift 2
runner=${VEDETTE:-$build/../../../vedette}
if [ ! -x "$runner" ]; then
    echo "skipped: $runner is not built"
    exit 77
fi
out=$(mktemp)
trap 'rm -f "$out"' EXIT
status=0
timeout 80 "$runner" run --kernel "$kernel" --append "mem=64 check" \
    --initrd "$build/module first module" -m 64M --serial stdio --display none \
    --isa-debug-exit "$@" </dev/null >"$out" 2>&1 || status=$?
cat "$out"
if [ "$status" != 33 ] || ! grep -q PASS "$out"; then
    echo "multiboot: exit code $status, expected 33 and PASS"
    exit 1
fi
