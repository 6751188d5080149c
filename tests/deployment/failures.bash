# shellcheck shell=bash
# shellcheck disable=SC2034,SC2154 # variables of lab.bash, of `run`, and those that the tests read
#
# What the tests of failures share. A file has one stack, which its tests break and leave well. A failure is caused past
# the scripts, at processes, sockets and files, as it comes; what is seen afterwards is what the page in docs/runbooks
# promises, and the page's commands are given.

bats_require_minimum_version 1.5.0

# An unset variable is a failure, not a skip: a test that did not run has proved nothing.
: "${HALDANE_SOURCE:?HALDANE_SOURCE must name the repository}"
# shellcheck source=tests/deployment/lab.bash
source "$HALDANE_SOURCE/tests/deployment/lab.bash"

deployment=$lab_source/deployment
policies=/etc/haldane/policies # as haldane sees them
load_pid='' canary_pid='' id=''

# ---- the stack ----

# failures_begin NAME [SETTING=VALUE...]: for setup_file. The policy quarter.yaml holds a canary at 25 %, and canary.sh
# goes by it; brief.yaml is the same with a lease that soon ends when nobody looks.
failures_begin() {
    local environment name=$1
    shift
    "$lab_source/tests/deployment/engine.sh" start
    environment=$("$lab_source/tests/deployment/engine.sh" env)
    eval "$environment"
    lab_make "$name" canary CANARY_POLICY=quarter.yaml "$@"
    # What a test did to the canary must not count against the next one.
    sed -E -i '/check_up_down/s/\[[0-9a-z]+\]/[20s]/' "$lab/policies/canary.yaml"
    failures_policy brief '{weight: 25%, min: 10m, max: 20m}' '{weight: 100%, bake: 10m}'
    sed 's/unattended: .*/unattended: 90s/' "$lab/policies/brief.yaml" >"$lab/policies/quarter.yaml"
    sed -i 's/unattended: .*/unattended: 45s/' "$lab/policies/brief.yaml"
    export failures_lab=$lab
    {
        stack init
        stack build
        lab_versions
        stack up
    } >"$lab/stack.log" 2>&1 || {
        tail -n 40 "$lab/stack.log" >&2
        return 1
    }
}

# failures_policy NAME STEP...: the lab's canary.yaml with these steps.
failures_policy() {
    local name=$1
    shift
    {
        sed '/^steps:/,/^$/d' "$lab/policies/canary.yaml"
        printf '\nsteps:\n'
        printf '  - %s\n' "$@"
    } >"$lab/policies/$name.yaml"
}

# failures_open: for setup.
failures_open() {
    lab=$failures_lab config=$failures_lab/deployment.conf
    web=http://127.0.0.1:$(setting HTTP_PORT) ops=http://127.0.0.1:$(setting OPS_PORT)
    prometheus=http://127.0.0.1:$(setting PROMETHEUS_PORT)
}

failures_end() {
    stack down --volumes --yes >>"$failures_lab/stack.log" 2>&1
}

# failures_heal: for teardown. Whatever a test has broken is whole again for the next one.
failures_heal() {
    [[ -z $load_pid ]] || load_end || true
    [[ -z $canary_pid ]] || canary_stop
    all_well || stack up >>"$lab/stack.log" 2>&1
    stack haldane abort shop --reason 'the test is over' >/dev/null 2>&1 || true
    share_is 0 || stack haldane traffic stable "$policies/quarter.yaml" >/dev/null
    within 60 all_well
    within 10 share_is 0
    within 10 idle
}

setting() {
    sed -n "s/^$1=//p" "$config"
}

# container SERVICE: its id, also of one that has stopped.
container() {
    docker ps --all --quiet --filter "label=com.docker.compose.project=$(setting PROJECT)" \
        --filter "label=com.docker.compose.service=$1" --filter label=com.docker.compose.oneoff=False
}

# send SIGNAL SERVICE: to the service's own program, from outside, so that the engine takes it for a crash.
send() {
    kill "-$1" "$(service_pid "$2")"
}

# holds CONDITION: jq's, of the JSON on standard input. Nothing at all is no answer, which jq -e alone would pass.
holds() {
    jq -en "input | $1" >/dev/null 2>&1
}

state_is() {
    [[ $(stack status --format json | jq -r --arg s "$1" '.services[] | select(.service == $s) | .state') == "$2" ]]
}

# All that must run is healthy. A canary need not be.
all_well() {
    stack status --format json | holds '[.services[] | select(.service | test("^(migrate|shop-canary-.)$") | not) | .state]
        | length == 9 and all(. == "healthy")'
}

# ---- haldane ----

# haldane_says CODE ARGUMENT...: haldane in the stack must end with CODE; $output is its answer, $stderr what it says.
haldane_says() {
    local code=$1
    shift
    run --separate-stderr stack haldane "$@"
    [[ $status == "$code" ]] || {
        printf 'haldane %s: exit code %s, not %s\n%s\n%s\n' "$*" "$status" "$code" "$output" "${stderr:-}"
        return 1
    }
}

# canary_ready VERSION: in both servers of the canary, and HAProxy sees them.
canary_ready() {
    if [[ $(stack versions --format json | jq -r '.canary // ""') != "$1" ]] || ! state_is shop-canary-1 healthy ||
        ! state_is shop-canary-2 healthy; then
        stack deploy canary "$1" >>"$lab/stack.log" 2>&1
    fi
    within 15 canaries_are UP
}

