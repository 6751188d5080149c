#!/usr/bin/env bash
#
# Puts all traffic on the side that is known to be good, by whatever is left alive, and proves it.
#
# The ways are tried in this order, and each is followed by the proof; the first that is proven ends it:
#   haldane   abort the rollout, then put all traffic on stable. Recorded, and fenced against other writers
#   socket    the same at the balancer's own socket, past haldane
#   file      write it into the balancer's file and have the balancer reload it. This may cost a few requests
#   stop      stop the servers of the other side: the balancer then has the good side alone
#
# The proof is taken from outside: requests through the balancer, each of which must be answered by the good side, and
# what the balancer itself says of the split. Nothing is taken from a side before the other has been seen to answer.
#
# Once begun it is not interrupted: half a rollback is worse than none. Nothing that fails on the way (a full disk, a
# store that cannot be read, a terminal that is gone) keeps it from going on.
# shellcheck disable=SC2317 # the work is called by its name, through attend
# shellcheck disable=SC2034,SC2153 # variables of the libraries; settings are in capitals
set -euo pipefail

here=$(cd -- "$(dirname -- "$(readlink -f -- "${BASH_SOURCE[0]}")")" && pwd)
# shellcheck source=deployment/lib/log.sh
source "$here/lib/log.sh"
# shellcheck source=deployment/lib/config.sh
source "$here/lib/config.sh"
# shellcheck source=deployment/lib/options.sh
source "$here/lib/options.sh"
# shellcheck source=deployment/lib/process.sh
source "$here/lib/process.sh"
# shellcheck source=deployment/lib/haldane.sh
source "$here/lib/haldane.sh"
# shellcheck source=deployment/lib/versions.sh
source "$here/lib/versions.sh"
# shellcheck source=deployment/lib/places.sh
source "$here/lib/places.sh"
# shellcheck source=deployment/lib/record.sh
source "$here/lib/record.sh"
# shellcheck source=deployment/lib/balancer.sh
source "$here/lib/balancer.sh"

readonly all_ways=(haldane socket file stop)

config=''
to=''
now=''
reason='rolled back by rollback.sh'
requests=''
ways=()
dry_run=''
user_settings=()

good=''   # the slot that is to have all traffic
bad=''    # the one that is to have none
policy='' # as haldane sees it
settings=()
rollout=''
scratch=''
why='' # why the last proof failed
way_limit=20

usage() {
    cat <<'END'
usage: rollback.sh [--config FILE] [OPTION]...

Puts all traffic on stable (blue/green: on the colour that was live before the switch that is under way, or else is
live) and proves it, from any state, by whatever is left alive: haldane, the balancer's socket, its file, or by stopping
the other side. Where all is so already it changes nothing and proves it. It works while canary.sh or blue-green.sh run,
and ends them.

  --config FILE   your settings (default: HALDANE_DEPLOYMENT_CONF, else deployment.conf alone)
  --to VERSION    the version that must serve afterwards; `last-good` is the one that was promoted last, `previous` the
                  one before it. Stable is deployed if it is another; blue/green: the colour that has it gets all
  --now           wait for nobody: one try each, five seconds for each call
  --way NAME      only this way: haldane, socket, file or stop; may be given several times
  --set NAME=VALUE  a setting of the policy; may be given several times
  --reason TEXT   why; for the record
  --requests N    how many requests prove it (default: PROOF_REQUESTS)
  --dry-run       say how things are and what would be done; change nothing
  --help          this page

Exit codes: 0 proven: all traffic is on the good side; 1 that is proven too, but it could not be brought to the version;
69 not proven (the last lines say what a person has to do); 64 wrong usage; 65 invalid settings; 66 no such version or
file, or (blue/green) nobody knows which colour is the good one: say --to; 75 another rollback.sh is at work.
END
}

takes value --config --to --way --set --reason --requests
takes flag --now --dry-run

