#!/usr/bin/env bash
# What a change of the split costs those who use the site: requests lost, latency, and whether the share is the one that
# was asked for. Each balancer stands before real shops, is loaded below saturation, and is moved by `haldane traffic`
# alone. wrk and its like at full speed would hide what is lost: they keep no connection idle for a balancer to close
# under them. GET would hide it too: clients send it again. So half of the requests are POST, half use a connection of
# their own, they arrive at random, and the generator never sends anything twice.
set -euo pipefail
export LC_ALL=C

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
# shellcheck source=tests/bench/traffic_balancers.sh
source "$here/traffic_balancers.sh"

balancers=(haproxy-map haproxy-weights nginx-flags caddy-flags nginx-split haproxy-reload)

# Those are measured, and not held to anything.
is_reloading() {
    [[ $1 == nginx-split || $1 == haproxy-reload ]]
}

usage() {
    cat <<TEXT
usage: traffic.sh [REQUESTS [BALANCER...]]      (default 456000, all balancers)

Sends REQUESTS in all, in equal parts through each balancer: a quarter before, half while the share goes through
5 %, 25 %, 50 %, 100 % and 0 % and 20 times from one side to the other, a quarter after. Prints tables.
Balancers: ${balancers[*]}

Environment:
  HALDANE_BUILD  the build directory
  RATE           requests a second (default 1500)

Exit codes: 0 the balancers that do not reload lost nothing, no order was placed twice, and all shares were the ones
asked for; 1 otherwise; 64 wrong usage; 75 the machine was too slow for this rate, so that nothing is proved.
TEXT
}

fail() {
    printf 'traffic.sh: %s\n' "$1" >&2
    exit "${2:-1}"
}

now_us() {
    printf -v "$1" '%s' "${EPOCHREALTIME/./}"
}

# sleep_until MICROSECONDS
sleep_until() {
    local now
    now_us now
    (($1 <= now)) || sleep "$((($1 - now) / 1000000)).$(printf %06d $((($1 - now) % 1000000)))"
}

# What the shops have answered themselves: stable, canary, POST. A canary has the version v2.
counts() {
    curl -fsS --noproxy '*' "${shop_metrics[@]}" | awk '
        /^http_requests_total{version="v1"/ { stable += $2 }
        /^http_requests_total{version="v2"/ { canary += $2 }
        /^http_requests_total.*method="POST"/ { posts += $2 }
        END { printf "%d %d %d\n", stable, canary, posts }'
}

# start_load NAME [OPTIONS]: in the background, its result in NAME.json. It ends by itself, or by finish_load.
start_load() {
    launch load "$HALDANE_BUILD/compose/haldane-demo-load" --url "http://127.0.0.1:$web_port" --rate "$rate" \
        --arrivals poisson --post-share 50% --short-share 50% --json "$dir/$1.json" "${@:2}"
}

finish_load() {
    wait "${pids[load]}" || fail "the load generator failed: $(tail -n 3 "$dir/load.log")"
    unset 'pids[load]'
}

# quiet NAME: load for a quarter of the time, and nothing else.
quiet() {
    start_load "$1" --duration "$((quarter_us / 1000))ms"
    finish_load
}

# change ARGUMENTS: of `haldane traffic`; how long the command took is written down.
change() {
    local from till
    now_us from
    "$haldane" traffic "$@" "$dir/policy.yaml" >"$dir/change.log" 2>&1 ||
        fail "$name: haldane traffic $*: $(cat "$dir/change.log")"
    now_us till
    printf '%d\n' $((till - from)) >>"$dir/changes"
}

# step PERCENT END: the share, and what the shops saw of it until END. What was under way before has been answered by
# the time of the first count.
step() {
    local before after
    change set "$1%"
    sleep 0.1
    before=$(counts)
    sleep 0.1
    sleep_until "$2"
    after=$(counts)
    printf '%s %s %s\n' "$1" "$before" "$after" >>"$dir/steps"
}

# Five steps and twenty switches, each with as much time as the others of its kind; late ones follow at once.
changes() {
    local start share before i=0
    now_us start
    for share in 5 25 50 100 0; do
        step "$share" $((start + ++i * quarter_us / 5))
    done
    before=$(counts)
    for ((i = 0; i < 20; i++)); do
        change switch "$( ((i % 2)) && echo stable || echo canary)"
        sleep_until $((start + quarter_us + (i + 1) * quarter_us / 20))
    done
    printf '%s %s\n' "$before" "$(counts)" >"$dir/switches"
}

measure() {
    local before after reloads=false
    ! is_reloading "$name" || reloads=true
    # Connections, caches and pages of memory are there before anything is counted.
    start_load warm --duration 1s
    finish_load
    before=$(counts)
    quiet before
    start_load during
    changes
    kill -TERM "${pids[load]}"
    finish_load
    quiet after
    after=$(counts)
    jq -n --arg name "$name" --argjson reloads "$reloads" --arg seen "$before $after" \
        --rawfile steps "$dir/steps" --rawfile switches "$dir/switches" --rawfile changes "$dir/changes" \
        --slurpfile before "$dir/before.json" --slurpfile during "$dir/during.json" \
        --slurpfile after "$dir/after.json" -f "$here/traffic_result.jq" >"$work/$name.json"
    jq -r '"\(.name): \(.failed) of \(.requests) failed"' "$work/$name.json" >&2
}

run() {
    name=$1
    dir=$work/$name
    mkdir "$dir"
    read -r web_port ops_port stable1_port stable2_port canary1_port < <("$here/../free_ports" 5)
    start_shops
    "start_${name//-/_}"
    wait_http balancer "http://127.0.0.1:$web_port/readyz"
    change stable
    rm "$dir/changes"
    measure
    stop_all
}

read_arguments() {
    case ${1:-} in
        -h | --help)
            usage
            exit 0
            ;;
    esac
    requests=${1:-456000}
    rate=${RATE:-1500}
    [[ $requests =~ ^[1-9][0-9]*$ && $rate =~ ^[1-9][0-9]*$ ]] || {
        usage >&2
        exit 64
    }
    local name known="${balancers[*]}"
    (($# < 2)) || balancers=("${@:2}")
    for name in "${balancers[@]}"; do
        [[ " $known " == *" $name "* ]] || fail "there is no balancer $name; see --help" 64
    done
    : "${HALDANE_BUILD:?HALDANE_BUILD must name the build directory}"
    haldane=$HALDANE_BUILD/analyzer/cli/haldane
    quarter_us=$((requests * 1000000 / rate / ${#balancers[@]} / 4))
}

read_arguments "$@"
need curl haproxy jq nginx caddy socat python3
work=$(mktemp -d "${TMPDIR:-/tmp}/haldane-bench-XXXXXX")
trap 'stop_all; rm -rf -- "$work"' EXIT
for each in "${balancers[@]}"; do
    run "$each"
done
results=("${balancers[@]/#/$work/}")
jq -rs -f "$here/traffic_tables.jq" "${results[@]/%/.json}"
wrong=$(jq -r '.name as $name | .wrong[] | "traffic.sh: \($name): \(.)"' "${results[@]/%/.json}")
slow=$(jq -r 'select(.in_time | not) | "traffic.sh: \(.name): the machine was too slow for this rate; set RATE lower"' \
    "${results[@]/%/.json}")
[[ -z $wrong$slow ]] || printf '%s\n' ${wrong:+"$wrong"} ${slow:+"$slow"} >&2
[[ -z $wrong ]] || exit 1
[[ -z $slow ]] || exit 75
