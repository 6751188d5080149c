#!/usr/bin/env bats
# The production stack on a real engine: what its compose files promise is seen in the containers that run.
# shellcheck disable=SC2154,SC2016,SC2317 # variables of stack.bash; jq's; functions that are called by `within`

load stack

setup_file() {
    stack_begin haldane-test-stack 22000 HEALTH_ACT_AFTER=3
    stack build
    local began=$EPOCHSECONDS
    stack up
    export up_seconds=$((EPOCHSECONDS - began))
}

teardown_file() {
    stack_end
}

# compose_config FILE...: as JSON, with all profiles, by the program that is asked for in COMPOSE (docker-compose 1.29).
compose_config() {
    local file arguments=()
    for file in "$@"; do arguments+=(--file "$HALDANE_SOURCE/compose/docker-compose.$file.yml"); done
    docker-compose --project-name config "${arguments[@]}" --profile canary --profile blue-green --profile grafana config |
        /usr/bin/python3 -c 'import json, sys, yaml; json.dump(yaml.safe_load(sys.stdin), sys.stdout)'
}

@test "from nothing to all healthy takes less than 90 seconds" {
    echo "up took $up_seconds s" >&3
    ((up_seconds < 90))
    run -0 --separate-stderr stack status --format json
    jq -e '[.services[] | select(.service != "migrate") | .state] | length == 9 and all(. == "healthy")' <<<"$output"
    jq -e '.versions == {stable: "1.0.0", live: "stable", last_good: "1.0.0"}' <<<"$output"
}

@test "up again changes nothing" {
    before=$(docker ps --quiet --no-trunc --filter "label=com.docker.compose.project=$stack_project" | sort)
    stack up
    after=$(docker ps --quiet --no-trunc --filter "label=com.docker.compose.project=$stack_project" | sort)
    [ "$before" = "$after" ]
}

@test "no service is without health check, limits, log rotation, and every right is taken away" {
    compose_config prod >"$BATS_TEST_TMPDIR/config.json"
    run -0 jq -r '.services | to_entries[] | .key as $name | .value | [
        if $name != "migrate" and (.healthcheck.interval == null or .healthcheck.disable == true) then "no health check" else empty end,
        if .cpus == null or .mem_limit == null then "no limits" else empty end,
        if .mem_reservation == null then "no reservation" else empty end,
        if .pids_limit == null then "no limit of processes" else empty end,
        if .logging.options."max-size" == null or .logging.options."max-file" == null then "no log rotation" else empty end,
        if .read_only != true then "root can be written" else empty end,
        if .cap_drop != ["ALL"] or .cap_add != null then "capabilities" else empty end,
        if .security_opt != ["no-new-privileges:true"] then "new privileges" else empty end,
        if .init != true then "no init" else empty end,
        if .privileged == true or .network_mode != null or .pid != null then "shares the host" else empty end,
        if .stop_grace_period == null then "no grace period" else empty end,
        if .restart != (if $name == "migrate" then "no" else "unless-stopped" end) then "restart policy" else empty end,
        if (.image | test(":[^:/]*[0-9]")) then empty else "image without version" end,
        if ([.volumes[]? | tostring | test("docker\\.sock")] | any) then "has the engine" else empty end,
        if ([.ports[]? | tostring | test("^(127\\.0\\.0\\.1|0\\.0\\.0\\.0):")] | all) then empty else "port on no address" end
        ] | select(length > 0) | "\($name): \(join(", "))"' "$BATS_TEST_TMPDIR/config.json"
    [ "$output" = "" ]
    # Only HAProxy's two doors are open to others.
    run -0 jq -r '.services[].ports[]? | tostring | select(startswith("127.0.0.1:") | not) | split(":")[2]' "$BATS_TEST_TMPDIR/config.json"
    [ "$(sort <<<"$output")" = $'8080/tcp\n8443/tcp' ] || [ "$(sort <<<"$output")" = $'8080\n8443' ]
}

@test "a shop has longer to end than its drain and the longest request together, and HAProxy than its hard stop" {
    compose_config prod >"$BATS_TEST_TMPDIR/config.json"
    seconds() { awk '{ n = 0; while (match($0, /^[0-9]+[ms]/)) { v = substr($0, 1, RLENGTH - 1); n += substr($0, RLENGTH, 1) == "m" ? v * 60 : v; $0 = substr($0, RLENGTH + 1) } print n }'; }
    grace=$(jq -r '.services."shop-stable-1".stop_grace_period' "$BATS_TEST_TMPDIR/config.json" | seconds)
    longest=$(sed -n 's/^ *timeout server *\([0-9]*\)s$/\1/p' "$HALDANE_SOURCE/compose/haproxy/haproxy.cfg")
    ((grace > longest + 3))
    grace=$(jq -r '.services.haproxy.stop_grace_period' "$BATS_TEST_TMPDIR/config.json" | seconds)
    hard=$(sed -n 's/^ *hard-stop-after *\([0-9]*\)s$/\1/p' "$HALDANE_SOURCE/compose/haproxy/haproxy.cfg")
    ((grace > hard))
}

