# shellcheck shell=bash disable=SC2154 # $status, $output and $stderr are set by run
#
# What the scenarios of the haldane binary share: the stack with steady traffic, policies, rollouts in the foreground
# and in the background, and what the balancer, the store and the evidence show of them. Each test has its own folder
# and store.

load stack

# scenarios_start: for setup_file.
scenarios_start() {
    export DEMO_RATE=${DEMO_RATE:-600} DEMO_LATENCY_MEDIAN=${DEMO_LATENCY_MEDIAN:-10ms}
    stack_start
    stack load
    export PROMETHEUS=http://127.0.0.1:$DEMO_PROMETHEUS_PORT
    wait_history
}

# scenario_begin: for setup.
scenario_begin() {
    cd "$BATS_TEST_TMPDIR" || return 1
    export HALDANE_DB=$BATS_TEST_TMPDIR/haldane.db PROMETHEUS_URL=$PROMETHEUS HAPROXY_SOCKET=$DEMO_RUN/haproxy.sock
}

# What a test leaves under way has a guard, which would move the next test's traffic when the lease is over.
end_guards() {
    local pid
    for pid in $(pgrep -f -- "haldane guard .*--db $(realpath -- "$BATS_TEST_TMPDIR")/"); do kill -KILL "$pid"; done
}

# scenario_end: for teardown. Whatever a test has broken is whole again for the next one.
scenario_end() {
    stop_all
    end_guards
    send CONT prometheus || true
    if stack status | grep -Eq '^(haproxy|prometheus|stable1|stable2) -'; then
        stack stop
        stack start
        stack load
        wait_history
    elif stack status | grep -q '^load -'; then
        stack load
    fi
    printf 'set server shop/%s weight %s\n' stable1 100 stable2 100 canary1 0 | while read -r order; do
        balancer "$order"
    done
    # Without traffic it need not drain.
    send KILL canary1 2>/dev/null || true
    stack stop canary1
}

# wait_until SECONDS COMMAND...: until it succeeds.
wait_until() {
    local i seconds=$1
    shift
    for ((i = 0; i < seconds * 10; i++)); do
        "$@" && return 0
        sleep 0.1
    done
    echo "not within $seconds s: $*"
    return 1
}

# ---- Prometheus ----

has_history() {
    curl -fsS --noproxy '*' --max-time 2 "$PROMETHEUS/api/v1/query" \
        --data-urlencode 'query=sum(increase(http_requests_total{track="stable"}[10s])) > 1000' 2>/dev/null |
        jq -e '.data.result | length > 0' >/dev/null
}

# Enough of stable to freeze a margin from.
wait_history() {
    wait_until 30 has_history
}

# ---- HAProxy, past haldane ----

# The canary's share of the traffic in percent, from the weights in force.
share() {
    local canary stable1 stable2
    canary=$(weight canary1) stable1=$(weight stable1) stable2=$(weight stable2)
    awk -v c="$canary" -v s="$((stable1 + stable2))" 'BEGIN { printf "%.4g\n", 100 * c / (c + s) }'
}

# shows PERCENT: the balancer gives the canary exactly this.
shows() {
    local now
    now=$(share) || return 1
    [[ $now == "$1" ]] || {
        echo "the balancer gives the canary $now %, not $1 %"
        return 1
    }
}

canary_is_up() {
    balancer 'show servers state shop' | awk '$4 == "canary1" { exit !($6 == 2) }'
}

canary_is_down() {
    ! canary_is_up
}

# canary [SHOP OPTIONS]: a canary that the balancer takes for healthy.
canary() {
    stack canary "$@"
    wait_until 10 canary_is_up
}

# send SIGNAL NAME: to a process of the stack.
send() {
    kill "-$1" "$(cat "$DEMO_RUN/$2.pid")"
}

# relaunch NAME COMMAND...: a process of the stack that a test has stopped, marked as stack.sh does it.
relaunch() {
    local name=$1
    shift
    HALDANE_DEMO=$DEMO_RUN/$name setsid "$@" >"$DEMO_RUN/$name.log" 2>&1 </dev/null 3>&- &
    echo $! >"$DEMO_RUN/$name.pid"
}

