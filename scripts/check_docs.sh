#!/bin/sh
# check_docs.sh [ROOT]: files and folders that the documents name exist. A name is a `quoted` word
# with a slash or a known ending, or the target of a link; what only a build or a download makes
# (build*/, guests/) is left out. A page docs/MODULE.md may name files of src/MODULE by themselves.
set -eu
root=${1:-$(dirname -- "$0")/..}
cd "$root"
bad=0
for document in *.md docs/*.md; do
    [ -f "$document" ] || continue
    folder=$(dirname "$document")
    names=$({
        grep -o '`[^` ]*`' "$document" | tr -d '`' || true
        grep -o '](\([^)#]*\)' "$document" | cut -c 3- || true
    } | grep -E '^[A-Za-z0-9_.][A-Za-z0-9_./-]*$' | grep -E '/|\.(md|c|h|S|sh|txt|json|svg)$' |
        grep -vE '^(https?:|build|guests/|/)' | LC_ALL=C sort -u)
    for name in $names; do
        top=${name%%/*}
        # A path that starts in no folder of ours belongs to another project.
        [ "$top" = "$name" ] || [ -d "$top" ] || [ -d "src/$top" ] || continue
        if [ ! -e "$name" ] && [ ! -e "$folder/$name" ] && [ ! -e "src/$name" ] &&
            [ ! -e "src/$(basename "$document" .md)/$name" ]; then
            echo "$document: $name does not exist"
            bad=1
        fi
    done
done
[ "$bad" = 0 ] && echo "check_docs: ok"
exit "$bad"