take_option() {
    local name=$1 value=$2
    case $name in
        --config) config=$value ;;
        --to) to=$value ;;
        --way)
            needs_one_of "$@" "${all_ways[@]}"
            ways+=("$value")
            ;;
        --set)
            needs_setting "$@"
            user_settings+=("$value")
            ;;
        --reason) reason=$value ;;
        --requests)
            needs_number "$@" 999999
            requests=$value
            ;;
        --now) now=$value ;;
        --dry-run) dry_run=$value ;;
    esac
}

configure() {
    config_load "$config"
    places_load
    cd -- "$root"
    ((${#ways[@]} > 0)) || ways=("${all_ways[@]}")
    requests=${requests:-$PROOF_REQUESTS}
    [[ -z $now ]] || way_limit=5
    call_limit=$way_limit
    find_target
}

# The version that is asked for, by its own name.
find_target() {
    case $to in
        '') ;;
        last-good) to=$(last_good) || fail 66 "no version was ever recorded as good in '$STATE_DIR/versions'" ;;
        previous) to=$(previous_good) || fail 66 "'$STATE_DIR/versions' knows no good version before the last one" ;;
        *) is_version "$to" || usage_error "--to takes a version, last-good or previous, not '$to'" ;;
    esac
}

choose_sides() {
    if [[ $STRATEGY == canary ]]; then
        good=stable bad=canary
        policy=${HALDANE_POLICIES:-$POLICIES}/$CANARY_POLICY
        settings=("${user_settings[@]}")
    else
        policy=${HALDANE_POLICIES:-$POLICIES}/$BLUE_GREEN_POLICY
        choose_colour
        take_side "$good"
    fi
}

# take_side COLOUR
take_side() {
    good=$1 bad=green
    [[ $good == blue ]] || bad=blue
    settings=("LIVE=$good" "IDLE=$bad" "${user_settings[@]}")
}

# --- Which colour is the good one ------------------------------------------------------------------------------------
#
# While a switch is under way it is the colour that the switch leaves, whatever the balancer shows: it may show all
# traffic on the new one, which is watched. The switch's record knows it. Without such a record the balancer and the
# memory of the last deployment are compared. Where they differ the balancer is believed, as blue-green.sh does, but only
# if haldane says that no switch is under way: the memory may be of before a return that could not be written down, or of
# another machine. Nobody is moved by a guess.

# Short limits for each call: the traffic is still where it was.
choose_colour() {
    local remembered under_way='?' way_limit=5 call_limit=5
    whole_colour
    good=''
    if [[ -n $to ]]; then
        good=$(colour_of_version)
        return
    fi
    good=$(colour_of_records) && return
    good=''
    remembered=$(live_slot) || remembered=''
    [[ $remembered == blue || $remembered == green ]] || remembered=''
    if [[ -n $remembered && ($whole == "$remembered" || -z $whole) ]]; then
        good=$remembered
        return
    fi
    [[ -z $whole ]] || under_way=$(rollout_is_under_way)
    case $under_way:$remembered in
        yes:?*) good=$remembered ;;
        no:*) good=$whole ;;
    esac
    [[ -n $good ]] || fail 66 "nobody knows which colour is the good one: the balancer shows all traffic on" \
        "${whole:-neither}, '$STATE_DIR/versions' says ${remembered:-nothing}, haldane on whether a switch is under" \
        "way: $under_way. Say which: rollback.sh --to VERSION"
    [[ -z $remembered || $good == "$remembered" ]] || log "warning: by the memory of the last deployment $remembered" \
        "is live; the balancer says $good, no switch is under way, and the balancer is believed"
}

# Sets `whole` to the colour that by the balancer has all traffic; empty if none has, or it does not say.
whole_colour() {
    local found=''
    for good in blue green; do
        take_side "$good"
        balancer_split
        [[ $split != unknown ]] || break
        [[ $split != safe ]] || found+=$good
    done
    whole=$found
    [[ $split != unknown && $found != bluegreen ]] || whole=''
}

whole=''

# What a switch that has not ended says of it. (Of a return that has not ended it is the colour returned to.)
colour_of_records() {
    local folder colour
    while IFS= read -r folder; do
        colour=$(jq -r '.good // ""' "$folder/state.json") || continue
        [[ $colour == blue || $colour == green ]] || continue
        printf '%s\n' "$colour"
        return 0
    done < <(record_unfinished blue-green)
    return 1
}

