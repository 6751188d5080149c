#!/usr/bin/env bash
#
# Deploys a canary and sees its rollout to the end: promoted, or all traffic back on stable.
#
# haldane judges and moves the traffic. This script is what stands around it: it checks that all is ready, deploys,
# tries and warms the canary, checks its health before and during the rollout, asks haldane to advance when the next
# look is due, brings stable to the new version once the canary has proven it, and keeps the record. Whatever happens
# after the first traffic was moved (an error, a signal, a fault of this script) ends in one of three ways: promoted,
# proven to be back on stable, or a loud message with the commands for a person.
#
# Before each step that changes something, the record says so. So a later run can take up what a killed one has left.
#
# One rule for stopping the canary: only when the balancer has proven that it gets no traffic. With a share of 0 it may
# still serve everybody, in the place of a stable that is down.
# shellcheck disable=SC2317 # the work is called by its name, through attend
# shellcheck disable=SC2034 # variables of the libraries
# shellcheck disable=SC2153 # settings are in capitals
set -euo pipefail

here=$(cd -- "$(dirname -- "$(readlink -f -- "${BASH_SOURCE[0]}")")" && pwd)
# shellcheck source=deployment/lib/log.sh
source "$here/lib/log.sh"
# shellcheck source=deployment/lib/config.sh
source "$here/lib/config.sh"
# shellcheck source=deployment/lib/options.sh
source "$here/lib/options.sh"
# shellcheck source=deployment/lib/duration.sh
source "$here/lib/duration.sh"
# shellcheck source=deployment/lib/process.sh
source "$here/lib/process.sh"
# shellcheck source=deployment/lib/health.sh
source "$here/lib/health.sh"
# shellcheck source=deployment/lib/haldane.sh
source "$here/lib/haldane.sh"
# shellcheck source=deployment/lib/versions.sh
source "$here/lib/versions.sh"
# shellcheck source=deployment/lib/places.sh
source "$here/lib/places.sh"
# shellcheck source=deployment/lib/record.sh
source "$here/lib/record.sh"
# shellcheck source=deployment/lib/preflight.sh
source "$here/lib/preflight.sh"
# shellcheck source=deployment/lib/rollout.sh
source "$here/lib/rollout.sh"

readonly never_came_up=1
readonly unfinished=10
readonly side_new='the canary' side_old=stable

version=''
policy_file=''
policy='' # as haldane sees it
deploy=''
smoke=''
warm=''
promote=''
cleanup=''
health=''
health_timeout=60
begin_limit=60
settings=()
poll=5
max_unreachable=300
drain_timeout=30s
log_dir=''
begin_options=()
accept_degraded=''
no_promote=''
dry_run=''
assume_yes=''
resume='' # newest, or a folder

rollout=''     # haldane's id, once there is one
stage=checking # checking, deployed, shifted, promoting, ready, returned, ended: what a failure here has to undo
scratch=''     # answers of haldane; kept apart from the record, which may be on a full disk
outcome=''

