#!/bin/sh
# From a fresh Debian 12 to a Debian kernel's shell in this terminal, every guest instruction
# translated. Installs what is missing, builds, fetches kernel and busybox, boots.
#
#   scripts/boot_debian.sh [amd64|686-pae|686] [MORE OPTIONS of "vedette run"...]
#
# In the guest: "poweroff -f" or Ctrl-D leaves; Ctrl-A x ends the machine at once.
set -eu
cd "$(dirname -- "$0")/.."
kernel=${1:-amd64}
[ $# = 0 ] || shift
case $kernel in
amd64) initrd=initrd-amd64.gz ;;
686-pae | 686) initrd=initrd-i386.gz ;;
*)
    echo "boot_debian: unknown kernel '$kernel' (amd64, 686-pae, 686)" >&2
    exit 1
    ;;
esac

echo "[1/4] packages"
scripts/install_packages.sh run
echo "[2/4] build (first time: a minute or two)"
log=build/boot_debian.log
mkdir -p build
cmake --preset release -DBUILD_TESTING=OFF >"$log" 2>&1 &&
    cmake --build build --target vedette >>"$log" 2>&1 || {
    tail -n 20 "$log" >&2
    echo "boot_debian: the build failed, see $log" >&2
    exit 1
}
echo "[3/4] Debian kernel and busybox (first time: about 200 MB to download)"
scripts/get_guests.sh
echo "[4/4] booting; Ctrl-A x ends the machine"
exec build/vedette run --kernel "guests/vmlinuz-$kernel" --initrd "guests/$initrd" \
    --append "console=ttyS0" -m 512M --serial stdio --display none "$@"
