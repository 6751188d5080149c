#!/usr/bin/env bash
#
# What the shop's interface promises beyond single answers, asked of SHOP_URL: that what comes from the cache is what
# comes from the database, that one order stays one order however often and from how many sides it is sent, that HTTP
# and TLS answer alike, and that what is not understood is refused and breaks nothing.
#
# Exit codes: 0 passed, 1 failed, 69 nobody answered.
set -euo pipefail

url=${SHOP_URL:?the address of the shop}
tls_url=${SHOP_TLS_URL:-}
scratch=$(mktemp -d)
trap 'rm -rf -- "$scratch"' EXIT
failed=0

check() {
    local what=$1
    shift
    if "$@"; then
        printf 'ok      %s\n' "$what"
    else
        printf 'FAILED  %s\n' "$what"
        failed=$((failed + 1))
    fi
}

# ask PATH [OPTION OF CURL]...: the body; fails on 4xx and 5xx.
ask() {
    curl --silent --show-error --fail --noproxy '*' --max-time 5 ${HEADER:+--header "$HEADER"} "${@:2}" "$url$1"
}

code_of() {
    curl --silent --output /dev/null --write-out '%{http_code}' --noproxy '*' --max-time 5 \
        ${HEADER:+--header "$HEADER"} "${@:2}" "$url$1" || true
}

same_item_twice() {
    local item=$1
    ask "/items/$item" >"$scratch/first" && ask "/items/$item" >"$scratch/second" &&
        cmp -s "$scratch/first" "$scratch/second"
}

items_agree() {
    local item
    for item in 1 2 3 500 1000; do
        same_item_twice "$item" || return 1
    done
}

# What the list says of an item is what its own page says.
list_agrees() {
    local first
    first=$(ask /items | jq -c '.items[0] | {id, name, price_cents}') || return 1
    [[ $(ask "/items/$(jq .id <<<"$first")" | jq -c '{id, name, price_cents}') == "$first" ]]
}

# Ten at once with one key, as a client with a bad connection and a short patience would send them.
one_order() {
    local key=api-test-$$-$RANDOM number jobs=()
    for number in {1..10}; do
        ask /order --header "Idempotency-Key: $key" --header 'Content-Type: application/json' \
            --data '{"item":3,"quantity":2}' >"$scratch/order-$number" 2>/dev/null &
        jobs+=("$!")
    done
    for number in "${jobs[@]}"; do
        wait "$number" || true
    done
    ask /order --header "Idempotency-Key: $key" --header 'Content-Type: application/json' \
        --data '{"item":3,"quantity":2}' >"$scratch/order-last" || return 1
    [[ $(cat "$scratch"/order-* | jq -s 'map(.order) | unique | length') == 1 ]]
}

two_orders() {
    local first second
    first=$(ask /order --header 'Content-Type: application/json' --data '{"item":3,"quantity":1}' | jq .order) || return 1
    second=$(ask /order --header 'Content-Type: application/json' --data '{"item":3,"quantity":1}' | jq .order) || return 1
    [[ $first != null && $first != "$second" ]]
}

refused() {
    [[ $(code_of "$1" "${@:3}") =~ ^$2$ ]]
}

tls_agrees() {
    [[ $(curl --silent --insecure --noproxy '*' --max-time 5 ${HEADER:+--header "$HEADER"} "$tls_url/items/7") == "$(ask /items/7)" ]]
}

ask /readyz >/dev/null || exit 69
check 'an item read again is the same item' items_agree
check 'the list and the pages agree' list_agrees
check 'one key is one order, also ten times at once' one_order
check 'two orders without a key are two orders' two_orders
check 'an item that is no number is refused' refused /items/seven 4..
check 'a method that nobody knows is refused' refused / '405|501|400' --request NONSENSE
check 'a path that is too long is refused' refused "/$(printf 'a%.0s' {1..4000})" 4..
check 'a body that is cut short does not break the next request' \
    refused /order '2..|4..' --header 'Content-Type: application/json' --data '{"item":'
check 'it still answers' refused /items/1 200
[[ -z $tls_url ]] || check 'TLS and plain HTTP answer alike' tls_agrees

((failed == 0)) || exit 1
