#!/usr/bin/env bash
#
# A Docker engine of the tests' own: another data root, another socket, other networks than the machine's, so that
# nothing of the machine's is touched and nothing of it is needed. Its base image is made of Debian's packages.
set -euo pipefail

usage() {
    cat <<'TEXT'
usage: tests/deployment/engine.sh COMMAND

  start   start the engine if it does not run, and make the base image debian:bookworm-slim if it is not there
  stop    stop it and all its containers; its data stays
  clean   stop it and remove its data
  env     print what to set to use it: eval "$(tests/deployment/engine.sh env)"

Needs root, and Debian's docker.io, docker-compose, mmdebstrap and iptables.

Environment:
  HALDANE_ENGINE   its folder (default /var/tmp/haldane-engine)

Exit codes: 0 done; 64 wrong usage; 69 it did not start (the end of its log is shown); 77 not root.
TEXT
}

folder=${HALDANE_ENGINE:-/var/tmp/haldane-engine}
socket=$folder/docker.sock
# Debian's programs and not what else a machine may have under the same names.
export PATH=/usr/sbin:/usr/bin:/sbin:/bin
export DOCKER_HOST=unix://$socket

fail() {
    local code=$1
    shift
    printf 'engine.sh: %s\n' "$*" >&2
    exit "$code"
}

running() {
    docker version >/dev/null 2>&1
}

need() {
    local tool
    for tool in dockerd docker docker-compose mmdebstrap iptables; do
        command -v "$tool" >/dev/null ||
            fail 69 "'$tool' is missing: apt-get install docker.io docker-compose mmdebstrap iptables"
    done
    ((EUID == 0)) || fail 77 "an engine needs root"
}

# One at a time: two that start it at once would end with two engines on one data root.
start() {
    need
    install -d -m 0711 "$folder" "$folder/data" "$folder/exec"
    exec 8>>"$folder/lock"
    flock 8
    if ! running; then
        launch
    fi
    if ! docker image inspect debian:bookworm-slim >/dev/null 2>&1; then
        make_base
    fi
}

launch() {
    local tenth
    # What an engine that was killed has left would keep the next one from starting.
    rm -f -- "$folder/docker.pid" "$socket"
    HALDANE_ENGINE_MARK=$folder setsid dockerd --data-root "$folder/data" --exec-root "$folder/exec" \
        --pidfile "$folder/docker.pid" --host "$DOCKER_HOST" --bip 10.213.0.1/24 \
        --default-address-pool base=10.214.0.0/16,size=24 --log-level warn \
        </dev/null >>"$folder/dockerd.log" 2>&1 8>&- &
    for ((tenth = 0; tenth < 300; tenth++)); do
        ! running || return 0
        sleep 0.1
    done
    tail -n 20 -- "$folder/dockerd.log" >&2
    fail 69 "the engine did not start within 30 s; its log is $folder/dockerd.log"
}

make_base() {
    printf 'engine.sh: making debian:bookworm-slim\n' >&2
    # As Debian's own slim image: without documents, translations and manual pages.
    mmdebstrap --quiet --variant=minbase --include=ca-certificates \
        --dpkgopt='path-exclude=/usr/share/man/*' --dpkgopt='path-exclude=/usr/share/doc/*' \
        --dpkgopt='path-exclude=/usr/share/locale/*' --dpkgopt='path-include=/usr/share/doc/*/copyright' \
        bookworm - | docker import --message 'made by mmdebstrap' - debian:bookworm-slim >/dev/null ||
        fail 69 "the base image could not be made"
}

# By its own pid, and only if that process is still the engine that was started here.
stop() {
    local pid tenth
    pid=$(cat -- "$folder/docker.pid" 2>/dev/null) || return 0
    grep -qszxF "HALDANE_ENGINE_MARK=$folder" "/proc/$pid/environ" || return 0
    kill -TERM "$pid"
    for ((tenth = 0; tenth < 600; tenth++)); do
        kill -0 "$pid" 2>/dev/null || return 0
        sleep 0.1
    done
    fail 69 "the engine did not end within a minute"
}

clean() {
    stop
    # What overlay file systems are still mounted would be removed with their data.
    ! grep -qF " $folder/" /proc/mounts || awk -v f="$folder/" 'index($2, f) == 1 { print $2 }' /proc/mounts |
        sort -r | xargs --no-run-if-empty umount
    rm -rf -- "$folder"
}

case "$#-${1:-}" in
    1-start | 1-stop | 1-clean) "$1" ;;
    1-env) printf 'export DOCKER_HOST=%q PATH=%s\n' "$DOCKER_HOST" "/usr/sbin:/usr/bin:/sbin:/bin:\$PATH" ;;
    1---help) usage ;;
    *)
        usage >&2
        exit 64
        ;;
esac
