#!/usr/bin/env bats
#
# canary.sh with settings: the whole strategy in its order, what each failure undoes, and how a deployment that was
# killed in any of its phases is taken up again. haldane is a player of prepared answers (canary/haldane), the commands
# of the settings write into the same journal (canary/step.sh). The real things: tests/integration/canary.bats.

setup() {
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

# kill_at TEXT: starts canary.sh, waits for the journal to say TEXT, and kills every process of it with KILL, as the
# machine's going down would.
kill_at() {
    local at=$1 try
    shift
    setsid "$canary" --config "$BATS_TEST_TMPDIR/d.conf" --version 2 "$@" >/dev/null 2>&1 3>&- &
    for ((try = 0; try < 600; try++)); do
        ! grep -q -- "$at" "$PLAYER/journal" 2>/dev/null || break
        sleep 0.1
    done
    grep -q -- "$at" "$PLAYER/journal"
    kill -KILL -- "-$!"
    wait "$!" || true
}

@test "the whole way: each step in its order, stable last, and nothing stopped before it is proven" {
    run_canary --version 2
    echo "$output"
    [ "$status" -eq 0 ]
    diff <(changes) - <<'END'
deploy canary 2
smoke canary X-Canary: always
warm canary
begin
advance
deploy stable 2
smoke stable X-Canary: never
traffic stable
traffic drain canary
stop canary
END
    grep -qx 'LAST_GOOD=2' "$versions"
    grep -qx 'STABLE=2' "$versions"
    grep -qx 'LIVE=stable' "$versions"
}

@test "the record tells who, when, which versions, each phase and check, the verdict, and is nobody else's" {
    mkdir "$BATS_TEST_TMPDIR/state"
    printf 'STABLE=1\nLAST_GOOD=1\n' >"$versions"
    run_canary --version 2
    [ "$status" -eq 0 ]
    [ "$(told .outcome)" = promoted ]
    [ "$(told .version)" = 2 ]
    [ "$(told .exit_code)" = 0 ]
    [ "$(told .versions.before.stable)" = 1 ]
    [ "$(told .versions.after.stable)" = 2 ]
    [ "$(told .verdict.state)" = promoted ]
    [ "$(told '[.phases[].name] | join(" ")')" = \
        'preflight deploy health smoke warm rollout promote return drain cleanup' ]
    [ "$(told '[.phases[] | select(.result != "ok" or .seconds == null)] | length')" = 0 ]
    [ "$(told '[.preflight[] | select(.result != "passed")] | length')" = 0 ]
    [ "$(told '[.preflight[].name] | join(" ")')" = \
        'policy share rollouts unfinished tools disk memory health image backup balancer metrics' ]
    [ "$(stat -c %a "$(record)")" = 700 ]
    grep -q '^| outcome | promoted, exit code 0 |$' "$(record)/record.md"
    [ "$(wc -l <"$(record)/verdicts.jsonl")" -ge 2 ]
    jq -es 'map(select(.event == "look")) | map(.state) | last == "promoted"' "$(record)/telemetry.jsonl"
    grep -q '^haldane_deployment_outcome{strategy="canary",name="shop",version="2",outcome="promoted"} 1$' \
        "$BATS_TEST_TMPDIR/textfile/haldane_deployment_canary.prom"
}

@test "aborted: exit 20, the canary is stopped, stable is never touched" {
    plays advance "$stepping" "$aborted"
    run_canary --version 2
    [ "$status" -eq 20 ]
    said 'stop canary'
    never said 'deploy stable'
    [ "$(told .outcome)" = on_stable ]
    [ "$(told .reason)" = 'fails 3 x as often' ]
    never grep -qx 'LAST_GOOD=2' "$versions"
}

@test "all checks are run before one is judged; what failed first says the exit code; nothing is deployed" {
    step health 'echo "{\"checks\":[{\"name\":\"cache\",\"status\":\"fail\",\"message\":\"gone\"}]}"; exit 2'
    step backup 'echo "the newest backup is 3 days old"; exit 1'
    plays check 65
    run_canary --version 2
    echo "$output"
    [ "$status" -eq 65 ]
    [[ $output == *'health: failed: down: cache fail: gone'* ]]
    [[ $output == *'backup: failed: exit code 1: the newest backup is 3 days old'* ]]
    [[ $output == *'image: passed'* ]]
    never said '^deploy'
    [ "$(jq -r '[.[] | select(.result == "failed") | .name] | join(" ")' "$(record)/preflight.json")" = \
        'policy health backup metrics' ]
}

@test "degraded is not enough, unless it is accepted; a check can be left out, which is recorded" {
    step health 'echo "{\"checks\":[{\"name\":\"disk\",\"status\":\"warn\",\"message\":\"12 % free\"}]}"; exit 1'
    step backup 'exit 1'
    run_canary --version 2
    [ "$status" -eq 75 ]
    [[ $output == *'disk warn: 12 % free'* ]]
    run_canary --version 2 --accept-degraded --skip-check backup
    [ "$status" -eq 0 ]
    [ "$(told '.preflight[] | select(.name == "backup") | .result')" = skipped ]
}

@test "another rollout of the service is under way: exit 75, nothing deployed; with --supersede it goes on" {
    plays status '0 {"rollout":"shop-0","service":"shop","state":"stepping"}'
    echo 500 >"$PLAYER/share"
    run_canary --version 2
    [ "$status" -eq 75 ]
    [[ $output == *'shop-0 (stepping) is under way'* ]]
    never said '^deploy'
    run_canary --version 2 --supersede
    [ "$status" -eq 0 ]
    said '^haldane begin .* --supersede'
}

@test "no image, or a canary that fails its smoke test: exit 75 or 1, no traffic, the canary is stopped" {
    step image 'exit 1'
    run_canary --version 2
    [ "$status" -eq 75 ]
    never said '^deploy'
    rm "$PLAYER/step-image"
    step smoke-canary 'echo "POST /order: 500"; exit 1'
    run_canary --version 2
    [ "$status" -eq 1 ]
    [[ $output == *'failed its smoke test (exit code 1): POST /order: 500'* ]]
    never said '^haldane begin'
    said 'stop canary'
}

@test "a cache that stays cold is told, and does not stop the deployment" {
    step warm 'exit 1'
    run_canary --version 2
    [ "$status" -eq 0 ]
    [[ $output == *"caches are not warm"* ]]
}

@test "--no-promote ends with the canary promoted, and leaves stable alone" {
    run_canary --version 2 --no-promote
    [ "$status" -eq 0 ]
    never said 'deploy stable'
    never said 'traffic stable'
    never said 'stop canary'
}

@test "stable cannot be brought along: exit 10, users stay on the canary, --resume goes on from there" {
    step deploy-stable 'echo "no space left"; exit 1'
    run_canary --version 2
    echo "$output"
    [ "$status" -eq 10 ]
    [[ $output == *'STABLE IS NOT THERE YET'* ]]
    [[ $output == *"--resume=$(record)"* ]]
    never said 'traffic stable'
    never said 'stop canary'
    never grep -qx 'LAST_GOOD=2' "$versions"
    rm "$PLAYER/step-deploy-stable"
    run_canary --resume
    [ "$status" -eq 0 ]
    [ "$(grep -c '^haldane begin' "$PLAYER/journal")" -eq 1 ]
    said 'stop canary'
    grep -qx 'LAST_GOOD=2' "$versions"
    [ "$(told .resumed)" = 1 ]
    [ "$(told .outcome)" = promoted ]
}

@test "stable fails its smoke test: exit 10, it gets no traffic" {
    step smoke-stable 'exit 1'
    run_canary --version 2
    [ "$status" -eq 10 ]
    never said 'traffic stable'
}

@test "the balancer does not give stable its traffic back: exit 10, the canary is not stopped" {
    plays traffic-stable 69
    run_canary --version 2
    [ "$status" -eq 10 ]
    never said 'stop canary'
}

@test "somebody rolled back after the promotion: stable is not deployed, exit 20" {
    plays advance '0 {"state":"promoted","decision":"promote","weight":0}'
    run_canary --version 2
    [ "$status" -eq 20 ]
    never said 'deploy stable'
}

# What must hold however it was killed: taken up again it ends as if it had not been, and begins no second rollout.
takes_up() {
    local resumed
    rm -f "$PLAYER"/step-*
    resumed=$("$canary" --config "$BATS_TEST_TMPDIR/d.conf" --resume 2>&1) || {
        echo "resume ended with $?: $resumed"
        return 1
    }
    [ "$(grep -c '^haldane begin' "$PLAYER/journal")" -eq 1 ]
    grep -qx 'LAST_GOOD=2' "$versions"
    said 'stop canary'
    [ "$(told .outcome)" = promoted ]
    [ "$(told .resumed)" = 1 ]
    [ -z "$(find "$records" -name state.json -exec jq -r 'select(has("outcome") | not) | .stage' {} +)" ]
}

@test "killed during the pre-flight, the deploy, the smoke test, the warm-up: --resume starts it again" {
    local at
    for at in backup 'deploy canary' 'smoke canary' 'warm canary'; do
        rm -rf "$PLAYER/journal" "$PLAYER"/*.count "$records" "$BATS_TEST_TMPDIR/state"
        step "${at// /-}" 'exec sleep 30'
        kill_at "$at"
        never said 'haldane begin'
        takes_up
    done
}

@test "the deploy command of a deployment that was killed is ended before the next one" {
    step deploy-canary "echo \$\$ >$BATS_TEST_TMPDIR/pid; exec sleep 60"
    kill_at 'deploy canary'
    while [ ! -s "$BATS_TEST_TMPDIR/pid" ]; do sleep 0.1; done
    kill -0 "$(cat "$BATS_TEST_TMPDIR/pid")"
    takes_up
    never kill -0 "$(cat "$BATS_TEST_TMPDIR/pid")"
}

@test "killed while haldane begins: the rollout is found, and followed" {
    plays begin "sleep=20 $(cat "$PLAYER/begin")"
    local form='{"rollout":"%s","service":"%s","begun_at":"%s-01-01T00:00:00.123Z"} '
    # shellcheck disable=SC2059 # the form is used three times
    plays status "10 $(printf "$form$form$form" shop-0 shop 2020 other-9 other 2100 shop-1 shop 2100)"
    kill_at '^haldane begin' --skip-check rollouts
    takes_up
    said '^haldane advance shop-1'
}

@test "killed while haldane begins, and it had not begun: it is begun again" {
    plays begin "sleep=20 $(cat "$PLAYER/begin")"
    kill_at '^haldane begin'
    plays begin '10 {"rollout":"shop-1","service":"shop","state":"stepping","weight":500,"step":0}'
    rm -f "$PLAYER"/*.count
    run_canary --resume
    echo "$output"
    [ "$status" -eq 0 ]
    [ "$(grep -c '^haldane begin' "$PLAYER/journal")" -eq 2 ]
    grep -qx 'LAST_GOOD=2' "$versions"
}

@test "killed during the rollout: --resume follows it; haldane's abort is the end also then" {
    plays advance "$stepping"
    kill_at '^haldane advance'
    plays advance "$promoted"
    takes_up

    rm -rf "$PLAYER/journal" "$PLAYER"/*.count "$records"
    echo 0 >"$PLAYER/share"
    plays advance "$stepping"
    kill_at '^haldane advance'
    plays advance '20 {"state":"expired","decision":"abort","weight":0,"reason":"the lease has run out"}'
    run_canary --resume
    [ "$status" -eq 20 ]
    said 'stop canary'
}

@test "killed while stable is brought along, tried, or given its traffic: --resume goes on" {
    local at
    for at in 'deploy stable' 'smoke stable' 'haldane traffic drain' 'stop canary'; do
        rm -rf "$PLAYER/journal" "$PLAYER"/*.count "$records" "$BATS_TEST_TMPDIR/state"
        step "${at// /-}" 'exec sleep 30'
        plays traffic-drain 'sleep=20 0'
        [[ $at == *drain* ]] || plays traffic-drain 0
        kill_at "^$at"
        plays traffic-drain 0
        takes_up
    done
}

@test "one that was killed keeps a new one from beginning, until it is taken up or rolled back" {
    plays advance "$stepping"
    kill_at '^haldane advance'
    run_canary --version 3
    [ "$status" -eq 75 ]
    [[ $output == *'was interrupted; first: canary.sh --resume'* ]]
}

@test "TERM while stable is brought along: exit 10, and it can be taken up" {
    step deploy-stable 'exec sleep 30'
    env --default-signal=INT,TERM,HUP "$canary" --config "$BATS_TEST_TMPDIR/d.conf" --version 2 >/dev/null 2>&1 3>&- &
    local try code=0
    for ((try = 0; try < 600; try++)); do
        ! said 'deploy stable' || break
        sleep 0.1
    done
    kill -TERM "$!"
    wait "$!" || code=$?
    [ "$code" -eq 10 ]
    never said 'traffic stable'
    takes_up
}

@test "rollback.sh's request to stop: aborted in the rollout, nothing begun before it, stable forced after it" {
    local try code
    for at in 'smoke canary' 'haldane advance' 'deploy stable'; do
        rm -rf "$PLAYER/journal" "$PLAYER"/*.count "$records"
        echo 0 >"$PLAYER/share"
        plays abort '0 {"state":"aborted","weight":0}'
        plays advance "$stepping"
        [[ $at != 'deploy stable' ]] || plays advance "$promoted"
        step "${at// /-}" 'exec sleep 30'
        "$canary" --config "$BATS_TEST_TMPDIR/d.conf" --version 2 >/dev/null 2>&1 3>&- &
        for ((try = 0; try < 600; try++)); do
            ! said "^$at" 2>/dev/null || break
            sleep 0.1
        done
        touch "$(record)/stop"
        code=0
        wait "$!" || code=$?
        echo "$at: $code"
        [ "$code" -eq 20 ]
        said 'stop canary'
        case $at in
            smoke*) never said 'haldane begin' ;;
            haldane*) said 'haldane abort shop-1' ;;
            deploy*) said 'haldane traffic stable' ;;
        esac
    done
}

@test "--resume: of one that has ended its outcome, of nothing 66, of one that runs 75" {
    run_canary --version 2
    [ "$status" -eq 0 ]
    run_canary --resume
    [ "$status" -eq 66 ]
    [[ $output == *'was left unfinished'* ]]
    run_canary --resume "$(record)"
    [ "$status" -eq 0 ]
    [[ $output == *'has ended: promoted'* ]]
    run_canary --resume "$BATS_TEST_TMPDIR"
    [ "$status" -eq 66 ]
}

@test "a dry run checks, says what would be done in its order, and changes nothing" {
    run_canary --version 2 --dry-run
    echo "$output"
    [ "$status" -eq 0 ]
    [ ! -e "$records" ]
    [ ! -e "$versions" ]
    [ -z "$(changes)" ]
    [[ $output == *'VERSION=2'*'haldane begin'*'then deploy stable'* ]]
    step backup 'exit 1'
    run_canary --version 2 --dry-run
    [ "$status" -eq 75 ]
}

@test "options beat the settings; without --version no setting counts" {
    run_canary --version 2 --deploy "$BATS_TEST_DIRNAME/canary/step.sh mine" --poll 2 \
        --log-dir "$BATS_TEST_TMPDIR/elsewhere"
    [ "$status" -eq 0 ]
    said '^mine$'
    never said '^deploy canary'
    said '^deploy stable 2'
    [ -d "$BATS_TEST_TMPDIR/elsewhere" ]
    run_canary --policy "$BATS_TEST_TMPDIR/shop.yaml" --deploy true
    [ "$status" -eq 64 ]
}

@test "settings that are wrong are 65, with file and line" {
    echo 'CANARY_PLOICY=x' >>"$BATS_TEST_TMPDIR/d.conf"
    run_canary --version 2
    [ "$status" -eq 65 ]
    [[ $output == *"d.conf:"*"did you mean CANARY_POLICY"* ]]
}

@test "haldane behind another command: it is called by it, at the policy's path of there, with the settings' names" {
    cat >"$BATS_TEST_TMPDIR/elsewhere" <<'END'
#!/usr/bin/env bash
shift
echo "$HALDANE_SETTINGS" >"$PLAYER/names"
exec haldane "$@"
END
    chmod +x "$BATS_TEST_TMPDIR/elsewhere"
    sed -i "s|^HALDANE_COMMAND=.*|HALDANE_COMMAND=$BATS_TEST_TMPDIR/elsewhere exec|
        s|^HALDANE_POLICIES=.*|HALDANE_POLICIES=/etc/there|" "$BATS_TEST_TMPDIR/d.conf"
    run_canary --version 2 --set DC=east --set RACK=4
    [ "$status" -eq 0 ]
    said '^haldane begin /etc/there/shop.yaml --format json --set=DC=east --set=RACK=4'
    [ "$(cat "$PLAYER/names")" = 'DC RACK' ]
}
