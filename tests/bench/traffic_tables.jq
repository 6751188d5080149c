# For traffic.sh: the tables, in Markdown, from all results.

# With `digits` after the point.
def fixed(digits): . * pow(10; digits) | round / pow(10; digits) | tostring
    | if digits > 0 then split(".") | "\(.[0]).\(((.[1] // "") + "00000")[:digits])" else . end;

# 1234567 as 1,234,567
def grouped: tostring | [range(length % 3; length; 3) as $i | .[$i:$i + 3]] as $rest
    | [.[:length % 3] | select(. != "")] + $rest | join(",");

def row: "| " + join(" | ") + " |";
def table(head): [(head | row), (head | map("---") | row)] + map(row) | join("\n");
def percent: if . == null then "?" else . * 100 | fixed(2) + " %" end;
def spread(digits): [.p50, .p99, ."p99.9", .max] | map(fixed(digits)) | join(" / ");

. as $all
| ($all | map([.name, (if .reloads then "yes" else "no" end), (.requests | grouped), (.posts | grouped), (.failed | grouped),
               (.resends_prevented | grouped), (.changes.count | tostring),
               "\(.changes.median_ms | fixed(1)) / \(.changes.max_ms | fixed(1))"])
    | table(["balancer", "reloads", "requests", "of them POST", "failed", "resends prevented", "changes",
             "one change, ms: median / longest"])),
  "",
  ($all | map([.name] + (.steps | map("\(.actual | percent) of \(.requests | grouped)")))
    | table(["balancer"] + ($all[0].steps | map("\(.asked * 100) %")))),
  "",
  ($all | map([.name, (.latency_ms.without | spread(1)), (.latency_ms.with | spread(1)), (.latency_ms.ratio | spread(2)),
               (.lateness_p99_ms | fixed(1))])
    | table(["balancer", "p50 / p99 / p99.9 / max ms without changes", "with", "ratio", "generator late, p99 ms"]))
