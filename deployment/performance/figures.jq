# The figures of a performance test. Called with one of three programs after `include "figures";`.

def rounded($digits): . * pow(10; $digits) | round / pow(10; $digits);

# Of a sorted list: the value that a share of the others does not exceed.
def quantile($p): if length == 0 then null else .[([(length * $p | ceil) - 1, 0] | max)] end;

def median: sort | .[length / 2 | floor];

# hey's CSV, as lines, into the figures of one run. hey writes no line for a request that got no answer, so how many were
# to be sent must be known. Column 1 is the response time, 7 the status, 8 the time since the start, when it was sent.
def run($sent):
    [.[1:][] | split(",") | select(length >= 8) | {took: (.[0] | tonumber), status: (.[6] | tonumber),
        done: ((.[7] | tonumber) + (.[0] | tonumber))}] as $rows
    | ($rows | map(.took * 1000) | sort) as $took
    | {requests: $sent,
       failed: ($sent - ($rows | map(select(.status >= 200 and .status < 400)) | length)),
       rps: (if $rows == [] then 0 else ($rows | length) / ($rows | map(.done) | max) | rounded(1) end),
       p50_ms: ($took | quantile(0.50)), p95_ms: ($took | quantile(0.95)), p99_ms: ($took | quantile(0.99))};

# Several runs as one: the median of each figure, since one run in three may have been disturbed; failures are added.
def together:
    {requests: (map(.requests) | add), failed: (map(.failed) | add)}
    + ([.[] | to_entries[] | select(.key | IN("rps", "p50_ms", "p95_ms", "p99_ms"))]
       | group_by(.key) | map({key: .[0].key, value: (map(.value // 0) | median | rounded(3))}) | from_entries);

# What became worse than the last time by more than the tolerance. A time must also have grown by more than $floor
# milliseconds: twenty percent of half a millisecond is the machine's mood.
def worse($last; $tolerance; $floor):
    . as $now
    | [("get", "post") as $kind | ("p50_ms", "p95_ms") as $figure
       | {what: "\($kind) \($figure)", was: $last[$kind][$figure], is: $now[$kind][$figure],
          limit: ([$last[$kind][$figure] * (1 + $tolerance), $last[$kind][$figure] + $floor] | max | rounded(3))}
       | select(.is > .limit)]
    + [{what: "capacity rps", was: $last.capacity.rps, is: $now.capacity.rps,
        limit: ($last.capacity.rps * (1 - $tolerance) | rounded(1))} | select(.is < .limit)];
