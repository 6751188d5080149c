#!/usr/bin/env bats
#
# The driver `exec`, with the two example programs before a real HAProxy and a real Caddy, and with programs that are
# wrong in every way. What must hold for a user: what `haldane traffic` prints is what the balancer does, an order that
# cannot be proven is a failure that names the program and the reason, and no program can hang or mislead haldane.

load helpers

source_root=$(cd -- "$BATS_TEST_DIRNAME/../.." && pwd)
export PATH=$HALDANE_BUILD/analyzer/cli:$PATH:/usr/sbin:/sbin

setup_file() {
    local tool ports
    for tool in haldane haproxy caddy socat flock jq python3; do
        command -v "$tool" >/dev/null || {
            echo "$tool is missing"
            return 1
        }
    done
    # The path of a socket is short, and bats's own directories are not.
    RUN=$(mktemp -d "${TMPDIR:-/tmp}/haldane-exec-XXXXXX")
    read -r -a ports < <("$HALDANE_SOURCE/tests/free_ports" 6)
    export RUN STABLE=${ports[0]} CANARY=${ports[1]} WEB1=${ports[2]} WEB2=${ports[3]} ADMIN=${ports[4]} WEB3=${ports[5]}
    # What has to wait 10 s for a program that hangs does so beside the other tests.
    printf '#!/bin/sh\ntrap "" TERM\necho tried >&2\nwhile :; do sleep 1; done\n' >"$RUN/hang"
    chmod +x "$RUN/hang"
    policy "[$RUN/hang]" >"$RUN/hang.yaml"
    # shellcheck disable=SC2016 # for the shell that is started
    start_one hang bash -c 'start=$(date +%s); haldane traffic stable "$0"; echo "$? $(($(date +%s) - start))"' \
        "$RUN/hang.yaml"
    start_one shop-stable "$DEMO_SHOP" --listen "127.0.0.1:$STABLE" --version v1 --latency-median 1ms
    canary_start 1ms
    haproxy_start one "$WEB1"
    haproxy_start two "$WEB2"
    caddy_start
    wait_http "http://127.0.0.1:$STABLE/readyz"
    wait_http "http://127.0.0.1:$CANARY/readyz"
    wait_http "http://127.0.0.1:$WEB1/readyz"
    wait_http "http://127.0.0.1:$WEB2/readyz"
    wait_http "http://127.0.0.1:$WEB3/readyz"
}

