#!/usr/bin/env bats
# shellcheck disable=SC2016,SC2154 # backticks are quoted so; $output and $stderr come from run
#
# haldane simulate as a user calls it: no server is needed, the same seed gives the same answer, and what cannot be made
# up is refused with what can.

load helpers

haldane=$HALDANE_BUILD/analyzer/cli/haldane
policy=$BATS_TEST_DIRNAME/../../policies/http-service.yaml

simulate() {
    "$haldane" simulate "$policy" "$@"
}

@test "a bad canary is caught, a healthy one promoted, and the table says so" {
    run -0 --separate-stderr simulate --scenario aa-iid --scenario err-5 --runs 20
    [[ $output == *"HEALTHY CANARY"*"aa-iid"*"BAD CANARY"*"err-5"* ]]
    [[ $output == *"the policy allows 5 %"* ]]
    [[ $(wc -L <<<"$output") -le 100 ]]
    [[ -z $stderr ]]
    simulate --scenario aa-iid --scenario err-5 --runs 20 --format json >"$BATS_TEST_TMPDIR/answer"
    jq -e '.schema == "haldane.simulation/1" and (.scenarios | length) == 2' "$BATS_TEST_TMPDIR/answer"
    jq -e '.scenarios[0].promoted.runs >= 18' "$BATS_TEST_TMPDIR/answer"
    jq -e '.scenarios[1].aborted.share == 1 and .scenarios[1].seconds_to_abort.median < 600' "$BATS_TEST_TMPDIR/answer"
}

@test "the same seed gives the same answer, another seed another" {
    simulate --scenario err-2 --runs 10 --seed 5 --format json >"$BATS_TEST_TMPDIR/one"
    simulate --scenario err-2 --runs 10 --seed 5 --format json >"$BATS_TEST_TMPDIR/same"
    simulate --scenario err-2 --runs 10 --seed 6 --format json >"$BATS_TEST_TMPDIR/other"
    cmp "$BATS_TEST_TMPDIR/one" "$BATS_TEST_TMPDIR/same"
    run -1 diff <(jq .scenarios "$BATS_TEST_TMPDIR/one") <(jq .scenarios "$BATS_TEST_TMPDIR/other")
}

@test "traffic and schedule are those that were asked for" {
    simulate --scenario aa-iid --scenario 1rps-20 --runs 3 --rps 20 --error-rate 1% --step 5m --format json \
        >"$BATS_TEST_TMPDIR/answer"
    jq -e '.scenarios[0] | .requests_per_second == 20 and .error_rate == 0.01 and .step_seconds == 300' \
        "$BATS_TEST_TMPDIR/answer"
    jq -e '.scenarios[0] | .undecided.runs == 3 and .promoted.runs == 0' "$BATS_TEST_TMPDIR/answer"
    jq -e '.scenarios[1].requests_per_second == 1' "$BATS_TEST_TMPDIR/answer"
}

@test "the page is a file of its own: well-formed, without scripts, with pictures" {
    simulate --scenario aa-iid --scenario err-2 --scenario err-5 --runs 5 --format html -o "$BATS_TEST_TMPDIR/page.html"
    python3 -c 'import sys, xml.etree.ElementTree as tree; tree.parse(sys.argv[1])' "$BATS_TEST_TMPDIR/page.html"
    [[ $(grep -c '<svg' "$BATS_TEST_TMPDIR/page.html") -ge 3 ]]
    run -1 grep -i '<script\|https\?://' "$BATS_TEST_TMPDIR/page.html"
}

@test "what is no scenario or no number: 64, and what would be one" {
    run -64 --separate-stderr simulate --scenario err2
    [[ $stderr == *'did you mean `err-2`'*aa-iid*1000rps-2* ]]
    run -64 --separate-stderr simulate --scenario everything-is-fine
    [[ $stderr == *'no scenario `everything-is-fine`; there are: aa-iid'* ]]
    local wrong
    for wrong in '--runs 0' '--runs 1e3' '--runs -1' '--seed -1' '--seed x' '--rps 0' '--rps many' '--error-rate 200%' \
        '--step 1s' '--step soon' '--format md'; do
        # shellcheck disable=SC2086 # an option and its value
        run -64 --separate-stderr simulate $wrong
        [[ -z $output && $stderr == "haldane: "* ]]
    done
    run -66 --separate-stderr "$haldane" simulate "$BATS_TEST_TMPDIR/none.yaml"
    run -74 --separate-stderr simulate --scenario err-5 --runs 1 -o "$BATS_TEST_TMPDIR/none/page"
}
