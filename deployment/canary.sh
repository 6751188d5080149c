#!/usr/bin/env bash
#
# Deploys a canary and sees its rollout to the end: promoted, or all traffic back on stable.
#
# haldane judges and moves the traffic. This script is what stands around it: it deploys with the user's own command,
# checks the canary's health before and during the rollout, asks haldane to advance when the next look is due, and keeps
# the record. Whatever happens after the first traffic was moved (an error, a signal, a fault of this script) ends in
# one of three ways: promoted, proven to be back on stable, or a loud message with the commands for a person.
#
# One rule for the cleanup command: it runs only when the balancer has proven that the canary gets no traffic.
# shellcheck disable=SC2317 # the work is called by its name, through attend
set -euo pipefail

here=$(cd -- "$(dirname -- "$(readlink -f -- "${BASH_SOURCE[0]}")")" && pwd)
# shellcheck source=deployment/lib/log.sh
source "$here/lib/log.sh"
# shellcheck source=deployment/lib/duration.sh
source "$here/lib/duration.sh"
# shellcheck source=deployment/lib/process.sh
source "$here/lib/process.sh"
# shellcheck source=deployment/lib/health.sh
source "$here/lib/health.sh"
# shellcheck source=deployment/lib/haldane.sh
source "$here/lib/haldane.sh"

readonly health_failures_max=3
readonly never_came_up=1

policy=''
deploy=''
health=''
health_timeout=60
settings=()
cleanup=''
poll=5
max_unreachable=300
log_dir=''
dry_run=''
assume_yes=''

rollout=''        # haldane's id, once there is one
stage=checking    # checking, deployed, shifted, ended: what has to be undone if we fail here
scratch=''        # answers of haldane; kept apart from the record, which may be on a full disk
record=''         # the folder of this deployment
lease_until=0     # Unix seconds; until then haldane looks after the traffic and we only wait
health_failures=0 # in a row
health_due=0

usage() {
    cat <<'END'
usage: canary.sh --policy FILE --deploy COMMAND [OPTION]...

Deploys a canary, shifts traffic to it step by step as haldane's verdicts allow, and rolls back otherwise.

  --policy FILE               haldane's policy: what is compared, and how much traffic each step moves
  --deploy COMMAND            deploys the canary; it must return when the canary has been started
  --health URL|COMMAND        the canary is well: the URL answers 2xx, or the command exits with 0. Waited for before
                              any traffic is moved; three failures in a row during the rollout abort it
  --health-timeout DURATION   how long the canary may take to become healthy (default 60s)
  --set NAME=VALUE            a setting of the policy; may be given several times
  --db FILE                   haldane's store (default: as haldane itself chooses)
  --cleanup COMMAND           removes the canary after a rollback, once it is proven to get no traffic
  --poll SECONDS              how often health is checked during the rollout, at least (default 5)
  --max-unreachable DURATION  roll back when haldane could not look for this long, but never while its lease lives
                              (default 5m)
  --log-dir DIR               where the record goes, one folder a deployment
                              (default $XDG_STATE_HOME/haldane/deployments)
  --dry-run                   check everything, say what would be done, change nothing
  --yes                       do not ask before starting, also on a terminal
  --help                      this page

Exit codes: 0 promoted; 20 aborted, all traffic on stable; 1 the canary did not come up, no traffic was moved;
64 wrong usage; 65 invalid policy; 66 unreadable file; 69 something could not be reached (if traffic may still be on
the canary, the last lines say so and what to do); 70 a fault; 74 store not writable; 75 another rollout runs;
77 not allowed; 129, 130, 143 ended by a signal before any traffic was moved.
END
}

usage_error() {
    fail 64 "$*; see canary.sh --help"
}

parse_options() {
    local name value
    while (($# > 0)); do
        name=$1
        shift
        case $name in
            --help)
                usage
                exit 0
                ;;
            --dry-run) dry_run=yes && continue ;;
            --yes) assume_yes=yes && continue ;;
            --)
                (($# == 0)) || usage_error "unexpected argument '$1'"
                break
                ;;
            --*=*)
                value=${name#*=}
                name=${name%%=*}
                ;;
            --policy | --deploy | --health | --health-timeout | --set | --db | --cleanup | --poll | --max-unreachable | \
                --log-dir)
                (($# > 0)) || usage_error "$name needs a value"
                value=$1
                shift
                ;;
            -*) usage_error "unknown option '$name'" ;;
            *) usage_error "unexpected argument '$name'" ;;
        esac
        take_option "$name" "$value"
    done
    [[ -n $policy ]] || usage_error "--policy is missing"
    [[ -n $deploy ]] || usage_error "--deploy is missing"
}

