#!/usr/bin/env bash
#
# Deploys a version to the colour that has no traffic, switches all traffic to it, and keeps the other one for the way
# back.
#
# haldane moves the traffic here too: a switch is a rollout of the policy for blue/green, in which the live colour has
# the part of stable and the idle one that of the canary. So a switch has what a canary has: a lease, a guard, a record,
# a bake that is watched, and an automatic way back. Whatever happens after the first traffic was moved ends in one of
# three ways: switched, proven to be back on the colour that was live, or a loud message with the commands for a person.
#
# Which colour is live is what the balancer says. The memory of it (lib/versions.sh) is compared and told, no more.
# shellcheck disable=SC2317 # the work is called by its name, through attend
# shellcheck disable=SC2153 # the settings are deployment.conf's
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
# shellcheck source=deployment/lib/versions.sh
source "$here/lib/versions.sh"
# shellcheck source=deployment/lib/places.sh
source "$here/lib/places.sh"
# shellcheck source=deployment/lib/record.sh
source "$here/lib/record.sh"
# shellcheck source=deployment/lib/haldane.sh
source "$here/lib/haldane.sh"
# shellcheck source=deployment/lib/preflight.sh
source "$here/lib/preflight.sh"
# shellcheck source=deployment/lib/rollout.sh
source "$here/lib/rollout.sh"
# shellcheck source=deployment/lib/colours.sh
source "$here/lib/colours.sh"

readonly never_came_up=1
readonly all_of_it=10000 # basis points

action=''
config=''
version=''
folder=''
format=text
user_settings=()
at_once=''
stop_old=''
accept_degraded=''
dry_run=''
assume_yes=''

rollout=''     # haldane's id, once there is one
stage=checking # checking, deployed, shifted, switched, ended: what has to be undone if we fail here
outcome=failed # how the record calls the end
scratch=''     # answers of haldane; kept apart from the record, which may be on a full disk
logs=''        # where the output of commands goes: the record, or if there is none, scratch
judged_since=0 # when the first request went to the new colour, Unix seconds
smoked=''      # the new colour was tried with all of the traffic

usage() {
    cat <<'END'
usage: blue-green.sh --version V [OPTION]...
       blue-green.sh --back | --resume [FOLDER] | --status [OPTION]...

Deploys a version to the idle colour, tries it there, switches all traffic to it and watches; harm switches back.

  --version V            deploy V to the idle colour and switch to it
  --back                 return at once to the colour that was live before, which was kept for that
  --resume [FOLDER]      take up the deployment that was interrupted: the last one, or that of this record
  --status               which colour is live, what runs where, whether there is a way back; changes nothing
  --config FILE          settings that differ from deployment.conf (default $HALDANE_DEPLOYMENT_CONF)
  --set NAME=VALUE       a setting of the policy; may be given several times
  --at-once              do not wait at the policy's first steps: all traffic is switched in one go, then watched
  --stop-old             stop the old colour after the switch; then there is no instant way back
  --accept-degraded      begin although the stack is degraded
  --skip-check NAME      leave a pre-flight check out; the record says so; may be given several times
  --format text|json     of --status
  --dry-run              check everything, say what would be done, change nothing
  --yes                  do not ask before starting, also on a terminal
  --help                 this page

Exit codes: 0 switched; 20 back on the colour that was live, proven; 1 the new version did not come up or did not pass
its tests, no traffic was moved; 64 wrong usage; 65 invalid policy or setting; 66 unreadable file; 69 something could
not be reached (if traffic may be on the new colour, the last lines say so and what to do); 70 a fault; 74 the record
cannot be written; 75 not now: a check did not pass, or another deployment or rollout runs; 77 not allowed; 129, 130,
143 ended by a signal before any traffic was moved.
END
}

# --- The command line ------------------------------------------------------------------------------------------------

takes value --version --config --set --skip-check --format
takes optional --resume
takes flag --back --status --at-once --stop-old --accept-degraded --dry-run --yes

