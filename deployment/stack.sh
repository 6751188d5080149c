#!/usr/bin/env bash
#
# The stack of compose/docker-compose.prod.yml, as people and the other scripts handle it.
#
# Every command may be given again: what is so already is left as it is. A slot is never replaced as a whole: one of its
# servers after the other, and the next one only when HAProxy sends traffic to the one before.
# shellcheck disable=SC2317 # commands are called by their names
set -euo pipefail

here=$(cd -- "$(dirname -- "$(readlink -f -- "${BASH_SOURCE[0]}")")" && pwd)
# shellcheck source=deployment/lib/log.sh
source "$here/lib/log.sh"
# shellcheck source=deployment/lib/duration.sh
source "$here/lib/duration.sh"
# shellcheck source=deployment/lib/config.sh
source "$here/lib/config.sh"
# shellcheck source=deployment/lib/options.sh
source "$here/lib/options.sh"
# shellcheck source=deployment/lib/compose.sh
source "$here/lib/compose.sh"
# shellcheck source=deployment/lib/versions.sh
source "$here/lib/versions.sh"

usage() {
    cat <<'TEXT'
usage: deployment/stack.sh [--config FILE] [--dry-run] COMMAND [ARGUMENT...]

  init                     make the folders and the secrets that are missing
  build                    build all images, the application's of SHOP_VERSION among them; what has not changed is quick
  build VERSION [OPTIONS]  build the application's image of this version; OPTIONS are the demo shop's, to make a bad
                           version on purpose: build 3.0.0 '--failure-share 3%'
  up                       init and build, start everything, and wait until all is healthy
  down [--volumes [--yes]] stop and remove everything; with --volumes also the data, and only after a confirmation
  status [--format json]   each service, its state and its image
  deploy SLOT VERSION      run the migrations of the version, then bring the slot (stable, canary, blue, green) to it,
                           one server after the other
  migrate VERSION [--dry-run]
                           run the migrations of the version alone; with --dry-run list what would be applied
  restart SLOT             start the slot's servers again, one after the other
  stop SLOT [--force]      stop the slot's servers; refused while users depend on them, or if HAProxy does not say
                           whether they do, unless --force
  versions [--format json] which version is in which slot
  reload SERVICE           haproxy, prometheus or alertmanager: take the configuration as it is now, if it is right
  balancer                 HAProxy's commands on standard input, one a line; prints HAProxy's answers
  haldane ARGUMENT...      haldane in its container, with the variables that HALDANE_ENV and HALDANE_SETTINGS name
  shell SERVICE COMMAND    a command of the shell in the service's container
  logs SERVICE [OPTION...] what its container wrote; options are those of docker logs

Options:
  --config FILE   what differs from deployment.conf (default: $HALDANE_DEPLOYMENT_CONF)
  --dry-run       only say what would be done
  --help          this page

Exit codes: 0 done; 1 something did not come up, or a migration failed; 64 wrong usage; 65 a configuration is wrong;
66 a file cannot be read; 69 the engine or a container cannot be reached; 70 compose failed; 74 a file cannot be
written; 75 not now; 77 not confirmed, or files are open to others; those of haldane for haldane.
TEXT
}

config=''
dry_run=''
command=''
arguments=()

# Of the commands.
format=text
volumes=''
assume_yes=''
force=''
list=''

takes value --config
takes flag --dry-run

take_option() {
    case $1 in
        --config) config=$2 ;;
        --dry-run) if [[ -z $command ]]; then dry_run=$2; else list=$2; fi ;;
        --volumes) volumes=$2 ;;
        --yes) assume_yes=$2 ;;
        --force) force=$2 ;;
        --format)
            needs_one_of "$@" text json
            format=$2
            ;;
    esac
}

# The words after a command are the command's: some are for other programs.
take_command() {
    [[ -z $command ]] || usage_error "unexpected argument '$1'"
    command=$1
    arguments=("${@:2}")
}

# own_options KIND NAMES WORD...: reads the words of a command that takes these options; NAMES have blanks between.
own_options() {
    local names
    local -A options_known=()
    read -r -a names <<<"$2"
    takes "$1" "${names[@]}"
    options_read "${@:3}"
}

# change COMMAND...: what alters something; with --dry-run it is only told. What the command says is for people: stderr.
change() {
    if [[ -n $dry_run ]]; then
        printf 'would run: %s\n' "$(quoted "$@")"
    else
        "$@" >&2
    fi
}

