# shellcheck shell=bash
# shellcheck disable=SC2154 # settings, and what fetch sets
#
# What users meet: the endpoints, and the readiness of each server of the shop, which names its dependencies.

plan_http() {
    local list=$HEALTH_ENDPOINTS entries entry url status limit
    if [[ -z $list ]]; then
        list="$SHOP_URL/ 200 1s; $SHOP_URL/items 200 1s; $SHOP_URL/readyz 200 1s"
        ! there "$SHOP_TLS_URL" || list+="; $SHOP_TLS_URL/ 200 1s"
    fi
    IFS=';' read -r -a entries <<<"$list"
    for entry in "${entries[@]}"; do
        read -r url status limit <<<"$entry"
        [[ -n $url ]] || continue
        status=${status:-200} limit=${limit:-1s}
        [[ $status =~ ^[1-5]([0-9]{2}|xx)$ ]] ||
            fail 65 "HEALTH_ENDPOINTS: '$status' is no HTTP status such as 200 or 2xx"
        duration_ms "$limit" >/dev/null || fail 65 "HEALTH_ENDPOINTS: '$limit' is no duration such as 500ms"
        probe http "$url" "GET, expects $status within $limit" check_http "$url" "$status" "$limit"
    done
}

check_http() {
    local url=$1 status=$2 limit=$3
    if ! fetch "$url" /dev/null; then
        bad "$url" "no answer: $http_error" "is the balancer running, and is this its address?"
    elif [[ ! $http_code =~ ^${status//x/[0-9]}$ ]]; then
        bad "$url" "answers $http_code, expected is $status" \
            "see which servers are up: the checks 'servers' and 'readiness'"
    elif ((http_ms > $(duration_ms "$limit"))); then
        warn "$url" "$http_code, but in $http_ms ms instead of $limit" \
            "see the database, the cache and the machine's load"
    else
        ok "$url" "$http_code in $http_ms ms"
    fi
}

# --- readiness -------------------------------------------------------------------------------------------------------

plan_readiness() {
    local url slot service
    if [[ -n $READINESS_URLS ]]; then
        for url in $READINESS_URLS; do
            ! there "$url" || probe readiness "$url" \
                "GET, expects status ready, each dependency up" check_readiness_url "$url"
        done
    elif uses_compose; then
        for slot in $(slots_of_strategy); do
            for service in $(slot_services "$slot"); do
                probe readiness "$service" "/readyz inside its container, if it runs" check_readiness_container \
                    "$service" "$slot"
            done
        done
    fi
}

check_readiness_url() {
    local url=$1 body
    body=$(probe_file body)
    if fetch "$url" "$body"; then
        judge_readiness "$url" "$http_code" "$body" "${2:-}"
    else
        bad "$url" "no answer: $http_error" "is the server running?"
    fi
}

# A container whose slot has no traffic disturbs nobody, as long as the others do their work.
check_readiness_container() {
    local service=$1 idle='' answer
    [[ $2 == "$(slot_with_traffic)" ]] || idle=idle
    if answer=$(inside "$service" timeout -k 1 5 curl -s -m 4 -w '\n%{http_code}' http://127.0.0.1:8080/readyz); then
        judge_readiness "$service" "${answer##*$'\n'}" <(printf '%s' "${answer%$'\n'*}") "$idle"
        return
    fi
    case $(container_state "$service"):$idle in
        absent:idle | exited:idle) ok "$service" "it does not run, and has no traffic" ;;
        absent:* | exited:*) bad "$service" "it does not run" \
            "deployment/stack.sh up; deployment/stack.sh logs $service" ;;
        *) not_ready "$service" "no answer from the shop in the container" "deployment/stack.sh logs $service" \
            "$idle" ;;
    esac
}

# not_ready TARGET MESSAGE HINT [IDLE]
not_ready() {
    if [[ -n ${4:-} ]]; then
        warn "$1" "$2" "$3"
    else
        bad "$1" "$2" "$3"
    fi
}

# judge_readiness TARGET CODE FILE [IDLE]
judge_readiness() {
    local target=$1 code=$2 file=$3 idle=${4:-} text status version down
    text=$(jq -r '[.status, .version // "?", ([.dependencies // {} | to_entries[] | select(.value.status == "down")
        | "\(.key)\(if .value.since then " since \(.value.since)" else "" end)"] | join(", "))] | .[]' \
        "$file" 2>/dev/null) || text=''
    { read -r status && read -r version && read -r down; } <<<"$text"$'\n' || true
    case $code:${status:-} in
        200:ready) ok "$target" "ready, version $version" ;;
        200:degraded) warn "$target" "degraded, version $version: ${down:-something} is down" \
            "see the checks 'database' and 'cache'" ;;
        200:*) ok "$target" "answers 200" ;;
        *:draining | *:starting) not_ready "$target" "$status, version $version" "wait until it is through" "$idle" ;;
        *) not_ready "$target" "answers $code" "see its log" "$idle" ;;
    esac
}
