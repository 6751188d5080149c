#!/usr/bin/env bash
#
# Warms a version up before it gets traffic: the most wanted pages are asked for in rounds, until a round is not faster
# than the one before. The rate is bounded, so that the warm-up itself is no load test.
#
# What is asked for here is counted by the shop like any other request. So it has to be done before a rollout begins.
# shellcheck disable=SC2154 # the settings are lib/config.sh's, http_* are fetch's
# shellcheck disable=SC2317 # what a trap calls
set -euo pipefail

here=$(cd -- "$(dirname -- "$(readlink -f -- "${BASH_SOURCE[0]}")")" && pwd)
for part in log duration config options places; do
    # shellcheck source=/dev/null
    source "$here/lib/$part.sh"
done

config=''
format=text
url=''
headers=()
paths_file=''
items=''
deadline=''
dry_run=''
scratch=''
slot=''

paths=()
tolerance_share=0
floor_us=0

usage() {
    cat <<'END_OF_HELP'
usage: warm-cache.sh [OPTION]...

Asks for the most wanted pages in rounds, until the 95th percentile of two rounds in a row is nearly the same.

  --url URL               where to (default: SHOP_URL, the balancer)
  --header 'NAME: VALUE'  sent with every request, e.g. 'X-Canary: always' or 'X-Colour: green'; may be given again
  --paths FILE            what is asked for, one path a line (default: WARM_LIST_COMMAND, or else WARM_FILE)
  --items N               instead: /items/1 to /items/N
  --deadline DURATION     not warm by then is exit code 1 (default: WARM_TIMEOUT)
  --format text|json      lines for people (default), or one JSON object
  --config FILE           the settings that differ from deployment.conf
  --dry-run               say what would be asked for; send nothing
  --help                  this page

Exit codes: 0 warm; 1 not warm by the deadline; 64 wrong usage; 65 wrong configuration; 66 unreadable file; 69 nobody
answered, or a tool is missing.
END_OF_HELP
}

takes value --url --header --paths --items --deadline --format --config
takes flag --dry-run

take_option() {
    local name=$1 value=$2
    case $name in
        --url)
            needs_url "$@"
            url=${value%/}
            ;;
        --header)
            needs_header "$@"
            headers+=("$value")
            slot_of_header "$value"
            ;;
        --paths) paths_file=$value ;;
        --items)
            needs_number "$@" 99999
            items=$value
            ;;
        --deadline)
            needs_duration "$@"
            deadline=$(duration_seconds "$value")
            ;;
        --format)
            needs_one_of "$@" text json
            format=$value
            ;;
        --config) config=$value ;;
        --dry-run) dry_run=$value ;;
    esac
}

# The headers by which the stack's balancer is asked for a slot also say whose cache hits are to be counted.
slot_of_header() {
    local value=${1#*:}
    value=${value# }
    case ${1,,} in
        x-canary:*always) slot=canary ;;
        x-canary:*never) slot=stable ;;
        x-colour:*) slot=$value ;;
    esac
}

load_settings() {
    local name percent
    config_load "$config"
    places_load
    url=${url:-$SHOP_URL}
    for name in WARM_TOP WARM_RATE WARM_CONCURRENCY; do
        [[ ${!name} =~ ^[1-9][0-9]{0,5}$ ]] || config_wrong "$name" "write a whole number above 0"
    done
    [[ -n $deadline ]] || deadline=$(duration_seconds "$WARM_TIMEOUT")
    [[ $WARM_TOLERANCE =~ ^([1-9][0-9]?)%$ ]] || config_wrong WARM_TOLERANCE "write a share from 1% to 99%"
    percent=${BASH_REMATCH[1]}
    tolerance_share=$percent
    floor_us=$(duration_ms "$WARM_FLOOR") || config_wrong WARM_FLOOR "write a duration such as 1ms"
    floor_us=$((floor_us * 1000))
    need jq curl sort
}

