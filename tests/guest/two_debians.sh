#!/bin/sh
# two_debians.sh BUILD_DIRECTORY: a 64-bit and a 32-bit Debian at the same time in one process.
# Exit status 77: a file is missing, the test is skipped.
set -eu
here=$(CDPATH='' cd -- "$(dirname -- "$0")" && pwd)
build=$1
. "$here/guests.sh"
use_guest 686-pae
initrd32=$initrd
use_guest amd64
run=$(mktemp -d "$build/run.XXXXXX")
trap 'rm -rf "$run"' EXIT
"$build/guest_two_debians" "$run" "$guests/vmlinuz-amd64" "$initrd" "$guests/vmlinuz-686-pae" \
    "$initrd32"
