# shellcheck shell=bash
# shellcheck disable=SC2154 # settings
#
# The containers of the stack, as the engine sees them. One question to the engine for all of them.

plan_containers() {
    ! uses_compose || probe containers "$PROJECT" \
        "docker inspect: state, health, restarts of every service" check_containers
}

check_containers() {
    local list ids found service job state live slot idle
    local -A seen=()
    if ! list=$(docker ps --all --quiet --filter "label=com.docker.compose.project=$PROJECT" \
        --filter label=com.docker.compose.oneoff=False); then
        unsure "$PROJECT" "the engine does not answer" \
            "is docker running, may this user use it, and is DOCKER_HOST right?"
        return
    fi
    read -r -d '' -a ids <<<"$list" || true
    if ((${#ids[@]} == 0)); then
        bad "$PROJECT" "the project has no containers" "deployment/stack.sh up"
        return
    fi
    # One that was removed meanwhile is told on stderr, the others are shown.
    found=$(docker inspect "${ids[@]}" 2>/dev/null | jq -r '.[] | [
        .Config.Labels["com.docker.compose.service"],
        (.HostConfig.RestartPolicy.Name == "no" or .HostConfig.RestartPolicy.Name == ""),
        .State.Status, (.State.Health.Status // "none"), .State.ExitCode, .RestartCount,
        ((.State.StartedAt | sub("\\.[0-9]+"; "") | fromdateiso8601? // 0) | now - . | floor),
        .State.OOMKilled] | @tsv')
    live=" $HEALTH_SERVICES "
    idle=$(idle_slot)
    for slot in $(slots_of_strategy); do
        [[ $slot == "$idle" ]] || live+="$(slot_services "$slot" | tr '\n' ' ') "
    done
    while IFS=$'\t' read -r service job state; do
        seen[$service]=yes
        judge_container "$service" "$job" "$([[ $live == *" $service "* ]] && echo needed || echo idle)" "$state"
    done <<<"$found"
    for service in $live; do
        [[ -n ${seen[$service]:-} ]] || bad "$service" "there is no container of it" "deployment/stack.sh up"
    done
}

# judge_container SERVICE JOB NEEDED STATE: STATE is the tab-separated rest of the line. What is not needed may be
# stopped, and disturbs nobody when it is ill.
judge_container() {
    local service=$1 job=$2 needed=$3 state health code restarts age oom logs="deployment/stack.sh logs $1"
    IFS=$'\t' read -r state health code restarts age oom <<<"$4"
    if [[ $job == true && $state == exited ]]; then
        if ((code == 0)); then ok "$service" "done"; else bad "$service" "failed with exit code $code" "$logs"; fi
    elif [[ $state == exited || $state == created ]] && [[ $needed == idle ]]; then
        ok "$service" "stopped; it has no traffic"
    elif [[ $state == restarting ]] || ((restarts >= HEALTH_RESTARTS && age < 600)); then
        [[ $oom != true ]] || code+=", out of memory"
        ill "$needed" "$service" "it crashes again and again: $restarts restarts, last exit code $code" "$logs"
    elif [[ $state != running ]]; then
        ill "$needed" "$service" "$state, exit code $code" "deployment/stack.sh up; $logs"
    elif [[ $health == unhealthy ]]; then
        ill "$needed" "$service" "its health check fails" "$logs; docker inspect shows what the check said"
    elif [[ $health == starting ]]; then
        warn "$service" "starts since $age s" "wait; --wait does"
    else
        [[ $health != none ]] || health=running
        ((restarts == 0)) || health+=", restarted $restarts times"
        ok "$service" "$health"
    fi
}

# ill NEEDED TARGET MESSAGE HINT
ill() {
    if [[ $1 == needed ]]; then bad "${@:2}"; else warn "${@:2}"; fi
}
