# shellcheck shell=bash
# shellcheck disable=SC2154 # STATE_DIR and SHOP_VERSION are settings
#
# Which version is where: the memory of the deployments. $STATE_DIR/versions holds lines NAME=value:
#
#   STABLE CANARY BLUE GREEN   the version that runs in a slot; a slot never deployed has no line
#   LIVE                       the slot that has the traffic: stable, blue or green
#   LAST_GOOD                  the version that was last promoted, or deployed first
#   PREVIOUS_GOOD              the one before it; gone after a return, which has shown that what came last was not good
#
# Memory and no more: who has the traffic is what the balancer says. The file is replaced in one step, under a lock, so
# that a crash leaves the old one or the new one.
#
#   version_of SLOT            prints it; fails if the slot was never deployed
#   record_version SLOT VERSION
#   last_good, previous_good   print it; fail if there is none
#   record_good VERSION
#   record_return VERSION      one has gone back to it: what was good last is not good any more
#   live_slot                  prints it; fails if nobody has recorded one
#   record_live SLOT
#   versions_export            exports SHOP_STABLE_VERSION and its like for compose
#   versions_json              prints them all as one JSON object
#
# Those that write return 65 for what is no slot or version, and 74 if the file cannot be written.

# What a container engine takes for a tag.
is_version() {
    [[ $1 =~ ^[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}$ ]]
}

is_slot() {
    [[ $1 == stable || $1 == canary || $1 == blue || $1 == green ]]
}

# versions_read NAME: prints the value; fails if there is none.
versions_read() {
    local line
    [[ -r $STATE_DIR/versions ]] || return 1
    while IFS= read -r line || [[ -n $line ]]; do
        [[ $line == "$1="?* ]] || continue
        printf '%s\n' "${line#*=}"
        return 0
    done <"$STATE_DIR/versions"
    return 1
}

# versions_write NAME VALUE [NAME VALUE]...: all in one step. An empty value: no such line.
versions_write() (
    mkdir -p -- "$STATE_DIR" 2>/dev/null || return 74
    { exec 8>>"$STATE_DIR/.versions.lock"; } 2>/dev/null || return 74
    flock -w 10 8 || return 74
    declare -A values=()
    while IFS='=' read -r name value || [[ -n $name ]]; do
        [[ -z $name ]] || values[$name]=$value
    done < <(cat -- "$STATE_DIR/versions" 2>/dev/null)
    while (($# > 0)); do
        values[$1]=$2
        shift 2
    done
    {
        for name in "${!values[@]}"; do
            [[ -z ${values[$name]} ]] || printf '%s=%s\n' "$name" "${values[$name]}"
        done | sort >"$STATE_DIR/.versions.new" && sync -- "$STATE_DIR/.versions.new" &&
            mv -f -- "$STATE_DIR/.versions.new" "$STATE_DIR/versions"
    } 2>/dev/null || return 74
)

version_of() {
    versions_read "${1^^}"
}

record_version() {
    is_slot "$1" && is_version "$2" || return 65
    versions_write "${1^^}" "$2" || return
    # What comes first has nothing before it to be compared with: it is what one can go back to.
    if [[ $1 != canary ]] && ! last_good >/dev/null; then
        record_good "$2"
    fi
}

last_good() {
    versions_read LAST_GOOD
}

previous_good() {
    versions_read PREVIOUS_GOOD
}

record_good() {
    local before
    is_version "$1" || return 65
    before=$(last_good) || before=''
    if [[ -z $before || $before == "$1" ]]; then
        versions_write LAST_GOOD "$1"
    else
        versions_write LAST_GOOD "$1" PREVIOUS_GOOD "$before"
    fi
}

record_return() {
    local left before
    is_version "$1" || return 65
    left=$(last_good) || left=''
    before=$(previous_good) || before=''
    [[ $before != "$1" && $before != "$left" ]] || before=''
    versions_write LAST_GOOD "$1" PREVIOUS_GOOD "$before"
}

live_slot() {
    versions_read LIVE
}

record_live() {
    is_slot "$1" && [[ $1 != canary ]] || return 65
    versions_write LIVE "$1"
}

versions_export() {
    local slot version
    for slot in STABLE CANARY BLUE GREEN; do
        version=$(versions_read "$slot") || version=${SHOP_VERSION:-}
        export "SHOP_${slot}_VERSION=$version"
    done
}

versions_json() {
    local text=''
    [[ ! -r ${STATE_DIR:-}/versions ]] || text=$(<"$STATE_DIR/versions")
    jq -cn --arg text "$text" '[$text | split("\n")[] | capture("^(?<key>[A-Z_]+)=(?<value>.+)$")
        | {key: (.key | ascii_downcase), value}] | from_entries'
}