# servers_are BACKEND/PATTERN STATE: HAProxy has every server of the pattern in this state.
servers_are() {
    local states
    states=$(curl -fsS --max-time 3 "$ops/metrics?scope=server" | sed -nE "s/^haproxy_server_status\{proxy=\"${1%%/*}\",\
server=\"${1#*/}\",state=\"([A-Z]+)\"\} 1$/\1/p" | sort -u)
    [[ $states == "$2" ]]
}

canaries_are() {
    servers_are 'be_canary/canary[0-9]' "$1"
}

stables_are() {
    servers_are 'be_stable/stable[0-9]' "$1"
}

# begin POLICY: a rollout that nobody but the test looks after; `id` is its id.
begin() {
    haldane_says 0 begin "$policies/$1.yaml" --format json
    id=$(jq -r .rollout <<<"$output")
}

# advance_until SECONDS COMMAND...: haldane looks, until the command succeeds, which finds $output, $stderr and $status.
advance_until() {
    local deadline=$((EPOCHSECONDS + $1))
    while :; do
        run --separate-stderr stack haldane advance "$id" --format json
        ! "${@:2}" || return 0
        ((EPOCHSECONDS < deadline)) || break
        sleep 1
    done
    printf 'not within %s s: %s\nexit code %s\n%s\n%s\n' "$1" "${*:2}" "$status" "$output" "${stderr:-}"
    return 1
}

# answered CONDITION: jq's, of haldane's answer.
answered() {
    holds "$1" <<<"$output"
}

# refused: haldane could not look, or not move anything.
refused() {
    [[ $status == 69 ]]
}

# status_is CONDITION: jq's, of the record.
status_is() {
    stack haldane status "${id:-shop}" --format json | holds "$1"
}

idle() {
    [[ -z $(stack haldane status --format json) ]]
}

share_is() {
    [[ $(lab_share) == "$1" ]]
}

# ---- canary.sh and the other scripts ----

# canary_begin OPTION...: canary.sh in the background, until canary_ends. Whether all is healthy and whether there is a
# backup is not what these tests are about.
canary_begin() {
    setsid "$deployment/canary.sh" --yes --skip-check health --skip-check backup "$@" >"$lab/canary.log" 2>&1 \
        </dev/null 3>&- &
    canary_pid=$!
}

# canary_ends CODE SECONDS
canary_ends() {
    local code=0
    within "$2" canary_has_ended || {
        echo "canary.sh has not ended within $2 s"
        tail -n 20 "$lab/canary.log"
        return 1
    }
    wait "$canary_pid" || code=$?
    canary_pid=''
    ((code == $1)) || {
        echo "canary.sh ended with $code, not $1"
        tail -n 20 "$lab/canary.log"
        return 1
    }
}

canary_has_ended() {
    ! kill -0 "$canary_pid" 2>/dev/null
}

canary_stop() {
    kill -TERM "$canary_pid" 2>/dev/null || true
    wait "$canary_pid" || true
    canary_pid=''
}

# logged PATTERN: canary.sh has told so.
logged() {
    grep -Eq -- "$1" "$lab/canary.log" || {
        echo "canary.sh did not say: $1"
        tail -n 30 "$lab/canary.log"
        return 1
    }
}

# script CODE NAME ARGUMENT...: a script of deployment/ must end with CODE.
script() {
    local code=$1 name=$2
    shift 2
    run --separate-stderr "$deployment/$name" "$@"
    [[ $status == "$code" ]] || {
        printf '%s %s: exit code %s, not %s\n%s\n%s\n' "$name" "$*" "$status" "$code" "$output" "${stderr:-}"
        return 1
    }
}

# check_says CHECK CONDITION: what health-check.sh finds, as jq sees its findings: .target, .status, .message.
check_says() {
    run --separate-stderr "$deployment/health-check.sh" --only "$1" --format json
    holds "any(.checks[]; $2)" <<<"$output" || {
        jq -c '.checks[]' <<<"$output" 2>/dev/null || printf '%s\n%s\n' "$output" "${stderr:-}"
        return 1
    }
}

# ---- what is seen from outside ----

# query EXPRESSION: what Prometheus answers, one series a line.
query() {
    curl -fsS --max-time 5 --get "$prometheus/api/v1/query" --data-urlencode "query=$1" | jq -c '.data.result[]'
}

# alert_sees NAME: the rule's expression, as Prometheus has it, is true now. Whether it stays so for as long as the rule
# wants is not waited for; rules_test.yml has that.
alert_sees() {
    local rule
    rule=$(curl -fsS --max-time 5 "$prometheus/api/v1/rules?type=alert" |
        jq -r --arg name "$1" '[.data.groups[].rules[] | select(.name == $name) | .query][0] // empty')
    [[ -n $rule ]] || {
        echo "there is no alert $1"
        return 1
    }
    [[ -n $(query "$rule") ]]
}

# tracks N: who answers N requests, as the balancer says, one track a line.
tracks() {
    curl -fsS --max-time 10 -o /dev/null -D - "$web/?[1-$1]" | tr -d '\r' | sed -n 's/^[Xx]-[Ll][Bb]-[Tt]rack: //p' | sort -u
}

# lost NAME: requests of the load that got no answer, or an error that the bad version did not give itself.
lost() {
    jq '((.versions["3.0.0"].status // {}) | (."500" // 0)) as $own
        | .failed + ([.status | to_entries[] | select(.key | test("^5")) | .value] | add // 0) - $own' "$lab/$1.json"
}

# lost_at_most N NAME
lost_at_most() {
    (($(lost "$2") <= $1)) || {
        jq -c '{due, failed, failures, status, tracks: (.tracks | map_values(.status))}' "$lab/$2.json"
        return 1
    }
}

nothing_lost() {
    lost_at_most 0 "$1"
}
