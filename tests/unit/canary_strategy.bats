#!/usr/bin/env bats
#
# canary.sh with settings: the whole strategy in its order, and what each failure undoes. What is killed and taken up
# again: canary_resume.bats. The real things: tests/integration/canary_strategy.bats.

# shellcheck disable=SC2154 # variables of canary/strategy.bash
load canary/strategy

setup() {
    strategy_begin
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
    grep -q '^haldane_deployment_outcome{project="test",strategy="canary",name="shop",version="2",outcome="promoted"} 1$' \
        "$BATS_TEST_TMPDIR/textfile/haldane_deployment_test_canary.prom"
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
