#!/usr/bin/env bash
#
# What a deployment costs the users of the production stack, in requests: a good canary, a bad one, a switch of colours
# and back, a restart of the shop's servers, a kill of haldane, a kill of the canary. Real containers, real load, half of
# it POST, nothing is ever sent twice. A request counts as failed if it got no answer, or an error that no bad canary
# gave itself. Beside them, what no deployment does: a reload and a restart of HAProxy, whose cost is printed alone.
set -euo pipefail

usage() {
    cat <<'TEXT'
usage: tests/deployment/loss.sh [--requests N] [--rate N] [--only NAME]...

  --requests N  at least so many in all (default 100000)
  --rate N      a second (default 300)
  --only NAME   of: promoted aborted restart haldane-killed canary-killed switch balancer; may be repeated

Builds what is missing on the engine of tests/deployment/engine.sh. HALDANE_BUILD names the build directory (default:
build), where the records stay, in deployment/. Prints a table and how long `up` took.
Exit codes: 0 nothing failed, 1 something did, 64 wrong usage.
TEXT
}

requests=100000 rate=300 only=()
while (($# > 0)); do
    case $1 in
        -h | --help)
            usage
            exit 0
            ;;
    esac
    if [[ ! $1 =~ ^--(requests|rate|only)$ || -z ${2:-} ]] || [[ $1 != --only && ! $2 =~ ^[1-9][0-9]{0,7}$ ]] ||
        [[ $1 == --only && ! $2 =~ ^(promoted|aborted|restart|haldane-killed|canary-killed|switch|balancer)$ ]]; then
        usage >&2
        exit 64
    fi
    case $1 in
        --requests) requests=$2 ;;
        --rate) rate=$2 ;;
        --only) only+=("$2") ;;
    esac
    shift 2
done

here=$(cd -- "$(dirname -- "$(readlink -f -- "${BASH_SOURCE[0]}")")" && pwd)
# shellcheck source=tests/deployment/lab.bash
source "$here/lab.bash"
deployment=$lab_source/deployment
table=()
beside=()
sent_all=0
failed_all=0
wrong=0
load_pid=''
counted=account

say() {
    printf '%s\n' "$*" >&2
}

bad() {
    say "WRONG: $*"
    wrong=$((wrong + 1))
}

