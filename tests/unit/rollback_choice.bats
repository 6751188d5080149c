#!/usr/bin/env bats
#
# Which colour rollback.sh takes for the good one, by what the records, the balancer, the memory and haldane say; and
# what the memory says of versions after a return. haldane is a player of prepared answers (canary/haldane); the real
# things: tests/integration/rollback.bats.

setup() {
    export PLAYER=$BATS_TEST_TMPDIR/player
    mkdir "$PLAYER" "$BATS_TEST_TMPDIR/state" "$BATS_TEST_TMPDIR/records" "$BATS_TEST_TMPDIR/textfile"
    cp "$BATS_TEST_DIRNAME/canary/haldane" "$BATS_TEST_TMPDIR/haldane"
    export PATH=$BATS_TEST_TMPDIR:$PATH
    unset HALDANE_DB HALDANE_SERVER HALDANE_DEPLOYMENT_CONF
    deployment=$BATS_TEST_DIRNAME/../../deployment
    versions=$BATS_TEST_TMPDIR/state/versions
    cat >"$BATS_TEST_TMPDIR/test.conf" <<END
PROJECT=test
STRATEGY=blue-green
STATE_DIR=$BATS_TEST_TMPDIR/state
RECORDS_DIR=$BATS_TEST_TMPDIR/records
TEXTFILE_DIR=$BATS_TEST_TMPDIR/textfile
HALDANE_COMMAND=haldane
HALDANE_POLICIES=
SHOP_URL=http://127.0.0.1:9
OPS_URL=none
BALANCER_COMMAND=$BATS_TEST_TMPDIR/weights
PROOF_REQUESTS=1
END
    balancer_has 0 100
    printf '10 {"rollout":"shop-1","state":"stepping"}\n' >"$PLAYER/status"
    printf '69\n' >"$PLAYER/traffic-get"
}

# balancer_has BLUE GREEN: weights; `none`: the balancer cannot be reached.
balancer_has() {
    if [ "$1" = none ]; then
        printf '#!/bin/bash\nexit 1\n'
    else
        # shellcheck disable=SC2016 # the script's own variables
        printf '#!/bin/bash\nread -r line\ncase $line in *blue*) echo "%s (initial 100)" ;; *) echo "%s (initial 100)" ;; esac\n' \
            "$1" "$2"
    fi >"$BATS_TEST_TMPDIR/weights"
    chmod +x "$BATS_TEST_TMPDIR/weights"
}

haldane_says() {
    printf '%s\n' "$1" >"$PLAYER/status"
}

# unfinished GOOD: the record of a switch that has not ended.
unfinished() {
    local folder=$BATS_TEST_TMPDIR/records/20260101T000000Z-shop-1
    mkdir -p "$folder"
    printf '{"strategy":"blue-green","name":"shop","live":"blue","idle":"green","good":"%s","started":"1700000000"}\n' \
        "$1" >"$folder/state.json"
}

takes() {
    run "$deployment/rollback.sh" --config "$BATS_TEST_TMPDIR/test.conf" --dry-run
    echo "$output"
    [ "$status" -eq 0 ]
    [[ $output == *"Would put all traffic on $1,"* ]]
}

nobody_knows() {
    run "$deployment/rollback.sh" --config "$BATS_TEST_TMPDIR/test.conf" --dry-run
    echo "$output"
    [ "$status" -eq 66 ]
    [[ $output == *'--to VERSION'* ]]
}

@test "a switch that has not ended is gone back from, wherever the traffic and the memory are" {
    unfinished blue
    takes blue
    echo LIVE=green >"$versions"
    haldane_says 69
    takes blue
    unfinished green
    balancer_has 100 0
    takes green
}

@test "no record of a switch: during a rollout it is the memory that counts, else the balancer" {
    echo LIVE=blue >"$versions"
    takes blue
    haldane_says 66
    takes green
    [[ $output == *'the balancer is believed'* ]]
    balancer_has 100 0
    takes blue
}

@test "no memory: the balancer is asked; during a rollout, or where haldane does not say, nobody is moved by a guess: 66" {
    haldane_says 0
    takes green
    balancer_has 100 0
    takes blue
    haldane_says 10
    nobody_knows
    haldane_says 69
    nobody_knows
    echo LIVE=green >"$versions"
    nobody_knows
}

@test "the traffic is split, or the balancer is silent: the memory, and without it 66" {
    balancer_has 95 5
    nobody_knows
    balancer_has none
    nobody_knows
    echo LIVE=green >"$versions"
    takes green
    balancer_has 95 5
    takes green
}

@test "a return takes the version that was left off the good ones" {
    local STATE_DIR=$BATS_TEST_TMPDIR/state
    # shellcheck source=deployment/lib/versions.sh
    source "$deployment/lib/versions.sh"
    record_good 0.9
    record_good 1.0
    record_good 2.0
    record_return 1.0
    [ "$(last_good)" = 1.0 ]
    ! previous_good || false
    record_good 2.1
    record_good 3.0
    record_return 0.9
    [ "$(last_good)" = 0.9 ]
    [ "$(previous_good)" = 2.1 ]
    record_return 0.9
    [ "$(previous_good)" = 2.1 ]
}

@test "a record that is closed ends in the file for node-exporter too, unless that tells of a newer one" {
    local file
    # shellcheck disable=SC2034 # of the libraries
    local TEXTFILE_DIR=$BATS_TEST_TMPDIR/textfile PROJECT=test RECORDS_DIR=$BATS_TEST_TMPDIR/records
    # shellcheck source=deployment/lib/log.sh
    source "$deployment/lib/log.sh"
    # shellcheck source=deployment/lib/record.sh
    source "$deployment/lib/record.sh"
    file=$TEXTFILE_DIR/haldane_deployment_test_blue-green.prom
    (
        record_open blue-green shop
        record_set version 2
        phase deploy
        echo "$record" >"$BATS_TEST_TMPDIR/record"
    )
    grep -q '^haldane_deployment_phase{project="test",.*phase="deploy"} 1$' "$file"
    record_close "$(cat "$BATS_TEST_TMPDIR/record")" on_stable 20
    ! grep -q '^haldane_deployment_phase{' "$file" || false
    grep -q '^haldane_deployment_outcome{.*outcome="on_stable"} 1$' "$file"
    unfinished blue
    record_close "$BATS_TEST_TMPDIR/records/20260101T000000Z-shop-1" on_stable 20
    grep -q 'version="2"' "$file"
}