usage() {
    cat <<'END'
usage: canary.sh --version V [--config FILE] [OPTION]...
       canary.sh --policy FILE --deploy COMMAND [OPTION]...
       canary.sh --resume [DIR] [--config FILE | --log-dir DIR]

Deploys a canary, shifts traffic to it step by step as haldane's verdicts allow, brings stable to the new version in the
end, and rolls back otherwise. With --version all settings come from deployment.conf, and an option beats its setting;
with --policy and --deploy only what is given here is done.

  --version V                 the version to deploy
  --config FILE               your settings (default: HALDANE_DEPLOYMENT_CONF, else deployment.conf alone)
  --resume [DIR]              take up the deployment whose record is DIR, or the newest that was interrupted
  --policy FILE               haldane's policy: what is compared, and how much traffic each step moves
  --deploy COMMAND            deploys the canary; it must return when the canary has been started
  --health URL|COMMAND        the canary is well: the URL answers 2xx, or the command exits with 0. Waited for before
                              any traffic is moved; three failures in a row during the rollout abort it
  --health-timeout DURATION   how long the canary may take to become healthy (default 60s)
  --smoke COMMAND             tries the canary before it gets traffic, and stable before it gets its traffic back
  --warm COMMAND              fills the canary's caches
  --promote COMMAND           brings stable to the version, when the canary has proven it
  --no-promote                end when the canary is promoted, and leave stable as it is
  --set NAME=VALUE            a setting of the policy; may be given several times
  --supersede                 a rollout of the service that is under way goes back to stable first: one that was begun
                              without canary.sh. Another canary.sh, also one that was killed, is ended by rollback.sh
  --accept-degraded           begin although the health check says degraded
  --skip-check NAME           leave out a check before the deployment; may be given several times; it is recorded
  --db FILE                   haldane's store (default: as haldane itself chooses)
  --cleanup COMMAND           stops the canary, once it is proven to get no traffic
  --poll SECONDS              how often health is checked during the rollout, at least (default 5)
  --max-unreachable DURATION  roll back when haldane could not look for this long, but never while its lease lives
                              (default 5m)
  --log-dir DIR               where the record goes, one folder a deployment
                              (default: RECORDS_DIR, or $XDG_STATE_HOME/haldane/deployments)
  --dry-run                   check everything, say what would be done, change nothing
  --yes                       do not ask before starting, also on a terminal
  --help                      this page

Exit codes: 0 promoted; 20 aborted, all traffic on stable; 1 the canary did not come up, no traffic was moved;
10 promoted, but stable is not there yet: the canary, which is well, has the traffic, and --resume goes on;
64 wrong usage; 65 invalid policy or settings; 66 unreadable file; 69 something could not be reached (if traffic may
still be on the canary, the last lines say so and what to do); 70 a fault; 74 store or record not writable; 75 not now:
another rollout runs, or a check before the deployment failed; 77 not allowed; 129, 130, 143 ended by a signal before
any traffic was moved.
END
}

# --- Options and settings --------------------------------------------------------------------------------------------

takes value --version --config --policy --log-dir --db --deploy --health --smoke --warm --promote --cleanup \
    --health-timeout --max-unreachable --poll --set --skip-check
takes optional --resume
takes flag --no-promote --supersede --accept-degraded --dry-run --yes

declare -A given=()

# Paths are made absolute here: with settings, the work is done in another folder.
take_option() {
    local name=$1 value=$2
    case $name in
        --version)
            needs_version "$@"
            given[version]=$value
            ;;
        --policy) given[policy_file]=$(realpath -m -- "$value") ;;
        --config) given[config]=$(realpath -m -- "$value") ;;
        --log-dir) given[log_dir]=$(realpath -m -- "$value") ;;
        --db)
            HALDANE_DB=$(realpath -m -- "$value")
            export HALDANE_DB
            ;;
        --deploy | --health | --smoke | --warm | --promote | --cleanup) given[${name#--}]=$value ;;
        --health-timeout | --max-unreachable)
            needs_duration "$@"
            name=${name#--}
            given[${name//-/_}]=$(duration_seconds "$value")
            ;;
        --poll)
            needs_number "$@" 9999
            given[poll]=$value
            ;;
        --set)
            needs_setting "$@"
            settings+=("$value")
            ;;
        --skip-check) preflight_skip+=("$value") ;;
        --resume) resume=${value:-newest} ;;
        --no-promote) no_promote=$value ;;
        --supersede) begin_options=(--supersede) ;;
        --accept-degraded) accept_degraded=$value ;;
        --dry-run) dry_run=$value ;;
        --yes) assume_yes=$value ;;
    esac
}

has_settings() {
    [[ -n ${given[version]:-} ]]
}

# Where the settings say something, an option says it better.
configure() {
    local name
    if has_settings; then
        take_settings
    elif [[ -n ${given[config]:-} ]]; then
        usage_error "--version is missing"
    fi
    for name in "${!given[@]}"; do
        [[ $name == config ]] || printf -v "$name" '%s' "${given[$name]}"
    done
    begin_limit=$health_timeout
    [[ -z $no_promote ]] || promote=''
    [[ -z $log_dir ]] || RECORDS_DIR=$log_dir
    [[ -n $policy_file ]] || usage_error "--policy is missing"
    [[ -n $deploy ]] || usage_error "--deploy is missing"
    policy=$(policy_for_haldane)
    [[ -z $version ]] || export VERSION=$version
}

