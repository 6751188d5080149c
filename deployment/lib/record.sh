# shellcheck shell=bash
# shellcheck disable=SC2154 # RECORDS_DIR and the like are settings
# shellcheck disable=SC2034 # log_file is lib/log.sh's
#
# The record of a deployment: one folder, readable by its owner alone, with everything that was said, done and found.
#
#   record_open STRATEGY NAME   makes the folder, takes the lock, starts the log; sets `record` and `log_file`.
#                               Returns 74 if nothing can be written, 75 if a deployment of that NAME is under way.
#   record_begin STRATEGY NAME OTHER   record_open that ends the script where it fails; OTHER is what is said of a
#                               deployment that is under way
#   record_try STRATEGY NAME    the same for what must not wait for a disk with room: where nothing can be written it
#                               says so, and `record` is empty. Returns 75 as record_open does, and no other failure
#   record_reopen DIR           record_open for the folder of a deployment that was interrupted
#   record_unfinished STRATEGY  prints the folders of all other ones that have not ended, the newest first
#   record_last STRATEGY        prints the newest of them; fails if there is none
#   record_wait DIR SECONDS     until no deployment is at work with another record; returns 75 if one still is
#   record_close DIR OUTCOME CODE   ends another record, unless its deployment is under way; then it returns 75
#   record_set KEY VALUE [KEY VALUE]...   what a later run needs to take it up; kept in state.json, replaced in one step
#   record_get KEY              prints it; empty if it was never set
#   phase NAME                  a phase begins; the one before it has ended well
#   phase_end RESULT [REASON]   the phase has ended: ok, failed, skipped
#   telemetry EVENT [KEY=VALUE | KEY:=JSON]...   one line of telemetry.jsonl
#   archive FILE|- [NAME]       keeps a copy of a file, or of stdin, beside the record
#   record_write OUTCOME CODE   ends the record: record.json for programs, record.md for people. After `unfinished` and
#                               `unproven` it can be taken up again.
#
# Where the records are: RECORDS_DIR. If the caller has lib/versions.sh, the versions before and after are told. If
# TEXTFILE_DIR is a folder (of node-exporter's textfile collector), the phase and the outcome can be watched there.
# `record_lock_wait` is how many seconds the lock is waited for (default 0).
#
# Keys of record_set that the record tells: version, rollout, reason. `phase` is kept as a key too.
#
# The lock is descriptor 9: the kernel's, so it is gone in the instant its process is. lib/process.sh closes it in
# children. Writing must never stop the work: on a full disk a line is lost and the deployment is not. state.json alone
# reports its failure, since without it a deployment cannot be taken up again.

record=''          # the folder of this deployment
record_strategy='' # canary, blue-green, rollback
record_name=''     # what the lock is about
record_phase=''    # the phase under way
record_lock_wait=0
declare -A record_state=()

# record_times: sets `now_text` (RFC 3339, UTC, milliseconds) and `now_seconds` (Unix, with three digits).
record_times() {
    local now=${EPOCHREALTIME/,/.}
    now_seconds=${now%???}
    TZ=UTC printf -v now_text '%(%Y-%m-%dT%H:%M:%S)T.%sZ' "${now%.*}" "${now_seconds#*.}"
}

record_take_lock() {
    mkdir -p -- "$RECORDS_DIR" 2>/dev/null || return 74
    RECORDS_DIR=$(realpath -- "$RECORDS_DIR") || return 74
    { exec 9>>"$RECORDS_DIR/.$1.lock"; } 2>/dev/null || return 74
    flock -w "$record_lock_wait" 9 || return 75
}

record_open() {
    local stamp
    record_strategy=$1 record_name=$2
    record_take_lock "$record_name" || return
    TZ=UTC printf -v stamp '%(%Y%m%dT%H%M%SZ)T' -1
    record=$RECORDS_DIR/$stamp-$record_name-$$
    mkdir -m 0700 -- "$record" 2>/dev/null || return 74
    log_file=$record/$record_strategy.log
    record_state=()
    if declare -F versions_json >/dev/null; then
        record_state[versions]=$(versions_json)
    fi
    record_state[started]=$EPOCHSECONDS
    record_set strategy "$record_strategy" name "$record_name" || return
    telemetry opened strategy="$record_strategy" user="$(record_user)" host="$(uname -n)"
}

