#!/usr/bin/env bash
#
# A rehearsal: the five phases of a deployment from end to end, on a stack that is thrown away, under load.
#
#   pre-deployment    three versions are built, the stack comes up, its health is checked, a backup is made and verified
#   staging           version 2 is tried on the staging stack
#   deployment        version 2 is deployed beside version 1, tried and warmed, while users see nothing of it
#   traffic switch    its rollout: promoted. Then version 3, which is bad on purpose: aborted, and all traffic back
#   post-deployment   health, versions, traffic and records are as they must be, and the load says what users saw
#
# The scripts are those of production, called as a person calls them, with settings of the rehearsal's own: project,
# ports and folders. So nothing of production is touched, and what is rehearsed is what will be done. Only the policy is
# hurried: its waits are cut to seconds and its margins are widened, so that it ends in minutes (--full: as it is).
# shellcheck disable=SC2317 # steps are called by their names
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
# shellcheck source=deployment/lib/compose.sh
source "$here/lib/compose.sh"

readonly first=rehearsal-1 good=rehearsal-2 bad=rehearsal-3

config=''
strategy=''
keep=''
full=''
dry_run=''
scratch=''
load_pid=''
started='' # whether there may be something to take away
failures=0
deploy_script=''
deployments=0

usage() {
    cat <<'END'
usage: rehearse.sh [OPTION]...

Plays the five phases of a deployment on a stack of its own, under load, and takes everything away again.

  --strategy NAME  canary or blue-green (default: STRATEGY)
  --full           the production policy as it is, with all its waits; else they are cut to seconds
  --keep           leave the stack, its images and its folder
  --config FILE    settings that differ from deployment.conf (default $HALDANE_DEPLOYMENT_CONF)
  --dry-run        say what would be done, change nothing
  --help           this page

Prints a table of the phases, with their times, and how many requests failed. The record is in RECORDS_DIR.

Exit codes: 0 all went as it must; 1 something did not; 64 wrong usage; 65 wrong configuration; 69 the engine or a tool
is missing; 70 a fault; 74 a file cannot be written; 75 another rehearsal is under way; 129, 130, 143 ended by a signal.
END
}

takes value --strategy --config
takes flag --full --keep --dry-run

take_option() {
    local name=$1 value=$2
    case $name in
        --strategy)
            needs_one_of "$@" canary blue-green
            strategy=$value
            ;;
        --full) full=$value ;;
        --keep) keep=$value ;;
        --config) config=$value ;;
        --dry-run) dry_run=$value ;;
    esac
}

# --- The rehearsal's own settings ------------------------------------------------------------------------------------

become_rehearsal() {
    local folder=$REHEARSAL_DIR base=$REHEARSAL_PORT_BASE overrides=()
    [[ $REHEARSAL_PROJECT != "$PROJECT" ]] ||
        fail 65 "REHEARSAL_PROJECT is production's PROJECT; give it a name of its own"
    mapfile -t overrides < <(derived_folders "$folder")
    overrides+=("${derived_places[@]}" "PROJECT=$REHEARSAL_PROJECT" "STRATEGY=$strategy" GRAFANA=no
        "SHOP_VERSION=$first" "SHOP_IMAGE=$REHEARSAL_PROJECT/shop" PUBLISH_ADDRESS=127.0.0.1
        "HTTP_PORT=$((base + 80))" "HTTPS_PORT=$((base + 443))" "OPS_PORT=$((base + 405))"
        "PROMETHEUS_PORT=$((base + 90))" "ALERTMANAGER_PORT=$((base + 93))" "GRAFANA_PORT=$((base + 30))"
        "STAGING_PROJECT=$REHEARSAL_PROJECT-staging" STAGING_PUBLISH_ADDRESS=127.0.0.1
        "STAGING_HTTP_PORT=$((base + 580))" "STAGING_HTTPS_PORT=$((base + 943))" "STAGING_OPS_PORT=$((base + 905))"
        "STAGING_PROMETHEUS_PORT=$((base + 590))" "STAGING_ALERTMANAGER_PORT=$((base + 593))"
        "STAGING_GRAFANA_PORT=$((base + 530))" "RECORDS_DIR=$folder/records" "POLICIES=$folder/policies")
    # Two stacks and the load share the machine: what staging measures then is no figure to keep.
    overrides+=(PERFORMANCE_RUNS=1 PERFORMANCE_SECONDS=2)
    [[ -n $full ]] || overrides+=(BLUE_GREEN_JUDGE_TIMEOUT=30s)
    production_policies=$POLICIES
    [[ -z $dry_run ]] || folder=$scratch
    config_derive "$folder/deployment.conf" "${overrides[@]}" || fail 74 "nothing can be written to $folder"
    rehearsal_records=$RECORDS_DIR
    config_load "$folder/deployment.conf"
    deploy_script=$here/$([[ $strategy == canary ]] && printf 'canary.sh' || printf 'blue-green.sh')
}

