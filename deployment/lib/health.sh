# shellcheck shell=bash
#
# Is the canary well? A URL must answer 2xx; any other text is a command that must exit with 0. Either has five seconds:
# a canary that hangs is as ill as one that refuses.

health_limit=5

# health_ok CHECK FILE: what was answered, or why not, is left in FILE.
health_ok() {
    local check=$1 file=$2 status
    if [[ $check =~ ^https?:// ]]; then
        run_to_end curl --silent --show-error --max-time "$health_limit" --output /dev/null \
            --write-out 'HTTP status %{http_code}\n' "$check" >"$file" 2>&1 || return 1
        status=$(<"$file")
        [[ $status =~ ^HTTP\ status\ 2[0-9][0-9]$ ]]
    else
        run_to_end timeout --kill-after=2 "$health_limit" bash -c "$check" >"$file" 2>&1
    fi
}
