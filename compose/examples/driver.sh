#!/bin/sh
#
# A driver for `driver: exec` in POSIX sh, as an example to begin with: HAProxy, with the share in a map. What it is
# asked comes in HALDANE_OP and its sisters, so nothing has to read JSON; docs/traffic.md describes the protocol.
#
#   traffic:
#     driver: exec
#     command: [/etc/haldane/driver.sh, /run/haproxy/admin.sock, /etc/haproxy/maps/share.map,
#               be_stable/stable1, be_canary/canary1]
#
# The map holds `canary` (basis points), `epoch` and `expires` (Unix seconds, which HAProxy compares with its clock).
# The file is written before the running HAProxy is changed, so a restart finds the new share. Needs socat and flock.
#
# File descriptor 3 is haldane's lock: it is held as long as anything lives that this script has started. Leave it open,
# use others for files of your own, and hand it to no daemon.
set -eu

socket=${1:?usage: driver.sh SOCKET MAP STABLE CANARY}
map=${2:?}
stable=${3:?}
canary=${4:?}
never=9999999999

fail() {
    code=$1
    shift
    printf '%s\n' "$*" >&2
    exit "$code"
}

# ask COMMAND: the answer of HAProxy's socket. UNIX-CONNECT never makes a file where the socket should be.
ask() {
    printf '%s\n' "$1" | socat -t 5 - "UNIX-CONNECT:$socket"
}

# do_it COMMAND: one that answers nothing when it succeeds.
do_it() {
    said=$(ask "$1") || fail 10 "no answer from $socket to: $1"
    [ -z "$said" ] || fail 11 "HAProxy says to '$1': $said"
}

# Garbage in the map is 0, as HAProxy itself reads it.
number() {
    case $1 in
        '' | *[!0-9]*) echo 0 ;;
        *) echo "$1" ;;
    esac
}

# Sets share, epoch, expires (as the map has them), in_force and left.
read_map() {
    shown=$(ask "show map $map") || fail 10 "no answer from $socket"
    share=$(number "$(printf '%s\n' "$shown" | awk '$2 == "canary" { print $3 }')")
    epoch=$(number "$(printf '%s\n' "$shown" | awk '$2 == "epoch" { print $3 }')")
    expires=$(number "$(printf '%s\n' "$shown" | awk '$2 == "expires" { print $3 }')")
    [ -n "$shown" ] || fail 11 "HAProxy has no map $map, or it is empty"
    in_force=$share over=false left=null
    now=$(date +%s)
    if [ "$share" -gt 0 ] && [ "$expires" -le "$now" ]; then
        in_force=0 over=true left=0
    elif [ "$share" -gt 0 ] && [ "$expires" -lt "$never" ]; then
        left=$((expires - now))
    fi
}

# field SERVER COLUMN: of `show stat`, whose columns are found by name.
field() {
    printf '%s\n' "$stat" | awk -F , -v server="$1" -v column="$2" '
        NR == 1 { sub(/^# /, ""); for (i = 1; i <= NF; i++) at[$i] = i; next }
        $1 "/" $2 == server { print $at[column] }'
}

read_stat() {
    stat=$(ask 'show stat') || fail 10 "no answer from $socket"
    for server in "$stable" "$canary"; do
        [ -n "$(field "$server" status)" ] || fail 11 "HAProxy has no server $server"
    done
}

# A number: how many servers of the track are up.
up() {
    case $(field "$1" status) in
        UP*) echo 1 ;;
        *) echo 0 ;;
    esac
}

# Another number after HAProxy was restarted or reloaded.
generation() {
    info=$(ask 'show info') || fail 10 "no answer from $socket"
    printf '%s\n' "$info" | awk '$1 == "Pid:" { pid = $2 } $1 == "Start_time_sec:" { start = $2 }
        END { printf "%d\n", start * 100000 + pid % 100000 }'
}

print_state() {
    read_map
    read_stat
    printf '{"ok":true,"share_bp":%d,"epoch":%d,"expires":%d,"lease_left_s":%s,"lease_over":%s,' \
        "$in_force" "$epoch" "$expires" "$left" "$over"
    printf '"stable_up":%d,"canary_up":%d,"generation":%s,"detail":"%s %s bp"}\n' \
        "$(up "$stable")" "$(up "$canary")" "$(generation)" "$map" "$share"
}

