# shellcheck shell=bash
# shellcheck disable=SC2154 # settings
#
# haldane: its record, its guard, and whether the split that the balancer shows is one that somebody looks after.

plan_haldane() {
    there "$HALDANE_COMMAND" || return 0
    probe haldane store "haldane status: the record, and a rollout that is under way" check_rollouts
    ! guard_known || probe haldane guard "who returns traffic to stable when nobody looks" check_guard
    probe haldane split "haldane traffic get, against the rollouts under way" check_split
}

# ask_haldane FILE ARGUMENT...: its answer goes to FILE, what it says to people to FILE.errors.
ask_haldane() {
    local file=$1
    shift
    run_setting "$HALDANE_COMMAND" "$@" >"$file" 2>"$file.errors"
}

check_rollouts() {
    local file status=0 rollout state weight trouble overdue any=''
    file=$(probe_file status)
    ask_haldane "$file" status --format json || status=$?
    if ((status != 0)); then
        bad store "haldane status ends with $status: $(tail -n 1 -- "$file.errors")" "exit codes: docs/exit-codes.md"
        return
    fi
    while IFS=$'\t' read -r rollout state weight overdue trouble; do
        any=yes
        judge_rollout "$rollout" "$state" "$weight" "$overdue" "$trouble"
    done < <(jq -r '[.rollout, .state, .weight // 0, .overdue // false, (.trouble // "-" | tostring)] | @tsv' "$file")
    [[ -n $any ]] || ok store "readable; no rollout is under way"
}

judge_rollout() {
    local rollout=$1 state=$2 weight=$3 overdue=$4 trouble=$5 text
    printf -v text '%s at %d.%02d %%' "$state" $((weight / 100)) $((weight % 100))
    if [[ $overdue == true ]]; then
        bad "$rollout" "$text; its lease has run out and nobody has acted" \
            "haldane advance $rollout; is the guard alive?"
    elif [[ $trouble != - ]]; then
        warn "$rollout" "$text; $trouble" "haldane status $rollout; docs/runbook.md"
    elif [[ $state == rolling_back ]]; then
        warn "$rollout" "$text; it is on its way back to stable" "haldane status $rollout"
    else
        ok "$rollout" "under way: $text"
    fi
}

guard_known() {
    there "$GUARD_COMMAND" && { [[ -n $GUARD_COMMAND ]] || uses_compose; }
}

check_guard() {
    local state
    if [[ -n $GUARD_COMMAND ]]; then
        if run_setting "$GUARD_COMMAND"; then
            ok guard "alive"
        else
            bad guard "not alive, says GUARD_COMMAND" "start it: a rollout whose script dies is looked after by it"
        fi
        return
    fi
    state=$(container_state haldane)
    case $state in
        healthy | running) ok guard "alive" ;;
        starting) warn guard "it starts" "wait; --wait does" ;;
        *) bad guard "its container is $state" "deployment/stack.sh up; deployment/stack.sh logs haldane" ;;
    esac
}

# The share may be above 0 only while a rollout is under way.
check_split() {
    local file status=0 policy folder=${HALDANE_POLICIES:-$POLICIES} weight other arguments=() text
    file=$(probe_file split)
    other=$(slot_without_traffic)
    if [[ $STRATEGY == canary ]]; then
        policy=$folder/$CANARY_POLICY
    else
        policy=$folder/$BLUE_GREEN_POLICY
        arguments=(--set "LIVE=$(slot_with_traffic)" --set "IDLE=$other")
    fi
    ask_haldane "$file" traffic get "$policy" "${arguments[@]}" --format json || status=$?
    weight=$(jq -r '.weight // empty' "$file" 2>/dev/null) || weight=''
    if ((status != 0)) || [[ ! $weight =~ ^[0-9]+$ ]]; then
        unsure split "haldane cannot read it (exit code $status): $(tail -n 1 -- "$file.errors")" \
            "haldane traffic check $policy"
        return
    fi
    printf -v text '%s gets %d.%02d %%' "$other" $((weight / 100)) $((weight % 100))
    if ((weight > 0)) && ! rollout_under_way; then
        warn split "$text, and no rollout is under way" \
            "deployment/rollback.sh brings it back; a canary.sh that is about to promote needs it so for a moment"
    else
        ok split "$text"
    fi
}

rollout_under_way() {
    local file
    file=$(probe_file rollouts)
    ask_haldane "$file" status --format json && [[ -s $file ]]
}
