#!/bin/sh
# Installs Debian packages that are missing. Sets:
#   run     to build and use Vedette
#   test    also to run its tests (default)
#   bench   also to compare it with QEMU
set -eu
set=${1:-test}

packages="gcc libc6-dev cmake ninja-build pkg-config libzydis-dev libzycore-dev libcapstone-dev \
libpng-dev libjson-c-dev libxxhash-dev seabios cpio gzip tar ca-certificates"
case $set in
run) ;;
test) packages="$packages gcc-multilib g++ libcmocka-dev clang clang-format binutils acpica-tools git" ;;
bench) packages="$packages gcc-multilib qemu-system-x86" ;;
*)
    echo "install_packages: unknown set '$set' (run, test, bench)" >&2
    exit 1
    ;;
esac

missing=
for package in $packages; do
    dpkg-query -W -f '${Status}' "$package" 2>/dev/null | grep -q '^install ok installed' ||
        missing="$missing $package"
done
[ -n "$missing" ] || exit 0

as_root=
if [ "$(id -u)" != 0 ]; then
    command -v sudo >/dev/null 2>&1 || {
        echo "install_packages: not root and no sudo; please install:$missing" >&2
        exit 1
    }
    as_root=sudo
fi
echo "install_packages: installing$missing"
log=$(mktemp)
trap 'rm -f "$log"' EXIT
# A mirror that is out of step with itself still serves what is installable.
$as_root apt-get -q update >"$log" 2>&1 </dev/null || tail -n 1 "$log" >&2
# shellcheck disable=SC2086 # a list of names
if ! $as_root env DEBIAN_FRONTEND=noninteractive apt-get -q -y --no-install-recommends install \
    $missing >"$log" 2>&1 </dev/null; then
    echo "install_packages: apt-get failed: $(grep -m 1 '^E:' "$log" || tail -n 1 "$log")" >&2
    exit 1
fi
