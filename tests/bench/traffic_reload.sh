#!/usr/bin/env bash
# A program for `driver: exec` that moves HAProxy's traffic by rewriting the map and reloading, for traffic.sh: so that
# what a reload costs can be seen beside the drivers that need none.
#
# usage: traffic_reload.sh FOLDER      with share.map, admin.sock and haproxy.pid, the master process's, in it
set -euo pipefail

folder=${1:?usage: traffic_reload.sh FOLDER}

ask() {
    printf '%s\n' "$1" | socat - "UNIX-CONNECT:$folder/admin.sock" 2>/dev/null
}

share() {
    ask "show map $folder/share.map" | sed -n 's/^[^ ]* canary //p'
}

worker() {
    ask 'show info' | sed -n 's/^Pid: //p'
}

# A reload says nothing of its outcome: it is over when another worker answers, with the share that was asked for.
set_share() {
    local before try
    before=$(worker)
    printf 'canary %d\nepoch %d\nexpires 9999999999\n' "$HALDANE_SHARE_BP" "$HALDANE_EPOCH" >"$folder/share.map.new"
    mv "$folder/share.map.new" "$folder/share.map"
    kill -USR2 "$(cat "$folder/haproxy.pid")"
    for ((try = 0; try < 500; try++)); do
        [[ $(worker) != "$before" && $(share) == "$HALDANE_SHARE_BP" ]] && return 0
        sleep 0.01
    done
    echo 'HAProxy shows no worker with the new share' >&2
    exit 13
}

case $HALDANE_OP in
    caps)
        echo '{"ok":true,"caps":["readback","persist"]}'
        exit 0
        ;;
    get) ;;
    set) set_share ;;
    *) exit 15 ;;
esac
printf '{"ok":true,"share_bp":%d}\n' "$(share)"
