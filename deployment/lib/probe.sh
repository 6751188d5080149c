# shellcheck shell=bash
# shellcheck disable=SC2154 # scratch is the caller's
#
# Checks that run at the same time, each with a time limit. What hangs is a failure of that check and keeps no other
# waiting, nor the end of the script: it is killed with all that it started, and not waited for.
#
# A check is a function. It says what it found by ok, warn, bad or unsure, once or several times. Uses of the caller:
# `scratch` (a folder).

probe_names=()
probe_targets=()
probe_hows=()
probe_calls=()
probe_groups=() # process groups of those that run; 0: has ended

# probe NAME TARGET HOW FUNCTION [ARGUMENT]...: one more check. HOW is a sentence for --dry-run.
probe() {
    local call
    printf -v call '%q ' "${@:4}"
    probe_names+=("$1")
    probe_targets+=("$2")
    probe_hows+=("$3")
    probe_calls+=("$call")
}

# --- What a check says -----------------------------------------------------------------------------------------------

# Each TARGET MESSAGE [HINT]. The hint is what a person can do about it.
ok() { verdict ok "$@"; }
warn() { verdict warn "$@"; }
bad() { verdict fail "$@"; }
unsure() { verdict unknown "$@"; }

# The fields of a line are parted by a character that no text has: control characters are taken out.
verdict() {
    local status=$1 target=$2 message=$3 hint=${4:-} micros
    micros=$((${EPOCHREALTIME/[.,]/} - probe_began))
    printf '%s\x1f%s\x1f%s\x1f%s\x1f%s\x1f%s\n' "$probe_name" "${target//[[:cntrl:]]/ }" "$status" "$micros" \
        "${message//[[:cntrl:]]/ }" "${hint//[[:cntrl:]]/ }" >>"$probe_result"
}

# probe_file NAME: where a check can leave something; a path that nobody else uses.
probe_file() {
    printf '%s.%s\n' "$probe_result" "$1"
}

# --- The run ---------------------------------------------------------------------------------------------------------

# probes_run SECONDS: runs all checks. Prints a JSON list of what they found, in the order in which they were added:
# name, target, status, message, seconds, hint.
probes_run() {
    local limit=$1 folder index open deadline left reports
    folder=$(mktemp -d "$scratch/probes.XXXXXX")
    mkfifo "$folder/ended"
    exec {reports}<>"$folder/ended"
    deadline=$((${EPOCHREALTIME/[.,]/} + limit * 1000000))
    probe_groups=()
    for index in "${!probe_calls[@]}"; do
        probe_start "$folder" "$index" "$reports"
    done
    open=${#probe_calls[@]}
    while ((open > 0)); do
        left=$((deadline - ${EPOCHREALTIME/[.,]/}))
        ((left > 0)) || break
        printf -v left '%d.%06d' $((left / 1000000)) $((left % 1000000))
        read -r -t "$left" -u "$reports" index || break
        probe_groups[index]=0
        open=$((open - 1))
    done
    exec {reports}>&-
    probes_kill
    for index in "${!probe_calls[@]}"; do
        probe_conclude "$folder/$index" "$index" "$limit"
        cat -- "$folder/$index"
    done | jq -cR -s '[split("\n")[] | select(. != "") | split("\u001f")
        | {name: .[0], target: .[1], status: .[2], message: .[4], hint: .[5],
            seconds: (.[3] | tonumber / 1000 | round / 1000)}]'
    rm -rf -- "$folder"
}

# Job control gives a check a process group of its own, by which all of it can be ended.
probe_start() {
    local folder=$1 index=$2 reports=$3
    set -m
    (
        set +em
        trap - INT TERM HUP
        # shellcheck disable=SC2064 # the values of now are meant
        trap "echo $index >&$reports" EXIT
        probe_name=${probe_names[index]} probe_began=${EPOCHREALTIME/[.,]/} probe_result=$folder/$index
        eval "${probe_calls[index]}"
        : >"$(probe_file through)"
    ) >"$folder/$index.log" 2>&1 </dev/null &
    probe_groups[index]=$!
    set +m
    disown "$!"
}

# Ends what still runs.
probes_kill() {
    local group
    for group in "${probe_groups[@]}"; do
        ((group == 0)) || kill -KILL -- "-$group" 2>/dev/null || true
    done
}

# What a check found before it hung or broke stands; that it did is a finding of its own.
probe_conclude() {
    local probe_result=$1 index=$2 limit=$3 probe_name probe_began=${EPOCHREALTIME/[.,]/} last
    probe_name=${probe_names[index]}
    if ((probe_groups[index] != 0)); then
        probe_began=$((probe_began - limit * 1000000))
        bad "${probe_targets[index]}" "no answer within $limit s" "it hangs, or takes longer than HEALTH_CHECK_TIMEOUT"
    elif [[ ! -e $(probe_file through) || ! -s $probe_result ]]; then
        last=$(tail -n 1 -- "$(probe_file log)" 2>/dev/null) || last=''
        unsure "${probe_targets[index]}" "the check itself failed${last:+: $last}"
    fi
}