# One change of the stack at a time. The lock is the kernel's and ends with this process.
take_turn() {
    [[ -z $dry_run ]] || return 0
    mkdir -p -- "$STATE_DIR" || fail 74 "the folder '$STATE_DIR' cannot be made"
    { exec 7>>"$STATE_DIR/.stack.lock"; } 2>/dev/null || fail 74 "nothing can be written to '$STATE_DIR'"
    flock -w 10 7 || fail 75 "another stack.sh is changing the stack $PROJECT"
}

need_engine() {
    [[ -n $dry_run ]] || engine_ready || fail 69 "the Docker engine does not answer (docker version)"
}

# ---------------------------------------------------------------------------------------------------------------- init

init() {
    local folder
    [[ -d $TEXTFILE_DIR ]] || change mkdir -p -m 0755 -- "$TEXTFILE_DIR" ||
        fail 74 "the folder '$TEXTFILE_DIR' cannot be made"
    for folder in "$STATE_DIR" "$RECORDS_DIR" "$BACKUP_DIR"; do
        [[ -d $folder ]] || change mkdir -p -- "$folder" || fail 74 "the folder '$folder' cannot be made"
    done
    [[ -n $dry_run ]] || mark_state
    [[ -d $SECRETS_DIR ]] || change mkdir -p -m 0700 -- "$SECRETS_DIR" ||
        fail 74 "the folder '$SECRETS_DIR' cannot be made"
    [[ -n $dry_run ]] || {
        keep_closed
        keep_open
    }
    make_secret db_password random_password
    make_secret redis_password random_password
    make_secret grafana_password random_password
    make_secret alert_webhook true
    make_secret tls.pem self_signed
}

# Whose memory it is, for config.sh, which refuses that of another stack. Whoever comes first has it.
mark_state() {
    [[ -e $STATE_DIR/project ]] || printf '%s\n' "$PROJECT" 2>/dev/null >"$STATE_DIR/project" ||
        fail 74 "nothing can be written to '$STATE_DIR'"
    config_own_state
}

# The files must be readable by the containers' users, so it is the folder that keeps others out.
keep_closed() {
    local mode
    mode=$(stat -c %a -- "$SECRETS_DIR")
    [[ $mode == 700 ]] || fail 77 "others may enter '$SECRETS_DIR' (mode $mode); chmod 700 it"
}

# What the containers read by mounts must be open to their users: a checkout under a strict umask is not.
keep_open() {
    local closed
    closed=$(find "$root/compose/haproxy" "$root/compose/prometheus" "$root/compose/alertmanager" \
        "$root/compose/grafana" "$POLICIES" ! -perm -o=r -print -quit) ||
        fail 66 "a folder that the containers read is missing"
    [[ -z $closed ]] || fail 77 "the containers' users may not read '$closed'; chmod -R o+rX its folder"
}

# make_secret NAME COMMAND: what the command prints becomes the secret, unless it is there.
make_secret() {
    local file=$SECRETS_DIR/$1
    [[ ! -e $file ]] || return 0
    if [[ -n $dry_run ]]; then
        printf 'would make: %s\n' "$file"
        return 0
    fi
    (
        umask 077
        "$2" >"$file.new"
    ) || fail 74 "the secret '$file' cannot be made"
    chmod 0444 -- "$file.new"
    mv -f -- "$file.new" "$file"
    log "made the secret $file"
}

random_password() {
    head -c 24 /dev/urandom | od -An -tx1 | tr -d ' \n'
}

# Until the real certificate is put in its place: certificate first, then the key.
self_signed() {
    local folder status=0
    folder=$(mktemp -d)
    openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 365 -subj '/CN=localhost' \
        -addext 'subjectAltName=DNS:localhost,IP:127.0.0.1' -keyout "$folder/key" -out "$folder/certificate" \
        2>/dev/null && cat -- "$folder/certificate" "$folder/key" || status=1
    rm -rf -- "$folder"
    return "$status"
}

# --------------------------------------------------------------------------------------------------------------- images

has_image() {
    docker image inspect "$1" >/dev/null 2>&1
}

# The images that compose builds here, as "service image", without the application's.
stack_images() {
    local text
    text=$(compose config) || return 70
    awk '/^[a-z]/ { inside = /^services:/ }
        /^  [a-z]/ { service = substr($1, 1, length($1) - 1) }
        inside && $1 == "build:" { builds[service] = 1 } inside && $1 == "image:" { images[service] = $2 }
        END { for (s in builds) if (s !~ /^shop-/) print s, images[s] }' <<<"$text"
}