take_option() {
    local name=$1 value=$2
    case $name in
        --version)
            one_action version
            needs_version "$@"
            version=$value
            ;;
        --back | --status) one_action "${name#--}" ;;
        --resume)
            one_action resume
            folder=$value
            ;;
        --config) config=$value ;;
        --set)
            needs_setting "$@"
            [[ ! $value =~ ^(LIVE|IDLE)= ]] || usage_error "--set cannot say which colour is live; the balancer does"
            user_settings+=("$value")
            ;;
        --skip-check) preflight_skip+=("$value") ;;
        --format)
            needs_one_of "$@" text json
            format=$value
            ;;
        --at-once) at_once=$value ;;
        --stop-old) stop_old=$value ;;
        --accept-degraded) accept_degraded=$value ;;
        --dry-run) dry_run=$value ;;
        --yes) assume_yes=$value ;;
    esac
}

one_action() {
    [[ -z $action ]] || usage_error "--$action and --$1 cannot be had together"
    action=$1
}

# What the shared parts want to know, from the settings. Where haldane runs elsewhere, it sees the policy elsewhere.
prepare() {
    [[ $STRATEGY == blue-green ]] || fail 65 "the configuration says STRATEGY=$STRATEGY; there are no colours then"
    [[ -r $POLICIES/$BLUE_GREEN_POLICY ]] || fail 66 "the policy '$POLICIES/$BLUE_GREEN_POLICY' cannot be read"
    policy=${HALDANE_POLICIES:-$POLICIES}/$BLUE_GREEN_POLICY
    begin_limit=$(duration_seconds "$HEALTH_TIMEOUT")
    max_unreachable=$(duration_seconds "$MAX_UNREACHABLE")
    poll=$CANARY_POLL
    health=$BLUE_GREEN_HEALTH
    scratch_make blue-green || fail 74 "no temporary directory can be made, not even in memory"
    logs=$scratch
}

# --- Before anything is changed --------------------------------------------------------------------------------------

preflight() {
    local status=0
    preflight_add tools preflight_tools jq setsid flock timeout curl
    preflight_add policy preflight_policy
    preflight_add balancer preflight_balancer
    preflight_add share preflight_share
    preflight_add rollouts preflight_rollouts "$SERVICE"
    preflight_add unfinished preflight_unfinished blue-green
    preflight_add metrics preflight_metrics
    [[ -z $HEALTH_CHECK_COMMAND ]] || preflight_add health preflight_health "$HEALTH_CHECK_COMMAND" "$accept_degraded"
    [[ -z $BACKUP_CHECK_COMMAND ]] || preflight_add backup preflight_command "$BACKUP_CHECK_COMMAND"
    [[ -z $IMAGE_CHECK_COMMAND ]] || preflight_add image preflight_command "$IMAGE_CHECK_COMMAND"
    preflight_add disk preflight_disk "$PREFLIGHT_DISK_FREE" / "$STATE_DIR" "$RECORDS_DIR" "$BACKUP_DIR"
    preflight_add memory preflight_memory "$PREFLIGHT_MEMORY_FREE"
    preflight_run || status=$?
    return "$status"
}

# --- The new version, without traffic --------------------------------------------------------------------------------

# of_colour COLOUR: what the commands of the settings find in their environment.
of_colour() {
    export SLOT=$1 HEADER="X-Colour: $1" VERSION=$version
}

# setting_run COMMAND FILE: a command of the settings, in the folder at which its paths begin. What it prints is kept.
setting_run() {
    run_until_interrupted env --chdir="$root" bash -c "$1" >>"$logs/$2" 2>&1
}

deploy_idle() {
    local status=0
    phase deploy
    log "deploying version $version to $idle; $live has the traffic"
    forget_kept
    stage=deployed
    setting_run "$DEPLOY_COMMAND" deploy.log || status=$?
    stop_if_interrupted
    ((status == 0)) || did_not_come_up "the deploy command failed with exit code $status; see $record/deploy.log"
    stable_proven || did_not_come_up "the balancer does not show that $(what_is_missing)"
    log "deployed"
}

