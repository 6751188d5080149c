#!/usr/bin/env bash
#
# Kills haldane with SIGKILL at random moments of short rollouts, under load, behind the real HAProxy and Prometheus, and
# looks afterwards whether what docs/rollout.md promises has held: the split is what the record says or all on stable,
# the record is whole, no request was lost that the shops did not fail themselves, and it was all in time.
#
# Every run is made by its seed alone: the canary, what is killed and when, and what comes after it. Runs go in lanes
# side by side, each with a stack of its own; the even seeds meet HAProxy with weights, the odd ones with a map.
# shellcheck disable=SC2317 # functions are called by their names, through proof_poll and traps
set -euo pipefail

usage() {
    cat <<'TEXT'
usage: tests/bench/soak.sh [--runs N] [--seed N] [--lanes N] [--slack MS]

  --runs N    how many rollouts (default 210: now and then one ends before its kill comes)
  --seed N    the first one's seed (default 1); the others follow
  --lanes N   how many at a time (default 2)
  --slack MS  by how much later than promised a rollout may be taken up again (default 0), on a machine that is busy

HALDANE_BUILD names the build directory (default: build). A run that failed is told with its seed, and its files stay
in $HALDANE_BUILD/soak. Exit codes: 0 all held, 1 something did not, 64 wrong usage.
TEXT
}

runs=210 first=1 lanes=2 slack_ms=0
while (($# > 0)); do
    case $1 in
        -h | --help)
            usage
            exit 0
            ;;
    esac
    if [[ ! $1 =~ ^--(runs|seed|lanes|slack)$ || ! ${2:-} =~ ^[1-9][0-9]{0,5}$ ]]; then
        usage >&2
        exit 64
    fi
    case $1 in
        --runs) runs=$2 ;;
        --seed) first=$2 ;;
        --lanes) lanes=$2 ;;
        --slack) slack_ms=$2 ;;
    esac
    shift 2
done

source=$(cd -- "$(dirname -- "${BASH_SOURCE[0]}")/../.." && pwd)
HALDANE_BUILD=$(realpath -m -- "${HALDANE_BUILD:-$source/build}")
export HALDANE_BUILD PATH=$HALDANE_BUILD/analyzer/cli:$PATH:/usr/sbin
# shellcheck source=tests/integration/proof.bash
source "$source/tests/integration/proof.bash"
stack=$source/compose/demo/stack.sh
kept=$HALDANE_BUILD/soak

# The policy's times, in milliseconds.
unattended_ms=4000
lease_ms=$((unattended_ms - unattended_ms / 10))
recovery_ms=$((2000 + 1000)) # two seconds and a look

# ---- a lane: one stack, and rollouts behind it one after the other ----

lane_start() {
    read -r DEMO_WEB_PORT DEMO_OPS_PORT DEMO_STABLE1_PORT DEMO_STABLE2_PORT DEMO_CANARY1_PORT DEMO_PROMETHEUS_PORT < <(
        "$source/tests/free_ports" 6
    )
    export DEMO_WEB_PORT DEMO_OPS_PORT DEMO_STABLE1_PORT DEMO_STABLE2_PORT DEMO_CANARY1_PORT DEMO_PROMETHEUS_PORT
    DEMO_RUN=$(mktemp -d "${TMPDIR:-/tmp}/haldane-soak-XXXXXX")
    export DEMO_RUN DEMO_BALANCER=$1 DEMO_RATE=250 DEMO_LATENCY_MEDIAN=5ms
    "$stack" start
    "$stack" load
    write_policy
    proof_poll 30 has_history
    "$stack" stop load
}

lane_stop() {
    "$stack" stop || true
    rm -rf -- "$DEMO_RUN"
}

has_history() {
    curl -fsS --noproxy '*' "http://127.0.0.1:$DEMO_PROMETHEUS_PORT/api/v1/query" \
        --data-urlencode 'query=sum(increase(http_requests_total{track="stable"}[10s])) > 500' |
        jq -e '.data.result | length > 0'
}

