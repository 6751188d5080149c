# shellcheck shell=bash
# shellcheck disable=SC2034 # the answers are the tests'
#
# canary.sh with settings, where haldane is a player of prepared answers (canary/haldane) and the commands of the
# settings write into the same journal (canary/step.sh). For the test files that say `load canary/strategy`.

# strategy_begin: for setup.
strategy_begin() {
    export PLAYER=$BATS_TEST_TMPDIR/player
    mkdir "$PLAYER"
    cp "$BATS_TEST_DIRNAME/canary/haldane" "$BATS_TEST_TMPDIR/haldane"
    export PATH=$BATS_TEST_TMPDIR:$PATH
    unset HALDANE_DB HALDANE_SERVER HALDANE_DEPLOYMENT_CONF
    canary=$BATS_TEST_DIRNAME/../../deployment/canary.sh
    records=$BATS_TEST_TMPDIR/records
    versions=$BATS_TEST_TMPDIR/state/versions
    mkdir "$BATS_TEST_TMPDIR/textfile"
    echo 'service: shop' >"$BATS_TEST_TMPDIR/shop.yaml"
    write_settings
    echo 0 >"$PLAYER/share"
    plays traffic-check '0 {"ready":true,"findings":[]}'
    plays report '0 <html>'
    plays begin '10 {"rollout":"shop-1","service":"shop","state":"stepping","weight":500,"step":0}'
    stepping='10 {"rollout":"shop-1","state":"stepping","decision":"hold","weight":500,"step":0,"reason":"early"}'
    promoted='0 {"rollout":"shop-1","state":"promoted","decision":"promote","weight":10000,"step":3,"reason":"safe"}'
    aborted='20 {"rollout":"shop-1","state":"aborted","decision":"abort","weight":0,"reason":"fails 3 x as often"}'
    plays advance "$stepping" "$promoted"
}

write_settings() {
    local step=$BATS_TEST_DIRNAME/canary/step.sh
    cat >"$BATS_TEST_TMPDIR/d.conf" <<END
PROJECT=test
STATE_DIR=$BATS_TEST_TMPDIR/state
RECORDS_DIR=$records
BACKUP_DIR=$BATS_TEST_TMPDIR/backups
TEXTFILE_DIR=$BATS_TEST_TMPDIR/textfile
POLICIES=$BATS_TEST_TMPDIR
CANARY_POLICY=shop.yaml
HALDANE_POLICIES=
HALDANE_COMMAND=haldane
SERVICE=shop
HEALTH_CHECK_COMMAND=$step health
BACKUP_CHECK_COMMAND=$step backup
IMAGE_CHECK_COMMAND=$step image "\$VERSION"
DEPLOY_COMMAND=$step deploy "\$SLOT" "\$VERSION"
SMOKE_COMMAND=$step smoke "\$SLOT" "\$HEADER"
WARM_COMMAND=$step warm "\$SLOT"
STOP_COMMAND=$step stop "\$SLOT"
CANARY_HEALTH=true
CANARY_POLL=1
CAPACITY_QUERY=
PREFLIGHT_DISK_FREE=1
PREFLIGHT_MEMORY_FREE=1
END
}

# plays COMMAND LINE...: what the player answers to the command, one line a call.
plays() {
    local command=$1
    shift
    printf '%s\n' "$@" >"$PLAYER/$command"
}

# step NAME COMMAND: what the command of the settings does, besides saying that it was called.
step() {
    printf '%s\n' "$2" >"$PLAYER/step-$1"
}

run_canary() {
    run "$canary" --config "$BATS_TEST_TMPDIR/d.conf" "$@"
}

# The words of the journal that say what was changed, in their order.
changes() {
    sed -nE 's/^haldane (begin|abort|advance|traffic (stable|drain canary)).*/\1/p; /^(deploy|smoke|warm|stop) /p' \
        "$PLAYER/journal" | uniq
}

never() {
    if "$@"; then
        echo "happened: $*"
        return 1
    fi
}

said() {
    grep -q -- "$1" "$PLAYER/journal"
}

# The record of the newest deployment.
record() {
    find "$records" -mindepth 1 -maxdepth 1 -type d | sort | tail -n 1
}

# told FILTER: of the record as JSON.
told() {
    jq -r "$1" "$(record)/record.json"
}
