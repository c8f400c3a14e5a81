#!/bin/sh
# check_layers.sh [ROOT]: every #include "folder/file.h" under src/ obeys the table of layers in
# ARCHITECTURE.md, and nobody includes another folder's private header.
set -eu
root=${1:-$(dirname -- "$0")/..}
cd "$root"

find src -name '*.[chS]' | LC_ALL=C sort | xargs awk '
BEGIN {
    allow["base"] = ""
    allow["cpu"] = "base"
    allow["decoder"] = "base"
    allow["codecache"] = "base"
    allow["display"] = "base"
    allow["hostio"] = "base"
    allow["memory"] = "base cpu"
    allow["prescan"] = "base decoder"
    allow["translator"] = "base cpu decoder prescan"
    allow["engine"] = "base cpu memory"
    allow["engine/kvm"] = "base cpu memory engine"
    allow["engine/bt"] = "base cpu decoder codecache memory prescan translator engine"
    allow["sched"] = "base engine"
    allow["devices"] = "base memory sched display hostio"
    allow["machine"] = "base cpu memory engine sched display hostio devices"
    allow["api"] = "base cpu decoder codecache display hostio memory prescan translator engine " \
        "engine/bt engine/kvm sched devices machine vedette"
    allow["cli"] = "vedette"
    # One header that crosses a layer on purpose: the decoder filters by the CPUID feature enum.
    exception["decoder", "cpu/cpuid.h"] = 1
}
FNR == 1 {
    folder = FILENAME
    sub(/^src\//, "", folder)
    if (folder ~ /^engine\/(bt|kvm)\//)
        folder = substr(folder, 1, index(substr(folder, 8), "/") + 6)
    else
        sub(/\/.*/, "", folder)
    if (!(folder in allow)) {
        printf "%s: folder %s is not in the table of layers\n", FILENAME, folder
        bad = 1
    }
}
/^[ \t]*#[ \t]*include[ \t]*"/ {
    split($0, part, "\"")
    header = part[2]
    if (header !~ /\//)
        next # a file beside it
    target = header
    if (target ~ /^engine\/(bt|kvm)\//)
        target = substr(target, 1, index(substr(target, 8), "/") + 6)
    else
        sub(/\/.*/, "", target)
    if (target == folder || (folder, header) in exception)
        next
    if (header ~ /_(internal|private)\.h$/) {
        printf "%s:%d: %s is private to its folder\n", FILENAME, FNR, header
        bad = 1
    }
    if (index(" " allow[folder] " ", " " target " ") == 0) {
        printf "%s:%d: %s may not include %s\n", FILENAME, FNR, folder, header
        bad = 1
    }
}
END { exit bad }
' && echo "check_layers: ok"
