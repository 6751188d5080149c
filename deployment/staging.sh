#!/usr/bin/env bash
#
# Tries a version on a stack of its own before production sees it.
#
# The staging stack is the production stack laid over with docker-compose.staging.yml: another project, other ports,
# other folders, smaller limits. The old version is started first, as in production; the new version's migrations are
# run under it, and it must go on working with what they leave, since that is how things stand during every canary and
# after every rollback. Then the new version is deployed, and tested in earnest: health, smoke tests, the test suite,
# performance against the last run, and a security scan.
#
# A phase that fails does not keep the later ones from being run: whoever mends the first wants to know of the others.
# shellcheck disable=SC2317 # phases are called by their names
# shellcheck disable=SC2153,SC2154 # the settings are deployment.conf's
set -euo pipefail

here=$(cd -- "$(dirname -- "$(readlink -f -- "${BASH_SOURCE[0]}")")" && pwd)
# shellcheck source=deployment/lib/log.sh
source "$here/lib/log.sh"
# shellcheck source=deployment/lib/config.sh
source "$here/lib/config.sh"
# shellcheck source=deployment/lib/options.sh
source "$here/lib/options.sh"
# shellcheck source=deployment/lib/derive.sh
source "$here/lib/derive.sh"
# shellcheck source=deployment/lib/duration.sh
source "$here/lib/duration.sh"
# shellcheck source=deployment/lib/process.sh
source "$here/lib/process.sh"
# shellcheck source=deployment/lib/versions.sh
source "$here/lib/versions.sh"
# shellcheck source=deployment/lib/record.sh
source "$here/lib/record.sh"
# shellcheck source=deployment/lib/places.sh
source "$here/lib/places.sh"
# shellcheck source=deployment/lib/compose.sh
source "$here/lib/compose.sh"
# shellcheck source=deployment/lib/performance.sh
source "$here/lib/performance.sh"
# shellcheck source=deployment/lib/security.sh
source "$here/lib/security.sh"

readonly all_phases=(up migrations deploy health smoke tests performance security)

config=''
version=''
base=''
only=()
keep=''
format=text
dry_run=''
scratch=''
slot=''
failures=0 # phases
started='' # whether the stack may be there
why=''     # of the phase that failed last

usage() {
    cat <<'END'
usage: staging.sh --version V [OPTION]...

Brings up the staging stack with the old version, tries the new one's migrations under it, deploys the new one, and
tests it: health, smoke tests, test suite, performance, security.

  --version V         the version to try; its image must be there (stack.sh build V)
  --base V            the old version (default: STAGING_BASE_VERSION, else production's last good one)
  --only PHASE        this phase alone, on a stack that was kept; may be given several times: up, migrations, deploy,
                      health, smoke, tests, performance, security
  --keep              leave the stack running afterwards
  --format text|json  a table of the phases (default), or the record as JSON
  --config FILE       settings that differ from deployment.conf (default $HALDANE_DEPLOYMENT_CONF)
  --dry-run           say what would be done, change nothing
  --help              this page

Exit codes: 0 passed; 1 a phase failed; 64 wrong usage; 65 wrong configuration; 66 unreadable file; 69 an engine, an
image or a tool is missing; 70 a fault; 74 the record cannot be written; 75 another staging.sh is at work; 129, 130, 143
ended by a signal.
END
}

takes value --version --base --only --format --config
takes flag --keep --dry-run

take_option() {
    local name=$1 value=$2
    case $name in
        --version | --base)
            needs_version "$@"
            printf -v "${name#--}" '%s' "$value"
            ;;
        --only)
            needs_one_of "$@" "${all_phases[@]}"
            only+=("$value")
            keep=yes
            ;;
        --keep) keep=$value ;;
        --format)
            needs_one_of "$@" text json
            format=$value
            ;;
        --config) config=$value ;;
        --dry-run) dry_run=$value ;;
    esac
}