teardown_file() {
    local file
    for file in "$RUN"/*.pid; do
        kill -KILL "$(cat "$file")" 2>/dev/null || true
    done
    rm -f -- "$(lock_of "$RUN/hang")"
    rm -rf -- "$RUN"
}

setup() {
    sh_driver=$source_root/compose/examples/driver.sh
    py_driver=$source_root/compose/examples/driver.py
    one=(-- "$RUN/one.sock" "$RUN/one.map" be_stable/s1 be_canary/c1)
    cd "$BATS_TEST_TMPDIR" || return 1
    policy "[$sh_driver, $RUN/one.sock, $RUN/one.map, be_stable/s1, be_canary/c1]" >policy.yaml
}

# start_one NAME COMMAND...: for the whole file, not for one test.
start_one() {
    local name=$1
    shift
    "$@" >"$RUN/$name.log" 2>&1 </dev/null 3>&- &
    echo $! >"$RUN/$name.pid"
    disown
}

stop_one() {
    local pid
    pid=$(cat "$RUN/$1.pid")
    kill -KILL "$pid"
    while kill -0 "$pid" 2>/dev/null; do
        sleep 0.02
    done
    rm -f "$RUN/$1.pid"
}

canary_start() {
    start_one shop-canary "$DEMO_SHOP" --listen "127.0.0.1:$CANARY" --version v2 --latency-median "$1" \
        --latency-sigma 0.01
}

haproxy_start() {
    [[ -e $RUN/$1.map ]] || printf 'canary 0\nepoch 0\nexpires 0\n' >"$RUN/$1.map"
    cat >"$RUN/$1.cfg" <<END
global
    stats socket $RUN/$1.sock mode 600 level admin
defaults
    mode http
    timeout connect 1s
    timeout client 20s
    timeout server 20s
    default-server check inter 100ms fall 1 rise 1
frontend web
    bind 127.0.0.1:$2
    http-request set-var(txn.share) str(canary),map($RUN/$1.map,0)
    http-request set-var(txn.expires) str(expires),map($RUN/$1.map,0)
    acl chosen rand(10000),sub(txn.share) lt 0
    acl lease_ok date,sub(txn.expires) lt 0
    use_backend be_canary if chosen lease_ok
    default_backend be_stable
backend be_stable
    option httpchk GET /healthz
    server s1 127.0.0.1:$STABLE
backend be_canary
    option httpchk GET /healthz
    server c1 127.0.0.1:$CANARY
END
    start_one "haproxy-$1" haproxy -db -f "$RUN/$1.cfg"
}

caddy_start() {
    cat >"$RUN/caddy.json" <<END
{"admin": {"listen": "127.0.0.1:$ADMIN", "config": {"persist": false}},
 "apps": {"http": {"servers": {"web": {"listen": ["127.0.0.1:$WEB3"], "automatic_https": {"disable": true},
   "routes": [{"@id": "split", "handle": [
     {"handler": "vars", "haldane_epoch": "0"},
     {"handler": "reverse_proxy", "load_balancing": {"selection_policy": {"policy": "round_robin"}},
      "upstreams": [{"dial": "127.0.0.1:$STABLE"}]}]}]}}}}}
END
    HOME=$RUN start_one caddy caddy run --config "$RUN/caddy.json"
}

# policy COMMAND: one that moves traffic by it.
policy() {
    traffic_policy "  command: $1"
}

traffic_policy() {
    cat <<END
version: 1
service: shop
prometheus: {url: "http://127.0.0.1:9"}
tracks: {stable: 'track="stable"', canary: 'track="canary"'}
traffic:
  driver: exec
$1
metrics:
  - {name: errors, type: errors, total: 'all{\$track}', failed: 'bad{\$track}'}
END
}

# map_of NAME KEY: what HAProxy itself holds, past haldane and the driver.
map_of() {
    echo "show map $RUN/$1.map" | socat - "UNIX-CONNECT:$RUN/$1.sock" | awk -v key="$2" '$2 == key { print $3 }'
}

# versions PORT COUNT: how many of so many requests the canary answered.
versions() {
    curl -s --noproxy '*' -D - -o /dev/null "http://127.0.0.1:$1/healthz?[1-$2]" | grep -ci '^x-version: v2' || true
}

# direct VARIABLE=VALUE...: the example itself, as haldane would call it for `set`.
direct() {
    env HALDANE_OP=set HALDANE_TRACK= HALDANE_CLAIM=0 HALDANE_LEASE_S=0 HALDANE_EXPIRES=9999999999 "$@" \
        "$sh_driver" "${one[@]:1}"
}

# wrong_program TEXT: a program that does that for get and set, and answers caps well.
wrong_program() {
    # shellcheck disable=SC2016 # the program is to expand it
    printf '#!/bin/sh\n[ "$HALDANE_OP" != caps ] || { echo "%s"; exit 0; }\n%s\n' \
        '{\"ok\":true,\"caps\":[\"readback\",\"lease\",\"cas\"]}' "$1" >program
    chmod +x program
    policy "[./program, one]" >wrong.yaml
}

@test "what is set is what HAProxy does, what the file keeps and what a restart brings back" {
    run -0 haldane traffic set 5% policy.yaml
    [[ $output == "canary 5 % ("* ]]
    [ "$(map_of one canary)" -eq 500 ]
    grep -qx 'canary 500' "$RUN/one.map"
    run -0 --separate-stderr haldane traffic get policy.yaml --format json
    jq -e '.weight == 500 and .stable_up == 1 and .canary_up == 1 and .epoch == 0 and .lease_over == false' <<<"$output"
    jq -e 'has("lease_left_s") | not' <<<"$output"
    jq -e '.capabilities == ["readback", "counters", "lease", "persist", "cas", "drain", "no_reload"]' <<<"$output"
    [ "$(versions "$WEB1" 200)" -lt 60 ]
    stop_one haproxy-one
    run -69 haldane traffic get policy.yaml
    [[ $output == *"driver.sh"*"exit code 10"*"no answer from $RUN/one.sock"* ]]
    haproxy_start one "$WEB1"
    wait_http "http://127.0.0.1:$WEB1/readyz"
    run -0 haldane traffic get policy.yaml
    [[ $output == "canary 5 % ("* ]]
}

@test "blue/green: switch puts everything on one side, and back" {
    run -0 haldane traffic switch canary policy.yaml
    [[ $output == "canary 100 % ("* ]]
    [ "$(versions "$WEB1" 50)" -eq 50 ]
    run -0 haldane traffic switch stable policy.yaml
    [[ $output == "canary 0 % ("* ]]
    [ "$(versions "$WEB1" 50)" -eq 0 ]
    run -64 haldane traffic switch green policy.yaml
    [[ $output == *"green"*"stable or canary"* ]]
}

@test "a lease is shown, and when nobody renews it HAProxy itself returns to stable" {
    direct HALDANE_SHARE_BP=10000 HALDANE_EPOCH=42 HALDANE_CLAIM=1 HALDANE_LEASE_S=2
    run -0 haldane traffic get policy.yaml
    [[ $output == "canary 100 % ("*", epoch 42, returns to stable in "[12]"s unless renewed" ]]
    run -0 --separate-stderr haldane traffic get policy.yaml --format json
    jq -e '.epoch == 42 and .lease_left_s <= 2' <<<"$output"
    for ((i = 0; i < 100; i++)); do
        [ "$(versions "$WEB1" 1)" -eq 1 ] || break
        sleep 0.05
    done
    [ "$(versions "$WEB1" 20)" -eq 0 ]
    [ "$(map_of one canary)" -eq 10000 ]
    run -0 haldane traffic get policy.yaml
    [[ $output == "canary 0 % ("*"returned to stable by itself"* ]]
    run -0 --separate-stderr haldane traffic get policy.yaml --format json
    jq -e '.weight == 0 and .lease_over' <<<"$output"
}

@test "an order by hand goes through without an epoch and keeps the one that is there; older ones are fenced" {
    direct HALDANE_SHARE_BP=100 HALDANE_EPOCH=50 HALDANE_CLAIM=1 >/dev/null
    run -0 haldane traffic set 2% policy.yaml
    [ "$(map_of one epoch)" -eq 50 ]
    run -12 direct HALDANE_SHARE_BP=0 HALDANE_EPOCH=49
    run -12 direct HALDANE_SHARE_BP=300 HALDANE_EPOCH=50 HALDANE_CLAIM=1
    [ "$(map_of one canary)" -eq 200 ]
    run -0 direct HALDANE_SHARE_BP=300 HALDANE_EPOCH=50
    for share in 10001 5x '' -1; do
        run -11 direct "HALDANE_SHARE_BP=$share" HALDANE_EPOCH=50
    done
    run -0 haldane traffic stable policy.yaml
}

@test "a canary that is down is not raised, and lowering is not refused for it" {
    haldane traffic set 5% policy.yaml
    stop_one shop-canary
    for ((i = 0; i < 100; i++)); do
        run -0 --separate-stderr haldane traffic get policy.yaml --format json
        ! jq -e '.canary_up == 0' <<<"$output" || break
        sleep 0.05
    done
    run -69 haldane traffic set 10% policy.yaml
    [[ $output == *"driver.sh"*"not up"*"exit code 14"*"be_canary/c1 is not up"* ]]
    [ "$(map_of one canary)" -eq 500 ]
    run -0 haldane traffic stable policy.yaml
    canary_start 1ms
    wait_http "http://127.0.0.1:$CANARY/readyz"
}

@test "drain waits for what is in flight, and says how many are left" {
    stop_one shop-canary
    canary_start 1500ms
    wait_http "http://127.0.0.1:$CANARY/readyz"
    for ((i = 0; i < 100; i++)); do
        ! haldane traffic switch canary policy.yaml || break
        sleep 0.05
    done
    run -65 haldane traffic drain canary policy.yaml
    [[ $output == *"canary still gets"* ]]
    curl -s --noproxy '*' "http://127.0.0.1:$WEB1/items" >slow.out &
    slow=$!
    for ((i = 0; i < 100; i++)); do
        [ "$(echo 'show stat' | socat - "UNIX-CONNECT:$RUN/one.sock" | awk -F, '$1 == "be_canary" && $2 == "c1" { print $5 }')" = 0 ] || break
        sleep 0.02
    done
    haldane traffic stable policy.yaml
    run -69 haldane traffic drain canary policy.yaml --timeout 100ms
    [[ $output == *"canary still has 1 in flight after 100ms"* ]]
    run -0 --separate-stderr haldane traffic drain canary policy.yaml --timeout 10s --format json
    [ "$output" = '{"track":"canary","in_flight":0}' ]
    wait "$slow"
    [ -s slow.out ]
    run -64 haldane traffic get policy.yaml --timeout 1s
    run -64 haldane traffic drain canary policy.yaml --timeout soon
    stop_one shop-canary
    canary_start 1ms
    wait_http "http://127.0.0.1:$CANARY/readyz"
}

@test "the Python example: exact shares before a real Caddy, its epoch beside them, and no stranger's order lost" {
    policy "[$py_driver, 'http://127.0.0.1:$ADMIN', 'http://127.0.0.1:$STABLE/healthz', 'http://127.0.0.1:$CANARY/healthz']" \
        >caddy.yaml
    run -0 haldane traffic get caddy.yaml
    [[ $output == "canary 0 % ("* ]]
    run -0 haldane traffic set 25% caddy.yaml
    [[ $output == "canary 25 % (25 of 100 upstreams"* ]]
    [ "$(versions "$WEB3" 100)" -eq 25 ]
    run -65 haldane traffic set 0.5% caddy.yaml
    [[ $output == *"driver.py"*"no whole per cent"* ]]
    command=("$py_driver" "http://127.0.0.1:$ADMIN" "http://127.0.0.1:$STABLE/healthz" "http://127.0.0.1:$CANARY/healthz")
    order='{"v":1,"op":"set","share_bp":%d,"epoch":%d,"claim":%s,"expires":9999999999,"lease_s":0}'
    # shellcheck disable=SC2059 # the format is meant
    printf "$order" 3000 7 true | "${command[@]}"
    # shellcheck disable=SC2059
    run -12 "${command[@]}" < <(printf "$order" 4000 6 false)
    run -0 --separate-stderr haldane traffic get caddy.yaml --format json
    jq -e '.weight == 3000 and .epoch == 7 and .capabilities == ["readback", "cas", "drain", "no_reload"]' <<<"$output"
    run -0 haldane traffic check caddy.yaml
    [[ $output == *"note: "*"has no lease"* ]]
    [[ $output != *"wrong:"* ]]
    run -0 haldane traffic stable caddy.yaml
    run -0 haldane traffic drain canary caddy.yaml
    [ "$output" = 'canary: nothing in flight' ]
    [ "$(versions "$WEB3" 20)" -eq 0 ]
}

@test "two balancers are moved together, and one that is gone does not keep the other from stable" {
    traffic_policy "  balancers:
    - {command: [$sh_driver, $RUN/one.sock, $RUN/one.map, be_stable/s1, be_canary/c1]}
    - {command: [$sh_driver, $RUN/two.sock, $RUN/two.map, be_stable/s1, be_canary/c1]}" >both.yaml
    run -0 haldane traffic set 20% both.yaml
    [ "$(map_of one canary) $(map_of two canary)" = "2000 2000" ]
    haldane traffic set 10% policy.yaml
    run -69 haldane traffic get both.yaml
    [[ $output == *"1: 10 %, 2: 20 %"* ]]
    run -0 haldane traffic set 20% both.yaml
    stop_one haproxy-two
    run -69 haldane traffic set 30% both.yaml
    [[ $output == *"balancer 2 ("*"two.sock"*"nothing was raised"* ]]
    [ "$(map_of one canary)" -eq 2000 ]
    run -69 haldane traffic stable both.yaml
    [[ $output == *"balancer 2 ("* && $output != *"balancer 1"* ]]
    [ "$(map_of one canary)" -eq 0 ]
}

@test "check: ready, what is weak and what is wrong" {
    run -0 haldane traffic check policy.yaml
    [ "$output" = 'the balancer is ready for a rollout' ]
    run -0 --separate-stderr haldane traffic check policy.yaml --format json
    [ "$output" = '{"ready":true,"findings":[]}' ]
    cat >weak <<'END'
#!/bin/sh
[ "$HALDANE_OP" = caps ] && echo '{"ok":true,"caps":[]}' || echo '{"ok":true,"share_bp":0}'
END
    chmod +x weak
    policy '[./weak]' >weak.yaml
    run -65 haldane traffic check weak.yaml
    [[ ${lines[0]} == "wrong: ./weak does not name readback"* && ${lines[1]} == "note: "* ]]
    run -65 --separate-stderr haldane traffic check weak.yaml --format json
    jq -e '.ready == false and .findings[0].wrong and (.findings[1].wrong | not)' <<<"$output"
    policy "[$sh_driver, $RUN/nobody.sock, $RUN/one.map, be_stable/s1, be_canary/c1]" >gone.yaml
    run -69 haldane traffic check gone.yaml
}

@test "an answer that is not whole is refused, with the program and the field by name" {
    set_fails() {
        wrong_program "$1"
        run -69 haldane traffic set 5% wrong.yaml
        [[ $output == "haldane: "*"./program"*"$2"* ]] || {
            echo "$1: $output"
            return 1
        }
    }
    set_fails 'exit 0' 'is not JSON'
    set_fails 'echo done' 'is not JSON'
    set_fails "echo '[]'" 'not a JSON object'
    set_fails "echo '{\"share_bp\":500}'" '"ok" is missing'
    set_fails "echo '{\"ok\":false,\"share_bp\":500}'" 'answer.ok: must be true'
    set_fails "echo '{\"ok\":true}'" '"share_bp" is missing'
    set_fails "echo '{\"ok\":true,\"share_bp\":\"x\"}'" 'share_bp'
    set_fails "echo '{\"ok\":true,\"share_bp\":10001,\"epoch\":0,\"expires\":0}'" 'share_bp: must be at most 10000'
    set_fails "echo '{\"ok\":true,\"share_bp\":5.5}'" 'share_bp: must be a count'
    set_fails "echo '{\"ok\":true,\"share_bp\":500,\"expires\":0}'" '"epoch" is missing'
    set_fails "echo '{\"ok\":true,\"share_bp\":500,\"epoch\":0}'" '"expires" is missing'
    set_fails "echo '{\"ok\":true,\"share_bp\":500,\"epoch\":0,\"expires\":0}'; echo '{}'" 'goes on after its end'
    set_fails "echo '{\"ok\":true,\"share_bp\":400,\"epoch\":0,\"expires\":0}'" '5 % was set, but 4 % was read back'
    set_fails "echo '{\"ok\":true,\"share_bp\":500,\"epoch\":0,\"lease_left_s\":60}'" 'was to stay, but'
    set_fails 'echo "no route to the gateway" >&2; exit 10' 'no answer (exit code 10); it last said: no route to the gateway'
    set_fails 'echo "set -e was here" >&2; exit 1' 'exit code 1 is none of the protocol'
    set_fails 'kill -SEGV $$' 'ended by signal 11'
    set_fails yes 'wrote more than 64 KiB'
    wrong_program 'exit 12'
    run -75 haldane traffic set 5% wrong.yaml
    policy '[./nowhere]' >wrong.yaml
    run -65 haldane traffic get wrong.yaml
    [[ $output == *"./nowhere"* ]]
    printf '#!/bin/sh\necho "{\\"ok\\":true,\\"caps\\":[\\"leese\\"]}"\n' >typo
    chmod +x typo
    policy '[./typo]' >wrong.yaml
    run -65 haldane traffic get wrong.yaml
    [[ $output == *'answer.caps: "leese" is not known'* ]]
}

@test "a program is told everything twice: as JSON and in its environment" {
    # shellcheck disable=SC2016 # the program is to expand it
    wrong_program 'cat >"$HALDANE_OP.json"; env | grep ^HALDANE_ | grep -v -e BUILD -e SOURCE -e VECTORS | sort >"$HALDANE_OP.env"
echo "{\"ok\":true,\"share_bp\":${HALDANE_SHARE_BP:-0},\"epoch\":3,\"expires\":${HALDANE_EXPIRES:-0}}"'
    run -0 haldane traffic set 0.25% wrong.yaml
    jq -e '. == {v: 1, op: "set", share_bp: 25, epoch: 0, claim: false, expires: 9999999999, lease_s: 0}' set.json
    diff set.env <(printf '%s\n' HALDANE_CLAIM=0 HALDANE_EPOCH=0 HALDANE_EXPIRES=9999999999 HALDANE_LEASE_S=0 \
        HALDANE_OP=set HALDANE_SHARE_BP=25 HALDANE_TRACK=)
    run -0 haldane traffic stable wrong.yaml
    jq -e '.share_bp == 0 and .expires == 0' set.json
    run -0 haldane traffic get wrong.yaml
    jq -e '. == {v: 1, op: "get"}' get.json
    grep -qx 'HALDANE_SHARE_BP=' get.env
}

# slow_program SECONDS: a balancer that is a file, and that takes so long for a share above 0.
slow_program() {
    cat >slow <<END
#!/bin/sh
[ "\$HALDANE_OP" != caps ] || { echo '{"ok":true,"caps":["readback"]}'; exit 0; }
if [ "\$HALDANE_OP" = set ]; then
    echo "begin \$HALDANE_SHARE_BP" >>log
    [ "\$HALDANE_SHARE_BP" -eq 0 ] || sleep $1
    echo "\$HALDANE_SHARE_BP" >share
    echo "end \$HALDANE_SHARE_BP" >>log
fi
printf '{"ok":true,"share_bp":%d}' "\$(cat share)"
END
    chmod +x slow
    echo 0 >share
    policy "[$PWD/slow]" >slow.yaml
}

# lock_of PROGRAM: its lock, by what docs/traffic.md says of the name.
lock_of() {
    local LC_ALL=C hash=$((0xcbf29ce484222325)) i folder=/run/lock
    for ((i = 0; i < ${#1}; i++)); do
        hash=$(((hash ^ $(printf '%d' "'${1:i:1}")) * 1099511628211))
    done
    [[ -d $folder && -w $folder ]] || folder=${TMPDIR:-/tmp}
    printf '%s/haldane-exec-%016x' "$folder" $((hash * 1099511628211))
}

@test "haldane is killed in the middle of set: what it leaves does not undo the way back" {
    slow_program 3
    haldane traffic set 25% slow.yaml 3>&- &
    killed=$!
    until grep -qs 'begin 2500' log; do
        sleep 0.02
    done
    begun=${EPOCHREALTIME/./}
    grep -qx "share_bp  2500 haldane *$killed group *[0-9]*" "$(lock_of "$PWD/slow")"
    kill -KILL "$killed"
    run -0 haldane traffic get slow.yaml
    run -0 haldane traffic stable slow.yaml
    [[ $output == "canary 0 %"* ]]
    while ((${EPOCHREALTIME/./} < begun + 3500000)); do
        [ "$(cat share)" -eq 0 ]
        sleep 0.05
    done
    [ "$(cat log)" = $'begin 2500\nbegin 0\nend 0' ]
    [ ! -e "$(lock_of "$PWD/slow")" ]
}

@test "two orders at the same time come one after the other, and a lock that is none is refused" {
    slow_program 0.3
    haldane traffic set 25% slow.yaml 3>&- &
    other=$!
    run -0 haldane traffic set 20% slow.yaml
    wait "$other"
    [[ $(tr '\n' ' ' <log) == "begin "2?00" end "2?00" begin "2?00" end "2?00" " ]]
    lock=$(lock_of "$PWD/slow")
    ln -s "$PWD/share" "$lock"
    run -65 haldane traffic set 30% slow.yaml
    [[ $output == *"nothing was changed"*"$lock"*"symbolic link"* ]]
    [[ $(cat share) == 2?00 ]]
    run -65 haldane traffic stable slow.yaml
    [[ $output == *"not sure to stay"*"$lock"* ]]
    [ "$(cat share)" -eq 0 ]
    rm -- "$lock"
    run -0 haldane traffic stable slow.yaml
}

@test "a program that hangs is ended after 10 s, also one that ignores SIGTERM" {
    for ((i = 0; i < 600; i++)); do
        ! kill -0 "$(cat "$RUN/hang.pid")" 2>/dev/null || {
            sleep 0.05
            continue
        }
        break
    done
    cat "$RUN/hang.log"
    grep -q "$RUN/hang.*had not ended in time" "$RUN/hang.log"
    read -r code seconds < <(tail -n 1 "$RUN/hang.log")
    [ "$code" -eq 69 ]
    [ "$seconds" -ge 11 ] && [ "$seconds" -le 16 ]
}