# build_images SERVICE...
build_images() {
    (($# > 0)) || return 0
    has_image "$BASE_IMAGE" || log "the base image $BASE_IMAGE is not here yet; the engine will ask its registry for it"
    log "building: $*"
    change compose build "$@" || fail 70 "the images could not be built"
}

build_missing() {
    local service image names=()
    while read -r service image; do
        has_image "$image" || names+=("$service")
    done < <(stack_images)
    build_images "${names[@]}"
}

# build_shop VERSION OPTIONS
build_shop() {
    is_version "$1" || usage_error "'$1' is no version: letters, digits, '_', '.' and '-'"
    log "building $SHOP_IMAGE:$1"
    SHOP_STABLE_VERSION=$1 SHOP_OPTIONS=$2 change compose --profile canary build shop-stable-1 ||
        fail 70 "the image $SHOP_IMAGE:$1 could not be built"
}

build() {
    local names
    (($# <= 2)) || usage_error "build takes a version and the shop's options at most"
    need_engine
    versions_export
    if (($# > 0)); then
        build_shop "$1" "${2:-}"
        return
    fi
    mapfile -t names < <(stack_images | cut -d ' ' -f 1)
    build_images "${names[@]}"
    build_shop "$SHOP_VERSION" ''
}

# An image that is not here is fetched if its name has a registry in it.
need_shop_image() {
    local image=$SHOP_IMAGE:$1
    has_image "$image" || [[ -n $dry_run ]] || {
        [[ ${SHOP_IMAGE%%/*} == *[.:]* ]] && docker pull "$image" >&2
    } || fail 1 "there is no image $image; build it first: deployment/stack.sh build $1"
}

# ------------------------------------------------------------------------------------------------------------- up, down

# The slots that must run: those with the traffic. Others that run are left alone.
slots_to_run() {
    if [[ $STRATEGY == canary ]]; then
        printf 'stable\n'
        return
    fi
    local live
    live=$(live_slot) || live=blue
    [[ $live == blue || $live == green ]] || live=blue
    printf '%s\n' "$live"
}

services_to_run() {
    local slot
    printf '%s\n' postgres redis prometheus alertmanager node-exporter
    for slot in $(slots_to_run); do
        slot_services "$slot"
    done
    [[ $GRAFANA != yes ]] || printf 'grafana\n'
}

up() {
    local began=${EPOCHREALTIME/./} services=() slot version
    (($# == 0)) || usage_error "up takes no arguments"
    need_engine
    take_turn
    init
    versions_export
    build_missing
    for slot in $(slots_to_run); do
        version=$(version_of "$slot") || version=$SHOP_VERSION
        has_image "$SHOP_IMAGE:$version" || [[ $version != "$SHOP_VERSION" ]] || build_shop "$version" ''
        need_shop_image "$version"
        export SHOP_MIGRATE_VERSION=$version
    done
    mapfile -t services < <(services_to_run)
    # HAProxy is last, so that nobody finds an open door and nothing behind it.
    change compose up --detach --no-build "${services[@]}" || did_not_come_up "compose failed" "${services[@]}"
    change compose up --detach --no-build --no-deps haproxy || did_not_come_up "compose failed" haproxy
    services+=(haproxy haldane)
    [[ -n $dry_run ]] || wait_healthy "$(duration_seconds "$START_TIMEOUT")" haproxy prometheus ||
        did_not_come_up "HAProxy and Prometheus are not healthy" haproxy prometheus
    change compose up --detach --no-build --no-deps haldane || did_not_come_up "compose failed" haldane
    [[ -z $dry_run ]] || return 0
    wait_healthy "$(duration_seconds "$START_TIMEOUT")" "${services[@]}" ||
        did_not_come_up "not all is healthy" "${services[@]}"
    for slot in $(slots_to_run); do
        for service in $(slot_services "$slot"); do
            wait_in_balancer "$service" || did_not_come_up "HAProxy does not see $service up" "$service" haproxy
        done
        version_of "$slot" >/dev/null || record_version "$slot" "$SHOP_VERSION" ||
            fail 74 "the version cannot be recorded"
        live_slot >/dev/null || record_live "$slot" || fail 74 "the live slot cannot be recorded"
    done
    log "all ${#services[@]} services are healthy after $(seconds_since "$began") s"
}

# seconds_since MICROSECONDS: with a tenth.
seconds_since() {
    local tenths=$(((${EPOCHREALTIME/./} - $1) / 100000))
    printf '%d.%d' $((tenths / 10)) $((tenths % 10))
}

# Says why, with the last words of each service that is not well.
did_not_come_up() {
    local why=$1 service id
    shift
    for service in "$@"; do
        [[ $(container_state "$service") =~ ^(healthy|running)$ ]] || {
            id=$(container "$service") || continue
            log "$service is $(container_state "$service"):"
            docker logs --tail 5 "$id" 2>&1 | while IFS= read -r line; do log "  $line"; done || true
        }
    done
    fail 1 "$why; more: deployment/stack.sh status, deployment/stack.sh logs SERVICE"
}

down() {
    own_options flag '--volumes --yes' "$@"
    need_engine
    [[ -z $volumes || -n $dry_run ]] || confirm_loss
    take_turn
    versions_export
    # The profile of the other strategy too: nothing of the project shall be left.
    change compose --profile canary --profile blue-green --profile grafana down --remove-orphans \
        ${volumes:+--volumes} ||
        fail 70 "compose could not take the stack down"
    if [[ -n $volumes && -z $dry_run ]]; then
        rm -f -- "$STATE_DIR/versions" "$STATE_DIR/project"
    fi
}

# By the stack's name, because it is the wrong stack that one is sorry for.
confirm_loss() {
    local reply=''
    [[ -z $assume_yes ]] || return 0
    [[ -t 0 && -t 2 ]] ||
        fail 77 "not confirmed: all data of the stack $PROJECT would be deleted; --yes says so where nobody can be" \
            "asked; nothing was changed"
    read -r -p "This deletes the database and all other data of the stack $PROJECT. Type its name: " reply || true
    [[ $reply == "$PROJECT" ]] || fail 77 "not confirmed; nothing was changed"
}

# ---------------------------------------------------------------------------------------------------------------- slots

check_slot() {
    case $STRATEGY-$1 in
        canary-stable | canary-canary | blue-green-blue | blue-green-green) ;;
        *-stable | *-canary | *-blue | *-green) usage_error "the strategy $STRATEGY has no slot '$1'" ;;
        *) usage_error "'$1' is no slot; the slots are stable and canary, or blue and green" ;;
    esac
}

deploy() {
    local slot version service
    (($# == 2)) || usage_error "deploy takes a slot and a version"
    slot=$1
    version=$2
    check_slot "$slot"
    is_version "$version" || usage_error "'$version' is no version: letters, digits, '_', '.' and '-'"
    need_engine
    take_turn
    need_shop_image "$version"
    versions_export
    run_migrations "$version"
    export "SHOP_${slot^^}_VERSION=$version"
    for service in $(slot_services "$slot"); do
        log "$service: to version $version"
        change compose up --detach --no-build --no-deps "$service" || did_not_come_up "compose failed" "$service"
        come_up "$service"
    done
    [[ -n $dry_run ]] || record_version "$slot" "$version" || fail 74 "the version cannot be recorded in '$STATE_DIR'"
}

# The migrations of a version, before any of its servers starts. They only add, so those that run need not stop.
run_migrations() {
    local status=0
    log "migrations of version $1"
    SHOP_MIGRATE_VERSION=$1 change compose run --rm --no-deps -T migrate </dev/null || status=$?
    ((status == 0)) || fail 1 "the migrations of version $1 failed (exit code $status); no server was changed"
}

migrate() {
    local status=0
    (($# > 0)) || usage_error "migrate takes a version"
    is_version "$1" || usage_error "'$1' is no version: letters, digits, '_', '.' and '-'"
    own_options flag --dry-run "${@:2}"
    need_engine
    need_shop_image "$1"
    versions_export
    if [[ -z $list ]]; then
        take_turn
        run_migrations "$1"
        return
    fi
    SHOP_MIGRATE_VERSION=$1 compose run --rm --no-deps -T migrate --dry-run </dev/null || status=$?
    ((status == 0)) || fail 1 "the migrations of version $1 could not be applied (exit code $status)"
}

come_up() {
    [[ -z $dry_run ]] || return 0
    wait_healthy "$(duration_seconds "$HEALTH_TIMEOUT")" "$1" || did_not_come_up "$1 is not healthy in time" "$1"
    wait_in_balancer "$1" || did_not_come_up "HAProxy does not see $1 up in time" "$1" haproxy
}

restart() {
    local service id
    (($# == 1)) || usage_error "restart takes a slot"
    check_slot "$1"
    need_engine
    take_turn
    for service in $(slot_services "$1"); do
        id=$(container "$service") || fail 69 "$service has no container; deploy the slot first"
        log "$service: again"
        # Two commands: a restart by the engine would give it ten seconds to end, and not its own grace period.
        change docker stop "$id"
        change docker start "$id"
        come_up "$service"
    done
}

stop_slot() {
    local slot=${1:-} service running=() why=''
    (($# > 0)) || usage_error "stop takes a slot"
    check_slot "$slot"
    own_options flag --force "${@:2}"
    need_engine
    take_turn
    for service in $(slot_services "$slot"); do
        is_off "$service" || running+=("$(container "$service")")
    done
    ((${#running[@]} > 0)) || return 0
    [[ -n $force || -n $dry_run ]] || why=$(why_not_stop "$slot")
    [[ -z $why ]] || fail 75 "$why; move the traffic first, or say --force"
    for service in "${running[@]}"; do
        change docker stop "$service"
    done
}

is_off() {
    [[ $(container_state "$1") =~ ^(absent|exited)$ ]]
}

# why_not_stop SLOT: prints why users would be left without a server; nothing if they would not. Only a HAProxy that
# does not run has no users: one that does not answer may have.
why_not_stop() {
    local states page
    ! is_off haproxy || return 0
    states=$(inside haproxy balancer <<<'show servers state' 2>/dev/null) || states=''
    page=$(inside haproxy curl --fail --silent --max-time 3 http://127.0.0.1:8405/haldane/share \
        2>/dev/null </dev/null) || page=''
    if [[ -z $states || -z $page ]]; then
        printf 'HAProxy does not say whether users depend on the slot %s' "$1"
        return
    fi
    # Whatever the share is, HAProxy sends everybody to the canary when no stable server is up.
    case $1 in
        canary) serves stable || printf 'no stable server is up: users have the canary alone' ;;
        stable) [[ $page =~ share_bp=10000\  ]] && serves canary || printf 'users depend on the slot stable' ;;
        *) [[ $page =~ (^|\ )$1=0\  ]] || printf 'users depend on the slot %s' "$1" ;;
    esac
}

# serves SLOT: one of its servers is up, by the caller's `states`: fields 2 backend, 4 server, 6 and 7 as below.
serves() {
    awk -v slot="$1" '$2 == "be_" slot && $4 ~ "^" slot "[0-9]+$" && $6 == 2 && $7 == 0 { up = 1 } END { exit !up }' \
        <<<"$states"
}

# wait_in_balancer SERVICE: until HAProxy has the container's address of today and sends it traffic, under all of the
# names that it has there.
wait_in_balancer() {
    local deadline=$((EPOCHSECONDS + $(duration_seconds "$HEALTH_TIMEOUT")))
    until in_balancer "$1"; do
        ((EPOCHSECONDS < deadline)) || return 1
        sleep 0.3
    done
}

in_balancer() {
    local id addresses
    id=$(container "$1") || return 1
    addresses=$(docker inspect --format '{{range .NetworkSettings.Networks}}{{.IPAddress}} {{end}}' "$id") || return 1
    # Fields of `show servers state`: 5 address, 6 operational state (2: running), 7 administrative state (0: ready),
    # 18 the name it was resolved from.
    inside haproxy balancer <<<'show servers state' 2>/dev/null | awk -v service="$1" -v addresses=" $addresses" '
        $18 == service { seen++; if ($6 == 2 && $7 == 0 && index(addresses, " " $5 " ")) up++ }
        END { exit !(seen > 0 && up == seen) }'
}

# -------------------------------------------------------------------------------------------------------------- telling

# services_json: of all services that have a container.
services_json() {
    docker ps --all --quiet --filter "label=com.docker.compose.project=$PROJECT" \
        --filter label=com.docker.compose.oneoff=False | xargs --no-run-if-empty docker inspect |
        jq -c '[.[]? | {service: .Config.Labels["com.docker.compose.service"], image: .Config.Image,
            state: (if .State.Status == "running" then (.State.Health.Status // "running") else .State.Status end),
            restarts: .RestartCount, started: .State.StartedAt}] | sort_by(.service)'
}

status() {
    local services
    own_options value --format "$@"
    engine_ready || fail 69 "the Docker engine does not answer (docker version)"
    services=$(services_json)
    if [[ $format == json ]]; then
        jq -cn --arg project "$PROJECT" --arg strategy "$STRATEGY" --argjson services "${services:-[]}" \
            --argjson versions "$(versions_json)" '{project: $project, strategy: $strategy, services: $services,
            versions: $versions}'
    else
        jq -r '.[] | [.service, .state, .image] | @tsv' <<<"${services:-[]}" | column -t -s $'\t'
    fi
}

versions() {
    own_options value --format "$@"
    if [[ $format == json ]]; then
        versions_json
    else
        versions_json | jq -r 'to_entries[] | "\(.key) \(.value)"'
    fi
}

reload() {
    local id status=0
    (($# == 1)) || usage_error "reload takes a service"
    need_engine
    case $1 in
        haproxy) change inside haproxy reload || status=$? ;;
        prometheus)
            change inside prometheus promtool check config /etc/prometheus/prometheus.yml ||
                fail 65 "the configuration of Prometheus, or a rule, is wrong; nothing was changed"
            id=$(container prometheus) || fail 69 "Prometheus has no container"
            change docker kill --signal HUP "$id" || status=69
            [[ -n $dry_run ]] || prometheus_reloaded ||
                fail 70 "Prometheus did not take its configuration; it goes on as it was"
            ;;
        alertmanager)
            # Its configuration is completed when it starts, so it is started again: alerts that fire are sent anew.
            id=$(container alertmanager) || fail 69 "Alertmanager has no container"
            change docker restart "$id" || status=69
            [[ -n $dry_run ]] || wait_healthy "$(duration_seconds "$HEALTH_TIMEOUT")" alertmanager ||
                did_not_come_up "Alertmanager does not come up with its configuration" alertmanager
            ;;
        *) usage_error "'$1' cannot be reloaded; haproxy, prometheus and alertmanager can" ;;
    esac
    return "$status"
}

# Prometheus says nothing to who sends the signal, but shows how it went.
prometheus_reloaded() {
    local seconds asked=$EPOCHSECONDS
    for ((seconds = 0; seconds < 10; seconds++)); do
        if inside prometheus curl --silent --max-time 3 http://127.0.0.1:9090/metrics </dev/null |
            awk -v asked="$asked" '$1 == "prometheus_config_last_reload_success_timestamp_seconds" { when = $2 }
                END { exit !(when + 2 >= asked) }'; then
            return 0
        fi
        sleep 1
    done
    return 1
}

balancer() {
    (($# == 0)) || usage_error "balancer takes no arguments; the commands come on standard input"
    inside haproxy balancer
}

# haldane's exit code is ours, so what docker says of itself must not look like one: 1, 125, 126, 127 and 137 are not
# haldane's. They are "cannot be reached", after which callers ask again.
haldane() {
    local id name status=0 variables=()
    (($# > 0)) || usage_error "haldane needs one of its commands"
    id=$(container haldane) || fail 69 "haldane has no container; deployment/stack.sh up"
    for name in $HALDANE_ENV ${HALDANE_SETTINGS:-}; do
        [[ -z ${!name+set} ]] || variables+=(--env "$name")
    done
    # The record names the person, and not the container's user.
    variables+=(--env "SUDO_USER=${SUDO_USER:-$(id -un)}")
    docker exec --interactive "${variables[@]}" "$id" haldane "$@" || status=$?
    case $status in
        1 | 125 | 126 | 127 | 137)
            fail 69 "haldane's container does not run, or ended meanwhile (docker exec: $status)"
            ;;
    esac
    return "$status"
}

shell() {
    (($# == 2)) || usage_error "shell takes a service and one command, in quotes"
    inside "$1" sh -c "$2"
}

logs() {
    local id
    (($# > 0)) || usage_error "logs needs a service"
    id=$(container "$1") || fail 69 "$1 has no container"
    shift
    exec docker logs "$@" "$id"
}

main() {
    options_read "$@"
    [[ -n $command ]] || usage_error "which command?"
    config_load "$config"
    case $command in
        stop) stop_slot "${arguments[@]}" ;;
        init | build | up | down | status | deploy | migrate | restart | versions | reload | balancer | haldane | \
            shell | logs)
            "$command" "${arguments[@]}"
            ;;
        *) usage_error "'$command' is not a command" ;;
    esac
}

{
    main "$@"
    exit
}