# Why stable_proven has failed.
what_is_missing() {
    if [[ -n $stable_down ]]; then
        printf 'a server of %s is up\n' "$live"
    else
        printf '%s gets no traffic\n' "$idle"
    fi
}

try_idle() {
    local status=0
    phase smoke
    judged_since=$EPOCHSECONDS
    log "smoke tests of $idle"
    setting_run "$SMOKE_COMMAND" smoke.log || status=$?
    stop_if_interrupted
    ((status == 0)) || did_not_come_up "$idle does not pass the smoke tests (exit code $status); see $record/smoke.log"
    [[ -n $WARM_COMMAND ]] || return 0
    phase warm
    log "warming the caches of $idle"
    setting_run "$WARM_COMMAND" warm.log || status=$?
    stop_if_interrupted
    case $status in
        0) ;;
        1) log "warning: $idle is not warm yet; going on. See $record/warm.log" ;;
        *) did_not_come_up "the warm-up of $idle failed (exit code $status); see $record/warm.log" ;;
    esac
}

# Has Prometheus seen the idle colour, and do its answers to the tests speak against it? The mix of the tests is not
# that of the users, so that latency is no ground to stop. Errors are, and so are guardrails that count requests; one
# that asks a query may still see what the deployment itself did.
judge_idle() {
    local limit deadline status seen
    limit=$(duration_seconds "$BLUE_GREEN_JUDGE_TIMEOUT")
    deadline=$((EPOCHSECONDS + limit))
    phase judge
    log "asking haldane what the metrics of $idle say (at most $limit s)"
    while :; do
        stop_if_interrupted
        status=0
        ask judge "$policy" --since "$judged_since" --format json "${settings[@]/#/--set=}" || status=$?
        ! idle_harmed || did_not_come_up "haldane's verdict on $idle, still without traffic: $(field reason)"
        seen=$(idle_requests)
        [[ $(field decision) != promote ]] || break
        ((EPOCHSECONDS < deadline)) || break
        setting_run "${WARM_COMMAND:-$SMOKE_COMMAND}" requests.log || true
        nap 2
    done
    archive "$scratch/answer" verdict-idle.json
    ((seen > 0)) || did_not_come_up "Prometheus has no requests of $idle (haldane judge: exit code $status): is it" \
        "scraped, and are its labels those of the policy?"
    log "nothing speaks against $idle after $seen requests: $(field reason)"
}

idle_harmed() {
    jq -en 'input | [(.metrics[]? | select(.type == "errors" and .critical and .status == "harmed")),
            (.guardrails[]? | select(.kind != "value" and .status == "firing"))] != []' <<<"$answer" >/dev/null 2>&1
}

idle_requests() {
    jq -r '[.metrics[]? | .canary.requests? // 0] + [.guardrails[]? | .requests? // 0] | max // 0 | floor' \
        <<<"${answer:-null}" 2>/dev/null || printf '0\n'
}

did_not_come_up() {
    log "error: $*"
    log "no traffic was moved: $live has all of it. $idle is left as it is, for whoever looks into it"
    conclude failed "$never_came_up" "$*"
}

# An interruption before the rollout: no traffic was moved, and the exit code is the signal's.
stop_if_interrupted() {
    interrupted || return 0
    log "$(interruption) before any traffic was moved"
    conclude interrupted "$(signal_exit_code)" "$(interruption) before any traffic was moved"
}

# --- The switch ------------------------------------------------------------------------------------------------------

switch_over() {
    phase switch
    log "switching from $live to $idle"
    # shellcheck disable=SC2119 # no options are meant
    rollout_begin
    [[ -z $at_once ]] || skip_to_the_switch
    follow
}

# The policy's first steps are a sample of the traffic. Whoever wants none of that promotes over them, in their own
# name.
skip_to_the_switch() {
    local status
    while (($(basis_points) < all_of_it)); do
        ! interrupted || abort "$(interruption)" "$(interruption)"
        status=0
        ask promote "$rollout" --reason "all traffic at once, as asked for" --format json || status=$?
        ((status == 0 || status == 10)) || {
            log "haldane did not go on at once (exit code $status); it is followed step by step"
            return 0
        }
        lease_until=$(field_time lease_until)
        look_telemetry
    done
    tell_progress "$(field state)"
    looked 0
}

