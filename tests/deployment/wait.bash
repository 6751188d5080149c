# shellcheck shell=bash
#
# Waiting, for all tests on a real engine.

# within SECONDS COMMAND...: until it succeeds.
within() {
    local deadline=$((EPOCHSECONDS + $1))
    shift
    until "$@"; do
        ((EPOCHSECONDS < deadline)) || return 1
        sleep 0.3
    done
}