# Steps of two seconds, whatever is proven: what is looked at here is not the judge.
write_policy() {
    local where='backend: shop, stable: [stable1, stable2], canary: [canary1]'
    [[ $DEMO_BALANCER == weights ]] || where="map: $DEMO_RUN/share.map,
    stable: [be_stable/stable1, be_stable/stable2], canary: [be_canary/canary1]"
    cat >"$DEMO_RUN/policy.yaml" <<YAML
version: 1
service: shop
prometheus: {url: "http://127.0.0.1:$DEMO_PROMETHEUS_PORT", timeout: 2s}
tracks: {stable: 'track="stable"', canary: 'track="canary"'}
look: 1s
settle: 1s
warmup: 0s
exchangeable: requests
traffic: {driver: haproxy, socket: $DEMO_RUN/haproxy.sock, $where, unattended: ${unattended_ms}ms}
steps: [{weight: 25%, min: 1s, max: 2s}, {weight: 50%, min: 1s, max: 2s}, {weight: 100%, bake: 1s}]
undecided: promote
deadline: 20s
metrics:
  - name: errors
    type: errors
    total: 'http_requests_total{job="shop",\$track}'
    failed: 'http_requests_total{job="shop",code=~"5..",\$track}'
    abort_above: {ratio: 1.1}
    promote_below: {ratio: 20, absolute: 40%}
  - name: latency
    type: latency
    histogram: 'http_request_duration_seconds_bucket{job="shop",\$track}'
    promote_below: {slower: 900%}
YAML
}

canary_is_up() {
    echo 'show servers state' | socat - "UNIX-CONNECT:$DEMO_RUN/haproxy.sock" |
        awk '$4 == "canary1" { up = $6 == 2 } END { exit !up }'
}

# It has no traffic, so that it need not drain.
start_canary() {
    local options=()
    case $1 in
        failing) options=(--failure-share 5%) ;;
        slow) options=(--latency-factor 4) ;;
    esac
    [[ ! -e $DEMO_RUN/canary1.pid ]] || kill -KILL "$(cat "$DEMO_RUN/canary1.pid")" 2>/dev/null || true
    "$stack" canary "${options[@]}"
    proof_poll 10 canary_is_up
}

# ---- one run ----

pick() {
    local words=("$@")
    echo "${words[RANDOM % $#]}"
}

# What the seed says: the canary, who drives, what comes afterwards, and the moment of the kill.
plan_run() {
    RANDOM=$1
    canary=$(pick healthy healthy failing slow)
    drive=$(pick rollout advance)
    after=$(pick nobody resume advance)
    guard_too=$(pick no yes)
    [[ $after == nobody && $DEMO_BALANCER == map ]] || guard_too=no
    moment=$(pick start begun verdict verdict intent intent intent step step "rolling back")
    [[ $canary == healthy || $moment != step ]] || moment=begun
    [[ $canary != healthy || $moment != "rolling back" ]] || moment=intent
    count=1
    case $moment in
        start) offset_us=$((RANDOM % 400 * 1000)) ;;
        intent) count=$((1 + RANDOM % 3)) offset_us=$((RANDOM % 8000)) ;;
        verdict) count=$((1 + RANDOM % 4)) offset_us=$((RANDOM % 30000)) ;;
        "rolling back") offset_us=$((RANDOM % 8000)) ;;
        step) count=$((1 + RANDOM % 2)) offset_us=$((RANDOM % 1500 * 1000)) ;;
        *) offset_us=$((RANDOM % 1500 * 1000)) ;;
    esac
    # A moment may never come: an intent is there for milliseconds only, and a bad canary does not get far.
    patience_ms=$((500 + RANDOM % 2500))
    [[ $canary != healthy ]] || patience_ms=$((5000 + RANDOM % 5000))
}

newest_id() {
    proof_sql 'SELECT id FROM rollouts ORDER BY seq DESC LIMIT 1' 2>/dev/null || true
}

is_live() {
    [[ -n $(proof_sql "SELECT 1 FROM rollouts WHERE state IN ('stepping', 'held', 'paused', 'rolling_back')" 2>/dev/null) ]]
}

has_ended() {
    ! is_live
}

# advance_to_end ID: as a script would call it. Each call's pid is written down for whoever kills it.
advance_to_end() {
    local code try
    for ((try = 0; try < 60; try++)); do
        haldane advance "$1" >>"$run/haldane.log" 2>&1 &
        printf '%s\n%s\n' "$BASHPID" "$!" >"$run/pids"
        code=0
        wait "$!" || code=$?
        case $code in
            0 | 20) return 0 ;;
            10 | 69 | 75) sleep 0.7 ;;
            *) return "$code" ;;
        esac
    done
    return 124
}

begin_and_advance() {
    haldane begin "$DEMO_RUN/policy.yaml" >>"$run/haldane.log" 2>&1 &
    printf '%s\n%s\n' "$BASHPID" "$!" >"$run/pids"
    wait "$!" && advance_to_end "$(newest_id)"
}

