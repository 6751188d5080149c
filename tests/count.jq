# Counts test cases. Input: entries {name, stdout, result} as in meson's testlog.json; stdout may hold TAP.
# A program that prints TAP counts by its lines. What its plan promised and no line reports has failed: it crashed on
# the way. A program without TAP is one test. Nothing ends well with a result that is not OK.
def lines(expression): [.stdout | split("\n")[] | select(test(expression))];

def counted:
  (lines("^(not )?ok [0-9]+ # SKIP|^ok [0-9]+ .*# skip")) as $skipped
  | ((lines("^ok [0-9]")) - $skipped) as $passed
  | ((lines("^not ok [0-9]")) - $skipped) as $failed
  | ([lines("^1\\.\\.[0-9]+")[] | ltrimstr("1..") | split(" ")[0] | tonumber] | add // 0) as $planned
  | ($passed + $failed + $skipped | length) as $seen
  | (.result == "OK" or .result == "EXPECTEDFAIL") as $well
  | if $seen == 0 and $planned == 0 then
      {passed: (if $well then 1 else 0 end), skipped: (if .result == "SKIP" then 1 else 0 end),
       failed: (if $well or .result == "SKIP" then 0 else 1 end)}
    else
      ([$planned - $seen, 0] | max) as $lost
      | (($failed | length) + $lost) as $bad
      | {passed: ($passed | length), skipped: ($skipped | length),
         failed: (if $bad == 0 and ($well | not) then 1 else $bad end)}
    end;

[.[] | counted + {name, result, stdout, stderr: (.stderr // "")}]
| {passed: (map(.passed) | add // 0), failed: (map(.failed) | add // 0), skipped: (map(.skipped) | add // 0),
   failures: map(select(.failed > 0) | {name, result, failed, output: (.stdout + .stderr)})}
