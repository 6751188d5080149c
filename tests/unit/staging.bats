#!/usr/bin/env bats
#
# staging.sh and rehearse.sh where no engine is needed: their command lines, the figures of a performance test and their
# comparison, which findings of a security scan fail it, and the settings that are derived for a stack beside another.
# The scripts themselves are run by tests/deployment.
# shellcheck disable=SC2016,SC2030,SC2031,SC2034,SC2154 # variables of the libraries, each test in a process of its own

setup() {
    deployment=$BATS_TEST_DIRNAME/../../deployment
    unset HALDANE_DEPLOYMENT_CONF
    scratch=$BATS_TEST_TMPDIR/scratch
    record=$BATS_TEST_TMPDIR/record
    here=$deployment
    log_file=''
    mkdir "$scratch" "$record"
    # shellcheck source=deployment/lib/log.sh
    source "$deployment/lib/log.sh"
}

never() {
    if "$@"; then
        echo "happened: $*"
        return 1
    fi
}

# figures PROGRAM [OPTION OF JQ]...
figures() {
    jq -L "$deployment/performance" "include \"figures\"; $1" "${@:2}"
}

# --- performance -----------------------------------------------------------------------------------------------------

@test "hey's lines become the figures of a run; a request without a line is a failed one" {
    local csv=$BATS_TEST_TMPDIR/run.csv
    echo 'response-time,DNS+dialup,DNS,Request-write,Response-delay,Response-read,status-code,offset' >"$csv"
    for number in 1 2 3 4 5 6 7 8 9; do
        echo "0.00$number,0,0,0,0,0,200,0.$number" >>"$csv"
    done
    echo '0.100,0,0,0,0,0,503,1.9' >>"$csv"
    figures '[inputs] | run(12)' -Rn "$csv" >"$BATS_TEST_TMPDIR/run.json"
    cat "$BATS_TEST_TMPDIR/run.json"
    jq -e '.requests == 12 and .failed == 3 and .rps == 5 and .p50_ms == 5 and .p95_ms == 100' "$BATS_TEST_TMPDIR/run.json"
}

@test "no line at all: everything failed, and no figure is made up" {
    echo 'header' >"$BATS_TEST_TMPDIR/run.csv"
    figures '[inputs] | run(10)' -Rn "$BATS_TEST_TMPDIR/run.csv" | jq -e '.failed == 10 and .rps == 0 and .p50_ms == null'
}

@test "of several runs the median counts, and every failure" {
    printf '%s\n' '{"requests":10,"failed":0,"rps":100,"p50_ms":5,"p95_ms":9,"p99_ms":9}' \
        '{"requests":10,"failed":1,"rps":90,"p50_ms":50,"p95_ms":90,"p99_ms":99}' \
        '{"requests":10,"failed":0,"rps":101,"p50_ms":6,"p95_ms":10,"p99_ms":11}' |
        figures together -sc | jq -e '.requests == 30 and .failed == 1 and .rps == 100 and .p50_ms == 6 and .p99_ms == 11'
}

result() {
    jq -cn --argjson p50 "$1" --argjson p95 "$2" --argjson rps "$3" \
        '{get: {p50_ms: $p50, p95_ms: $p95, failed: 0, rps: 99}, post: {p50_ms: $p50, p95_ms: $p95, failed: 0, rps: 99},
          capacity: {rps: $rps}, version: "1", at: "then", instances: 2}'
}

worse() {
    figures 'worse($last; 0.2; 2) | map(.what) | join(", ")' -r --argjson last "$1" <<<"$2"
}

@test "worse is more than the tolerance, and more than the floor for times" {
    [ "$(worse "$(result 10 20 1000)" "$(result 11.9 23.9 801)")" = '' ]
    [ "$(worse "$(result 10 20 1000)" "$(result 12.1 20 1000)")" = 'get p50_ms, post p50_ms' ]
    [ "$(worse "$(result 10 20 1000)" "$(result 10 25 1000)")" = 'get p95_ms, post p95_ms' ]
    [ "$(worse "$(result 10 20 1000)" "$(result 10 20 799)")" = 'capacity rps' ]
    # Twice as slow, but by half a millisecond.
    [ "$(worse "$(result 0.5 1 1000)" "$(result 1 2 1000)")" = '' ]
    [ "$(worse "$(result 10 20 1000)" "$(result 5 10 2000)")" = '' ]
}

