#!/bin/sh
# check_light.sh BUILD_DIRECTORY [ROOT]: objects compiled with -mgeneral-regs-only run while the
# guest's vector state is in the host's registers, so they may call nothing outside Vedette that
# could use vectors: each undefined symbol is defined in a Vedette library or listed with a reason
# in check_light.allow, lines "OBJECT SYMBOL reason" (OBJECT like blocks.c, or * for any).
set -eu
build=$1
root=${2:-$(dirname -- "$0")/..}
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
grep -o '"command": "[^"]*' "$build/compile_commands.json" | grep -e '-mgeneral-regs-only' |
    sed -n 's/.* -o \([^ ]*\).*/\1/p' | LC_ALL=C sort -u >"$work/objects"
[ -s "$work/objects" ] || {
    echo "check_light: $build compiles nothing with -mgeneral-regs-only"
    exit 1
}
libraries=$(find "$build/src" -name 'lib*.a')
# shellcheck disable=SC2086 # a list of files
nm --defined-only -g $libraries 2>/dev/null | awk 'NF == 3 { print $3 }' | LC_ALL=C sort -u \
    >"$work/ours"
bad=0
while read -r object; do
    [ -f "$build/$object" ] || {
        echo "check_light: $object is not built"
        bad=1
        continue
    }
    nm -u "$build/$object" | awk '{ print $NF }' | LC_ALL=C sort -u >"$work/undefined"
    name=$(basename "$object" .o)
    for symbol in $(LC_ALL=C comm -23 "$work/undefined" "$work/ours"); do
        grep -qE "^(\\*|$name) $symbol ." "$root/scripts/check_light.allow" || {
            echo "$object calls $symbol"
            bad=1
        }
    done
done <"$work/objects"
[ "$bad" = 0 ] && echo "check_light: $(wc -l <"$work/objects") objects ok"
exit "$bad"
