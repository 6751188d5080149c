#!/usr/bin/env bash
#
# How long Mann-Whitney with its interval takes at 1,440 points a side, compared with R's wilcox.test(conf.int=TRUE) on
# the same numbers in the same run. Prints one JSON object; fails when R does not need at least 200 times as long, or
# when the two do not find the same.
#
# usage: tests/bench/ranks.sh BENCH_RANKS
set -euo pipefail

bench=$(realpath -- "${1:?usage: tests/bench/ranks.sh BENCH_RANKS}")
work=$(mktemp -d)
trap 'rm -rf -- "$work"' EXIT

ours=$("$bench" "$work")
cat >"$work/time.R" <<'R'
work <- commandArgs(trailingOnly = TRUE)
x <- scan(file.path(work, "x"), quiet = TRUE)
y <- scan(file.path(work, "y"), quiet = TRUE)
found <- wilcox.test(x, y, conf.int = TRUE) # the first run compiles
us <- median(replicate(11, system.time(wilcox.test(x, y, conf.int = TRUE))[["elapsed"]])) * 1e6
cat(sprintf('{"us": %.1f, "w": %.17g, "p": %.17g, "lower": %.17g, "upper": %.17g}\n',
            us, found$statistic, found$p.value, found$conf.int[1], found$conf.int[2]))
R
theirs=$(Rscript --vanilla "$work/time.R" "$work")
# R's interval is found to 1e-4.
result=$(jq --null-input --argjson ours "$ours" --argjson r "$theirs" '
    def close(a; b; by): (a - b) | fabs <= by;
    {points: $ours.points, haldane_us: $ours.us, r_us: $r.us, ratio: ($r.us / $ours.us),
     same: ($ours.w == $r.w and close($ours.p; $r.p; 1e-10 * $r.p)
        and close($ours.lower; $r.lower; 2e-4) and close($ours.upper; $r.upper; 2e-4))}')
printf '%s\n' "$result"
jq --exit-status '.same and .ratio >= 200' <<<"$result" >/dev/null
