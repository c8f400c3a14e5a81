#!/bin/sh
# Starts a program of its own right, no plain Linux, and lets guest_expect drive it.
#
#   other.sh BUILD_DIRECTORY NAME MEMORY SECONDS
#
# NAME: xen (hypervisor with a Debian dom0), memtest-x64, memtest-ia32, or firmware in place of the
# BIOS: ovmf (UEFI), u-boot. Environment and exit status
# as in boot.sh.
set -eu
here=$(CDPATH='' cd -- "$(dirname -- "$0")" && pwd)
build=$1 name=$2 memory=$3 seconds=$4
. "$here/guests.sh"
find_runner
[ -s "$guests/$name" ] || skip "$guests/$name is missing (scripts/get_guests.sh --all fetches it)"

drive=$here/drive/${name%%-*}.drive
case $name in
xen)
    use_guest amd64
    set -- --kernel "$guests/xen" --append "com1=115200,8n1 console=com1" \
        --initrd "$guests/vmlinuz-amd64 console=hvc0,$guests/initrd-amd64.gz"
    ;;
ovmf | u-boot)
    drive=$here/drive/$name.drive
    set -- --bios "$guests/$name"
    ;;
*)
    set -- --kernel "$guests/$name" --append "console=ttyS0,115200"
    ;;
esac
log=$build/log
mkdir -p "$log"
exec "${EXPECT:-$build/guest_expect}" -k -t "$seconds" -l "$log/$name.log" "$drive" -- \
    "$runner" run "$@" -m "$memory" --serial stdio --display none
