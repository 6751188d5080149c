# shellcheck shell=bash
# shellcheck disable=SC2154 # settings, and what fetch sets
#
# The balancer, by what it says of itself: on its page for operators, in its exporter, on its master socket.

plan_balancer() {
    ! there "$OPS_URL" || probe balancer "$OPS_URL" \
        "GET /healthz and /haldane/share: the canary's share and its lease" check_balancer
    ! master_there || probe balancer workers \
        "show proc on the master socket: workers left over by a reload" check_workers
}

check_balancer() {
    local body page share expires
    body=$(probe_file body)
    if ! fetch "$OPS_URL/healthz" /dev/null; then
        bad "$OPS_URL" "no answer: $http_error" "deployment/stack.sh logs haproxy; is this its address?"
        return
    fi
    [[ $http_code == 200 ]] || { bad "$OPS_URL" "/healthz answers $http_code" "deployment/stack.sh logs haproxy" &&
        return; }
    if ! fetch "$OPS_URL/haldane/share" "$body" || [[ $http_code != 200 ]]; then
        ok "$OPS_URL" "answers; it has no page /haldane/share"
        return
    fi
    page=$(<"$body")
    [[ $page =~ (^|\ )share_bp=([^ ]*) ]] || { ok "$OPS_URL" "weights: ${page% now=*}" && return; }
    share=${BASH_REMATCH[2]}
    [[ $page =~ \ expires=([0-9]+) ]] && expires=${BASH_REMATCH[1]} || expires=0
    judge_share "$share" "$expires"
}

# idle_slot: the slot that gets nothing, by the records and by the balancer's page; empty while a rollout gives it some.
# A balancer without the page is believed to do what the records say.
idle_slot() {
    local body idle page
    body=$(probe_file share)
    idle=$(slot_without_traffic)
    if there "$OPS_URL" && fetch "$OPS_URL/haldane/share" "$body" && [[ $http_code == 200 ]]; then
        page=$(<"$body")
        ! [[ $page =~ (^|\ )(share_bp|$idle)=0*[1-9] ]] || return 0
    fi
    printf '%s\n' "$idle"
}

judge_share() {
    local share=$1 expires=$2 text
    if [[ ! $share =~ ^[0-9]+$ ]] || ((share > 10000)); then
        warn "$OPS_URL" "the share in its map is no number from 0 to 10000: '$share'" \
            "all traffic is on stable; deployment/rollback.sh mends it"
        return
    fi
    printf -v text 'the canary gets %d.%02d %%' $((share / 100)) $((share % 100))
    ((share == 0)) || text+=", its lease ends in $((expires - EPOCHSECONDS)) s"
    ok "$OPS_URL" "$text"
}

master_there() {
    there "$BALANCER_MASTER_COMMAND" && { [[ -n $BALANCER_MASTER_COMMAND ]] || uses_compose; }
}

master() {
    if [[ -n $BALANCER_MASTER_COMMAND ]]; then
        run_setting "$BALANCER_MASTER_COMMAND"
    else
        inside haproxy timeout -k 1 5 socat - UNIX-CONNECT:/run/haproxy/master.sock
    fi
}

# An old worker still serves what it has: at the share of its own time.
check_workers() {
    local answer old
    answer=$(printf 'show proc\n' | master 2>&1) || { unsure workers "the master does not answer: ${answer##*$'\n'}" \
        "see BALANCER_MASTER_COMMAND" && return; }
    old=$(awk '/^# / { old = $2 == "old" } !/^#/ && old && NF > 1 { n++ } END { print n + 0 }' <<<"$answer")
    if ((old > 0)); then
        warn workers "$old old workers still serve their connections after a reload" \
            "they end with the last connection, or after hard-stop-after; long-lived ones keep them"
    else
        ok workers "none is left over"
    fi
}

# --- servers ---------------------------------------------------------------------------------------------------------

plan_servers() {
    ! there "$OPS_URL" || probe servers "$OPS_URL" "the exporter: who is up, per track" check_servers
}

check_servers() {
    local body servers tracks=$HEALTH_TRACKS entry idle other
    body=$(probe_file body)
    if ! fetch "$OPS_URL/metrics?scope=server" "$body" || [[ $http_code != 200 ]]; then
        unsure "$OPS_URL" "its exporter does not answer" "see the check 'balancer'"
        return
    fi
    servers=$(servers_of_exporter "$body")
    if [[ -z $tracks && $STRATEGY == canary ]]; then
        tracks='stable=be_stable/stable[0-9]+ canary=be_canary/canary[0-9]+'
    elif [[ -z $tracks ]]; then
        tracks='blue=be_colours/blue[0-9]+ green=be_colours/green[0-9]+'
    fi
    idle=$(idle_slot) other=$(slot_without_traffic)
    for entry in $tracks; do
        judge_track "${entry%%=*}" "${entry#*=}" "$servers"
    done
}

# Lines "BACKEND/SERVER STATE".
servers_of_exporter() {
    sed -nE 's/^haproxy_server_status\{([^}]*)\} 1(\.0*)?$/\1/p' "$1" | while IFS= read -r labels; do
        [[ $labels =~ proxy=\"([^\"]*)\" ]] && printf '%s/' "${BASH_REMATCH[1]}"
        [[ $labels =~ server=\"([^\"]*)\" ]] && printf '%s ' "${BASH_REMATCH[1]}"
        [[ $labels =~ state=\"([^\"]*)\" ]] && printf '%s\n' "${BASH_REMATCH[1]}"
    done
}

# idle and other are of the caller.
judge_track() {
    local track=$1 pattern=$2 servers=$3 name state up=0 all=0 down=''
    while read -r name state; do
        [[ $name =~ ^($pattern)$ ]] || continue
        all=$((all + 1))
        case $state in
            UP | NOLB) up=$((up + 1)) ;;
            *) down+="${down:+, }$name $state" ;;
        esac
    done <<<"$servers"
    if ((all == 0)); then
        unsure "$track" "the balancer has no server like $pattern" "see HEALTH_TRACKS"
    elif [[ $track == "$idle" ]] && ((up == 0)); then
        ok "$track" "none of $all is up; it has no traffic"
    elif [[ $track == "$other" ]] && ((up == 0)); then
        warn "$track" "none of $all is up, in the midst of a rollout: its share goes to the others" \
            "haldane aborts; deployment/rollback.sh does so now"
    elif ((up == 0)); then
        bad "$track" "none of $all is up: $down" "deployment/stack.sh status; the check 'readiness'"
    elif ((up < all)); then
        warn "$track" "$up of $all are up: $down" "deployment/stack.sh status; the check 'readiness'"
    else
        ok "$track" "$up of $all are up"
    fi
}
