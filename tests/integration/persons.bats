#!/usr/bin/env bats
# shellcheck disable=SC2016,SC2030,SC2031,SC2154 # jq is quoted so; $id, $output and $stderr come from scenario.bash and run
#
# What a person sees and decides in a rollout that goes on: the orders and who gave them, the state, the reports, the
# balancer by hand.

load scenario

setup_file() {
    export DEMO_RATE=300
    scenarios_start
}

teardown_file() {
    stack_stop
}

setup() {
    scenario_begin
    canary
    policy policy.yaml
}

teardown() {
    scenario_end
}

me() {
    printf '%s' "${SUDO_USER:-$(id -un)}"
}

@test "hold, resume, promote, abort: each takes its effect, and the record says who and why" {
    begin policy.yaml
    haldane_says 0 hold "$id" --reason 'the shop is on television' --format json
    answer '.state == "held" and .weight == 2500'
    wait_for_due
    haldane_says 10 advance "$id" --format json
    answer '.state == "held" and .decision == "hold"'
    # A wait for the end of the step does not keep the rollout from the one who holds it.
    haldane_says 10 advance "$id" --wait
    haldane_says 0 resume "$id" --reason 'it is over' --format json
    answer '.state == "stepping"'
    haldane_says 0 promote "$id" --reason 'known to be good' --format json
    answer '.state == "stepping" and .step == 1 and .weight == 5000'
    shows 50
    haldane_says 0 abort "$id" --reason 'a customer called' --format json
    answer '.state == "aborted" and .cause == "person" and .weight == 0'
    shows 0

    haldane_says 20 status "$id" --format json
    haldane_says 20 advance "$id"
    evidence "[.decisions[] | [.action, .by, .reason]] == [
        [\"hold\", \"$(me)\", \"the shop is on television\"], [\"resume\", \"$(me)\", \"it is over\"],
        [\"promote\", \"$(me)\", \"known to be good\"], [\"abort\", \"$(me)\", \"a customer called\"]]"
    haldane report "$id" --format json -o report.json
    jq -e --arg me "$(me)" '[.audit[] | select(.event == "held") | .actor] == [$me]
        and ([.audit[] | select(.event == "step") | .detail] | any(test("known to be good")))
        and ([.audit[] | select(.event == "aborted") | .actor] == [$me])' report.json
}

@test "orders from another terminal reach a rollout that runs: hold, resume, abort" {
    rollout_in_background policy.yaml
    haldane_says 0 hold "$id" --reason 'first a look at the logs' --format json
    answer '.state == "held"'
    wait_for_due
    wait_for_due
    haldane_says 10 status "$id" --format json
    answer '.state == "held" and .weight == 2500'
    haldane_says 0 resume "$id" --reason 'the logs are clean'
    wait_for_due
    haldane_says 0 abort "$id" --reason 'a customer called' --format json
    answer '.state == "aborted" and .cause == "person"'
    ends_with 20 5
    shows 0
    # No look was folded twice by the two.
    [[ $(sql "SELECT count(*) - count(DISTINCT look) FROM verdicts") -eq 0 ]]
}

@test "what a state does not take is refused with 64 and changes nothing; an order needs a reason" {
    begin policy.yaml
    refused 64 '(say why|reason)' abort "$id"
    refused_order resume
    haldane abort "$id" --reason enough
    for order in promote hold resume abort; do
        refused_order "$order"
    done
    shows 0
}

# A refused order says where the rollout stands.
refused_order() {
    local before
    before=$(share)
    haldane_says 64 "$1" "$id" --reason test
    [[ $stderr == *"does not take"* && $(share) == "$before" ]]
}

@test "pause: a step that is proven waits for a person, and goes on with his word" {
    policy pause.yaml steps '[{weight: 25%, min: 2s, max: 5m, pause: true}, {weight: 50%, min: 5m, max: 9m}, {weight: 100%, bake: 1s}]'
    begin pause.yaml
    run -10 haldane advance "$id" --wait --format json
    answer '.state == "paused" and .decision == "hold" and .weight == 2500'
    shows 25
    wait_for_due
    haldane_says 10 advance "$id" --format json
    answer '.state == "paused"'
    haldane_says 0 promote "$id" --reason 'seen by two' --format json
    answer '.state == "stepping" and .weight == 5000'
    shows 50
    audit paused
}

@test "list, status and the four reports tell the same" {
    haldane_says 0 status
    [[ $output == "no rollout is under way in the store $HALDANE_DB (there is no such file yet)" ]]
    begin policy.yaml
    advance_until 10 '.reason | test("shop canary")'
    haldane_says 0 status --format json
    answer ".rollout == \"$id\" and .state == \"stepping\" and .steps == 3"
    haldane_says 10 status "$id"
    [[ $output == *"$id"*"stepping at 25 %"*"step 1 of 3"* ]]
    haldane abort "$id" --reason 'seen enough'
    haldane_says 0 list --format json
    answer ".rollout == \"$id\" and .state == \"aborted\""

    haldane report "$id" --format text -o report.txt
    haldane report "$id" --format md -o report.md
    haldane report "$id" --format json -o report.json
    haldane report "$id" --format html -o report.html
    for file in report.txt report.md report.html; do
        grep -q 'seen enough' "$file"
        grep -q 'errors' "$file"
    done
    jq -e --arg id "$id" '.rollout.rollout // .rollout.id // .rollout == $id' report.json
    html_stands_alone report.html
}

# Every element is closed, it is of a size to be sent by mail, and it loads nothing.
html_stands_alone() {
    python3 - "$1" <<'END'
import html.parser, os, re, sys

class Balance(html.parser.HTMLParser):
    void = {"meta", "br", "hr", "img", "input", "link", "col", "wbr", "path", "line", "rect", "circle"}
    def __init__(self):
        super().__init__()
        self.open = []
    def handle_starttag(self, tag, attributes):
        assert tag != "script", "a script"
        for name, value in attributes:
            assert not name.startswith("on"), name
            assert name not in ("src", "href", "action") or value.startswith(("#", "data:")), value
        if tag not in self.void:
            self.open.append(tag)
    def handle_endtag(self, tag):
        if tag not in self.void:
            assert self.open and self.open.pop() == tag, (tag, self.getpos())

text = open(sys.argv[1], encoding="utf-8").read()
balance = Balance()
balance.feed(text)
assert not balance.open, balance.open
assert 2000 < os.path.getsize(sys.argv[1]) < 500000, os.path.getsize(sys.argv[1])
for url in re.findall(r"https?://[^\s\"'<)]+", text):
    assert url.startswith(("http://www.w3.org/", "http://127.0.0.1")), url
assert not re.search(r"@import|url\((?!['\"]?(#|data:))", text)
END
}

@test "traffic get, set and stable: what is printed was read back from the balancer" {
    haldane_says 0 traffic set 5% policy.yaml
    [[ $output == "canary 5 % "* ]]
    shows 5
    haldane_says 0 traffic get policy.yaml --format json
    answer '.weight == 500 and .stable_up == 2 and .canary_up == 1'
    haldane_says 0 traffic set 100% policy.yaml
    shows 100
    # Whoever has traffic already is not begun with.
    refused 75 'already has 100 % of the traffic' begin policy.yaml
    haldane_says 0 traffic stable policy.yaml
    shows 0
    haldane_says 0 traffic set 0% policy.yaml
    refused 64 '`101%`, which is no share of traffic; .* at most 100%' traffic set 101% policy.yaml
    refused 64 '`5.005%`, which is too fine; .* 0.01%' traffic set 5.005% policy.yaml
    refused 64 '`-5%`, which is no share of traffic' traffic set -5% policy.yaml
    # As in a policy: 5 and 0.05 leave open what is meant.
    refused 64 '`5`, which is no percentage; write a weight like 5%' traffic set 5 policy.yaml
    refused 64 '`0.05`, which is no percentage; write a weight like 5%' traffic set 0.05 policy.yaml
    refused 64 'is not known' traffic raise policy.yaml
}

# says TEXT...: the last answer has each of them; omits TEXT...: none.
says() {
    local text
    for text; do
        [[ $output == *"$text"* ]] || {
            printf 'not said: %s\n%s\n' "$text" "$output"
            return 1
        }
    done
}

omits() {
    local text
    for text; do
        [[ $output != *"$text"* ]] || {
            printf 'said: %s\n%s\n' "$text" "$output"
            return 1
        }
    done
}

# So that nobody acts on what `status` is to show.
kill_guard() {
    local pid
    for pid in $(pgrep -f -- "haldane guard $id"); do kill -KILL "$pid"; done
}

@test "status: how far away times are, and what somebody else did since the last look" {
    begin policy.yaml
    advance_until 10 '.reason | test("shop canary")'
    haldane_says 10 status "$id"
    [[ $output =~ 'next look '[^\;]*' UTC ('[^\;]*')'\;' without one, back to stable at '[^\;]*' UTC (in 1'[0-9]' s)' ]]
    omits 'no look since' 'drift' 'overdue' 'advises only'
    balancer 'set server shop/canary1 weight 100'
    haldane_says 10 advance "$id"
    haldane_says 10 status "$id"
    [[ $output =~ 'drift '[0-9]' s ago: somebody else gave the canary '[^\;]*\;' set again' ]]
    haldane_says 10 status "$id" --format json
    answer '.trouble == null and .overdue == false and .advise == false'
    advance_until 10 '.next_look_at'
    wait_for_due
    haldane_says 10 advance "$id"
    haldane_says 10 status "$id"
    omits drift
    haldane abort "$id" --reason over
    haldane_says 20 status "$id" --format json
    answer '.trouble == null and .overdue == false'
}

@test "status: that no look is possible, why, and that it is over" {
    begin policy.yaml
    advance_until 10 '.reason | test("shop canary")'
    stack stop prometheus
    wait_for_due
    haldane_says 69 advance "$id"
    says 'no look since ' 's ago): ' "$PROMETHEUS"
    haldane_says 10 status "$id"
    says 'no look since ' 's ago): ' "$PROMETHEUS" 'back to stable at'
    haldane_says 10 status "$id" --format json
    answer ".overdue == false and (.trouble | contains(\"$PROMETHEUS\"))"
    relaunch_prometheus
    advance_until 10 '.trouble == null'
    haldane_says 10 status "$id"
    omits 'no look since'
    haldane abort "$id" --reason over
}

@test "status: a lease that is over and nobody acts; the report asks why nobody looked" {
    policy brief.yaml unattended 3s
    begin brief.yaml
    kill_guard
    sleep 3.2
    haldane_says 10 status "$id"
    [[ $output =~ 'overdue: the lease ended '[0-9]' s ago and nobody has acted: haldane advance '$id ]]
    omits 'next look' 'back to stable at'
    haldane_says 10 status "$id" --format json
    answer '.overdue == true and .trouble == null'
    haldane_says 20 advance "$id" --format json
    answer '.state == "expired" and .overdue == false'
    haldane_says 0 report "$id"
    says 'Find out why nobody looked'
    omits 'more traffic'
}

@test "status: a rollback that is not proven promises nothing" {
    begin policy.yaml
    kill_guard
    mv "$DEMO_RUN/haproxy.sock" "$DEMO_RUN/away.sock"
    haldane_says 69 abort "$id" --reason 'a customer called'
    haldane_says 10 status "$id"
    mv "$DEMO_RUN/away.sock" "$DEMO_RUN/haproxy.sock"
    says 'NOT PROVEN to be on stable' 'the last try at ' 's ago) failed: ' 'haproxy.sock' "haldane advance $id"
    omits 'back to stable at' 'next look'
    haldane_says 10 status "$id" --format json
    answer '.trouble | test("haproxy.sock")'
    haldane_says 20 advance "$id"
    shows 0
}

@test "status: a rollout that only advises says so in every state" {
    haldane_says 0 begin policy.yaml --advise
    id=$output
    haldane_says 10 status "$id"
    [[ ${lines[0]} == *'; advises only, moves no traffic' ]]
    omits 'back to stable at'
    haldane traffic set 25% policy.yaml
    haldane_says 10 advance "$id"
    haldane_says 0 abort "$id" --reason over
    haldane_says 10 status "$id"
    [[ ${lines[0]} == *'rolling_back'*'; advises only, moves no traffic' ]]
    says 'advice: put all traffic on stable'
    haldane traffic stable policy.yaml
    haldane_says 20 advance "$id"
    haldane_says 20 status "$id"
    [[ ${lines[0]} == *'; advises only, moves no traffic' ]]
}

@test "a service's name stands for its rollout: the one under way, or for who only reads the last one" {
    begin policy.yaml
    haldane_says 0 hold shop --reason lunch
    haldane_says 0 hold shop --reason 'a second lunch'
    [[ $stderr =~ "haldane: $id is already held since ".*' UTC ('[0-9]+' s ago) by '$(me) ]]
    haldane_says 10 status shop
    says "$id  held"
    haldane_says 0 report shop
    says "$id"
    haldane abort shop --reason over
    refused 66 "service shop has no rollout under way; its last, $id, ended aborted at 20.* UTC" hold shop --reason lunch
    refused 66 'no rollout market in the store .*; the newest is shop-' status market
    haldane_says 20 status shop --format json
    answer ".rollout == \"$id\""
    # A folder of that name is not meant.
    mkdir shop
    haldane report shop --format json -o report.json
    jq -e --arg id "$id" '.rollout.id == $id' report.json
    haldane_says 0 report shop --evidence
    [[ -n $output ]]
}

@test "check --live: what each query finds, and the balancer, without changing anything" {
    haldane_says 0 check policy.yaml --live
    [[ $output == *'ok: service shop'* && $output == *'counter, newest sample'* && $output == *'balancer: '* ]]
    shows 0
}

@test "the log: a line a change, in JSON if asked for, and no colour where nobody sees it" {
    haldane rollout policy.yaml --log-format json >answer 2>log &
    local pid=$!
    wait_until 10 has_begun
    kill -TERM "$pid"
    wait "$pid" || [[ $? -eq 20 ]]
    jq -es 'length >= 2 and all(.time and .rollout and .event and (.text | type == "string"))
        and .[0].event == "stepping" and .[-1].event == "aborted"' log
    ! grep -q $'\033' log answer || false
}

@test "the display on a terminal: redrawn in place, with colour, and without under NO_COLOR" {
    display() {
        TERM=xterm timeout -s TERM 2.5 script -qec "haldane rollout policy.yaml" /dev/null >"$1" </dev/null || true
    }
    display with
    grep -q $'\033\\[1m' with
    grep -q $'\033\\[K' with
    NO_COLOR=1 display without
    grep -q $'\033\\[K' without
    ! grep -q $'\033\\[[0-9;]*m' without || false
    wait_until 5 shows 0
}
