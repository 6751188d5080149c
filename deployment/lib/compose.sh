# shellcheck shell=bash
# shellcheck disable=SC2154 # root and the settings are of lib/config.sh
#
# The stack's containers. They are found by the labels that compose gives them, never by name: both generations of
# compose make names differently.
#
# Uses of the caller: lib/log.sh, and the settings of lib/config.sh.

compose_program=()

# compose ARGUMENT...: docker compose (v2) if it is there, else docker-compose (1.29), for this project.
compose() {
    local arguments=() file
    if ((${#compose_program[@]} == 0)); then
        compose_find
    fi
    for file in $COMPOSE_FILES; do
        arguments+=(--file "$file")
    done
    [[ $GRAFANA != yes ]] || arguments+=(--profile grafana)
    "${compose_program[@]}" --project-name "$PROJECT" "${arguments[@]}" --profile "$STRATEGY" "$@"
}

compose_find() {
    command -v docker >/dev/null || fail 69 "'docker' is not found in PATH"
    if docker compose version >/dev/null 2>&1; then
        compose_program=(docker compose)
    elif command -v docker-compose >/dev/null; then
        compose_program=(docker-compose)
    else
        fail 69 "neither 'docker compose' nor 'docker-compose' is there; install one of them"
    fi
}

# engine_ready: fails if the Docker engine does not answer.
engine_ready() {
    docker version --format '{{.Server.Version}}' >/dev/null 2>&1
}

# container SERVICE: prints the id of its container, also of one that has stopped; fails if there is none.
container() {
    local ids
    ids=$(docker ps --all --quiet --no-trunc --filter "label=com.docker.compose.project=$PROJECT" \
        --filter "label=com.docker.compose.service=$1" --filter label=com.docker.compose.oneoff=False) || return 1
    [[ -n $ids ]] && printf '%s\n' "${ids%%$'\n'*}"
}

# container_state SERVICE: healthy, unhealthy, starting, running (no health check), restarting, paused, exited, absent.
container_state() {
    local id text
    id=$(container "$1") &&
        text=$(docker inspect --format '{{.State.Status}} {{with .State.Health}}{{.Status}}{{end}}' "$id" \
            2>/dev/null) ||
        text=absent
    case $text in
        'running '?*) printf '%s\n' "${text#running }" ;;
        created* | dead* | removing*) printf 'exited\n' ;;
        *) printf '%s\n' "${text%% *}" ;;
    esac
}

# wait_healthy SECONDS SERVICE...: until each is healthy (or runs, if it has no health check). Fails when the time is
# up, and names those that are not.
wait_healthy() {
    local deadline=$((EPOCHSECONDS + $1)) service state waiting
    shift
    while :; do
        waiting=()
        for service in "$@"; do
            state=$(container_state "$service")
            [[ $state == healthy || $state == running ]] || waiting+=("$service ($state)")
        done
        ((${#waiting[@]} > 0)) || return 0
        if ((EPOCHSECONDS >= deadline)); then
            log "not healthy in time: ${waiting[*]}"
            return 1
        fi
        sleep 0.5
    done
}

# inside SERVICE COMMAND...: runs it in the service's container, with our standard input.
inside() {
    local id
    id=$(container "$1") || return 69
    shift
    docker exec --interactive "$id" "$@"
}

# slot_services SLOT: its services, one a line.
slot_services() {
    case $1 in
        stable | canary | blue | green) printf 'shop-%s-1\nshop-%s-2\n' "$1" "$1" ;;
        *) return 1 ;;
    esac
}
