#!/bin/sh
# image.sh RUNNER EXIT_CODE TEXT OPTION...: "RUNNER run OPTION..." starts a test image that needs no
# system, which must print TEXT and end with EXIT_CODE (33 is PASS) within five minutes. VEDETTE
# names another runner. Exit status 77: the runner is not built, the test is skipped.
set -eu
[ $# -ge 4 ] || {
    echo "image: RUNNER, EXIT_CODE, TEXT and options are needed" >&2
    exit 1
}
runner=${VEDETTE:-$1} wanted=$2 text=$3
shift 3
if [ ! -x "$runner" ]; then
    [ -z "${VEDETTE:-}" ] || {
        echo "image: there is no program $VEDETTE" >&2
        exit 1
    }
    echo "skipped: $runner is not built"
    exit 77
fi
status=0
output=$(timeout 300 "$runner" run "$@" --display none --isa-debug-exit </dev/null 2>&1) ||
    status=$?
printf '%s\n' "$output"
if [ "$status" != "$wanted" ]; then
    echo "image: exit code $status, expected $wanted"
    exit 1
fi
case $output in
*"$text"*) ;;
*)
    echo "image: no '$text' in the output"
    exit 1
    ;;
esac