# A process of the run's own, with HALDANE_DB in its environment, by which the killer knows it.
drive_on() {
    case $drive in
        rollout) exec haldane rollout "$DEMO_RUN/policy.yaml" >>"$run/haldane.log" 2>&1 ;;
        advance)
            export run
            export -f begin_and_advance advance_to_end newest_id proof_sql
            exec bash -c begin_and_advance
            ;;
    esac
}

# Sets $killed_ms, or leaves it empty if the rollout had ended before its moment came.
drive_and_kill() {
    drive_on 2>/dev/null &
    local driver=$! killer
    echo "$driver" >"$run/pids.new"
    [[ $drive == advance ]] || mv "$run/pids.new" "$run/pids"
    proof_poll 2 test -s "$run/pids"
    python3 "$source/tests/integration/proof_kill.py" "$HALDANE_DB" "$run/pids" "$moment" "$count" "$offset_us" \
        "$patience_ms" >"$run/killed" &
    killer=$!
    wait "$driver" 2>/dev/null || true
    # The one that waits for a moment which cannot come any more is not waited for.
    proof_poll 1 test -s "$run/killed" || kill "$killer" 2>/dev/null || true
    wait "$killer" 2>/dev/null || true
    killed_ms=$(cat "$run/killed")
}

# When somebody last looked, or set a weight: from then on the lease runs.
last_attended_ms() {
    proof_sql "SELECT max(lease_until_ms - $lease_ms, coalesce((SELECT max(from_ms) FROM weights WHERE rollout = seq), 0))
        FROM rollouts ORDER BY seq DESC LIMIT 1"
}

# Nobody comes: the guard brings all traffic to stable, or HAProxy alone if the guard was killed too.
nobody_comes() {
    local since pid took
    since=$(last_attended_ms)
    if [[ $guard_too == yes ]]; then
        for pid in $(proof_guards); do kill -KILL "$pid"; done
    fi
    proof_poll $((unattended_ms / 1000 + 4)) proof_split_is 0 || fail "nobody came, and the canary still has traffic"
    took=$(($(proof_now_ms) - since))
    ((took <= unattended_ms)) || fail "all on stable $took ms after the last look, not $unattended_ms"
    echo "unattended $took $guard_too" >>"$DEMO_RUN/times"
    [[ -n $(proof_guards) ]] && proof_poll 4 has_ended
    while (($(proof_now_ms) < since + unattended_ms)); do sleep 0.1; done
    is_live || return 0
    [[ $guard_too == yes || -z $(proof_guards) ]] || fail "the guard did not record the end"
    haldane guard --once >>"$run/haldane.log" 2>&1 || fail "haldane guard --once: exit code $?"
}

shows_progress() {
    (($(proof_sql 'SELECT count(*) FROM verdicts') > $1)) || has_ended ||
        [[ -n $(proof_sql "SELECT 1 FROM audit WHERE event = 'rolling back'") ]]
}

# Somebody comes at once, and finds the rollout as it was left.
somebody_comes() {
    local before started took pid code=0
    before=$(proof_sql 'SELECT count(*) FROM verdicts')
    started=$(proof_now_ms)
    if [[ $after == resume ]]; then
        haldane rollout --resume "$1" >>"$run/haldane.log" 2>&1 &
    else
        advance_to_end "$1" &
    fi
    pid=$!
    proof_poll $((recovery_ms / 1000 + 4)) shows_progress "$before" || fail "no look and no end after the $after"
    took=$(($(proof_now_ms) - started))
    ((took <= recovery_ms + slack_ms)) || fail "the first look came $took ms after the $after, not $recovery_ms"
    echo "recovery $took $after" >>"$DEMO_RUN/times"
    if ! proof_poll 40 has_ended; then
        fail "the rollout did not end within 40 s"
        kill -KILL "$pid" 2>/dev/null || true
    fi
    wait "$pid" 2>/dev/null || code=$?
    [[ $code -eq 0 || $code -eq 20 ]] || fail "$after: exit code $code"
}

fail() {
    printf '%s\n' "$*" >>"$run/failures"
}

# check NAME COMMAND...: what it prints is why it failed.
check() {
    local text
    text=$("$@" 2>&1) || fail "${text:-$1 failed}"
}