# The first time that the new colour has everything, it is tried through the front door.
looked() {
    [[ -z $smoked ]] && (($(basis_points) == all_of_it)) || return 0
    smoked=yes
    telemetry switched from="$live" to="$idle"
    log "all traffic is on $idle; smoke tests through the balancer"
    front_door || abort "the smoke tests failed with all traffic on $idle; see $record/smoke-switched.log"
}

# A header that means nothing: as users come in.
front_door() {
    HEADER='X-Smoke-Test: switched' run_to_end env --chdir="$root" timeout --kill-after=5 \
        "$(duration_seconds "$BLUE_GREEN_SMOKE_TIMEOUT")" bash -c "$SMOKE_COMMAND" >>"$logs/smoke-switched.log" 2>&1
}

# haldane has ended its rollout with all traffic on the new colour. What comes now can be done again by --resume.
promoted() {
    stage=switched
    phase verify
    if ! switched_proven; then
        [[ $share != 0 ]] || ended_on_stable 20 "somebody returned the traffic to $live after the switch"
        give_up_switched 69 "the balancer does not show that $idle has all of the traffic"
    fi
    if ! front_door; then
        log "the smoke tests fail after the switch; see $record/smoke-switched.log"
        return_after_promotion "the smoke tests failed after the switch"
    fi
    settle_switch
}

switched_proven() {
    share=''
    read_share && [[ $share == "$all_of_it" ]]
}

# haldane's rollout has ended, so it is not asked to abort it: the traffic is moved by hand, and proven.
return_after_promotion() {
    local ended=$rollout
    rollout=''
    stage=ended
    if roll_back "$1"; then
        rollout=$ended
        ended_on_stable 20 "$1"
    fi
    call_a_person
    finish 69
}

# The traffic stays where haldane's proof left it; what could not be done is told.
give_up_switched() {
    log "error: $2. What the balancer says: $(by_hand traffic get "$policy" --format json)"
    log "to go on: blue-green.sh --resume; to return: blue-green.sh --back, or rollback.sh"
    stage=ended
    log "exit code $1; record: ${record:-none}"
    scratch_remove
    exit "$1" # the record stays open, for --resume
}

settle_switch() {
    local drained=yes
    remember_switch || give_up_switched 74 "which colour is live cannot be written to $STATE_DIR"
    record_set good "$idle" || true
    log "switched: $idle has all of the traffic, version $version"
    phase drain
    if ! ask traffic drain stable "$policy" --timeout "$DRAIN_TIMEOUT"; then
        log "warning: $live still works on requests after $DRAIN_TIMEOUT; it is left running"
        drained=''
    fi
    if [[ -n $stop_old && -n $drained ]] && new_colour_serves; then
        stop_old_colour
    else
        keep_colour "$live"
        log "$live is kept with version $(version_of "$live" || printf '?'): blue-green.sh --back returns to it at once"
    fi
    conclude switched 0 "switched from $live to $idle"
}

# Asked in the last moment before the old colour is stopped.
new_colour_serves() {
    switched_proven && [[ $(field canary_up) != 0 ]] && return
    log "WARNING: $live is not stopped, as was asked for: the balancer does not show that $idle serves everybody." \
        "See blue-green.sh --status"
    return 1
}

remember_switch() {
    record_version "$idle" "$version" && record_live "$idle" && record_good "$version"
}

remember_return() {
    record_version "$idle" "$version" && record_live "$idle" && record_return "$version"
}

stop_old_colour() {
    local status=0
    log "stopping $live"
    of_colour "$live"
    setting_run "$STOP_COMMAND" stop.log || status=$?
    of_colour "$idle"
    ((status == 0)) || log "warning: the stop command failed with exit code $status; see $record/stop.log"
}

# --- How it ends -----------------------------------------------------------------------------------------------------