wanted() {
    ((${#only[@]} == 0)) || [[ " ${only[*]} " == *" $1 "* ]]
}

# From here on every setting is the staging stack's, also for every script that is called.
become_staging() {
    local folder=$STATE_DIR/staging overrides=()
    if [[ -z $base ]]; then
        base=${STAGING_BASE_VERSION:-$(last_good || true)}
    fi
    performance_folder=$STATE_DIR/performance
    mapfile -t overrides < <(derived_folders "$folder")
    overrides+=("${derived_places[@]}" "PROJECT=$STAGING_PROJECT" "COMPOSE_FILES=$STAGING_COMPOSE_FILES" GRAFANA=no
        "PUBLISH_ADDRESS=$STAGING_PUBLISH_ADDRESS" "HTTP_PORT=$STAGING_HTTP_PORT" "HTTPS_PORT=$STAGING_HTTPS_PORT"
        "OPS_PORT=$STAGING_OPS_PORT" "PROMETHEUS_PORT=$STAGING_PROMETHEUS_PORT"
        "ALERTMANAGER_PORT=$STAGING_ALERTMANAGER_PORT" "GRAFANA_PORT=$STAGING_GRAFANA_PORT"
        "SHOP_VERSION=${base:-$version}")
    [[ $STAGING_PROJECT != "$PROJECT" ]] || fail 65 "STAGING_PROJECT is production's PROJECT; give it a name of its own"
    [[ $STAGING_HTTP_PORT != "$HTTP_PORT" ]] || fail 65 "STAGING_HTTP_PORT is production's HTTP_PORT"
    if [[ -n $dry_run ]]; then
        staging_config=$scratch/deployment.conf
    else
        staging_config=$folder/deployment.conf
    fi
    config_derive "$staging_config" "${overrides[@]}" || fail 74 "nothing can be written to $folder"
    config_load "$staging_config"
    places_load
    export SHOP_URL SHOP_TLS_URL OPS_URL PROMETHEUS_URL ALERTMANAGER_URL
    if [[ $STRATEGY == canary ]]; then
        slot=stable header='X-Canary: never'
    else
        slot=blue header='X-Colour: blue'
    fi
    export SLOT=$slot VERSION=$version HEADER=$header
}

# --- The phases ------------------------------------------------------------------------------------------------------

# run_phase NAME: its function's exit code is the phase's; what it found is kept in `why`.
run_phase() {
    local name=$1 status=0
    wanted "$name" || return 0
    ! interrupted || return 0
    phase "$name"
    log "phase $name"
    why=''
    "phase_$name" || status=$?
    ! interrupted || return 0
    if ((status == 0)); then
        phase_end ok "$why"
        log "phase $name: passed${why:+: $why}"
        return 0
    fi
    failures=$((failures + 1))
    phase_end failed "${why:-exit code $status}"
    log "phase $name: FAILED: ${why:-exit code $status}"
    return "$status"
}

# logged FILE COMMAND...: runs it to its end or to an interruption; what it prints is kept.
logged() {
    local file=$1
    shift
    run_until_interrupted env --chdir="$root" "$@" >>"$record/$file" 2>&1
}

# A command of the settings.
setting() {
    logged "$1" bash -c "$2"
}

phase_up() {
    local began=$EPOCHSECONDS
    started=yes
    logged up.log "$here/stack.sh" init || { why="the secrets could not be made; see $record/up.log" && return 1; }
    logged up.log "$here/stack.sh" up || { why="the stack did not become healthy; see $record/up.log" && return 1; }
    why="healthy after $((EPOCHSECONDS - began)) s, with version ${base:-$version}"
}

# Expand now, contract later: the old version must live with the new schema.
phase_migrations() {
    local lines left
    [[ -n $MIGRATE_COMMAND ]] || { why='there are none: MIGRATE_COMMAND is empty' && return 0; }
    if [[ -z $base || $base == "$version" ]]; then
        why="no older version is known, so that only the migrations themselves are tried"
    fi
    pending migrations-dry-run.txt || { why="the dry run failed; see $record/migrate.log" && return 1; }
    setting migrate.log "$MIGRATE_COMMAND" || { why="they failed; see $record/migrate.log" && return 1; }
    setting migrate.log "$MIGRATE_COMMAND" || { why="run again they fail; see $record/migrate.log" && return 1; }
    pending migrations-left.txt || { why="the dry run failed afterwards; see $record/migrate.log" && return 1; }
    lines=$(grep -c . "$record/migrations-dry-run.txt" || true)
    left=$(diff <(sort "$record/migrations-dry-run.txt") <(sort "$record/migrations-left.txt") | grep -c '^>' || true)
    ((left == 0)) || { why="$left are pending after they were run; see $record/migrations-left.txt" && return 1; }
    [[ -n $base && $base != "$version" ]] || return 0
    VERSION=$base setting old-version.log "$SMOKE_COMMAND" ||
        { why="version $base does not work with the schema of $version; see $record/old-version.log" && return 1; }
    why="$lines lines of a dry run, run, run again; version $base works with the new schema"
}

# pending FILE: what would be applied.
pending() {
    run_until_interrupted env --chdir="$root" bash -c "$MIGRATE_DRY_COMMAND" >"$record/$1" 2>>"$record/migrate.log"
}

phase_deploy() {
    local began=$EPOCHSECONDS
    setting deploy.log "$DEPLOY_COMMAND" || { why="it did not come up; see $record/deploy.log" && return 1; }
    why="version $version in $slot after $((EPOCHSECONDS - began)) s"
}

# A stack that has just begun may need a moment until all is seen: its alerts, its first samples.
phase_health() {
    local status deadline
    deadline=$((EPOCHSECONDS + $(duration_seconds "$HEALTH_TIMEOUT")))
    while :; do
        status=0
        run_until_interrupted env --chdir="$root" bash -c "$HEALTH_CHECK_COMMAND" >"$record/health-check.json" \
            2>>"$record/health-check.log" || status=$?
        if interrupted || ((status == 0 || EPOCHSECONDS >= deadline)); then
            break
        fi
        nap 2
    done
    why=$(jq -r '[.checks[]? | select(.status != "ok") | "\(.name) \(.status): \(.message)"] | join("; ")' \
        "$record/health-check.json" 2>/dev/null) || why=''
    case $status in
        0) ;;
        1) why="degraded, which is accepted here: $why" ;;
        *) return 1 ;;
    esac
}

