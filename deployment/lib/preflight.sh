# shellcheck shell=bash
# shellcheck disable=SC2154 # variables of the caller and settings
#
# What must hold before a deployment changes anything. All checks are run before any is judged, so that one look shows
# all that is wrong; each is named, logged, and kept in the record (telemetry `check`, and preflight.json).
#
#   preflight_add NAME COMMAND...  a function or program. The last line that it prints is what was found; its exit code
#                                  is the one that the script would end with: 0 passed, 65, 69, 75 and so on.
#   preflight_run                  runs them in their order; returns 0, or the exit code of the first that failed.
#                                  What is named in the array `preflight_skip` is left out, and that is recorded.
#
# Ready-made checks:
#   preflight_tools TOOL...        they are in PATH
#   preflight_policy               haldane check
#   preflight_metrics              haldane check --live: Prometheus has what the policy asks for
#   preflight_balancer             haldane traffic check: nothing that a rollout would stumble over
#   preflight_share                the new side gets no traffic
#   preflight_rollouts SERVICE     no rollout of the service is under way
#   preflight_unfinished STRATEGY  no deployment was interrupted and left so
#   preflight_health COMMAND YES   the stack is healthy; degraded will do if YES is not empty
#   preflight_command COMMAND      any command that exits with 0; else 75
#   preflight_disk PERCENT PATH... at least so much is free
#   preflight_memory PERCENT
#   preflight_capacity             what the new side must serve at each step, it can; see deployment.conf, CAPACITY_*
#
# Uses of the caller: lib/log.sh, lib/process.sh, lib/haldane.sh, lib/record.sh, `scratch`.

preflight_names=()
preflight_commands=()
preflight_skip=()

preflight_add() {
    preflight_names+=("$1")
    shift
    preflight_commands+=("$(quoted "$@")")
}

preflight_run() {
    local i status code=0 failed=0
    for i in "${!preflight_names[@]}"; do
        ! interrupted || return 0 # the caller looks for that
        status=0
        preflight_one "${preflight_names[i]}" "${preflight_commands[i]}" || status=$?
        ((status == 0)) || failed=$((failed + 1))
        ((code != 0)) || code=$status
    done
    preflight_json | archive - preflight.json
    ((failed == 0)) || log "pre-flight: $failed of ${#preflight_names[@]} checks failed"
    return "$code"
}

preflight_one() {
    local name=$1 command=$2 status=0 began=$EPOCHREALTIME result=passed message seconds
    if preflight_is_skipped "$name"; then
        result=skipped message='left out, as asked'
    else
        # shellcheck disable=SC2294 # quoted by preflight_add
        (eval "$command") >"$scratch/check" || status=$?
        message=$(preflight_last_line)
        ((status == 0)) || result=failed
    fi
    seconds=$(preflight_seconds "$began")
    log "pre-flight: $name: $result${message:+: $message}"
    telemetry check name="$name" result="$result" message="$message" code:="$status" seconds:="$seconds"
    return "$status"
}

# The checks of this pre-flight as one JSON list.
preflight_json() {
    [[ -z $record ]] || jq -nR 'reduce (inputs | fromjson?) as $e ([];
        if $e.event == "phase_started" then [] elif $e.event == "check" then . + [$e | del(.event, .at)] else . end)' \
        "$record/telemetry.jsonl" 2>/dev/null || true
}

