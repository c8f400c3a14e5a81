#!/bin/sh
# check_words.sh [ROOT]: the tree names no path of the machine it was written on, no package mirror
# and nothing about how the work was organised. Words of one's own trade are excused by
# check_words.allow, lines "FILE WORD reason".
set -eu
root=${1:-$(dirname -- "$0")/..}
cd "$root"
# Written in pieces, so that this file does not find itself.
paths="/wo""rk/|/tmp/bui""ld|/ro""ot/"
hosts="deb\.deb""ian\.org|snapshot\.deb""ian|registry\.npm|pypi\.o""rg|crates\.i""o"
words="\<help""er session|\<issue #|\<iss""ues? [0-9]|\<cla""ude|\<anthr""opic|\<chat""gpt|\<workpl""ace"
git ls-files -co --exclude-standard 2>/dev/null | grep -v '^scripts/check_words.sh$' | LC_ALL=C sort |
    xargs grep -nIiE "$paths|$hosts|$words" -- /dev/null 2>/dev/null | awk '
BEGIN {
    while ((getline line < "scripts/check_words.allow") > 0)
        if (line !~ /^#/ && split(line, word, " ") >= 3)
            allowed[word[1]] = allowed[word[1]] " " word[2]
}
{
    file = $0
    sub(/:.*/, "", file)
    count = split(allowed[file], word, " ")
    for (i = 1; i <= count; i++)
        if (index($0, word[i]))
            next
    print
    bad = 1
}
END { exit bad }' && echo "check_words: ok"