relaunch_haproxy() {
    relaunch haproxy haproxy -db -f "$DEMO_RUN/haproxy.cfg"
    wait_http "http://127.0.0.1:$DEMO_WEB_PORT/readyz"
}

# On the data that it had.
relaunch_prometheus() {
    relaunch prometheus prometheus --config.file="$DEMO_RUN/prometheus.yml" --storage.tsdb.path="$DEMO_RUN/prometheus" \
        --web.listen-address="127.0.0.1:$DEMO_PROMETHEUS_PORT" --log.level=warn
    wait_http "$PROMETHEUS/-/ready"
}

restart_stable1() {
    stack stop stable1
    relaunch stable1 "$DEMO_SHOP" --listen "127.0.0.1:$DEMO_STABLE1_PORT" --failure-share 0.5% \
        --latency-median "$DEMO_LATENCY_MEDIAN" --version v1
    wait_http "http://127.0.0.1:$DEMO_STABLE1_PORT/readyz"
}

# ---- policies ----

# policy FILE [KEY VALUE]...: errors alone, a look a second, and steps that no proof leaves before five minutes, unless
# told otherwise.
policy() {
    local file=$1
    shift
    local -A set=(
        [service]=shop [prometheus]=$PROMETHEUS [socket]=$DEMO_RUN/haproxy.sock [backend]=shop
        [canary]=canary1 [unattended]=20s [deadline]=20m [undecided]=hold [on_no_data]=hold [job]=shop
        [steps]='[{weight: 25%, min: 5m, max: 9m}, {weight: 50%, min: 5m, max: 9m}, {weight: 100%, bake: 1m}]'
    )
    while (($# > 0)); do
        set[$1]=$2
        shift 2
    done
    cat >"$file" <<END
version: 1
service: ${set[service]}
prometheus: {url: "${set[prometheus]}", timeout: 2s}
tracks: {stable: 'track="stable"', canary: 'track="canary"'}
look: 1s
settle: 1s
warmup: 1s
traffic:
  driver: haproxy
  socket: ${set[socket]}
  backend: ${set[backend]}
  stable: [stable1, stable2]
  canary: [${set[canary]}]
  unattended: ${set[unattended]}
steps: ${set[steps]}
undecided: ${set[undecided]}
deadline: ${set[deadline]}
metrics:
  - name: errors
    type: errors
    total: 'http_requests_total{job="${set[job]}",\$track}'
    failed: 'http_requests_total{job="${set[job]}",code=~"5..",\$track}'
    abort_above: {ratio: 1.1}
    promote_below: {ratio: 2, absolute: 5%}
    on_no_data: ${set[on_no_data]}
END
    [[ -z ${set[latency]:-} ]] || cat >>"$file" <<END
  - name: latency
    type: latency
    histogram: 'http_request_duration_seconds_bucket{job="shop",\$track}'
    promote_below: {slower: 100%}
END
}

# ---- rollouts ----

# haldane_says CODE ARGUMENTS...: haldane must end with CODE; $output is its answer, $stderr what it says.
haldane_says() {
    local code=$1
    shift
    run --separate-stderr haldane "$@"
    [[ $status -eq $code ]] || {
        printf 'haldane %s: exit code %s, not %s\n%s\n%s\n' "$*" "$status" "$code" "$output" "${stderr:-}"
        return 1
    }
}

# refused CODE PATTERN ARGUMENTS...: a sentence on stderr that matches, nothing on stdout, and the split as it was.
refused() {
    local code=$1 pattern=$2 before after
    shift 2
    before=$(share)
    haldane_says "$code" "$@"
    after=$(share)
    # shellcheck disable=SC2154 # $stderr is set by run
    [[ $stderr =~ ^haldane:\  && $stderr =~ $pattern && -z $output && $before == "$after" ]] || {
        printf 'haldane %s:\nstdout: %s\nstderr: %s\nnot /%s/; share %s, then %s\n' "$*" "$output" "$stderr" \
            "$pattern" "$before" "$after"
        return 1
    }
}

# begin POLICY: $id is the rollout's.
begin() {
    haldane_says 0 begin "$1"
    id=$output
}

# answer JQ: whether the last answer of haldane is so.
answer() {
    jq -e "$1" <<<"$output" >/dev/null || {
        echo "not so: $1: $output"
        return 1
    }
}

# field NAME: of the last answer.
field() {
    jq -r ".$1" <<<"$output"
}

# advance_until SECONDS JQ: advances once a second until the answer is so. A failure on the way is one of the test.
advance_until() {
    local try
    for ((try = 0; try < $1; try++)); do
        run --separate-stderr haldane advance "$id" --format json
        [[ $status -eq 0 || $status -eq 10 || $status -eq 20 ]] || break
        jq -e "$2" <<<"$output" >/dev/null && return 0
        sleep 1
    done
    printf 'not within %s s: %s\nexit code %s\n%s\n%s\n' "$1" "$2" "$status" "$output" "$stderr"
    return 1
}

# rollout_in_background POLICY: with its log in rollout.log; $id once it has begun.
rollout_in_background() {
    start_bg rollout haldane rollout "$1" --format json
    wait_until 10 has_begun
    id=$(sql "SELECT id FROM rollouts")
}

has_begun() {
    [[ -e $HALDANE_DB ]] && [[ $(sql "SELECT count(*) FROM audit WHERE event = 'begun'") -eq 1 ]]
}

# Until the next look is due, whatever was folded last.
wait_for_due() {
    sleep 2.2
}

# ends_with CODE SECONDS: the rollout in the background.
ends_with() {
    local code=0
    wait_bg rollout "$2" || code=$?
    [[ $code -eq $1 ]] || {
        echo "haldane rollout: exit code $code, not $1"
        cat rollout.log
        return 1
    }
}

# ---- the store ----

sql() {
    sqlite3 -readonly -cmd '.timeout 5000' "$HALDANE_DB" "$1"
}

looks() {
    sql "SELECT count(*) FROM verdicts"
}

has_looks() {
    (($(looks) >= $1))
}

at_weight() {
    [[ $(sql "SELECT weight_bp FROM rollouts") -eq $1 ]]
}

# Verdicts are numbered without a gap, each look is counted once, and looks follow each other without an overlap.
record_is_whole() {
    local bad
    bad=$(sql "
        SELECT 'verdict ' || look FROM (SELECT look, row_number() OVER (ORDER BY look) AS place FROM verdicts)
            WHERE look <> place
        UNION ALL SELECT 'verdict of no look ' || at_ms FROM verdicts WHERE at_ms NOT IN (SELECT at_ms FROM looks)
        UNION ALL SELECT 'integrity ' || integrity_check FROM pragma_integrity_check WHERE integrity_check <> 'ok'")
    [[ -z $bad ]] || {
        echo "$bad"
        return 1
    }
}

# audit EVENT [DETAIL]: the record has such a line.
audit() {
    [[ $(sql "SELECT count(*) FROM audit WHERE event = '$1' AND detail LIKE '%${2:-}%'") -gt 0 ]] || {
        echo "the record has no '$1' with '${2:-}':"
        sql "SELECT event, weight_bp, detail FROM audit ORDER BY seq"
        return 1
    }
}

# evidence JQ: whether the evidence is so; $per_look is a list of {at, stable, canary} with the errors metric's counts.
evidence() {
    haldane report "$id" --evidence -o evidence.json
    jq -e 'def sum($k): if . == null then null else map(.[$k]) | add end;
        [.metrics.errors.intervals[] | {at, stable: (.stable | sum("requests")), canary: (.canary | sum("requests"))}]
        as $per_look | '"$1" evidence.json >/dev/null || {
        echo "the evidence is not so: $1"
        jq -c '.metrics.errors.intervals[-30:][]' evidence.json
        return 1
    }
}

# ---- the users ----

# Each request got an answer, orders included, and no failure but the shops' own.
nothing_lost() {
    stack stop load
    jq -e '.sent > 0 and .answered == .due and .failed == 0 and .methods.POST.answered == .methods.POST.due
        and .generator.resends_prevented == 0 and ([.status | keys[] | select(. >= "500")] - ["500"] == [])' \
        "$DEMO_RUN/load.json" >/dev/null || {
        jq '{due, sent, answered, failures, status, methods}' "$DEMO_RUN/load.json"
        return 1
    }
}
