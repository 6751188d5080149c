# shellcheck shell=bash
#
# A production stack for tests: project, ports, secrets, state and policies of its own, on the private engine of
# engine.sh. Its policies are those of compose/policies with shorter times and nothing else.
#
# Sets lab (the folder), config (its configuration file), web and ops (addresses). Needs HALDANE_BUILD and, for load, its
# haldane-demo-load.

lab_source=$(cd -- "$(dirname -- "${BASH_SOURCE[0]}")/../.." && pwd)
lab_build=$(realpath -m -- "${HALDANE_BUILD:-$lab_source/build}")
lab='' config='' web='' ops=''

# shellcheck source=tests/deployment/wait.bash
source "$lab_source/tests/deployment/wait.bash"

# lab_make NAME STRATEGY [SETTING=VALUE...]: the folder and the configuration; nothing is started.
lab_make() {
    local name=$1 strategy=$2 ports
    shift 2
    lab=$lab_build/deployment/$name
    rm -rf -- "$lab"
    mkdir -p -- "$lab/textfile"
    lab_policies "$lab/policies"
    read -r -a ports < <("$lab_source/tests/free_ports" 6)
    config=$lab/deployment.conf
    web=http://127.0.0.1:${ports[0]}
    ops=http://127.0.0.1:${ports[2]}
    {
        printf '%s\n' "PROJECT=haldane-$name" "STRATEGY=$strategy" PUBLISH_ADDRESS=127.0.0.1 "HTTP_PORT=${ports[0]}" \
            "HTTPS_PORT=${ports[1]}" "OPS_PORT=${ports[2]}" "PROMETHEUS_PORT=${ports[3]}" \
            "ALERTMANAGER_PORT=${ports[4]}" "GRAFANA_PORT=${ports[5]}" "SECRETS_DIR=$lab/secrets" \
            "STATE_DIR=$lab/state" "RECORDS_DIR=$lab/records" "BACKUP_DIR=$lab/backups" "TEXTFILE_DIR=$lab/textfile" \
            "POLICIES=$lab/policies"
        (($# == 0)) || printf '%s\n' "$@"
    } >"$config"
    export HALDANE_DEPLOYMENT_CONF=$config
}

# What takes minutes in production takes seconds here. The comparison itself stays as it is.
lab_policies() {
    mkdir -p -- "$1"
    local file
    for file in "$lab_source"/compose/policies/*.yaml; do
        sed -E -e 's/^look: .*/look: 5s/; s/^settle: .*/settle: 6s/; s/^warmup: .*/warmup: 5s/' \
            -e 's/unattended: [0-9a-z]+/unattended: 20s/; s/min: [0-9a-z]+, max: [0-9a-z]+/min: 5s, max: 3m/' \
            -e 's/bake: [0-9a-z]+/bake: 15s/' "$file" >"$1/$(basename -- "$file")"
    done
}

stack() {
    "$lab_source/deployment/stack.sh" "$@"
}

# lab_versions: 2.0.0 is as good as 1.0.0, 3.0.0 fails three of a hundred requests.
lab_versions() {
    local version options
    while IFS='|' read -r version options; do
        stack build "$version" "$options" || return 1
    done <<'END'
1.0.0|
2.0.0|
3.0.0|--failure-share 3%
END
}

# load_begin NAME RATE [OPTION...]: in the background; its account is $lab/NAME.json once load_end has ended it.
load_begin() {
    local name=$1 rate=$2
    shift 2
    setsid "$lab_build/compose/haldane-demo-load" --url "$web" --rate "$rate" --arrivals poisson --short-share 30% \
        --timeout 20s --json "$lab/$name.json" "$@" >"$lab/$name.load.log" 2>&1 </dev/null &
    load_pid=$!
}

load_end() {
    local status=0
    kill -TERM "$load_pid" 2>/dev/null || true
    wait "$load_pid" || status=$?
    load_pid=''
    return "$status"
}

# share: basis points that the balancer gives the canary now, by its own page.
lab_share() {
    curl -fsS --max-time 3 "$ops/haldane/share" | sed -n 's/^share_bp=\([0-9]*\).*/\1/p'
}

# lab_container SERVICE: its id, if it runs.
lab_container() {
    local id
    id=$(docker ps --quiet --filter "label=com.docker.compose.project=$(sed -n 's/^PROJECT=//p' "$config")" \
        --filter "label=com.docker.compose.service=$1") && [[ -n $id ]] && printf '%s\n' "$id"
}

# service_pid SERVICE: the pid, on this machine, of the service's own program (below the engine's init).
service_pid() {
    local id init
    id=$(lab_container "$1") || return 1
    init=$(docker inspect --format '{{.State.Pid}}' "$id")
    cut -d ' ' -f 1 <"/proc/$init/task/$init/children"
}
