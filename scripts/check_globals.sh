#!/bin/sh
# check_globals.sh BUILD_DIRECTORY [ROOT]: no mutable file-scope (or function-static) state in the
# libraries: two machines in one process must not meet. Exceptions with reasons: check_globals.allow,
# lines "OBJECT SYMBOL reason".
set -eu
build=$1
root=${2:-$(dirname -- "$0")/..}
allow=$root/scripts/check_globals.allow
libraries=$(find "$build/src" -name 'lib*.a' | LC_ALL=C sort)
[ -n "$libraries" ] || {
    echo "check_globals: no libraries in $build/src"
    exit 1
}
# Read-only data with relocations (.data.rel.ro) is constant after start-up.
# shellcheck disable=SC2086 # a list of files
objdump -t $libraries | awk -v allow="$allow" '
BEGIN {
    while ((getline line < allow) > 0)
        if (line !~ /^#/ && split(line, word, " ") >= 3)
            allowed[word[1], word[2]] = 1
}
/file format/ { object = $1; sub(/:$/, "", object); sub(/\.c\.o$/, ".c", object) }
/ O / || /\*COM\*/ {
    section = ""
    for (i = 1; i <= NF; i++)
        if ($i ~ /^\.(data|bss|tdata|tbss)/ || $i == "*COM*")
            section = $i
    if (section == "" || section ~ /^\.data\.rel\.ro/)
        next
    name = $NF
    seen++
    sub(/\.[0-9]+$/, "", name)
    if ((object, name) in allowed) {
        used[object, name] = 1
        next
    }
    printf "%s: %s is mutable state (%s)\n", object, name, section
    bad = 1
}
END {
    for (pair in allowed)
        if (!(pair in used)) {
            split(pair, word, SUBSEP)
            printf "check_globals.allow: %s %s no longer exists\n", word[1], word[2]
            bad = 1
        }
    exit bad
}' && echo "check_globals: ok"
