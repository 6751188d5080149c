#!/usr/bin/env bash
#
# DEPLOY_COMMAND, STOP_COMMAND and BALANCER_RELOAD_COMMAND for the demo's stack (compose/demo/stack.sh), as a team
# without containers would write them. Its environment says where the stack is.
#
#   deploy SLOT VERSION [OPTION]...  one server after the other, each of them back in the balancer before the next
#   stop SLOT
#   reload                           a new HAProxy takes over the listeners of the old one
set -euo pipefail

demo=$(cd -- "$(dirname -- "${BASH_SOURCE[0]}")/../../compose/demo" && pwd)
socket=$DEMO_RUN/haproxy.sock

servers() {
    if [[ $1 == stable ]]; then echo stable1 stable2; else echo canary1; fi
}

port() {
    local name=DEMO_${1^^}_PORT
    printf '%s\n' "${!name}"
}

# launch NAME COMMAND...: as stack.sh knows its processes; sets `launched`. Each writes down its own number before it
# becomes the program, so that none is left that nobody knows if we are killed in between. The settings of a deployment,
# which are in our environment, are no business of a server.
launch() {
    local name=$1
    shift
    (
        echo "$BASHPID" >"$DEMO_RUN/$name.pid"
        exec env -i PATH="$PATH" HALDANE_DEMO="$DEMO_RUN/$name" setsid "$@"
    ) >>"$DEMO_RUN/$name.log" 2>&1 </dev/null 3>&- &
    launched=$!
}

# wait_ready SERVER: until the one that was launched answers. Another one at its port would not do.
wait_ready() {
    local try url
    url=http://127.0.0.1:$(port "$1")/readyz
    for ((try = 0; try < 100; try++)); do
        kill -0 "$launched" 2>/dev/null || break
        ! curl -fsS --noproxy '*' -o /dev/null "$url" 2>/dev/null || return 0
        sleep 0.1
    done
    echo "$1 is not ready: $(tail -n 1 "$DEMO_RUN/$1.log")" >&2
    return 1
}

# Until HAProxy sees the server up, in whichever backend.
wait_up() {
    local try
    for ((try = 0; try < 100; try++)); do
        ! echo 'show servers state' | socat - "UNIX-CONNECT:$socket" |
            awk -v name="$1" '$4 == name && $6 == 2 { up = 1 } END { exit !up }' || return 0
        sleep 0.1
    done
    echo "HAProxy does not see $1 up" >&2
    return 1
}

deploy() {
    local slot=$1 version=$2 server
    shift 2
    for server in $(servers "$slot"); do
        "$demo/stack.sh" stop "$server"
        launch "$server" "$HALDANE_BUILD/compose/haldane-demo-shop" --listen "127.0.0.1:$(port "$server")" \
            --version "$version" --failure-share "${DEMO_FAILURE_SHARE:-0%}" \
            --latency-median "${DEMO_LATENCY_MEDIAN:-10ms}" "$@"
        wait_ready "$server"
        wait_up "$server"
    done
}

stop() {
    local server
    for server in $(servers "$1"); do
        "$demo/stack.sh" stop "$server"
    done
}

reload() {
    local old
    old=$(cat "$DEMO_RUN/haproxy.pid")
    launch haproxy haproxy -db -f "$DEMO_RUN/haproxy.cfg" -x "$socket" -sf "$old"
}

"$@"
