#!/bin/sh
# busybox's wget with a time limit: Debian builds it without one, and there `-T` ends in a crash.
# The limit is for the download as a whole, not for each read of it.
limit=""
left=$#
while [ "$left" -gt 0 ]; do
    argument="$1"
    shift
    left=$((left - 1))
    case "$argument" in
    --timeout=* | -T?*)
        limit="${argument#--timeout=}"
        limit="${limit#-T}"
        ;;
    --timeout | -T | -[cqS]T | -[cqS][cqS]T)
        [ "$left" -gt 0 ] || exec busybox wget
        flags="${argument%T}"
        case "$flags" in -[cqS]*) set -- "$@" "$flags" ;; esac
        limit="$1"
        shift
        left=$((left - 1))
        ;;
    *) set -- "$@" "$argument" ;;
    esac
done
[ -n "$limit" ] || exec busybox wget "$@"
busybox timeout "$limit" busybox wget "$@"
status=$?
# Ended by the signal of `timeout`.
[ "$status" -eq 143 ] || exit "$status"
echo "wget: download timed out" >&2
exit 1
