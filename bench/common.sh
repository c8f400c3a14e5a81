# Shared by bench/boot and bench/compute: finds the runners and the images, builds the tools.
#
# Environment: VEDETTE (default build/vedette), QEMU_RUNNER, VEDETTE_GUESTS, ROUNDS, RESULTS.
here=$(CDPATH='' cd -- "$(dirname -- "$0")" && pwd)
root=$(dirname -- "$here")
build=${BUILD:-$root/build}
guests=${VEDETTE_GUESTS:-$root/guests}
vedette=${VEDETTE:-$build/vedette}
qemu=${QEMU_RUNNER:-$root/scripts/qemu_runner.sh}
results=${RESULTS:-$here/results}
work=$build/bench

fail() {
    echo "bench: $*" >&2
    exit 1
}

[ -x "$vedette" ] || fail "$vedette is not built"
command -v qemu-system-x86_64 >/dev/null 2>&1 || fail "qemu-system-x86 is not installed"
for file in vmlinuz-amd64 vmlinuz-686-pae initrd-amd64.gz initrd-i386.gz; do
    [ -s "$guests/$file" ] || fail "$guests/$file is missing (scripts/get_guests.sh fetches it)"
done
mkdir -p "$work" "$results"
gcc -O2 -D_GNU_SOURCE -Wall -Wextra -o "$work/bench" "$here/bench.c" "$here/chart.c" -lm
