#!/usr/bin/env bash
#
# Asks a real Prometheus every query of Grafana's dashboards: each must return a series. A panel that shows nothing is
# found here and not at night.
#
#   tests/deployment/dashboards.sh PROMETHEUS_URL [FOLDER]
#
# One line a query: ok or EMPTY or ERROR, the dashboard, the panel, the query. Exit code 0 only if all are ok, and if
# there are any.
set -euo pipefail

url=${1:?usage: dashboards.sh PROMETHEUS_URL [FOLDER]}
folder=${2:-$(dirname -- "${BASH_SOURCE[0]}")/../../compose/grafana/dashboards}

# Panels and annotations, with Grafana's variables as a reader has them who has chosen nothing. Panels of closed rows
# are inside of them.
queries() {
    jq -r '. as $d | ([.annotations.list[]? | {title: ("annotation " + .name), expr}] +
        [.. | objects | select(has("targets")) | .title as $title | .targets[] | {title: $title, expr}])[]
        | [$d.title, .title, (.expr | gsub("\\$__rate_interval|\\$__interval"; "1m") | gsub("\\$__range"; "5m")
            | gsub("\\$\\{?[a-z]+(:[a-z]+)?\\}?"; ".+"))] | @tsv' "$1"
}

failed=0
count=0
for file in "$folder"/*.json; do
    while IFS=$'\t' read -r dashboard panel query; do
        # @tsv writes a backslash twice.
        query=${query//\\\\/\\}
        count=$((count + 1))
        answer=$(curl --silent --show-error --noproxy '*' --max-time 10 --data-urlencode "query=$query" \
            "$url/api/v1/query") || answer='{}'
        series=$(jq -r 'if .status == "success" then .data.result | length
            else "error " + (.error // "no answer") end' <<<"$answer")
        case $series in
            0) word=EMPTY failed=1 ;;
            error*) word="ERROR (${series#error })" failed=1 ;;
            *) word=ok ;;
        esac
        printf '%s\t%s\t%s\t%s\n' "$word" "$dashboard" "$panel" "$query"
    done < <(queries "$file")
done
((count > 0)) || { printf 'no queries in %s\n' "$folder" >&2 && failed=1; }
exit "$failed"
