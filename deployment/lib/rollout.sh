# shellcheck shell=bash
# shellcheck disable=SC2154,SC2034,SC2317 # variables and functions of the caller
#
# A rollout of haldane from its first traffic to its end: haldane is asked to advance when the next look is due, and
# whatever happens ends in one of three ways: promoted, proven to be back on stable, or a loud message for a person.
# Which side is called what is the caller's: a canary is rolled out beside stable, a colour in place of the other.
#
# Uses of the caller, besides what lib/haldane.sh needs:
#   side_new, side_old           what the two sides are called, e.g. "the canary" and "stable"
#   record                       the folder of this deployment
#   stage                        set here: shifted once traffic may have moved, ended once the end is known
#   health, poll, max_unreachable, begin_limit (seconds for which a balancer that is not ready is waited for)
# Functions of the caller; those but the last do not return:
#   promoted                     haldane has ended it as promoted
#   ended_on_stable CODE REASON  all traffic is proven to be on stable
#   superseded REASON            a newer rollout has the split
#   begin_failed STATUS          haldane did not begin; `rollout` is its id if there is one
#   call_a_person                nothing is proven; it may be called again, and `finish CODE` after it
#   looked STATUS                after each answer of advance: what the script does at a certain weight
# Telemetry: an event `look` for each answer, and the answer itself as a line of verdicts.jsonl.

health_failures_max=3
lease_until=0     # Unix seconds; until then haldane looks after the traffic and we only wait
health_failures=0 # in a row
health_due=0
told=''

# rollout_begin [OPTION]...: haldane sees the new side through the balancer, whose own health checks may lag behind
# ours, so 69 is waited for.
rollout_begin() {
    local status deadline=$((EPOCHSECONDS + begin_limit)) set_options=("${settings[@]/#/--set=}")
    log "beginning the rollout"
    stage=shifted
    while :; do
        status=0
        ask begin "$policy" --format json "${set_options[@]}" "$@" || status=$?
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
    record_set rollout "$rollout" || note "the rollout's id could not be written to the record"
    look_telemetry
    lease_until=$(field_time lease_until)
    log "rollout $rollout of $(field service): $side_new at $(percent "$(basis_points)")"
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
    look_telemetry
    case $status:$state in
        0:promoted)
            looked "$status"
            promoted
            ;;
        20:aborted | 20:expired | 20:rolling_back)
            looked "$status"
            rolled_back "$state"
            ;;
        20:superseded)
            looked "$status"
            superseded "$(field reason)"
            ;;
        0:stepping | 0:held | 0:paused | 10:stepping | 10:held | 10:paused)
            lease_until=$(field_time lease_until)
            looked "$status"
            ;;
        *) give_up 70 "haldane's answer makes no sense: exit code $status with state '$state'" ;;
    esac
}

look_telemetry() {
    telemetry look state="$(field state)" decision="$(field decision)" reason="$(field reason)" \
        weight:="$(basis_points)" step="$(field step)"
    { printf '%s\n' "${answer//$'\n'/ }" >>"$record/verdicts.jsonl"; } 2>/dev/null || true
}

# Whoever watches is told what changed; the record has every answer.
tell_progress() {
    local state=$1 line hint=''
    line="$state, step $(field step), $side_new at $(percent "$(basis_points)"), decision $(field decision)"
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
        ! interrupted || abort "interrupted" "$(interruption)"
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
    log "the health check of $side_new failed ($health_failures of $health_failures_max):" \
        "$(tail -n 1 -- "$record/health.log" 2>/dev/null || true)"
    ((health_failures < health_failures_max)) ||
        abort "the health check of $side_new failed $health_failures_max times in a row"
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

# A person, a signal or the health check ends the rollout: as good as haldane's own abort, so the same exit code.
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