# yes, no, or ? if haldane does not say.
rollout_is_under_way() {
    local status=0
    ask status "$SERVICE" --format json || status=$?
    case $status in
        10) printf 'yes\n' ;;
        0 | 20 | 66) printf 'no\n' ;;
        *) printf '?\n' ;;
    esac
}

# The colour with the traffic, if both have the version. Without the memory, the colours themselves are asked.
colour_of_version() {
    local colour
    for colour in $whole blue green; do
        [[ $(version_of "$colour" || true) != "$to" ]] || {
            printf '%s\n' "$colour"
            return 0
        }
    done
    for colour in $whole blue green; do
        version_of "$colour" >/dev/null || [[ $(version_that_answers "$colour") != "$to" ]] || {
            printf '%s\n' "$colour"
            return 0
        }
    done
    fail 66 "no colour has version $to; deploy it: blue-green.sh --version $to"
}

version_that_answers() {
    answers 4 "$(header_of "$1")" | awk '{ print $2 }' | sort -u
}

# A rollback without a record is better than none.
open_record() {
    record_lock_wait=10
    record_try rollback "rollback-$PROJECT" ||
        fail 75 "another rollback.sh is at work; its record is in '$RECORDS_DIR'"
    note "rollback.sh $(quoted "${command_line[@]}")"
    record_set reason "$reason" || true
    [[ -z $to ]] || record_set version "$to" || true
}

# --- The ways --------------------------------------------------------------------------------------------------------

# The rollout is ended first, or haldane would set its share again. 66: there is none.
way_haldane() {
    local status=0 try
    ask abort "$SERVICE" --reason "$reason" --format json || status=$?
    rollout=$(field rollout)
    ((status != 0)) || log "rollout $rollout is $(field state)"
    for try in 1 2 3; do
        ask traffic stable "$policy" --format json && return
        [[ -z $now ]] || return 1
        ((try == 3)) || run_to_end sleep "$try"
    done
    return 1
}

way_socket() {
    need_good_side || return 1
    balancer_at_socket
}

way_file() {
    need_good_side || return 1
    balancer_by_file
}

way_stop() {
    local status=0
    need_good_side || return 1
    # The good side answers, by our own look: the balancer need not be asked, which may be what is broken.
    export SLOT=$bad FORCE_STOP=yes
    run_to_end timeout --kill-after=5 120 bash -c "$STOP_COMMAND" >"$scratch/stop" 2>&1 || status=$?
    log_lines stop "$scratch/stop" || true
    return "$status"
}

# What takes the traffic of the one side has to know that the other one answers: it may be all that serves.
need_good_side() {
    local answered=''
    balancer_side "$good"
    [[ $side != up ]] || return 0
    # By the header that asks for it, if the balancer knows one.
    answered=$(answers 3 "$(header_of "$good")" | tally) || true
    [[ $(good_answers <<<"$answered") != 3 ]] || return 0
    log "WAKE SOMEBODY: $good does not answer (the balancer says $side; $(told_answers "$answered"))." \
        "To take the traffic from $bad could be an outage, so it is left there. Bring $good back first"
    return 1
}

header_of() {
    case $1 in
        stable) printf 'X-Canary: never\n' ;;
        canary) printf 'X-Canary: always\n' ;;
        *) printf 'X-Colour: %s\n' "$1" ;;
    esac
}

# --- The proof -------------------------------------------------------------------------------------------------------