phase_smoke() {
    setting smoke.log "$SMOKE_COMMAND" || { why="see $record/smoke.log" && return 1; }
}

phase_tests() {
    [[ -n $STAGING_TEST_COMMAND ]] || { why='there are none: STAGING_TEST_COMMAND is empty' && return 0; }
    setting tests.log "$STAGING_TEST_COMMAND" ||
        { why="$STAGING_TEST_COMMAND; see $record/tests.log" && return 1; }
    why=$(tail -n 1 -- "$record/tests.log" 2>/dev/null) || why=''
}

phase_performance() {
    local status=0 instances tool
    for tool in hey wrk; do
        command -v "$tool" >/dev/null || { why="'$tool' is not installed" && return 69; }
    done
    instances=$(slot_services "$slot" | grep -c .)
    performance_test "$SHOP_URL" "$version" "$instances" "$header" || {
        why="no figures: $(tail -n 1 -- "$scratch/errors" 2>/dev/null || true)"
        return 69
    }
    performance_compare "$performance_folder" || status=$?
    performance_tell >"$record/performance.txt"
    log_lines performance "$record/performance.txt"
    why=$(jq -r '[if .get.failed + .post.failed > 0 then "\(.get.failed + .post.failed) requests failed" else empty end,
        (.worse[] | "\(.what) was \(.was), is \(.is)")] | join("; ")' "$record/performance.json")
    return "$status"
}

phase_security() {
    local status=0
    # shellcheck disable=SC2034 # the scan's
    TLS_HOST=$STAGING_PUBLISH_ADDRESS
    [[ $TLS_HOST != 0.0.0.0 ]] || TLS_HOST=127.0.0.1
    security_scan || status=$?
    if [[ -s $record/security.json ]]; then
        security_tell >"$record/security.txt"
        log_lines security "$record/security.txt"
        why=$(tail -n 1 -- "$record/security.txt")
        ((status != 69)) ||
            why="not all could be looked at: $(jq -r '.incomplete | join(", ")' "$record/security.json")"
    fi
    return "$status"
}

# --- From the beginning to the end -----------------------------------------------------------------------------------

