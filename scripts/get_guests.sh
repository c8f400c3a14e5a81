#!/bin/sh
# Fetches what the guest tests and benchmarks boot, unmodified, from the Debian mirror that this
# system's apt uses, and builds the initramfs images.
#
#   scripts/get_guests.sh [--refresh] [--all] [DIR]        default: guests/ beside scripts/
#
# DIR afterwards holds
#   vmlinuz-amd64  vmlinuz-686-pae  vmlinuz-686     Debian's 6.1 kernels
#   busybox-amd64  busybox-i386                     from busybox-static
#   initrd-amd64.gz  initrd-i386.gz                 busybox and scripts/guest_init.sh, nothing else
#   versions.txt                                    package versions and checksums
# and with --all, for the tests,
#   xen  memtest-x64  memtest-ia32                  the hypervisor (unzipped), Memtest86+
#   ovmf  u-boot                                    firmware images: UEFI, and U-Boot for 64 bits
#   selftests.tar                                   Linux's own tests of x86, as source
#
# apt gets a private configuration (both architectures, own lists, empty status), so the system's
# own lists and dpkg architectures stay as they are and no root is needed. A complete DIR is left
# alone and needs no network; --refresh looks for newer packages.
set -eu

here=$(CDPATH='' cd -- "$(dirname -- "$0")" && pwd)
refresh=no
needed="vmlinuz-amd64 vmlinuz-686-pae vmlinuz-686 busybox-amd64 busybox-i386"
others="xen memtest-x64 memtest-ia32 ovmf u-boot selftests.tar"
while :; do
    case ${1:-} in
    --refresh) refresh=yes ;;
    --all) needed="$needed $others" ;;
    -*)
        echo "get_guests: unknown option $1" >&2
        exit 1
        ;;
    *) break ;;
    esac
    shift
done
guests=${1:-$(dirname -- "$here")/guests}

fail() {
    echo "get_guests: $*" >&2
    exit 1
}

for tool in apt-get apt-cache dpkg-deb cpio gzip sha256sum; do
    command -v "$tool" >/dev/null 2>&1 || fail "$tool is not installed"
done
mkdir -p "$guests" 2>/dev/null || fail "cannot create $guests"
guests=$(CDPATH='' cd -- "$guests" && pwd)
[ -w "$guests" ] || fail "$guests is not writable"
cache=$guests/cache
private=$cache/apt

make_apt_configuration() {
    mkdir -p "$private/lists/partial" "$private/archives/partial" "$cache/deb"
    : >"$private/status"
    # The hooks belong to the system's package cache, not to this private one.
    cat >"$private/apt.conf" <<END
Dir::State "$private";
Dir::State::lists "$private/lists";
Dir::State::status "$private/status";
Dir::Cache "$private";
Dir::Cache::archives "$private/archives";
APT::Architecture "amd64";
#clear APT::Architectures;
APT::Architectures { "amd64"; "i386"; };
APT::Sandbox::User "";
Acquire::Languages "none";
Acquire::Retries "3";
Acquire::http::Timeout "20";
#clear APT::Update::Post-Invoke;
#clear APT::Update::Post-Invoke-Success;
#clear Acquire::IndexTargets::deb::DEP-11;
#clear Acquire::IndexTargets::deb::DEP-11-icons-small;
#clear Acquire::IndexTargets::deb::DEP-11-icons;
END
    APT_CONFIG=$private/apt.conf
    export APT_CONFIG
}

# newest_kernel FLAVOUR: the newest 6.1 package of exactly that flavour.
newest_kernel() {
    apt-cache pkgnames linux-image-6.1. |
        grep -E "^linux-image-6\.1\.[0-9]+-[0-9]+-$1-unsigned\$" | sort -V | tail -n 1
}

