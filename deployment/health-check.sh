#!/usr/bin/env bash
#
# Is the whole stack well? Every part is asked by itself, all at the same time, each with a time limit, and each answer
# comes with what a person can do about it. Nothing is changed, except for one key in the cache that is written and
# removed.
#
# A check is a pair of functions in lib/checks/: plan_NAME says what would be checked, and what it names does it.
# shellcheck disable=SC2154 # the settings are lib/config.sh's, the probe_ lists are lib/probe.sh's
# shellcheck disable=SC2317 # what a trap calls
set -euo pipefail

here=$(cd -- "$(dirname -- "$(readlink -f -- "${BASH_SOURCE[0]}")")" && pwd)
for part in log duration config options compose versions places probe checks/web checks/data checks/containers checks/balancer \
    checks/monitoring checks/haldane checks/machine checks/plugins; do
    # shellcheck source=/dev/null
    source "$here/lib/$part.sh"
done

# In the order in which they are shown: users first.
readonly checks=(http readiness servers database cache containers balancer haldane prometheus targets alerts certificate
    clock disk memory plugins)

config=''
format=text
only=''
skip=''
wait_seconds=0
accept=healthy
check_timeout=''
dry_run=''
scratch=''

usage() {
    cat <<'END_OF_HELP'
usage: health-check.sh [OPTION]...

Checks every part of the stack at the same time, and says what a person can do about what is not well.

  --only NAME[,NAME]...   only these checks
  --skip NAME[,NAME]...   not these (besides HEALTH_SKIP)
  --wait DURATION         look again and again until all is well, at most for this long
  --accept degraded       a state that is degraded is good enough: --wait ends, and the exit code is 0
  --timeout DURATION      the longest that one check may take (default: HEALTH_CHECK_TIMEOUT)
  --format text|json      lines for people (default), or one JSON object
  --config FILE           the settings that differ from deployment.conf
  --dry-run               list what would be checked, and how; ask nobody
  --help                  this page

Checks: http readiness servers database cache containers balancer haldane prometheus targets alerts certificate clock
disk memory plugins. docs/health-checks.md says what each of them looks at.

Exit codes: 0 healthy; 1 degraded: users are served, something needs a person; 2 down: users are not served;
64 wrong usage; 65 wrong configuration; 66 unreadable configuration; 69 a tool is missing.
END_OF_HELP
}

takes value --only --skip --wait --accept --timeout --format --config
takes flag --dry-run

take_option() {
    local name=$1 value=$2
    case $name in
        --only) only+=,$value ;;
        --skip) skip+=,$value ;;
        --wait)
            needs_duration "$@"
            wait_seconds=$(duration_seconds "$value")
            ;;
        --accept)
            needs_one_of "$@" healthy degraded
            accept=$value
            ;;
        --timeout)
            needs_duration "$@"
            check_timeout=$(duration_seconds "$value")
            ;;
        --format)
            needs_one_of "$@" text json
            format=$value
            ;;
        --config) config=$value ;;
        --dry-run) dry_run=$value ;;
    esac
}

load_settings() {
    local name
    config_load "$config"
    places_load
    skip+=,$HEALTH_SKIP
    for name in HEALTH_CHECK_TIMEOUT HEALTH_POLL HEALTH_CLOCK_WARN HEALTH_CLOCK_FAIL HEALTH_SAMPLE_AGE; do
        duration_seconds "${!name}" >/dev/null || config_wrong "$name" "write a duration such as 90s or 500ms"
    done
    for name in HEALTH_DISK_WARN HEALTH_DISK_FAIL HEALTH_MEMORY_WARN HEALTH_MEMORY_FAIL HEALTH_CONNECTIONS_WARN \
        HEALTH_RESTARTS CERTIFICATE_WARN_DAYS CERTIFICATE_FAIL_DAYS; do
        [[ ${!name} =~ ^[0-9]{1,6}$ ]] || config_wrong "$name" "write a whole number"
    done
    [[ -n $check_timeout ]] || check_timeout=$(duration_seconds "$HEALTH_CHECK_TIMEOUT")
    # shellcheck disable=SC2034 # lib/places.sh's: what hangs in a container must not outlive the check by much
    inside_limit=$check_timeout
}