# The file, so that it is whole at any moment and on the disk before HAProxy is changed.
write_file() {
    printf 'canary %d\nepoch %d\nexpires %d\n' "$1" "$2" "$3" >"$map.new" && sync "$map.new" && mv "$map.new" "$map" &&
        sync "$(dirname "$map")"
}

# All three keys at once: a version of the map that is filled in and then takes the place of the old one.
write_runtime() {
    said=$(ask "prepare map $map") || fail 10 "no answer from $socket"
    version=$(printf '%s\n' "$said" | sed -n 's/^New version created: \([0-9]*\)$/\1/p')
    [ -n "$version" ] || fail 11 "HAProxy says to 'prepare map $map': $said"
    do_it "add map @$version $map canary $1"
    do_it "add map @$version $map epoch $2"
    do_it "add map @$version $map expires $3"
    do_it "commit map @$version $map"
}

check_fence() {
    [ "$HALDANE_EPOCH" -gt 0 ] || return 0
    if [ "$HALDANE_EPOCH" -lt "$epoch" ] || { [ "$HALDANE_EPOCH" -eq "$epoch" ] && [ "$HALDANE_CLAIM" = 1 ]; }; then
        fail 12 "the map holds epoch $epoch, and this order has $HALDANE_EPOCH"
    fi
    epoch=$HALDANE_EPOCH
}

set_share() {
    wanted=$HALDANE_SHARE_BP
    if [ "$(number "$wanted")" != "$wanted" ] || [ "$wanted" -gt 10000 ]; then
        fail 11 "'$wanted' is no share; give 0 to 10000"
    fi
    read_map
    check_fence
    if [ "$wanted" -gt "$in_force" ]; then
        read_stat
        [ "$(up "$canary")" = 1 ] || fail 14 "$canary is not up, so its share is not raised"
    fi
    ends=0
    if [ "$wanted" -gt 0 ]; then
        ends=$never
        [ "$HALDANE_LEASE_S" -eq 0 ] || ends=$(($(date +%s) + HALDANE_LEASE_S))
    fi
    # Lowering goes on without the file, and is a failure all the same.
    kept=yes
    write_file "$wanted" "$epoch" "$ends" || kept=no
    [ "$kept" = yes ] || [ "$wanted" -lt "$in_force" ] || fail 11 "$map cannot be written"
    write_runtime "$wanted" "$epoch" "$ends"
    [ "$kept" = yes ] || fail 13 "HAProxy has the new share, but $map cannot be written: a restart would undo it"
    print_state
}

drain() {
    read_map
    read_stat
    case $HALDANE_TRACK in
        canary) server=$canary gets=$in_force ;;
        stable) server=$stable gets=$((10000 - in_force)) ;;
        *) fail 11 "'$HALDANE_TRACK' is no track" ;;
    esac
    [ "$gets" -eq 0 ] || fail 11 "$HALDANE_TRACK still gets $gets basis points of the traffic"
    printf '{"ok":true,"in_flight":%d}\n' "$(field "$server" scur)"
}

# arm SERVER: what HAProxy has counted for it.
arm() {
    printf '{"total":%d,"failed":%d,"connection_errors":%d,"retries":%d,"redispatches":%d,"in_flight":%d,' \
        "$(field "$1" stot)" "$(field "$1" hrsp_5xx)" "$(field "$1" econ)" "$(field "$1" wretr)" \
        "$(field "$1" wredis)" "$(field "$1" scur)"
    printf '"up":%d,"servers":1}' "$(up "$1")"
}

counters() {
    read_stat
    printf '{"ok":true,"generation":%s,"stable":%s,"canary":%s}\n' "$(generation)" "$(arm "$stable")" "$(arm "$canary")"
}

case ${HALDANE_OP:?haldane sets it} in
    caps) echo '{"ok":true,"caps":["readback","counters","lease","persist","cas","drain","no_reload"]}' ;;
    get) print_state ;;
    set)
        # Two orders at once would mix file and runtime. The kernel takes the lock from whoever dies.
        exec 9>"$map.lock"
        flock -w 5 9 || fail 10 "$map.lock is held by another driver"
        set_share
        ;;
    drain) drain ;;
    counters) counters ;;
    *) fail 15 "'$HALDANE_OP' is not known" ;;
esac
