#!/bin/sh
# Boots a Debian kernel that runs Linux's own tests of x86 processors (tools/testing/selftests/x86).
#
#   selftests.sh BUILD_DIRECTORY KERNEL MEMORY CPU SECONDS
#
# They are built here, statically: for amd64 in both word sizes, for the others in 32 bits.
# Environment and exit status as in boot.sh.
set -eu
here=$(CDPATH='' cd -- "$(dirname -- "$0")" && pwd)
build=$1 kernel=$2 memory=$3 cpu=$4 seconds=$5
. "$here/guests.sh"
find_runner
sources=$guests/selftests.tar
[ -s "$sources" ] || skip "$sources is missing (scripts/get_guests.sh --all fetches it)"
use_guest "$kernel"

run=$(mktemp -d "$build/run.XXXXXX")
trap 'rm -rf "$run"' EXIT

# build_program NAME BITS: some are for one word size only, or need assembly or an entry of their own.
build_program() {
    extra=
    case $1_$2 in
    amx_* | trivial_*) return 0 ;; # a feature that no model has; no test
    entry_from_vm86_64 | unwind_vdso_64 | vdso_restorer_64) return 0 ;;
    fsgsbase_32 | syscall_numbering_32 | sysret_rip_32 | corrupt_xstate_header_32) return 0 ;;
    check_initial_reg_state_*) extra=-Wl,-ereal_start ;;
    sysret_ss_attrs_64) extra=thunks.S ;;
    ptrace_syscall_32) extra=raw_syscall_helper_32.S ;;
    test_syscall_vdso_32) extra=thunks_32.S ;;
    esac
    # shellcheck disable=SC2086
    gcc "-m$2" -static -no-pie -s -O2 -std=gnu99 -pthread -w -DCAN_BUILD_32 -DCAN_BUILD_64 \
        -o "$run/programs/$1_$2" "$1.c" $extra -lm
}

mkdir "$run/programs"
tar -xf "$sources" -C "$run"
cd "$run/tools/testing/selftests/x86"
case $architecture in
amd64) sizes="32 64" ;;
*) sizes=32 ;;
esac
for source in *.c; do
    for bits in $sizes; do
        build_program "${source%.c}" "$bits"
    done
done
cd "$build"
"$here/make_initrd.sh" "$guests/initrd-$architecture.gz" "$run/programs" "$here/selftests" \
    "$run/initrd.gz"

log=$build/log
mkdir -p "$log"
status=0
"${EXPECT:-$build/guest_expect}" -k -t "$seconds" -l "$log/selftests-$kernel-$cpu.log" \
    "$here/drive/selftests.drive" -- "$runner" run --kernel "$guests/vmlinuz-$kernel" \
    --initrd "$run/initrd.gz" --append "console=ttyS0 vedette.run=all" -m "$memory" --cpu "$cpu" \
    --serial stdio --display none || status=$?
exit "$status"