# fetch PACKAGE:ARCHITECTURE (a package for all counts as either): downloads into cache/deb unless there; apt checks the signature
# chain and the checksum. Prints the file name.
fetch() {
    version=$(apt-cache show --no-all-versions "$1" 2>/dev/null |
        sed -n 's/^Version: //p' | head -n 1)
    [ -n "$version" ] || fail "the package archive has no ${1%:*} for ${1#*:}"
    architecture=$(apt-cache show --no-all-versions "$1" | sed -n 's/^Architecture: //p' | head -n 1)
    deb=${1%:*}_$(printf %s "$version" | sed 's/:/%3a/g')_$architecture.deb
    if ! dpkg-deb --info "$cache/deb/$deb" >/dev/null 2>&1; then
        rm -f "$cache/deb/${1%:*}"_*_"$architecture.deb"
        (cd "$cache/deb" && apt-get -qq download "$1" >"$cache/download.log" 2>&1) ||
            fail "cannot download $1: $(grep -m 1 '^E:' "$cache/download.log" ||
                tail -n 1 "$cache/download.log")"
    fi
    [ -f "$cache/deb/$deb" ] || fail "$1 did not arrive as $deb"
    echo "$deb"
}

# unpack_file DEB PATTERN TARGET: the one file of the package whose path matches.
unpack_file() {
    rm -rf "$cache/unpacked"
    mkdir -p "$cache/unpacked"
    dpkg-deb --fsys-tarfile "$cache/deb/$1" | tar -x -C "$cache/unpacked" --wildcards "$2" ||
        fail "$1 cannot be unpacked"
    for file in "$cache/unpacked"/$2; do
        [ -f "$file" ] || fail "$1 holds no $2"
        cp "$file" "$3.new"
        mv "$3.new" "$3"
    done
    rm -rf "$cache/unpacked"
}

# make_initrd ARCHITECTURE: same input, same bytes (fixed times, owners, order and inode numbers).
make_initrd() {
    root=$cache/root-$1
    rm -rf "$root"
    mkdir -p "$root/bin" "$root/dev" "$root/proc" "$root/sys" "$root/tmp" "$root/root" \
        "$root/tests" "$root/etc"
    cp "$guests/busybox-$1" "$root/bin/busybox"
    cp "$here/guest_init.sh" "$root/init"
    chmod 755 "$root/bin/busybox" "$root/init"
    ln -s busybox "$root/bin/sh"
    echo 'root:x:0:0:root:/root:/bin/sh' >"$root/etc/passwd"
    find "$root" -exec touch -h -d @0 {} +
    (cd "$root" && find . | LC_ALL=C sort |
        cpio --quiet -o -H newc --reproducible -R +0:+0) | gzip -9n >"$guests/initrd-$1.gz.new"
    gzip -t "$guests/initrd-$1.gz.new" || fail "initrd-$1.gz did not verify"
    mv "$guests/initrd-$1.gz.new" "$guests/initrd-$1.gz"
    rm -rf "$root"
}

verify_kernel() {
    # Boot protocol: 0xAA55 at 0x1FE, "HdrS" at 0x202.
    [ "$(dd if="$1" bs=1 skip=514 count=4 2>/dev/null)" = HdrS ] || fail "$1 is no Linux kernel"
}

files_present() {
    for file in $needed; do
        [ -s "$guests/$file" ] || return 1
    done
    (cd "$guests" && sha256sum --status -c versions.txt 2>/dev/null)
}

# have_lists: both architectures can be looked up, whatever else is missing.
have_lists() {
    [ -n "$(find "$private/lists" -name '*binary-amd64_Packages*')" ] &&
        [ -n "$(find "$private/lists" -name '*binary-i386_Packages*')" ]
}

# The lists are good for a day. A mirror in the middle of its own update answers with files that do
# not fit together: tried again, and then done without, as long as there is one list to choose from.
update_lists() {
    [ "$refresh" = yes ] || [ -z "$(find "$private/updated" -mtime -1 2>/dev/null)" ] || return 0
    for pause in 0 3 6; do
        sleep "$pause"
        # apt-get exits 0 when a mirror cannot be reached and says so with a warning.
        if apt-get -qq update >"$cache/update.log" 2>&1 &&
            ! grep -q '^[WE]:.*Failed to fetch' "$cache/update.log" && have_lists; then
            touch "$private/updated"
            return 0
        fi
    done
    why=$(grep -m 1 '^[WE]:' "$cache/update.log" || echo "no list arrived")
    have_lists || fail "cannot read the package lists (no network?): $why"
    echo "get_guests: going on with incomplete package lists: $why" >&2
    touch "$private/updated"
}