take_settings() {
    config_load "${given[config]:-}"
    places_load
    policy_file=$POLICIES/$CANARY_POLICY
    deploy=$DEPLOY_COMMAND
    promote=$DEPLOY_COMMAND
    smoke=$SMOKE_COMMAND
    warm=$WARM_COMMAND
    cleanup=$STOP_COMMAND
    health=$CANARY_HEALTH
    health_timeout=$(duration_seconds "$HEALTH_TIMEOUT")
    max_unreachable=$(duration_seconds "$MAX_UNREACHABLE") || config_wrong MAX_UNREACHABLE "it is no duration"
    poll=$CANARY_POLL
    drain_timeout=$DRAIN_TIMEOUT
    log_dir=$RECORDS_DIR
    cd -- "$root"
}

# haldane may see the folder of the policies at another path.
policy_for_haldane() {
    local folder
    folder=$(realpath -m -- "${POLICIES:-/}")
    if [[ -n ${HALDANE_POLICIES:-} && $policy_file == "$folder"/* ]]; then
        printf '%s\n' "$HALDANE_POLICIES/${policy_file#"$folder"/}"
    else
        printf '%s\n' "$policy_file"
    fi
}

default_log_dir() {
    if [[ -n ${XDG_STATE_HOME:-} ]]; then
        printf '%s\n' "$XDG_STATE_HOME/haldane/deployments"
    elif [[ -n ${HOME:-} ]]; then
        printf '%s\n' "$HOME/.local/state/haldane/deployments"
    else
        fail 64 "neither XDG_STATE_HOME nor HOME is set; say with --log-dir where the record goes"
    fi
}

# The programs that this script itself needs; the rest is checked with everything else.
check_tools() {
    local program
    read -r -a program <<<"${HALDANE_COMMAND:-haldane}"
    need "${program[0]}" jq setsid flock timeout
    if [[ $health =~ ^https?:// ]] || has_settings; then
        need curl
    fi
    [[ -r $policy_file && ! -d $policy_file ]] || fail 66 "the policy '$policy_file' cannot be read"
}

# --- The record ------------------------------------------------------------------------------------------------------

# One folder a deployment, and one deployment at a time for a policy: the second would deploy over the first's canary.
open_record() {
    local stem
    stem=$(basename -- "$policy_file")
    stem=${stem%.y*ml}
    [[ -n $log_dir ]] || log_dir=$(default_log_dir) || exit
    RECORDS_DIR=$log_dir
    record_begin canary "$stem" "another canary.sh is at work with a policy named '$stem'; its record is in '$log_dir'"
    process_files "$record"
    remember arguments "$(jq -cn '$ARGS.positional' --args -- "${command_line[@]}")" directory "$started_in" \
        HALDANE_DB "${HALDANE_DB:-}" HALDANE_SERVER "${HALDANE_SERVER:-}" config "${HALDANE_DEPLOYMENT_CONF:-}" \
        version "$version" stage "$stage"
}

# remember KEY VALUE...: for a later run. Where that cannot be written nothing is begun; what is under way goes on.
remember() {
    record_set "$@" && return
    log "warning: the state of this deployment cannot be written to $record"
    [[ $stage == checking || $stage == deployed ]] || return 0
    outcome=failed
    end_without_traffic 74
}

# enter STAGE: whoever comes after us knows what we were about to change.
enter() {
    remember stage "$1"
    stage=$1
}

# --- Before anything is changed --------------------------------------------------------------------------------------

add_checks() {
    preflight_add policy preflight_policy
    ((${#begin_options[@]} > 0)) || preflight_add share preflight_share
    has_settings || return 0
    ((${#begin_options[@]} > 0)) || preflight_add rollouts preflight_rollouts "$SERVICE"
    preflight_add unfinished preflight_unfinished canary
    preflight_add tools preflight_tools jq curl setsid flock timeout awk df
    preflight_add disk preflight_disk "$PREFLIGHT_DISK_FREE" / "$STATE_DIR" "$RECORDS_DIR" "$BACKUP_DIR"
    preflight_add memory preflight_memory "$PREFLIGHT_MEMORY_FREE"
    [[ -z $HEALTH_CHECK_COMMAND ]] || preflight_add health preflight_health "$HEALTH_CHECK_COMMAND" "$accept_degraded"
    [[ -z $IMAGE_CHECK_COMMAND ]] || preflight_add image preflight_command "$IMAGE_CHECK_COMMAND"
    [[ -z $BACKUP_CHECK_COMMAND ]] || preflight_add backup preflight_command "$BACKUP_CHECK_COMMAND"
    preflight_add balancer preflight_balancer
    preflight_add metrics preflight_metrics
    [[ -z $CAPACITY_QUERY ]] || preflight_add capacity preflight_capacity
}

check_ready() {
    local status=0
    phase preflight
    log "checking the policy and the balancer"
    aim canary 'X-Canary: always'
    add_checks
    preflight_run || status=$?
    stop_if_interrupted
    ((status == 0)) || not_ready "$status"
}

not_ready() {
    log "error: not ready; nothing was deployed"
    end_without_traffic "$1"
}

# aim SLOT HEADER: whom the commands are about, and how the balancer is told to send a request there.
aim() {
    export SLOT=$1 HEADER=$2
}

print_plan() {
    printf 'Would do, with policy %s:\n' "$policy"
    printf '  deploy the canary:    %s%s\n' "${version:+VERSION=$version }" "$deploy"
    [[ -z $health ]] || printf '  wait for its health:  %s (at most %s s)\n' "$health" "$health_timeout"
    [[ -z $smoke ]] || printf '  try it:               %s\n' "$smoke"
    [[ -z $warm ]] || printf '  warm its caches:      %s\n' "$warm"
    printf '  begin the rollout:    %s\n' \
        "$(by_hand begin "$policy" --format json "${settings[@]/#/--set=}" "${begin_options[@]}")"
    printf '  advance at each look: %s\n' "$(by_hand advance ID --format json)"
    printf '  roll back by:         %s\n' "$(by_hand abort ID --reason TEXT)"
    printf '  and, if that fails:   %s\n' "$(by_hand traffic stable "$policy")"
    if [[ -n $promote ]]; then
        printf '  then deploy stable:   %s%s\n' "${version:+VERSION=$version }" "$promote"
        printf '  and move its traffic: %s\n' "$(by_hand traffic stable "$policy")"
    fi
    [[ -z $cleanup ]] || printf '  clean up by:          %s\n' "$cleanup"
}

confirm() {
    local reply=''
    [[ -z $assume_yes && -t 0 && -t 2 ]] || return 0
    if [[ -n $resume ]]; then
        printf 'Would take up %s, in stage %s.\n' "$resume" "$(state_of stage)" >&2
    else
        print_plan >&2
    fi
    read -r -p 'Go on? [y/N] ' reply || true
    [[ $reply == [yY] || $reply == [yY][eE][sS] ]] || fail 77 "not confirmed; nothing was changed"
}

# --- The canary, before it has traffic -------------------------------------------------------------------------------

deploy_canary() {
    local status=0
    phase deploy
    log "deploying the canary: $deploy"
    enter deployed
    run_until_interrupted bash -c "$deploy" >>"$record/deploy.log" 2>&1 || status=$?
    stop_if_interrupted
    ((status == 0)) || did_not_come_up "the deploy command failed with exit code $status; see $record/deploy.log"
    remember_version canary
    log "deployed"
}

# For whoever asks later which version is where. It must not stop the work.
remember_version() {
    has_settings || return 0
    record_version "$1" "$version" || log "warning: $STATE_DIR/versions could not be written"
}

remember_good() {
    has_settings || return 0
    { record_live stable && record_good "$version"; } || log "warning: $STATE_DIR/versions could not be written"
}

wait_for_health() {
    local deadline=$((EPOCHSECONDS + health_timeout))
    [[ -n $health ]] || return 0
    phase health
    log "waiting for the canary's health: $health"
    until health_ok "$health" "$record/health.log"; do
        stop_if_interrupted
        ((EPOCHSECONDS < deadline)) || did_not_come_up "the canary was not healthy within $health_timeout s:" \
            "$(last_line health.log)"
        nap 1
    done
    stop_if_interrupted
    log "the canary is healthy"
}

# last_line FILE: of the record.
last_line() {
    tail -n 1 -- "$record/$1" 2>/dev/null || true
}

try_canary() {
    local status=0
    [[ -n $smoke ]] || return 0
    phase smoke
    log "trying the canary: $smoke"
    run_until_interrupted bash -c "$smoke" >>"$record/smoke.log" 2>&1 || status=$?
    stop_if_interrupted
    ((status == 0)) || did_not_come_up "the canary failed its smoke test (exit code $status): $(last_line smoke.log)"
}

# A cold cache is slow and not wrong: haldane leaves out the warm-up, and compares what comes after it.
warm_canary() {
    local status=0
    [[ -n $warm ]] || return 0
    phase warm
    log "warming the canary's caches: $warm"
    run_until_interrupted bash -c "$warm" >>"$record/warm.log" 2>&1 || status=$?
    stop_if_interrupted
    ((status == 0)) || log "warning: the canary's caches are not warm (exit code $status); see $record/warm.log"
}

did_not_come_up() {
    log "error: $*"
    outcome=not_up
    record_set reason "$*" || true
    end_without_traffic "$never_came_up"
}

# An interruption before the rollout: no traffic was moved, and the exit code is the signal's.
stop_if_interrupted() {
    interrupted || return 0
    log "$(interruption) before any traffic was moved"
    outcome=interrupted
    end_without_traffic "$(signal_exit_code)"
}

# Where the canary must be left running because stable is down, that is what counts.
end_without_traffic() {
    clean_up || unproven
    finish "$1"
}

unproven() {
    call_a_person
    finish 69
}

# --- The rollout -----------------------------------------------------------------------------------------------------

begin_rollout() {
    phase rollout
    record_state[begun_after]=$EPOCHSECONDS
    enter shifted
    rollout_begin "${begin_options[@]}"
    follow
}

begin_failed() {
    local status=$1
    if ((status == 75)); then
        enter deployed
        rollout=''
        log "error: not now: the service has another rollout; this one was not begun ($(by_hand list))"
        end_without_traffic 75
    fi
    if [[ -z $rollout ]] && stable_proven; then
        enter deployed
        log "error: the rollout could not be begun (haldane begin: exit code $status); no traffic was moved"
        end_without_traffic "$(code_before_traffic "$status")"
    fi
    give_up "$(code_before_traffic "$status")" "the rollout could not be begun (haldane begin: exit code $status)"
}

# After each answer of haldane. There is nothing to do here before the end.
looked() {
    :
}

# --- How it ends -----------------------------------------------------------------------------------------------------

promoted() {
    [[ -z $promote ]] || promote_stable
    stage=ended
    outcome=promoted
    log "promoted: the canary has $(percent "$(basis_points)") of the traffic." \
        "Now bring stable to the same version, then give it the traffic back: $(by_hand traffic stable "$policy")"
    finish 0
}

# Stable is deployed while users are on the canary, which has proven the version. haldane's rollout has ended, and its
# split stays without a lease: nobody need look.
promote_stable() {
    local share=''
    enter promoting
    phase promote
    if read_share && ((share == 0)); then
        log "stable has all traffic already: somebody has rolled back since the promotion"
        stable_proven || leave_on_canary "somebody has rolled back, and it is not proven that stable serves"
        ended_on_stable 20 "rolled back after the promotion"
    fi
    aim stable 'X-Canary: never'
    log "promoted: the version is proven. Bringing stable to it: $promote"
    promote_step "$promote" promote.log "the promote command failed"
    if [[ -n $smoke ]]; then
        log "trying stable: $smoke"
        promote_step "$smoke" smoke-stable.log "stable failed its smoke test"
    fi
    remember_version stable
    enter ready
    return_traffic
}

# promote_step COMMAND LOG WHAT
promote_step() {
    local status=0
    run_until_interrupted bash -c "$1" >>"$record/$2" 2>&1 || status=$?
    ! interrupted || leave_on_canary "$(interruption)"
    ((status == 0)) || leave_on_canary "$3 (exit code $status); see $record/$2"
}

return_traffic() {
    local try
    phase return
    for try in 1 2 3; do
        ask traffic stable "$policy" || true
        if stable_proven; then
            enter returned
            log "all traffic is on stable, as the balancer itself says"
            retire_canary
        fi
        run_to_end sleep "$try"
    done
    leave_on_canary "the balancer does not show that stable has its traffic back${stable_down:+: no server of it is up}"
}

# Whoever has a request with the canary gets its answer.
retire_canary() {
    phase drain
    remember_good
    ask traffic drain canary "$policy" --timeout "$drain_timeout" ||
        log "warning: it is not proven that the canary has no request left; it is stopped as any server is"
    phase cleanup
    clean_up || leave_on_canary "no server of stable is up, so that the canary serves in its place"
    outcome=promoted
    log "promoted: stable${version:+ is at version $version and} has all traffic"
    finish 0
}

# Users are well: the version is proven, and the canary serves it. What is missing can be done at leisure.
leave_on_canary() {
    stage=ended
    [[ $signal_name != ROLLBACK ]] || make_way
    outcome=unfinished
    record_set reason "$1" || true
    log "==================================================================================================="
    log "THE VERSION IS PROMOTED, BUT STABLE IS NOT THERE YET: $1"
    log "The canary has the traffic and is well. Do not stop it, and do not leave it so for long: stable, on"
    log "which it would fall back, may be between two versions."
    log "1. Mend what the first line names."
    log "2. Go on:      $here/canary.sh --resume=$record"
    log "   Or go back: $here/rollback.sh${HALDANE_DEPLOYMENT_CONF:+ --config $HALDANE_DEPLOYMENT_CONF} --to last-good"
    log "==================================================================================================="
    finish "$unfinished"
}

# rollback.sh wants stable to have the traffic, whatever the version has proven. haldane's rollout has ended: there is
# nothing to abort.
make_way() {
    local id=$rollout status=0
    rollout=''
    roll_back "rollback.sh was called" || status=$?
    rollout=$id
    if ((status == 0)); then
        ended_on_stable 20 "rollback.sh was called"
    fi
    unproven
}

# The split is a newer rollout's now, and so may the canary be: whoever comes second has nothing to move or clean away.
superseded() {
    stage=ended
    outcome=superseded
    log "a newer rollout of the service took the place of this one; the traffic and the canary are left to it: $1"
    finish 20
}

ended_on_stable() {
    stage=ended
    outcome=on_stable
    record_set reason "$2" || true
    log "all traffic is on stable, as the balancer itself says. Reason: $2"
    clean_up || unproven
    finish "$1"
}

call_a_person() {
    outcome=unproven
    if [[ -n $stable_down ]]; then
        call_for_stable
        return
    fi
    log "==================================================================================================="
    log "THE CANARY MAY STILL GET TRAFFIC. The rollback could not be proven. A person is needed, now."
    log "1. Is the balancer running, and may this user use its socket? What it says:"
    log "     $(by_hand traffic get "$policy" --format json)"
    log "2. Put all traffic on stable, and see that the weight is 0:"
    log "     $(by_hand traffic stable "$policy")"
    [[ -z $rollout ]] || log "3. Close the rollout, so that the next one can begin:"
    [[ -z $rollout ]] || log "     $(by_hand abort "$rollout" --reason 'rolled back by hand')"
    if has_settings; then
        log "If haldane cannot do it, this tries the balancer's socket, then its file, then stops the canary:"
        log "     $here/rollback.sh${HALDANE_DEPLOYMENT_CONF:+ --config $HALDANE_DEPLOYMENT_CONF}"
    else
        log "If haldane cannot do it, do it at HAProxy's socket, stable first (names are in $policy):"
        log "     echo 'set server BACKEND/STABLE weight 100' | socat - UNIX-CONNECT:SOCKET"
        log "     echo 'set server BACKEND/CANARY weight 0' | socat - UNIX-CONNECT:SOCKET"
    fi
    log "If that fails too and stable is up, stop the canary: the balancer then uses stable alone."
    [[ -z $cleanup ]] || log "The cleanup command was NOT run, since the canary may be serving: $cleanup"
    log "==================================================================================================="
}

call_for_stable() {
    record_set reason "no server of stable is up, so that the canary serves in its place" || true
    log "==================================================================================================="
    log "NO SERVER OF STABLE IS UP: the canary may serve everybody, whatever its share. A person is needed, now."
    log "Do not stop the canary: it may be all that serves."
    log "1. Bring stable back, at the version that it had: restart its servers, or deploy them again."
    ! has_settings || log "     $here/stack.sh restart stable, or $here/rollback.sh --to last-good"
    log "2. See that the weight is 0 and stable_up is not:"
    log "     $(by_hand traffic get "$policy" --format json)"
    [[ -z $cleanup ]] || log "The cleanup command was NOT run. To end the deployment: $here/canary.sh --resume=$record"
    log "==================================================================================================="
}

# Only where nothing reaches the canary: see the top of this file. Fails if the canary is left because stable is down.
clean_up() {
    local status=0
    [[ -n $cleanup && $stage != checking ]] || return 0
    if ! stable_proven; then
        log "the cleanup command was not run: it is not proven that the canary gets no traffic: $cleanup"
        [[ -z $stable_down ]]
        return
    fi
    aim canary 'X-Canary: always'
    log "cleaning up: $cleanup"
    run_to_end bash -c "$cleanup" >>"$record/cleanup.log" 2>&1 || status=$?
    ((status == 0)) || log "warning: the cleanup command failed with exit code $status; see $record/cleanup.log"
}

archive_report() {
    [[ -n $rollout ]] || return 0
    if ask_into "$scratch/report.html" report "$rollout" --format html && archive "$scratch/report.html"; then
        log "report: $record/report.html"
    else
        log "warning: no report was written; try later: $(by_hand report "$rollout" --format html)"
    fi
}

finish() {
    stage=ended
    archive_report
    log "exit code $1; record: $record"
    record_write "${outcome:-not_begun}" "$1"
    scratch_remove
    exit "$1"
}

# The net under everything: an exit that no line above meant.
on_exit() {
    local code=$?
    trap - EXIT
    set +e
    case $stage in
        shifted)
            log "error: canary.sh failed unexpectedly (exit code $code)"
            return_to_stable 70 "canary.sh failed"
            ;;
        promoting | ready | returned)
            leave_on_canary "canary.sh failed unexpectedly (exit code $code)"
            ;;
        deployed)
            log "error: canary.sh failed unexpectedly (exit code $code) before any traffic was moved"
            outcome=failed
            end_without_traffic 70
            ;;
    esac
    scratch_remove
    exit "$code"
}

# --- Taking up what was interrupted ----------------------------------------------------------------------------------

# The command line of then is the one that counts, in the folder of then.
load_record() {
    local arguments
    [[ $resume != newest ]] || find_record
    [[ -r $resume/state.json ]] || fail 66 "'$resume' is no record of a deployment"
    resume=$(realpath -- "$resume")
    mapfile -d '' -t arguments < <(jq -j '.arguments // "[]" | fromjson | .[] | ., "\u0000"' "$resume/state.json")
    ((${#arguments[@]} > 0)) || fail 65 "'$resume/state.json' does not say how canary.sh was called"
    take_up_environment
    cd -- "$(state_of directory)" || fail 66 "the folder of the interrupted deployment is gone"
    given=()
    settings=()
    preflight_skip=()
    options_read "${arguments[@]}"
}

# Where it may be: as said, as the settings say, or where deployments without settings leave it.
find_record() {
    local folder folders=()
    if [[ -n ${given[log_dir]:-} ]]; then
        folders=("${given[log_dir]}")
    else
        config_load "${given[config]:-}"
        folders=("$RECORDS_DIR" "$(default_log_dir)")
    fi
    for folder in "${folders[@]}"; do
        RECORDS_DIR=$folder
        ! resume=$(record_last canary) || return 0
    done
    fail 66 "no deployment in ${folders[*]} was left unfinished"
}

# state_of KEY: of the record that is about to be taken up; empty if it has none.
state_of() {
    jq -r --arg key "$1" '.[$key] // ""' "$resume/state.json"
}

# What the first run had in its environment.
take_up_environment() {
    local name value
    for name in HALDANE_DB HALDANE_SERVER; do
        value=$(state_of "$name")
        [[ -z $value ]] || export "$name=$value"
    done
    export HALDANE_DEPLOYMENT_CONF
    HALDANE_DEPLOYMENT_CONF=$(state_of config)
}

reopen_record() {
    local status=0 code
    record_lock_wait=60 # what was killed may still be on its way back
    record_reopen "$resume" || status=$?
    ((status != 75)) || fail 75 "the deployment of '$resume' is under way"
    ((status == 0)) || fail "$status" "the record '$resume' cannot be taken up"
    if [[ -n $(record_get outcome) ]]; then
        code=$(record_get code)
        log "the deployment of '$resume' has ended: $(record_get outcome), exit code $code"
        exit "$code"
    fi
    process_take_over "$record"
    rollout=$(record_get rollout)
    log "taking up $record, which was interrupted in stage '$(record_get stage)'"
}

resume_from() {
    trap 'on_exit' EXIT
    stage=$(record_get stage)
    case $stage in
        shifted) resume_rollout ;;
        promoting) promote_stable ;;
        ready) return_traffic ;;
        returned) retire_canary ;;
        *) from_the_start ;;
    esac
}

# If haldane knows the rollout, it knows what to do with it: it goes on, goes back, or says how it has ended.
resume_rollout() {
    local share=''
    phase rollout
    [[ -n $rollout ]] || find_rollout
    if [[ -n $rollout ]]; then
        remember rollout "$rollout"
        follow
    fi
    if read_share && ((share == 0)); then
        log "the rollout had not begun"
        enter deployed
        from_the_start
    fi
    give_up 70 "the canary may have traffic, and haldane knows no rollout of it"
}

# Begun by us and never told: the one of the service that is under way and younger than our order.
find_rollout() {
    local found status=0
    ask status --format json || status=$?
    ((status == 0 || status == 10)) || give_up 69 "haldane does not say what is under way (exit code $status)"
    found=$(jq -r --arg service "${SERVICE:-}" --argjson after "$(record_get begun_after)" '
        select($service == "" or .service == $service)
        | select((.begun_at | sub("\\.[0-9]+"; "") | fromdateiso8601) >= $after) | .rollout' <<<"$answer") || found=''
    [[ $found != *$'\n'* ]] || give_up 70 "more than one rollout was begun since: ${found//$'\n'/ }"
    rollout=$found
}

# ---------------------------------------------------------------------------------------------------------------------

roll_out() {
    trap 'on_exit' EXIT
    from_the_start
}

from_the_start() {
    check_ready
    deploy_canary
    wait_for_health
    try_canary
    warm_canary
    begin_rollout
}

only_say() {
    local status=0
    if [[ -n $resume ]]; then
        printf 'Would take up %s, in stage %s.\n' "$resume" "$(state_of stage)"
        exit 0
    fi
    signals=$scratch/signals
    : >"$signals"
    aim canary 'X-Canary: always'
    add_checks
    preflight_run || status=$?
    ((status == 0)) || fail "$status" "not ready"
    print_plan
    exit 0
}

main() {
    options_read "$@"
    [[ -z $resume ]] || load_record
    configure
    check_tools
    scratch_make canary || fail 74 "no temporary directory can be made, not even in memory"
    [[ -z $dry_run ]] || only_say
    confirm
    exec </dev/null
    if [[ -n $resume ]]; then
        reopen_record
        attend resume_from
    fi
    open_record
    attend roll_out
}

command_line=("$@")
started_in=$PWD
{
    main "$@"
    exit
}
