#!/usr/bin/env bash
#
# Asks every endpoint once or more, and holds each answer against a table: the status, what the body says, and the
# version that answered. For a slot that has no traffic yet, and for the whole after a switch.
#
# The table is the user's (deployment/smoke/shop.tsv is the demo shop's, and its head says how to write one).
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
expect_version=''
table=''
rounds=''
dry_run=''
scratch=''

lines=()   # of the table: METHOD, PATH, HEADERS, BODY, STATUS, ASSERTION
numbers=() # where each stands in the file
answered=0

usage() {
    cat <<'END_OF_HELP'
usage: smoke-test.sh [OPTION]...

Sends the requests of a table and holds the answers against it.

  --url URL               where to (default: SHOP_URL, the balancer)
  --header 'NAME: VALUE'  sent with every request, e.g. 'X-Canary: always' or 'X-Colour: green'; may be given again
  --expect-version V      every answer must say so in its header (SMOKE_VERSION_HEADER)
  --table FILE            the requests (default: SMOKE_FILE)
  --rounds N              how often the table is gone through, so that each server is met (default: SMOKE_ROUNDS)
  --format text|json      lines for people (default), or one JSON object
  --config FILE           the settings that differ from deployment.conf
  --dry-run               check the table, say what would be asked; send nothing
  --help                  this page

Exit codes: 0 passed; 1 failed; 64 wrong usage; 65 wrong configuration or table; 66 unreadable file; 69 nobody answered,
or a tool is missing.
END_OF_HELP
}

takes value --url --header --expect-version --table --rounds --format --config
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
            ;;
        --expect-version) expect_version=$value ;;
        --table) table=$value ;;
        --rounds)
            needs_number "$@" 999
            rounds=$value
            ;;
        --format)
            needs_one_of "$@" text json
            format=$value
            ;;
        --config) config=$value ;;
        --dry-run) dry_run=$value ;;
    esac
}

load_settings() {
    config_load "$config"
    places_load
    url=${url:-$SHOP_URL}
    table=${table:-$SMOKE_FILE}
    rounds=${rounds:-$SMOKE_ROUNDS}
    [[ $rounds =~ ^[1-9][0-9]{0,2}$ ]] || config_wrong SMOKE_ROUNDS "write a number from 1 to 999"
    # shellcheck disable=SC2034 # fetch's
    inside_limit=$(duration_seconds "$SMOKE_TIMEOUT") || config_wrong SMOKE_TIMEOUT "write a duration such as 5s"
    need jq curl
}