# compare JSON: what was measured is compared with what is kept.
compare() {
    PERFORMANCE_RATE=100 PERFORMANCE_SECONDS=1 PERFORMANCE_CONNECTIONS=10 PERFORMANCE_RUNS=1 PERFORMANCE_GET_PATH=/
    PERFORMANCE_POST_PATH=/cart PERFORMANCE_TOLERANCE=20% PERFORMANCE_FLOOR_MS=2
    # shellcheck source=deployment/lib/performance.sh
    source "$deployment/lib/performance.sh"
    jq --argjson parameters "$(performance_parameters)" '. + {parameters: $parameters}' <<<"$1" >"$record/performance.json"
    performance_compare "$BATS_TEST_TMPDIR/kept"
}

@test "the first run passes and is kept; a worse one fails and does not become the measure" {
    compare "$(result 10 20 1000)"
    jq -e '.compared_with == null and .passed' "$record/performance.json"
    sleep 1
    run compare "$(result 20 40 1000)"
    [ "$status" -eq 1 ]
    jq -e '.compared_with.version == "1" and (.worse | length) == 4' "$record/performance.json"
    [ "$(find "$BATS_TEST_TMPDIR/kept" -name '*.json' | wc -l)" -eq 1 ]
    run compare "$(result 20 40 1000)"
    [ "$status" -eq 1 ]
}