record_begin() {
    local status=0
    record_open "$1" "$2" || status=$?
    case $status in
        0) ;;
        75) fail 75 "$3" ;;
        *) fail "$status" "no record can be written to '$RECORDS_DIR'" ;;
    esac
    note "${0##*/} $(quoted "${command_line[@]}")"
    log "record: $record"
}

record_try() {
    local status=0
    record_open "$@" || status=$?
    ((status != 75)) || return 75
    ((status != 0)) || return 0
    record='' log_file=''
    log "warning: no record can be written to '$RECORDS_DIR'; going on without"
}

# record_read DIR: sets `record` and what its state says.
record_read() {
    local key value
    [[ -r $1/state.json ]] || return 66
    record=$(realpath -- "$1") || return 66
    RECORDS_DIR=$(dirname -- "$record")
    record_state=()
    while IFS= read -r -d '' key && IFS= read -r -d '' value; do
        record_state[$key]=$value
    done < <(jq -j 'to_entries[] | .key, "\u0000", .value, "\u0000"' "$record/state.json" 2>/dev/null)
    record_strategy=${record_state[strategy]:-} record_name=${record_state[name]:-}
    [[ -n $record_strategy && -n $record_name ]] || return 66
}

record_reopen() {
    record_read "$1" || return
    record_state[reason]='' # why it did not end then says nothing of how it will
    record_take_lock "$record_name" || return
    log_file=$record/$record_strategy.log
    telemetry resumed user="$(record_user)"
}

# The names begin with the time, so that their order is the order of time.
record_unfinished() {
    local folder
    while IFS= read -r folder; do
        [[ $folder != "$record" ]] || continue
        jq -e --arg strategy "$1" '.strategy == $strategy and (has("outcome") | not)' "$folder/state.json" \
            >/dev/null 2>&1 || continue
        printf '%s\n' "$folder"
    done < <(find "$RECORDS_DIR" -mindepth 1 -maxdepth 1 -type d -name '[0-9]*Z-*' 2>/dev/null | sort -r)
}

record_last() {
    local folders
    folders=$(record_unfinished "$1")
    [[ -n $folders ]] && printf '%s\n' "${folders%%$'\n'*}"
}

record_wait() (
    record_read "$1" || return
    { exec 7>>"$RECORDS_DIR/.$record_name.lock"; } 2>/dev/null || return 74
    flock -w "$2" 7 || return 75
)

record_close() (
    record_read "$1" || return
    { exec 7>>"$RECORDS_DIR/.$record_name.lock"; } 2>/dev/null || return 74
    flock -n 7 || return 75
    record_read "$1" || return
    [[ -z ${record_state[outcome]:-} ]] || return 0 # it has ended by itself meanwhile
    record_set outcome "$2" code "$3" || return 74
    ! record_is_told || record_textfile "$2"
)

# Whether the file for node-exporter is about this record. A newer one must not be overwritten.
record_is_told() {
    grep -qs "_started_timestamp_seconds{.*} ${record_state[started]:-}\$" "$(record_textfile_path)"
}

# Whoever asked for it: behind sudo, the person and not root.
record_user() {
    printf '%s\n' "${SUDO_USER:-$(id -un 2>/dev/null || id -u)}"
}