take_down() {
    [[ -n $started && -z $keep ]] || return 0
    log "taking the staging stack down"
    "$here/stack.sh" down --volumes --yes >>"$record/down.log" 2>&1 9>&- </dev/null ||
        log "warning: it could not be taken down; see $record/down.log"
}

run_all() {
    trap 'on_exit' EXIT
    record_set version "$version"
    telemetry staging base="$base" project="$PROJECT"
    # Without a stack, or without the new version on it, there is nothing to look at.
    if run_phase up; then
        run_phase migrations || true
        if run_phase deploy; then
            run_phase health || true
            run_phase smoke || true
            run_phase tests || true
            run_phase performance || true
            run_phase security || true
        fi
    fi
    if interrupted; then
        phase_end interrupted "$(interruption)"
        conclude interrupted "$(signal_exit_code)" "$(interruption)"
    fi
    ((failures == 0)) || conclude failed 1 "$failures of the phases failed"
    conclude passed 0 "version $version passed"
}

conclude() {
    trap 'remove_scratch' EXIT
    take_down
    record_set reason "$3" || true
    record_write "$1" "$2"
    if [[ $format == json ]]; then
        cat -- "$record/record.json"
    else
        print_table
    fi
    log "$3; exit code $2; record: $record"
    exit "$2"
}

print_table() {
    jq -r '.phases[] | "\(.name)\t\(.result)\t\(.seconds // 0 | floor) s\t\(.reason)"' "$record/record.json" |
        while IFS=$'\t' read -r name result seconds reason; do
            printf '%-12s %-7s %6s  %s\n' "$name" "$result" "$seconds" "$reason"
        done
}

on_exit() {
    local code=$?
    set +e
    log "error: staging.sh failed unexpectedly (exit code $code)"
    phase_end failed
    conclude failed 70 "staging.sh failed"
}

remove_scratch() {
    [[ -z $scratch ]] || rm -rf -- "$scratch"
}

print_plan() {
    local name
    printf 'Would do, on the stack %s at %s:\n' "$PROJECT" "$SHOP_URL"
    for name in "${all_phases[@]}"; do
        wanted "$name" || continue
        case $name in
            up) printf '  up           stack.sh up, with version %s\n' "${base:-$version}" ;;
            migrations)
                printf '  migrations   of %s: dry run, run, run again; then smoke tests of %s\n' "$version" \
                    "${base:-(no older version)}"
                ;;
            deploy) printf '  deploy       SLOT=%s VERSION=%s %s\n' "$slot" "$version" "$DEPLOY_COMMAND" ;;
            health) printf '  health       %s\n' "$HEALTH_CHECK_COMMAND" ;;
            smoke) printf '  smoke        %s\n' "$SMOKE_COMMAND" ;;
            tests) printf '  tests        %s\n' "${STAGING_TEST_COMMAND:-none}" ;;
            performance)
                printf '  performance  hey at %s requests a second, wrk; %s runs of %s s each\n' "$PERFORMANCE_RATE" \
                    "$PERFORMANCE_RUNS" "$PERFORMANCE_SECONDS"
                ;;
            security)
                printf '  security     scans: %s; findings from %s on fail\n' "$SECURITY_SCANS" "$SECURITY_THRESHOLD"
                ;;
        esac
    done
    [[ -n $keep ]] && printf '  and leave it running\n' || printf '  and take it down, with its volumes\n'
}

# What must be there before anything is begun.
check_ready() {
    need jq curl docker setsid flock
    engine_ready || fail 69 "the Docker engine does not answer"
    bash -c "$IMAGE_CHECK_COMMAND" >/dev/null 2>&1 ||
        fail 69 "there is no image of version $version: $IMAGE_CHECK_COMMAND"
}

main() {
    options_read "$@"
    [[ -n $version ]] || usage_error "--version is missing"
    config_load "$config"
    scratch=$(mktemp -d) || fail 74 "no temporary directory can be made"
    trap 'remove_scratch' EXIT
    become_staging
    if [[ -n $dry_run ]]; then
        print_plan
        exit 0
    fi
    exec </dev/null
    check_ready
    record_begin staging "$STAGING_PROJECT" "another staging.sh is at work on $STAGING_PROJECT"
    attend run_all
}

command_line=("$@")
{
    main "$@"
    exit
}
