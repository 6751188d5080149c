# shellcheck shell=bash
# shellcheck disable=SC2154 # settings, and what fetch sets
#
# Prometheus and Alertmanager: without them haldane cannot judge and nobody is called.

plan_prometheus() {
    ! there "$PROMETHEUS_URL" || probe prometheus "$PROMETHEUS_URL" "GET /-/ready" check_ready \
        "$PROMETHEUS_URL" prometheus
}

# check_ready URL SERVICE
check_ready() {
    if ! fetch "$1/-/ready" /dev/null; then
        bad "$1" "no answer: $http_error" "deployment/stack.sh logs $2; is this its address?"
    elif [[ $http_code != 200 ]]; then
        bad "$1" "it is not ready: $http_code" "it starts, or its disk is full: deployment/stack.sh logs $2"
    else
        ok "$1" "ready in $http_ms ms"
    fi
}

# --- targets ---------------------------------------------------------------------------------------------------------

plan_targets() {
    ! there "$PROMETHEUS_URL" || probe targets "$PROMETHEUS_URL" \
        "who is scraped, per job, and how old the newest sample is" check_targets
}

# A target of the slot without traffic may be down. Its labels say whose it is: slot, or else track.
check_targets() {
    local body idle job up all idle_down oldest down age_limit
    body=$(probe_file body)
    if ! fetch "$PROMETHEUS_URL/api/v1/targets?state=active" "$body" || [[ $http_code != 200 ]]; then
        unsure "$PROMETHEUS_URL" "it does not say whom it scrapes" "see the check 'prometheus'"
        return
    fi
    idle=$(idle_slot)
    age_limit=$(duration_seconds "$HEALTH_SAMPLE_AGE")
    jq -r --arg idle "$idle" '
        def offset: if .sign then (.sign + "1" | tonumber) * ((.h | tonumber) * 3600 + (.m | tonumber) * 60) else 0 end;
        def seconds: capture("^(?<t>[0-9-]+T[0-9:]+)([.][0-9]+)?(Z|(?<sign>[+-])(?<h>[0-9]+):(?<m>[0-9]+))$")
            | (.t + "Z" | fromdateiso8601) - offset;
        def idle: (.labels.slot // .labels.track) == $idle;
        .data.activeTargets | group_by(.labels.job)[]
        | map(select(.health == "up")) as $up
        | map(select(.health != "up" and (idle | not))) as $down
        | map(select(.health != "up" and idle)) as $stopped
        | [.[0].labels.job, ($up | length), ($up + $down | length), ($stopped | length),
            ($up | map(.lastScrape | seconds) | if . == [] then -1 else now - max | floor end),
            ($down | map("\(.labels.instance): \(.lastError)") | if . == [] then "-" else join("; ") end)] | @tsv' \
        "$body" >"$body.jobs"
    [[ -s $body.jobs ]] || bad "$PROMETHEUS_URL" "it scrapes nothing" "see its configuration, scrape_configs"
    while IFS=$'\t' read -r job up all idle_down oldest down; do
        judge_job "$job" "$up" "$all" "$idle_down" "$oldest" "$down" "$age_limit"
    done <"$body.jobs"
}

judge_job() {
    local job=$1 up=$2 all=$3 idle_down=$4 age=$5 down=$6 age_limit=$7 rest=''
    ((idle_down == 0)) || rest="; $idle_down of the slot without traffic are down"
    if ((up == 0 && all == 0)); then
        ok "$job" "none is up$rest"
    elif ((up == 0)); then
        bad "$job" "none of $all is up: $down" "is it running, and in one network with Prometheus?"
    elif ((up < all)); then
        warn "$job" "$up of $all are up: $down" "is it running, and in one network with Prometheus?"
    elif ((age > age_limit)); then
        bad "$job" "the newest sample is $age s old" "Prometheus does not come to scrape: its load, its disk, its log"
    else
        ok "$job" "$up of $all are up, the newest sample is $age s old$rest"
    fi
}

# --- alerts ----------------------------------------------------------------------------------------------------------

plan_alerts() {
    there "$ALERTMANAGER_URL" || return 0
    probe alerts "$ALERTMANAGER_URL" "GET /-/ready" check_ready "$ALERTMANAGER_URL" alertmanager
    probe alerts firing "alerts that fire, are not silenced and not inhibited; the watchdog among them" check_alerts
}

check_alerts() {
    local body critical others watchdog
    body=$(probe_file body)
    if ! fetch "$ALERTMANAGER_URL/api/v2/alerts?active=true&silenced=false&inhibited=false" "$body" ||
        [[ $http_code != 200 ]]; then
        unsure firing "it does not say which alerts fire" "deployment/stack.sh logs alertmanager"
        return
    fi
    { read -r critical && read -r others && read -r watchdog; } < <(jq -r --arg dog "$HEALTH_WATCHDOG" '
        def several: if length > 1 then " (\(length))" else "" end;
        def names: map(.labels.alertname) | group_by(.) | map(.[0] + several) | join(", ");
        def other: .labels.severity != "critical" and .labels.severity != "none" and .labels.alertname != $dog;
        (map(select(.labels.severity == "critical")) | names),
        (map(select(other)) | names),
        any(.labels.alertname == $dog)' "$body")
    if [[ -n $critical ]]; then
        bad firing "critical: $critical${others:+; others: $others}" "$ALERTMANAGER_URL, docs/runbooks"
    elif [[ -n $others ]]; then
        warn firing "$others" "$ALERTMANAGER_URL, docs/runbooks"
    elif there "$HEALTH_WATCHDOG" && [[ $watchdog != true ]]; then
        warn firing "$HEALTH_WATCHDOG does not fire: alerts do not arrive here" \
            "does Prometheus reach it, and are the rules loaded? After a start it takes a minute"
    else
        ok firing "none"
    fi
}
