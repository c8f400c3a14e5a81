#!/bin/sh
# Boots a Debian kernel and lets guest_expect drive it.
#
#   boot.sh BUILD_DIRECTORY KERNEL DRIVE_SCRIPT MEMORY CPU SECONDS [KERNEL PARAMETER...]
#
# BUILD_DIRECTORY is this directory's counterpart in the build tree, KERNEL one of amd64, 686-pae,
# 686. VEDETTE names another runner (scripts/qemu_runner.sh), VEDETTE_GUESTS another directory than
# guests/. In DRIVE_SCRIPT, @NATIVE:COMMAND@ stands for a file with what the test command prints
# when it runs here. Exit status 77: a file is missing, the test is skipped.
set -eu
here=$(CDPATH='' cd -- "$(dirname -- "$0")" && pwd)
build=$1 kernel=$2 drive=$3 memory=$4 cpu=$5 seconds=$6
shift 6
. "$here/guests.sh"
find_runner
use_guest "$kernel"

run=$(mktemp -d "$build/run.XXXXXX")
trap 'rm -rf "$run"' EXIT

# A script in run/ finds its programs beside itself: natively that is here, in the guest /tests.
native() {
    mkdir -p "$run/tests" "$run/bin"
    cp "$programs"/* "$here/run"/* "$run/tests"
    "$guests/busybox-$architecture" --install -s "$run/bin"
    PATH=$run/bin "$run/tests/$1"
}
sed -n 's/.*@NATIVE:\([a-z0-9_]*\)@.*/\1/p' "$drive" | sort -u | while read -r name; do
    native "$name" >"$run/native-$name" || skip "$name does not run here"
done
sed "s,@NATIVE:\([a-z0-9_]*\)@,$run/native-\1," "$drive" >"$run/drive"

# A drive script may bring its own kernel parameters: "#append WORDS".
append="console=ttyS0 $(sed -n 's/^#append //p' "$drive") $*"
log=$build/log
mkdir -p "$log"
name=$(basename "$drive" .drive)-$kernel-$memory-$cpu$(printf %s "$*" | tr -c 'a-z0-9' -)
status=0
"${EXPECT:-$build/guest_expect}" -k -t "$seconds" -l "$log/$name.log" "$run/drive" -- \
    "$runner" run --kernel "$guests/vmlinuz-$kernel" --initrd "$initrd" --append "$append" \
    -m "$memory" --cpu "$cpu" --serial stdio --display none || status=$?
exit "$status"