# What the check has printed last, but for empty lines.
preflight_last_line() {
    local line last=''
    while IFS= read -r line || [[ -n $line ]]; do
        [[ -z ${line//[[:blank:]]/} ]] || last=$line
    done <"$scratch/check"
    printf '%s\n' "$last"
}

preflight_is_skipped() {
    local name
    for name in "${preflight_skip[@]}"; do
        [[ $name != "$1" ]] || return 0
    done
    return 1
}

# Seconds since then, with three digits.
preflight_seconds() {
    local microseconds=$((${EPOCHREALTIME/[.,]/} - ${1/[.,]/}))
    printf '%d.%03d\n' $((microseconds / 1000000)) $((microseconds / 1000 % 1000))
}

# --- Ready-made checks -----------------------------------------------------------------------------------------------

preflight_tools() {
    local tool missing=()
    for tool in "$@"; do
        command -v "$tool" >/dev/null || missing+=("$tool")
    done
    ((${#missing[@]} == 0)) && printf '%s\n' "$*" && return
    printf 'not found in PATH: %s\n' "${missing[*]}"
    return 69
}

preflight_policy() {
    local status=0
    ask check "$policy" || status=$?
    ((status == 0)) && printf "the policy '%s' is right\n" "$policy" && return
    printf "the policy '%s' does not pass 'haldane check'\n" "$policy"
    return "$(code_before_traffic "$status")"
}

preflight_metrics() {
    local status=0
    ask check "$policy" --live || status=$?
    ((status == 0)) && printf 'Prometheus has what the policy asks for\n' && return
    printf "%s does not pass: %s\n" "$(by_hand check "$policy" --live)" "${answer##*$'\n'}"
    return "$(code_before_traffic "$status")"
}

preflight_balancer() {
    local status=0 found
    ask traffic check "$policy" --format json || status=$?
    found=$(jq -r '[.findings[]? | select(.wrong) | .text] | join("; ")' <<<"$answer" 2>/dev/null) || found=''
    ((status == 0)) && printf 'ready for a rollout\n' && return
    printf '%s\n' "${found:-$(by_hand traffic check "$policy") failed with exit code $status}"
    return "$(code_before_traffic "$status")"
}

preflight_share() {
    local status=0 share=''
    read_share || status=$?
    if ((status != 0)); then
        printf 'the balancer does not say what share the canary gets\n'
        return "$(code_before_traffic "$status")"
    fi
    ((share == 0)) && printf 'the canary gets nothing\n' && return
    printf 'the canary gets %s of the traffic already. End the rollout that does it (%s), or put all on stable: %s\n' \
        "$(percent "$share")" "$(by_hand list)" "$(by_hand traffic stable "$policy")"
    return 75
}

preflight_rollouts() {
    local status=0 live
    ask status --format json || status=$?
    ((status == 0 || status == 10)) || {
        printf 'haldane does not say what is under way (exit code %s)\n' "$status"
        return "$(code_before_traffic "$status")"
    }
    live=$(jq -r --arg service "$1" 'select(.service == $service) | "\(.rollout) (\(.state))"' <<<"$answer") ||
        return 70
    [[ -z $live ]] && printf 'none of %s is under way\n' "$1" && return
    printf '%s is under way: wait for its end, or end it: %s\n' "$live" "$(by_hand abort "${live%% *}" --reason TEXT)"
    return 75
}

preflight_unfinished() {
    local folder
    folder=$(record_last "$1") || folder=''
    [[ -z $folder || $folder == "$record" ]] && printf 'none was left unfinished\n' && return
    printf '%s was interrupted; first: %s.sh --resume=%s, or rollback.sh\n' "$folder" "$1" "$folder"
    return 75
}

preflight_health() {
    local status=0 found
    run_until_interrupted bash -c "$1" >"$scratch/health" 2>>"$scratch/health.err" || status=$?
    archive "$scratch/health" health-check.json
    found=$(jq -r '[.checks[]? | select(.status != "ok") | "\(.name) \(.status): \(.message)"] | join("; ")' \
        "$scratch/health" 2>/dev/null) || found=''
    case $status:$2 in
        0:*) printf 'healthy\n' && return ;;
        1:?*) printf 'degraded, which is accepted: %s\n' "$found" && return ;;
        1:) printf 'degraded: %s (--accept-degraded goes on all the same)\n' "$found" ;;
        2:*) printf 'down: %s\n' "$found" ;;
        *) printf 'the health check ended with exit code %s: %s\n' "$status" "$(tail -n 1 -- "$scratch/health.err")" ;;
    esac
    return 75
}

preflight_command() {
    local status=0
    run_until_interrupted bash -c "$1" >"$scratch/command" 2>&1 || status=$?
    ((status == 0)) || printf 'exit code %s: ' "$status"
    tail -n 1 -- "$scratch/command"
    ((status == 0)) || return 75
}

preflight_disk() {
    local least=$1 path free found='' status=0
    shift
    for path in "$@"; do
        while [[ ! -e $path ]]; do path=$(dirname -- "$path"); done
        free=$(df --output=pcent -- "$path" 2>/dev/null | tail -n 1 | tr -dc 0-9) || free=''
        [[ -n $free ]] || continue
        free=$((100 - free))
        ((free >= least)) || status=75
        [[ $found == *"$free % free at"* ]] || found+="${found:+, }$free % free at $path"
    done
    [[ -n $found ]] || { printf 'df says of no folder how full it is\n' && return 69; }
    printf '%s; at least %s %% are needed\n' "$found" "$least"
    return "$status"
}

preflight_memory() {
    local free
    free=$(awk '/^MemTotal:/ { all = $2 } /^MemAvailable:/ { print int(100 * $2 / all) }' /proc/meminfo)
    printf '%s %% can still be had; at least %s %% are needed\n' "$free" "$1"
    ((free >= $1)) || return 75
}

# prometheus_number QUERY: prints it; fails if there is not exactly one.
prometheus_number() {
    run_to_end curl --silent --show-error --fail --noproxy '*' --max-time 10 --data-urlencode "query=$1" \
        "${PROMETHEUS_URL:-http://127.0.0.1:$PROMETHEUS_PORT}/api/v1/query" 2>/dev/null |
        jq -er '.data | if .resultType == "scalar" then .result[1]
            elif (.result | length) == 1 then .result[0].value[1] else empty end | tonumber | select(. == .)'
}

# For each step: what comes in × its weight × what must be left over, against what the instances can serve.
preflight_capacity() {
    local rate steps
    rate=$(prometheus_number "$CAPACITY_QUERY") || {
        printf 'Prometheus gives no number for CAPACITY_QUERY: %s\n' "$CAPACITY_QUERY"
        return 69
    }
    if [[ -z $CAPACITY_PER_INSTANCE ]]; then
        LC_ALL=C printf 'not known (CAPACITY_PER_INSTANCE; staging.sh measures it); the service gets %.1f/s\n' "$rate"
        return 0
    fi
    # The policy's steps, or all of the traffic if the plan cannot be had.
    ask plan "$policy" --live --format json || true
    steps=$(jq -c '[.steps[].weight] | select(length > 0)' <<<"$answer" 2>/dev/null) || steps=''
    jq -nr --argjson steps "${steps:-[10000]}" --argjson rate "$rate" --argjson each "$CAPACITY_PER_INSTANCE" \
        --argjson instances "$CAPACITY_INSTANCES" --argjson headroom "$CAPACITY_HEADROOM" '
        def tenth: . * 10 | round | . / 10;
        [$steps[] | {weight: ., need: ($rate * . / 10000 * $headroom)}]
        | (map(select(.need > $each * $instances)) | first) as $short
        | "the service gets \($rate | tenth)/s; with \($headroom) times that the canary needs "
            + (map("\(.need | tenth)/s at \(.weight / 100) %") | join(", "))
            + "; \($instances) instances serve \($each * $instances | tenth)/s",
          if $short then halt_error(75) else empty end' 2>/dev/null || return 75
}