# Everything that can be wrong with the table is found before the first request.
read_table() {
    local line number=0 fields
    [[ -r $table && ! -d $table ]] || fail 66 "the table '$table' cannot be read"
    while IFS= read -r line || [[ -n $line ]]; do
        number=$((number + 1))
        line=${line%$'\r'}
        [[ $line =~ ^[[:blank:]]*(#|$) ]] && continue
        IFS=$'\t' read -r -a fields <<<"$line"
        ((${#fields[@]} == 6)) || fail 65 \
            "$table:$number: ${#fields[@]} fields instead of 6; is there a tab between each two?"
        [[ ${fields[0]} =~ ^[A-Z]+$ ]] || fail 65 "$table:$number: '${fields[0]}' is no method"
        [[ ${fields[1]} == /* ]] || fail 65 "$table:$number: the path '${fields[1]}' does not begin with /"
        [[ ${fields[4]} =~ ^[1-5]([0-9]{2}|xx)$ ]] ||
            fail 65 "$table:$number: '${fields[4]}' is no status such as 200 or 2xx"
        [[ ${fields[5]} == - ]] || jq -n "empty | (${fields[5]})" >/dev/null 2>&1 ||
            fail 65 "$table:$number: '${fields[5]}' is no expression of jq"
        lines+=("$line")
        numbers+=("$number")
    done <"$table"
    ((${#lines[@]} > 0)) || fail 65 "the table '$table' has no request"
}

print_plan() {
    local line fields
    printf 'Would ask %s, %s times' "$url" "$rounds"
    ((${#headers[@]} == 0)) || printf ', with %s' "$(quoted "${headers[@]}")"
    [[ -z $expect_version ]] || printf ', and expect version %s' "$expect_version"
    printf ':\n'
    for line in "${lines[@]}"; do
        IFS=$'\t' read -r -a fields <<<"$line"
        printf '  %-5s %-20s %s  %s\n' "${fields[0]}" "${fields[1]}" "${fields[4]}" "${fields[5]}"
    done
}

# --- The requests ----------------------------------------------------------------------------------------------------

run_all() {
    local round index began=$EPOCHSECONDS
    : >"$scratch/results"
    for ((round = 1; round <= rounds; round++)); do
        printf '{}\n' >"$scratch/previous"
        for index in "${!lines[@]}"; do
            ask_one "$round" "${numbers[index]}" "${lines[index]}"
        done
    done
}

ask_one() {
    local round=$1 number=$2 line=$3 method path header body status assertion run options=() header_lines=()
    run=smoke-$began-$$-$round
    IFS=$'\t' read -r method path header body status assertion <<<"${line//\{run\}/$run}"
    if [[ $method == HEAD ]]; then options=(--head); else options=(--request "$method"); fi
    [[ $body == - ]] || options+=(--data-raw "$body")
    [[ $header == - ]] || mapfile -t header_lines <<<"${header// | /$'\n'}"
    for header in "${headers[@]}" "${header_lines[@]}"; do
        options+=(--header "$header")
    done
    : >"$scratch/headers"
    : >"$scratch/body"
    if fetch "$url$path" "$scratch/body" "${options[@]}" --dump-header "$scratch/headers"; then
        answered=$((answered + 1))
        [[ $method != HEAD ]] || : >"$scratch/body" # curl writes the headers there
    fi
    [[ $assertion != - ]] || assertion=true
    judge_answer "$assertion" --argjson round "$round" --argjson line "$number" --arg method "$method" --arg path \
        "$path" \
        --arg expected "$status"
}

# judge_answer ASSERTION OPTION...: adds what was found to the results, and keeps the answer for the next line.
# Of an interim answer (100) only what comes after it counts.
judge_answer() {
    jq -cn "${@:2}" --argjson code "$((10#$http_code))" --argjson ms "$http_ms" --arg error "${http_error:-}" \
        --rawfile text "$scratch/body" --rawfile head "$scratch/headers" --arg version "$expect_version" \
        --arg named "${SMOKE_VERSION_HEADER,,}" --arg assertion "$1" --slurpfile previous "$scratch/previous" '
        def shown: .[:200] | gsub("[^ -~]"; " ");
        {
            code: $code, text: $text, body: ($text | try fromjson catch null),
            headers: ($head | gsub("\r"; "") | split("\n\n") | map(select(. != "")) | (last // "") | split("\n")[1:]
                | map(capture("^(?<key>[^:]+):[ \t]*(?<value>.*)$") | .key |= ascii_downcase) | from_entries),
            version: (if $version == "" then null else $version end), previous: ($previous[0] | del(.previous))
        } as $answer
        # What gives no value at all is not true either.
        | ([$answer | try ('"$1"') catch false] | length > 0 and all(.[]; .)) as $holds
        | ($answer.headers[$named] // null) as $from
        | (if $code == 0 then "no answer: \($error)"
            elif ($code | tostring | test("^" + ($expected | gsub("x"; "[0-9]")) + "$") | not)
                then "status \($code) instead of \($expected): \($text | shown)"
            elif $version != "" and $from != $version
                then "answered by version \($from // "none") instead of \($version)"
            elif $holds | not then "not true: \($assertion); the body is: \($text | shown)"
            else "" end) as $message
        | {$round, $line, $method, $path, $expected, code: (if $code == 0 then null else $code end), version: $from,
            seconds: ($ms / 1000), passed: ($message == ""), $message},
          $answer' >"$scratch/judged"
    head -n 1 -- "$scratch/judged" >>"$scratch/results"
    tail -n +2 -- "$scratch/judged" >"$scratch/previous"
}

# --- The result ------------------------------------------------------------------------------------------------------

print_result() {
    jq -s --arg url "$url" --arg version "$expect_version" '{
            schema: "haldane.smoke/1", status: (if all(.[]; .passed) then "passed" else "failed" end),
            time: (now | todate), url: $url, headers: $ARGS.positional,
            expected_version: (if $version == "" then null else $version end),
            passed: (map(select(.passed)) | length), failed: (map(select(.passed | not)) | length), requests: .
        }' "$scratch/results" --args "${headers[@]}" >"$scratch/result"
    if [[ $format == json ]]; then
        cat -- "$scratch/result"
    else
        jq -r '(.requests[] | "\(.method) \(.path) \(.code // "-") \(.version // "")" as $what
                | if .passed then "ok     \($what)"
                    else "FAILED \($what)  \(.message) (line \(.line), round \(.round))" end),
            "\(.status): \(.passed) passed, \(.failed) failed"' "$scratch/result"
    fi
}

main() {
    options_read "$@"
    load_settings
    read_table
    if [[ -n $dry_run ]]; then
        print_plan
        exit 0
    fi
    scratch=$(mktemp -d) || fail 74 "no temporary directory can be made"
    trap 'rm -rf -- "$scratch"' EXIT
    run_all
    print_result
    ((answered > 0)) || fail 69 "nobody answers at $url"
    jq -e '.status == "passed"' "$scratch/result" >/dev/null || exit 1
}

{
    main "$@"
    exit
}
