# For traffic.sh: one balancer's result, from what the load generator, the shops and the clock wrote down.

def numbers: [splits("\\s+") | select(. != "") | tonumber];

# An answer that is no success is as bad as none: the shops themselves never fail.
def failed: .failed + ([.status | to_entries[] | select((.key | tonumber) >= 300) | .value] | add // 0);

# share, then stable, canary and POST before and after
def step:
    numbers as $n
    | {asked: ($n[0] / 100), canary: ($n[5] - $n[2]), requests: ($n[4] - $n[1] + $n[5] - $n[2])}
    | .actual = (if .requests > 0 then .canary / .requests else null end)
    # Four standard deviations, and a few who were under way while the shops were counted one after the other.
    | .right = (.requests > 0 and
        ((.canary - .asked * .requests) | fabs) <= 4 * (.asked * (1 - .asked) * .requests | sqrt) + 5);

# Half of the time on either side, as near as the clock and the commands make it.
def is_half: numbers as $n | ($n[4] - $n[1]) as $canary | ($n[3] - $n[0] + $canary) as $all
    | $all > 0 and $canary > $all / 4 and $canary < $all * 3 / 4;

def median: sort | .[(length - 1) / 2 | floor];

def quantiles: {p50, p99, "p99.9", max};

# Two quiet runs around the changes: their mean, so that a machine that becomes faster or slower favours neither.
def without($a; $b):
    ($a.latency_ms | quantiles) as $a | ($b.latency_ms | quantiles) as $b
    | {p50: (($a.p50 + $b.p50) / 2), p99: (($a.p99 + $b.p99) / 2), "p99.9": (($a["p99.9"] + $b["p99.9"]) / 2),
       max: ([$a.max, $b.max] | max)};

[$before[0], $during[0], $after[0]] as $runs
| ($seen | numbers) as $shops
| ($changes | numbers | map(. / 1000)) as $ms
| {
    name: $name,
    reloads: $reloads,
    requests: ($runs | map(.due) | add),
    posts: ($runs | map(.methods.POST.due) | add),
    connections: ($runs | map(.generator.connections_opened) | add),
    failed: ($runs | map(failed) | add),
    resends_prevented: ($runs | map(.generator.resends_prevented) | add),
    posts_served: ($shops[5] - $shops[2]),
    steps: ($steps | split("\n") | map(select(. != "") | step)),
    changes: {count: ($ms | length), median_ms: ($ms | median), max_ms: ($ms | max)},
    latency_ms: ({without: without($before[0]; $after[0]), with: ($during[0].latency_ms | quantiles)}
        | .ratio = (.with as $with | .without | with_entries(.value = $with[.key] / .value))),
    lateness_p99_ms: ($runs | map(.generator.lateness_ms.p99) | max),
    # A generator that is late, or has no connection left, measures itself.
    in_time: ($runs | all(.generator.lateness_ms.p99 < 50 and .generator.queue.requests == 0))
  }
| .wrong = [
    (select(.reloads | not) | select(.failed > 0) | "\(.failed) requests were lost"),
    (select(.failed == 0 and .posts_served != .posts) | "\(.posts) orders were sent, and the shops saw \(.posts_served)"),
    (.steps[] | select(.right | not) | "\(.asked * 100) % was asked for, and \(.canary) of \(.requests) came"),
    (select($switches | is_half | not) | "the switches from one side to the other did not divide the requests by halves")
  ]
