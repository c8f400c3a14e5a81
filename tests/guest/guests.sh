# Sourced by the test scripts: finds kernels and makes initramfs images that hold our programs.
# Expects $here (this directory) and $build (its counterpart in the build tree).
guests=${VEDETTE_GUESTS:-$here/../../guests}

skip() {
    echo "skipped: $*"
    exit 77
}

# find_runner: sets $runner; one that VEDETTE names must be there.
find_runner() {
    runner=${VEDETTE:-$build/../../vedette}
    [ ! -x "$runner" ] || return 0
    [ -n "${VEDETTE:-}" ] || skip "$runner is not built"
    echo "$runner cannot be run" >&2
    exit 1
}

# use_guest KERNEL (amd64, 686-pae, 686): sets $architecture, $programs and $initrd, or skips.
use_guest() {
    case $1 in
    amd64) architecture=amd64 ;;
    *) architecture=i386 ;;
    esac
    for file in "$guests/vmlinuz-$1" "$guests/initrd-$architecture.gz"; do
        [ -s "$file" ] || skip "$file is missing (scripts/get_guests.sh fetches it)"
    done
    programs=$build/programs-$architecture
    [ -x "$programs/smoke" ] ||
        skip "no guest programs for $architecture (gcc -m32 needs gcc-multilib)"
    initrd=$build/initrd-$architecture.gz
    if [ -z "$(find "$initrd" -newer "$guests/initrd-$architecture.gz" 2>/dev/null)" ] ||
        [ -n "$(find "$programs" "$here/run" -newer "$initrd")" ]; then
        "$here/make_initrd.sh" "$guests/initrd-$architecture.gz" "$programs" "$here/run" "$initrd"
    fi
}