take_option() {
    local name=$1 value=$2
    [[ -n $value ]] || usage_error "$name needs a value that is not empty"
    case $name in
        --policy) policy=$value ;;
        --deploy) deploy=$value ;;
        --health) health=$value ;;
        --health-timeout) health_timeout=$(duration_seconds "$value") || not_a_duration "$name" "$value" ;;
        --set)
            [[ $value =~ ^[A-Za-z_][A-Za-z0-9_]*= ]] || usage_error "--set takes NAME=VALUE, not '$value'"
            settings+=("$value")
            ;;
        --db)
            HALDANE_DB=$(realpath -m -- "$value")
            export HALDANE_DB
            ;;
        --cleanup) cleanup=$value ;;
        --poll)
            [[ $value =~ ^[1-9][0-9]{0,3}$ ]] || usage_error "--poll takes whole seconds from 1 to 9999, not '$value'"
            poll=$value
            ;;
        --max-unreachable) max_unreachable=$(duration_seconds "$value") || not_a_duration "$name" "$value" ;;
        --log-dir) log_dir=$value ;;
        *) usage_error "unknown option '$name'" ;;
    esac
}

not_a_duration() {
    usage_error "$1 takes a duration such as 90s or 1m30s, not '$2'"
}

check_tools() {
    local tool
    for tool in haldane jq setsid flock timeout curl; do
        [[ $tool != curl || $health =~ ^https?:// ]] || continue
        command -v "$tool" >/dev/null || fail 69 "'$tool' is not found in PATH; install it or put it there"
    done
    [[ -r $policy && ! -d $policy ]] || fail 66 "the policy '$policy' cannot be read"
    policy=$(realpath -- "$policy")
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

# One folder a deployment, and one deployment at a time for a policy: the second would deploy over the first's canary.
open_record() {
    local stem stamp
    [[ -n $log_dir ]] || log_dir=$(default_log_dir)
    stem=$(basename -- "$policy")
    stem=${stem%.y*ml}
    mkdir -p -- "$log_dir" || fail 74 "the log directory '$log_dir' cannot be made"
    log_dir=$(realpath -- "$log_dir")
    exec 9>>"$log_dir/.$stem.lock" || fail 74 "nothing can be written to '$log_dir'"
    flock -n 9 || fail 75 "another canary.sh is at work with a policy named '$stem'; its record is in '$log_dir'"
    TZ=UTC printf -v stamp '%(%Y%m%dT%H%M%SZ)T' -1
    record=$log_dir/$stamp-$stem-$$
    mkdir -m 0700 -- "$record" || fail 74 "the folder '$record' cannot be made"
    log_file=$record/canary.log
    note "canary.sh $(quoted "${command_line[@]}")"
    log "record: $record"
}

check_ready() {
    local status=0 share=''
    log "checking the policy and the balancer"
    ask check "$policy" || status=$?
    ((status == 0)) || fail "$(code_before_traffic "$status")" "the policy '$policy' does not pass 'haldane check'"
    read_share || status=$?
    ((status == 0)) || fail "$(code_before_traffic "$status")" "the balancer does not say what share the canary gets"
    ((share == 0)) || fail 75 "the canary gets $(percent "$share") of the traffic already. End the rollout that does" \
        "it (haldane list), or put all traffic on stable: $(by_hand traffic stable "$policy")"
}

# Before any traffic is moved, haldane's own exit code is the answer, as long as it is not a verdict.
code_before_traffic() {
    case $(answer_kind "$1") in
        wait) (($1 == 75)) && printf '75\n' || printf '69\n' ;;
        verdict) printf '70\n' ;;
        *) fault_code "$1" ;;
    esac
}

percent() {
    local bp=$1
    printf '%d.%02d %%' $((bp / 100)) $((bp % 100))
}