# The policies of production; hurried, unless all waits are wanted. `haldane check` is what says that they are still
# right.
make_policies() {
    local file
    mkdir -p -- "$POLICIES" && cp -- "$production_policies"/*.yaml "$POLICIES/" || return 74
    chmod 0755 -- "$POLICIES" && chmod 0644 -- "$POLICIES"/*.yaml || return 74
    [[ -z $full ]] || return 0
    for file in "$POLICIES"/*.yaml; do
        sed -E -i -e 's/^look: .*/look: 5s/; s/^settle: .*/settle: 5s/; s/^warmup: .*/warmup: 5s/' \
            -e 's/^( +)unattended: [0-9a-z]+/\1unattended: 1m/; s/^( +quantiles: )\[.*/\1[50%, 90%]/' \
            -e '/weight:/ s/weight: 5%/weight: 20%/; /weight:/ s/min: [0-9a-z]+/min: 15s/' \
            -e '/weight:/ s/max: [0-9a-z]+/max: 3m/; /weight:/ s/bake: [0-9a-z]+/bake: 20s/' \
            -e 's/(promote_below: \{ratio: )[0-9.]+(, absolute: )[0-9.]+%/\13\22%/' \
            -e 's/(promote_below: \{slower: )[0-9]+%/\1100%/; s/(abort_above: \{slower: )[0-9]+%/\125%/' "$file"
    done
}

# --- The load --------------------------------------------------------------------------------------------------------

start_load() {
    "$REHEARSAL_LOAD_FILE" --url "http://127.0.0.1:$HTTP_PORT" --rate "$REHEARSAL_RATE" --post-share 50% \
        --timeout 10s --json "$record/load.json" >"$record/load.log" 2>&1 </dev/null 9>&- &
    load_pid=$!
    sleep 1
    kill -0 "$load_pid" 2>/dev/null
}

stop_load() {
    [[ -n $load_pid ]] || return 0
    kill -TERM "$load_pid" 2>/dev/null || true
    wait "$load_pid" 2>/dev/null || true
    load_pid=''
}

# Not answered at all, or answered with a failure by a version that is not bad on purpose.
count_load() {
    jq -c --arg bad "$bad" '{requests: .due, lost: .failed,
        failed: ([.versions | to_entries[] | select(.key != $bad) | .value.status // {} | to_entries[]
            | select(.key | tonumber >= 500) | .value] | add // 0),
        by_the_bad_version: ([.versions[$bad].status // {} | to_entries[] | select(.key | tonumber >= 500)
            | .value] | add // 0),
        p99_ms: .latency_ms.p99}' "$record/load.json"
}

# --- The steps -------------------------------------------------------------------------------------------------------

# step PHASE WHAT EXPECTED COMMAND...: runs it; its exit code must be the expected one.
step() {
    local name=$1 what=$2 expected=$3 status=0 began=$EPOCHREALTIME result=ok seconds file
    shift 3
    ! interrupted || return 1
    log "$name: $what"
    file=$(printf '%s' "$what" | tr -cs 'A-Za-z0-9' '-')
    run_until_interrupted "$@" >>"$record/$file.log" 2>&1 || status=$?
    ! interrupted || return 1
    ((status == expected)) || result=FAILED
    seconds=$(((${EPOCHREALTIME/[.,]/} - ${began/[.,]/}) / 100000))
    tell_step "$name" "$what" "$result" "$((seconds / 10)).$((seconds % 10))" \
        "$([[ $result == ok ]] || printf 'exit code %s in place of %s; see %s' "$status" "$expected" "$file.log")"
}

# tell_step PHASE WHAT RESULT SECONDS NOTE
tell_step() {
    jq -cn --arg phase "$1" --arg what "$2" --arg result "$3" --argjson seconds "$4" --arg note "$5" \
        '{phase: $phase, what: $what, result: $result, seconds: $seconds, note: $note}' >>"$record/steps.jsonl"
    log "$1: $2: $3 after $4 s${5:+: $5}"
    telemetry step phase="$1" what="$2" result="$3" seconds:="$4"
    [[ $3 == ok ]] && return
    failures=$((failures + 1))
    return 1
}

# fact PHASE WHAT COMMAND...: something that must be so.
fact() {
    local name=$1 what=$2
    shift 2
    if "$@"; then
        tell_step "$name" "$what" ok 0 ''
    else
        tell_step "$name" "$what" FAILED 0 'it is not so'
    fi
}

pre_deployment() {
    local stack=$here/stack.sh
    step pre-deployment 'build the images' 0 "$stack" build || return
    step pre-deployment "build $first" 0 "$stack" build "$first" || return
    step pre-deployment "build $good" 0 "$stack" build "$good" || return
    step pre-deployment "build $bad, bad on purpose: $REHEARSAL_BAD_OPTIONS" 0 \
        "$stack" build "$bad" "$REHEARSAL_BAD_OPTIONS" || return
    step pre-deployment 'the stack comes up' 0 "$stack" up || return
    fact pre-deployment "load begins, $REHEARSAL_RATE requests a second" start_load || return
    step pre-deployment 'health, degraded at the worst' 0 \
        "$here/health-check.sh" --wait "$HEALTH_TIMEOUT" --accept degraded || return
    step pre-deployment 'a backup' 0 "$here/backup.sh" create || return
    step pre-deployment 'the backup can be restored' 0 "$here/backup.sh" verify || return
}

staging() {
    step staging "$good passes staging" 0 "$here/staging.sh" --version "$good" --base "$first"
}

# The deployment's own record says how long each of its phases took.
deploy_and_switch() {
    local version=$1 expected=$2 what=$3 status=0 began=$EPOCHREALTIME folder
    deployments=$((deployments + 1))
    ! interrupted || return 1
    log "deployment: $what"
    run_until_interrupted "$deploy_script" --version "$version" --yes --accept-degraded \
        >>"$record/deployment-$version.log" 2>&1 || status=$?
    ! interrupted || return 1
    folder=$(find "$RECORDS_DIR" -mindepth 1 -maxdepth 1 -type d -name '[0-9]*Z-*' -newermt "@${began%%[.,]*}" |
        while read -r folder; do
            jq -e --arg version "$version" '.version == $version and (.strategy | IN("canary", "blue-green"))' \
                "$folder/record.json" >/dev/null 2>&1 && printf '%s\n' "$folder"
        done | sort | tail -n 1)
    if [[ -n $folder ]]; then
        tell_phases "$folder" "$version"
    fi
    fact 'traffic switch' "$what: exit code $expected" test "$status" -eq "$expected"
}

tell_phases() {
    local name seconds result
    while IFS=$'\t' read -r name seconds result; do
        case $name in
            rollout | switch | promote | verify | drain | return | cleanup | rollback)
                tell_step 'traffic switch' "$2: $name" ok "$seconds" "$result"
                ;;
            *) tell_step deployment "$2: $name" ok "$seconds" "$result" ;;
        esac
    done < <(jq -r '.phases[] | [.name, (.seconds // 0),
        (if .result == "ok" then "" else "\(.result) \(.reason)" end)] | @tsv' "$1/record.json")
}

post_deployment() {
    local live
    step post-deployment 'health, degraded at the worst' 0 \
        "$here/health-check.sh" --wait "$HEALTH_TIMEOUT" --accept degraded || true
    step post-deployment "smoke tests as users come in, version $good" 0 \
        "$here/smoke-test.sh" --expect-version "$good" || true
    live=$(live_slot) || live=stable
    fact post-deployment "the slot with the traffic runs $good" test "$(version_of "$live" || true)" = "$good" || true
    fact post-deployment "$good is what a rollback would go to" test "$(last_good || true)" = "$good" || true
    fact post-deployment 'the records are whole' records_whole || true
    stop_load
    fact post-deployment 'no request was lost or failed but by the bad version' users_were_well || true
}

records_whole() {
    local count
    count=$(find "$RECORDS_DIR" -mindepth 2 -maxdepth 2 -name record.json -exec jq -e -c \
        'select(.strategy | IN("canary", "blue-green"))
         | select(.outcome != null and (.phases | length > 0) and .rollout != null)' {} \; | wc -l)
    ((count == deployments))
}

users_were_well() {
    count_load >"$record/load-summary.json" &&
        jq -e '.requests > 0 and .lost == 0 and .failed == 0' "$record/load-summary.json" >/dev/null
}

rehearse() {
    trap 'on_exit' EXIT
    started=yes
    play || true
    if interrupted; then
        conclude interrupted "$(signal_exit_code)" "$(interruption)"
    fi
    ((failures == 0)) || conclude failed 1 "$failures steps did not go as they must"
    conclude passed 0 'all went as it must'
}

# Each phase needs the ones before it.
play() {
    phase pre-deployment
    make_policies || fact pre-deployment 'the policies can be copied' false || return
    pre_deployment || return
    phase staging
    staging || true
    phase deployment
    deploy_and_switch "$good" 0 "$good is deployed and promoted" || return
    phase 'traffic switch'
    deploy_and_switch "$bad" 20 "$bad is deployed, found out, and sent back" || true
    phase post-deployment
    post_deployment
}

# --- The end ---------------------------------------------------------------------------------------------------------

take_away() {
    local image
    stop_load
    [[ -n $started && -z $keep ]] || return 0
    log 'taking everything away'
    HALDANE_DEPLOYMENT_CONF=$STATE_DIR/staging/deployment.conf take_down_staging
    "$here/stack.sh" down --volumes --yes >>"$record/down.log" 2>&1 </dev/null 9>&- ||
        log "warning: the stack could not be taken down; see $record/down.log"
    for image in "$first" "$good" "$bad"; do
        docker image rm "$SHOP_IMAGE:$image" >/dev/null 2>&1 || true
    done
}

take_down_staging() {
    [[ -r $HALDANE_DEPLOYMENT_CONF ]] || return 0
    "$here/stack.sh" down --volumes --yes >>"$record/down.log" 2>&1 </dev/null 9>&- || true
}

conclude() {
    trap 'remove_scratch' EXIT
    take_away
    record_set reason "$3" || true
    record_write "$1" "$2"
    print_table "$3"
    log "$3; exit code $2; record: $record"
    keep_record
    exit "$2"
}

print_table() {
    if [[ -s $record/steps.jsonl ]]; then
        jq -r '[.phase, .what, .result, "\(.seconds) s", .note] | @tsv' "$record/steps.jsonl" |
            while IFS=$'\t' read -r name what result seconds note; do
                printf '%-16s %-62s %-7s %9s  %s\n' "$name" "$what" "$result" "$seconds" "$note"
            done
    fi
    if [[ -s $record/load-summary.json ]]; then
        jq -r '"\(.lost + .failed) failed of \(.requests) requests, half of them POST, p99 \(.p99_ms) ms; "
            + "\(.by_the_bad_version) more were failed by the version that is bad on purpose"' \
            "$record/load-summary.json"
    fi
    printf '%s\n' "$1"
}

# The folder of the rehearsal goes; its records stay, beside those of production.
keep_record() {
    [[ -z $keep ]] || return 0
    mkdir -p -- "$rehearsal_records" && cp -r -- "$record" "$rehearsal_records/" &&
        log "kept: $rehearsal_records/$(basename -- "$record")" || return 0
    find "$RECORDS_DIR" -mindepth 1 -maxdepth 1 -type d -name '[0-9]*Z-*' ! -path "$record" \
        -exec cp -r -- {} "$rehearsal_records/$(basename -- "$record")/" \;
    rm -rf -- "${REHEARSAL_DIR:?}"
}

on_exit() {
    local code=$?
    set +e
    log "error: rehearse.sh failed unexpectedly (exit code $code)"
    conclude failed 70 'rehearse.sh failed'
}

remove_scratch() {
    [[ -z $scratch ]] || rm -rf -- "$scratch"
}

print_plan() {
    printf 'Would do, on the stack %s at http://127.0.0.1:%s, under %s requests a second:\n' "$PROJECT" \
        "$HTTP_PORT" "$REHEARSAL_RATE"
    printf '  pre-deployment   build %s, %s and %s (%s); stack.sh up; health-check.sh; backup.sh create, verify\n' \
        "$first" "$good" "$bad" "$REHEARSAL_BAD_OPTIONS"
    printf '  staging          staging.sh --version %s --base %s, on %s\n' "$good" "$first" "$STAGING_PROJECT"
    printf '  deployment, traffic switch\n'
    printf '                   %s --version %s: promoted\n' "${deploy_script##*/}" "$good"
    printf '                   %s --version %s: sent back\n' "${deploy_script##*/}" "$bad"
    printf '  post-deployment  health, smoke tests, versions, records, the load\n'
    [[ -n $keep ]] && printf 'and leave it.\n' || printf 'and take everything away.\n'
}

check_ready() {
    need jq curl docker setsid flock
    [[ -x $REHEARSAL_LOAD_FILE ]] ||
        fail 69 "the load generator '$REHEARSAL_LOAD_FILE' is not there; build it with: make"
    engine_ready || fail 69 "the Docker engine does not answer"
}

main() {
    options_read "$@"
    config_load "$config"
    strategy=${strategy:-$STRATEGY}
    scratch=$(mktemp -d) || fail 74 "no temporary directory can be made"
    trap 'remove_scratch' EXIT
    become_rehearsal
    if [[ -n $dry_run ]]; then
        print_plan
        exit 0
    fi
    exec </dev/null
    check_ready
    record_begin rehearsal "$REHEARSAL_PROJECT" "another rehearsal is under way"
    attend rehearse
}

command_line=("$@")
{
    main "$@"
    exit
}