@test "staging is the same with less of it" {
    compose_config prod >"$BATS_TEST_TMPDIR/prod.json"
    compose_config prod staging >"$BATS_TEST_TMPDIR/staging.json"
    jq -e -n --slurpfile prod "$BATS_TEST_TMPDIR/prod.json" --slurpfile staging "$BATS_TEST_TMPDIR/staging.json" '
        def names: if type == "array" then sort else keys end; # docker-compose writes either
        ($prod[0].services | keys) == ($staging[0].services | keys)
        and ($staging[0].services | to_entries | all(.key as $k | .value as $s | $prod[0].services[$k] as $p
            | $s.read_only == $p.read_only and $s.cap_drop == $p.cap_drop and ($s.networks | names) == ($p.networks | names)
            and ($s.cpus | tonumber) <= ($p.cpus | tonumber)))'
}

@test "the engine has really applied it" {
    for service in haproxy shop-stable-1 postgres redis prometheus alertmanager node-exporter haldane; do
        docker inspect "$(container_of "$service")" | jq -e '.[0] | .HostConfig.ReadonlyRootfs and .HostConfig.Init
            and .HostConfig.CapDrop == ["ALL"] and .HostConfig.SecurityOpt == ["no-new-privileges:true"]
            and .HostConfig.Memory > 0 and .HostConfig.NanoCpus > 0 and .HostConfig.PidsLimit == 128
            and .HostConfig.LogConfig.Type == "json-file" and .HostConfig.LogConfig.Config."max-size" == "10m"
            and .HostConfig.LogConfig.Config."max-file" == "5" and (.HostConfig.Privileged | not)
            and (.State.OOMKilled | not)'
        # As the kernel sees its program: a user that is not root, without a single capability, and none to be had.
        run -0 inside "$service" sh -c 'cat /proc/1/status'
        [[ $output =~ Uid:[[:blank:]]+100[0-9]{2}[[:blank:]] ]]
        [[ $output =~ CapEff:[[:blank:]]+0{16} && $output =~ CapBnd:[[:blank:]]+0{16} && $output =~ NoNewPrivs:[[:blank:]]+1 ]]
        run -1 inside "$service" sh -c 'touch /usr/written 2>/dev/null || exit 1'
    done
}

@test "the networks keep apart what must not meet" {
    # HAProxy does not know the database, nor may it reach it by address.
    run ! inside haproxy getent hosts postgres
    address=$(docker inspect --format '{{range .NetworkSettings.Networks}}{{.IPAddress}}{{end}}' "$(container_of postgres)")
    run ! inside haproxy timeout 3 curl -s "telnet://$address:5432"
    # The database, the cache, the shops, haldane and node-exporter have no way out.
    for service in postgres redis shop-stable-1 haldane node-exporter; do
        run -0 inside "$service" cat /proc/net/route
        ! awk '$2 == "00000000" { found = 1 } END { exit !found }' <<<"$output"
    done
    # The shop does reach the database, and Prometheus the shop.
    run -0 inside shop-stable-1 getent hosts postgres
    run -0 inside prometheus getent hosts shop-stable-1
    run ! inside prometheus getent hosts postgres
}

