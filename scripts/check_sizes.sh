#!/bin/sh
# check_sizes.sh [ROOT]: .c files up to 1000 lines, headers up to 300, functions up to 120. Flat
# tables are exempt: check_sizes.allow, lines "FILE reason".
set -eu
root=${1:-$(dirname -- "$0")/..}
cd "$root"
find src include tests bench -name '*.[ch]' | LC_ALL=C sort | xargs awk '
BEGIN {
    while ((getline line < "scripts/check_sizes.allow") > 0)
        if (line !~ /^#/ && split(line, word, " ") >= 2)
            allowed[word[1]] = 1
}
function check_file() {
    limit = name ~ /\.h$/ ? 300 : 1000
    if (name != "" && lines > limit && !(name in allowed)) {
        printf "%s: %d lines, the limit is %d\n", name, lines, limit
        bad = 1
    }
}
FNR == 1 { check_file(); name = FILENAME; inside = 0 }
{ lines = FNR }
/^{/ { inside = 1; start = FNR; next }
/^}/ {
    if (inside && FNR - start - 1 > 120) {
        printf "%s:%d: function of %d lines, the limit is 120\n", FILENAME, start, FNR - start - 1
        bad = 1
    }
    inside = 0
}
END { check_file(); exit bad }
' && echo "check_sizes: ok"
