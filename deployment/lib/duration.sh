# shellcheck shell=bash
#
# Prometheus's durations (1m30s, 2h, 500ms), for what a shell can wait for.

# Prints the milliseconds; fails if the text is not a duration longer than nothing.
duration_ms() {
    local rest=$1 total_ms=0 number
    local -A unit_ms=([ms]=1 [s]=1000 [m]=60000 [h]=3600000 [d]=86400000 [w]=604800000)
    while [[ $rest =~ ^([0-9]{1,9})(ms|[smhdw])(.*)$ ]]; do
        number=$((10#${BASH_REMATCH[1]}))
        total_ms=$((total_ms + number * unit_ms[${BASH_REMATCH[2]}]))
        rest=${BASH_REMATCH[3]}
    done
    [[ -z $rest ]] && ((total_ms > 0)) || return 1
    printf '%s\n' "$total_ms"
}

# Prints whole seconds, rounded up; fails as duration_ms does.
duration_seconds() {
    local ms
    ms=$(duration_ms "$1") || return 1
    printf '%s\n' $(((ms + 999) / 1000))
}
