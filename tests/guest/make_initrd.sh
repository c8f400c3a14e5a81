#!/bin/sh
# make_initrd.sh BASE PROGRAMS SCRIPTS OUTPUT: the fetched initramfs with our guest programs and
# test scripts in /tests behind it (the kernel unpacks concatenated archives in order).
set -eu
base=$1 programs=$2 scripts=$3 output=$4
work=$output.d.$$
trap 'rm -rf "$work" "$output.$$"' EXIT
mkdir -p "$work/tests"
cp "$programs"/* "$scripts"/* "$work/tests"
chmod 755 "$work/tests"/*
find "$work" -exec touch -h -d @0 {} +
(cd "$work" && find tests | LC_ALL=C sort | cpio --quiet -o -H newc --reproducible -R +0:+0) |
    gzip -1n >"$output.$$.extra"
cat "$base" "$output.$$.extra" >"$output.$$"
rm -f "$output.$$.extra"
mv "$output.$$" "$output"