begin_failed() {
    local status=$1
    if ((status == 75)); then
        rollout=''
        log "error: not now: the service has another rollout; this one was not begun ($(by_hand list))"
        conclude refused 75 "the service has another rollout"
    fi
    if [[ -z $rollout ]] && stable_proven; then
        log "error: the switch could not be begun (haldane begin: exit code $status); no traffic was moved"
        conclude failed "$(code_before_traffic "$status")" "the switch could not be begun"
    fi
    give_up "$(code_before_traffic "$status")" "the switch could not be begun (haldane begin: exit code $status)"
}

# The split is a newer rollout's now: whoever comes second has nothing to move.
superseded() {
    log "a newer rollout of the service took the place of this one; the traffic is left to it: $1"
    conclude superseded 20 "$1"
}

ended_on_stable() {
    log "all traffic is on $live, as the balancer itself says. Reason: $2"
    log "$idle is left as it is, for whoever looks into it"
    record_live "$live" || log "warning: which colour is live cannot be written to $STATE_DIR"
    conclude aborted "$1" "$2"
}

call_a_person() {
    outcome=unproven
    record_set reason "the way back to $live could not be proven" || true
    log "==================================================================================================="
    log "$idle MAY STILL GET TRAFFIC. The way back to $live could not be proven. A person is needed, now."
    log "1. Is the balancer running, and may this user use its socket? What it says:"
    log "     $(by_hand traffic get "$policy" --format json)"
    [[ -z $stable_down ]] || log "   No server of $live is up. Bring it back first: $here/stack.sh restart $live"
    log "2. Put all traffic on $live, and see that the weight is 0:"
    log "     $(by_hand traffic stable "$policy")"
    [[ -z $rollout ]] || log "3. Close the rollout, so that the next one can begin:"
    [[ -z $rollout ]] || log "     $(by_hand abort "$rollout" --reason 'switched back by hand')"
    log "If haldane cannot do it, rollback.sh takes whatever way is left: $here/rollback.sh"
    log "==================================================================================================="
}

archive_report() {
    [[ -n $rollout ]] || return 0
    if ask_into "$scratch/report.html" report "$rollout" --format html; then
        archive "$scratch/report.html"
        log "report: $record/report.html"
    else
        log "warning: no report was written; try later: $(by_hand report "$rollout" --format html)"
    fi
}

# conclude OUTCOME CODE REASON
conclude() {
    outcome=$1
    record_set reason "$3" || true
    [[ $1 == switched || $1 == 'done' ]] || phase_end failed "$3"
    finish "$2"
}

finish() {
    stage=ended
    archive_report
    record_write "$outcome" "$1"
    log "exit code $1; record: ${record:-none}"
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
            log "error: blue-green.sh failed unexpectedly (exit code $code)"
            return_to_stable 70 "blue-green.sh failed"
            ;;
        switched) give_up_switched 70 "blue-green.sh failed unexpectedly (exit code $code) after the switch" ;;
        checking | deployed)
            log "error: blue-green.sh failed unexpectedly (exit code $code) before any traffic was moved"
            conclude failed 70 "blue-green.sh failed"
            ;;
    esac
    scratch_remove
    exit "$code"
}

# --- What can be asked for -------------------------------------------------------------------------------------------

open_record() {
    local status=0
    record_open blue-green "$SERVICE" || status=$?
    record_opened "$status"
    log "record: $record"
}

# The way back does not wait for a disk with room.
open_record_if_possible() {
    record_try blue-green "$SERVICE" || record_opened 75
    [[ -z $record ]] || record_opened 0
}

record_opened() {
    case $1 in
        0) ;;
        75) fail 75 "another deployment of $SERVICE is under way. What ends it: $here/rollback.sh" ;;
        66) fail 66 "'$folder' is no record of a deployment" ;;
        *) fail "$1" "no record can be written to $RECORDS_DIR" ;;
    esac
    logs=$record
    process_files "$record"
    note "blue-green.sh $(quoted "${command_line[@]}")"
}