record_set() {
    local key pairs=()
    while (($# > 1)); do
        record_state[$1]=$2
        shift 2
    done
    [[ -n $record ]] || return 0
    for key in "${!record_state[@]}"; do
        pairs+=("$key" "${record_state[$key]}")
    done
    {
        jq -n '$ARGS.positional | . as $p | [range(0; length; 2) | {($p[.]): $p[. + 1]}] | add' --args "${pairs[@]}" \
            >"$record/.state.json" &&
            sync -- "$record/.state.json" && mv -f -- "$record/.state.json" "$record/state.json"
    } 2>/dev/null || return 74
}

record_get() {
    printf '%s\n' "${record_state[$1]:-}"
}

telemetry() {
    local event=$1 now_text now_seconds pair arguments=()
    [[ -n $record ]] || return 0
    shift
    record_times
    for pair in "$@"; do
        if [[ $pair == *:=* && ${pair%%:=*} != *=* ]]; then
            arguments+=(--argjson "${pair%%:=*}" "${pair#*:=}")
        else
            arguments+=(--arg "${pair%%=*}" "${pair#*=}")
        fi
    done
    {
        jq -cn --arg time "$now_text" --argjson at "$now_seconds" --arg event "$event" "${arguments[@]}" '$ARGS.named' \
            >>"$record/telemetry.jsonl"
    } 2>/dev/null || true
}

phase() {
    [[ -z $record_phase ]] || phase_end ok
    record_phase=$1
    telemetry phase_started phase="$record_phase"
    record_set phase "$record_phase" || note "the state of the record could not be written"
    record_textfile ''
}

phase_end() {
    [[ -n $record_phase ]] || return 0
    telemetry phase_ended phase="$record_phase" result="$1" reason="${2:-}"
    record_phase=''
}

archive() {
    local name
    [[ -n $record ]] || return 0
    if [[ $1 == - ]]; then
        { cat >"$record/${2:?archive - needs a name}"; } 2>/dev/null || note "not archived: $2"
    else
        name=${2:-$(basename -- "$1")}
        cp -- "$1" "$record/$name" 2>/dev/null || note "not archived: $1"
    fi
}

record_write() {
    local outcome=$1 code=$2
    [[ -n $record ]] || return 0
    case $outcome in
        promoted | switched | done | on_stable) phase_end ok ;;
        *) phase_end failed "${record_state[reason]:-}" ;;
    esac
    telemetry ended outcome="$outcome" code:="$code"
    if [[ $outcome != unfinished && $outcome != unproven ]]; then
        record_set code "$code" outcome "$outcome" || true
    fi
    { record_json "$outcome" "$code" >"$record/.record.json" &&
        mv -f -- "$record/.record.json" "$record/record.json"; } 2>/dev/null ||
        log "warning: the record could not be written to $record"
    { record_markdown <"$record/record.json" >"$record/.record.md" &&
        mv -f -- "$record/.record.md" "$record/record.md"; } 2>/dev/null || true
    record_textfile "$outcome"
}