# names_known LIST WHERE: each name of a list, with commas or blanks between, is one of a check.
names_known() {
    local name
    for name in ${1//,/ }; do
        [[ " ${checks[*]} " == *" $name "* ]] || usage_error "$2: there is no check '$name'; there are ${checks[*]}"
    done
}

listed() {
    [[ " ${2//,/ } " == *" $1 "* ]]
}

plan() {
    local name
    names_known "$only" --only
    names_known "$skip" "--skip or HEALTH_SKIP"
    names_known "$HEALTH_CRITICAL" HEALTH_CRITICAL
    for name in "${checks[@]}"; do
        [[ -z ${only//,/} ]] || listed "$name" "$only" || continue
        ! listed "$name" "$skip" || continue
        "plan_$name"
    done
    ((${#probe_names[@]} > 0)) || fail 65 "nothing is left to check: what is asked for is not there, or is left out"
}

print_plan() {
    local index
    if [[ $format == json ]]; then
        for index in "${!probe_names[@]}"; do
            jq -cn --arg name "${probe_names[index]}" --arg target "${probe_targets[index]}" --arg how \
                "${probe_hows[index]}" \
                '{$name, $target, $how}'
        done | jq -s '{schema: "haldane.health-plan/1", checks: .}'
        return
    fi
    printf 'Would check, each within %s s:\n' "$check_timeout"
    for index in "${!probe_names[@]}"; do
        printf '  %-12s %s: %s\n' "${probe_names[index]}" "${probe_targets[index]}" "${probe_hows[index]}"
    done
}

# One round. The result is $scratch/result, and `status` healthy, degraded or down.
look() {
    local began=${EPOCHREALTIME/[.,]/}
    probes_run "$check_timeout" >"$scratch/findings"
    jq --arg project "$PROJECT" --arg strategy "$STRATEGY" --arg host "$(uname -n)" \
        --arg critical "${HEALTH_CRITICAL//,/ }" --argjson micros $((${EPOCHREALTIME/[.,]/} - began)) '
        ($critical | split(" ")) as $critical
        | map(.name as $name
            | {name, target, status, critical: any($critical[]; . == $name), message, seconds, hint}) as $checks
        | {
            schema: "haldane.health/1",
            status: (if any($checks[]; .critical and .status == "fail") then "down"
                elif any($checks[]; .status != "ok") then "degraded" else "healthy" end),
            time: (now | todate), seconds: ($micros / 1000 | round / 1000),
            project: $project, strategy: $strategy, host: $host,
            counts: (reduce $checks[].status as $s ({ok: 0, warn: 0, fail: 0, unknown: 0}; .[$s] += 1)),
            checks: $checks
        }' "$scratch/findings" >"$scratch/result"
    status=$(jq -r .status "$scratch/result")
}

good_enough() {
    [[ $status == healthy || ($status == degraded && $accept == degraded) ]]
}

# What keeps us waiting is told when it changes.
look_until_well() {
    local deadline=$((EPOCHSECONDS + wait_seconds)) what told=''
    look
    while ! good_enough && ((EPOCHSECONDS < deadline)); do
        what=$(jq -r '[.checks[] | select(.status != "ok") | "\(.name) \(.target)"] | unique | join(", ")' \
            "$scratch/result")
        [[ $what == "$told" ]] || log "$status, waiting for: $what"
        told=$what
        pause "$HEALTH_POLL"
        look
    done
}

# A sleep that leaves no process behind when a signal ends us.
pause() {
    local ms
    ms=$(duration_ms "$1")
    read -r -t "$((ms / 1000)).$(printf '%03d' $((ms % 1000)))" -u "$never" || true
}

print_result() {
    local colours=''
    if [[ $format == json ]]; then
        cat -- "$scratch/result"
        return
    fi
    [[ ! -t 1 || -n ${NO_COLOR:-} || ${TERM:-dumb} == dumb ]] || colours=yes
    jq -r --arg colours "$colours" '
        def paint($code): if $colours == "yes" then "\u001b[\($code)m\(.)\u001b[0m" else . end;
        def shade: {ok: "32", warn: "33", fail: "31", unknown: "35", healthy: "32", degraded: "33", down: "31"}[.];
        def wide($n): . + (" " * ($n - length) // "");
        (.checks | map(.name | length) | max) as $names
        | ([.checks[].target | length | select(. <= 44)] | max // 0) as $targets
        | (.checks[] | (.status | shade) as $code
            | "\(.status | wide(7) | paint($code)) \(.name | wide($names)) \(.target | wide($targets)) \(.message)",
              if .status != "ok" and .hint != "" then "\(" " * 7) -> \(.hint)" else empty end),
          (([.counts | to_entries[] | select(.value > 0) | "\(.value) \(.key)"] | join(", ")) as $counts
          | "\(.status | paint(shade)): \($counts), in \(.seconds) s")
        ' "$scratch/result"
}

clean_up() {
    probes_kill
    [[ -z $scratch ]] || rm -rf -- "$scratch"
}

main() {
    local status='' never
    options_read "$@"
    need jq curl awk sed
    load_settings
    plan
    if [[ -n $dry_run ]]; then
        print_plan
        exit 0
    fi
    scratch=$(mktemp -d) || fail 74 "no temporary directory can be made"
    trap clean_up EXIT
    trap 'exit 129' HUP
    trap 'exit 130' INT
    trap 'exit 143' TERM
    mkfifo "$scratch/never"
    exec {never}<>"$scratch/never"
    look_until_well
    print_result
    ! good_enough || exit 0
    [[ $status == down ]] && exit 2
    exit 1
}

{
    main "$@"
    exit
}