# answers N [HEADER]: asks N times through the balancer, over four connections; prints for each answer who gave it and
# its version, `-` for what was not said.
answers() {
    local share=$((($1 + 3) / 4)) left=$1 part lines=() header=()
    [[ -z ${2:-} ]] || header=(--header "$2")
    for part in 1 2 3 4; do
        ((left > 0)) || break
        ((share <= left)) || share=$left
        left=$((left - share))
        timeout --kill-after=1 60 curl --silent --noproxy '*' --insecure --max-time 10 --output /dev/null \
            --dump-header "$scratch/answers.$part" "${header[@]}" "$SHOP_URL$PROOF_PATH?[1-$share]" \
            </dev/null >/dev/null 2>&1 9>&- &
        lines+=("$scratch/answers.$part")
    done
    wait
    cat -- "${lines[@]}" 2>/dev/null | awk -v who="${PROOF_HEADER,,}:" '
        function tell() { if (began) print (side == "" ? "-" : side), (version == "" ? "-" : version) }
        { sub(/\r$/, "") }
        /^HTTP\// { tell(); began = 1; side = ""; version = ""; next }
        tolower($1) == who { side = $2 }
        tolower($1) == "x-version:" { version = $2 }
        END { tell() }'
    rm -f -- "${lines[@]}"
}

# Lines "NUMBER SIDE VERSION".
tally() {
    sort | uniq -c | awk '{ print $1, $2, $3 }'
}

# How many answers of a tally are the good side's. Its servers may be named in place of it: stable1.
good_answers() {
    awk -v good="${PROOF_VALUE//\{slot\}/$good}" 'index($2, good) == 1 { n += $1 } END { print n + 0 }'
}

told_answers() {
    local text
    text=$(awk '{ printf "%s%d from %s version %s", (NR > 1 ? ", " : ""), $1, $2, $3 }' <<<"$1")
    printf '%s\n' "${text:-no answer}"
}

# proven WAY: every request was answered by the good side, and the balancer says that it means it so. After `stop` it
# will do that the balancer sees all of the other side down: what was stopped stays so. What is down by itself may be up
# again in a moment, and then gets its share.
proven() {
    local way=$1 answered count
    side=''
    balancer_split
    if [[ $split != safe ]]; then
        why="the balancer says of the split: $split"
        [[ $way == stop ]] || return 1
        balancer_side "$bad"
        [[ $side == down ]] || return 1
    fi
    answered=$(answers "$requests" | tally) || true
    count=$(good_answers <<<"$answered")
    telemetry proof asked:="$requests" good:="${count:-0}" split="$split" found="$answered"
    if [[ $count != "$requests" ]]; then
        why="of $requests requests $count were answered by $good: $(told_answers "$answered")"
        return 1
    fi
    log "proof: all $requests requests were answered by $good ($(told_answers "$answered"))"
    served=$(awk 'NF { print $3 }' <<<"$answered" | sort -u)
    [[ $split == safe ]] || log "the servers of $bad are down; the split would still give it a share." \
        "Do not start them before it is 0: $(by_hand traffic get "$policy")"
}

served='' # the versions that answered the last proof, one a line
split=''  # what lib/balancer.sh found
side=''

# --- The order of things ---------------------------------------------------------------------------------------------

roll() {
    local way
    phase look
    stop_deployments
    if nothing_to_do; then
        used=none
        log "all traffic is on $good already; nothing was changed"
    else
        log "rolling back: $reason"
        [[ -z $why ]] || log "$why"
        for way in "${ways[@]}"; do
            try_way "$way" && break
        done
    fi
    [[ -n $used ]] || bring_version_first
    [[ -n $used ]] || give_up
    bring_version
    close_deployments
    phase_end ok
    conclude
}

used='' # the way that worked

# Is there anything to do? A rollout that is under way may raise its share in a minute.
nothing_to_do() {
    local status=0 live=''
    ask status "$SERVICE" --format json || status=$?
    case $status in
        10)
            why="rollout $(field rollout) is under way ($(field state))"
            return 1
            ;;
        0 | 20 | 66) ;;
        *) log "haldane does not say whether a rollout is under way (exit code $status)" ;;
    esac
    balancer_split
    [[ $split == safe ]] || {
        why="the balancer does not say that $bad gets nothing (${split})"
        return 1
    }
    proven none
}

try_way() {
    local way=$1 status=0
    phase "$way"
    log "by $way"
    "way_$way" || status=$?
    ((status == 0)) || log "by $way: it did not work (exit code $status)"
    # Also after a failure: what was told to fail may have been done. But a stop that failed may have stopped nothing.
    if proven "$([[ $status != 0 ]] || printf '%s' "$way")"; then
        used=$way
        return 0
    fi
    log "not proven: $why"
    phase_end failed "$why"
    return 1
}