# A haldane command as a person can paste it, with the settings and the store of this deployment.
by_hand() {
    local line=()
    line+=("${settings[@]}")
    [[ -z ${HALDANE_DB:-} ]] || line+=("HALDANE_DB=$HALDANE_DB")
    if ((${#line[@]} > 0)); then
        line=(env "${line[@]}")
    fi
    quoted "${line[@]}" haldane "$@"
}

print_plan() {
    printf 'Would do, with policy %s:\n' "$policy"
    printf '  deploy the canary:    %s\n' "$deploy"
    [[ -z $health ]] || printf '  wait for its health:  %s (at most %s s)\n' "$health" "$health_timeout"
    printf '  begin the rollout:    %s\n' "$(by_hand begin "$policy" --format json "${settings[@]/#/--set=}")"
    printf '  advance at each look: %s\n' "$(by_hand advance ID --format json)"
    printf '  roll back by:         %s\n' "$(by_hand abort ID --reason TEXT)"
    printf '  and, if that fails:   %s\n' "$(by_hand traffic stable "$policy")"
    [[ -z $cleanup ]] || printf '  clean up by:          %s\n' "$cleanup"
}

confirm() {
    local reply=''
    [[ -z $assume_yes && -t 0 && -t 2 ]] || return 0
    print_plan >&2
    read -r -p 'Go on? [y/N] ' reply || true
    [[ $reply == [yY] || $reply == [yY][eE][sS] ]] || fail 77 "not confirmed; nothing was changed"
}

deploy_canary() {
    local status=0
    log "deploying the canary: $deploy"
    stage=deployed
    run_until_interrupted bash -c "$deploy" >"$record/deploy.log" 2>&1 || status=$?
    stop_if_interrupted
    ((status == 0)) || did_not_come_up "the deploy command failed with exit code $status; see $record/deploy.log"
    log "deployed"
}

wait_for_health() {
    local deadline=$((EPOCHSECONDS + health_timeout))
    [[ -n $health ]] || return 0
    log "waiting for the canary's health: $health"
    until health_ok "$health" "$record/health.log"; do
        stop_if_interrupted
        ((EPOCHSECONDS < deadline)) || did_not_come_up "the canary was not healthy within $health_timeout s:" \
            "$(tail -n 1 -- "$record/health.log" 2>/dev/null || true)"
        nap 1
    done
    stop_if_interrupted
    log "the canary is healthy"
}

did_not_come_up() {
    log "error: $*"
    end_without_traffic "$never_came_up"
}

# An interruption before the rollout: no traffic was moved, and the exit code is the signal's.
stop_if_interrupted() {
    interrupted || return 0
    log "interrupted by SIG$signal_name before any traffic was moved"
    end_without_traffic "$(signal_exit_code)"
}

end_without_traffic() {
    clean_up
    finish "$1"
}

# haldane sees the canary through the balancer, whose own health checks may lag behind ours: 69 is waited for.
begin_rollout() {
    local status deadline=$((EPOCHSECONDS + health_timeout)) set_options=("${settings[@]/#/--set=}")
    log "beginning the rollout"
    stage=shifted
    while :; do
        status=0
        ask begin "$policy" --format json "${set_options[@]}" || status=$?
        rollout=$(field rollout)
        [[ $status == 69 && -z $rollout ]] || break
        if interrupted || ((EPOCHSECONDS >= deadline)); then
            break
        fi
        nap 2
    done
    if ((status != 0 && status != 10)); then
        begin_failed "$status"
    fi
    [[ -n $rollout ]] || give_up 70 "haldane began a rollout and did not say its id"
    lease_until=$(field_time lease_until)
    log "rollout $rollout of $(field service): canary at $(percent "$(basis_points)")"
}

begin_failed() {
    local status=$1
    if ((status == 75)); then
        stage=deployed
        rollout=''
        log "error: not now: the service has another rollout; this one was not begun (haldane list)"
        end_without_traffic 75
    fi
    if [[ -z $rollout ]] && stable_proven; then
        stage=deployed
        log "error: the rollout could not be begun (haldane begin: exit code $status); no traffic was moved"
        end_without_traffic "$(code_before_traffic "$status")"
    fi
    give_up "$(code_before_traffic "$status")" "the rollout could not be begun (haldane begin: exit code $status)"
}

# The weight of the last answer; 0 when it has none.
basis_points() {
    local weight
    weight=$(field weight)
    [[ $weight =~ ^[0-9]+$ ]] || weight=0
    printf '%s\n' "$weight"
}

# From the first traffic to the end. Each turn: the wait until an advance is due, then the advance. What it answers is
# acted on before an interruption is: a promotion that has happened stands.
follow() {
    local status due=$EPOCHSECONDS unreachable_since=0 delay=1
    while :; do
        wait_until "$due"
        status=0
        ask advance "$rollout" --format json || status=$?
        case $(answer_kind "$status") in
            verdict)
                unreachable_since=0
                delay=1
                act_on_verdict "$status"
                due=$(next_call)
                ;;
            wait)
                ((unreachable_since > 0)) || unreachable_since=$EPOCHSECONDS
                log "no answer from haldane (exit code $status); waiting $delay s, nothing is moved"
                still_patient "$unreachable_since" ||
                    give_up 69 "haldane could not look for $((EPOCHSECONDS - unreachable_since)) s (exit code $status)"
                due=$((EPOCHSECONDS + delay))
                delay=$((delay * 2 > 30 ? 30 : delay * 2))
                ;;
            fault)
                give_up "$(fault_code "$status")" "haldane cannot go on (exit code $status)"
                ;;
        esac
    done
}

# While the lease lives, haldane has promised to look after the traffic: an unanswered call moves nothing.
still_patient() {
    ((EPOCHSECONDS < lease_until || EPOCHSECONDS - $1 < max_unreachable))
}

# Ends the script unless the rollout is still under way. The state decides, and it must fit the exit code.
act_on_verdict() {
    local status=$1 state
    state=$(field state)
    tell_progress "$state"
    case $status:$state in
        0:promoted) promoted ;;
        20:aborted | 20:expired | 20:rolling_back) rolled_back "$state" ;;
        20:superseded) superseded "$(field reason)" ;;
        0:stepping | 0:held | 0:paused | 10:stepping | 10:held | 10:paused) lease_until=$(field_time lease_until) ;;
        *) give_up 70 "haldane's answer makes no sense: exit code $status with state '$state'" ;;
    esac
}