# The list, without comments, the first WARM_TOP of them.
read_paths() {
    local line lines=() number=0 source
    if [[ -n $items ]]; then
        for ((number = 1; number <= items; number++)); do paths+=("/items/$number"); done
        return
    elif [[ -z $paths_file && -n $WARM_LIST_COMMAND ]]; then
        source="WARM_LIST_COMMAND"
        line=$(run_setting "$WARM_LIST_COMMAND") || fail 69 "WARM_LIST_COMMAND failed: $WARM_LIST_COMMAND"
        mapfile -t lines <<<"$line"
    else
        source=${paths_file:-$WARM_FILE}
        [[ -r $source && ! -d $source ]] || fail 66 "the list '$source' cannot be read"
        mapfile -t lines <"$source"
    fi
    for line in "${lines[@]}"; do
        number=$((number + 1))
        line=${line%$'\r'}
        [[ ! $line =~ ^[[:blank:]]*(#|$) ]] || continue
        [[ $line =~ ^/[^[:blank:]\"\\]*$ ]] ||
            fail 65 "$source:$number: '$line' is no path; it begins with / and has no blanks"
        ((${#paths[@]} < WARM_TOP)) || break
        paths+=("$line")
    done
    ((${#paths[@]} > 0)) || fail 65 "$source has no path"
}

print_plan() {
    printf 'Would ask %s for %s pages in rounds' "$url" "${#paths[@]}"
    ((${#headers[@]} == 0)) || printf ', with %s' "$(quoted "${headers[@]}")"
    printf ', at most %s a second and %s at once,\n' "$WARM_RATE" "$WARM_CONCURRENCY"
    printf 'until the 95th percentiles of two rounds differ by less than %s or %s, for %s s at most.\n' \
        "$WARM_TOLERANCE" "$WARM_FLOOR" "$deadline"
}

# --- The rounds ------------------------------------------------------------------------------------------------------

warm() {
    local ends=$((EPOCHSECONDS + deadline)) round=0 before='' p95 asked failed
    verdict=cold
    : >"$scratch/rounds"
    while ((EPOCHSECONDS < ends)); do
        round=$((round + 1))
        one_round "$ends" || break # cut short by the deadline: its percentile would be of other pages
        read -r asked failed p95 < <(percentile "$scratch/times")
        jq -cn --argjson round "$round" --argjson requests "$asked" --argjson failed "$failed" --argjson us \
            "${p95:-null}" \
            '{$round, $requests, $failed, p95_ms: (if $us then $us / 1000 else null end)}' >>"$scratch/rounds"
        if ((failed == asked)); then
            verdict=unreachable
            return
        fi
        if ((failed == 0)) && [[ -n $before ]] && alike "$before" "$p95"; then
            verdict=warm
            return
        fi
        before=$p95
    done
}

# All pages once, in portions of a second each. Fails if the deadline comes first.
one_round() {
    local ends=$1 from began left
    : >"$scratch/times"
    for ((from = 0; from < ${#paths[@]}; from += WARM_RATE)); do
        ((EPOCHSECONDS < ends)) || return 1
        began=${EPOCHREALTIME/[.,]/}
        ask_portion "$from" >>"$scratch/times"
        left=$((1000000 - (${EPOCHREALTIME/[.,]/} - began)))
        if ((left > 0 && from + WARM_RATE < ${#paths[@]})); then
            sleep "$(printf '0.%06d' "$((left < 1000000 ? left : 999999))")"
        fi
    done
}

# One curl for all of them, so that connections are kept. The time is the server's own: from the request's last byte to
# the answer's first.
ask_portion() {
    local path header tls=''
    [[ $TLS_VERIFY == yes ]] || tls=insecure
    for path in "${paths[@]:$1:$WARM_RATE}"; do
        printf 'url = "%s%s"\noutput = "/dev/null"\n' "$url" "$path"
    done >"$scratch/portion"
    for header in "${headers[@]}"; do
        printf 'header = "%s"\n' "${header//[\"\\]/}"
    done >>"$scratch/portion"
    [[ -z $tls ]] || printf '%s\n' "$tls" >>"$scratch/portion"
    curl --silent --globoff --noproxy '*' --parallel --parallel-max "$WARM_CONCURRENCY" --max-time 30 \
        --write-out '%{http_code} %{time_pretransfer} %{time_starttransfer}\n' --config \
        "$scratch/portion" 2>/dev/null || true
}

# Prints how many were asked for, how many failed, and the 95th percentile (nearest rank) of the others in microseconds.
percentile() {
    LC_ALL=C awk '$1 ~ /^[23]/ { printf "%d\n", ($3 - $2) * 1e6 } $1 !~ /^[23]/ { print "failed" }' "$1" | sort -n |
        awk '$1 == "failed" { failed++; next } { us[++n] = $1 }
            END { rank = int(0.95 * n); if (rank < 0.95 * n) rank++; print n + failed, failed + 0, n ? us[rank] : "" }'
}

# alike BEFORE NOW, in microseconds.
alike() {
    local apart=$(($1 - $2)) larger=$(($1 > $2 ? $1 : $2))
    apart=${apart#-}
    ((apart < floor_us || apart * 100 < larger * tolerance_share))
}

# --- Cache hits, if Prometheus knows them ----------------------------------------------------------------------------

# cache_counts FILE: hits, misses and errors so far. Fails if they are not to be had.
cache_counts() {
    there "$PROMETHEUS_URL" || return 1
    fetch "$PROMETHEUS_URL/api/v1/query" "$1" --data-urlencode "query=$WARM_CACHE_QUERY" || return 1
    jq -es '.[0] | .status == "success" and (.data.result | length > 0)' "$1" >/dev/null 2>&1
}

# The share of hits between two counts; nothing if a counter began anew or nobody asked the cache.
hit_ratio() {
    jq -n --slurpfile before "$1" --slurpfile after "$2" '
        def counts: [.[0].data.result[] | {key: .metric.result, value: (.value[1] | tonumber)}] | from_entries;
        ($before | counts) as $b | ($after | counts) as $a
        | ($a | with_entries(.value -= ($b[.key] // 0))) as $d
        | ([$d.hit, $d.miss, $d.error] | map(. // 0) | add) as $all
        | if $all <= 0 or any($d[]; . < 0) then null else (($d.hit // 0) / $all * 1000 | round / 1000) end'
}

# Scrapes lag behind: the counts are taken again until they stand still over one scrape, for ten seconds at most.
count_hits() {
    local try
    ratio=null
    [[ -e $scratch/hits.before ]] || return 0
    for ((try = 0; try < 5; try++)); do
        sleep 2
        cache_counts "$scratch/hits.after" || return 0
        [[ $(hit_ratio "$scratch/hits.before" "$scratch/hits.after") == "$ratio" && $ratio != null ]] && return 0
        ratio=$(hit_ratio "$scratch/hits.before" "$scratch/hits.after")
    done
}

# --- The result ------------------------------------------------------------------------------------------------------

print_result() {
    jq -s --arg verdict "$verdict" --arg url "$url" --argjson pages "${#paths[@]}" --argjson ratio "$ratio" \
        --argjson micros "$1" '{
            schema: "haldane.warm/1", status: $verdict, time: (now | todate), seconds: ($micros / 1000 | round / 1000),
            url: $url, headers: $ARGS.positional, pages: $pages, hit_ratio: $ratio, rounds: .
        }' "$scratch/rounds" --args "${headers[@]}" >"$scratch/result"
    if [[ $format == json ]]; then
        cat -- "$scratch/result"
    else
        jq -r '(.rounds[] | "round \(.round): \(.requests) requests, \(.failed) failed, "
                + "95 % within \(.p95_ms // "?") ms"),
            "\(.status) after \(.seconds) s and \(.rounds | length) rounds of \(.pages) pages\(
                if .hit_ratio then ", \(.hit_ratio * 1000 | round / 10) % from the cache" else "" end)"' \
            "$scratch/result"
    fi
}

main() {
    local verdict='' ratio=null selector='' began=${EPOCHREALTIME/[.,]/}
    options_read "$@"
    [[ -z $items || -z $paths_file ]] || usage_error "--items and --paths exclude each other"
    load_settings
    read_paths
    [[ -z $slot ]] || selector="{slot=\"$slot\"}"
    WARM_CACHE_QUERY=${WARM_CACHE_QUERY//\{slot\}/"$selector"}
    if [[ -n $dry_run ]]; then
        print_plan
        exit 0
    fi
    scratch=$(mktemp -d) || fail 74 "no temporary directory can be made"
    trap 'rm -rf -- "$scratch"' EXIT
    cache_counts "$scratch/hits.before" || rm -f -- "$scratch/hits.before"
    warm
    began=$((${EPOCHREALTIME/[.,]/} - began))
    [[ $verdict == unreachable ]] || count_hits
    print_result "$began"
    [[ $verdict != unreachable ]] || fail 69 "nobody answers at $url, or only with errors"
    [[ $verdict == warm ]] || exit 1
}

{
    main "$@"
    exit
}
