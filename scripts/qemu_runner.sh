#!/bin/sh
# Takes the command line of `vedette run` and starts QEMU's TCG with the same machine: the other
# side of every side-by-side comparison, and a second opinion when a guest test fails.
#
#   VEDETTE=$PWD/scripts/qemu_runner.sh ctest --test-dir build -L guest
set -eu

fail() {
    echo "qemu_runner: $*" >&2
    exit 1
}

[ "${1:-}" = run ] || fail "only the run command has a counterpart"
shift
system=${QEMU:-qemu-system-x86_64}
command -v "$system" >/dev/null 2>&1 || fail "$system is not installed"

cpu=max
memory=256M
serial=
display=none
screenshot=
bios=
debugcon=
debugcon_port=0x402
set -- "$@" --
# Rotates through the arguments: takes ours from the front, appends QEMU's at the back.
while [ "$1" != -- ]; do
    option=$1
    shift
    case $option in
    --isa-debug-exit)
        set -- "$@" -device pc-testdev -device isa-debug-exit,iobase=0xf4,iosize=4
        continue
        ;;
    --isa-debug-exit=*)
        set -- "$@" -device "isa-debug-exit,iobase=${option#*=},iosize=4"
        continue
        ;;
    --stats | --stats=*) continue ;;
    esac
    [ "$1" != -- ] || fail "$option needs a value"
    value=$1
    shift
    case $option in
    --kernel) set -- "$@" -kernel "$value" ;;
    --initrd) set -- "$@" -initrd "$value" ;;
    --append) set -- "$@" -append "$value" ;;
    --bios)
        bios=$value
        set -- "$@" -bios "$value"
        ;;
    -m) memory=$value ;;
    --cpu) cpu=$value ;;
    --serial) serial=$value ;;
    --display) display=$value ;;
    --screenshot) screenshot=$value ;;
    --debugcon)
        case $value in
        stdio) set -- "$@" -chardev stdio,id=debug ;;
        file:*) set -- "$@" -chardev "file,id=debug,path=${value#file:}" ;;
        *) fail "--debugcon $value has no counterpart" ;;
        esac
        debugcon=1
        ;;
    --debugcon-port) debugcon_port=$value ;;
    --trace) ;;
    *) fail "$option has no counterpart" ;;
    esac
done
shift

case $cpu in
486) cpu=486 ;;
pentium3) cpu=pentium3 ;;
x86-64-v1) cpu=qemu64 ;;
x86-64-v2) cpu=Nehalem ;;
x86-64-v3) cpu=Haswell-noTSX ;;
max) cpu=max ;;
*) fail "--cpu $cpu has no counterpart" ;;
esac
case $display in
text) set -- "$@" -display curses ;;
none) set -- "$@" -display none ;;
*) fail "--display $display has no counterpart" ;;
esac
case $serial in
stdio) set -- "$@" -serial mon:stdio ;;
none) set -- "$@" -serial none ;;
file:*) set -- "$@" -serial "$serial" ;;
'') [ "$display" = text ] || set -- "$@" -serial mon:stdio ;;
esac
[ -z "$debugcon" ] || set -- "$@" -device "isa-debugcon,iobase=$debugcon_port,chardev=debug"
[ -z "$screenshot" ] || echo "qemu_runner: --screenshot is ignored" >&2
set -- "$system" -machine pc,accel=tcg -nodefaults -vga std -no-reboot -cpu "$cpu" \
    -m "$memory" "$@"
[ -n "$bios" ] || exec "$@"

# QEMU ends a triple fault like a reset; its log tells them apart.
# The log has no name any more, so nothing is left behind, whatever ends this script.
log=$(mktemp)
exec 3>"$log" 4<"$log"
rm -f "$log"
status=0
"$@" -d cpu_reset -D /dev/fd/3 || status=$?
if [ "$status" = 0 ] && grep -q '^Triple fault' <&4; then
    echo "qemu_runner: triple fault" >&2
    status=3
fi
exit "$status"
