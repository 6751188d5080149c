# shellcheck shell=bash
#
# Shared parts of the tests on a real Docker engine: the engine, a stack of the file's own, and what is asked of it.
# A file says `load stack`, and calls stack_begin and stack_end in setup_file and teardown_file.

bats_require_minimum_version 1.5.0

# An unset variable is a failure, not a skip: a test that did not run has proved nothing.
: "${HALDANE_SOURCE:?HALDANE_SOURCE must name the repository}"

# shellcheck source=tests/deployment/wait.bash
source "$HALDANE_SOURCE/tests/deployment/wait.bash"

# stack_begin PROJECT PORT [NAME=VALUE...]: the engine runs, and $stack_conf has a stack of this name, whose ports begin
# at PORT: +80 HTTP, +43 HTTPS, +5 ops, +90 Prometheus, +93 Alertmanager. Nothing is started.
stack_begin() {
    local project=$1 port=$2 environment
    shift 2
    "$HALDANE_SOURCE/tests/deployment/engine.sh" start
    environment=$("$HALDANE_SOURCE/tests/deployment/engine.sh" env)
    eval "$environment"
    export stack_conf=$BATS_FILE_TMPDIR/stack.conf stack_web=http://127.0.0.1:$((port + 80))
    export stack_tls=https://127.0.0.1:$((port + 43)) stack_ops=http://127.0.0.1:$((port + 5))
    export stack_prometheus=http://127.0.0.1:$((port + 90)) stack_project=$project
    printf '%s\n' "PROJECT=$project" PUBLISH_ADDRESS=127.0.0.1 "HTTP_PORT=$((port + 80))" "HTTPS_PORT=$((port + 43))" \
        "OPS_PORT=$((port + 5))" "PROMETHEUS_PORT=$((port + 90))" "ALERTMANAGER_PORT=$((port + 93))" \
        "SECRETS_DIR=$BATS_FILE_TMPDIR/secrets" "STATE_DIR=$BATS_FILE_TMPDIR/state" \
        "RECORDS_DIR=$BATS_FILE_TMPDIR/records" "BACKUP_DIR=$BATS_FILE_TMPDIR/backups" \
        "TEXTFILE_DIR=$BATS_FILE_TMPDIR/textfile" "$@" >"$stack_conf"
}

stack() {
    "$HALDANE_SOURCE/deployment/stack.sh" --config "$stack_conf" "$@"
}

stack_end() {
    stack down --volumes --yes >&2
}

# with_setting NAME=VALUE...: from now on.
with_setting() {
    local setting
    for setting in "$@"; do
        sed -i "/^${setting%%=*}=/d" "$stack_conf"
        printf '%s\n' "$setting" >>"$stack_conf"
    done
}

container_of() {
    docker ps --all --quiet --no-trunc --filter "label=com.docker.compose.project=$stack_project" \
        --filter "label=com.docker.compose.service=$1" --filter label=com.docker.compose.oneoff=False | head -n 1
}

inside() {
    local service=$1
    shift
    docker exec --interactive "$(container_of "$service")" "$@" </dev/null
}

inspect() {
    docker inspect --format "$2" "$(container_of "$1")"
}

# The answer of Prometheus to a query: the value of its first series; empty if there is none.
ask_prometheus() {
    curl -fsS --noproxy '*' --max-time 5 --data-urlencode "query=$1" "$stack_prometheus/api/v1/query" |
        jq -r '.data.result[0].value[1] // empty'
}