wanted() {
    local name
    ((${#only[@]} > 0)) || return 0
    for name in "${only[@]}"; do
        [[ $name != "$1" ]] || return 0
    done
    return 1
}

finish() {
    local code=$?
    trap - EXIT
    trap '' INT TERM HUP
    [[ -z $load_pid ]] || kill -TERM "$load_pid" 2>/dev/null || true
    [[ -z $config ]] || stack down --volumes --yes >/dev/null 2>&1 || true
    exit "$code"
}
trap finish EXIT
trap 'exit 130' INT
trap 'exit 143' TERM HUP

# up: the time from nothing to all healthy, with the images there.
up() {
    local began ms
    {
        stack init
        stack build
        lab_versions
    } >>"$lab/stack.log" 2>&1
    began=${EPOCHREALTIME/./}
    stack up 2>>"$lab/stack.log" || {
        tail -n 20 "$lab/stack.log" >&2
        bad "the stack did not come up"
        exit 1
    }
    ms=$(((${EPOCHREALTIME/./} - began) / 1000))
    say "up to all healthy, strategy $1: $((ms / 1000)).$((ms % 1000 / 100)) s"
    ((ms < 90000)) || bad "up took longer than 90 s"
    # No deployment before all is well (the first alert has arrived), and without a backup whose restore was tried.
    "$deployment/health-check.sh" --wait 2m >>"$lab/stack.log" 2>&1 || bad "not healthy, see $lab/stack.log"
    "$deployment/backup.sh" create >>"$lab/stack.log" 2>&1 || bad "no backup could be made, see $lab/stack.log"
}

# row NAME: what the load generator saw, as a line of the table; sets due and failed. An answer that the bad version
# gave by itself is not the deployment's.
row() {
    local name=$1 line post own p50 p99 max
    line=$(jq -r --arg name "$name" '
        def errors: to_entries | map(select(.key | test("^5")) | .value) | add // 0;
        ((.versions["3.0.0"].status // {}) | (."500" // 0)) as $own
        | (.status | errors) as $errors
        | [.due, .methods.POST.due, .failed + $errors - $own, $own, .latency_ms.p50, .latency_ms.p99, .latency_ms.max]
        | @tsv' "$lab/$name.json")
    IFS=$'\t' read -r due post failed own p50 p99 max <<<"$line"
    printf -v row '| %s | %d | %d | %d | %d | %s / %s / %s |' "$name" "$due" "$post" "$failed" "$own" "$p50" "$p99" "$max"
}

account() {
    local name=$1
    row "$name"
    table+=("$row")
    sent_all=$((sent_all + due))
    failed_all=$((failed_all + failed))
    if ((failed > 0)); then
        bad "$name: $failed requests failed: $(jq -c '{failures, status, tracks: (.tracks | map_values(.status))}' "$lab/$name.json")"
    fi
}

# under_load NAME POST_SHARE COMMAND...: with two seconds of load before and after.
under_load() {
    local name=$1 post=$2 status=0
    shift 2
    say "$name"
    load_begin "$name" "$rate" --post-share "$post" --path / --path /items --path /items/7 --path /items/42
    sleep 2
    "$@" >>"$lab/$name.log" 2>&1 || status=$?
    sleep 2
    load_end || bad "$name: the load generator failed, see $lab/$name.load.log"
    "$counted" "$name"
    if ((status != 0)); then
        bad "$name did not go as it should, see $lab/$name.log"
        tail -n 5 "$lab/$name.log" >&2
    fi
}

# What is printed and not counted.
aside() {
    row "$1"
    beside+=("$row")
}

expect() {
    local code=$1 got=0
    shift
    "$@" || got=$?
    ((got == code)) || {
        say "exit code $got, not $code: $*"
        return 1
    }
}

version_in() {
    stack versions --format json | jq -r --arg slot "$1" '.[$slot] // .[$slot | ascii_upcase] // ""'
}

promoted() {
    expect 0 "$deployment/canary.sh" --version 2.0.0 --yes && [[ $(version_in stable) == 2.0.0 && $(lab_share) == 0 ]]
}

# Its smoke test would find it every second time; it is haldane that shall.
aborted() {
    expect 20 "$deployment/canary.sh" --version 3.0.0 --smoke true --yes && [[ $(version_in stable) != 3.0.0 && $(lab_share) == 0 ]]
}

# at_quarter COMMAND...: with the canary at 25 %, kept there by nobody but its lease.
at_quarter() {
    stack deploy canary 2.0.0 &&
        stack haldane begin /etc/haldane/policies/quarter.yaml --format json >"$lab/quarter.json" &&
        [[ $(lab_share) == 2500 ]] && sleep 3 && "$@"
}

kill_haldane() {
    kill -KILL "$(service_pid haldane)" && within 40 share_is 0 &&
        within 60 healthy haldane && stack stop canary
}

kill_canary() {
    kill -KILL "$(service_pid shop-canary-1)" "$(service_pid shop-canary-2)" && sleep 8 &&
        within 60 healthy shop-canary-1 && end_quarter
}

end_quarter() {
    stack haldane abort "$(jq -r .rollout "$lab/quarter.json")" --reason 'the test is over' && share_is 0 && stack stop canary
}

share_is() {
    [[ $(lab_share) == "$1" ]]
}

healthy() {
    [[ $(stack status --format json | jq -r --arg s "$1" '.services[] | select(.service == $s) | .state') == healthy ]]
}

switch() {
    expect 0 "$deployment/blue-green.sh" --version 2.0.0 --yes && [[ $(version_in live) == green ]] &&
        expect 0 "$deployment/blue-green.sh" --back --yes && [[ $(version_in live) == blue ]]
}

# Three of each, so that one lucky moment is not taken for the rule.
three_times() {
    "$@" && sleep 5 && "$@" && sleep 5 && "$@" && sleep 5
}

restart_balancer() {
    docker restart --time 70 "$(lab_container haproxy)" && within 60 healthy haproxy
}

idle() {
    sleep $((10 + (requests - sent_all) / rate))
}

"$here/engine.sh" start
eval "$("$here/engine.sh" env)"

if wanted promoted || wanted aborted || wanted restart || wanted haldane-killed || wanted canary-killed ||
    wanted balancer; then
    lab_make loss canary
    sed -e '/^steps:/,/^$/c steps:\n  - {weight: 25%, min: 10m, max: 20m}\n  - {weight: 100%, bake: 10m}\n' \
        "$lab/policies/canary.yaml" >"$lab/policies/quarter.yaml"
    up canary
    ! wanted promoted || under_load promoted 50% promoted
    ! wanted aborted || under_load aborted 50% aborted
    ! wanted restart || under_load restart 50% stack restart stable
    ! wanted haldane-killed || under_load haldane-killed 50% at_quarter kill_haldane
    # Only what may be sent twice: what a killed process had received and not answered is lost to everybody.
    ! wanted canary-killed || under_load canary-killed 0% at_quarter kill_canary
    if wanted balancer; then
        counted=aside
        under_load 'three reloads of HAProxy' 50% three_times stack reload haproxy
        under_load 'three restarts of HAProxy' 50% three_times restart_balancer
        counted=account
    fi
    ((sent_all >= requests || ${#only[@]} > 0)) || wanted_more=yes
    stack down --volumes --yes >>"$lab/stack.log" 2>&1
fi
if wanted switch; then
    lab_make colours blue-green
    up blue-green
    under_load switch 50% switch
    [[ -z ${wanted_more:-} ]] || ((sent_all >= requests)) || under_load 'nothing at all' 50% idle
    stack down --volumes --yes >>"$lab/stack.log" 2>&1
fi
config=''

printf '\n| what | requests | of them POST | failed | failed by the bad version itself | p50 / p99 / max ms |\n'
printf '| --- | --- | --- | --- | --- | --- |\n'
printf '%s\n' "${table[@]}"
if ((${#beside[@]} > 0)); then
    printf '\nBeside them, what no deployment does:\n\n| what | requests | of them POST | failed | - | p50 / p99 / max ms |\n'
    printf '| --- | --- | --- | --- | --- | --- |\n'
    printf '%s\n' "${beside[@]}"
fi
printf '\n%d of %d requests failed\n' "$failed_all" "$sent_all"
((failed_all == 0 && wrong == 0))