# Everything from the telemetry, so that a deployment that was taken up again tells its whole story. A line that a crash
# cut short is left out.
record_json() {
    local versions='{}'
    ! declare -F versions_json >/dev/null || versions=$(versions_json)
    jq -nR --arg outcome "$1" --argjson code "$2" --argjson state "$(cat -- "$record/state.json")" \
        --argjson after "$versions" \
        --args '
        [inputs | fromjson?] as $events
        | ($events | map(select(.event == "look")) | last // {}) as $look
        | reduce ($events[] | select(.event == "phase_started" or .event == "phase_ended")) as $e ([];
            if $e.event == "phase_started"
            then . + [{name: $e.phase, started: $e.time, at: $e.at, seconds: null, result: "interrupted", reason: ""}]
            elif length > 0 and last.name == $e.phase
            then .[-1] += {seconds: ($e.at - last.at | . * 1000 | round | . / 1000),
                result: $e.result, reason: $e.reason}
            else . end)
        | map(del(.at)) as $phases
        | {
            schema: "haldane.deployment/1", strategy: $state.strategy, name: $state.name,
            version: (if ($state.version // "") == "" then null else $state.version end),
            outcome: $outcome, exit_code: $code,
            reason: ([$state.reason, $look.reason] | map(select(. != null and . != "")) | first // ""),
            started: $events[0].time, ended: $events[-1].time,
            seconds: ($events[-1].at - $events[0].at | . * 1000 | round | . / 1000),
            user: ($events[0].user // ""), host: ($events[0].host // ""),
            resumed: ($events | map(select(.event == "resumed")) | length),
            versions: {before: ($state.versions // "{}" | fromjson? // {}), after: $after},
            rollout: ($state.rollout // null),
            verdict: ($look | {state, decision, reason, weight}),
            preflight: [$events[] | select(.event == "check") | {name, result, message, seconds}],
            phases: $phases, artifacts: ($ARGS.positional | sort)
        }' "$(record_files record.json record.md)" <"$record/telemetry.jsonl" |
        jq '.artifacts |= (map(split("\n")[]) | map(select(. != "")) | unique)'
}

# The files that are there, and those that are about to be.
record_files() {
    find "$record" -mindepth 1 -type f -not -name '.*' -printf '%P\n'
    printf '%s\n' "$@"
}

record_markdown() {
    jq -r '
        def cell: tostring | gsub("[|\n]"; " ");
        "# \(.strategy) of \(.name)\(if .version then " to version \(.version)" else "" end): \(.outcome)", "",
        "| | |", "|---|---|",
        "| outcome | \(.outcome), exit code \(.exit_code) |",
        "| why | \(.reason | cell) |",
        "| who | \(.user)@\(.host)\(if .resumed > 0 then ", taken up again \(.resumed) times" else "" end) |",
        "| when | \(.started) to \(.ended), \(.seconds) s |",
        (if .rollout
            then "| rollout | \(.rollout), last verdict: \(.verdict.state), \(.verdict.decision) |" else empty end),
        (.versions | to_entries[]
            | "| versions \(.key) | \([.value | to_entries[] | "\(.key) \(.value)"] | join(", ")) |"),
        "", "| phase | began | seconds | result | why |", "|---|---|---|---|---|",
        (.phases[] | "| \(.name) | \(.started) | \(.seconds // "?") | \(.result) | \(.reason | cell) |"),
        (if (.preflight | length) > 0 then "", "| check before it | result | found |", "|---|---|---|",
            (.preflight[] | "| \(.name | cell) | \(.result) | \(.message | cell) |") else empty end),
        "", "Files: \(.artifacts | join(", "))."'
}

# Two stacks of one machine may share the folder.
record_textfile_path() {
    printf '%s\n' "${TEXTFILE_DIR:-}/haldane_deployment_${PROJECT:-}_$record_strategy.prom"
}

# For node-exporter, which reads whole files: so it is replaced in one step, and readable by it.
record_textfile() {
    local file labels now=$EPOCHSECONDS
    [[ -n $record && -n ${TEXTFILE_DIR:-} && -d $TEXTFILE_DIR ]] || return 0
    file=$(record_textfile_path)
    labels="project=\"${PROJECT:-}\",strategy=\"$record_strategy\",name=\"$record_name\",version=\"${record_state[version]:-}\""
    {
        {
            printf '# HELP %s_phase The phase of the last deployment that is under way.\n# TYPE %s_phase gauge\n' \
                haldane_deployment haldane_deployment
            [[ -n $1 ]] || printf 'haldane_deployment_phase{%s,phase="%s"} 1\n' "$labels" "$record_phase"
            printf '# HELP %s_started_timestamp_seconds When it began.\n# TYPE %s_started_timestamp_seconds gauge\n' \
                haldane_deployment haldane_deployment
            printf 'haldane_deployment_started_timestamp_seconds{%s} %s\n' "$labels" "${record_state[started]}"
            if [[ -n $1 ]]; then
                printf '# HELP %s_ended_timestamp_seconds When it ended.\n# TYPE %s_ended_timestamp_seconds gauge\n' \
                    haldane_deployment haldane_deployment
                printf 'haldane_deployment_ended_timestamp_seconds{%s} %s\n' "$labels" "$now"
                printf '# HELP %s_outcome How it ended.\n# TYPE %s_outcome gauge\n' \
                    haldane_deployment haldane_deployment
                printf 'haldane_deployment_outcome{%s,outcome="%s"} 1\n' "$labels" "$1"
            fi
        } >"$file.$$" && chmod 0644 -- "$file.$$" && mv -f -- "$file.$$" "$file"
    } 2>/dev/null || note "the file $file for node-exporter could not be written"
}
