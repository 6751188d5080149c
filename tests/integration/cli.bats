#!/usr/bin/env bats
# shellcheck disable=SC2016,SC2030,SC2031,SC2154 # jq is quoted so; $id, $output and $stderr come from scenario.bash and run
#
# What haldane refuses: for each the exit code that scripts rely on, a sentence that says what to mend, and traffic that
# has not moved.

load scenario

setup_file() {
    export DEMO_RATE=200
    scenarios_start
}

teardown_file() {
    stack_stop
}

setup() {
    scenario_begin
    policy policy.yaml
}

teardown() {
    scenario_end
}

commands=(check simulate judge begin advance rollout status list promote hold resume abort report replay traffic)

@test "every command has a page, by help and by --help, and the list names it" {
    local command
    haldane_says 0 --help
    for command in "${commands[@]}"; do
        [[ $output == *"  $command "* ]]
    done
    for command in "${commands[@]}"; do
        haldane_says 0 help "$command"
        [[ $output == "Usage: haldane $command"* && $output == *"Exit codes"* ]] || [[ $command == list ]]
        local page=$output
        haldane_says 0 "$command" --help
        [[ $output == "$page" ]]
    done
    haldane_says 0 --version
    [[ $output == "haldane "*GSL*libcurl*cJSON*libyaml*SQLite* ]]
}

@test "wrong usage: 64" {
    run -64 haldane
    refused 64 'no command `fly`' fly
    refused 64 'no command `fly`' help fly
    refused 64 'options come after it: haldane COMMAND --db' --db x status
    refused 64 'name a POLICY: write `haldane begin POLICY`; `haldane help begin`' begin
    refused 64 'name a POLICY: write `haldane judge POLICY`' judge
    refused 64 'name an ID: write `haldane advance ID`' advance
    refused 64 'name an ID: write `haldane hold ID`' hold --reason lunch
    refused 64 'name an ID.VERDICT.json: write `haldane report ID.VERDICT.json`' report
    refused 64 'write `haldane traffic get POLICY`' traffic
    refused 64 'does not take -x;' status -xyz
    refused 64 'does not know what to do with `b.yaml`' begin policy.yaml b.yaml
    refused 64 'does not take --frobnicate' status --frobnicate
    refused 64 '--set needs a value' begin policy.yaml --set
    refused 64 'give NAME=VALUE' begin policy.yaml --set NAME
    refused 64 '--format xml is not known' status --format xml
    refused 64 '--log-format xml is not known' rollout policy.yaml --log-format xml
    refused 64 '--color pink is not known' rollout policy.yaml --color pink
    refused 64 'either a window of time or --evidence' judge policy.yaml
    refused 64 'not a time' judge policy.yaml --since yesterday
    refused 64 'the share is `500%`, which is no share .* at most 100%' judge policy.yaml --since 1m --weight 500%
    refused 64 'no whole look' judge policy.yaml --since 1s
}

@test "options are refused where a command does not take them" {
    local command
    for command in check begin status advance traffic; do
        refused 64 "does not take --since" "$command" --since 1m
        refused 64 "does not take --reason" "$command" --reason why
    done
    for command in check begin judge replay; do
        refused 64 "does not take --wait" "$command" policy.yaml --wait
    done
    refused 64 'does not take --live' begin policy.yaml --live
    refused 64 'does not take --db' judge policy.yaml --db x
    refused 64 'does not take -o' list -o x
    # Behind -- there are no options.
    refused 66 '--live: No such file' begin -- --live
}

@test "a policy that is wrong: 65, every problem at once with file, line and column" {
    sed -i 's/^look: 1s/look: fast/; s/^service: shop/servce: shop/' policy.yaml
    haldane_says 65 check policy.yaml
    [[ $output == *policy.yaml:2:1:*service* && $output == *policy.yaml:5:* ]]
    refused 65 'policy.yaml:[0-9]+:[0-9]+: ' begin policy.yaml
    refused 65 'policy.yaml:[0-9]+:[0-9]+: ' judge policy.yaml --since 1m
}

@test "a setting that nobody gave: 65; a policy or evidence that is not there: 66" {
    policy unset.yaml job "\${NOBODY_GAVE_THIS}"
    refused 65 'NOBODY_GAVE_THIS' begin unset.yaml
    refused 66 'nowhere.yaml' begin nowhere.yaml
    refused 66 'nowhere.yaml' traffic get nowhere.yaml
    refused 66 'nowhere.json' judge policy.yaml --evidence nowhere.json
    refused 66 'no rollout shop-1' status shop-1
    refused 66 'no rollout shop-1' advance shop-1
    refused 66 'no rollout shop-1' abort shop-1 --reason test
    refused 66 'no rollout shop-1' report shop-1
}

@test "who only reads creates no store, and says which one it means" {
    export HALDANE_DB=$BATS_TEST_TMPDIR/none/haldane.db
    haldane_says 0 status
    [[ $output == "no rollout is under way in the store $HALDANE_DB (there is no such file yet)" && -z $stderr ]]
    haldane_says 0 list
    [[ $output == "no rollouts yet in the store $HALDANE_DB (there is no such file yet)" ]]
    haldane_says 0 list --format json
    [[ -z $output ]]
    refused 66 "no rollout shop: there is no store $HALDANE_DB yet" status shop
    refused 66 "no rollout shop: there is no store $HALDANE_DB yet" report shop
    [[ ! -e $BATS_TEST_TMPDIR/none ]]
}

