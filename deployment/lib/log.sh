# shellcheck shell=bash
#
# Telling. Each line goes to stderr for whoever watches and, with the same time, to the record of the deployment.
# Telling must never stop the work: when the terminal is gone or the disk is full, the line is lost and the rollout is
# not. So nothing in here can fail.

log_file=''

log() {
    local now text="$*"
    TZ=UTC printf -v now '%(%Y-%m-%dT%H:%M:%SZ)T' -1
    printf '%s %s\n' "$now" "${text//[[:cntrl:]]/ }" >&2 2>/dev/null || true
    note "$text"
}

# To the record alone: what is of use afterwards, but noise for whoever watches.
note() {
    local now text="$*"
    [[ -n $log_file ]] || return 0
    TZ=UTC printf -v now '%(%Y-%m-%dT%H:%M:%SZ)T' -1
    { printf '%s %s\n' "$now" "${text//[[:cntrl:]]/ }" >>"$log_file"; } 2>/dev/null || true
}

# Each line of a file, e.g. what a command wrote to stderr, marked with who said it.
log_lines() {
    local who=$1 file=$2 line
    while IFS= read -r line || [[ -n $line ]]; do
        log "$who: $line"
    done <"$file"
}

# fail CODE TEXT...: says why and ends with that exit code.
fail() {
    local code=$1
    shift
    log "error: $*"
    exit "$code"
}

# need TOOL...: they are in PATH, or nothing is begun.
need() {
    local tool
    for tool in "$@"; do
        command -v "$tool" >/dev/null || fail 69 "'$tool' is not found in PATH; install it or put it there"
    done
}

# A command as a person can paste it into a shell.
quoted() {
    local text
    printf -v text '%q ' "$@"
    printf '%s' "${text% }"
}
