#!/bin/sh
# Is the guard at work? The store must answer, and the guard, which is the first child of the engine's init, must be
# neither stopped nor dead.
set -eu
haldane list --format json >/dev/null
for stat in /proc/[0-9]*/stat; do
    case $(sed 's/^[0-9]* (\(.*\)) \(.\) \([0-9]*\) .*/\1 \2 \3/' "$stat" 2>/dev/null) in
        'haldane '[RSDI]' 1') exit 0 ;;
    esac
done
echo 'the guard does not run' >&2
exit 1