@test "evidence that is none: 65" {
    echo '{"schema": "haldane.evidence/1"' >cut.json
    refused 65 'cut.json' judge policy.yaml --evidence cut.json
    echo '{"schema": "haldane.verdict/1"}' >other.json
    refused 65 'other.json' replay policy.yaml --evidence other.json
    echo 'no verdict' >report.json
    refused 65 'report.json' report ./report.json
}

@test "a query that finds nothing: 65, with the query" {
    canary
    policy empty.yaml job nowhere
    refused 65 '`http_requests_total\{job="nowhere",track="stable"\}` finds nothing' begin empty.yaml
    haldane_says 65 check empty.yaml --live
    [[ $output == *'finds nothing'* ]]
    haldane_says 0 list
    [[ $output == "no rollouts yet in the store $HALDANE_DB" ]]
}

@test "Prometheus, the balancer, its names: 69 or 65, with the address or the names that there are" {
    local nobody
    canary
    nobody=$("$HALDANE_SOURCE/tests/free_ports")
    policy away.yaml prometheus "http://127.0.0.1:$nobody"
    refused 69 "127.0.0.1:$nobody" begin away.yaml
    refused 69 "127.0.0.1:$nobody" judge away.yaml --since 1m
    policy socket.yaml socket "$BATS_TEST_TMPDIR/none.sock"
    refused 69 'none.sock' begin socket.yaml
    refused 69 'none.sock' traffic get socket.yaml
    policy backend.yaml backend market
    refused 65 'no backend market; it has: .*shop' begin backend.yaml
    policy server.yaml canary canary9
    refused 65 'no server canary9; it has: .*canary1' begin server.yaml
    haldane_says 0 list
    [[ $output == "no rollouts yet in the store $HALDANE_DB" ]]
}

@test "a step that the balancer cannot give: 65, before a rollout comes to it" {
    canary
    policy fine.yaml steps '[{weight: 10%, min: 5m, max: 9m}, {weight: 12.5%, min: 5m, max: 9m}, {weight: 100%, bake: 1m}]'
    haldane_says 0 traffic check fine.yaml
    policy finer.yaml steps '[{weight: 0.1%, min: 5m, max: 9m}, {weight: 10%, min: 5m, max: 9m}, {weight: 100%, bake: 1m}]'
    haldane_says 65 traffic check finer.yaml
    [[ $output == *'wrong: step 1 of the policy: 0.1 % cannot be had with 3 servers'*'the nearest share is 0.1'* ]]
    refused 65 'step 1: 0\.1 % cannot be had' begin finer.yaml
}

@test "a store that cannot be written: 74, before any traffic moves" {
    canary
    touch file
    refused 74 'file/haldane.db' begin policy.yaml --db file/haldane.db
    refused 74 'file/haldane.db' status --db file/haldane.db
    echo 'somebody else' >notes.txt
    refused 74 'notes.txt' begin policy.yaml --db notes.txt
    grep -qx 'somebody else' notes.txt
    shows 0
}

@test "a report that cannot be written: 74, and nothing is left by halves" {
    canary
    begin policy.yaml
    refused 74 'no/such/folder' report "$id" -o no/such/folder/report.txt
    # What is no file is written to, not replaced by one.
    ln -s /dev/full full
    refused 74 'full cannot be written' report "$id" -o full
    [[ -L full ]]
    run bash -c "haldane report $id >/dev/full"
    [[ $status -eq 74 ]]
    [[ -z $(find . -name '*.part') ]]
    [[ $(haldane report "$id" -o /dev/stdout) == *"$id"* ]]
    haldane abort "$id" --reason over
}

@test "a second rollout of the service: 75, naming the first" {
    canary
    begin policy.yaml
    refused 75 "already has the rollout $id .*haldane abort $id" begin policy.yaml
    refused 75 "already has the rollout $id" rollout policy.yaml
    shows 25
    # Another service is another matter, as far as the store goes; but this balancer's canary is taken.
    policy other.yaml service market
    refused 75 'already has 25 % of the traffic' begin other.yaml
    haldane abort "$id" --reason over
    begin policy.yaml
    haldane abort "$id" --reason over
}

@test "two at once on one rollout: while one has it, the other gets 75 with the pid" {
    local pid
    canary
    begin policy.yaml
    # In the middle of asking the balancer: while it waits for Prometheus, the rollout is anybody's.
    send STOP haproxy
    start_bg first haldane advance "$id"
    pid=$(bg_pid first)
    sleep 0.5
    kill -STOP "$pid"
    send CONT haproxy
    refused 75 "held by process $pid" advance "$id"
    # Who only looks is not kept out.
    haldane_says 10 status "$id"
    haldane_says 0 report "$id"
    signal_bg first KILL
    wait_bg first || true
    haldane_says 10 advance "$id"
    shows 25
}

@test "an order is not kept waiting by one that waits for Prometheus" {
    canary
    begin policy.yaml
    send STOP prometheus
    wait_for_due
    start_bg first haldane advance "$id"
    sleep 0.5
    haldane_says 0 hold "$id" --reason test
    signal_bg first KILL
    wait_bg first || true
    send CONT prometheus
    haldane_says 10 advance "$id" --format json
    answer '.state == "held" and .weight == 2500'
    haldane abort "$id" --reason over
}
