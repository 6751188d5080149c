#!/usr/bin/env bats
# shellcheck disable=SC2016,SC2154 # jq is quoted so; $id, $output and $stderr come from scenario.bash and run
#
# Gauges and guardrails from end to end: what the shops' memory is in Prometheus it is in the evidence, look by look; a
# guardrail ends a rollout by itself; and what was decided can be decided again from what was recorded.

load scenario

setup_file() {
    scenarios_start
}

teardown_file() {
    stack_stop
}

setup() {
    scenario_begin
}

teardown() {
    scenario_end
}

# guarded FILE MEMORY_LIMIT: errors, memory, and a guardrail of each kind.
guarded() {
    policy "$1"
    cat >>"$1" <<END
  - name: memory
    type: gauge
    query: 'process_resident_memory_bytes{job="shop",\$track} # of each shop'
    critical: false
guardrails:
  - name: error budget
    failed: 'http_requests_total{job="shop",code=~"5..",\$canary}'
    total: 'http_requests_total{job="shop",\$canary}'
    above: 20%
  - {name: memory limit, query: 'max(process_resident_memory_bytes{job="shop",\$canary})', above: $2, for: 2s}
END
}

# live_is_replayed POLICY CODE: the verdicts in the store are those that the evidence gives again, byte for byte.
live_is_replayed() {
    haldane report "$id" --evidence -o evidence.json
    sql "SELECT json FROM verdicts ORDER BY look" >live
    run -"$2" haldane replay "$1" --evidence evidence.json --format json
    printf '%s\n' "$output" | diff live - >&2
}

# memory_at TIME TRACK: what Prometheus says itself, in the order of the instances.
memory_at() {
    curl -fsS --noproxy '*' "$PROMETHEUS/api/v1/query" --data-urlencode "time=$1" \
        --data-urlencode "query=process_resident_memory_bytes{job=\"shop\",track=\"$2\"}" |
        jq -c '[.data.result | sort_by(.metric.instance)[].value[1] | tonumber] | if . == [] then null else . end'
}

# memory_is_prometheus_own: in each interval of the evidence, with at least one of the canary.
memory_is_prometheus_own() {
    local at stable canary seen=0
    while read -r at stable canary; do
        # Gauges are read at multiples of the look, which is a second.
        [[ $stable == "$(memory_at "$at" stable)" && $canary == "$(memory_at "$at" canary)" ]] || {
            echo "at $at: $stable $canary, but Prometheus says $(memory_at "$at" stable) $(memory_at "$at" canary)"
            return 1
        }
        [[ $canary == null ]] || seen=$((seen + 1))
    done < <(jq -r '.metrics.memory.intervals[-12:][] | "\(.at | floor) \(.stable) \(.canary)"' evidence.json)
    [[ $seen -gt 0 ]]
}

canary_is_scraped() {
    [[ $(memory_at "$(date +%s)" canary) != null ]]
}

@test "check --live shows gauges and guardrails; a guardrail of several numbers is refused before any traffic" {
    canary
    guarded policy.yaml 1000000000
    wait_until 10 canary_is_scraped
    haldane_says 0 check policy.yaml --live
    [[ $output == *'memory query of stable: `process_resident_memory_bytes{'*'2 series, gauge, value '* ]]
    [[ $output == *'guardrail error budget total of canary: '*' series, counter, newest sample '* ]]
    [[ $output == *'guardrail memory limit query of canary: `max('*'1 series, gauge, value '* ]]
    sed -i 's/max(\(process_resident[^)]*\))/count by (code, method) (http_requests_total{$canary})/' policy.yaml
    refused 65 'guardrail memory limit: .* gives [0-9]+ series where one number is meant; aggregate them, as max\(' \
        begin policy.yaml
    haldane_says 65 check policy.yaml --live
    [[ $stderr == *'where one number is meant'* && $output == *'failed: guardrail memory limit'* ]]
}

@test "what Prometheus says of memory is in the evidence, and a guardrail of one number ends the rollout" {
    canary
    guarded policy.yaml 1
    haldane_says 20 rollout policy.yaml --format json
    answer '.state == "aborted" and .weight == 0 and (.reason | test("memory limit"))'
    id=$(field rollout)
    shows 0
    record_is_whole
    live_is_replayed policy.yaml 20
    memory_is_prometheus_own
    jq -e '.metrics.memory.type == "gauge" and .guardrails["memory limit"].type == "gauge"
        and .guardrails["error budget"].type == "errors"
        and (.guardrails | all(.[]; all(.intervals[]; has("stable") | not)))
        and (.metrics.memory.intervals | length) == (.metrics.errors.intervals | length)
        and ([.metrics.errors.intervals[].canary] == [.guardrails["error budget"].intervals[].canary])
        and ([.metrics.memory.intervals[].canary] == [.guardrails["memory limit"].intervals[].canary])
        and (.metrics.memory.intervals[-1].stable | length == 2)' evidence.json

    # The same window from Prometheus again, without a record of looks.
    local begun
    begun=$(sql "SELECT min(from_ms) / 1000 FROM weights")
    haldane_says 20 judge policy.yaml --since "$begun" --weight 25% --format json
    answer '.decision == "abort" and (.reason | test("memory limit"))'
    answer '.metrics[1] | .name == "memory" and .type == "gauge"'
    answer '[.guardrails[] | select(.name == "memory limit") | .status == "firing" and .value > 1000000] == [true]'
}

@test "a guardrail of a rate ends the rollout, whatever stable does" {
    canary --failure-share 60%
    guarded policy.yaml 1000000000
    # The comparison is not to be the first: the canary may fail a thousand times as often as stable.
    sed -i 's/abort_above: {ratio: 1.1}/abort_above: {ratio: 999}/; s/ratio: 2, absolute: 5%/ratio: 1000, absolute: 5%/' \
        policy.yaml
    sed -i '/^steps:/i crash: {times: 0}' policy.yaml
    haldane_says 20 rollout policy.yaml --format json
    answer '.state == "aborted" and .weight == 0 and (.reason | test("error budget"))'
    id=$(field rollout)
    shows 0
    live_is_replayed policy.yaml 20
}