told=''

# Whoever watches is told what changed; the record has every answer.
tell_progress() {
    local state=$1 line hint=''
    line="$state, step $(field step), canary at $(percent "$(basis_points)"), decision $(field decision)"
    case $state in
        paused) hint=" It waits for a person: $(by_hand promote "$rollout" --reason TEXT)" ;;
        held) hint=" A person holds it; to go on: $(by_hand resume "$rollout" --reason TEXT)" ;;
    esac
    [[ $line != "$told" ]] || return 0
    told=$line
    log "$line: $(field reason)$hint"
}

# When to ask next: at the next look, but well before the lease runs out, and never in a hurry.
next_call() {
    local due now=$EPOCHSECONDS
    due=$(field_time next_look_at)
    ((due > 0)) || due=$((now + poll))
    if ((lease_until > now && due > now + (lease_until - now) / 2)); then
        due=$((now + (lease_until - now) / 2))
    fi
    printf '%s\n' $((due > now ? due : now + 1))
}

wait_until() {
    local due=$1 left
    while :; do
        ! interrupted || abort "interrupted" "interrupted by SIG$signal_name"
        watch_health
        left=$((due - EPOCHSECONDS))
        ((left > 0)) || return 0
        nap $((left < poll ? left : poll))
    done
}

watch_health() {
    [[ -n $health ]] && ((EPOCHSECONDS >= health_due)) || return 0
    health_due=$((EPOCHSECONDS + poll))
    if health_ok "$health" "$record/health.log"; then
        health_failures=0
        return 0
    fi
    health_failures=$((health_failures + 1))
    log "the canary's health check failed ($health_failures of $health_failures_max):" \
        "$(tail -n 1 -- "$record/health.log" 2>/dev/null || true)"
    ((health_failures < health_failures_max)) ||
        abort "the canary's health check failed $health_failures_max times in a row"
}

# --- How it ends -----------------------------------------------------------------------------------------------------

promoted() {
    stage=ended
    log "promoted: the canary has $(percent "$(basis_points)") of the traffic." \
        "Now bring stable to the same version, then give it the traffic back: $(by_hand traffic stable "$policy")"
    finish 0
}

# haldane has rolled back by itself. It is believed once the balancer says so too.
rolled_back() {
    local state=$1 reason
    reason=$(field reason)
    if [[ $state == rolling_back ]] || ! stable_proven; then
        return_to_stable 20 "${reason:-the rollout was aborted}"
    fi
    ended_on_stable 20 "$reason"
}