@test "secrets are in files alone" {
    for secret in db_password redis_password; do
        value=$(<"$BATS_FILE_TMPDIR/secrets/$secret")
        ((${#value} >= 32))
        for id in $(docker ps --all --quiet --filter "label=com.docker.compose.project=$stack_project"); do
            run ! grep -qF -- "$value" <(docker inspect "$id")
            run ! grep -qF -- "$value" <(docker top "$id" -eo args 2>/dev/null || true)
        done
        for image in $(docker images --quiet 'haldane-stack/*'); do
            run ! grep -qF -- "$value" <(docker history --no-trunc "$image")
        done
    done
    [ "$(stat -c %a "$BATS_FILE_TMPDIR/secrets")" = 700 ]
    # They are checked: without its password the cache answers nothing.
    run -0 inside redis redis-cli ping
    [[ $output == *NOAUTH* ]]
}

@test "secrets are made once, and an open folder is refused" {
    before=$(sha256sum "$BATS_FILE_TMPDIR"/secrets/*)
    stack init
    [ "$before" = "$(sha256sum "$BATS_FILE_TMPDIR"/secrets/*)" ]
    chmod 0755 "$BATS_FILE_TMPDIR/secrets"
    run -77 stack init
    chmod 0700 "$BATS_FILE_TMPDIR/secrets"
}

@test "users get answers over HTTP, over TLS and over HTTP/2" {
    run -0 curl -fsS --noproxy '*' -o /dev/null -w '%{http_code} %{http_version}' "$stack_web/items/7"
    [ "$output" = "200 1.1" ]
    run -0 curl -fsSk --noproxy '*' -o /dev/null -w '%{http_code} %{http_version}' "$stack_tls/items/7"
    [ "$output" = "200 2" ]
    run -0 curl -fsS --noproxy '*' -o /dev/null -w '%{http_code}' -X POST -d '{"item":7,"quantity":1}' "$stack_web/order"
    [ "$output" = 201 ]
    run -0 curl -fsS --noproxy '*' "$stack_web/readyz"
    jq -e '.status == "ready" and .dependencies.database.status == "up" and .dependencies.cache.status == "up"' <<<"$output"
    run -0 curl -fsS --noproxy '*' "$stack_ops/haldane/share"
    [[ $output == "share_bp=0 epoch=0 expires=0 now="* ]]
}

@test "haldane finds everything in its place" {
    run -0 stack haldane check /etc/haldane/policies/canary.yaml
    run -0 stack haldane traffic check /etc/haldane/policies/canary.yaml --format json
    jq -e '.ready and ([.findings[] | select(.wrong)] | length == 0)' <<<"$output"
    run -0 stack haldane traffic get /etc/haldane/policies/canary.yaml --format json
    jq -e '.weight == 0 and .stable_up == 2' <<<"$output"
}

@test "a shop that hangs is started again by itself, and users do not notice" {
    id=$(container_of shop-stable-1)
    restarts=$(docker inspect --format '{{.RestartCount}}' "$id")
    pid=$(docker top "$id" -eo pid,comm | awk '$2 ~ /^haldane-demo/ { print $1; exit }')
    kill -STOP "$pid"
    # HAProxy takes it out within three seconds; from then on nobody waits for it.
    within 5 sh -c "curl -fsS --noproxy '*' $stack_ops/metrics | grep -q '^haproxy_server_status{proxy=\"be_stable\",server=\"stable1\",state=\"DOWN\"} 1'"
    for _ in {1..40}; do
        run -0 curl -fsS --noproxy '*' --max-time 1 -o /dev/null "$stack_web/items/7"
    done
    was_started_again() { (($(docker inspect --format '{{.RestartCount}}' "$id") > restarts)); }
    within 45 was_started_again
    is_healthy() { [[ $(docker inspect --format '{{.State.Health.Status}}' "$id") == healthy ]]; }
    within 30 is_healthy
    run -0 docker logs --tail 50 "$id"
    [[ $output == *"healthcheck: not alive 3 times in a row"* ]]
}

@test "haldane that is killed is back, and its store with it" {
    id=$(container_of haldane)
    kill -KILL "$(docker top "$id" -eo pid,args | awk '/haldane guard/ && !/init/ { print $1; exit }')"
    within 30 stack haldane list --format json
    docker stop "$id"
    run -69 stack haldane list
    docker start "$id"
    is_healthy() { [[ $(docker inspect --format '{{.State.Health.Status}}' "$id") == healthy ]]; }
    within 30 is_healthy
}

@test "a slot is brought to a version one server after the other, and no request fails" {
    stack build 1.0.1
    "$HALDANE_BUILD/compose/haldane-demo-load" --url "$stack_web" --rate 50 --post-share 50% --json "$BATS_TEST_TMPDIR/load.json" &
    load=$!
    stack deploy canary 1.0.1
    run -0 curl -fsS --noproxy '*' -H 'X-Canary: always' "$stack_web/readyz"
    jq -e '.version == "1.0.1"' <<<"$output"
    run -0 curl -fsS --noproxy '*' -H 'X-Canary: always' -o /dev/null -D - "$stack_web/"
    grep -qi '^x-lb-track: canary' <<<"$output"
    stack deploy stable 1.0.1
    stack restart stable
    kill -INT "$load"
    wait "$load"
    jq -e '.sent > 1000 and .failed == 0 and ([.status | to_entries[] | select(.key >= "500") | .value] | add // 0) == 0' \
        "$BATS_TEST_TMPDIR/load.json" || {
        jq . "$BATS_TEST_TMPDIR/load.json" >&3
        false
    }
    run -0 --separate-stderr stack versions --format json
    jq -e '.stable == "1.0.1" and .canary == "1.0.1"' <<<"$output"
}

@test "a version without an image, or with a migration that fails, changes no server" {
    before=$(container_of shop-stable-1)
    run -1 stack deploy stable 9.9.9
    [[ $output == *"there is no image"* ]]
    [ "$(container_of shop-stable-1)" = "$before" ]
}

@test "each query of the dashboards finds something" {
    stack haldane traffic set 25% /etc/haldane/policies/canary.yaml
    "$HALDANE_BUILD/compose/haldane-demo-load" --url "$stack_web" --rate 100 --duration 75s
    stack haldane traffic stable /etc/haldane/policies/canary.yaml
    run "$HALDANE_SOURCE/tests/deployment/dashboards.sh" "$stack_prometheus"
    grep -v '^ok' <<<"$output" >&3 || true
    [ "$status" -eq 0 ]
}

@test "the rules load, and hold what they promise" {
    run -0 promtool test rules "$HALDANE_SOURCE/tests/deployment/rules_test.yml"
    run -0 curl -fsS --noproxy '*' "$stack_prometheus/api/v1/rules"
    jq -e '[.data.groups[].rules[] | select(.health != "ok")] | length == 0' <<<"$output"
    # The alert that always fires has come to Alertmanager.
    arrived() { inside alertmanager curl -fsS http://127.0.0.1:9093/api/v2/alerts | jq -en 'input | any(.labels.alertname == "Watchdog")'; }
    within 60 arrived
    run -0 ask_prometheus 'count(up{job!="shop"} == 1)'
    [ "$output" = 4 ]
}

@test "alerts are sent where the secret says" {
    printf 'http://prometheus:9090/hook?a=1&b=@WEBHOOK@\n' >"$BATS_TEST_TMPDIR/url"
    run -0 --separate-stderr docker run --rm --network none --read-only --tmpfs /run/alertmanager:uid=10005,mode=700 --tmpfs /tmp --entrypoint sh \
        -v "$HALDANE_SOURCE/compose/alertmanager:/etc/alertmanager:ro" -v "$BATS_TEST_TMPDIR/url:/run/secrets/alert_webhook:ro" \
        haldane-stack/alertmanager:0.25 -c 'timeout 3 start >/dev/null 2>&1; amtool config routes test --config.file=/run/alertmanager/alertmanager.yml severity=critical'
    [ "$output" = webhook ]
    run -0 --separate-stderr inside alertmanager amtool config routes test --config.file=/run/alertmanager/alertmanager.yml severity=critical
    [ "$output" = nobody ]
}

@test "HAProxy is reloaded if its configuration is right, and goes on as it is if not" {
    run -0 stack reload haproxy
    [[ $output == *"is replaced by"* ]]
    run -0 stack balancer <<<"show info"
    [[ $output == *"Name: HAProxy"* ]]
    run -0 stack reload prometheus
    # A copy with a fault, checked as `reload` checks it.
    {
        cat "$HALDANE_SOURCE/compose/haproxy/haproxy.cfg" && echo 'frontend broken'
        echo '    bind nowhere'
    } >"$BATS_TEST_TMPDIR/haproxy.cfg"
    run ! docker exec -i "$(container_of haproxy)" sh -c 'cat >/tmp/haproxy.cfg && haproxy -c -q -f /tmp/haproxy.cfg' <"$BATS_TEST_TMPDIR/haproxy.cfg"
}

@test "what all users depend on is not stopped without force" {
    run -75 stack stop stable
    run -0 stack stop canary
    run -0 stack stop canary
}

@test "blue and green: the weights outlive a restart of HAProxy" {
    stack down
    with_setting STRATEGY=blue-green
    rm -f "$BATS_FILE_TMPDIR/state/versions"
    stack up
    export LIVE=blue IDLE=green
    run -0 stack haldane check /etc/haldane/policies/blue-green.yaml
    stack deploy green 1.0.1
    run -0 stack haldane traffic check /etc/haldane/policies/blue-green.yaml --format json
    jq -e '.ready and ([.findings[] | select(.wrong)] | length == 0)' <<<"$output"
    run -0 curl -fsS --noproxy '*' -H 'X-Colour: green' "$stack_web/readyz"
    jq -e '.version == "1.0.1"' <<<"$output"
    run -0 curl -fsS --noproxy '*' "$stack_web/readyz"
    jq -e '.version == "1.0.0"' <<<"$output"
    stack haldane traffic switch canary /etc/haldane/policies/blue-green.yaml
    docker restart "$(container_of haproxy)"
    # `input`, because jq 1.6 takes no input at all for a success.
    on_green() { curl -fsS --noproxy '*' --max-time 2 "$stack_web/readyz" | jq -en 'input.version == "1.0.1"'; }
    within 40 on_green
    run -0 curl -fsS --noproxy '*' "$stack_ops/haldane/share"
    [[ $output == "blue=0 green="[1-9]* ]]
    run -75 stack stop green
    run -0 stack stop blue
}
