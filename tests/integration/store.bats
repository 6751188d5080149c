#!/usr/bin/env bats
# shellcheck disable=SC2016,SC2030,SC2031,SC2154 # bash -c is quoted so; $id, $output and $stderr come from scenario.bash and run
#
# The store on a disk that is full. What must hold for a user: whatever must write says so and ends with 74, what had
# been recorded is still there, traffic can be brought back all the same, and once there is room the rollout goes on.
#
# The disk is a file system of 2 MiB in memory. Where that may not be mounted, no file may grow instead.

load scenario

setup_file() {
    export DEMO_RATE=400
    scenarios_start
}

teardown_file() {
    stack_stop
}

setup() {
    scenario_begin
    disk=$BATS_TEST_TMPDIR/disk
    mkdir -m 0700 "$disk"
    mounted=no
    mount -t tmpfs -o size=2m,mode=0700 haldane "$disk" 2>/dev/null && mounted=yes
    export HALDANE_DB=$disk/haldane.db
    policy policy.yaml
}

# The guard of a rollout has its store open until the rollout has ended; where a test failed, that is not now.
teardown() {
    scenario_end
    [[ $mounted == no ]] || umount --lazy "$disk"
}

fill_disk() {
    [[ $mounted == yes ]] || return 0
    dd if=/dev/zero of="$disk/filler" bs=4k 2>/dev/null || true
    [[ $(df --output=avail "$disk" | tail -n 1) -eq 0 ]]
}

make_room() {
    rm -f "$disk/filler"
}

# full ARGUMENTS...: haldane on the full disk must say so.
full() {
    if [[ $mounted == yes ]]; then
        haldane_says 74 "$@"
    else
        # The limit counts for standard error, too, if that is a file: a pipe stands between.
        run --separate-stderr bash -c \
            '(trap "" XFSZ; ulimit -S -f 0; exec haldane "$@") 2> >(cat >&2)' haldane "$@"
    fi
    [[ $status -eq 74 && $stderr == *"$HALDANE_DB"* && $stderr == *"make room"* ]] || {
        printf 'haldane %s: exit code %s\n%s\n%s\n' "$*" "$status" "$output" "$stderr"
        return 1
    }
}

# advance_looks N: advances until N looks are recorded. A failure on the way is one of the test.
advance_looks() {
    local try
    for ((try = 0; try < 20; try++)); do
        haldane_says 10 advance "$id"
        has_looks "$1" && return 0
        sleep 0.5
    done
    echo "$1 looks were not recorded in 10 s"
    return 1
}

# The rows of everything that is recorded.
recorded() {
    sql "SELECT (SELECT count(*) FROM looks), (SELECT count(*) FROM verdicts), (SELECT count(*) FROM audit),
        (SELECT count(*) FROM intents), (SELECT count(*) FROM weights), (SELECT state FROM rollouts)"
}

@test "no command that writes gets past a full disk, nothing is lost, and with room again the rollout goes on" {
    canary
    begin policy.yaml
    advance_looks 1
    local before
    before=$(recorded)
    shows 25

    wait_for_due
    fill_disk
    full advance "$id"
    full hold "$id" --reason lunch
    full promote "$id" --reason now
    shows 25
    # What is there can be read while the rollout's guard has the store open.
    haldane_says 0 list
    [[ $output == *"$id"* ]]
    haldane_says 0 report "$id"
    make_room

    [[ $(recorded) == "$before" ]]
    record_is_whole
    advance_looks 3
    haldane_says 0 hold "$id" --reason lunch
    haldane_says 0 abort "$id" --reason enough
    shows 0
    record_is_whole
}

@test "a rollout in progress ends with 74 when the disk fills up, and another process takes it over" {
    canary
    start_bg rollout bash -c 'trap "" XFSZ; exec haldane rollout policy.yaml --format json > >(cat) 2>&1'
    wait_until 10 has_begun
    id=$(sql "SELECT id FROM rollouts")
    wait_until 10 has_looks 1
    fill_disk
    if [[ $mounted == no ]]; then
        prlimit --pid "$(bg_pid rollout)" --fsize=0:unlimited
    fi
    local code=0
    wait_bg rollout 20 || code=$?
    [[ $code -eq 74 ]] || {
        echo "exit code $code"
        cat rollout.log
        return 1
    }
    grep -q 'make room' rollout.log
    make_room
    record_is_whole
    # The balancer had been put on stable, which could not be recorded: nobody gives the canary traffic unasked.
    haldane_says 10 advance "$id" --format json
    answer '.state == "held" and .weight == 0'
    haldane_says 0 resume "$id" --reason 'there is room again'
    advance_looks 3
    haldane_says 0 abort "$id" --reason enough
    shows 0
    record_is_whole
}

@test "traffic goes back to stable on a full disk, by abort and without the store, and none goes up" {
    canary
    begin policy.yaml
    shows 25
    fill_disk
    full abort "$id" --reason trouble
    shows 0
    haldane_says 0 traffic stable policy.yaml
    shows 0
    policy other.yaml service other
    full begin other.yaml
    shows 0
    make_room
    haldane_says 0 abort "$id" --reason enough
    shows 0
    record_is_whole
}