run_one() {
    local seed=$1 served failures id killed_ms='' canary drive after guard_too moment count offset_us patience_ms
    run=$DEMO_RUN/run-$seed
    mkdir "$run"
    export HALDANE_DB=$run/haldane.db
    plan_run "$seed"
    printf '%s: %s canary, haldane %s killed %d us after %s %d or %d ms after the start, then %s, guard killed: %s\n' \
        "$DEMO_BALANCER" "$canary" "$drive" "$offset_us" "$moment" "$count" "$patience_ms" "$after" "$guard_too" >"$run/plan"
    haldane traffic stable "$DEMO_RUN/policy.yaml" >/dev/null
    start_canary "$canary" || fail "the canary did not come up"
    failures=$(proof_failures_given) served=$(proof_served)
    "$stack" load
    drive_and_kill
    id=$(newest_id)
    check proof_crash_is_recorded
    if [[ -n $id ]] && is_live; then
        if [[ $after == nobody ]]; then nobody_comes; else somebody_comes "$id"; fi
    fi
    if [[ -n $id ]]; then
        check proof_end_is_in_force
        check proof_record_is_whole
        check proof_counts_are_true "$served" "$id"
    else
        check proof_split_is 0
    fi
    proof_poll 4 proof_no_guards || fail "a guard is left: $(proof_guards)"
    "$stack" stop load
    check proof_nothing_lost "$failures"
    tell "$seed" "$killed_ms" "$id"
}

tell() {
    local state=nothing
    [[ -z $3 ]] || state=$(proof_state)
    [[ -n $2 ]] && echo killed >>"$DEMO_RUN/outcomes"
    echo "state $state" >>"$DEMO_RUN/outcomes"
    if [[ ! -e $run/failures ]]; then
        echo held >>"$DEMO_RUN/outcomes"
        rm -rf -- "$run"
        return
    fi
    mkdir -p "$kept"
    rm -rf -- "${kept:?}/$1"
    mv "$run" "$kept/$1"
    printf 'FAILED --seed %d --runs 1 (%s)\n' "$1" "$(cat "$kept/$1/plan")"
    sed 's/^/    /' "$kept/$1/failures"
}

# lane NUMBER: its share of the runs.
lane() {
    local seed balancer=weights
    (($1 % 2 == 0)) || balancer=map
    trap lane_stop EXIT
    lane_start "$balancer"
    : >"$DEMO_RUN/times"
    : >"$DEMO_RUN/outcomes"
    for ((seed = first; seed < first + runs; seed++)); do
        if ((seed % lanes == $1)); then run_one "$seed"; fi
    done
    cat "$DEMO_RUN/times" "$DEMO_RUN/outcomes" >"$results/$1"
}

# ---- all of it ----

# The even seeds meet weights and the odd ones a map, however many lanes there are.
((lanes % 2 == 0)) || {
    echo 'soak.sh: --lanes is an even number: half of them meet weights, the other half a map' >&2
    exit 64
}
results=$(mktemp -d)
trap 'rm -rf -- "$results"' EXIT
began=$SECONDS
pids=()
for ((lane = 0; lane < lanes; lane++)); do
    # A single run needs one lane.
    ((runs >= lanes || first % lanes == lane || (first + runs - 1) % lanes == lane)) || continue
    lane "$lane" &
    pids+=($!)
done
ok=0
for pid in "${pids[@]}"; do
    wait "$pid" || {
        echo 'FAILED: a lane ended before its runs were done; what it said last stands above'
        ok=1
    }
done

cat "$results"/* | awk -v runs="$runs" -v seconds=$((SECONDS - began)) '
    function worst(name) { return name in most ? most[name] " ms" : "-" }
    $1 == "recovery" || $1 == "unattended" { n[$1]++; if ($2 > most[$1]) most[$1] = $2 }
    $1 == "unattended" && $3 == "yes" { alone++ }
    $1 == "killed" { killed++ }
    $1 == "held" { held++ }
    $1 == "state" { states[$2]++ }
    END {
        printf "%d of %d runs held; haldane was killed in %d of them; %d s\n", held, runs, killed, seconds
        printf "ended:"
        for (state in states) printf " %s %d", state, states[state]
        printf "\nafter a kill with somebody coming (%d): the next look or the end at worst %s later\n", n["recovery"],
            worst("recovery")
        printf "after a kill with nobody coming (%d, in %d of them HAProxy alone): all on stable at worst %s after the last look\n",
            n["unattended"], alone, worst("unattended")
        exit !(held == runs)
    }' || ok=1
exit "$ok"