# The split is a newer rollout's now, and so may the canary be: whoever comes second has nothing to move or clean away.
superseded() {
    stage=ended
    log "a newer rollout of the service took the place of this one; the traffic and the canary are left to it: $1"
    finish 20
}

# A person, a signal or the canary's health ends the rollout: as good as haldane's own abort, so the same exit code.
abort() {
    local reason=$1
    log "${2:-$reason}"
    return_to_stable 20 "$reason"
}

# Going on is impossible. All traffic goes back to stable, and the exit code says what the matter was.
give_up() {
    log "error: $2"
    return_to_stable "$1" "$2"
}

return_to_stable() {
    local code=$1 reason=$2 status=0
    stage=ended # from here on a fault must not start a second rollback inside the first
    roll_back "$reason" || status=$?
    case $status in
        0) ended_on_stable "$code" "$reason" ;;
        2) promoted ;;
        3) superseded "$reason" ;;
        *)
            call_a_person
            finish 69
            ;;
    esac
}

ended_on_stable() {
    stage=ended
    log "all traffic is on stable, as the balancer itself says. Reason: $2"
    clean_up
    finish "$1"
}

call_a_person() {
    log "==================================================================================================="
    log "THE CANARY MAY STILL GET TRAFFIC. The rollback could not be proven. A person is needed, now."
    log "1. Is the balancer running, and may this user use its socket? What it says:"
    log "     $(by_hand traffic get "$policy" --format json)"
    log "2. Put all traffic on stable, and see that the weight is 0:"
    log "     $(by_hand traffic stable "$policy")"
    [[ -z $rollout ]] || log "3. Close the rollout, so that the next one can begin:"
    [[ -z $rollout ]] || log "     $(by_hand abort "$rollout" --reason 'rolled back by hand')"
    log "If haldane cannot do it, do it at HAProxy's socket, stable first (names are in $policy):"
    log "     echo 'set server BACKEND/STABLE weight 100' | socat - UNIX-CONNECT:SOCKET"
    log "     echo 'set server BACKEND/CANARY weight 0' | socat - UNIX-CONNECT:SOCKET"
    log "If that fails too and stable is up, stop the canary: the balancer then uses stable alone."
    [[ -z $cleanup ]] || log "The cleanup command was NOT run, since the canary may be serving: $cleanup"
    log "==================================================================================================="
}

# Only where nothing reaches the canary: see the top of this file.
clean_up() {
    local status=0
    [[ -n $cleanup && $stage != checking ]] || return 0
    if [[ $stage == deployed ]] && ! stable_proven; then
        log "the cleanup command was not run: it is not proven that the canary gets no traffic: $cleanup"
        return 0
    fi
    log "cleaning up: $cleanup"
    run_to_end bash -c "$cleanup" >"$record/cleanup.log" 2>&1 || status=$?
    ((status == 0)) || log "warning: the cleanup command failed with exit code $status; see $record/cleanup.log"
}

archive_report() {
    [[ -n $rollout ]] || return 0
    if ask report "$rollout" --format html -o "$record/report.html"; then
        log "report: $record/report.html"
    else
        log "warning: no report was written; try later: $(by_hand report "$rollout" --format html -o report.html)"
    fi
}

finish() {
    stage=ended
    archive_report
    log "exit code $1; record: $record"
    remove_scratch
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
        deployed)
            log "error: canary.sh failed unexpectedly (exit code $code) before any traffic was moved"
            clean_up
            code=70
            ;;
    esac
    remove_scratch
    exit "$code"
}

remove_scratch() {
    [[ -z $scratch ]] || rm -rf -- "$scratch"
}

main() {
    parse_options "$@"
    check_tools
    scratch=$(mktemp -d) || fail 74 "no temporary directory can be made"
    trap 'remove_scratch' EXIT
    if [[ -n $dry_run ]]; then
        check_ready
        print_plan
        exit 0
    fi
    confirm
    exec </dev/null
    open_record
    attend roll_out
}

roll_out() {
    trap 'on_exit' EXIT
    check_ready
    stop_if_interrupted
    deploy_canary
    wait_for_health
    begin_rollout
    follow
}

command_line=("$@")
main "$@"