# get_file PACKAGE PATTERN TARGET
get_file() {
    deb=$(fetch "$1:amd64")
    unpack_file "$deb" "$2" "$3"
    grep -qx "# $deb" "$cache/packages.txt" || echo "# $deb" >>"$cache/packages.txt"
}

# One folder of the kernel's source, what its files include by path, and nothing else.
get_selftests() {
    get_file linux-source-6.1 './usr/src/linux-source-6.1.tar.xz' "$cache/source.tar.xz"
    mkdir -p "$cache/source"
    tar -xf "$cache/source.tar.xz" -C "$cache/source" --strip-components 1 \
        linux-source-6.1/tools/testing/selftests/x86 \
        linux-source-6.1/tools/testing/selftests/kselftest.h \
        linux-source-6.1/arch/x86/include/asm/desc_defs.h || fail "no self-tests in the source"
    tar -cf "$guests/selftests.tar" -C "$cache/source" --sort=name --mtime=@0 --owner=0 --group=0 \
        arch tools
    rm -rf "$cache/source" "$cache/source.tar.xz"
}

get_others() {
    get_file xen-hypervisor-4.17-amd64 './boot/xen-*.gz' "$cache/xen.gz"
    gzip -dc "$cache/xen.gz" >"$guests/xen"
    get_file memtest86+ './boot/memtest86+x64.bin' "$guests/memtest-x64"
    get_file memtest86+ './boot/memtest86+ia32.bin' "$guests/memtest-ia32"
    get_file ovmf './usr/share/ovmf/OVMF.fd' "$guests/ovmf"
    get_file u-boot-qemu './usr/lib/u-boot/qemu-x86_64/u-boot.rom' "$guests/u-boot"
    get_selftests
}

get_packages() {
    echo "get_guests: fetching Debian kernels and busybox into $guests"
    make_apt_configuration
    update_lists
    : >"$cache/packages.txt"
    for flavour in amd64 686-pae 686; do
        package=$(newest_kernel "$flavour")
        [ -n "$package" ] || fail "the package archive has no 6.1 kernel of flavour $flavour"
        case $flavour in
        amd64) architecture=amd64 ;;
        *) architecture=i386 ;;
        esac
        deb=$(fetch "$package:$architecture")
        unpack_file "$deb" './boot/vmlinuz-*' "$guests/vmlinuz-$flavour"
        verify_kernel "$guests/vmlinuz-$flavour"
        echo "# $deb" >>"$cache/packages.txt"
    done
    for architecture in amd64 i386; do
        deb=$(fetch "busybox-static:$architecture")
        unpack_file "$deb" './bin/busybox' "$guests/busybox-$architecture"
        echo "# $deb" >>"$cache/packages.txt"
    done
    case $needed in
    *$others) get_others ;;
    esac
    # shellcheck disable=SC2086
    (cd "$guests" && cat cache/packages.txt && sha256sum $needed) \
        >"$cache/versions.new"
    mv "$cache/versions.new" "$guests/versions.txt"
    rm -rf "$cache/deb"
}

if [ "$refresh" = yes ] || ! files_present; then
    get_packages
    files_present || fail "the files in $guests do not verify"
fi
for architecture in amd64 i386; do
    initrd=$guests/initrd-$architecture.gz
    if [ ! -s "$initrd" ] || [ "$here/guest_init.sh" -nt "$initrd" ] ||
        [ "$guests/busybox-$architecture" -nt "$initrd" ]; then
        make_initrd "$architecture"
    fi
done
echo "get_guests: ready in $guests: $(sed -n 's/^# linux-image-\([^_]*\)-unsigned_.*/\1/p' \
    "$guests/versions.txt" | tr '\n' ' ')"
