# shellcheck shell=bash
# shellcheck disable=SC2154 # scratch, record, here and the settings are the caller's
#
# How fast a version is, and whether it became slower than the one before.
#
# Two questions, two tools. How long does a request take at an everyday rate: hey, at PERFORMANCE_RATE, which must be
# below saturation; GET and POST apart, since a POST is never sent twice by anybody. How much can be served: wrk, as
# fast as it goes. Each is asked PERFORMANCE_RUNS times and the median counts.
#
# A run is compared with the last one of the same kind that passed, so that a slow creep cannot become the measure. Of
# the same kind is a run with the same parameters on as many processors.

# performance_test URL VERSION INSTANCES [HEADER]...: measures; the result is $record/performance.json. Fails with 69
# if a tool gives no figures. HEADER is "NAME: VALUE".
performance_test() {
    local url=$1 version=$2 instances=$3
    shift 3
    performance_requests get "$url$PERFORMANCE_GET_PATH" "$@" || return
    performance_requests post "$url$PERFORMANCE_POST_PATH" "$@" || return
    performance_capacity "$url$PERFORMANCE_GET_PATH" "$@" || return
    jq -n --slurpfile get "$scratch/get.json" --slurpfile post "$scratch/post.json" \
        --slurpfile capacity "$scratch/capacity.json" --arg version "$version" --argjson instances "$instances" \
        --argjson share "$(as_share "$PERFORMANCE_CAPACITY_SHARE")" --argjson parameters "$(performance_parameters)" \
        '{version: $version, at: (now | todate), parameters: $parameters, instances: $instances,
          get: $get[0], post: $post[0], capacity: $capacity[0],
          capacity_per_instance: ($capacity[0].rps / $instances * $share | floor)}' >"$record/performance.json"
}

performance_parameters() {
    jq -cn --argjson rate "$PERFORMANCE_RATE" --argjson seconds "$PERFORMANCE_SECONDS" \
        --argjson connections "$PERFORMANCE_CONNECTIONS" --argjson runs "$PERFORMANCE_RUNS" \
        --arg get "$PERFORMANCE_GET_PATH" --arg post "$PERFORMANCE_POST_PATH" --argjson processors "$(nproc)" \
        '{rate: $rate, seconds: $seconds, connections: $connections, runs: $runs, get: $get, post: $post,
          processors: $processors}'
}

# as_share P%: as a number below or at 1.
as_share() {
    jq -n --arg text "$1" '$text | rtrimstr("%") | tonumber / 100'
}

# hey starts every worker with the same number of requests, so the number is made a multiple of the workers: what it did
# not write down afterwards is lost requests.
performance_requests() {
    local kind=$1 url=$2 run sent options=() header
    shift 2
    for header in "$@"; do
        options+=(-H "$header")
    done
    [[ $kind != post ]] || options+=(-m POST -T application/json -d '{"item":7,"quantity":1}')
    sent=$((PERFORMANCE_RATE * PERFORMANCE_SECONDS / PERFORMANCE_CONNECTIONS * PERFORMANCE_CONNECTIONS))
    : >"$scratch/$kind.runs"
    for ((run = 1; run <= PERFORMANCE_RUNS; run++)); do
        run_until_interrupted hey -n "$sent" -c "$PERFORMANCE_CONNECTIONS" \
            -q "$(jq -n "$PERFORMANCE_RATE / $PERFORMANCE_CONNECTIONS")" -t 10 "${options[@]}" -o csv "$url" \
            >"$record/performance-$kind-$run.csv" 2>"$scratch/errors" || return 69
        jq -Rnc -L "$here/performance" --argjson sent "$sent" 'include "figures"; [inputs] | run($sent)' \
            "$record/performance-$kind-$run.csv" >>"$scratch/$kind.runs" || return 69
    done
    jq -sc -L "$here/performance" 'include "figures"; together + {runs: .}' "$scratch/$kind.runs" >"$scratch/$kind.json"
}

performance_capacity() {
    local url=$1 run options=() header
    shift
    for header in "$@"; do
        options+=(-H "$header")
    done
    : >"$scratch/capacity.runs"
    for ((run = 1; run <= PERFORMANCE_RUNS; run++)); do
        run_until_interrupted env "WRK_RESULT=$scratch/wrk.json" wrk -t 1 -c 32 -d "${PERFORMANCE_SECONDS}s" \
            --timeout 10s "${options[@]}" -s "$here/performance/wrk.lua" "$url" >"$scratch/wrk.out" 2>&1 || return 69
        jq -c '. + {rps: (.requests / .seconds)} | del(.seconds)' "$scratch/wrk.json" >>"$scratch/capacity.runs" ||
            return 69
    done
    jq -sc -L "$here/performance" 'include "figures"; together' "$scratch/capacity.runs" >"$scratch/capacity.json"
}

# performance_compare FOLDER: puts the comparison into $record/performance.json and keeps it in FOLDER if it passed.
# 0 passed or the first of its kind, 1 worse than before or requests failed.
performance_compare() {
    local folder=$1 last
    mkdir -p -- "$folder" || return 74
    last=$(performance_last "$folder")
    jq -L "$here/performance" --argjson last "$last" --argjson tolerance "$(as_share "$PERFORMANCE_TOLERANCE")" \
        --argjson floor "$PERFORMANCE_FLOOR_MS" --argjson rate "$PERFORMANCE_RATE" 'include "figures";
        . + {compared_with: ($last | if . == null then null else {version, at} end),
             saturated: ([.get.rps, .post.rps] | min < 0.9 * $rate),
             worse: (if $last == null then [] else worse($last; $tolerance; $floor) end)}
        | . + {passed: (.worse == [] and .get.failed + .post.failed == 0)}' \
        "$record/performance.json" >"$record/performance.json.new" || return 70
    mv -- "$record/performance.json.new" "$record/performance.json"
    jq -e .passed "$record/performance.json" >/dev/null || return 1
    cp -- "$record/performance.json" "$folder/.new" && mv -- "$folder/.new" \
        "$folder/$(date -u +%Y%m%dT%H%M%SZ)-$(jq -r '.version | gsub("[^A-Za-z0-9._-]"; "_")' "$record/performance.json").json"
}

# The newest kept result of the same kind, or null. Their names sort by time.
performance_last() {
    local folder=$1 file files
    shopt -s nullglob
    files=("$folder"/*.json)
    shopt -u nullglob
    for ((file = ${#files[@]} - 1; file >= 0; file--)); do
        if jq -ce --argjson parameters "$(performance_parameters)" 'select(.parameters == $parameters)' \
            "${files[file]}" 2>/dev/null; then
            return 0
        fi
    done
    printf 'null\n'
}

# What a person reads of $record/performance.json.
performance_tell() {
    jq -r '("get", "post") as $kind | .[$kind] |
           "\($kind): \(.failed) failed of \(.requests), \(.rps) a second, "
           + "p50 \(.p50_ms) ms, p95 \(.p95_ms) ms, p99 \(.p99_ms) ms"' \
        "$record/performance.json"
    jq -r '"capacity: \(.capacity.rps | floor) a second by \(.instances) instances; "
            + "CAPACITY_PER_INSTANCE=\(.capacity_per_instance) leaves room",
           (if .compared_with then "compared with version \(.compared_with.version) of \(.compared_with.at)"
            else "the first run of its kind: nothing to compare with" end),
           (if .saturated then "note: \(.parameters.rate) a second were not reached, so that waiting was measured; "
                + "lower PERFORMANCE_RATE"
            else empty end),
           (.worse[] | "worse: \(.what) was \(.was), is \(.is), the limit is \(.limit)")' "$record/performance.json"
}
