# shellcheck shell=bash
# shellcheck disable=SC2154 # settings of deployment.conf, and lib/config.sh's root
# shellcheck disable=SC2034 # what fetch sets is the caller's
#
# Where the parts of the stack are, and how they are spoken to: as the settings say, or else as the compose stack
# publishes them. `none` means that there is no such thing.

# places_load: fills the settings that are empty and follow from others.
places_load() {
    local address=$PUBLISH_ADDRESS
    [[ $address != 0.0.0.0 ]] || address=127.0.0.1
    [[ $address != :: ]] || address=::1
    [[ $address != *:* || $address == \[* ]] || address="[$address]"
    SHOP_URL=${SHOP_URL:-http://$address:$HTTP_PORT}
    SHOP_TLS_URL=${SHOP_TLS_URL:-https://$address:$HTTPS_PORT}
    OPS_URL=${OPS_URL:-http://127.0.0.1:$OPS_PORT}
    PROMETHEUS_URL=${PROMETHEUS_URL:-http://127.0.0.1:$PROMETHEUS_PORT}
    ALERTMANAGER_URL=${ALERTMANAGER_URL:-http://127.0.0.1:$ALERTMANAGER_PORT}
    SHOP_URL=${SHOP_URL%/} SHOP_TLS_URL=${SHOP_TLS_URL%/} OPS_URL=${OPS_URL%/}
    PROMETHEUS_URL=${PROMETHEUS_URL%/} ALERTMANAGER_URL=${ALERTMANAGER_URL%/}
}

# Whether this machine runs the stack in containers, or the settings name servers elsewhere.
uses_compose() {
    [[ -n $COMPOSE_FILES ]]
}

# there PLACE: whether there is such a thing at all.
there() {
    [[ $1 != none ]]
}

# A database or a cache is there if a command of the settings reaches it, or a container can.
database_there() {
    there "$DATABASE_COMMAND" && { [[ -n $DATABASE_COMMAND ]] || uses_compose; }
}

cache_there() {
    there "$CACHE_COMMAND" && { [[ -n $CACHE_COMMAND ]] || uses_compose; }
}

# run_setting WORDS ARGUMENT...: a command of the settings, with more arguments, in the repository's root.
run_setting() {
    local words=$1
    shift
    (cd -- "$root" && exec bash -c "$words \"\$@\"" setting "$@")
}

# How long a program may take, in seconds. In a container it ends by itself: killing `docker exec` would not end it.
inside_limit=60

# database PROGRAM ARGUMENT...: one of PostgreSQL's client programs, which knows the server, the user and the database.
database() {
    if [[ -n $DATABASE_COMMAND ]]; then
        run_setting "timeout --foreground -k 1 $inside_limit $DATABASE_COMMAND" "$@"
    else
        inside postgres env PGUSER="$DATABASE_USER" PGDATABASE="$DATABASE_NAME" timeout -k 1 "$inside_limit" "$@"
    fi
}

# cache [ARGUMENT]...: redis-cli. In the container its wrapper knows the password, which no list of processes shows.
cache() {
    if [[ -n $CACHE_COMMAND ]]; then
        run_setting "timeout --foreground -k 1 $inside_limit $CACHE_COMMAND" "$@"
    else
        inside redis timeout -k 1 "$inside_limit" cache "$@"
    fi
}

# fetch URL FILE [OPTION OF CURL]...: the answer's body goes to FILE; sets http_code, http_ms and http_error. Fails if
# there was no answer.
fetch() {
    local url=$1 file=$2 answer seconds tls=()
    shift 2
    [[ $TLS_VERIFY == yes ]] || tls=(--insecure)
    answer=$(curl --silent --noproxy '*' "${tls[@]}" --output "$file" --max-time "$inside_limit" \
        --write-out '%{http_code} %{time_total} %{errormsg}' "$@" -- "$url" 2>/dev/null) || true
    read -r http_code seconds http_error <<<"$answer"
    http_ms=$(milliseconds "${seconds:-0}")
    [[ ${http_code:-000} != 000 ]]
}

# Seconds with a fraction, as curl prints them, in whole milliseconds.
milliseconds() {
    local whole=${1%%.*} fraction=000
    [[ $1 != *.* ]] || fraction=${1#*.}000
    printf '%d\n' $((10#$whole * 1000 + 10#${fraction:0:3}))
}

# --- slots -----------------------------------------------------------------------------------------------------------

slots_of_strategy() {
    if [[ $STRATEGY == canary ]]; then
        printf '%s\n' stable canary
    else
        printf '%s\n' blue green
    fi
}

# The slot with the traffic, as the deployments have recorded it; before the first one, the slot that a new stack uses.
slot_with_traffic() {
    local slot
    slot=$(live_slot) || slot=''
    if [[ $STRATEGY == canary ]]; then
        printf 'stable\n'
    elif [[ $slot == green ]]; then
        printf 'green\n'
    else
        printf 'blue\n'
    fi
}

slot_without_traffic() {
    case $(slot_with_traffic) in
        stable) printf 'canary\n' ;;
        blue) printf 'green\n' ;;
        green) printf 'blue\n' ;;
    esac
}