# Nothing worked, and stable is to have another version anyway: perhaps it is stable that is ill.
bring_version_first() {
    local way
    [[ -n $to && $STRATEGY == canary ]] || return 0
    deploy_good || return 0
    for way in "${ways[@]}"; do
        ! try_way "$way" || return 0
    done
}

# With --to, or where a promotion was interrupted: then stable may be between two versions.
bring_version() {
    if [[ -z $to && -n $half_promoted && $STRATEGY == canary ]]; then
        to=$(last_good) || to=''
        [[ -z $to ]] || log "a promotion was interrupted, so stable is brought to the last good version, $to"
    fi
    [[ -n $to ]] || return 0
    if ((${#unfinished[@]} > 0)); then
        wait_for_deployments
        proven "$used" || give_up
    fi
    if [[ $served != "$to" || $(version_of "$good" || true) != "$to" ]]; then
        bring_good
    fi
    { record_version "$good" "$to" && record_return "$to"; } ||
        log "warning: '$STATE_DIR/versions' could not be written; it does not know that $to is the last good version"
}

# Whatever comes of it, what is said of the traffic is what was found after it.
bring_good() {
    local wrong=''
    if [[ $STRATEGY == canary ]]; then
        deploy_good || wrong=$why
    fi
    proven "$used" || give_up
    [[ $served == "$to" ]] || wrong=${wrong:-$good serves version ${served//$'\n'/ and }, not $to}
    [[ -z $wrong ]] || give_up_version "$wrong"
}

deploy_good() {
    local status=0 try
    wait_for_deployments
    phase deploy
    export SLOT=$good VERSION=$to HEADER
    HEADER=$(header_of "$good")
    log "bringing $good to version $to: $DEPLOY_COMMAND"
    for try in 1 2 3; do
        status=0
        run_to_end bash -c "$DEPLOY_COMMAND" >"$scratch/deploy" 2>&1 || status=$?
        # Not now: somebody else changes the stack.
        [[ $status == 75 && -z $now && $try != 3 ]] || break
        log "not now: $(tail -n 1 -- "$scratch/deploy"); once more"
    done
    archive "$scratch/deploy" deploy.log
    if ((status != 0)); then
        why="$good could not be brought to version $to (exit code $status): $(tail -n 1 -- "$scratch/deploy")"
        phase_end failed "$why"
        return 1
    fi
    record_version "$good" "$to" || true
}

# Deployments under way are asked to stop; those that were killed are not to be taken up as if nothing had happened.
stop_deployments() {
    local strategy folder
    unfinished=()
    half_promoted=''
    for strategy in canary blue-green; do
        while IFS= read -r folder; do
            unfinished+=("$folder")
            { echo "$reason" >"$folder/stop"; } 2>/dev/null || [[ -e $folder/stop ]] ||
                log "warning: $folder cannot be told to stop"
            if record_wait "$folder" 0; then
                log "the deployment of $folder was killed; what it left running is ended"
                end_orphan "$folder/.child"
            else
                log "the deployment of $folder is told to stop"
            fi
            [[ $(jq -r '.stage // ""' "$folder/state.json") != promoting ]] || half_promoted=yes
        done < <(record_unfinished "$strategy")
    done
}

unfinished=()
half_promoted=''
waited=''

# Nothing is deployed while another deployment may still be at it.
wait_for_deployments() {
    local folder limit=60
    [[ -z $waited ]] || return 0
    waited=yes
    [[ -z $now ]] || limit=5
    for folder in "${unfinished[@]}"; do
        record_wait "$folder" 0 || log "waiting for the deployment of $folder to end (at most $limit s)"
        record_wait "$folder" "$limit" || log "warning: the deployment of $folder has not ended; going on"
    done
}

# The record of a deployment that was killed ends here; one that runs ends its own.
close_deployments() {
    local folder
    for folder in "${unfinished[@]}"; do
        record_close "$folder" on_stable 20 || true
    done
}

conclude() {
    if [[ $STRATEGY == blue-green && $(live_slot || true) != "$good" ]]; then
        record_live "$good" || log "warning: '$STATE_DIR/versions' could not be written"
    fi
    case $used in
        none) ;;
        haldane) log "rolled back by haldane" ;;
        *)
            log "rolled back by $used. haldane's record does not know: when haldane is back, close its rollout:" \
                "$(by_hand abort "$SERVICE" --reason 'rolled back by rollback.sh')"
            ;;
    esac
    log "proven: all traffic is on $good${to:+, version $to}"
    finish on_stable 0
}

# The users are safe: no alarm that says otherwise.
give_up_version() {
    why=$1
    log "==================================================================================================="
    log "ALL TRAFFIC IS PROVEN TO BE ON $good, BUT IT IS NOT AT VERSION $to: $why"
    log "It answers with version ${served//$'\n'/ and }. A person is needed, for that."
    log "1. Mend what the first line names."
    log "2. Then again: $here/rollback.sh${HALDANE_DEPLOYMENT_CONF:+ --config $HALDANE_DEPLOYMENT_CONF} --to $to"
    log "==================================================================================================="
    close_deployments
    phase_end failed "$why"
    record_set reason "$why" || true
    finish unfinished 1
}

give_up() {
    log "==================================================================================================="
    log "NOT PROVEN: USERS MAY STILL GET $bad. A person is needed, now. What was found last: $why"
    log "1. Does the balancer run? What it says of itself:"
    log "     curl -s $OPS_URL/haldane/share"
    log "2. Who answers? It must be $good alone:"
    log "     curl -s -o /dev/null -D - $SHOP_URL$PROOF_PATH | grep -i $PROOF_HEADER"
    log "3. At the balancer's socket, $good first:"
    balancer_commands | while IFS= read -r line; do
        log "     echo '$line' | $BALANCER_COMMAND"
    done
    log "4. In its file, for the next start:   $(balancer_file_text)"
    log "   and if the socket is gone, reload: $BALANCER_RELOAD_COMMAND"
    log "5. If $good answers and nothing else helped, stop $bad:"
    log "     FORCE_STOP=yes SLOT=$bad bash -c $(quoted "$STOP_COMMAND")"
    log "6. Then again: $here/rollback.sh${HALDANE_DEPLOYMENT_CONF:+ --config $HALDANE_DEPLOYMENT_CONF}"
    log "==================================================================================================="
    phase_end failed "$why"
    finish unproven 69
}

finish() {
    [[ -z $record ]] || log "exit code $2; record: $record"
    record_write "$1" "$2"
    # What was not proven must not look like something that rollback.sh could take up.
    record_set outcome "$1" || true
    scratch_remove
    exit "$2"
}

only_say() {
    local way answered
    answered=$(answers "$requests" | tally) || true
    balancer_split
    printf 'Now: %s (of %s requests).\n' "$(told_answers "$answered")" "$requests"
    printf 'The split, as the balancer says: %s.\n' "${split/safe/"$bad gets nothing"}"
    printf 'Would put all traffic on %s, by the first of these that is proven:\n' "$good"
    for way in "${ways[@]}"; do
        case $way in
            haldane) printf '  haldane  %s\n           %s\n' "$(by_hand abort "$SERVICE" --reason "$reason")" \
                "$(by_hand traffic stable "$policy")" ;;
            socket) balancer_commands | sed "s/^/  socket   /" ;;
            file) printf '  file     %s\n           %s\n' "$(balancer_file_text)" "$BALANCER_RELOAD_COMMAND" ;;
            stop) printf '  stop     SLOT=%s %s\n' "$bad" "$STOP_COMMAND" ;;
        esac
    done
    [[ -z $to ]] || printf 'Would then see that %s is at version %s.\n' "$good" "$to"
    exit 0
}

main() {
    options_read "$@"
    configure
    scratch_make rollback || fail 70 "no temporary directory can be made, not even in memory"
    choose_sides
    [[ -z $dry_run ]] || {
        signals=$scratch/signals
        only_say
    }
    exec </dev/null
    open_record
    attend roll
}

command_line=("$@")
{
    main "$@"
    exit
}