print_plan() {
    printf 'Would do, with policy %s:\n' "$policy"
    printf '  live, as the balancer says:  %s\n' "$live"
    printf '  deploy to the idle colour:   SLOT=%s VERSION=%s %s\n' "$idle" "$version" "$DEPLOY_COMMAND"
    printf '  smoke tests of it:           %s\n' "$SMOKE_COMMAND"
    [[ -z $WARM_COMMAND ]] || printf '  warm its caches:             %s\n' "$WARM_COMMAND"
    printf '  ask for its metrics:         %s\n' "$(by_hand judge "$policy" --since TIME --format json)"
    printf '  switch, and watch:           %s\n' "$(by_hand begin "$policy" --format json "${settings[@]/#/--set=}")"
    printf '  switch back on harm by:      %s\n' "$(by_hand abort ID --reason TEXT)"
    printf '  and, if that fails:          %s\n' "$(by_hand traffic stable "$policy")"
    printf '  drain %-22s %s\n' "$live:" "$(by_hand traffic drain stable "$policy" --timeout "$DRAIN_TIMEOUT")"
    if [[ -n $stop_old ]]; then
        printf '  stop %-23s SLOT=%s %s\n' "$live:" "$live" "$STOP_COMMAND"
    else
        printf '  keep %-23s for blue-green.sh --back\n' "$live:"
    fi
}

# confirm COMMAND...: what it prints is shown before the question.
confirm() {
    local reply=''
    [[ -z $assume_yes && -t 0 && -t 2 ]] || return 0
    "$@" >&2
    read -r -p 'Go on? [y/N] ' reply || true
    [[ $reply == [yY] || $reply == [yY][eE][sS] ]] || fail 77 "not confirmed; nothing was changed"
}

do_version() {
    local status=0
    find_live_or_fail
    of_colour "$idle"
    if [[ -n $dry_run ]]; then
        preflight || status=$?
        print_plan
        exit "$status"
    fi
    confirm print_plan
    exec </dev/null
    open_record
    attend deploy_and_switch
}

deploy_and_switch() {
    local status=0
    trap 'on_exit' EXIT
    record_set version "$version"
    record_set live "$live"
    record_set idle "$idle"
    record_set good "$live" # where rollback.sh returns to
    record_set at_once "$at_once"
    record_set stop_old "$stop_old"
    phase pre-flight
    preflight || status=$?
    stop_if_interrupted
    ((status == 0)) || conclude refused "$status" "the pre-flight checks did not pass"
    deploy_idle
    try_idle
    judge_idle
    stop_if_interrupted
    switch_over
}

do_back() {
    local running
    set_roles blue green
    running=$(rollout_under_way) || fail 69 "haldane does not say whether a rollout is under way"
    if [[ -n $running ]]; then
        rollout=$running
        [[ -z $dry_run ]] || would "abort the rollout: $(by_hand abort "$rollout" --reason TEXT)"
        confirm printf 'Abort the rollout %s.\n' "$rollout"
        exec </dev/null
        open_record_if_possible
        attend abort_under_way
    fi
    find_live_or_fail
    is_kept "$idle" || fail 77 "$idle is not kept for a return: what runs there now never had the traffic. To switch" \
        "to it all the same, unwatched: $(by_hand traffic switch canary "$policy")"
    ((up_new > 0)) || fail 69 "no server of $idle is up. Start it ($here/stack.sh restart $idle), or deploy anew"
    version=$(version_of "$idle")
    of_colour "$idle"
    [[ -z $dry_run ]] ||
        would "return from $live to $idle, version $version: $(by_hand traffic switch canary "$policy")"
    confirm printf 'Return from %s to %s, version %s.\n' "$live" "$idle" "$version"
    exec </dev/null
    open_record_if_possible
    attend go_back
}

would() {
    printf 'Would %s\n' "$*"
    exit 0
}

# What is under way is a switch that has not ended: its own way back is the instant one.
abort_under_way() {
    local state
    trap 'on_exit' EXIT
    phase back
    log "the rollout $rollout is under way: it is aborted, and that is the way back"
    ask abort "$rollout" --reason "return asked for by $(record_user)" --format json || true
    state=$(state_now)
    find_live || give_up_switched 69 "the way back is not proven (the rollout is $state)"
    [[ $state != promoted ]] || conclude failed 75 "the switch was promoted meanwhile; now: blue-green.sh --back"
    record_live "$live" || log "warning: which colour is live cannot be written to $STATE_DIR"
    log "all traffic is on $live, as the balancer itself says"
    conclude 'done' 0 "the switch was aborted; $live has all of the traffic"
}

# The kept colour was live and was watched: nothing is judged again, so that this is quick.
go_back() {
    trap 'on_exit' EXIT
    record_set version "$version" live "$live" idle "$idle" good "$idle" ||
        log "warning: what is done cannot be written to $record"
    phase back
    log "returning from $live to $idle, version $version"
    health_ok "$health" "$logs/health.log" ||
        log "warning: the health check of $idle fails: $(tail -n 1 -- "$logs/health.log" 2>/dev/null || true)"
    stage=ended
    ask traffic switch canary "$policy" --format json || true
    if ! switched_proven; then
        [[ $share == 0 ]] || give_up_switched 69 "the balancer does not show that $idle has all of the traffic"
        log "error: the balancer did not switch; all traffic is on $live as before"
        conclude failed 69 "the balancer did not switch"
    fi
    telemetry switched from="$live" to="$idle"
    remember_return || log "warning: which colour is live cannot be written to $STATE_DIR"
    keep_colour "$live"
    log "all traffic is on $idle, as the balancer itself says"
    phase verify
    if ! front_door; then
        log "error: the smoke tests fail on $idle too; see $logs/smoke-switched.log. The traffic stays there"
        conclude failed 1 "the smoke tests fail on $idle"
    fi
    conclude switched 0 "returned from $live to $idle"
}

do_resume() {
    local status=0
    if [[ -z $folder ]]; then
        folder=$(record_last blue-green) || fail 66 "no deployment in $RECORDS_DIR was interrupted; nothing to resume"
    fi
    [[ -z $dry_run ]] || would "take up $folder"
    exec </dev/null
    record_reopen "$folder" || status=$?
    record_opened "$status"
    version=$(record_get version) live=$(record_get live) idle=$(record_get idle) rollout=$(record_get rollout)
    at_once=$(record_get at_once) stop_old=$(record_get stop_old)
    [[ -z $(record_get outcome) ]] || fail 64 "the deployment of $record has ended: $(record_get outcome)"
    [[ -n $version && -n $live && -n $idle ]] || fail 66 "the record $record does not say what was to be deployed"
    set_roles "$live" "$idle"
    of_colour "$idle"
    process_take_over "$record"
    attend take_up
}

# Where it was interrupted is what the record says; where the traffic is, what haldane and the balancer say.
take_up() {
    local was
    trap 'on_exit' EXIT
    was=$(record_get phase)
    log "taking up the deployment of version $version to $idle; it was interrupted at: ${was:-its begin}"
    if [[ $was == switch && -z $rollout ]]; then
        rollout=$(rollout_under_way) || rollout=''
    fi
    if [[ $was == switch && -n $rollout ]]; then
        record_set rollout "$rollout" || true
        stage=shifted
        phase switch
        follow
    elif [[ $was == verify || $was == drain ]]; then
        stage=switched
        promoted
    fi
    # Nothing was moved, so that everything can be done again.
    stable_proven || give_up_switched 69 "the balancer does not show that $(what_is_missing)"
    deploy_and_switch
}

do_status() {
    local running='' found=yes
    find_live || found=''
    running=$(rollout_under_way) || running='?'
    "status_$format" "$found" "$running"
    [[ -n $found ]] || exit 69
}

main() {
    options_read "$@"
    [[ -n $action ]] || usage_error "say what to do: --version, --back, --resume or --status"
    config_load "$config"
    places_load
    prepare
    "do_$action"
}

command_line=("$@")
{
    main "$@"
    exit
}