@test "a run of another kind is compared with nothing" {
    compare "$(result 10 20 1000)"
    jq '.parameters.rate = 7' "$BATS_TEST_TMPDIR"/kept/*.json >"$BATS_TEST_TMPDIR/other" &&
        mv "$BATS_TEST_TMPDIR/other" "$BATS_TEST_TMPDIR"/kept/*.json
    compare "$(result 20 40 500)"
    jq -e '.compared_with == null' "$record/performance.json"
}

@test "requests that failed fail the test, however fast the others were" {
    run compare "$(result 1 1 9000 | jq '.post.failed = 1')"
    [ "$status" -eq 1 ]
}

# --- security --------------------------------------------------------------------------------------------------------

# judge_findings [ACCEPTED LINE]: the result of the findings that were written.
judge_findings() {
    SECURITY_ACCEPTED_FILE=$BATS_TEST_TMPDIR/accepted SECURITY_THRESHOLD=${SECURITY_THRESHOLD:-high}
    SECURITY_REQUIRED=${SECURITY_REQUIRED:-tls,ports}
    printf '# id\tuntil\twhy\n%b' "${1:-}" >"$SECURITY_ACCEPTED_FILE"
    security_result
}

security() {
    # shellcheck source=deployment/lib/security.sh
    source "$deployment/lib/security.sh"
    : >"$scratch/findings"
    : >"$scratch/not-run"
}

@test "a finding at the threshold fails the scan, one below it does not" {
    security
    finding medium tool a-finding here 'what it is'
    judge_findings
    finding high tool another here 'what it is' 'what to do'
    run judge_findings
    [ "$status" -eq 1 ]
    security_tell | grep -q '^high  another  here: what it is (what to do)$'
    jq -e '.counts.high == 1 and .counts.medium == 1 and (.passed | not)' "$record/security.json"
}

@test "a finding that is accepted is listed and does not fail; the day passes, and it fails again" {
    security
    finding critical testssl tls-cert_chain_of_trust here 'self-signed'
    judge_findings 'tls-cert_*\t2999-01-01\tstaging has its own certificate\n'
    jq -e '.accepted == 1 and .counts.critical == 0' "$record/security.json"
    security_tell | grep -q "ACCEPTED: staging has its own certificate"
    run judge_findings 'tls-cert_*\t2020-01-01\tstaging has its own certificate\n'
    [ "$status" -eq 1 ]
}

@test "a pattern of an accepted finding is the shell's, and a dot is a dot" {
    security
    finding high tool a.b here what
    judge_findings 'a.?\t2999-01-01\twhy\n'
    : >"$scratch/findings"
    finding high tool aXb here what
    run judge_findings 'a.b\t2999-01-01\twhy\n'
    [ "$status" -eq 1 ]
}

@test "a required scan that was not run is no scan without findings: 69" {
    security
    not_run 'tls' 'testssl is not installed'
    run judge_findings
    [ "$status" -eq 69 ]
    jq -e '.incomplete == ["tls"]' "$record/security.json"
    : >"$scratch/not-run"
    not_run 'external (trivy)' 'trivy is not installed'
    judge_findings
    security_tell | grep -q 'not run: external (trivy): trivy is not installed'
}

@test "a severity that nobody knows counts as the worst" {
    security
    finding dreadful tool x here what
    run judge_findings
    [ "$status" -eq 1 ]
}

@test "which ports a service may have open" {
    security
    SECURITY_PORTS_FILE=$deployment/security/ports.tsv
    port_expected haproxy 8443
    port_expected shop-green-2 8080
    never port_expected shop-green-2 22
    never port_expected postgres 8080
    never port_expected haldane 80
}

# --- a stack beside another ------------------------------------------------------------------------------------------

# with_config FILE COMMANDS: in a shell of its own, which has read FILE.
with_config() {
    bash -euc 'here=$1; source "$here/lib/log.sh"; source "$here/lib/config.sh"; source "$here/lib/derive.sh"
        config_load "$2"; eval "$3"' - "$deployment" "$1" "$2"
}

@test "derived settings are all settings, with some in place of their own, and can be read again" {
    local mine=$BATS_TEST_TMPDIR/mine.conf derived=$BATS_TEST_TMPDIR/folder/derived.conf
    printf 'SHOP_DRAIN=7s\nSHOP_URL=http://production\n' >"$mine"
    with_config "$mine" "config_derive '$derived' PROJECT=other HTTP_PORT=8099 \"\${derived_places[@]}\""
    run with_config "$derived" 'echo "$PROJECT $HTTP_PORT $SHOP_DRAIN $HALDANE_DEPLOYMENT_CONF<$SHOP_URL>"'
    echo "$output"
    [ "$output" = "other 8099 7s $derived<>" ]
    # Twice over it is the same file.
    with_config "$derived" "config_derive '$derived.again'"
    diff "$derived" "$derived.again"
}

# --- command lines ---------------------------------------------------------------------------------------------------

@test "staging.sh: wrong usage is 64 and says what is wrong" {
    local arguments
    for arguments in '' '--version' '--version a/b' '--version 2 x' '--nonsense' '--version 2 --only nothing' \
        '--version 2 --format xml'; do
        # shellcheck disable=SC2086 # the words of each line are the arguments
        run "$deployment/staging.sh" $arguments
        echo "$arguments: $status $output"
        [ "$status" -eq 64 ]
        [[ $output == *"see staging.sh --help"* ]]
    done
}

@test "staging.sh --dry-run says what would be done, and makes nothing" {
    printf 'STATE_DIR=%s\nRECORDS_DIR=%s\n' "$BATS_TEST_TMPDIR/state" "$BATS_TEST_TMPDIR/records" >"$BATS_TEST_TMPDIR/c"
    run "$deployment/staging.sh" --config "$BATS_TEST_TMPDIR/c" --version 2.0.0 --base 1.0.0 --dry-run
    echo "$output"
    [ "$status" -eq 0 ]
    [[ $output == *'shop-staging'*'with version 1.0.0'*'SLOT=stable VERSION=2.0.0'*'take it down'* ]]
    never test -e "$BATS_TEST_TMPDIR/state"
    never test -e "$BATS_TEST_TMPDIR/records"
}

@test "staging.sh on production's own project or port is refused: 65" {
    echo 'STAGING_PROJECT=shop' >"$BATS_TEST_TMPDIR/c"
    run "$deployment/staging.sh" --config "$BATS_TEST_TMPDIR/c" --version 2 --dry-run
    [ "$status" -eq 65 ]
    echo 'STAGING_HTTP_PORT=80' >"$BATS_TEST_TMPDIR/c"
    run "$deployment/staging.sh" --config "$BATS_TEST_TMPDIR/c" --version 2 --dry-run
    [ "$status" -eq 65 ]
}

@test "rehearse.sh: usage and dry run" {
    run "$deployment/rehearse.sh" --nonsense
    [ "$status" -eq 64 ]
    run "$deployment/rehearse.sh" --strategy neither
    [ "$status" -eq 64 ]
    run "$deployment/rehearse.sh" --strategy blue-green --dry-run
    echo "$output"
    [ "$status" -eq 0 ]
    [[ $output == *'pre-deployment'*'staging'*'blue-green.sh'*'post-deployment'* ]]
}

@test "--help of both names every option" {
    local option
    run "$deployment/staging.sh" --help
    [ "$status" -eq 0 ]
    for option in version base only keep format config dry-run; do
        [[ $output == *"--$option "* ]]
    done
    run "$deployment/rehearse.sh" --help
    [ "$status" -eq 0 ]
    for option in strategy full keep config dry-run; do
        [[ $output == *"--$option "* ]]
    done
}
