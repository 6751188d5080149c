# shellcheck shell=bash
# shellcheck disable=SC2154 # policy, settings and scratch are the caller's
#
# Talking to haldane: by exit codes (docs/exit-codes.md) and JSON, never by what it says to people.
#
# Uses of the caller: `policy` and `settings` (NAME=VALUE...), `scratch` (a folder), `rollout` (an id, empty before
# there is one). The settings are handed over in the environment, where every command that reads the policy sees them.
#
# haldane need not be a program of this machine: HALDANE_COMMAND says how it is called (default: haldane), for example
# through `docker exec`. Then `policy` is the path that haldane sees, and HALDANE_SETTINGS names the settings, which are
# to be handed over to it.

answer=''
# No single call may hang a rollout: a call that takes longer is ended and counts as no answer.
call_limit=${HALDANE_CALL_LIMIT:-120}

# ask ARGUMENT...: runs haldane to its end. `answer` is its stdout; its stderr is logged. Returns its exit code.
ask() {
    local status=0
    ask_into "$scratch/answer" "$@" || status=$?
    # cat: where the file is missing, bash's own `<` would end the script, whatever stands behind it.
    answer=$(cat -- "$scratch/answer" 2>/dev/null) || answer=''
    note "haldane $(quoted "$@"): exit $status ${answer//$'\n'/ }"
    return "$status"
}

# ask_into FILE ARGUMENT...: the same for an answer that is too long for a variable.
ask_into() {
    local file=$1 status=0 words=()
    shift
    haldane_words
    run_to_end "${words[@]}" "$@" >"$file" 2>"$scratch/errors" || status=$?
    log_lines "haldane $1" "$scratch/errors" || true
    return "$status"
}

# Sets `words` to how haldane is called: its environment, and the program.
haldane_words() {
    local program
    read -r -a program <<<"${HALDANE_COMMAND:-haldane}"
    words=("${settings[@]}")
    ((${#settings[@]} == 0)) || words+=("HALDANE_SETTINGS=${settings[*]%%=*}")
    words+=(timeout --kill-after=5 "$call_limit" "${program[@]}")
}

# A haldane command as a person can paste it, with the settings and the store of this deployment.
by_hand() {
    local line=("${settings[@]}") program
    read -r -a program <<<"${HALDANE_COMMAND:-haldane}"
    ((${#settings[@]} == 0)) || [[ ${program[0]} == haldane ]] || line+=("HALDANE_SETTINGS=${settings[*]%%=*}")
    [[ -z ${HALDANE_DB:-} ]] || line+=("HALDANE_DB=$HALDANE_DB")
    [[ -z ${HALDANE_DEPLOYMENT_CONF:-} ]] || line+=("HALDANE_DEPLOYMENT_CONF=$HALDANE_DEPLOYMENT_CONF")
    if ((${#line[@]} > 0)); then
        line=(env "${line[@]}")
    fi
    quoted "${line[@]}" "${program[@]}" "$@"
}

# field NAME: of the last answer, as one line; empty if it is not there.
field() {
    jq -r --arg name "$1" 'objects | .[$name] | values | tostring | gsub("[[:cntrl:]]"; " ")' \
        <<<"$answer" 2>/dev/null || true
}

# field_time NAME: a time of the last answer as Unix seconds; 0 if it is not there.
field_time() {
    local text
    text=$(field "$1")
    [[ $text =~ ^[0-9]{4}-[0-9]{2}-[0-9]{2}T ]] && date -u -d "$text" +%s 2>/dev/null || printf '0\n'
}

# The weight of the last answer; 0 when it has none.
basis_points() {
    local weight
    weight=$(field weight)
    [[ $weight =~ ^[0-9]+$ ]] || weight=0
    printf '%s\n' "$weight"
}

percent() {
    local bp=$1
    printf '%d.%02d %%' $((bp / 100)) $((bp % 100))
}

# answer_kind STATUS: what an exit code means for a rollout that is under way.
#   verdict  haldane judged: 0, 10, 20
#   wait     nobody answered, or not now: nothing is known and nothing may be moved while the lease lives
#   fault    asking again cannot help
# A call that was killed or ran out of time gave no answer, which is not a fault of the rollout.
answer_kind() {
    case $1 in
        0 | 10 | 20) printf 'verdict\n' ;;
        69 | 75 | 124 | 129 | 130 | 137 | 143) printf 'wait\n' ;;
        *) printf 'fault\n' ;;
    esac
}

# Which exit code tells the caller of a fault: haldane's own if it has that meaning, else "a fault" (70).
fault_code() {
    case $1 in
        65 | 66 | 70 | 74 | 77) printf '%s\n' "$1" ;;
        *) printf '70\n' ;;
    esac
}

# Before any traffic is moved, haldane's own exit code is the answer, as long as it is not a verdict.
code_before_traffic() {
    case $(answer_kind "$1") in
        wait) (($1 == 75)) && printf '75\n' || printf '69\n' ;;
        verdict) printf '70\n' ;;
        *) fault_code "$1" ;;
    esac
}

# Asks the balancer for the canary's share and puts it into `share` (basis points).
read_share() {
    local status=0
    ask traffic get "$policy" --format json || status=$?
    ((status == 0)) || return "$status"
    share=$(field weight)
    [[ $share =~ ^[0-9]+$ ]] || return 70
}

stable_down='' # not empty: when the proof was last asked for, no server of stable was up

# Proof, not hope: the balancer itself says that the canary gets nothing, and that a server of stable is up. Without the
# second the first proves nothing: a balancer that finds stable down may send everybody to the canary, whatever its
# share. (Without health checks nobody knows what is up; then it is not held against stable.)
stable_proven() {
    local share=''
    stable_down=''
    read_share || return
    [[ $(field stable_up) != 0 ]] || stable_down=yes
    [[ $share == 0 && -z $stable_down ]]
}

# The state of the rollout after an abort: of its answer, or of the record if the abort was refused.
state_now() {
    [[ -n $(field state) ]] || ask status "$rollout" --format json || true
    field state
}

# roll_back REASON: 0 when stable is proven to have all traffic, 2 when somebody promoted the canary before we came,
# 3 when a newer rollout took the split, 1 when nothing helped. Two ways, tried in turn: the rollout's own abort, which
# also records it, and moving the traffic by hand, which needs no store. Signals are not listened to here: this is what
# they ask for.
#
# A person is called (`call_a_person`, of the caller) as soon as the first try has failed, and not after the last: with
# an engine that hangs each call takes its whole time. For the same reason a call has less of it here.
roll_back() {
    local reason=$1 try limit=$call_limit
    local call_limit=$((limit < 20 ? limit : 20))
    log "rolling back: $reason"
    for try in 1 2 3; do
        if [[ -n $rollout ]]; then
            ask abort "$rollout" --reason "$reason" --format json || true
            case $(state_now) in
                promoted) return 2 ;;
                superseded) return 3 ;;
            esac
            ! stable_proven || break
        fi
        ask traffic stable "$policy" || true
        if stable_proven; then
            [[ -z $rollout ]] || log "the rollout could not be closed; later: $(by_hand abort "$rollout" --reason TEXT)"
            break
        fi
        log "it is not proven yet that stable has all traffic${stable_down:+: none of its servers is up} (try $try of 3)"
        ((try < 3)) || return 1
        ((try > 1)) || call_a_person
        run_to_end sleep "$try"
    done
    ((try == 1)) || log "PROVEN AFTER ALL (try $try of 3): what was called for above need not be done"
}
